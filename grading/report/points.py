"""Points by the lab's rules, from the records, the course's numbers, and what a person decided in overrides.csv.

Nothing is stored here: points follow from these three at any time.
"""
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from grading.course import DEDUCTIONS, Course
from grading.records import read_records
from grading.report.overrides import ITEMS, NAME, Override, as_number, read_overrides, write_overrides
from grading.report.proposals import merge, needs_decision, propose
from utils.lab import TASKS

# The items that every student has, in the hand-out's order, with the course's name for the most that each can bring.
TASK1, TASK2, RANK, REPORT, NAMING = "task 1 mIoU", "task 2 mIoU", "task 2 rank by FoM", "report", "naming error"
COURSE_NAMES = {TASK1: "task1", TASK2: "task2", RANK: "rank", REPORT: "report", NAMING: "naming"}
LATE = "late"
# States with a score that wait for a person -> what the person is asked.
WAITING = {"FLAGGED": "flagged, waive it or give points",
           "COST_UNVERIFIED": "its cost is unverified, waive that to let it rank, or give points"}


@dataclass
class Points:
    """A student's points: `items` by name (None: a person has to decide or to read first), and the rank by FoM.

    `items` has COURSE_NAMES' items, then `late` where there is a deduction for it, then a person's own rows.
    rank: from 1, of `ranked` students; None for those who are not ranked.
    withdrawn: the tasks whose scores a person has withdrawn, with the reason.
    pending: what a person has still to decide, a line each, the report to be read among them.
    """

    slug: str
    student: str
    items: dict[str, float | None] = field(default_factory=dict)
    rank: int | None = None
    ranked: int = 0
    pending: list[str] = field(default_factory=list)
    withdrawn: dict[int, str] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """The sum of what is known; items that wait for a person count 0."""
        return sum(value for value in self.items.values() if value is not None)

    @property
    def complete(self) -> bool:
        return not self.pending


def points(out: Path, course: Course, records: Sequence[dict] | None = None,
           note: Callable[[str], object] = lambda text: None) -> dict[str, Points]:
    """Everybody's points by slug; REPORT/overrides.csv is brought up to date with the records.

    records: those of `out`, if they are read already. Raises LabError for an overrides.csv that is not understood.
    """
    records = read_records(out) if records is None else records
    decided = read_overrides(out)
    rows = merge([row for record in records for row in propose(record, course)], decided, note)
    if rows != decided:
        write_overrides(out, rows)
    for row in rows:
        _say_if_odd(row, course, note)
    _say_if_shared(records, rows, note)
    return award(records, course, rows)


def award(records: Sequence[dict], course: Course, rows: Sequence[Override] = ()) -> dict[str, Points]:
    """Everybody's points by slug, by these rows of the table of decisions."""
    own: dict[str, dict[str, Override]] = {record["slug"]: {} for record in records}
    for row in rows:
        own.get(row.student, {})[row.item] = row
    ranks = _ranks(records, course, own)
    return {record["slug"]: _award(record, course, own[record["slug"]], ranks) for record in records}


def counts(task: dict, row: Override | None) -> bool:
    """Whether a task's score counts: there is one, and a person has waived its flags and given no points instead."""
    if task.get("miou") is None or task["state"] not in ("OK", *WAITING):
        return False
    if row is not None and (row.number is not None or row.withdrawn):
        return False
    return task["state"] == "OK" or (row is not None and row.waived)


def held(record: dict, own: dict[str, Override]) -> bool:
    """Whether two submissions claim the student's number equally, and no person has said that this one is theirs."""
    return bool(record.get("contested")) and not ("owner" in own and own["owner"].waived)


def _say_if_odd(row: Override, course: Course, note: Callable[[str], object]) -> None:
    """Says what counts as it stands, but may be a slip: a deduction that adds points, more points than there are."""
    if row.item not in ITEMS or not row.decision or row.item == "owner":
        return
    most = 0 if row.item in DEDUCTIONS else course.points[row.item.replace(" ", "")]
    if row.number is not None and (row.number > most or (row.number < 0 and row.item not in DEDUCTIONS)):
        note(f"{NAME}: {row.item} of {row.student} is decided with {row.decision}, where {most:g} is the most: it "
             "counts as it stands, so correct it if it is a slip")
    if row.waived and row.item == "report":
        note(f"{NAME}: {row.decision!r} gives no points for the report of {row.student}: write a number")


def _say_if_shared(records: Sequence[dict], rows: Sequence[Override], note: Callable[[str], object]) -> None:
    """Says which submissions with equal claims to one number were all waived: each then has its points and rank."""
    waived = {row.student for row in rows if row.item == "owner" and row.waived}
    sharing: dict[str, list[str]] = defaultdict(list)
    for record in records:
        if record.get("contested") and record["slug"] in waived:
            sharing[record["student"].casefold()].append(record["slug"])
    for slugs in filter(lambda slugs: len(slugs) > 1, sharing.values()):
        note(f"{NAME}: expected waive for one submission with a number, found it as owner of {' and '.join(slugs)}: "
             "each counts and is ranked, so leave it with the one that is the student's")


def _ranks(records: Sequence[dict], course: Course, own: dict[str, dict[str, Override]]) -> dict[str, int]:
    """Slug -> rank from 1 by figure of merit, the smallest first, then by mIoU; equals in both share a rank."""
    ranked = []
    for record in records:
        task, rows = record["tasks"]["2"], own[record["slug"]]
        if (counts(task, rows.get("task 2")) and not held(record, rows) and task.get("fom") is not None
                and task["miou"] >= course.thresholds[2]):
            ranked.append((task["fom"], -task["miou"], record["slug"]))
    return share_ranks(ranked)


def share_ranks(ranked: list[tuple[float, float, str]]) -> dict[str, int]:
    """Name -> rank from 1 of (FoM, -mIoU, name), the smallest first; equals in both figures share a rank."""
    keys = sorted(one[:2] for one in ranked)
    return {name: keys.index((fom, miou)) + 1 for fom, miou, name in sorted(ranked)}


def _award(record: dict, course: Course, own: dict[str, Override], ranks: dict[str, int]) -> Points:
    result = Points(record["slug"], record["student"], rank=ranks.get(record["slug"]), ranked=len(ranks))
    items, rank_is_open = result.items, False
    for number, item in zip(TASKS, (TASK1, TASK2), strict=True):
        task, row = record["tasks"][str(number)], own.get(f"task {number}")
        if row is not None and row.withdrawn:
            items[item], result.withdrawn[number] = 0, row.note
            continue
        if row is not None and row.number is not None:
            items[item] = row.number
            continue
        # A network whose cost is unverified is scored like everybody's: only its rank waits.
        scored = counts(task, row) or (task["state"] == "COST_UNVERIFIED" and task["miou"] is not None)
        items[item] = course.points[f"task{number}"] if scored and task["miou"] >= course.thresholds[number] else 0
        if needs_decision(task, course.thresholds[number]) and not counts(task, row):
            result.pending.append(f"task {number}: {WAITING[task['state']]}")
            items[item] = items[item] if scored else None
            rank_is_open = number == 2
    items[RANK] = None if rank_is_open else course.rank_points(result.rank, result.ranked) if result.rank else 0
    if held(record, own):
        result.pending.append("owner: two submissions claim the number, waive the right one")
        items[TASK1] = items[TASK2] = items[RANK] = None
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


def _deduction(row: Override | None, proposed: float) -> float:
    """What is taken off: as proposed, unless a person decided otherwise or added the row (proposals.merge)."""
    if row is None or not row.decision:
        return proposed
    return 0 if row.waived else row.number
