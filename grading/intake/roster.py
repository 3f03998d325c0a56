"""Reads the class's roster: who is on it, and by which names and numbers the platforms know them.

    ID number,First name,Last name,Email address      Moodle's participants; or its grading worksheet (Identifier)
    Student,ID,SIS User ID,SIS Login ID,Section       Canvas's gradebook
    number,name                                       a plain list; without a first line too
"""
import csv
import io
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from utils.lab import LabError

NUMBER = ("sis user id", "id number", "idnumber", "student number", "student id", "student_id", "matriculation number",
          "number", "id", "student")
NAME = ("full name", "name", "student name", "student")
FIRST, LAST = ("first name", "firstname", "given name"), ("last name", "surname", "lastname", "family name")
KEYS = ("sis login id", "username", "login", "email address", "email", "e-mail")
ACCOUNT = ("identifier", "id", "participant")
NOBODY = ("points possible", "student, test", "test student")  # rows of Canvas's that are no students


@dataclass(frozen=True)
class Member:
    """A line of the roster. number: the student's, or a login where the roster has no numbers.

    keys: words by which a submission's name may call the member; accounts: the platforms' numbers.
    """

    number: str
    name: str = ""
    keys: frozenset[str] = frozenset()
    accounts: frozenset[str] = frozenset()


class Roster:
    """The members of a class, found again by what stands in the names of submissions."""

    def __init__(self, members: list[Member]) -> None:
        self.members = members
        keys = [(key, member) for member in members for key in {bare(member.number), *member.keys}]
        names = [(key, member) for member in members for key in _name_keys(member.name)]
        self._keys, self._names = _unique(keys), _unique(names)
        self._accounts = _unique([(account, member) for member in members for account in member.accounts])

    def named(self, name: str) -> Member | None:
        """The only member that a name calls by number, login or full name; None for none, or for several."""
        words = [*re.split(r"[\s_]+", name.removesuffix(".zip")), *re.split(r"[\W_]+", name)]
        found = {member.number: member for word in words if (member := self._keys.get(bare(word)))}
        if not found and (member := self._names.get(_squeeze(name.removesuffix(".zip")))):
            found = {member.number: member}
        return next(iter(found.values())) if len(found) == 1 else None

    def of_account(self, person: str, account: str) -> Member | None:
        """The member whom a platform knows under a number, or, where the roster has none of these, under a name."""
        return self._accounts.get(account) or self._names.get(_squeeze(person)) or self.named(person)


def read_roster(path: Path) -> Roster:
    """The roster in a CSV file. Raises LabError, naming the line, for what cannot be understood."""
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "another encoding"
        raise LabError(f"expected a roster as CSV in UTF-8, found {reason} at {path}: check --roster, or save it as "
                       "CSV UTF-8") from None
    head = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count), strict=True)
    try:
        lines = [(reader.line_num, [cell.strip() for cell in line]) for line in reader if any(map(str.strip, line))]
    except csv.Error as error:
        raise LabError(f"expected a CSV table, found {error} in line {reader.line_num} of {path}: correct it") from None
    columns = {name.casefold(): place for place, name in reversed(list(enumerate(lines[0][1])))} if lines else {}
    headed = any(name in columns for name in (*NUMBER, *NAME, *FIRST))
    members = []
    for line, cells in lines[headed:]:
        row = {name: cells[place] if place < len(cells) else "" for name, place in columns.items()}
        member = _member(row) if headed else _plain_member(cells)
        if member is None:
            continue
        if not member.number:
            raise LabError(f"expected a student's number, found none in line {line} of {path}: fill it in, or remove "
                           "the line")
        members.append(member)
    twice = [number for number, count in Counter(bare(member.number) for member in members).items() if count > 1]
    if twice:
        raise LabError(f"expected each student once, found {twice[0]} in two lines of {path}: remove one")
    if not members:
        raise LabError(f"expected a line for each student, found none in {path}: check --roster")
    return Roster(members)


def bare(word: str) -> str:
    """A number or login for comparison: no case, and without the zeros in front, which Excel takes away."""
    word = word.strip().casefold()
    return word.lstrip("0") if word.isdecimal() else word


def _member(row: dict[str, str]) -> Member | None:
    """The member in a line, by the names of its columns; None for a line that is no student's."""
    column = next((name for name in NUMBER if row.get(name)), "")
    number = row.get(column, "")
    if column == "student" and not re.search(r"\d", number):  # Canvas's column of names
        column = number = ""
    if column == "id" and "sis user id" in row:  # Canvas's own number of a student without another
        number = ""
    name = next((row[key] for key in NAME if key != column and row.get(key)), "") or " ".join(
        next((row[key] for key in keys if row.get(key)), "") for keys in (FIRST, LAST)).strip()
    if (not number and not name) or (name or number).casefold().startswith(NOBODY):
        return None
    keys = {row[key].casefold() for key in KEYS if row.get(key)}
    keys |= {key.partition("@")[0] for key in keys}
    accounts = {digits for key in ACCOUNT if key != column or not number
                for digits in re.findall(r"\d+", row.get(key, ""))}
    return Member(number or min(keys, key=len, default=""), name, frozenset(keys), frozenset(accounts))


def _plain_member(cells: list[str]) -> Member:
    """A line without a first line above: the cell with digits is the number, the others are the name."""
    number = next((cell for cell in cells if re.search(r"\d", cell) and "@" not in cell), "")
    name = " ".join(cell for cell in cells if cell != number and "@" not in cell)
    return Member(number, name, frozenset(cell.casefold() for cell in cells if "@" in cell))


def _name_keys(name: str) -> set[str]:
    """A full name as it may be written: Ada Lovelace, Lovelace, Ada, lovelaceada (Canvas)."""
    if not name:
        return set()
    last, comma, first = name.partition(",")
    words = name.split()
    return {_squeeze(name), _squeeze(first + last) if comma else _squeeze(" ".join(words[-1:] + words[:-1]))}


def _squeeze(name: str) -> str:
    """The letters of a name, for comparison."""
    return "".join(char for char in unicodedata.normalize("NFKC", name).casefold() if char.isalpha())


def _unique(pairs: list[tuple[str, Member]]) -> dict[str, Member]:
    """The keys that name one member only."""
    counts = Counter(key for key, _ in set(pairs))
    return {key: member for key, member in pairs if key and counts[key] == 1}
