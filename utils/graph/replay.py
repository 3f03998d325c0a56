"""Runs a checked graph on images, without any code of the network's, and counts what runs."""
from collections import Counter
from typing import NamedTuple

import torch
from torch import Tensor

from utils.graph.errors import GraphError
from utils.graph.operators import COUNT, VIEWS, arithmetic, resize_window
from utils.graph.schema import Graph, Node, Ref, View, refs
from utils.graph.weight import number_bytes
from utils.lab import INPUT_SIZE, NUM_CLASSES


class Costs(NamedTuple):
    """The work of one image (see utils.graph.operators).

    macs: multiply-accumulates, which rank. elements: those that all operators write or resizes read. arithmetic: those
    that are computed number by number or summed. wide: multiply-accumulates of float64 or of whole numbers, each of
    which can hold several products.
    """

    macs: int = 0
    elements: int = 0
    arithmetic: int = 0
    wide: int = 0


class Replay:
    """A graph with its tensors on a device. storages: flat uint8 by number.

    Raises GraphError for a view that leaves its storage.
    """

    def __init__(self, graph: Graph, storages: dict[str, Tensor], device: torch.device | str = "cpu") -> None:
        self.graph, self.device, used = graph, torch.device(device), graph.used
        self.tensors = {number: _view(view, storages).to(self.device)
                        for number, view in enumerate(graph.tensors, 1) if number in used}
        self.work: dict[int, tuple[tuple[int, ...], int]] = {}  # node -> its result's shape and MACs for the last image
        self.bytes = sum(storages[str(storage)].numel() for storage in graph.storages)
        self.changes = any(node.op._schema.is_mutable for node in graph.nodes)
        first = 1 + len(graph.tensors)
        last: dict[int, int] = {}
        for index, node in enumerate(graph.nodes):
            last.update({ref.number: index for ref in refs(node.args)})
        self.dead: dict[int, list[int]] = {}  # node -> the values that nobody reads after it
        for number, index in last.items():
            if number >= first and number != graph.output.number:
                self.dead.setdefault(index, []).append(number)

    @property
    def size_kb(self) -> float:
        """The size that ranks: bytes of the storages that the graph uses and of its numbers, / 1024."""
        return (self.bytes + number_bytes(self.graph)) / 1024

    @torch.no_grad()
    def run(self, image: Tensor) -> tuple[Tensor, Costs]:
        """Logits (1, 8, 256, 512) of an image, float32 (1, 3, 256, 512), and what they cost.

        Raises GraphError for logits of another kind, and for what an operator refuses.
        """
        # An operator that works in place would change the tensors for the images that follow.
        tensors = {number: tensor.clone() for number, tensor in self.tensors.items()} if self.changes else self.tensors
        values: dict[int, object] = {0: image, **tensors}
        first, costs = 1 + len(self.graph.tensors), Counter()
        for index, node in enumerate(self.graph.nodes):
            args = {name: _resolve(value, values) for name, value in node.args.items()}
            _check(node, args)
            if any(argument.name == "device" for argument in node.op._schema.arguments):
                args["device"] = self.device
            try:
                result = node.op(**args)
            except Exception as error:
                reason = " ".join(str(error).split())
                raise GraphError(f"expected an operator that runs, found {type(error).__name__} in node {index}, "
                                 f"{node.name}: {reason[:200]}") from None
            values[first + index] = result
            counts = _count(node, args, result)
            costs.update(counts)
            if counts.get("macs"):
                out = result if isinstance(result, Tensor) else result[0]
                self.work[index] = tuple(out.shape), counts["macs"]
            for number in self.dead.get(index, ()):
                values.pop(number, None)
        logits = _resolve(self.graph.output, values)
        expected = (1, NUM_CLASSES, *INPUT_SIZE)
        if not isinstance(logits, Tensor) or tuple(logits.shape) != expected or not logits.is_floating_point():
            found = f"{tuple(logits.shape)} {logits.dtype}" if isinstance(logits, Tensor) else type(logits).__name__
            raise GraphError(f"expected logits {expected} as floats, found {found}")
        return logits, Costs(**costs)


    def layers(self) -> list[dict[str, object]]:
        """A row for each node that multiplied in the last image, the dearest first: name, type, output, MACs, share."""
        total = sum(macs for _, macs in self.work.values())
        rows = [{"name": str(index), "type": self.graph.nodes[index].name.removesuffix(".default"),
                 "output": list(shape), "parameters": self._parameters(self.graph.nodes[index]), "macs": macs,
                 "share": macs / max(total, 1)} for index, (shape, macs) in self.work.items()]
        return sorted(rows, key=lambda row: -row["macs"])

    def _parameters(self, node: Node) -> int:
        numbers = {ref.number for ref in refs(node.args)}
        return sum(self.tensors[number].numel() for number in numbers & self.tensors.keys())


def _view(view: View, storages: dict[str, Tensor]) -> Tensor:
    storage = storages.get(str(view.storage))
    if storage is None or storage.dtype != torch.uint8 or storage.ndim != 1:
        raise GraphError(f"expected the bytes of storage {view.storage}, found none")
    if view.end > storage.numel():
        raise GraphError(f"expected a tensor within its storage of {storage.numel():,} bytes, found {view.end:,}")
    whole = storage.numel() // view.dtype.itemsize * view.dtype.itemsize
    typed = storage[:whole].clone().view(view.dtype)  # a clone is aligned
    return typed.as_strided(view.shape, view.stride, view.offset)


def _resolve(value: object, values: dict[int, object]) -> object:
    if isinstance(value, Ref):
        found = values[value.number]
        if value.item is not None:
            if not isinstance(found, (tuple, list)) or value.item >= len(found):
                raise GraphError(f"expected result {value.item} of value {value.number}, found none")
            found = found[value.item]
        return found
    return [_resolve(part, values) for part in value] if isinstance(value, list) else value


def _check(node: Node, args: dict[str, object]) -> None:
    """Refuses what would let a value decide about a shape: a mask as an index."""
    if node.name == "index.Tensor":
        for index in args["indices"]:
            if isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8):
                raise GraphError("expected shapes that do not depend on values, found a mask as an index")


def _count(node: Node, args: dict[str, object], result: object) -> dict[str, int]:
    """What one operator adds to the Costs."""
    out = result[0] if isinstance(result, (tuple, list)) and len(result) else result
    if not isinstance(out, Tensor) or node.name in VIEWS:
        return {}
    counts = {"elements": out.numel() * (1 + resize_window(node.name))}
    if node.name in COUNT:
        counts["macs"] = COUNT[node.name](tuple(out.shape), {name: _shape(value) for name, value in args.items()})
        if out.dtype == torch.float64 or not out.is_floating_point():
            counts["wide"] = counts["macs"]
    largest = max((value.numel() for value in args.values() if isinstance(value, Tensor)), default=0)
    counts["arithmetic"] = arithmetic(node.name, out, largest)
    return counts


def _shape(value: object) -> object:
    if isinstance(value, Tensor):
        return tuple(value.shape)
    return [_shape(part) for part in value] if isinstance(value, list) else value
