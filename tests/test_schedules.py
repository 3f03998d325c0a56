"""The learning rates against the papers' formulas, written out; resuming; early stopping by hand."""
import math

import numpy as np
import pytest
import torch
from torch import nn

from training.runs import Run
from training.schedules import EarlyStopping, cosine, plateau, poly, schedule, step_decay
from utils.lab import LabError

RATES = (0.01, 0.002)  # of the optimizer's two groups


def toy(rates=RATES):
    network = nn.ModuleList(nn.Linear(1, 1) for _ in rates)
    groups = [{"params": layer.parameters(), "lr": rate} for layer, rate in zip(network, rates, strict=True)]
    return network, torch.optim.AdamW(groups)


def rates_of(optimizer):
    return [group["lr"] for group in optimizer.param_groups]


def run_through(optimizer, scheduler, steps, figures=None):
    """The rates of each step, (steps, groups): that before the first comes first."""
    rates = []
    for i in range(steps):
        rates.append(rates_of(optimizer))
        optimizer.step()
        scheduler.step(*([] if figures is None else [figures[i]]))
    return np.array(rates)


def by_cosine(t, steps, n):
    return (t + 1) / (n + 1) if t < n else (1 + math.cos(math.pi * (t - n) / (steps - n))) / 2


def by_one_cycle(t, steps, n):
    def wave(first, last, x):
        return last + (first - last) * (1 + math.cos(math.pi * x)) / 2

    return wave(1 / 25, 1, t / (n - 1)) if n > 1 and t < n else wave(1, 4e-6, (t + 1 - n) / (steps - n))


FORMULAS = {  # name -> settings, steps, share of the full rate at step t
    "step": ({}, 90, lambda t: 0.1 ** (t // 30)),
    "step, not divisible": (dict(parts=4, factor=0.5), 10, lambda t: 0.5 ** (t // 3)),
    "poly": ({}, 50, lambda t: (1 - t / 50) ** 0.9),
    "poly, straight": (dict(power=1.0), 7, lambda t: (7 - t) / 7),
    "cosine": ({}, 100, lambda t: by_cosine(t, 100, 10)),
    "cosine, no warm-up": (dict(warm_up=0), 30, lambda t: by_cosine(t, 30, 0)),
    "cosine, nearly all warm-up": (dict(warm_up=0.99), 5, lambda t: by_cosine(t, 5, 4)),
    "cosine, one step": ({}, 1, lambda t: 1),
    "one-cycle": ({}, 100, lambda t: by_one_cycle(t, 100, 10)),
    "one-cycle, more warm-up": (dict(warm_up=0.3), 10, lambda t: by_one_cycle(t, 10, 3)),
    "one-cycle, no warm-up": (dict(warm_up=0), 10, lambda t: by_one_cycle(t, 10, 0)),
    "one-cycle, one step of warm-up": ({}, 10, lambda t: by_one_cycle(t, 10, 0)),
    "one-cycle, one of few": (dict(warm_up=0.2), 5, lambda t: by_one_cycle(t, 5, 0)),
    "one-cycle, less than one": (dict(warm_up=0.1), 5, lambda t: by_one_cycle(t, 5, 0.5)),
    "one-cycle, one step": ({}, 1, lambda t: (1 + 4e-6) / 2),
}


@pytest.mark.parametrize(("name", "settings", "steps", "share"),
                         [(name.split(",")[0], *row) for name, row in FORMULAS.items()], ids=FORMULAS)
def test_rates_are_those_of_the_formula(name, settings, steps, share):
    _, optimizer = toy()
    scheduler = schedule(name, optimizer, steps, **settings)
    expected = np.outer([share(t) for t in range(steps)], RATES)
    np.testing.assert_allclose(run_through(optimizer, scheduler, steps), expected, rtol=1e-9)


def test_rates_at_chosen_steps():
    rates = {name: run_through(o, schedule(name, o, 1000), 1001)[:, 0]
             for name in ("step", "poly", "cosine") for o in [toy()[1]]}
    assert rates["step"][[0, 333, 334, 667, 668]] == pytest.approx([1e-2, 1e-2, 1e-3, 1e-3, 1e-4])
    assert rates["poly"][[0, 500, 999]] == pytest.approx([0.01, 0.01 * 0.5**0.9, 0.01 * 0.001**0.9])
    assert rates["cosine"][[0, 49, 100, 550, 1000]] == pytest.approx([0.01 / 101, 0.5 / 101, 0.01, 0.005, 0], abs=1e-12)
    assert rates["cosine"].argmax() == 100 and rates["cosine"][999] < 1e-7


@pytest.mark.parametrize(("of", "figures"), [("miou", [0.1, 0.2, 0.2, math.nan, 0.1, 0.3, 0.4]),
                                             ("loss", [3.0, 2.0, 2.5, math.nan, 2.0, 1.0, 0.9])])
def test_plateau_halves_the_rate_after_more_than_patience_epochs(of, figures):
    _, optimizer = toy()
    scheduler = schedule("plateau", optimizer, 7, of=of, patience=2)
    # epochs 3 to 5 are no better than epoch 2: after the third of them the rate falls
    rates = run_through(optimizer, scheduler, 7, figures)
    np.testing.assert_allclose(rates[:, 0], [0.01] * 5 + [0.005] * 2)


@pytest.mark.parametrize("name", ["step", "poly", "cosine", "plateau"])
@pytest.mark.parametrize("cut", [1, 5, 10, 11, 27])
def test_a_resumed_schedule_goes_on_with_the_same_rates(tmp_path, name, cut):
    steps = 30
    figures = np.random.RandomState(0).rand(steps).tolist() if name == "plateau" else None
    settings = {"patience": 3} if name == "plateau" else {"warm_up": 1 / 3} if name == "cosine" else {}

    def begin():
        network, optimizer = toy()
        return network, optimizer, schedule(name, optimizer, steps, **settings)

    _, optimizer, scheduler = begin()
    whole = run_through(optimizer, scheduler, steps, figures)
    _, optimizer, scheduler = begin()
    run_through(optimizer, scheduler, cut, figures)
    torch.save([optimizer.state_dict(), scheduler.state_dict()], tmp_path / "saved.pth")
    _, optimizer, scheduler = begin()
    for part, state in zip((optimizer, scheduler), torch.load(tmp_path / "saved.pth", weights_only=True), strict=True):
        part.load_state_dict(state)
    rest = run_through(optimizer, scheduler, steps - cut, figures and figures[cut:])
    np.testing.assert_array_equal(rest, whole[cut:])


def test_the_first_improvements_count_and_patience_ends():
    stopping = EarlyStopping(patience=2)
    heard = [stopping.update({"miou": miou}) for miou in (0.1, 0.3, 0.3, 0.31, 0.2, 0.31)]
    assert heard == [False, False, False, False, False, True]
    assert stopping.stopped and stopping.best == 0.31


def test_improvements_below_at_least_add_up():
    stopping = EarlyStopping(2, at_least=0.1)
    assert [stopping.update({"miou": miou}) for miou in (0.5, 0.55, 0.65, 0.7, 0.74)] == [False] * 4 + [True]
    assert stopping.best == 0.65


def test_a_loss_has_to_fall_and_nan_is_no_improvement():
    stopping = EarlyStopping(3, of="loss")
    losses = (math.nan, 2.0, np.float32(1.0), math.nan, 1.5, math.inf)
    assert [stopping.update({"loss": loss, "miou": 1.0}) for loss in losses] == [False] * 5 + [True]
    stopping = EarlyStopping(2)
    assert [stopping.update({"miou": miou}) for miou in (math.nan, math.nan)] == [False, True]


def test_a_run_saves_and_resumes_schedule_and_early_stopping(tmp_path):
    mious = [0.1, 0.3, 0.2, 0.25, 0.28, 0.9]

    def train(epochs, resume):
        network, optimizer = toy()
        state = {"network": network, "optimizer": optimizer, "scheduler": cosine(optimizer, 6, 0.34),
                 "stopping": EarlyStopping(3)}
        run = Run("toy", {}, state, resume=resume, folder=tmp_path)
        rates = []
        for epoch in range(run.epoch, epochs):
            if state["stopping"].stopped:
                break
            optimizer.step()
            state["scheduler"].step()
            record = {"miou": mious[epoch]}
            state["stopping"].update(record)
            run.finish_epoch(record)
            rates += rates_of(optimizer)
        return run.epoch, rates, state["stopping"].state_dict()

    whole = train(6, False)
    assert whole[0] == 5 and whole[2] == {"of": "miou", "best": 0.3, "waited": 3}
    parts = [train(3, False), train(6, True)]
    assert parts[0][0] == 3 and parts[1][::2] == whole[::2]
    assert parts[0][1] + parts[1][1] == whole[1]
    assert train(6, True) == (5, [], whole[2])  # it has stopped, and does not go on


def test_a_checkpoint_of_another_figure_is_refused():
    with pytest.raises(LabError, match="expected early stopping on loss, as in the checkpoint, found miou"):
        EarlyStopping(3).load_state_dict(EarlyStopping(3, of="loss").state_dict())


@pytest.mark.parametrize("build", [
    lambda o: schedule("linear", o, 10), lambda o: schedule("plateau", o, 0), lambda o: poly(o, 0),
    lambda o: poly(o, 1.5), lambda o: poly(o, True), lambda o: poly(o, 10, power=0), lambda o: poly(o, 10, math.nan),
    lambda o: step_decay(o, -3), lambda o: step_decay(o, 10, parts=0), lambda o: step_decay(o, 10, factor=1),
    lambda o: cosine(o, 10, warm_up=1), lambda o: cosine(o, 10, warm_up=-0.1), lambda o: cosine(o, 10, math.nan),
    lambda o: plateau(o, of="accuracy"), lambda o: plateau(o, patience=-1), lambda o: plateau(o, factor=1.0),
    lambda o: EarlyStopping(0), lambda o: EarlyStopping(2.5), lambda o: EarlyStopping(2, "train_loss"),
    lambda o: EarlyStopping(2, at_least=-1), lambda o: EarlyStopping(2, at_least=math.nan),
])
def test_settings_out_of_range(build):
    _, optimizer = toy()
    with pytest.raises(LabError, match=r"^expected .*, found .* in the settings$"):
        build(optimizer)
    assert rates_of(optimizer) == list(RATES)


@pytest.mark.parametrize("record", [{}, {"miou": None}, {"miou": "0.5"}])
def test_a_record_without_the_figure_is_refused(record):
    with pytest.raises(LabError, match="expected a number as miou among the epoch's figures"):
        EarlyStopping(2).update(record)
