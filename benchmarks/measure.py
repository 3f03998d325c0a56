"""Competitors measured in turns within one run, so that whatever slows the machine down slows all of them.

The figure to rely on is CPU time (all threads of the process, and its worker processes once they have ended): other
users of the machine do not count in it. Wall time stands beside it.
"""
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tqdm import tqdm

from utils.lab import LabError
from utils.terminal import bar_stream

try:
    import resource
except ImportError:  # Windows, where worker processes are not counted
    resource = None


class Cost(NamedTuple):
    """Seconds of CPU and of wall time."""

    cpu: float
    wall: float

    def __sub__(self, other: "Cost") -> "Cost":
        return Cost(self.cpu - other.cpu, self.wall - other.wall)


def now() -> Cost:
    """The clocks; only differences mean something."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN) if resource else None
    ended = children.ru_utime + children.ru_stime if children else 0.0
    return Cost(time.process_time() + ended, time.perf_counter())


@dataclass(frozen=True)
class Goal:
    """What a row's ratio must be, at least or at most, in CPU or in wall time."""

    at_least: float | None = None
    at_most: float | None = None
    by: str = "cpu"

    def met(self, ratio: Cost) -> bool:
        value = getattr(ratio, self.by)
        return value >= self.at_least if self.at_least is not None else value <= self.at_most

    def __str__(self) -> str:
        bound = f">= {self.at_least:,g}" if self.at_least is not None else f"<= {self.at_most:,g}"
        return f"{bound} {self.by}"


@dataclass(frozen=True)
class Road:
    """One competitor. `run` does `units` of the table's unit; if it returns a Cost, that is what it took.

    missing: why it cannot be measured here; `run` is then not called.
    """

    name: str
    run: Callable[[], object] | None = None
    units: int = 1
    goal: Goal | None = None
    note: str = ""
    missing: str = ""


@dataclass
class Row:
    """A road and what one unit of it cost in each round."""

    road: Road
    costs: list[Cost] = field(default_factory=list)
    note: str = ""

    @property
    def median(self) -> Cost:
        return Cost(*(statistics.median(values) for values in zip(*self.costs, strict=True)))

    @property
    def spread(self) -> float:
        """Half of the span of the rounds' CPU times, as a share of their median."""
        values = [cost.cpu for cost in self.costs]
        return (max(values) - min(values)) / 2 / self.median.cpu if self.median.cpu else 0.0


@dataclass
class Table:
    """Rows, and the one that all are compared with: a row's ratio is how many times the reference's cost it takes."""

    name: str
    title: str
    unit: str
    rows: list[Row]

    @property
    def reference(self) -> Row:
        return self.rows[0]

    def ratio(self, row: Row) -> Cost | None:
        if row.road.missing or self.reference.road.missing:
            return None
        return Cost(*(value / base if base else float("nan")
                      for value, base in zip(row.median, self.reference.median, strict=True)))

    def verdict(self, row: Row) -> str:
        """met, MISSED or not measured; empty for a row without a goal."""
        if row.road.goal is None:
            return ""
        ratio = self.ratio(row)
        if ratio is None:
            return "not measured"
        return "met" if row.road.goal.met(ratio) else "MISSED"

    def row(self, name: str) -> Row:
        return next(row for row in self.rows if row.road.name == name)


def measure(name: str, title: str, unit: str, roads: Sequence[Road], rounds: int,
            clock: Callable[[], Cost] = now) -> Table:
    """Runs all roads once in each round, every other round in reverse order; the first is what they are compared with.

    Nothing is warmed up here: most often the check that competitors agree comes first, and has run each of them.
    """
    rows = [Row(road, note=road.note) for road in roads]
    present = [row for row in rows if not row.road.missing]
    order = itertools.chain.from_iterable(present[::-1] if number % 2 else present for number in range(rounds))
    with tqdm(order, desc=name, total=rounds * len(present), leave=False, file=bar_stream(),
              disable=not present) as turns:
        for row in turns:
            started = clock()
            cost = row.road.run()
            taken = clock() - started
            if isinstance(cost, Cost):
                taken = cost
            row.costs.append(Cost(*(value / row.road.units for value in taken)))
    return Table(name, title, unit, rows)


def require(agree: bool, what: str, found: str = "others") -> None:
    """Raises LabError unless the competitors `agree`: being faster at something else is no gain."""
    if not agree:
        raise LabError(f"expected {what}, found {found}: nothing is measured until these competitors agree")
