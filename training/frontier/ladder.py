"""Rungs of task 2's ladder: read from text, counted and planned before any training.

The network file is the student's, so it is loaded by its path, and every fault of it ends in one line.
"""
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType

from utils.complexity import count_flops, count_size, figure_of_merit
from utils.evaluation import load_network, student_code
from utils.lab import FOM_OFFSET, TASKS, LabError
from utils.tables import markdown

NEEDED = ("rungs", "Rung", "LowComplexityNet", "fold")
GUESSES = (0.66, 0.665, 0.68)  # what mIoU a plan assumes: the gate, a little above it, with room to spare
EXPLAINED = (
    f"ln FoM = 2 ln P - ln(mIoU - {FOM_OFFSET}): every halving of P divides the FoM by 4, 0.68 instead of 0.665 by 2.\n"
    "If mIoU rises by s points with each doubling of P, the best margin over "
    f"{FOM_OFFSET} is s / (2 ln 2), about 0.72 s points.")


@dataclass(frozen=True)
class Cost:
    """What a folded network costs: multiply-accumulates a picture, parameters, KB of all its tensors."""

    macs: int
    parameters: int
    kb: float

    @property
    def product(self) -> float:
        """P = MACs x KB, whose square is the FoM's numerator."""
        return self.macs * self.kb


class Ladder:
    """Task 2's network file as the frontier needs it. Raises LabError if it lacks one of NEEDED or does not load."""

    def __init__(self) -> None:
        self.file = TASKS[2].network_file
        self.module: ModuleType = load_network(self.file)
        lacking = [name for name in NEEDED if not callable(getattr(self.module, name, None))]
        if lacking:
            raise LabError(f"expected {', '.join(NEEDED)} in {self.file}, found no {lacking[0]}: keep the ones of the "
                           "hand-out")
        with student_code(f"a table of networks, rungs(), in {self.file}"):
            self.fields, self.defaults = self.module.Rung._fields, self.module.Rung._field_defaults
            self.named = {name: self.module.Rung(*rung) for name, rung in self.module.rungs().items()}
        if not self.named:
            raise LabError(f"expected networks in rungs() of {self.file}, found none: add a row")

    @property
    def reference(self) -> str:
        """The rung that the others are compared with: `safe`, or the first where there is none of that name."""
        return "safe" if "safe" in self.named else next(iter(self.named))

    def read(self, text: str) -> tuple[str, Sequence]:
        """The rung that `text` stands for, and what it is called: its name in the table where it is there.

        `lean`; `lean,block=grouped`; `12/20/32,0/2/3`; `12/20/32,0/2/3,refine=1,context=0`. Raises LabError.
        """
        first, *changes = text.replace(" ", "").split(",")
        try:
            if first in self.named:
                values = self.named[first]._asdict()
            else:
                values = {**self.defaults, self.fields[0]: _numbers(first), self.fields[1]: _numbers(changes.pop(0))}
            for change in changes:
                field, value = change.split("=")
                before = values[field]
                values[field] = (type(before)(int(value)) if isinstance(before, int)
                                 else _numbers(value) if isinstance(before, tuple) else value)
            rung = self.module.Rung(**values)
        except (ValueError, IndexError, KeyError, TypeError):
            raise LabError(f"expected a rung of {self.file} ({', '.join(self.named)}), one with changes such as "
                           f"{self.reference},block=grouped, or a text such as 12/20/32,0/2/3,refine=1,context=0, "
                           f"found {text!r}: check it") from None
        blocks, block = getattr(self.module, "BLOCKS", None), values.get("block")
        if blocks and block not in blocks:
            raise LabError(f"expected a block of {', '.join(blocks)}, found {block!r} in {text!r}: check it")
        return self._name(rung, first), rung

    def cost(self, rung: Sequence) -> Cost:
        """Counts the rung's network untrained and folded, as test_task2.py counts the trained one."""
        with student_code(f"a network of {tuple(rung)} whose work can be counted, {self.file}"):
            network = self.module.fold(self.module.LowComplexityNet(rung))
            return Cost(count_flops(network), sum(p.numel() for p in network.parameters()), count_size(network))

    def stored_kb(self, rung: Sequence, dtype: str) -> float | None:
        """KB of the rung's network with its weights held as `dtype`; None where the network file has no `store`."""
        if not callable(getattr(self.module, "store", None)):
            return None
        with student_code(f"a network of {tuple(rung)} whose weights can be held as {dtype}, {self.file}"):
            return count_size(self.module.store(self.module.fold(self.module.LowComplexityNet(rung)), dtype))

    def _name(self, rung: Sequence, first: str) -> str:
        for name, known in self.named.items():
            if known == rung:
                return name
        values = rung._asdict()
        if first in self.named:
            start, before = first, self.named[first]._asdict()
        else:
            start, before = ",".join(_text(value) for value in rung[:2]), {**values, **self.defaults}
        return ",".join([start, *(f"{field}={_text(value)}" for field, value in values.items()
                                  if value != before[field])])


def plan(ladder: Ladder, texts: Iterable[str] = ()) -> str:
    """Two tables, a line a rung (all of the ladder's, if none is named): its costs, and the FoM these give."""
    chosen = dict(ladder.read(text) for text in texts) or ladder.named
    reference = ladder.cost(ladder.named[ladder.reference])
    costs = [["rung", *ladder.fields, "MACs", "parameters", "KB", "P = MACs x KB",
              f"doublings below {ladder.reference}"]]
    merits = [["rung", *(f"FoM at {miou}" for miou in GUESSES), "float16 at 0.665", "int8 at 0.665", "may fall by"]]
    for name, rung in chosen.items():
        cost = ladder.cost(rung)
        foms = [figure_of_merit(cost.macs, cost.kb, miou) for miou in GUESSES]
        costs.append([name, *map(_text, rung), f"{cost.macs:,}", f"{cost.parameters:,}", f"{cost.kb:.3f}",
                      f"{cost.product:.3e}", f"{math.log2(reference.product / cost.product):.2f}"])
        stored = [ladder.stored_kb(rung, dtype) for dtype in ("float16", "int8")]
        merits.append([name, *(f"{fom:.2e}" for fom in foms),
                       *("-" if kb is None else f"{figure_of_merit(cost.macs, kb, GUESSES[1]):.2e}" for kb in stored),
                       may_fall(cost.product / reference.product)])
    return "\n".join([
        markdown(costs, left=len(ladder.fields) + 1), "", markdown(merits),
        f"may fall by: for the same FoM as {ladder.reference} at {GUESSES[-1]}, mIoU may fall by at most so much",
        "", EXPLAINED])


def may_fall(ratio: float, miou: float = GUESSES[-1]) -> str:
    """By how much mIoU may be below `miou` at `ratio` times its P for the same FoM; never below the gate."""
    fall = (miou - FOM_OFFSET) * (1 - ratio**2)
    gate = miou - TASKS[2].miou
    if fall > gate:
        return f"{gate:.4f}, to the gate"
    return f"must rise by {-fall:.4f}" if fall < 0 else f"{fall:.4f}"


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("/"))


def _text(value: object) -> str:
    if isinstance(value, (tuple, list)):
        return "/".join(map(str, value))
    return str(int(value)) if isinstance(value, bool) else str(value)
