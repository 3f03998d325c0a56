"""Where everybody stands: the ranking, who led when, what was withdrawn; as the public split allows to be shown.

On a part of a reserved set the mIoU has three digits, rounded down, and the figure of merit is made of these: from an
exact one with known costs the exact mIoU would follow.
"""
import math
from collections import defaultdict
from dataclasses import dataclass, field

from grading.board.access import REFERENCE
from grading.board.store import Store
from grading.course import Course
from grading.report.points import share_ranks

WITHDRAWN, CONFIRMED = "withdrawn", "confirmed"


@dataclass(frozen=True)
class Try:
    """A scored hand-in as it may be shown. standing: proved, unverified, withdrawn, or none (there is no score)."""

    handin: str
    student: str
    nick: str
    scored: float
    miou: float | None
    macs: int | None
    kb: float | None
    fom: float | None
    state: str
    standing: str
    reason: str
    why: str
    miou1: float | None
    seconds: float

    @property
    def order(self) -> tuple[float, float]:
        """The smaller, the better: FoM first, then mIoU."""
        return (math.inf if self.fom is None else self.fom, -(self.miou or 0.0))


@dataclass
class Row:
    """A student on the board: the try that counts, and the rank among those ranked."""

    best: Try
    tries: int
    reference: bool
    rank: int | None = None
    unverified: list[Try] = field(default_factory=list)


@dataclass
class Standings:
    rows: list[Row]
    withdrawn: list[Try]
    history: list[Try]  # each try that took the lead, in time


def shown(row: dict, exact: bool) -> Try:
    """A row of the results as a Try. exact: the public split is one that students have."""
    miou, miou1, fom = row["miou"], row["miou1"], row["fom"]
    if not exact:
        from utils.complexity import figure_of_merit  # which loads torch

        miou, miou1 = (None if value is None else math.floor(value * 1000 + 1e-9) / 1000 for value in (miou, miou1))
        fom = figure_of_merit(row["macs"], row["kb"], miou) if fom is not None and miou is not None else None
    standing = ("none" if miou is None else WITHDRAWN if row["verdict"] == WITHDRAWN else
                "proved" if row["state"] == "OK" or row["verdict"] == CONFIRMED else "unverified")
    return Try(row["handin"], row["student"], row["nick"], row["scored"], miou, row["macs"], row["kb"], fom,
               row["state"], standing, row["reason"], row["why"], miou1, row["seconds"])


def tries(store: Store, exact: bool, student: str = "") -> list[Try]:
    """All scored hand-ins, or a student's, in the order in which they were accepted."""
    rows = store.read("SELECT r.*, p.nick FROM results r JOIN handins h ON h.id = r.handin JOIN people p ON p.number = "
                      "r.student WHERE ?1 = '' OR r.student = ?1 ORDER BY h.place", student)
    return [shown(row, exact) for row in rows]


def pick(found: list[Try], counts: str) -> Try:
    """The try that counts: the best or the last of those proved, or else of those that have a score, or of all."""
    for standings in (("proved",), ("unverified",), ("withdrawn", "none")):
        some = [one for one in found if one.standing in standings]
        if some:
            return some[-1] if counts == "last" else min(some, key=lambda one: one.order)
    raise ValueError("no tries")


def standings(store: Store, course: Course, exact: bool) -> Standings:
    own: dict[str, list[Try]] = defaultdict(list)
    for one in tries(store, exact):
        own[one.student].append(one)
    rows = [Row(pick(found, course.counts), len(found), student == REFERENCE,
                unverified=[one for one in found if one.standing == "unverified"]) for student, found in own.items()]
    rows = [row for row in rows if row.best.standing in ("proved", "unverified")]
    ranked = [(*row.best.order, row.best.student) for row in rows if ranks(row.best, course) and not row.reference]
    places = share_ranks(ranked)
    for row in rows:
        row.rank = places.get(row.best.student)
    rows.sort(key=lambda row: (row.best.standing != "proved", row.best.order, row.best.nick))
    everything = [one for found in own.values() for one in found]
    return Standings(rows, [one for one in everything if one.standing == WITHDRAWN], _history(everything, course))


def ranks(one: Try, course: Course) -> bool:
    return one.standing == "proved" and one.fom is not None and one.miou >= course.thresholds[2]


def _history(everything: list[Try], course: Course) -> list[Try]:
    led: list[Try] = []
    for one in sorted(everything, key=lambda one: one.scored):
        if ranks(one, course) and one.student != REFERENCE and (not led or one.fom < led[-1].fom):
            led.append(one)
    return led
