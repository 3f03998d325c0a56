"""Precision, compilation, the loss, schedule and averages; running out of memory, which a network pretends to do."""
import math

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from dataset.augment import Augment
from dataset.batches import Batches
from dataset.dataset import SegmentationDataset
from network2.network import LowComplexityNet
from training import step
from training.step import (
    Criterion,
    average_weights,
    decay_groups,
    memory_advice,
    one_cycle,
    precision_of,
    prepare,
    rate_groups,
    speed_up,
)
from utils.lab import LabError
from utils.metric import AverageMeter, ConfusionMatrix

CPU = torch.device("cpu")


class Hungry(nn.Module):
    """Fits up to `room` images."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room, self.seen, self.weight = room, [], nn.Parameter(torch.ones(1))

    def forward(self, data: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(data))
        if len(data) > self.room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return data[:, :, :1, :1] * self.weight


def test_auto_is_float32_on_a_cpu_and_bfloat16_on_a_gpu_that_has_it(monkeypatch):
    assert precision_of("auto", CPU) == torch.float32 and precision_of("bfloat16", CPU) == torch.bfloat16
    for capability, dtype in (((9, 0), torch.bfloat16), ((8, 0), torch.bfloat16), ((7, 5), torch.float32)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, capability=capability: capability)
        assert precision_of("auto", torch.device("cuda")) == dtype


def test_in_training_products_are_computed_in_bfloat16_and_weights_and_logits_stay_float32():
    layer, data = nn.Conv2d(3, 8, 1), torch.randn(1, 3, 4, 4)
    model, seen = prepare(layer, CPU, "bfloat16"), []
    layer.register_forward_hook(lambda *_: seen.append(_[2].dtype))
    assert model.train()(data).dtype == torch.float32
    assert model.eval()(data).dtype == torch.float32
    assert seen == [torch.bfloat16, torch.float32] and layer.weight.dtype == torch.float32
    model.train()(data).sum().backward()
    assert layer.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("name", ["half", "float64", "float16", None, 16])
def test_an_unknown_precision_is_refused(name):
    with pytest.raises(LabError, match="expected PRECISION to be one of auto, float32, bfloat16, found"):
        precision_of(name, CPU)


def test_preparing_without_compilation_is_the_network_itself():
    network = nn.Conv2d(3, 8, 1)
    assert prepare(network, CPU) is network
    assert network.weight.is_contiguous(memory_format=torch.channels_last)


def test_compilation_without_a_compiler_is_one_clear_error(monkeypatch):
    monkeypatch.setattr(step.shutil, "which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(LabError, match=r"expected a C\+\+ compiler for COMPILE = True, found none"):
        prepare(nn.Conv2d(3, 8, 1), CPU, compile=True)


def test_a_compiled_network_shares_the_weights_that_are_saved(monkeypatch):
    monkeypatch.setattr(step.shutil, "which", lambda name: name)
    network = nn.Conv2d(3, 8, 1)
    model = prepare(network, CPU, compile=True)
    assert model is not network
    assert next(model.parameters()) is network.weight and list(network.state_dict()) == ["weight", "bias"]


@pytest.mark.parametrize(("room", "fits"), [
    (7, "BATCH_SIZE 4 fits"), (4, "BATCH_SIZE 4 fits"), (1, "BATCH_SIZE 1 fits"), (0, "not even one image fits")])
def test_out_of_memory_names_batch_width_and_what_fits(room, fits):
    network = Hungry(room)
    with (pytest.raises(LabError, match=f"expected BATCH_SIZE 16 at WIDTH 32 to fit in memory, found it full: {fits}"),
          memory_advice(network, CPU, 16, 32)):
        network(torch.zeros(16, 3, 256, 512))
    assert network.seen[:2] == [16, 8]
    assert network.weight.grad is None


def test_of_several_processes_none_tries_a_step_that_the_others_do_not_make(monkeypatch):
    monkeypatch.setattr(step, "shard", lambda: (1, 2))
    network = Hungry(1)
    with (pytest.raises(LabError, match="found it full: lower BATCH_SIZE; RESUME"),
          memory_advice(network, CPU, 16)):
        network(torch.zeros(8, 3, 256, 512))
    assert network.seen == [8]


def test_without_a_width_none_is_named():
    network = Hungry(2)
    with (pytest.raises(LabError) as caught, memory_advice(network, CPU, 4)):
        network(torch.zeros(4, 3, 256, 512))
    assert "WIDTH" not in str(caught.value) and "BATCH_SIZE 2 fits" in str(caught.value)


def test_other_errors_pass_and_so_does_success():
    with pytest.raises(RuntimeError, match="size mismatch"), memory_advice(Hungry(1), CPU, 4):
        raise RuntimeError("size mismatch")
    with pytest.raises(KeyboardInterrupt), memory_advice(Hungry(1), CPU, 4):
        raise KeyboardInterrupt
    with memory_advice(Hungry(4), CPU, 4):
        pass


def test_what_the_failed_step_held_is_let_go():
    import gc
    import weakref

    network, held = Hungry(2), []

    def train() -> None:
        activations = torch.zeros(1000)
        held.append(weakref.ref(activations))
        network(torch.zeros(4, 3, 256, 512))

    with pytest.raises(LabError), memory_advice(network, CPU, 4):
        train()
    gc.collect()
    assert held[0]() is None


def test_speeding_up_changes_no_result():
    layer, data = nn.Conv2d(3, 8, 3), torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    before = layer(data)
    speed_up(CPU)
    assert torch.equal(before, layer(data))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("tier", ["gpu", "ring"])
def test_nothing_in_an_epoch_waits_for_the_gpu(sample, tier):
    device = torch.device("cuda")
    network = LowComplexityNet()
    model = prepare(network, device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    criterion = Criterion(nn.CrossEntropyLoss(ignore_index=255))
    average = average_weights(network, 3)
    batches = Batches(SegmentationDataset(sample, "train", Augment()), 2, device, shuffle=True, tier=tier)
    metric, losses = ConfusionMatrix(), AverageMeter()
    for strict in (False, True):  # the first epoch may set things up
        torch.cuda.set_sync_debug_mode("error" if strict else "default")
        try:
            for data, target in batches:
                optimizer.zero_grad(set_to_none=True)
                output = model(data)
                loss = criterion(output, target)
                loss.backward()
                optimizer.step()
                average.update_parameters(network)
                metric.update(target, output.max(1).indices.to(torch.uint8))
                losses.update(loss, len(data))
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert metric.counts.sum() > 0 and losses.avg > 0


# --- the loss as the loops call it --------------------------------------------------------------------------------


def test_a_criterion_is_the_loss_itself():
    logits, target = torch.randn(2, 8, 4, 6), torch.randint(0, 8, (2, 4, 6))
    target[0, 0, 0] = 255
    loss = nn.CrossEntropyLoss(torch.rand(8), ignore_index=255)
    assert torch.equal(Criterion(loss, loss.weight)(logits, target), loss(logits, target))
    assert Criterion(lambda logits, target: logits.mean())(logits, target) == logits.mean()


@pytest.mark.parametrize(("logits", "target", "words"), [
    (torch.zeros(2, 8, 2, 3), 0, r"found \(2, 3\) and \(4, 6\): .*LOSS_STRIDE = 1"),
    (torch.zeros(2, 4, 6), 0, "pass output and target to criterion, not pred"),
    ([torch.zeros(2, 8, 4, 6)], 0, "found list and"),
    (torch.zeros(2, 8, 4, 6), 20, "expected targets from 0 to 7, found others .*ignore_index=255")])
def test_what_does_not_fit_is_said_in_one_line(logits, target, words):
    with pytest.raises(LabError, match=words) as caught:
        Criterion(nn.CrossEntropyLoss(ignore_index=255))(logits, torch.full((2, 4, 6), target))
    assert "\n" not in str(caught.value)


def test_a_loss_that_would_look_at_pixels_without_a_label_is_refused():
    for loss in (nn.CrossEntropyLoss(), nn.NLLLoss(ignore_index=0)):
        with pytest.raises(LabError, match="make it with ignore_index=IGNORE"):
            Criterion(loss)


# --- the optimizer's parameters, schedule and average ----------------------------------------------------------------


def test_decay_is_for_matrices_alone_and_every_parameter_is_in_one_group():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, bias=False))
    with_decay, without = decay_groups(network, 0.1)
    assert [p.shape for p in with_decay["params"]] == [(4, 3, 1, 1), (4, 4, 3, 3)]
    assert (with_decay["weight_decay"], without["weight_decay"], len(without["params"])) == (0.1, 0, 3)
    torch.optim.AdamW([with_decay, without])


@pytest.mark.parametrize("reach", [1, 3, 50])
def test_the_average_of_the_weights_by_hand(reach):
    network = nn.BatchNorm2d(1)
    average = average_weights(network, reach)
    expected = None
    for step_number in range(20):
        value = float(step_number**2)
        network.weight.data.fill_(value)
        network.running_mean.fill_(-value)
        average.update_parameters(network)
        share = 1 / min(1 + step_number / 4, reach)  # of the newest one
        expected = value if expected is None else expected + share * (value - expected)
    torch.testing.assert_close(average.module.weight.item(), expected)
    torch.testing.assert_close(average.module.running_mean.item(), -expected)
    assert network.weight.item() == 361


def test_averaging_moves_nothing_between_the_cpu_and_where_the_network_is():
    network = nn.BatchNorm2d(1).to("meta")  # as on a GPU: not the CPU
    average, places = average_weights(network, 3), []

    class Places(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            tensors = [each.device.type for each in args if isinstance(each, torch.Tensor)]
            to = (kwargs or {}).get("device")
            places.append({*tensors, *([torch.device(to).type] if to is not None else [])})
            return function(*args, **(kwargs or {}))

    with Places():
        for _ in range(2):
            average.update_parameters(network)
    assert {"meta"} in places and all(len(of_one) <= 1 for of_one in places)
    assert average.n_averaged == 2


def test_an_average_over_nothing_is_refused():
    with pytest.raises(LabError, match="at least 1 step, found 0"):
        average_weights(nn.BatchNorm2d(1), 0)


def test_a_backbone_has_a_rate_of_its_own():
    network = nn.ModuleDict({"backbone": nn.Linear(1, 1), "head": nn.Linear(1, 2)})
    network.backbone = network["backbone"]
    rest, backbone = rate_groups(network, 0.1, 0.5)
    assert (rest["lr"], backbone["lr"]) == (0.1, 0.05)
    assert [p.shape for p in backbone["params"]] == [(1, 1), (1,)] and len(rest["params"]) == 2
    assert [group["lr"] for group in rate_groups(nn.Linear(1, 1), 0.1, 0.5)] == [0.1]


def by_one_cycle(t: int, steps: int, n: float) -> float:
    """The share of the full rate at step t, by half cosines, the first n steps up."""
    def wave(first: float, last: float, x: float) -> float:
        return last + (first - last) * (1 + math.cos(math.pi * x)) / 2

    return wave(1 / 25, 1, t / (n - 1)) if n > 1 and t < n else wave(1, 4e-6, (t + 1 - n) / (steps - n))


@pytest.mark.parametrize(("steps", "warm_up", "share"), [
    (100, 0.1, lambda t: by_one_cycle(t, 100, 10)), (10, 0.3, lambda t: by_one_cycle(t, 10, 3)),
    (10, 0, lambda t: by_one_cycle(t, 10, 0)), (10, 0.1, lambda t: by_one_cycle(t, 10, 0)),
    (5, 0.2, lambda t: by_one_cycle(t, 5, 0)), (5, 0.1, lambda t: by_one_cycle(t, 5, 0.5)),
    (1, 0.1, lambda t: (1 + 4e-6) / 2)])
def test_one_cycle_is_two_half_cosines(steps, warm_up, share):
    rates = (0.01, 0.002)
    optimizer = torch.optim.AdamW([{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates])
    scheduler, found = one_cycle(optimizer, steps, warm_up), []
    for _ in range(steps):
        found.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    expected = [[share(t) * rate for rate in rates] for t in range(steps)]
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("steps", "warm_up"), [(0, 0.1), (1.5, 0.1), (True, 0.1), (10, 1), (10, -0.1), (10, math.nan)])
def test_a_schedule_out_of_range_is_refused(steps, warm_up):
    with pytest.raises(LabError, match=r"^expected .*, found .* in the settings$"):
        one_cycle(torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1), steps, warm_up)
