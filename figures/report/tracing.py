"""Which part of a network feeds which: a graph of its blocks, found by watching one forward pass.

Every tensor remembers where it came from: the block that returned it, or, where tensors of several blocks meet outside
of any (an addition, a concatenation), that meeting. Whatever is computed of it outside of the blocks (a resize, a ReLU)
hands its origin on. So skip connections are found whatever `forward` does with them, conditions in it included, which a
symbolic trace (torch.fx) gives up at.
"""
import copy
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.overrides import TorchFunctionMode

from utils.lab import INPUT_SIZE

FEW, MOST = 6, 24  # blocks: a drawing of fewer than FEW looks into them, unless that makes more than MOST
NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)  # no boxes of their own
INPUT, OUTPUT = "picture", "logits"
SIGNS = {"add": "+", "sub": "-", "mul": "*", "cat": "cat", "concat": "cat"}  # how tensors meet
RESIZES = {"interpolate": "resize", "pixel_unshuffle": "unshuffle", "pixel_shuffle": "shuffle", "mean": "mean",
           "adaptive_avg_pool2d": "mean", "pad": "pad"}


@dataclass
class Node:
    """`kind`: picture, block, meeting or logits. `shape` is (C, h, w) of what it returns, () where that is no map."""

    name: str
    kind: str
    label: str
    shape: tuple[int, ...] = ()


@dataclass
class Graph:
    """Nodes in the order in which they ran; edges from node to node by name, each with what resized it on the way."""

    nodes: list[Node] = field(default_factory=list)
    edges: dict[tuple[str, str], str] = field(default_factory=dict)


def trace(model: nn.Module, input_size: tuple[int, int] = INPUT_SIZE) -> Graph:
    """The graph of `model`'s blocks: its children that hold weights, or theirs where there are few.

    Runs one picture of zeros through a copy on the CPU, in eval mode. A network that cannot be watched so, or whose
    output cannot be traced to the picture, becomes a chain of its children.
    """
    try:
        watched = copy.deepcopy(model).cpu().eval()
        data = torch.zeros(1, 3, *input_size)
        watch = _Watch(data, find_blocks(watched, data))
        with torch.no_grad(), watch:
            output = watched(data)
        graph = watch.finish(output)
    except Exception:  # of a network of any make: a drawing is no reason to stop
        graph = None
    return graph if graph and _connected(graph) else _chain(model, input_size)


def find_blocks(model: nn.Module, data: Tensor) -> dict[str, nn.Module]:
    """The modules to draw, by name: called, with weights, as far out as possible, FEW or more where there are."""
    called: set[str] = set()
    hooks = [module.register_forward_hook(lambda *_args, name=name: called.add(name))
             for name, module in model.named_modules()]
    with torch.no_grad():
        model(data)
    for hook in hooks:
        hook.remove()
    blocks = dict(_inside("", model, called))
    while len(blocks) < FEW:
        inner = {name: module for outer, block in blocks.items()
                 for name, module in (list(_inside(outer, block, called)) or [(outer, block)])}
        if len(inner) > MOST or inner.keys() == blocks.keys():
            break
        blocks = inner
    return blocks


def _inside(outer: str, module: nn.Module, called: set[str]) -> Iterator[tuple[str, nn.Module]]:
    """The outermost modules in `module` that are called and hold weights, through containers that are not called."""
    for child, inner in module.named_children():
        name = f"{outer}.{child}" if outer else child
        if isinstance(inner, NORMS) or next(inner.parameters(), None) is None:
            continue
        if name in called:
            yield name, inner
        else:
            yield from _inside(name, inner, called)


class _Watch(TorchFunctionMode):
    """Notes the origin of every tensor while the network runs; hooks tell where its blocks begin and end."""

    def __init__(self, data: Tensor, blocks: dict[str, nn.Module]) -> None:
        super().__init__()
        self.graph = Graph([Node(INPUT, INPUT, "", tuple(data.shape[1:]))])
        self.origins: dict[int, tuple[Tensor, str, str]] = {}  # by id: the tensor, held so that the id stays its own
        self.fed: list[dict[str, str]] = []  # what feeds the blocks that are running, innermost last
        self.set(data, INPUT)
        for name, block in blocks.items():
            block.register_forward_pre_hook(self._enter, with_kwargs=True)
            block.register_forward_hook(lambda module, args, out, name=name: self._leave(name, module, args, out))

    def set(self, tensor: Tensor, origin: str, resized: str = "") -> None:
        self.origins[id(tensor)] = (tensor, origin, resized)

    def sources(self, values: object) -> dict[str, str]:
        """The origins of the tensors in `values`, each with what resized it since."""
        known = [self.origins[id(tensor)] for tensor in tensors(values) if id(tensor) in self.origins]
        return {origin: resized for _, origin, resized in known}

    def add(self, node: Node, sources: dict[str, str]) -> Node:
        names = {other.name for other in self.graph.nodes}
        name, number = node.name, 1
        while node.name in names:
            number += 1
            node.name = f"{name} ({number})"
        self.graph.nodes.append(node)
        self.graph.edges |= {(source, node.name): resized for source, resized in sources.items()}
        return node

    def __torch_function__(self, func: Callable, _types: object, args: tuple = (), kwargs: dict | None = None
                           ) -> object:
        result = func(*args, **(kwargs or {}))
        sources = self.sources((args, kwargs))
        made = list(tensors(result))
        if self.fed:
            self.fed[-1].update(sources)
        elif made and sources and not getattr(func, "__name__", "").endswith("_like"):
            self._note(getattr(func, "__name__", "?").strip("_"), sources, list(tensors((args, kwargs))), made)
        return result

    def _note(self, name: str, sources: dict[str, str], given: list[Tensor], made: list[Tensor]) -> None:
        """What came of an operation outside of the blocks: the same origin as before, or a meeting of several."""
        if len(sources) > 1:
            sign = SIGNS.get(name.removeprefix("i").removeprefix("r") if name not in SIGNS else name, name)
            node = self.add(Node(sign, "meeting", sign, _shape(made[0])), sources)
            for tensor in made:
                self.set(tensor, node.name)
            return
        (origin, resized), = sources.items()
        before = next(tensor for tensor in given if id(tensor) in self.origins)
        for tensor in made:
            if before.ndim == tensor.ndim == 4 and before.shape[2:] != tensor.shape[2:]:
                label = RESIZES.get(name, name.removesuffix("2d").replace("_", " ").strip())
                resized = f"{resized}, {label}" if resized and label not in resized else label
            self.set(tensor, origin, resized)

    def _enter(self, _module: nn.Module, args: tuple, kwargs: dict) -> None:
        self.fed.append(self.sources((args, kwargs)))

    def _leave(self, name: str, module: nn.Module, args: tuple, output: object) -> None:
        sources = self.fed.pop()
        made = list(tensors(output))
        maps = [tensor for tensor in made if tensor.ndim == 4]
        node = self.add(Node(name, "block", type(module).__name__, _shape((maps or made or [torch.empty(0)])[-1])),
                        sources)
        for tensor in made:
            self.set(tensor, node.name)

    def finish(self, output: object) -> Graph:
        made = list(tensors(output))
        self.add(Node(OUTPUT, OUTPUT, "", _shape(made[0])), self.sources(made[:1]))
        return self.graph


def tensors(values: object) -> Iterator[Tensor]:
    """The tensors in `values`, through tuples, lists and dicts."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict):
        for value in values.values():
            yield from tensors(value)
    elif isinstance(values, (tuple, list)):
        for value in values:
            yield from tensors(value)


def main_path(graph: Graph) -> set[tuple[str, str]]:
    """The edges of the longest way from the picture to the logits; of two equally long ones the one of finer maps."""
    best: dict[str, tuple[int, int, list[str]]] = {INPUT: (0, 0, [INPUT])}
    for node in graph.nodes[1:]:
        ways = [best[source] for source, target in graph.edges if target == node.name and source in best]
        if ways:
            length, fine, way = max(ways, key=lambda one: one[:2])
            best[node.name] = length + 1, fine + sum(node.shape[1:]), [*way, node.name]
    way = best[OUTPUT][2] if OUTPUT in best else []
    return set(itertools.pairwise(way))


def _connected(graph: Graph) -> bool:
    return bool(main_path(graph))


def _chain(model: nn.Module, input_size: tuple[int, int]) -> Graph:
    """The network's children one after the other, without shapes."""
    names = [(name, type(child).__name__) for name, child in model.named_children()
             if next(child.parameters(), None) is not None]
    nodes = [Node(INPUT, INPUT, "", (3, *input_size)), *(Node(name, "block", label) for name, label in names),
             Node(OUTPUT, OUTPUT, "")]
    return Graph(nodes, {(one.name, other.name): "" for one, other in itertools.pairwise(nodes)})


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape[1:]) if tensor.ndim == 4 else ()
