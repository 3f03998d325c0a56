"""What the records give a person to decide: the rows of overrides.csv, with what was decided before beside them."""
import difflib
from collections.abc import Callable, Sequence
from dataclasses import replace

from grading.course import Course
from grading.records import digest
from grading.report.overrides import ITEMS, NAME, Override, full_names
from utils.lab import TASKS, LabError


def needs_decision(task: dict, threshold: float) -> bool:
    """Whether a person has to decide about a task's score, or, where only the cost is unverified, about its rank."""
    if task["state"] == "COST_UNVERIFIED":  # below the threshold there is no rank
        return task.get("miou") is not None and task["miou"] >= threshold
    return task["state"] == "FLAGGED"


def propose(record: dict, course: Course) -> list[Override]:
    """The rows that a record gives rise to, undecided."""
    student, rows = record["slug"], []
    if record.get("contested"):
        rows.append(Override(student, "owner", record["contested"]))
    if record.get("naming"):
        rows.append(Override(student, "naming", "; ".join(record["naming"]), f"{course.points['naming']:g}"))
    days = course.days_late(record.get("submitted"))
    if days and course.points["late"]:
        assumed = ", by a local time that was read in the deadline's zone" if record.get("time_assumed") else ""
        mark = f"; {record['late_mark']}" if record.get("late_mark") else ""
        rows.append(Override(student, "late", f"handed in {record['submitted']}, {days} day{'s' * (days > 1)} late"
                             f"{assumed}{mark}", f"{days * course.points['late']:g}"))
    for number in TASKS:
        task = record["tasks"][str(number)]
        if needs_decision(task, course.thresholds[number]):
            texts = "; ".join(str(flag.get("text")) for flag in task.get("flags") or []) or task.get("why")
            what = "let the score count" if task["state"] == "FLAGGED" else "let it rank by what it says that it costs"
            rows.append(Override(student, f"task {number}", f"flagged: {texts}: write waive to {what}, or the points "
                                 f"that it gets; this holds for these two files alone ({_files(record, number)})", "0"))
    missing = "report" in record.get("missing", ())
    rows.append(Override(student, "report", "none handed in" if missing else "to be read by a person", "0" * missing))
    return rows


def _files(record: dict, number: int) -> str:
    """Digits that change with a task's network or weights: a flag's text may be the same for another network."""
    files = record.get("files") or {}
    return digest([(files.get(f"{kind} {number}") or {}).get("sha256") for kind in ("network", "weights")])[:16]


def merge(proposed: Sequence[Override], decided: Sequence[Override],
          note: Callable[[str], object] = lambda text: None) -> list[Override]:
    """The table to write: the proposed rows with what a person wrote beside them, then rows of the person's own.

    A decision that was made for another reason, or for one that is gone, does not count: it goes to the row's note, and
    to `note` as a line; so do rows that belong to nobody. Raises LabError for two rows of one student and item.
    """
    students = {row.student for row in proposed}
    names = full_names(students)
    before: dict[tuple[str, str], Override] = {}
    for row in decided:
        student = row.student if row.student in students else names.get(row.student, row.student)
        if (student, row.item) in before:
            raise LabError(f"expected one row for each student and item, found {row.item!r} of {student} and of the "
                           f"same number without its zeros in {NAME}: make one of them")
        before[student, row.item] = replace(row, student=student)
        if student not in students:
            near = difflib.get_close_matches(student, students, 1, 0.8)
            hint = f" (did you mean {near[0]}?)" if near else ""
            note(f"{NAME} has a row for {row.student}, of whom there is no record{hint}: it counts for nobody")
    rows = []
    for row in proposed:
        old = before.pop((row.student, row.item), None)
        if old is None:
            rows.append(row)
        elif not old.decided or old.reason == row.reason or row.item == "report" or old.withdrawn:
            rows.append(replace(row, decision=old.decided, note=old.note))
            if not old.decided and old.reason == row.reason and old.points != row.points:
                note(f"{NAME} had {old.points!r} as points for {row.item} of {row.student}, where {row.points!r} is "
                     "proposed now: write what you decide under decision")
        else:
            rows.append(replace(row, note=old.noted))
            note(f"{NAME}: the reason for {row.item} of {row.student} has changed, {old.decided!r} is asked for again")
    for row in before.values():  # a person's own, and proposals that are made no longer
        if row.item in ITEMS and row.student in students:
            if not row.reason or row.withdrawn:  # a score stays withdrawn until a person lets it count again
                row = replace(row, reason="", decision=row.decided)
            else:
                if row.decided:
                    note(f"{NAME}: the reason for {row.item} of {row.student} is gone, so {row.decided!r} does not "
                         "count any more")
                row = Override(row.student, row.item, note=row.noted)
        if row.decided or row.note or row.item not in ITEMS:
            rows.append(row)
    order = {item: place for place, item in enumerate(ITEMS)}
    # What is to be decided comes first, the reports to be read last.
    return sorted(rows, key=lambda row: (row.item == "report", row.student, order.get(row.item, -1), row.item))
