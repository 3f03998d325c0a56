"""Which part of a network feeds which: a graph of its blocks, read from what torch.export records of a forward pass.

Where tensors of several blocks meet outside of any (an addition, a concatenation) there is a node, too. Other steps
outside of the blocks (a resize, a ReLU) have none; those that change a map's size label the edge.
"""
import copy
import itertools
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.nn.modules.batchnorm import _NormBase

from utils.lab import INPUT_SIZE

FEW, MOST = 6, 24  # a drawing of fewer blocks than FEW shows what is inside them, unless that makes more than MOST
NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)  # no boxes of their own
INPUT, OUTPUT = "image", "logits"
SIGNS = {"add": "+", "sub": "-", "mul": "*"}  # how tensors meet
RESIZES = {"upsample": "resize", "pixel_unshuffle": "unshuffle", "pixel_shuffle": "shuffle", "mean": "mean",
           "max_pool": "max pool", "adaptive_avg_pool": "mean", "avg_pool": "mean pool", "unpool": "unpool"}


@dataclass
class BlockNode:
    """`kind`: image, block, meeting or logits. `shape` is (C, h, w) of what it returns, () if that is no map."""

    name: str
    kind: str
    label: str
    shape: tuple[int, ...] = ()


@dataclass
class BlockGraph:
    """Nodes in the order in which they ran; edges from node to node by name, each with what resized the map between."""

    nodes: list[BlockNode] = field(default_factory=list)
    edges: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, node: BlockNode, sources: dict[str, str]) -> str:
        """Appends `node` with the edges from `sources`; returns its name, numbered if there is one of that name."""
        same = sum(other.name.split(" (")[0] == node.name for other in self.nodes)
        node.name += f" ({same + 1})" if same else ""
        self.nodes.append(node)
        self.edges |= {(source, node.name): resized for source, resized in sources.items()}
        return node.name


def trace(model: nn.Module, input_size: tuple[int, int] = INPUT_SIZE) -> BlockGraph | None:
    """The graph of `model`'s blocks: its children that hold weights, or theirs if there are few.

    A copy of the model is exported on the CPU in eval mode. The result is None if that fails, or if the output does not
    come from the image.
    """
    try:
        model = copy.deepcopy(model).cpu().eval()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(model, (torch.zeros(1, 3, *input_size),), strict=False)
        graph = _collapse(program, model)
    except Exception:  # a drawing is no reason to stop
        return None
    return graph if main_path(graph) else None


def _collapse(program: ExportedProgram, model: nn.Module) -> BlockGraph:
    """The exported operators, those of a block as one node."""
    blocks = _find_blocks(model, {name for step in program.graph.nodes for name in _calls(step).values()})
    output, = program.graph_signature.user_outputs
    graph, drawn = BlockGraph(), {}  # drawn: the nodes of the blocks, one for each call
    origins: dict[fx.Node, dict[str, str]] = {}  # where a tensor comes from: nodes' names, and what resized it since
    for step in program.graph.nodes:
        sources = {name: text for given in step.all_input_nodes for name, text in origins.get(given, {}).items()}
        call, name = next((pair for pair in _calls(step).items() if pair[1] in blocks), (None, ""))
        operator = str(step.target).removeprefix("aten.").split(".")[0].strip("_")
        if step.name in program.graph_signature.user_inputs:
            origins[step] = {graph.add(BlockNode(INPUT, INPUT, "", _shape(step)), {}): ""}
        elif sources and call:
            if call not in drawn:
                drawn[call] = BlockNode(name, "block", type(blocks[name]).__name__)
                graph.add(drawn[call], {})
            node = drawn[call]
            node.shape = _shape(step) or node.shape
            graph.edges |= {(source, node.name): text for source, text in sources.items() if source != node.name}
            origins[step] = {node.name: ""}
        elif len(sources) > 1 and step.op == "call_function":
            sign = SIGNS.get(operator, operator)
            origins[step] = {graph.add(BlockNode(sign, "meeting", sign, _shape(step)), sources): ""}
        elif sources:
            origins[step] = {name: _resized(step, operator, text) for name, text in sources.items()}
        if step.name == output:
            graph.add(BlockNode(OUTPUT, OUTPUT, "", _shape(step)), origins.get(step, {}))
    return graph


def _find_blocks(model: nn.Module, called: set[str]) -> dict[str, nn.Module]:
    """The modules to draw, by name: called, with weights, as far out as possible, FEW or more if there are."""
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
        if isinstance(inner, NORMS) or next(itertools.chain(inner.parameters(), inner.buffers()), None) is None:
            continue
        if name in called:
            yield name, inner
        else:
            yield from _inside(name, inner, called)


def _calls(step: fx.Node) -> dict[str, str]:
    """The calls of modules that an operator ran in, the outermost first, each with the module's name."""
    return {call: name for call, (name, _) in step.meta.get("nn_module_stack", {}).items()}


def _resized(step: fx.Node, operator: str, before: str) -> str:
    """What resized the map so far, if this operator does so, too."""
    given, made = next(filter(None, map(_shape, step.all_input_nodes)), ()), _shape(step)
    if not given or not made or given[1:] == made[1:]:
        return before
    plain = operator.removesuffix("2d").replace("_", " ")
    label = next((text for name, text in RESIZES.items() if name in operator), plain)
    return f"{before}, {label}" if before and label not in before else label


def _shape(step: fx.Node) -> tuple[int, ...]:
    """(C, h, w) of an operator's first output that is a map."""
    values = step.meta.get("val")
    values = values if isinstance(values, (tuple, list)) else [values]
    return next((tuple(value.shape[1:]) for value in values if isinstance(value, Tensor) and value.ndim == 4), ())


def main_path(graph: BlockGraph) -> set[tuple[str, str]]:
    """The edges of the longest way from the image to the logits; of two equally long ones the one of finer maps."""
    best: dict[str, tuple[int, int, list[str]]] = {INPUT: (0, 0, [INPUT])}
    for node in graph.nodes[1:]:
        ways = [best[source] for source, target in graph.edges if target == node.name and source in best]
        if ways:
            length, fine, way = max(ways, key=lambda one: one[:2])
            best[node.name] = length + 1, fine + sum(node.shape[1:]), [*way, node.name]
    return set(itertools.pairwise(best[OUTPUT][2])) if OUTPUT in best else set()
