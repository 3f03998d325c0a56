"""Where the time of a forward pass goes, module by module, on the CPU.

MACs say what a network computes, not how long it takes: a depthwise convolution, an addition or a resize does little
arithmetic for every number that it fetches, so memory, not arithmetic, sets its pace (Ma et al., "ShuffleNet V2:
Practical guidelines for efficient CNN architecture design", 2018, and Williams et al., "Roofline", 2009).
"""
import copy
import statistics
import time
from collections import defaultdict

import torch
from torch import Tensor, nn

from utils.lab import INPUT_SIZE, LabError

WARM_UP = 2  # passes before the measured ones: the first allocates memory and chooses kernels


class Stopwatch:
    """One clock for all modules of `model`: it runs for the module that was entered last and not left yet.

    Attaches hooks to `model`; `spent` maps module names to the seconds of the passes since `clear`.
    """

    def __init__(self, model: nn.Module) -> None:
        self.spent: defaultdict[str, float] = defaultdict(float)
        self.open: list[str] = []
        self.started = 0.0
        for name, module in model.named_modules():
            # Hooks that a module has of its own lie between these two, so that they count as its work.
            module.register_forward_pre_hook(lambda _module, _args, name=name: self.enter(name), prepend=True)
            module.register_forward_hook(lambda _module, _args, _output: self.leave())

    def clear(self) -> None:
        self.spent, self.open = defaultdict(float), []

    def enter(self, name: str) -> None:
        now = time.perf_counter()
        if self.open:
            self.spent[self.open[-1]] += now - self.started
        self.open.append(name)
        self.started = time.perf_counter()  # read again: the bookkeeping is nobody's work

    def leave(self) -> None:
        now = time.perf_counter()
        self.spent[self.open.pop()] += now - self.started
        self.started = time.perf_counter()


def time_layers(model: nn.Module, input_size: tuple[int, int] = INPUT_SIZE, repeats: int = 10) -> dict[str, float]:
    """Milliseconds that each module of `model` takes by itself for one image of `input_size` (H, W).

    Keys are the names of the modules that ran, in the order of `named_modules`, "(network)" for the network itself.
    Measured in eval mode in one thread of the CPU, on a copy of `model`; the median of `repeats` passes. A module's
    time is without its children's: what `forward` does between them (functional calls, additions, concatenations) is
    the time of the module whose `forward` it is. So each moment belongs to exactly one module, and the values add up
    to the whole pass, up to the medians' noise.
    """
    if repeats < 1:
        raise LabError(f"expected at least 1 repeat, found {repeats} in time_layers: ask for more")
    timed = copy.deepcopy(model).cpu().eval()
    data = torch.rand((1, 3, *input_size), generator=torch.Generator().manual_seed(0))
    stopwatch = Stopwatch(timed)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        passes = [_one_pass(timed, data, stopwatch) for _ in range(WARM_UP + repeats)][WARM_UP:]
    finally:
        torch.set_num_threads(threads)
    ran = {name for one in passes for name in one}
    return {name or "(network)": 1000 * statistics.median(one.get(name, 0.0) for one in passes)
            for name, _ in timed.named_modules() if name in ran}


@torch.inference_mode()
def _one_pass(model: nn.Module, data: Tensor, stopwatch: Stopwatch) -> dict[str, float]:
    stopwatch.clear()
    model(data)
    return dict(stopwatch.spent)


def time_network(model: nn.Module, input_size: tuple[int, int] = INPUT_SIZE, passes: int = 20) -> float:
    """Milliseconds for one image by a copy of `model` in eval mode, one thread of the CPU; the median of `passes`."""
    timed = copy.deepcopy(model).cpu().eval()
    threads, data, seconds = torch.get_num_threads(), torch.zeros(1, 3, *input_size), []
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            for _ in range(passes + 3):  # the first ones find their memory
                started = time.perf_counter()
                timed(data)
                seconds.append(time.perf_counter() - started)
    finally:
        torch.set_num_threads(threads)
    return 1000 * statistics.median(seconds[3:])
