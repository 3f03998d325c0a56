"""The rungs of task 2's ladder: read from text, counted, and planned before any training.

The network file is the student's: it is loaded by its path, and whatever is wrong in it ends in one line.
"""
import inspect
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType

from utils.complexity import count_flops, count_size, figure_of_merit
from utils.evaluation import load_network, student_code
from utils.lab import FOM_OFFSET, ROOT, TASKS, LabError
from utils.tables import markdown

BLOCKS_FILE = ROOT / "frontier" / "blocks.py"
THRESHOLD = TASKS[2].miou
NEEDED = ("rungs", "Rung", "LowComplexityNet")
# The mIoU that a plan assumes: the threshold, a little above it, and well above it.
ASSUMED = tuple(round(THRESHOLD + more, 3) for more in (0, 0.005, 0.02))
EXPLAINED = (
    f"ln FoM = 2 ln P - ln(mIoU - {FOM_OFFSET}): half of P divides the FoM by 4, {ASSUMED[2]} instead of {ASSUMED[1]} "
    "by 2.\nIf mIoU rises by s points with each doubling of P, the best margin over "
    f"{FOM_OFFSET} is s / (2 ln 2), about 0.72 s points.")


@dataclass(frozen=True)
class RungCost:
    """What a deployed network costs: MACs an image, parameters, KB of all its tensors."""

    macs: int
    parameters: int
    kb: float

    @property
    def product(self) -> float:
        """P = MACs x KB; the FoM is its square, divided by the margin in mIoU."""
        return self.macs * self.kb


class Ladder:
    """The table of networks in task 2's network file. Raises LabError if the file has none, or does not load."""

    def __init__(self) -> None:
        self.file = TASKS[2].network_file
        self.module = load_network(self.file)
        lacking = [name for name in NEEDED if not callable(getattr(self.module, name, None))]
        if lacking:
            raise LabError(f"expected a table of networks ({', '.join(NEEDED)}) in {self.file}, found no {lacking[0]}: "
                           "python -m frontier needs the hand-out's; train another network with the notebook")
        with student_code(f"a table of networks, rungs(), in {self.file}"):
            self.fields, self.defaults = self.module.Rung._fields, self.module.Rung._field_defaults
            self.named = {name: self.module.Rung(*rung) for name, rung in self.module.rungs().items()}
        if not self.named:
            raise LabError(f"expected networks in rungs() of {self.file}, found none: add a row")
        self.own_blocks = [*getattr(self.module, "BLOCKS", ())]
        # The reference is what the other rungs are compared with.
        self.reference = "safe" if "safe" in self.named else next(iter(self.named))

    @property
    def blocks(self) -> list[str]:
        """The names of all blocks: the network file's own, then those of frontier/blocks.py."""
        return list(dict.fromkeys([*self.own_blocks, *_load_blocks().OTHERS]))

    def builds(self, rung: Sequence) -> bool:
        """Whether the network file itself has the rung's block; otherwise frontier/blocks.py builds the network."""
        return getattr(rung, "block", None) in (None, self.defaults.get("block"), *self.own_blocks)

    def read(self, text: str) -> tuple[str, Sequence]:
        """The rung that `text` stands for, and its name: the table's, or else the text.

        text: `lean`, `lean,block=grouped`, `12/20/32,0/2/3` or `12/20/32,0/2/3,refine=1,context=0`. Raises LabError.
        """
        text = text.replace(" ", "")
        first, *changes = text.split(",")
        try:
            if first in self.named:
                values = self.named[first]._asdict()
            else:
                values = {**self.defaults, self.fields[0]: numbers(first), self.fields[1]: numbers(changes.pop(0))}
            for change in changes:
                field, value = change.split("=")
                before = values[field]
                values[field] = (type(before)(int(value)) if isinstance(before, int)
                                 else numbers(value) if isinstance(before, tuple) else value)
            rung = self.module.Rung(**values)
        except (ValueError, IndexError, KeyError, TypeError):
            raise LabError(f"expected a rung of {self.file} ({', '.join(self.named)}), one with changes such as "
                           f"{self.reference},block=grouped, or a text such as 12/20/32,0/2/3,refine=1,context=0, "
                           f"found {text!r}: check it") from None
        if not self.builds(rung) and rung.block not in self.blocks:
            raise LabError(f"expected a block of {', '.join(self.blocks)}, found {rung.block!r} in {text!r}: check it")
        return next((name for name, known in self.named.items() if known == rung), text), rung

    def cost(self, rung: Sequence, **options: str) -> RungCost:
        """Counts the rung's network, untrained, as test_task2.py counts the trained one; options: those of `deploy`."""
        module = self.module if self.builds(rung) else _load_blocks()
        with student_code(f"a network of {tuple(rung)} that can be counted, {self.file}"):
            network = module.LowComplexityNet(rung).eval()
            if hasattr(module, "deploy"):
                network = module.deploy(network, **options)
            return RungCost(count_flops(network), sum(p.numel() for p in network.parameters()), count_size(network))

    @property
    def stores(self) -> list[str]:
        """How `deploy` may hold the weights, beside float32; none where it has no such option."""
        deploy = getattr(self.module, "deploy", None)
        return ["float16", "int8"] if deploy and "store" in inspect.signature(deploy).parameters else []


def _load_blocks() -> ModuleType:
    try:
        from frontier import blocks
    except ImportError as error:
        raise LabError(f"expected the hand-out's names in network2/network.py, for the blocks of frontier/blocks.py, "
                       f"found: {error}") from None
    return blocks


def plan(ladder: Ladder, texts: Iterable[str] = ()) -> str:
    """Two tables with a row for each rung (all of the ladder's, if none is named): its costs, and its FoM."""
    chosen = dict(ladder.read(text) for text in texts) or ladder.named
    reference = ladder.cost(ladder.named[ladder.reference])
    costs = [["rung", *ladder.fields, "MACs", "parameters", "KB", "P = MACs x KB",
              f"doublings below {ladder.reference}"]]
    merits = [["rung", *(f"FoM at {miou}" for miou in ASSUMED),
               *(f"{store} at {ASSUMED[1]}" for store in ladder.stores), "may fall by"]]
    for name, rung in chosen.items():
        cost = ladder.cost(rung)
        foms = [figure_of_merit(cost.macs, cost.kb, miou) for miou in ASSUMED]
        costs.append([name, *map(_text, rung), f"{cost.macs:,}", f"{cost.parameters:,}", f"{cost.kb:.3f}",
                      f"{cost.product:.3e}", f"{math.log2(reference.product / cost.product):.2f}"])
        foms += [figure_of_merit(cost.macs, ladder.cost(rung, store=store).kb, ASSUMED[1]) for store in ladder.stores]
        merits.append([name, *(f"{fom:.2e}" for fom in foms), may_fall(cost.product / reference.product)])
    return "\n".join([
        markdown(costs, left=len(ladder.fields) + 1), "", markdown(merits),
        f"may fall by: how far mIoU may fall for the same FoM as {ladder.reference} has at {ASSUMED[2]}",
        "", EXPLAINED])


def may_fall(ratio: float, miou: float = ASSUMED[2]) -> str:
    """How far below `miou` a network with `ratio` times the P has the same FoM; at most down to the threshold."""
    fall = (miou - FOM_OFFSET) * (1 - ratio**2)
    most = miou - THRESHOLD
    if fall > most:
        return f"{most:.4f}, to the threshold"
    return f"must rise by {-fall:.4f}" if fall < 0 else f"{fall:.4f}"


def numbers(text: str) -> tuple[int, ...]:
    """Whole numbers from a text such as 12/20/32. Raises ValueError."""
    return tuple(int(part) for part in text.split("/"))


def _text(value: object) -> str:
    if isinstance(value, (tuple, list)):
        return "/".join(map(str, value))
    return str(int(value)) if isinstance(value, bool) else str(value)
