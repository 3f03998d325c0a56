"""The board's results as a class's REPORT, from which `report` makes grades, and the hand-ins for `grade`.

Of each student the best or the last hand-in counts, as course.toml says, for each task by itself: who improved task 2
with two files keeps task 1 of an earlier zip. What was withdrawn counts for nothing. All is copied, nothing is run.
"""
import contextlib
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from grading.board.access import REFERENCE
from grading.board.standings import CONFIRMED, pick, tries
from grading.board.store import Store
from grading.board.worker import home, submission_of
from grading.course import Course
from grading.intake.opening import open_submission
from grading.records import proof_paths, read_record, record_path, slug_of, source_path, write_record
from grading.report.overrides import write_overrides
from grading.report.proposals import propose
from handin.names import Part
from utils.lab import TASKS, LabError

FOLDERS = (lambda out, slug: out / "images" / slug, lambda out, slug: source_path(out, slug, 1).parent,
           lambda out, slug: proof_paths(out, slug, 1)[0].parent)


class Exported(NamedTuple):
    """What was written."""

    report: Path
    submissions: Path
    students: int


def export(store: Store, course: Course) -> Exported:
    """Writes BOARD/export/report and BOARD/export/submissions anew, whole or not at all. Raises LabError."""
    target = store.board / "export"
    own = defaultdict(list)
    for one in tries(store, True):
        if one.student != REFERENCE and one.standing != "withdrawn":
            own[one.student].append(one)
    verdicts = {row["handin"]: row for row in store.read("SELECT * FROM results")}
    with tempfile.TemporaryDirectory(dir=store.board, prefix=".export-") as scratch:
        made, rows = Path(scratch, "export"), []
        (made / "report" / "records").mkdir(parents=True)
        for student, found in own.items():
            records = {one.handin: read_record(record_path(home(store.board, one.handin) / "report", slug_of(student)))
                       for one in found}
            chosen = {2: pick(found, course.counts), 1: _first_task(found, records, course.counts)}
            record = _merge(store.board, made, student, chosen, records)
            write_record(made / "report", slug_of(student), record)
            verdict = verdicts[chosen[2].handin]
            note = f"confirmed on the board: {verdict['reason']}"
            rows += [replace(row, decision="waive", note=note) if row.item == "task 2" and
                     verdict["verdict"] == CONFIRMED else row for row in propose(record, course)]
        if rows:
            write_overrides(made / "report", rows)
        if target.exists():
            target.rename(Path(scratch, "before"))
        made.rename(target)
    return Exported(target / "report", target / "submissions", len(own))


def _first_task(found: list, records: dict[str, dict], counts: str) -> object:
    """The hand-in that counts for task 1: the last that has a score, or the best."""
    scored = [one for one in found if one.miou1 is not None]
    if not scored:
        return found[-1]
    return scored[-1] if counts == "last" else max(scored, key=lambda one: one.miou1)


def _merge(board: Path, made: Path, student: str, chosen: dict, records: dict[str, dict]) -> dict:
    """One record of the hand-ins that count for the two tasks, with copies of what belongs to them.

    Names, notebooks and report are those of the last zip.
    """
    slug, zips = slug_of(student), [key for key in records if (home(board, key) / "in" / "handin.zip").exists()]
    base = records[zips[-1]] if zips else records[chosen[2].handin]
    record = {**base, "tasks": {}, "files": dict(base["files"])}
    sources = [] if not zips else [(zips[-1], lambda part: True)]
    for number in TASKS:
        handin = chosen[number].handin
        record["tasks"][str(number)] = records[handin]["tasks"][str(number)]
        for part in (f"network {number}", f"weights {number}"):
            record["files"].pop(part, None)
            if part in records[handin]["files"]:
                record["files"][part] = records[handin]["files"][part]
        for folder in FOLDERS:
            _copy(folder(home(board, handin) / "report", slug), folder(made / "report", slug), f"*task{number}*")
        sources.append((handin, lambda part, number=number: part.task == number and part.kind != "notebook"))
    _write_files(board, made / "submissions" / student, sources, student)
    record["missing"] = [part for part in base["missing"] if part not in record["files"]]
    return record


def _write_files(board: Path, target: Path, sources: list[tuple[str, Callable]], student: str) -> None:
    """Copies parts of hand-ins into one folder, under the names that they had; of one part the last source counts."""
    with tempfile.TemporaryDirectory(dir=board, prefix=".export-") as scratch:
        parts: dict[Part, Path] = {}
        for place, (handin, wanted) in enumerate(sources):
            folder = Path(scratch, str(place))
            folder.mkdir()
            with contextlib.suppress(LabError):  # one that cannot be opened has no score either
                found, _ = open_submission(submission_of(board, handin, student, 0.0), folder)
                parts |= {part: path for part, path in found.files.items() if wanted(part)}
        target.mkdir(parents=True)
        for path in parts.values():
            shutil.copyfile(path, target / path.name)


def _copy(source: Path, target: Path, which: str = "*") -> None:
    for path in source.glob(which) if source.is_dir() else ():
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / path.name)
