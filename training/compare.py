"""Lists and compares runs from what they left in their folders: what `python -m training.runs` prints.

It reads settings.json and history.json alone, so it may be called while a run goes on.
"""
import argparse
import math
from pathlib import Path

from utils.lab import RUNS, LabError
from utils.run_records import RunRecord, as_text, read_run, run_names, settings_side_by_side, unknown_run
from utils.tables import aligned


def list_runs(folder: Path) -> str:
    """A table of all runs in `folder`, best first, below it a line for each that is damaged or knows other classes.

    Raises LabError if there is none.
    """
    runs, notes = [], []
    for name in run_names(folder):
        try:
            runs.append(run := read_run(folder / name))
        except LabError as error:
            notes.append(f"{name} is damaged: {error}")
            continue
        if not run.has_lab_classes:
            notes.append(f"{name} learned {len(run.class_names)} other classes, {run.class_names[0]} to "
                         f"{run.class_names[-1]}: its mIoU cannot be compared with one of the lab's categories")
    runs.sort(key=lambda run: -run.best.get("miou", -math.inf))
    table = [["run", *_cells(RunRecord("", {}, []))], *([run.name, *_cells(run).values()] for run in runs)]
    return "\n".join([*(aligned(table, left=(0, 7, 8)) if runs else []), *notes])


def compare_runs(folder: Path, names: list[str]) -> str:
    """The runs called `names` side by side: their figures, the settings that differ, and each class's IoU.

    Of a single run all settings are shown. Raises LabError for a name that is no run's and for a damaged run.
    """
    known = run_names(folder)
    for name in names:
        if name not in known:
            raise unknown_run(folder, name, known)
    runs = [read_run(folder / name) for name in names]
    rows = [["", *(run.name for run in runs)]]
    figures = [_cells(run) for run in runs]
    rows += [[key, *(of[key] for of in figures)] for key in figures[0]]
    rows += [[]]
    differing = settings_side_by_side(runs, differing=len(runs) > 1)
    rows += [["settings" if len(runs) == 1 else "settings that differ" if differing else "no setting differs"]]
    rows += [["  " + key, *row] for key, row in differing.items()]
    rows += [[], ["IoU at the best epoch"]]
    iou = [dict(zip(run.class_names, run.iou, strict=True)) for run in runs]
    known = dict.fromkeys(name for of in iou for name in of)  # of all runs, each once
    rows += [["  " + name, *(as_text(of.get(name), ".4f") for of in iou)] for name in known]
    return "\n".join(aligned(rows, left=range(len(runs) + 1)))


def _cells(run: RunRecord) -> dict[str, str]:
    """The run's figures as text, "-" for those its files do not tell."""
    machine = run.about.get("machine")
    return {
        "epochs": f"{len(run.history)}/{as_text(run.options.get('EPOCHS'))}",
        "best mIoU": as_text(run.best.get("miou"), ".4f"), "at epoch": as_text(run.best.get("epoch")),
        "accuracy": as_text(run.best.get("accuracy"), ".4f"),
        "parameters": as_text(run.about.get("parameters"), ","),
        "minutes": as_text(run.minutes, ".1f"),
        "machine": as_text(machine.get("name") if isinstance(machine, dict) else machine),
        "started": as_text(run.about.get("started"))}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m training.runs", description="Lists all runs, or compares some.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="runs to compare (default: list all)")
    parser.add_argument("--folder", type=Path, default=RUNS, metavar="DIR", help="where the runs lie (default: runs/)")
    options = parser.parse_args(arguments)
    print(compare_runs(options.folder, options.names) if options.names else list_runs(options.folder))
