"""Points by the lab's rules, from the records, the course's numbers and what a person decided in overrides.csv.

Nothing here is stored: points follow from those three, again at any time.
"""
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from grading.course import Course
from grading.overrides import ITEMS, Row, as_number, merge, propose, read_overrides, write_overrides
from grading.records import read_records
from utils.lab import POINTS, TASKS

TASK1, TASK2, RANK, REPORT, NAMING = POINTS  # the items' names, in the hand-out's order
LATE = "late"


@dataclass
class Points:
    """A student's points: `items` by name (None: a person has to decide or to read first), and the rank by FoM.

    `items` has utils.lab.POINTS' names, then `late` where there is a deduction for it, then a person's own rows.
    rank: from 1, of `ranked` students; None for those who are not ranked.
    pending: what a person has still to decide, a line each; the report's points are asked for there too.
    """

    slug: str
    student: str
    items: dict[str, float | None] = field(default_factory=dict)
    rank: int | None = None
    ranked: int = 0
    pending: list[str] = field(default_factory=list)

    @property
    def total(self) -> float:
        """The sum of what is known; items that wait for a person count 0."""
        return sum(value for value in self.items.values() if value is not None)

    @property
    def complete(self) -> bool:
        return not self.pending


def points(out: Path, course: Course, records: Sequence[dict] | None = None,
           note: Callable[[str], object] = lambda text: None) -> dict[str, Points]:
    """Everybody's points by slug, and REPORT/overrides.csv brought up to date with the records.

    records: those of `out`, if they are read already. Raises LabError for an overrides.csv that cannot be understood.
    """
    records = read_records(out) if records is None else records
    decided = read_overrides(out)
    rows = merge([row for record in records for row in propose(record, course)], decided, note)
    if rows != decided:
        write_overrides(out, rows)
    return award(records, course, rows)


def award(records: Sequence[dict], course: Course, rows: Sequence[Row] = ()) -> dict[str, Points]:
    """Everybody's points by slug, by these rows of the table of decisions."""
    own: dict[str, dict[str, Row]] = {record["slug"]: {} for record in records}
    for row in rows:
        own.get(row.student, {})[row.item] = row
    ranks = _ranks(records, course, own)
    return {record["slug"]: _award(record, course, own[record["slug"]], ranks) for record in records}


def counts(task: dict, row: Row | None) -> bool:
    """Whether a task's score counts: there is one, and a person has waived its flags and given no points instead."""
    if task.get("miou") is None or task["state"] not in ("OK", "FLAGGED"):
        return False
    if row is not None and row.number is not None:
        return False
    return task["state"] == "OK" or (row is not None and row.waived)


def _ranks(records: Sequence[dict], course: Course, own: dict[str, dict[str, Row]]) -> dict[str, int]:
    """Slug -> rank from 1 by figure of merit, the smallest first, equals by mIoU; those who share both share a rank."""
    entries = []
    for record in records:
        task = record["tasks"]["2"]
        if (counts(task, own[record["slug"]].get("task 2")) and task.get("fom") is not None
                and task["miou"] >= course.thresholds[2]):
            entries.append((task["fom"], -task["miou"], record["slug"]))
    entries.sort()
    keys = [entry[:2] for entry in entries]
    return {slug: keys.index((fom, miou)) + 1 for fom, miou, slug in entries}


def _award(record: dict, course: Course, own: dict[str, Row], ranks: dict[str, int]) -> Points:
    result = Points(record["slug"], record["student"], rank=ranks.get(record["slug"]), ranked=len(ranks))
    items = result.items
    for number, item in zip(TASKS, (TASK1, TASK2), strict=True):
        task, row = record["tasks"][str(number)], own.get(f"task {number}")
        if row is not None and row.number is not None:
            items[item] = row.number
        elif task["state"] == "FLAGGED" and not counts(task, row):
            items[item] = None
            result.pending.append(f"task {number}: flagged, waive it or give points")
        else:
            reached = counts(task, row) and task["miou"] >= course.thresholds[number]
            items[item] = course.points[f"task{number}"] if reached else 0
    items[RANK] = course.rank_points(result.rank, result.ranked) if result.rank else 0
    if items[TASK2] is None:
        items[RANK] = None
    report = own.get("report")
    items[REPORT] = 0 if "report" in record.get("missing", ()) else None
    if report is not None and report.number is not None:
        items[REPORT] = report.number
    if items[REPORT] is None:
        result.pending.append("report: to be read")
    items[NAMING] = _deduction(own.get("naming"), course.points["naming"] if record.get("naming") else 0)
    late, row = course.days_late(record.get("submitted")) * course.points["late"], own.get(LATE)
    if late or (row is not None and row.decision):
        items[LATE] = _deduction(row, late)
    for row in own.values():
        if row.item not in ITEMS:
            items[row.item] = 0 if row.waived else row.number if row.decision else as_number(row.points or "0")
    return result


def _deduction(row: Row | None, proposed: float) -> float:
    """What is taken off: as proposed, unless a person decided otherwise, or added the row (see overrides.merge)."""
    if row is None or not row.decision:
        return proposed
    return 0 if row.waived else row.number
