"""Looks at a hand-in as its grader will: names, notebooks, rules, weights, networks, figures, report, fixed files."""
from collections.abc import Iterator
from pathlib import Path

from handin.documents import check_report
from handin.findings import Finding, judge
from handin.fixed import changed_files
from handin.names import Handin, Part
from handin.notebooks import check_notebook
from handin.rules import judge_rules
from handin.trial import try_network
from handin.weights import check_weights_file
from utils.lab import DEFAULT_DATA, ROOT, SAMPLE_DATA, TASKS


def find_present_data(path: Path | None) -> Path | None:
    """The data to score on: `path`, or what lies in ./data, or the sample if it has been drawn, or None.

    Nothing is drawn here. Raises LabError if `path` holds no data, and if ./data holds more than one set.
    """
    from dataset.reader import find_data, layout_of, list_split, present_data, scored_split
    from utils.classes import LAB_CLASSES

    if path is not None:
        root = find_data(path)
        list_split(root, scored_split(root))  # raises for a folder without labels
        return root
    root = present_data(ROOT / DEFAULT_DATA)
    if root and layout_of(root).classes == LAB_CLASSES:
        return root
    return SAMPLE_DATA if (SAMPLE_DATA / "leftImg8bit").is_dir() else None


def examine(handin: Handin, data: Path | None = None, seconds: float = 15.0) -> Iterator[Finding]:
    """Yields the findings on a hand-in, as they come; the trials of the networks take the time.

    `data` is the folder to score on, `seconds` what scoring may take for each task: infinite for all pictures, 0 where
    no score is wanted.
    """
    yield from _examine_names(handin)
    for part, path in handin.files.items():
        if part.kind == "notebook":
            yield judge(part.subject, check_notebook, path)
    for part, path in handin.files.items():
        if part.kind in ("notebook", "network"):
            yield from judge_rules(path, part.subject)
    for task in TASKS.values():
        files = {part.kind: path for part, path in handin.files.items() if part.task == task.number}
        weights = files.get("weights")
        if weights is not None:
            finding = judge(f"weights {task.number}", check_weights_file, weights)
            yield finding
            weights = None if finding.level == "FAIL" else weights
        if "network" in files:
            yield from try_network(task, files["network"], weights, data, seconds)
    if data is None and seconds:
        yield Finding("WARN", "mIoU", "expected data to measure it on, found none: pass --data FOLDER")
    for part, path in handin.files.items():
        if part.kind == "report":
            yield judge(part.subject, check_report, path)
    yield from _examine_fixed()


def _examine_names(handin: Handin) -> Iterator[Finding]:
    for part in handin.missing:
        yield Finding("FAIL", part.subject, f"expected {part.name(handin.student_id)}, found no such file in "
                                            f"{handin.where}: {_how_to_get(part)}")
    for problem in handin.problems:
        yield Finding("FAIL", "names", f"{problem} (any naming error costs 5 points; python -m handin pack names them)")
    if not handin.missing and not handin.problems:
        of = f" of {handin.student_id}" if handin.student_id else "; pack --id will name them"
        yield Finding("OK", "names", f"all seven files{of}")
    for path in handin.extra:
        yield Finding("WARN", "names", f"expected the seven files alone, found {path.name} in {handin.where} as well: "
                                       "leave it out")


def _how_to_get(part: Part) -> str:
    return {"notebook": "run the notebook, then save it", "network": "it is your network.py, under this name",
            "weights": "train first, with the notebook", "report": "export your report as PDF"}[part.kind]


def _examine_fixed() -> Iterator[Finding]:
    changed = changed_files()
    if changed is None:
        return  # not a released kit: there is nothing to compare with
    if not changed:
        yield Finding("OK", "fixed files", "as they were handed out")
    for name in changed:
        yield Finding("WARN", "fixed files", f"expected the hand-out's files, found that {name}: the grader uses its "
                                             "own, restore it from the kit and measure again")
