"""A run has a folder: its settings, what it measured each epoch, and a checkpoint to resume from.

    runs/<name>/settings.json     the notebook's settings, the machine and the versions
    runs/<name>/history.json      one record an epoch
    runs/<name>/checkpoint.pth    all it takes to go on: network, optimizer, scheduler, epoch, history, best mIoU
Every file is written beside its place and renamed into it: an interruption leaves the previous one whole.
"""
import io
import platform
import time
from pathlib import Path

import torch
from torch import nn

from utils.files import replacing, write_json
from utils.lab import ROOT, LabError

RUNS = ROOT / "runs"


def save_weights(network: nn.Module, path: str | Path) -> None:
    """Saves the state_dict alone, on the CPU, as `load_model` expects it; `path` is replaced in one step."""
    _save(path, {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()})


def check_settings(settings: dict) -> None:
    """Raises LabError, naming the setting, for values that cannot train; called before anything long starts."""
    for name, low in {"EPOCHS": 1, "BATCH_SIZE": 1, "WIDTH": 1, "SEED": 0}.items():
        value = settings.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < low):
            raise LabError(f"expected {name} to be a whole number of at least {low}, found {value!r} in the settings")
    rate = settings.get("LEARNING_RATE")
    if rate is not None and not (isinstance(rate, (int, float)) and 0 < rate < 1):
        raise LabError(f"expected LEARNING_RATE between 0 and 1, found {rate!r} in the settings")


class Run:
    """One training run: `name` is its folder under runs/, `state` the objects with a state_dict to save and resume.

    With `resume` the checkpoint in the folder, if there is one, is loaded into `state`; `epoch` then says how many
    epochs are done, `best` is the best mIoU so far, `history` holds one record an epoch. A checkpoint of other
    settings than these (RESUME and DEVICE apart) is refused. Without `resume` the run starts anew.
    """

    def __init__(self, name: str, settings: dict, state: dict, resume: bool = False, folder: Path = RUNS) -> None:
        self.folder = Path(folder) / name
        self.settings = {key: value for key, value in settings.items() if key not in ("RESUME", "DEVICE")}
        self.state = state
        self.epoch, self.best, self.history = 0, float("-inf"), []
        self.checkpoint = self.folder / "checkpoint.pth"
        if resume and self.checkpoint.exists():
            self._load()
        write_json(self.folder / "settings.json", {
            "settings": self.settings, "started": time.strftime("%Y-%m-%d %H:%M:%S"), "machine": _machine(),
            "versions": {"python": platform.python_version(), "torch": torch.__version__}})

    def finish_epoch(self, record: dict) -> None:
        """Adds one epoch's figures (JSON values, `miou` among them) and saves the checkpoint.

        Save the best weights before this call: a run that is killed between the two then still has them.
        """
        self.epoch += 1
        self.history.append({"epoch": self.epoch, **record})
        self.best = max(self.best, record["miou"])
        _save(self.checkpoint, {
            "settings": self.settings, "epoch": self.epoch, "best": self.best, "history": self.history,
            "rng": torch.get_rng_state(), "state": {name: part.state_dict() for name, part in self.state.items()}})
        write_json(self.folder / "history.json", self.history)

    def _load(self) -> None:
        try:
            saved = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            settings = saved["settings"]
        except Exception as error:
            raise LabError(f"expected a checkpoint to resume from, found a damaged file, {self.checkpoint} "
                           f"({type(error).__name__}): delete it, or set RESUME = False") from None
        other = [key for key in self.settings if settings.get(key) != self.settings[key]]
        if other:
            key = other[0]
            raise LabError(f"expected a checkpoint of this run's settings, found {key} = {settings.get(key)!r} instead "
                           f"of {self.settings[key]!r} in {self.checkpoint}: set {key} back, or RESUME = False")
        for name, part in self.state.items():
            part.load_state_dict(saved["state"][name])
        torch.set_rng_state(saved["rng"])
        self.epoch, self.best, self.history = saved["epoch"], saved["best"], saved["history"]


def _save(path: str | Path, content: object) -> None:
    # By way of memory: torch.save into a full disk raises a RuntimeError that does not say so.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def _machine() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads"
