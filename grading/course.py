"""The numbers of the course: points, thresholds, rank to points, deadline, a student's number. One small TOML file."""
import datetime
import math
import re
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from handin.names import number_pattern
from utils.lab import STUDENT_NUMBER, STUDENT_NUMBER_FORM, TASKS, LabError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT = Path(__file__).with_name("course.toml")
KEYS = {"points": ("task1", "task2", "rank", "report", "naming", "late"), "thresholds": ("task1", "task2"),
        "rank": ("rule", "steps"), "student": ("number", "words"), "deadline": ("at",),
        "kit": ("address",), "board": ("quota", "counts", "baseline")}
DEDUCTIONS = ("naming", "late")
RULES = ("linear", "steps")
COUNTS = ("best", "last")
MOST_POINTS = 1000
NO_NUMBERS = ("", "Lab05", "task1", "report", "Lovelace", "2026")  # a form that these fit finds numbers everywhere


@dataclass(frozen=True)
class Course:
    """What the points follow from."""

    points: dict[str, float]        # task1, task2, rank, report (0 or more), naming, late (0 or less)
    thresholds: dict[int, float]    # task -> mIoU
    rule: str = "linear"
    steps: tuple[tuple[float, float], ...] = ()   # (share of those ranked, points), both in order
    deadline: datetime.datetime | None = None     # with its time zone
    number: str = STUDENT_NUMBER                  # the form of a student's number, a regular expression
    number_words: str = STUDENT_NUMBER_FORM
    address: str = ""                             # where notebooks that are opened alone fetch the kit
    quota: int = 10           # hand-ins of a student that the board scores a day
    counts: str = "best"      # of a student's hand-ins on the board: best or last
    baseline: datetime.datetime | None = None     # by when each student has to have a scored hand-in on the board

    def rank_points(self, rank: int, ranked: int) -> float:
        """The points of the rank-th (from 1) of `ranked` students."""
        if self.rule == "linear":
            return self.points["rank"] * (ranked - rank + 1) / ranked
        # A tenth of ten students is one of them, although 0.1 * 10 may come out as a little more.
        return next((points for share, points in self.steps if rank <= share * ranked + 1e-9), 0.0)

    def days_late(self, submitted: str | None) -> int:
        """Days begun after the deadline, 0 where one of the two times is not known; `submitted` is ISO 8601."""
        if self.deadline is None or not submitted:
            return 0
        late = datetime.datetime.fromisoformat(submitted.replace("Z", "+00:00")) - self.deadline
        return max(0, math.ceil(late / datetime.timedelta(days=1)))


def read_course(path: Path | None = None) -> Course:
    """The course in the TOML file `path`. Raises LabError, naming the key, for what is wrong.

    What the file leaves out is as in grading/course.toml; thresholds and the form of a student's number that stand in
    neither are those of utils.lab.
    """
    default, own = _read(DEFAULT), _read(path) if path else {}
    path = Path(path or DEFAULT)
    tables = {table: {**default.get(table, {}), **own.get(table, {})} for table in KEYS}
    for table in ("rank", "student"):  # a rule and its steps belong together, and so do a form and its words
        tables[table] = own.get(table) or default.get(table, {})
    points = {key: _number(tables["points"].get(key), f"points.{key}", path,
                           *((-MOST_POINTS, 0) if key in DEDUCTIONS else (0, MOST_POINTS))) for key in KEYS["points"]}
    thresholds = {number: _number(tables["thresholds"].get(f"task{number}", task.miou), f"thresholds.task{number}",
                                  path, 0, 1) for number, task in TASKS.items()}
    return Course(points, thresholds, *_rule(tables["rank"], points["rank"], path),
                  _moment(tables["deadline"].get("at"), "deadline.at", path), *_number_form(tables["student"], path),
                  _address(tables["kit"].get("address", ""), path), *_board(tables["board"], path))


def _read(path: Path) -> dict[str, dict]:
    path = Path(path)
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise LabError(f"expected the course's file, found {error.strerror} at {path}: check --course") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LabError(f"expected TOML in UTF-8, found an error in {path} ({error}): correct it there") from None
    for table, entries in tables.items():
        if table not in KEYS or not isinstance(entries, dict):
            raise LabError(f"expected the tables {', '.join(KEYS)}, found {table!r} in {path}: see {DEFAULT.name}")
        for key in entries:
            if key not in KEYS[table]:
                raise LabError(f"expected {', '.join(KEYS[table])} in [{table}], found {key!r} in {path}: "
                               "remove it, or correct its spelling")
    return tables


def _number(value: object, key: str, path: Path, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise LabError(f"expected a number from {low} to {high} as {key}, found {value!r} in {path}: correct it")
    return value


def _rule(rank: dict, most: float, path: Path) -> tuple[str, tuple[tuple[float, float], ...]]:
    rule, steps = rank.get("rule", "linear"), rank.get("steps")
    if rule not in RULES:
        raise LabError(f"expected {' or '.join(RULES)} as rank.rule, found {rule!r} in {path}: choose one")
    if (rule == "steps") != (steps is not None):
        raise LabError(f"expected rank.steps with the rule steps, and with no other, found rule {rule!r} "
                       f"{'without' if steps is None else 'with'} them in {path}: see {DEFAULT.name}")
    if steps is None:
        return rule, ()
    if not isinstance(steps, list) or not steps or not all(isinstance(step, list) and len(step) == 2 for step in steps):
        raise LabError(f"expected rank.steps as [[share, points], ...], found {steps!r} in {path}: see {DEFAULT.name}")
    checked = tuple((_number(share, "a share in rank.steps", path, 0, 1),
                     _number(points, "points in rank.steps", path, 0, most)) for share, points in steps)
    if list(checked) != sorted(checked, key=lambda step: (step[0], -step[1])) or \
            any(later[1] > earlier[1] for earlier, later in pairwise(checked)):
        raise LabError(f"expected rank.steps with growing shares and falling points, found {steps!r} in {path}: "
                       "put them in order")
    return rule, checked


def _board(board: dict, path: Path) -> tuple[int, str, datetime.datetime | None]:
    quota, counts = _number(board.get("quota"), "board.quota", path, 1, 1000), board.get("counts")
    if counts not in COUNTS:
        raise LabError(f"expected {' or '.join(COUNTS)} as board.counts, found {counts!r} in {path}: choose one")
    return int(quota), counts, _moment(board.get("baseline"), "board.baseline", path)


def _moment(at: object, key: str, path: Path) -> datetime.datetime | None:
    if at is None:
        return None
    if not isinstance(at, datetime.datetime):
        raise LabError(f"expected a day and a time as {key}, found {at!r} in {path}: write 2026-12-24T23:59:00, "
                       "without quotes")
    return at if at.tzinfo else at.astimezone()  # without a time zone it is this machine's


def _number_form(student: dict, path: Path) -> tuple[str, str]:
    """The form of a student's number, and the words for it."""
    form, words = student.get("number"), student.get("words")
    if not student:
        return STUDENT_NUMBER, STUDENT_NUMBER_FORM
    try:
        wrong = not isinstance(form, str) or [word for word in NO_NUMBERS if re.fullmatch(number_pattern(form), word)]
    except re.error as error:
        wrong = str(error)
    if wrong:
        raise LabError("expected as student.number a regular expression for whole numbers, which fits no other words, "
                       f"such as '[A-Z][0-9]{{8}}', found {form!r}{f' ({wrong})' if isinstance(wrong, str) else ''} in "
                       f"{path}: correct it")
    if not isinstance(words, (str, type(None))) or words == "":
        raise LabError(f"expected as student.words a few words, found {words!r} in {path}: write 'a letter and 8 "
                       "digits', for one")
    return form, words or f"the form {form}"


def _address(address: object, path: Path) -> str:
    suffixes = (".tar", ".tar.gz", ".tgz", ".zip")
    if address and not (isinstance(address, str) and re.fullmatch(r"(https?|file)://[^\s\"'\\]+", address)
                        and address.endswith(suffixes)):
        raise LabError(f"expected an address that ends in {', '.join(suffixes)} as kit.address, found {address!r} in "
                       f"{path}: it is where students' notebooks fetch the kit")
    return address
