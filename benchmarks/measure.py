"""Measures competitors in turns within one run, so that whatever slows the machine down slows all of them."""
import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import torch
from tqdm import tqdm

from utils.lab import LabError
from utils.machine import available_cores
from utils.tables import aligned
from utils.terminal import bar_stream

try:
    import resource
except ImportError:  # Windows, where child processes are not counted
    resource = None


class NotMeasuredError(Exception):
    """Says why a benchmark cannot run on this machine."""


def cpu_seconds() -> float:
    """CPU time of this process's threads and of its child processes that have ended: other users do not count in it."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN) if resource else None
    return time.process_time() + (children.ru_utime + children.ru_stime if children else 0.0)


CLOCKS = {"cpu": cpu_seconds, "wall": time.perf_counter}


@dataclass
class Timed:
    """One competitor: each call of `run` does `units` of the table's unit; seconds for one unit in each round.

    at_least, at_most: the goal, for how many times the first row's seconds this one takes.
    """

    name: str
    run: Callable[[], object]
    units: int = 1
    at_least: float | None = None
    at_most: float | None = None
    seconds: list[float] = field(default_factory=list)


@dataclass
class Table:
    """Rows that do the same work; the first is the one that all are compared with.

    clock: one of CLOCKS. cores: how many this process and its children may use. warm: whether every row runs once
    before the first round.
    """

    title: str
    unit: str
    rows: list[Timed]
    clock: str = "cpu"
    cores: int = 1
    warm: bool = True

    def measure(self, rounds: int) -> "Table":
        """Runs every row once in each round, every other round in reverse order."""
        order = [row for number in range(rounds) for row in self.rows[::-1 if number % 2 else 1]]
        with hold(self.cores):
            for row in self.rows if self.warm else ():
                row.run()
            for row in tqdm(order, self.title.split(",")[0], leave=False, file=bar_stream()):
                started = CLOCKS[self.clock]()
                row.run()
                row.seconds.append((CLOCKS[self.clock]() - started) / row.units)
        return self

    def content(self) -> list[dict]:
        """The rows for a JSON file: median, half of the rounds' span over it, ratio to the first row, goal, rounds."""
        rows, base = [], statistics.median(self.rows[0].seconds)
        for row in self.rows:
            median = statistics.median(row.seconds)
            ratio, goal, verdict = median / base, "", ""
            if row.at_least or row.at_most:
                goal = f">= {row.at_least:,g}" if row.at_least else f"<= {row.at_most:,g}"
                verdict = "met" if (ratio >= row.at_least if row.at_least else ratio <= row.at_most) else "MISSED"
            span = max(row.seconds) - min(row.seconds)
            rows.append({"name": row.name, "seconds": median, "spread": span / 2 / median, "ratio": ratio, "goal": goal,
                         "verdict": verdict, "rounds": row.seconds})
        return rows

    def __str__(self) -> str:
        cells = [("", "ms", "+-", "ratio", "goal", "")]
        cells += [(row["name"], _figure(1e3 * row["seconds"]), f"{100 * row['spread']:.0f} %", _figure(row["ratio"]),
                   row["goal"], row["verdict"]) for row in self.content()]
        lines = [f"  {line}" for line in aligned(cells, left=(0, 4, 5))]
        return "\n".join([f"{self.title} ({self.clock} time, {self.unit})", *lines])


@contextlib.contextmanager
def hold(cores: int) -> Iterator[None]:
    """Keeps this process, and what it starts meanwhile, to the last `cores` of the cores that it may use."""
    threads, allowed = torch.get_num_threads(), None
    if hasattr(os, "sched_setaffinity"):
        allowed = os.sched_getaffinity(0)
        os.sched_setaffinity(0, sorted(allowed)[-cores:])
    torch.set_num_threads(min(cores, available_cores()))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if allowed:
            os.sched_setaffinity(0, allowed)


def require(agree: bool, what: str, found: str = "others") -> None:
    """Raises LabError unless the competitors agree: being faster at something else is no gain."""
    if not agree:
        raise LabError(f"expected {what}, found {found}: nothing is measured until these competitors agree")


def exhaust(items: Iterable) -> None:
    for _ in items:
        pass


def _figure(value: float) -> str:
    """Three significant digits or more."""
    if value < 0.1:
        return f"{value:.3g}"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.3f}"
