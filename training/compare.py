"""Lists and compares runs from what they left in their folders: what `python -m training.runs` prints.

It reads settings.json and history.json alone, so it may be called while a run goes on.
"""
import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path

from utils.lab import NUM_CLASSES, RUNS, LabError
from utils.labels_cat import CATEGORIES
from utils.metric import ConfusionMatrix

FILES = ("settings.json", "history.json", "checkpoint.pth")  # a folder with any of them is a run's


@dataclass(frozen=True)
class Past:
    """What a run's folder tells: settings.json and the records of history.json, each empty where there is none."""

    name: str
    about: dict
    history: list[dict]

    @property
    def best(self) -> dict:
        """The record of the highest mIoU, the first of several; empty if no epoch has one."""
        scored = [record for record in self.history if _is_number(record.get("miou"))]
        return max(scored, key=lambda record: record["miou"], default={})

    @property
    def iou(self) -> list[float]:
        """The IoU of each category at the best epoch, NaN where it is not known or the category does not occur."""
        matrix = ConfusionMatrix()
        matrix.counts[:] = self.best.get("confusion", 0)
        return matrix.iou().tolist()

    def cells(self) -> dict[str, str]:
        """The run's figures as text, "-" for those its files do not tell."""
        machine = self.about.get("machine")
        seconds = [record["seconds"] for record in self.history if "seconds" in record]
        return {
            "epochs": f"{len(self.history)}/{_text(self._settings().get('EPOCHS'))}",
            "best mIoU": _text(self.best.get("miou"), ".4f"), "at epoch": _text(self.best.get("epoch")),
            "accuracy": _text(self.best.get("accuracy"), ".4f"),
            "parameters": _text(self.about.get("parameters"), ","),
            "minutes": _text(sum(seconds) / 60 if seconds else None, ".1f"),
            "machine": _text(machine.get("name") if isinstance(machine, dict) else machine),
            "started": _text(self.about.get("started"))}

    def settings(self) -> dict[str, str]:
        """Every setting as text, with the data set's fingerprint and the number of processes."""
        rows = {**self._settings(), "data set": self.about.get("data"), "processes": self.about.get("processes")}
        return {key: "None" if value is None else _text(value) for key, value in rows.items()}

    def _settings(self) -> dict:
        return self.about.get("settings", {})


def read_run(folder: Path) -> Past:
    """What is known of the run in `folder`. Raises LabError for a damaged settings.json or history.json."""
    about, history = _read(folder / "settings.json", dict), _read(folder / "history.json", list)
    if not isinstance(about.get("settings", {}), dict):
        raise _damaged(folder / "settings.json", "the settings in it by name", type(about["settings"]).__name__)
    for number, record in enumerate(history, 1):
        if not isinstance(record, dict) or record.get("epoch") != number:
            raise _damaged(folder / "history.json", f"the record of epoch {number}", repr(record)[:40])
        if not _is_number(record.get("seconds", 0)):
            raise _damaged(folder / "history.json", f"the seconds of epoch {number}", repr(record["seconds"])[:40])
        rows = record.get("confusion", [[0] * NUM_CLASSES] * NUM_CLASSES)
        if not (isinstance(rows, list) and len(rows) == NUM_CLASSES and all(
                isinstance(row, list) and len(row) == NUM_CLASSES and all(isinstance(n, int) for n in row)
                for row in rows)):
            raise _damaged(folder / "history.json", f"{NUM_CLASSES} x {NUM_CLASSES} counts as confusion of epoch "
                           f"{number}", repr(rows)[:40])
    return Past(folder.name, about, history)


def list_runs(folder: Path) -> str:
    """A table of all runs in `folder`, best first, below it a line for each that is damaged.

    Raises LabError if there is none.
    """
    runs, notes = [], []
    for name in _names(folder):
        try:
            runs.append(read_run(folder / name))
        except LabError as error:
            notes.append(f"{name} is damaged: {error}")
    runs.sort(key=lambda run: -run.best.get("miou", -math.inf))
    table = [["run", *Past("", {}, []).cells()], *([run.name, *run.cells().values()] for run in runs)]
    return "\n".join([*(_align(table, left=(0, 7, 8)) if runs else []), *notes])


def compare_runs(folder: Path, names: list[str]) -> str:
    """The runs called `names` side by side: their figures, the settings that differ, and each category's IoU.

    Of a single run all settings are shown. Raises LabError for a name that is no run's and for a damaged run.
    """
    known = _names(folder)
    for name in names:
        if name not in known:
            raise LabError(f"expected the name of a run in {folder} ({', '.join(known)}), found {name!r}: check the "
                           "spelling, or pass --folder")
    runs = [read_run(folder / name) for name in names]
    rows = [["", *(run.name for run in runs)]]
    figures, settings = [run.cells() for run in runs], [run.settings() for run in runs]
    rows += [[key, *(of[key] for of in figures)] for key in figures[0]]
    rows += [[]]
    keys = list({key: None for of in settings for key in of})
    found = [[key, *(of.get(key, "-") for of in settings)] for key in keys]
    differing = [row for row in found if len(runs) == 1 or len(set(row[1:])) > 1]
    rows += [["settings" if len(runs) == 1 else "settings that differ" if differing else "no setting differs"]]
    rows += [["  " + row[0], *row[1:]] for row in differing]
    rows += [[], ["IoU at the best epoch"]]
    iou = [run.iou for run in runs]
    rows += [["  " + category, *(_text(of[index], ".4f") for of in iou)] for index, category in enumerate(CATEGORIES)]
    return "\n".join(_align(rows, left=range(len(runs) + 1)))


def _names(folder: Path) -> list[str]:
    """The runs in `folder`, by name. Raises LabError if there is none."""
    names = []
    if folder.is_dir():
        names = sorted(path.name for path in folder.iterdir() if any((path / file).is_file() for file in FILES))
    if not names:
        found = "none" if folder.is_dir() else "no such folder"
        raise LabError(f"expected runs in {folder}, found {found}: train a network first, or pass --folder")
    return names


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


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _text(value: object, form: str = "") -> str:
    """`value` in the given format if it is a number, else as it is; "-" for None and NaN."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return format(value, form) if _is_number(value) and form else str(value)


def _align(rows: list[list[str]], left: range | tuple[int, ...]) -> list[str]:
    """The rows as lines of columns two blanks apart; those in `left` stand left, the others right."""
    widths = {}
    for row in rows:
        for column, cell in enumerate(row):
            widths[column] = max(widths.get(column, 0), len(cell))
    return ["  ".join(cell.ljust(widths[column]) if column in left else cell.rjust(widths[column])
                      for column, cell in enumerate(row)).rstrip() for row in rows]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m training.runs", description="Lists all runs, or compares some.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="runs to compare (default: list all)")
    parser.add_argument("--folder", type=Path, default=RUNS, metavar="DIR", help="where the runs lie (default: runs/)")
    options = parser.parse_args(arguments)
    print(compare_runs(options.folder, options.names) if options.names else list_runs(options.folder))
