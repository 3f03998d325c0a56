"""Examines a hand-in as its grader will: names, notebooks, rules, weights, networks, figures, report, fixed files."""
import tempfile
from collections.abc import Iterator
from pathlib import Path

from handin.documents import check_report
from handin.findings import Finding, judge
from handin.fixed import changed_files
from handin.names import Handin, Part
from handin.notebooks import check_notebook
from handin.rules import UNREADABLE, judge_rules
from handin.trial import try_network
from handin.weights import check_weights_file, repack
from utils.lab import DEFAULT_DATA, ROOT, SAMPLE_DATA, TASKS, Task


def find_present_data(path: Path | None) -> Path | None:
    """The data to score on: `path`, or what is in ./data, or the sample if it has been drawn, or None.

    Raises LabError if `path` holds no data, and if ./data holds more than one set.
    """
    from dataset.reader import find_data, present_data
    from utils.classes import LAB_CLASSES

    if path is not None:
        data = find_data(path)
        data.pairs(data.scored_split)  # raises for a folder without labels
        return data.root
    data = present_data(ROOT / DEFAULT_DATA)
    if data and data.classes == LAB_CLASSES:
        return data.root
    return SAMPLE_DATA if (SAMPLE_DATA / "leftImg8bit").is_dir() else None


def examine(handin: Handin, data: Path | None = None, seconds: float = 15.0) -> Iterator[Finding]:
    """Yields the findings on a hand-in as they come; the trials of the networks take the time.

    `data` is the folder to score on, `seconds` what scoring may take for each task: infinite for all images, 0 for no
    score. One cause is one finding, also where two checks meet it.
    """
    yield from _examine_names(handin)
    for part, path in handin.files.items():
        if part.kind == "notebook":
            yield from dict.fromkeys([judge(part.subject, check_notebook, path), *judge_rules(path, part.subject)])
    with tempfile.TemporaryDirectory(prefix="handin-") as scratch:
        for task in TASKS.values():
            files = {part.kind: path for part, path in handin.files.items() if part.task == task.number}
            weights = files.get("weights")
            if weights is not None and weights.is_dir():
                files["weights"] = Path(scratch, task.model_file)
                repack(weights, files["weights"])
            yield from _examine_task(task, files.get("network"), files.get("weights"), data, seconds)
    if data is None and seconds:
        yield Finding("WARN", "mIoU", "expected data to measure it on, found none: pass --data FOLDER")
    for part, path in handin.files.items():
        if part.kind == "report":
            yield judge(part.subject, check_report, path)
    yield from _examine_fixed()


def _examine_task(task: Task, network: Path | None, weights: Path | None, data: Path | None, seconds: float
                  ) -> Iterator[Finding]:
    rules = judge_rules(network, f"network {task.number}") if network else []
    yield from rules
    if weights is not None:
        found = judge(f"weights {task.number}", check_weights_file, weights, network is not None)
        if found.level != "OK" or not network:  # the trial says more about weights that load
            yield found
        weights = None if found.level == "FAIL" else weights
    if network and not any(found.line == UNREADABLE for found in rules):
        told = {found.line for found in rules if found.level == "FAIL"}
        for found in try_network(task, network, weights, data, seconds):
            if not (found.line and found.line in told):
                yield found


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
