"""What a graph itself weighs in bytes: weights could hide in its numbers, its views and what is connected to what."""
import json
import lzma

from utils.graph.operators import POSITIONS
from utils.graph.schema import NAME_OF_DTYPE, Graph, Ref, encode

FREE_VALUES, FREE_SIZES = 2, 16      # a node's numbers that cost nothing: values, and sizes
FREE_KINDS, FREE_POSITIONS = 32, 64  # a graph's: different values, and positions
FREE_NODES, NODE_BYTES, NUMBER_BYTES, POSITION_BYTES = 2_000, 16, 8, 2
FREE_BYTES, FREE_SHARE = 1_024, 20   # of a whole graph, compressed: these, and so a part of its tensors' bytes


def number_bytes(graph: Graph) -> int:
    """What the graph weighs beyond what every network needs, in bytes: the more of a rule of numbers and `information`.

    Free are 1 KB of information and a twentieth of the tensors' bytes: the lab's networks need 0.4 to 0.7 KB.
    """
    values, kinds, positions, sizes = 0, set(), 0, 0
    for node in graph.nodes:
        own = {"value": [], "position": [], "size": []}
        for argument in node.op._schema.arguments:
            if argument.name in node.args:
                _sort_numbers(argument, node.args[argument.name], own)
        values += max(0, len(own["value"]) - FREE_VALUES)
        sizes += max(0, len(own["size"]) - FREE_SIZES)
        positions += len(own["position"])
        kinds.update(own["value"])
    hidden = max(values, len(kinds) - FREE_KINDS) + sizes
    by_rule = (NUMBER_BYTES * max(0, hidden) + POSITION_BYTES * max(0, positions - FREE_POSITIONS)
               + NODE_BYTES * max(0, len(graph.nodes) - FREE_NODES))
    tensors = dict.fromkeys(graph.storages, 0)
    for view in graph.tensors:
        if view.storage in tensors:
            tensors[view.storage] = max(tensors[view.storage], view.end)
    return max(by_rule, information(graph) - FREE_BYTES - sum(tensors.values()) // FREE_SHARE)


def information(graph: Graph) -> int:
    """Bytes of the graph, compressed: the most that its operators, numbers, views and connections can carry.

    References are written as distances, so that repeated parts of a network weigh little.
    """
    first, last, used = 1 + len(graph.tensors), 0, graph.used

    def write(value: object, at: int) -> object:
        nonlocal last
        if isinstance(value, Ref):
            number, tensor = value.number, 0 < value.number < first
            distance = number - last if tensor else at - number if number else 0
            last = number if tensor else last
            return ["t" if tensor else "n", distance, value.item]
        return [write(part, at) for part in value] if isinstance(value, list) else encode(value)

    lines = [[view.storage, NAME_OF_DTYPE[view.dtype], view.offset, *view.shape, *view.stride]
             for number, view in enumerate(graph.tensors, 1) if number in used]
    lines += [[node.name, *(write(value, at) for value in node.args.values())]
              for at, node in enumerate(graph.nodes, first)]
    lines.append(write(graph.output, first + len(graph.nodes)))
    text = json.dumps(lines, separators=(",", ":"), allow_nan=False).encode()
    # preset 9 alone would take 700 MB for its dictionary, which a sandbox may not have
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": 1 << 22}]
    return len(lzma.compress(text, lzma.FORMAT_RAW, filters=filters))


def _sort_numbers(argument: object, value: object, own: dict[str, list]) -> None:
    """Sorts an argument's numbers by what they could carry."""
    if isinstance(value, list):
        for part in value:
            _sort_numbers(argument, part, own)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        kind = str(argument.real_type)
        is_value = any(word in kind for word in ("number", "Scalar", "float", "Tensor"))
        own["value" if is_value else "position" if argument.name in POSITIONS else "size"].append(value)
