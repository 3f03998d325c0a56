"""The layer table: what each layer of a network costs, as rows and as text."""
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from utils.complexity import Profile, profile_model
from utils.lab import INPUT_SIZE
from utils.tables import aligned


@dataclass
class Layer:
    """One row: what a module does itself, without its children.

    `activations` are the bytes of the tensors that it returns for one image, over all its calls; 0 where it returns a
    child's output or works in place. Training holds them until the backward pass, for each image of a batch.
    `share` is of the MACs, 0 to 1.
    """

    name: str
    type: str
    output_shape: tuple[int, ...] | None
    parameters: int
    macs: int
    activations: int
    share: float


def layer_table(model: nn.Module, input_size: tuple[int, int] = INPUT_SIZE, profile: Profile | None = None
                ) -> list[Layer]:
    """One row for every module that holds parameters or works itself, in the order of `named_modules`.

    The network itself has a row if its output is its own (a last resize) and not its last layer's. The MACs come from
    the counter that the lab's FLOPs come from, so the column adds up to `count_flops`. A `profile` of the model that
    exists already is used instead of a new one.
    """
    profile = profile or profile_model(model, input_size)
    macs = profile.thop_by_module if profile.thop >= profile.dispatched else profile.dispatched_by_module
    rows = []
    for name, module in model.named_modules():
        parameters = sum(p.numel() for p in module.parameters(recurse=False))
        if parameters or macs.get(name, 0) or (not name and profile.output_bytes.get(name, 0)):
            rows.append(Layer(name or "(network)", type(module).__name__, profile.output_shapes.get(name), parameters,
                              macs.get(name, 0), profile.output_bytes.get(name, 0),
                              macs.get(name, 0) / max(profile.flops, 1)))
    return rows


def format_layer_table(rows: list[Layer], times: dict[str, float] | None = None) -> str:
    """The layer table as text, a line a layer and a line of totals; with `times` (utils.timing) a column of ms.

    KB are those of the outputs (`activations`). Each share is that of the column before it. Time spent outside the
    layers of the table (pooling, resizes, additions) has a line of its own before the totals.
    """
    costs = [(row.activations, row.parameters, row.macs) for row in rows]
    totals = [sum(column) for column in zip(*costs, strict=True)] or [0, 0, 0]
    lines = [["layer", "type", "output", "KB", "share", "parameters", "share", "MACs", "share"]]
    for row, cost in zip(rows, costs, strict=True):
        shape = " x ".join(map(str, (row.output_shape or ())[1:]))
        lines.append([row.name, row.type if row.parameters or row.macs else "", shape, *_with_shares(cost, totals)])
    lines.append(["total", "", "", *_with_shares(totals, totals)])
    if times is not None:
        inside, whole = [times.get(row.name, 0.0) for row in rows], sum(times.values())
        lines.insert(-1, ["outside these layers", *[""] * 8])
        column = ["ms", *(f"{ms:.2f}" for ms in (*inside, whole - sum(inside), whole))]
        lines = [[*line, cell] for line, cell in zip(lines, column, strict=True)]
    return "\n".join(aligned(lines, left={0, 1}))


def _with_shares(cost: Sequence[int], totals: Sequence[int]) -> list[str]:
    """Activations in KB, parameters and MACs, each with its share of the total behind it."""
    numbers = (f"{cost[0] / 1024:,.1f}", f"{cost[1]:,}", f"{cost[2]:,}")
    shares = (f"{value / max(total, 1):.1%}" for value, total in zip(cost, totals, strict=True))
    return [cell for pair in zip(numbers, shares, strict=True) for cell in pair]
