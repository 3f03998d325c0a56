"""REPORT/overrides.csv: what the grader proposes and a person decides, a row for each question.

    student, item, reason, points, decision, note

`item` is naming, late, task 1, task 2 or report; any other item is a person's own row and adds its points. `decision`
is left empty (as proposed; a flagged task then stays undecided), or `waive` (no deduction; a flagged task counts), or a
number of points in place of those proposed. A row of these five that a person adds, without a reason, counts as well.
The file is written anew with every grading and every report, and keeps what a person wrote; a decision whose reason has
changed since is moved to the note and asked for again, and one whose reason is gone is moved to the note.
"""
import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path

from grading.course import Course
from grading.records import digest
from utils.files import replacing
from utils.lab import TASKS, LabError

NAME = "overrides.csv"
ITEMS = ("naming", "late", *(f"task {number}" for number in TASKS), "report")
WAIVE = {"waive", "waived", "accept", "accepted", "ok"}


@dataclass(frozen=True)
class Row:
    """A line of the table; `student` is the record's slug, which is the student's number wherever that is known."""

    student: str
    item: str
    reason: str = ""
    points: str = ""
    decision: str = ""
    note: str = ""

    @property
    def waived(self) -> bool:
        return self.decision.casefold() in WAIVE

    @property
    def number(self) -> float | None:
        """The decision as points, None where it is none."""
        return None if self.waived or not self.decision else as_number(self.decision)


COLUMNS = tuple(field.name for field in fields(Row))


def as_number(text: str) -> float:
    """Points as a person or Excel writes them: 5, -2.5, -2,5. Raises ValueError for anything else."""
    text = text.strip().replace("\N{MINUS SIGN}", "-").replace(",", ".")
    if not re.fullmatch(r"[+-]?(\d+(\.\d*)?|\.\d+)", text):
        raise ValueError(text)
    return float(text)


def propose(record: dict, course: Course) -> list[Row]:
    """The rows that a record gives rise to, undecided."""
    student, rows = record["slug"], []
    if record.get("naming"):
        rows.append(Row(student, "naming", "; ".join(record["naming"]), f"{course.points['naming']:g}"))
    days = course.days_late(record.get("submitted"))
    if days and course.points["late"]:
        rows.append(Row(student, "late", f"handed in {record['submitted']}, {days} day{'s' * (days > 1)} late",
                        f"{days * course.points['late']:g}"))
    for number in TASKS:
        task = record["tasks"][str(number)]
        if task["state"] == "FLAGGED":
            texts = "; ".join(str(flag.get("text")) for flag in task.get("flags") or []) or task.get("why")
            rows.append(Row(student, f"task {number}", f"flagged: {texts}: write waive to let the score count, or the "
                            f"points that it gets; this holds for these two files alone ({_files(record, number)})",
                            "0"))
    missing = "report" in record.get("missing", ())
    rows.append(Row(student, "report", "none handed in" if missing else "to be read by a person", "0" * missing))
    return rows


def _files(record: dict, number: int) -> str:
    """Digits that change with a task's network or weights: a flag's text may be the same for another network."""
    files = record.get("files") or {}
    return digest([(files.get(f"{kind} {number}") or {}).get("sha256") for kind in ("network", "weights")])[:16]


def read_overrides(out: Path) -> list[Row]:
    """The rows of REPORT/overrides.csv as a person left them, none where there is no file.

    It may have been through Excel (another delimiter, no BOM). Raises LabError, naming the line, for what cannot be
    understood.
    """
    path = Path(out) / NAME
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "another encoding"
        raise LabError(f"expected the table in UTF-8, found {reason} in {path}: save it as CSV UTF-8") from None
    head = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count))
    try:
        lines = [(reader.line_num, [cell.strip() for cell in line]) for line in reader if any(line)]
    except csv.Error as error:
        raise LabError(f"expected a CSV table, found {error} in line {reader.line_num} of {path}: mend it") from None
    if not lines or tuple(cell.casefold() for cell in lines[0][1][:len(COLUMNS)]) != COLUMNS:
        raise LabError(f"expected the columns {', '.join(COLUMNS)}, found another first line in {path}: restore it, or "
                       "move the file away, and it is made anew without decisions")
    rows: dict[tuple[str, str], Row] = {}
    for number, cells in lines:
        if any(cells[len(COLUMNS):]):  # the file is written anew, and these would be lost
            raise LabError(f"expected the columns {', '.join(COLUMNS)} alone, found more in line {number} of {path}: "
                           "move them to another file, or into the note")
    for number, cells in lines[1:]:
        row = Row(*(cells + [""] * len(COLUMNS))[:len(COLUMNS)])
        row = replace(row, item=row.item.casefold() if row.item.casefold() in ITEMS else row.item,
                      reason=_unguarded(row.reason))
        _check(row, number, path)
        if (row.student, row.item) in rows:
            raise LabError(f"expected one row for each student and item, found a second {row.item!r} of {row.student} "
                           f"in line {number} of {path}: make one of them")
        rows[row.student, row.item] = row
    return list(rows.values())


def _check(row: Row, number: int, path: Path) -> None:
    if not row.student or not row.item:
        raise LabError(f"expected a student and an item, found none in line {number} of {path}: fill them in")
    for name, text in (("decision", row.decision), ("points", row.points)):
        try:
            if text and not (name == "decision" and row.waived):
                as_number(text)
        except ValueError:
            allowed = "nothing, waive or a number" if name == "decision" else "a number"
            raise LabError(f"expected {allowed} as {name}, found {text!r} in line {number} of {path} ({row.student}, "
                           f"{row.item}): correct it") from None


def merge(proposed: Sequence[Row], decided: Sequence[Row], note: Callable[[str], object] = lambda text: None
          ) -> list[Row]:
    """The table anew: the proposed rows with what a person wrote beside them, then rows of the person's own.

    A decision that was made for another reason, or for one that is gone, is not applied: it goes to the note.
    """
    students = {row.student for row in proposed}
    # Excel takes a number's zeros away from its front.
    bare = {student.lstrip("0"): student for student in students if student.isdigit()}
    before = {}
    for row in decided:
        student = row.student if row.student in students else bare.get(row.student, row.student)
        before[student, row.item] = replace(row, student=student)
        if student not in students:
            note(f"{NAME} has a row for {row.student}, of whom there is no record")
    rows = []
    for row in proposed:
        old = before.pop((row.student, row.item), None)
        if old is None:
            rows.append(row)
        elif not old.decision or old.reason == row.reason or row.item == "report":
            rows.append(replace(row, decision=old.decision, note=old.note))
        else:
            rows.append(replace(row, note=_noted(old)))
            note(f"{NAME}: the reason for {row.item} of {row.student} has changed, {old.decision!r} is asked for again")
    for row in before.values():  # a person's own, and proposals that are made no longer
        if row.item in ITEMS and row.student in students:
            if not row.reason:  # a person's own: what stands under points is meant as well
                row = replace(row, decision=row.decision or row.points)
            else:
                if row.decision:
                    note(f"{NAME}: the reason for {row.item} of {row.student} is gone, so {row.decision!r} does not "
                         "count any more")
                row = Row(row.student, row.item, note=_noted(row))
        if row.item not in ITEMS or row.decision or row.note:
            rows.append(row)
    order = {item: place for place, item in enumerate(ITEMS)}
    # what is to be decided first, the reports to be read last
    return sorted(rows, key=lambda row: (row.item == "report", row.student, order.get(row.item, -1), row.item))


def _noted(row: Row) -> str:
    """The note with a decision that is not applied now."""
    earlier = f"before: {row.decision}" + (f", for: {row.reason}" if row.reason else "") if row.decision else ""
    return "; ".join(text for text in (row.note, earlier) if text)


def rename(out: Path, slugs: Mapping[str, str]) -> None:
    """Hands the rows of students whose slug has changed, {old: new}, to the new one; what is decided there stays."""
    # Excel takes a number's zeros away from its front.
    slugs = {old.lstrip("0"): new for old, new in slugs.items() if old.isdigit()} | dict(slugs)
    rows: dict[tuple[str, str], Row] = {}
    for row in sorted(read_overrides(out), key=lambda row: row.student in slugs):  # those of the new slug first
        row = replace(row, student=slugs.get(row.student, row.student))
        there = rows.get((row.student, row.item))
        if there is None or (row.decision and not there.decision):
            rows[row.student, row.item] = row
    write_overrides(out, list(rows.values()))


def write_overrides(out: Path, rows: Sequence[Row]) -> None:
    """Writes the table, UTF-8 with BOM so that Excel reads it, atomically."""
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(COLUMNS)
    table.writerows(astuple(replace(row, reason=_guarded(row.reason))) for row in rows)
    with replacing(Path(out) / NAME) as temporary:
        temporary.write_bytes(text.getvalue().encode("utf-8-sig", "replace"))


def _guarded(text: str) -> str:
    """A cell that no spreadsheet takes for a formula: file names, and so reasons, are the students'."""
    return "'" + text if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _unguarded(text: str) -> str:
    return text[1:] if text[:1] == "'" and text[1:2] in ("=", "+", "-", "@", "\t", "\r") else text
