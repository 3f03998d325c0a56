"""A notebook's settings: read from its names in capitals, checked, and recorded with the run."""
import contextlib
import math
from collections.abc import Mapping

import torch

from training import distributed
from training.contents import plain
from training.step import precision_of, speed_up
from utils import lab
from utils.lab import TASKS, LabError, Task

# The lowest whole number that a setting may be, the range of one that is any number, and the choices of the others.
LOWEST = {"EPOCHS": 1, "BATCH_SIZE": 1, "WIDTH": 1, "SEED": 0, "BRANCHES": 0}
RANGES = {"CALIBRATE": 1, "UNCROPPED": 1, "WARM_UP": 1, "EMA": math.inf, "DISTILL": math.inf,
          "WEIGHT_DECAY": math.inf, "BACKBONE_RATE": math.inf}
CHOICES = {"LOSS_STRIDE": (1, 2, 4), "STORE": ("float32", "float16", "int8"), "COMPILE": (True, False)}
OF_THE_LABS_NETWORK = {"START": None, "BRANCHES": 0}  # what another NETWORK makes no use of, and their defaults


class Settings(dict):
    """The settings that a notebook's cells use: its names in capitals, and the entries of its dict `recipe`.

    Entries that are set later are recorded as well (`settings["WIDTH"] = 8`, where the cell says None). `network` is
    the one that was built with these settings (training.networks.choose_network). Raises LabError for a setting that
    cannot train.
    """

    def __init__(self, task: Task, names: Mapping[str, object]) -> None:
        self.task, self.names, self.network = task, names, None
        self.read = _read(names)
        super().__init__(self.read)
        check_settings(self)

    @property
    def resume(self) -> bool:
        """Whether to go on with the last run: RESUME as it stands now, which may be set after the other cells ran."""
        return bool(self.names.get("RESUME", False))

    def check_unchanged(self) -> None:
        """Raises LabError, naming the setting, if a cell has changed one since they were read."""
        now = _read(self.names)
        for name, value in self.read.items():
            if now.get(name) != value:
                raise LabError(f"expected {name} = {value!r}, as the cells above used it, found {now.get(name)!r} in "
                               "the settings: run again from the cell below the settings and the recipe")


def set_up(task: int, names: Mapping[str, object]) -> tuple[Settings, torch.device, tuple[int, int]]:
    """Reads the settings of the notebook of `task` whose globals() are `names`, seeds torch, and chooses the device.

    Returns the settings, the device, and which share of the images is this process's: (0, 1), all, but under torchrun.
    Raises LabError for a setting that cannot train, and for a device that the machine does not have.
    """
    settings = Settings(TASKS[task], names)
    device = distributed.start(settings.get("DEVICE", "auto"))
    precision = str(precision_of(settings.get("PRECISION", "auto"), device)).removeprefix("torch.")
    torch.manual_seed(settings.get("SEED", 0))
    speed_up(device)
    name = f"{torch.cuda.get_device_name(device)} ({device})" if device.type == "cuda" else \
        f"{torch.get_num_threads()} CPU threads"
    print(f"training on {name} in {precision}, to reach a mean IoU of {TASKS[task].miou}")
    return settings, device, distributed.shard()


def check_settings(settings: Mapping[str, object]) -> None:
    """Raises LabError, naming the setting, for values that cannot train; called before anything long starts."""
    for name, value in settings.items():
        if name in LOWEST and not (value is None and name == "WIDTH"):
            fits = type(value) is int and value >= LOWEST[name]
            _require(fits, name, f"a whole number of at least {LOWEST[name]}", value)
        if name in RANGES:
            fits = isinstance(value, (int, float)) and 0 <= value <= RANGES[name]
            _require(fits, name, f"a number from 0 {'on' if RANGES[name] == math.inf else 'to 1'}", value)
        if name in CHOICES:
            fits = any(type(value) is type(choice) and value == choice for choice in CHOICES[name])
            _require(fits, name, f"one of {', '.join(map(str, CHOICES[name]))}", value)
        if name in OF_THE_LABS_NETWORK and settings.get("NETWORK"):
            only = OF_THE_LABS_NETWORK[name]
            _require(value == only, name, f"{only} with another NETWORK", value)
    rate = settings.get("LEARNING_RATE", 0.1)
    _require(isinstance(rate, (int, float)) and 0 < rate < 1, "LEARNING_RATE", "between 0 and 1", rate)


def _require(fits: bool, name: str, expected: str, value: object) -> None:
    if not fits:
        raise LabError(f"expected {name} to be {expected}, found {value!r} in the settings")


def _read(names: Mapping[str, object]) -> dict:
    """The entries of `recipe`, and the names in capitals that hold plain values and are no constants of utils.lab."""
    recipe = names.get("recipe", {})
    if not isinstance(recipe, Mapping):
        raise LabError(f"expected recipe to be a dict of settings, found {type(recipe).__name__}: "
                       "run again the cell that makes it")
    found = {}
    for name, value in names.items():
        if name.isupper() and len(name) > 1 and name != "RESUME" and not hasattr(lab, name):
            with contextlib.suppress(LabError):  # a class, say
                found |= plain({name: value}, "the settings")
    return found | plain(recipe, "the recipe")
