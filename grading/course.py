"""The course's own numbers: points, thresholds, the rule from rank to points, the deadline. One small TOML file."""
import datetime
import math
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from utils.lab import POINTS, TASKS, LabError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT = Path(__file__).with_name("course.toml")
RULES = ("linear", "steps")


@dataclass(frozen=True)
class Course:
    """What points are worked out by; the defaults are the lab's."""

    points: dict[str, float]        # task1, task2, rank, report (0 or more), naming, late (0 or less)
    thresholds: dict[int, float]    # task -> mIoU
    rule: str = "linear"
    steps: tuple[tuple[float, float], ...] = ()   # (share of those ranked, points), both in order
    deadline: datetime.datetime | None = None     # with its zone

    def rank_points(self, rank: int, ranked: int) -> float:
        """The points of the rank-th (from 1) of `ranked` students."""
        if self.rule == "linear":
            return self.points["rank"] * (ranked - rank + 1) / ranked
        # a tenth of ten students is one of them, although 0.1 * 10 may come out as a little more
        return next((points for share, points in self.steps if rank <= share * ranked + 1e-9), 0.0)

    def days_late(self, submitted: str | None) -> int:
        """Days begun after the deadline, 0 where one of the two times is not known; `submitted` is ISO 8601."""
        if self.deadline is None or not submitted:
            return 0
        late = datetime.datetime.fromisoformat(submitted.replace("Z", "+00:00")) - self.deadline
        return max(0, math.ceil(late / datetime.timedelta(days=1)))


def read_course(path: Path | None = None) -> Course:
    """The course in the TOML file `path`, by default the lab's own. Raises LabError, naming the key, for what is wrong.
    """
    path = Path(path or DEFAULT)
    tables = _read(path)
    known = {"points": {"task1", "task2", "rank", "report", "naming", "late"}, "thresholds": {"task1", "task2"},
             "rank": {"rule", "steps"}, "deadline": {"at"}}
    for table, entries in tables.items():
        if table not in known or not isinstance(entries, dict):
            raise LabError(f"expected the tables {', '.join(known)}, found {table!r} in {path}: see {DEFAULT.name}")
        for key in entries:
            if key not in known[table]:
                raise LabError(f"expected {', '.join(sorted(known[table]))} in [{table}], found {key!r} in {path}: "
                               "remove it, or correct its spelling")
    points = {"task1": POINTS["task 1 mIoU"], "task2": POINTS["task 2 mIoU"], "rank": POINTS["task 2 rank by FoM"],
              "report": POINTS["report"], "naming": POINTS["naming error"], "late": 0}
    for key, value in tables.get("points", {}).items():
        deduction = key in ("naming", "late")
        points[key] = _number(value, f"points.{key}", path, *((-1000, 0) if deduction else (0, 1000)))
    thresholds = {number: _number(tables.get("thresholds", {}).get(f"task{number}", task.miou),
                                  f"thresholds.task{number}", path, 0, 1) for number, task in TASKS.items()}
    rank = tables.get("rank", {})
    return Course(points, thresholds, *_rule(rank, points["rank"], path),
                  _deadline(tables.get("deadline", {}).get("at"), path))


def _read(path: Path) -> dict:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise LabError(f"expected the course's file, found {error.strerror} at {path}: check --course") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LabError(f"expected TOML in UTF-8, found an error in {path} ({error}): mend it there") from None


def _number(value: object, key: str, path: Path, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise LabError(f"expected a number from {low} to {high} as {key}, found {value!r} in {path}: correct it")
    return value


def _rule(rank: dict, most: float, path: Path) -> tuple[str, tuple[tuple[float, float], ...]]:
    rule, steps = rank.get("rule", "linear"), rank.get("steps")
    if rule not in RULES:
        raise LabError(f"expected {' or '.join(RULES)} as rank.rule, found {rule!r} in {path}: choose one")
    if (rule == "steps") != (steps is not None):
        raise LabError(f"expected steps with the rule steps and only there, found rule {rule!r} "
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


def _deadline(at: object, path: Path) -> datetime.datetime | None:
    if at is None:
        return None
    if not isinstance(at, datetime.datetime):
        raise LabError(f"expected a day and a time as deadline.at, found {at!r} in {path}: "
                       "write 2026-12-24T23:59:00, without quotes")
    return at.astimezone()  # without a zone it is taken as local time
