"""A stand-in for grading.trial.scoring.try_task that tries equal files once."""
import copy
from dataclasses import replace

from classroom import ATTACKS

from grading.trial.scoring import try_task

ENDLESS = ATTACKS / "endless_loop.py"


class Once:
    """try_task, once for the same files: most of a made-up class hand in one network, and differ in names alone.

    The one that never ends does so in less time than the others may need on a busy machine.
    """

    def __init__(self):
        self.found = {}

    def __call__(self, task, network, weights, staged, targets, names, level, limits, **more):
        beside = sorted(path.name for path in network.parent.glob("*.py"))  # what a network might import by mistake
        key = task.number, network.read_bytes(), weights.read_bytes(), tuple(beside)
        if key not in self.found:
            limits = replace(limits, wall=8.0) if key[1] == ENDLESS.read_bytes() else limits
            self.found[key] = try_task(task, network, weights, staged, targets, names, level, limits, **more)
        return copy.deepcopy(self.found[key])
