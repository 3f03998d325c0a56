"""REPORT/overrides.csv: what the grader proposes and what a person decides, a row for each question.

    student, item, reason, points, decision, note

`item` is owner, naming, late, task 1, task 2 or report; any other item is a person's own row, which adds its points.
`decision` may also be `withdraw` for a task, with the reason under note: the score stays visible and counts nothing.
`decision` is empty (as proposed; a flagged task then stays open), or `waive` (no deduction; a flagged task counts), or
the points to give instead. An owner is asked for where two submissions claim one number: neither counts until one has
`waive`. A row of these items that a person adds, with an empty reason, counts as well.

Every grading and every report writes the file again and keeps what a person wrote. The older file is copied to
REPORT/overrides-backup/ first, under the date and time. The file is read strictly: what is not understood is an error.
"""
import csv
import datetime
import difflib
import io
import re
import shutil
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path

from utils.files import replacing
from utils.lab import TASKS, LabError

NAME = "overrides.csv"
BACKUPS = "overrides-backup"
TASK_ITEMS = tuple(f"task {number}" for number in TASKS)
ITEMS = ("owner", "naming", "late", *TASK_ITEMS, "report")
# Items of the points' table that are not asked for under this name, or not at all: (spelling, what to write).
OTHER_NAMES = {**{f"task {number} mIoU": f"task {number}" for number in TASKS}, "naming error": "naming",
               "names": "naming", "rank": "", "task 2 rank by FoM": "", "total": ""}
WAIVE = {"waive", "waived", "accept", "accepted", "ok"}
WITHDRAW = {"withdraw", "withdrawn"}
MOST_POINTS = 1000
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # how a spreadsheet's formula begins


@dataclass(frozen=True)
class Override:
    """A row of the table; `student` is the record's slug, which is the student's number wherever that is known."""

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
    def withdrawn(self) -> bool:
        return self.decision.casefold() in WITHDRAW

    @property
    def number(self) -> float | None:
        """The decision as points; None where it is not a number."""
        return None if self.waived or self.withdrawn or not self.decision else as_number(self.decision)

    @property
    def decided(self) -> str:
        """The decision, or the points of a person's own row; "" where nobody has decided."""
        return self.decision or (self.points if self.item not in ITEMS or not self.reason else "")

    @property
    def noted(self) -> str:
        """The note, with a decision that no longer counts added to it."""
        earlier = f"before: {self.decided}" + (f", for: {self.reason}" if self.reason else "") if self.decided else ""
        return "; ".join(text for text in (self.note, earlier) if text)

    def keeps(self, older: "Override") -> bool:
        """Whether everything that a person wrote in the `older` row is in this one, or in its note."""
        return older.note in self.note and (older.decided in ("", self.decided)
                                            or f"before: {older.decided}" in self.note)


COLUMNS = tuple(field.name for field in fields(Override))


def as_number(text: str) -> float:
    """Points as a person or Excel writes them: 5, -2.5, -2,5. Raises ValueError for anything else.

    Three digits after a comma may be a fraction or a thousand, so they are refused like more than 1000 points.
    """
    text = text.strip().replace("\N{MINUS SIGN}", "-")
    if not re.fullmatch(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)", text) or re.search(r",\d{3}$", text):
        raise ValueError(text)
    value = float(text.replace(",", "."))
    if abs(value) > MOST_POINTS:
        raise ValueError(text)
    return value


def read_overrides(out: Path) -> list[Override]:
    """The rows of REPORT/overrides.csv as a person left them; none where there is no file.

    Excel may have saved it, with another delimiter or without a BOM. Raises LabError, naming the line, for what is not
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
    lines = list(_lines(text, path))
    if not lines or tuple(cell.casefold() for cell in lines[0][1][:len(COLUMNS)]) != COLUMNS:
        raise LabError(f"expected the columns {', '.join(COLUMNS)}, found another first line in {path}: restore it, or "
                       "move the file away, and it is made again without decisions")
    rows: dict[tuple[str, str], Override] = {}
    for number, cells in lines:
        if any(cells[len(COLUMNS):]):  # the file is written again, and these would be lost
            raise LabError(f"expected the columns {', '.join(COLUMNS)} alone, found more in line {number} of {path}: "
                           "move them to another file, or into the note")
        if len(cells) < len(COLUMNS):
            raise LabError(f"expected {len(COLUMNS)} cells, found {len(cells)} in line {number} of {path}: write a "
                           "comma for each empty cell")
    for number, cells in lines[1:]:
        row = Override(*cells[:len(COLUMNS)])
        row = replace(row, reason=_unguarded(row.reason), item=_item(row.item, number, path))
        _check_cells(row, number, path)
        if (row.student, row.item) in rows:
            raise LabError(f"expected one row for each student and item, found a second {row.item!r} of {row.student} "
                           f"in line {number} of {path}: make one of them")
        rows[row.student, row.item] = row
    return list(rows.values())


def _lines(text: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not empty, each with the number of the line it begins in."""
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    advice = 'a cell that begins with " must end with one, so close it there or remove it'
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise LabError(f"expected a CSV table, found {error} in line {number} of {path}: {advice}") from None
        # A quote that nobody closed may find another one far below; the rows in between then are one cell's text.
        if any(line.count(delimiter) >= len(COLUMNS) - 1 for cell in cells for line in cell.splitlines()[1:]):
            raise LabError(f"expected one row, found a cell with whole rows in it that begins in line {number} of "
                           f"{path}: {advice}")
        if any(cells):
            yield number, [cell.strip() for cell in cells]


def _item(text: str, number: int, path: Path) -> str:
    """The item as it is written here. Raises LabError for one that is nearly one of ours: it is not guessed."""
    if text.casefold() in ITEMS:
        return text.casefold()
    ours = {_letters(item): item for item in ITEMS} | {_letters(item): use for item, use in OTHER_NAMES.items()}
    near = difflib.get_close_matches(_letters(text), ours, 1, 0.8)
    if near:
        advice = f"write {ours[near[0]]!r}, or, if it" if ours[near[0]] else "if it"
        raise LabError(f"expected {', '.join(ITEMS)} or an item of your own, found {text!r} in line {number} of "
                       f"{path}: {advice} is your own, give it another name, such as 'correction'")
    return text


def _letters(text: str) -> str:
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", text)).casefold()


def _check_cells(row: Override, number: int, path: Path) -> None:
    if not row.student or not row.item:
        raise LabError(f"expected a student and an item, found none in line {number} of {path}: fill them in")
    if row.item == "owner" and row.decision and not row.waived:
        raise LabError(f"expected nothing or waive as decision, found {row.decision[:60]!r} in line {number} of {path} "
                       f"({row.student}, owner): waive says that the submission is theirs")
    # No proposal of ours, and easily meant as a decision:
    if row.reason and row.item in (*TASK_ITEMS, "report") and row.points not in ("", "0"):
        raise LabError(f"expected the points of a decision under decision, found {row.points!r} under points in line "
                       f"{number} of {path} ({row.student}, {row.item}): move them there")
    if row.withdrawn and (row.item not in TASK_ITEMS or not row.note):
        what = "the reason under note" if row.item in TASK_ITEMS else f"withdraw for {' or '.join(TASK_ITEMS)} alone"
        raise LabError(f"expected {what}, found {row.decision!r} and {row.note[:60]!r} in line {number} of {path} "
                       f"({row.student}, {row.item}): correct it")
    for name, text in (("decision", row.decision), ("points", row.points)):
        try:
            if text and not (name == "decision" and (row.waived or row.withdrawn)):
                as_number(text)
        except ValueError:
            allowed = f"a number from -{MOST_POINTS} to {MOST_POINTS}, such as 17.5"
            allowed = f"nothing, waive, withdraw or {allowed}," if name == "decision" else f"{allowed},"
            raise LabError(f"expected {allowed} as {name}, found {text[:60]!r} in line {number} of {path} "
                           f"({row.student}, {row.item}): correct it") from None


def full_names(students: Iterable[str]) -> dict[str, str]:
    """{a number without the zeros at its front: the number}, as Excel takes them away; without those of two numbers."""
    found = defaultdict(set)
    for student in students:
        if student.isdigit():
            found[student.lstrip("0")].add(student)
    return {bare: numbers.pop() for bare, numbers in found.items() if len(numbers) == 1}


def rename(out: Path, slugs: Mapping[str, str]) -> None:
    """Hands the rows of students whose slug has changed, {old: new}, to the new one.

    What is decided there already stays; what was decided under the old slug then goes to the note.
    """
    slugs = {bare: slugs[old] for bare, old in full_names(slugs).items()} | dict(slugs)
    before = read_overrides(out)
    rows: dict[tuple[str, str], Override] = {}
    for row in sorted(before, key=lambda row: row.student in slugs):  # those of the new slug first
        row = replace(row, student=slugs.get(row.student, row.student))
        there = rows.get((row.student, row.item))
        if there is not None:
            first, second = (there, row) if there.decision or not row.decision else (row, there)
            row = replace(first, note="; ".join(text for text in (first.note, second.noted) if text))
        rows[row.student, row.item] = row
    write_overrides(out, list(rows.values()), slugs)


def write_overrides(out: Path, rows: Sequence[Override], slugs: Mapping[str, str] | None = None) -> None:
    """Writes the table, UTF-8 with BOM so that Excel reads it, and copies the older one to REPORT/overrides-backup/.

    slugs: students whose name in the table has changed, {old: new}. Raises LabError, and writes nothing, if something
    that a person wrote in the file would get lost.
    """
    path = Path(out) / NAME
    by_place = {(row.student, row.item): row for row in rows}
    names = full_names(row.student for row in rows) | dict(slugs or {})
    for row in read_overrides(out):
        place = (row.student, row.item)
        new = by_place.get(place) or by_place.get((names.get(row.student), row.item), Override(*place))
        if not new.keeps(row):
            raise LabError(f"expected to keep what a person wrote, found no place for {row.noted!r} ({row.student}, "
                           f"{row.item}) of {path}: nothing was written; if the file was changed a moment ago, call "
                           "this again")
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(COLUMNS)
    table.writerows(astuple(replace(row, reason=guarded(row.reason))) for row in rows)
    content = text.getvalue().encode("utf-8-sig", "replace")
    if path.exists() and path.read_bytes() != content:
        _back_up(path)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def _back_up(path: Path) -> None:
    day = f"{datetime.datetime.now():%Y-%m-%d_%H-%M-%S}"
    names = (f"{day}{number}.csv" for number in ("", *(f"-{number}" for number in range(2, 1000))))
    copy = next(copy for name in names if not (copy := path.parent / BACKUPS / name).exists())
    with replacing(copy) as temporary:
        shutil.copyfile(path, temporary)


def guarded(text: str) -> str:
    """A cell that no spreadsheet takes for a formula: file names, and so reasons, are the students'."""
    return "'" + text if text.startswith(FORMULA) else text


def _unguarded(text: str) -> str:
    return text[1:] if text[:1] == "'" and text[1:].startswith(FORMULA) else text
