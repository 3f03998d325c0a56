"""How the learning rate falls while a network trains, and when training has gone on long enough.

The schedules are torch's own schedulers with the settings worked out from `steps`, the number of steps that the
optimizer will make: EPOCHS * len(batches). Each starts from, or rises to, the optimizer's own learning rate, in all of
its groups. What they return has a state_dict for a Run's `state`. Settings out of range raise LabError.

    scheduler = schedule("poly", optimizer, EPOCHS * len(train_batches))

"step", "poly", "cosine" and "one-cycle" are stepped after each step of the optimizer, `steps` times and no more (a
cosine that is stepped further rises again); "plateau" once an epoch, with the validation figure. Only "one-cycle", the
notebooks' own, also moves the momentum.
"""
import math
import numbers

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

from training.contents import check
from utils.lab import LabError

LARGER_IS_BETTER = {"miou": True, "loss": False}  # the figures of a validation that may be watched


def step_decay(optimizer: Optimizer, steps: int, parts: int = 3, factor: float = 0.1) -> StepLR:
    """The rate times `factor` after each of `parts` equal parts of the steps; step it after every step.

    The oldest schedule: DeepLab's first version (Chen et al., 2015) divides by 10 every 2000 steps of 6000. Where the
    steps cannot be divided the last part is shorter.
    """
    _check_steps(steps)
    _check_whole(parts, "parts")
    check(0 < factor < 1, "a factor between 0 and 1", factor)
    return StepLR(optimizer, math.ceil(steps / parts), factor)


def poly(optimizer: Optimizer, steps: int, power: float = 0.9) -> PolynomialLR:
    """The rate times (1 - step / steps)^power; step it after every step.

    Semantic segmentation's habit since DeepLab v2 (Chen et al., 2017), who measured it against the step schedule;
    PSPNet and BiSeNet train so. A power of 1 falls in a straight line.
    """
    _check_steps(steps)
    check(0 < power < math.inf, "a power above 0", power)
    return PolynomialLR(optimizer, steps, power)


def cosine(optimizer: Optimizer, steps: int, warm_up: float = 0.1) -> LRScheduler:
    """A straight line up in the first share `warm_up` of the steps, then half a cosine to 0; step it after every step.

    With n steps of warm-up: (step + 1) / (n + 1), then (1 + cos(pi (step - n) / (steps - n))) / 2, times the rate. The
    cosine is Loshchilov and Hutter's, "SGDR" (2017), without restarts; the warm-up Goyal et al.'s (2017), for large
    batches, and for Adam, whose first steps rest on few gradients. Transformers and most image networks train so today.
    """
    _check_steps(steps)
    check(0 <= warm_up < 1, "a share of the steps to warm up in, from 0 to below 1", warm_up)
    n = min(round(warm_up * steps), steps - 1)
    if n == 0:
        return CosineAnnealingLR(optimizer, steps)
    rise = LinearLR(optimizer, start_factor=1 / (n + 1), total_iters=n)
    return SequentialLR(optimizer, [rise, CosineAnnealingLR(optimizer, steps - n)], milestones=[n])


def one_cycle(optimizer: Optimizer, steps: int, warm_up: float = 0.1) -> OneCycleLR:
    """Half a cosine up in the first share `warm_up` of the steps, then half a cosine to nothing; step it every step.

    Smith and Topin, "Super-convergence" (2018), as torch has it: it starts at a 25th of the rate, and the momentum (of
    Adam, its first beta) falls from 0.95 to 0.85 while the rate rises, and comes back with it. A step that is the only
    one is made at half the rate.
    """
    _check_steps(steps)
    check(0 <= warm_up < 1, "a share of the steps to warm up in, from 0 to below 1", warm_up)
    rates = [group["lr"] for group in optimizer.param_groups]
    # with a single step of warm-up torch divides by zero; of a single step it makes the last one, whose rate is nothing
    share = 0.0 if steps == 1 or round(warm_up * steps, 6) == 1 else float(warm_up)
    return OneCycleLR(optimizer, rates, total_steps=max(steps, 2), pct_start=share)


def plateau(optimizer: Optimizer, of: str = "miou", patience: int = 5, factor: float = 0.5) -> ReduceLROnPlateau:
    """The rate times `factor` whenever `of` has not become better for more than `patience` epochs.

    of: "miou" or "loss", of the validation. Step it once an epoch, before Run.finish_epoch saves it, with that figure:
    scheduler.step(record["miou"]). NaN counts as no better. It needs no number of steps, so it suits runs whose
    length nobody knows. AlexNet (Krizhevsky et al., 2012) and the ResNets (He et al., 2016) were trained so, with a
    factor of 0.1. Better means by more than a ten-thousandth of the best so far, torch's default.
    """
    _check_figure(of)
    _check_whole(patience, "epochs of patience", 0)
    check(0 < factor < 1, "a factor between 0 and 1", factor)
    return ReduceLROnPlateau(optimizer, "max" if LARGER_IS_BETTER[of] else "min", factor, patience)


SCHEDULES = {"step": step_decay, "poly": poly, "cosine": cosine, "one-cycle": one_cycle, "plateau": plateau}


def schedule(name: str, optimizer: Optimizer, steps: int, **settings: object) -> LRScheduler:
    """The schedule of that name in SCHEDULES, with its own settings; "plateau" makes no use of the number of steps."""
    check(name in SCHEDULES, f"a schedule of {', '.join(SCHEDULES)}", repr(name))
    _check_steps(steps)
    lengths = () if name == "plateau" else (steps,)
    return SCHEDULES[name](optimizer, *lengths, **settings)


class EarlyStopping:
    """Says when to stop: after `patience` epochs in a row that brought no improvement of the validation.

    of: "miou" or "loss", of the validation. An improvement is more than `at_least` better than the last one; NaN never
    is. See Prechelt, "Early Stopping - But When?" (1998). It goes with plateau or a constant rate: the other schedules
    do their best work in the last epochs, which stopping would leave out.

    In a Run's `state` it is saved and resumed; call `update` before Run.finish_epoch, which saves it, and look at
    `stopped` at the top of the loop, so that a run which has stopped does not go on when it is resumed. Under torchrun
    every process sees the same figures and stops in the same epoch.
    """

    def __init__(self, patience: int, of: str = "miou", at_least: float = 0.0) -> None:
        _check_whole(patience, "epochs of patience")
        _check_figure(of)
        check(0 <= at_least < math.inf, "an improvement of at least 0 or more", at_least)
        self.patience, self.of, self.at_least = patience, of, at_least
        self.best, self.waited = None, 0  # the last improvement's figure; epochs since

    @property
    def stopped(self) -> bool:
        return self.waited >= self.patience

    def update(self, record: dict) -> bool:
        """Takes an epoch's figures, those of Run.finish_epoch; whether to stop."""
        figure = record.get(self.of)
        if not isinstance(figure, numbers.Real):
            raise LabError(f"expected a number as {self.of} among the epoch's figures, found {figure!r}: add it to the "
                           "record, or watch another figure")
        figure = float(figure)
        if self._better(figure):
            self.best, self.waited = figure, 0
        else:
            self.waited += 1
        return self.stopped

    def _better(self, figure: float) -> bool:
        if not math.isfinite(figure):
            return False
        if self.best is None:
            return True
        gain = figure - self.best if LARGER_IS_BETTER[self.of] else self.best - figure
        return gain > self.at_least

    def state_dict(self) -> dict:
        return {"of": self.of, "best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict) -> None:
        """Raises LabError for the state of one that watched another figure."""
        check(state["of"] == self.of, f"early stopping on {state['of']}, as in the checkpoint", self.of)
        self.best, self.waited = state["best"], state["waited"]


def _check_steps(steps: int) -> None:
    _check_whole(steps, "steps")


def _check_whole(value: int, what: str, low: int = 1) -> None:
    check(isinstance(value, int) and not isinstance(value, bool) and value >= low,
          f"a whole number of {what}, {low} or more", repr(value))


def _check_figure(of: str) -> None:
    check(of in LARGER_IS_BETTER, f"one of {', '.join(LARGER_IS_BETTER)} to watch", repr(of))
