"""The runs' scalars in TensorBoard's format, for `tensorboard --logdir`; nothing is sent anywhere."""
import importlib
import importlib.util
import time
from collections.abc import Sequence
from pathlib import Path

from utils.past import Past, is_number

LEFT_OUT = ("epoch",)


def can_write() -> bool:
    """Whether tensorboard is installed, as a whole."""
    if importlib.util.find_spec("tensorboard") is None:
        return False
    try:
        importlib.import_module("torch.utils.tensorboard")
    except ImportError:
        return False
    return True


def write_events(runs: Sequence[Past], folder: Path) -> None:
    """One folder a run with a file of events: every number of each epoch's record, at the time it was finished."""
    from torch.utils.tensorboard import SummaryWriter

    for run in runs:
        name = run.name.replace("/", " ").replace("..", "")  # one of a path must not lead out of the folder
        with SummaryWriter(str(folder / name)) as writer:
            for record in run.history:
                for key, value in record.items():
                    if key not in LEFT_OUT and is_number(value):
                        writer.add_scalar(_tag(key), value, record["epoch"], walltime=_time(record.get("finished")))


def _tag(key: str) -> str:
    """Training and validation of the same figure stand in one group: miou/training, miou/validation."""
    figure = key.removeprefix("train_")
    if figure not in ("loss", "miou"):
        return key
    return f"{figure}/{'validation' if figure == key else 'training'}"


def _time(finished: object) -> float | None:
    try:
        return time.mktime(time.strptime(str(finished), "%Y-%m-%d %H:%M:%S"))
    except (ValueError, OverflowError):
        return None
