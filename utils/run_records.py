"""What earlier runs left in their folders (see training/runs.py), read and checked: settings.json and history.json.

Nothing else is read, so all this may be called while a run goes on.
"""
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from utils.lab import TASKS, LabError
from utils.labels_cat import CATEGORIES
from utils.metric import ConfusionMatrix

FILES = ("settings.json", "history.json", "checkpoint.pth")  # a folder with any of them is a run's


@dataclass(frozen=True)
class RunRecord:
    """What a run's folder tells: settings.json and the records of history.json, each empty where there is none."""

    name: str
    about: dict
    history: list[dict]

    @property
    def best(self) -> dict:
        """The record of the highest mIoU, the first of several; empty if no epoch has one."""
        scored = [record for record in self.history if is_number(record.get("miou"))]
        return max(scored, key=lambda record: record["miou"], default={})

    @property
    def matrix(self) -> ConfusionMatrix:
        """The confusion matrix of the best epoch, of zeros where it is not known."""
        matrix = ConfusionMatrix(len(self.class_names))
        matrix.counts[:] = self.best.get("confusion", 0)
        return matrix

    @property
    def iou(self) -> list[float]:
        """The IoU of each class at the best epoch, NaN where it is not known or the class does not occur."""
        return self.matrix.iou().tolist()

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that the run learned: the lab's categories, if it was trained on no data of others."""
        return tuple(self.about.get("class_names", CATEGORIES))

    @property
    def has_lab_classes(self) -> bool:
        return self.class_names == CATEGORIES

    @property
    def options(self) -> dict:
        """The notebook's settings by name."""
        return self.about.get("settings", {})

    @property
    def minutes(self) -> float | None:
        seconds = [record["seconds"] for record in self.history if "seconds" in record]
        return sum(seconds) / 60 if seconds else None

    @property
    def task(self) -> int | None:
        """The task that the run belongs to; of older runs by their settings or names, None if neither tells."""
        if self.about.get("task") in TASKS:
            return self.about["task"]
        for number, name in {1: "WIDTH", 2: "RUNG"}.items():
            if name in self.options:
                return number
        told = [number for number in TASKS if f"task{number}" in f"{self.name} {self.options.get('MODEL')}"]
        return told[0] if len(told) == 1 else None

    def settings(self) -> dict[str, str]:
        """Every setting as text, with the data set's fingerprint and the number of processes."""
        rows = {**self.options, "data set": self.about.get("data"), "processes": self.about.get("processes")}
        return {key: "None" if value is None else as_text(value) for key, value in rows.items()}


def read_run(folder: Path) -> RunRecord:
    """What is known of the run in `folder`. Raises LabError for a damaged settings.json or history.json."""
    about, history = _read(folder / "settings.json", dict), _read(folder / "history.json", list)
    if not isinstance(about.get("settings", {}), dict):
        raise _damaged(folder / "settings.json", "the settings in it by name", type(about["settings"]).__name__)
    names = about.get("class_names", CATEGORIES)
    if not (isinstance(names, (list, tuple)) and names and all(isinstance(name, str) for name in names)):
        raise _damaged(folder / "settings.json", "the names of the classes", repr(names)[:40])
    n = len(names)
    for number, record in enumerate(history, 1):
        if not isinstance(record, dict) or record.get("epoch") != number:
            raise _damaged(folder / "history.json", f"the record of epoch {number}", repr(record)[:40])
        if not is_number(record.get("seconds", 0)):
            raise _damaged(folder / "history.json", f"the seconds of epoch {number}", repr(record["seconds"])[:40])
        rows = record.get("confusion", [[0] * n] * n)
        if not (isinstance(rows, list) and len(rows) == n and all(
                isinstance(row, list) and len(row) == n and all(isinstance(count, int) for count in row)
                for row in rows)):
            raise _damaged(folder / "history.json", f"{n} x {n} counts as confusion of epoch {number}",
                           repr(rows)[:40])
    return RunRecord(folder.name, about, history)


def run_names(folder: Path) -> list[str]:
    """The runs in `folder`, by name. Raises LabError if there is none."""
    names = []
    if folder.is_dir():
        names = sorted(path.name for path in folder.iterdir() if is_run(path))
    if not names:
        found = "none" if folder.is_dir() else "no such folder"
        raise LabError(f"expected runs in {folder}, found {found}: train a network first, or pass --folder")
    return names


def is_run(folder: Path) -> bool:
    return any((folder / file).is_file() for file in FILES)


def unknown_run(folder: Path, name: str, known: Sequence[str]) -> LabError:
    return LabError(f"expected the name of a run in {folder} ({', '.join(known)}), found {name!r}: check the spelling, "
                    "or pass --folder")


def settings_side_by_side(runs: Sequence[RunRecord], differing: bool = True) -> dict[str, list[str]]:
    """The settings of `runs` as text, by name, "-" where one has none; of several runs those that differ, or all."""
    of_runs = [run.settings() for run in runs]
    rows = {key: [of.get(key, "-") for of in of_runs] for of in of_runs for key in of}
    return {key: row for key, row in rows.items() if not differing or len(set(row)) > 1}


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def as_text(value: object, form: str = "") -> str:
    """`value` in the given format if it is a number, else as it is; "-" for None and NaN."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return format(value, form) if is_number(value) and form else str(value)


def _read(path: Path, kind: type) -> dict | list:
    """The JSON in `path`, of type `kind`; an empty one where there is no file yet."""
    if not path.exists():
        return kind()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # ValueError: neither UTF-8 nor JSON
        raise _damaged(path, "JSON", str(error).splitlines()[0]) from None
    if not isinstance(content, kind):
        raise _damaged(path, "records by name" if kind is dict else "a list of epochs", type(content).__name__)
    return content


def _damaged(path: Path, expected: str, found: str) -> LabError:
    return LabError(f"expected {expected}, found {found} in {path}: resume the run, which writes it anew, or delete "
                    "its folder")
