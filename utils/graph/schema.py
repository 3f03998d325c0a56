"""The checked form of a graph, read from JSON that nobody vouches for.

The JSON, version 1:
    {"schema": 1, "tensors": [TENSOR, ...], "nodes": [NODE, ...], "output": REF}
    TENSOR  {"storage": k, "dtype": "float32", "offset": n, "shape": [...], "stride": [...]}   in elements
    NODE    {"op": "conv2d.default", "args": {NAME: VALUE, ...}}   names are those of torch's own schema of the operator
    VALUE   a number, true, false, null, a word, a list of VALUEs, {"ref": REF}, {"dtype": NAME}, {"float": "inf"}
    REF     [0] the image (1, 3, 256, 512) float32; [1..T] the tensors; [T+1 + i] the result of node i;
            [T+1 + i, j] the j-th of its results
Storages are flat bytes in a safetensors file, by the names "0", "1", ...

`Graph.canonical` writes it again from what was understood: no string of the sender's goes on.
"""
import json
import math
from dataclasses import dataclass

import torch

from utils.graph.errors import GraphError
from utils.graph.operators import FIXED, WORDS, find

SCHEMA = 1
MOST_BYTES = 4 << 20      # of JSON
MOST_NODES = 20_000
MOST_TENSORS = 20_000
MOST_NUMBERS = 200_000    # in all arguments
LARGEST = 2**53           # of a whole number: a JSON number holds it exactly
DTYPES = {name: getattr(torch, name) for name in (
    "float32", "float64", "float16", "bfloat16", "int8", "uint8", "int16", "int32", "int64", "bool")}
NAME_OF_DTYPE = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class View:
    """A tensor: a view of a storage. Offset and strides in elements of its dtype."""

    storage: int
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def end(self) -> int:
        """The bytes of the storage that must be there."""
        if 0 in self.shape:
            return 0
        last = self.offset + sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))
        return (last + 1) * self.dtype.itemsize


@dataclass(frozen=True)
class Ref:
    """The value with this number, or one of its several results."""

    number: int
    item: int | None = None


@dataclass(frozen=True)
class Node:
    """An operator and its arguments by the names of torch's schema: numbers, words, Refs, dtypes, lists of them."""

    name: str
    op: object
    args: dict[str, object]


@dataclass(frozen=True)
class Graph:
    """What a network does to one image. Value 0 is the image, then come the tensors, then the nodes' results."""

    tensors: tuple[View, ...]
    nodes: tuple[Node, ...]
    output: Ref

    def canonical(self) -> bytes:
        """The JSON of this very graph, made from what was understood of the sender's."""
        return json.dumps({
            "schema": SCHEMA,
            "tensors": [{"storage": view.storage, "dtype": NAME_OF_DTYPE[view.dtype], "offset": view.offset,
                         "shape": view.shape, "stride": view.stride} for view in self.tensors],
            "nodes": [{"op": node.name, "args": {name: encode(value) for name, value in node.args.items()}}
                      for node in self.nodes],
            "output": encode(self.output)["ref"]}, separators=(",", ":"), allow_nan=False).encode()

    @property
    def used(self) -> set[int]:
        """The numbers of the values that some node or the output reads."""
        found = {self.output.number}
        for node in self.nodes:
            found |= {ref.number for ref in refs(node.args)}
        return found

    @property
    def storages(self) -> set[int]:
        """The storages of the tensors that are used."""
        used = self.used
        return {view.storage for number, view in enumerate(self.tensors, 1) if number in used}


def parse(data: bytes) -> Graph:
    """The graph in JSON of unknown origin. Raises GraphError for anything that is not exactly of the schema."""
    if len(data) > MOST_BYTES:
        raise GraphError(f"expected a graph of at most {MOST_BYTES >> 20} MiB of JSON, found {len(data):,} bytes")
    try:
        content = json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise GraphError(f"expected a graph as JSON, found {type(error).__name__}") from None
    _require(isinstance(content, dict) and set(content) == {"schema", "tensors", "nodes", "output"}
             and content["schema"] == SCHEMA and isinstance(content["tensors"], list)
             and isinstance(content["nodes"], list), f"a graph of schema {SCHEMA}", "another object")
    _require(len(content["tensors"]) <= MOST_TENSORS and len(content["nodes"]) <= MOST_NODES,
             f"at most {MOST_TENSORS:,} tensors and {MOST_NODES:,} nodes",
             f"{len(content['tensors']):,} and {len(content['nodes']):,}")
    tensors = tuple(map(_view, content["tensors"]))
    nodes, budget = [], [MOST_NUMBERS]
    for index, node in enumerate(content["nodes"]):
        nodes.append(_node(node, 1 + len(tensors) + index, budget))
    output = _ref(content["output"], 1 + len(tensors) + len(nodes))
    return Graph(tensors, tuple(nodes), output)


def refs(value: object) -> list[Ref]:
    """All Refs in a node's arguments."""
    if isinstance(value, Ref):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [ref for part in parts for ref in refs(part)]


def _view(item: object) -> View:
    _require(isinstance(item, dict) and set(item) == {"storage", "dtype", "offset", "shape", "stride"}, "a tensor",
             "another object")
    _require(isinstance(item["dtype"], str) and item["dtype"] in DTYPES, "a known dtype", item["dtype"])
    for name in ("shape", "stride"):
        _require(isinstance(item[name], list) and len(item[name]) <= 8 and all(map(_is_size, item[name])),
                 f"a tensor's {name}", item[name])
    _require(_is_size(item["storage"]) and _is_size(item["offset"]) and len(item["shape"]) == len(item["stride"]),
             "a tensor's place", item)
    view = View(item["storage"], DTYPES[item["dtype"]], item["offset"], tuple(item["shape"]), tuple(item["stride"]))
    _require(view.end <= LARGEST and math.prod(view.shape) <= LARGEST, "a tensor of a size that can be", view.shape)
    return view


def _node(item: object, values: int, budget: list[int]) -> Node:
    _require(isinstance(item, dict) and set(item) == {"op", "args"} and isinstance(item["op"], str)
             and isinstance(item["args"], dict), "a node", "another object")
    op = find(item["op"])
    known = {argument.name: argument for argument in op._schema.arguments}
    unknown = set(item["args"]) - set(known)
    _require(not unknown, f"arguments of {item['op']}", ", ".join(sorted(unknown))[:80])
    args = {}
    for name, argument in known.items():  # in the schema's order, whatever the sender's
        if name in item["args"]:
            args[name] = _argument(item["args"][name], str(argument.real_type), values, budget, f"{item['op']} {name}")
        else:
            _require(argument.has_default_value(), f"{name} of {item['op']}", "none")
        given = args.get(name, argument.default_value if argument.has_default_value() else None)
        if item["op"].startswith(("arange.", "one_hot.")) and name != "self":  # shapes would depend on values
            _require(isinstance(given, (int, float, type(None), torch.dtype, torch.device, torch.layout))
                     and (name != "num_classes" or given > 0), f"a known {name} of {item['op']}", given)
        fixed = FIXED.get(name, given)
        _require(given in (None, fixed), f"{name} = {fixed} of {item['op']}", given)
    return Node(item["op"], op, args)


def _argument(value: object, kind: str, values: int, budget: list[int], where: str) -> object:
    """A value of the type that torch's schema names. Numbers are charged to `budget`."""
    if kind.startswith("Optional["):
        return None if value is None else _argument(value, kind[9:-1], values, budget, where)
    if kind.startswith("List["):
        _require(isinstance(value, list) and len(value) <= 4096, f"a list for {where}", value)
        return [_argument(part, kind[5:-1], values, budget, where) for part in value]
    budget[0] -= 1
    _require(budget[0] >= 0, f"at most {MOST_NUMBERS:,} arguments", "more")
    if isinstance(value, dict) and set(value) == {"ref"}:
        _require(kind in ("Tensor", "number", "Scalar", "float"), f"no computed {kind} for {where}", "one")
        return _ref(value["ref"], values)
    if isinstance(value, dict) and set(value) == {"float"} and value["float"] in ("inf", "-inf", "nan"):
        value = float(value["float"])
    is_bool, is_int = isinstance(value, bool), isinstance(value, int) and not isinstance(value, bool)
    if is_int:
        _require(abs(value) <= LARGEST or abs(value) == 2**63 - 1, f"a number for {where}", "one too large")
    fits = {"Tensor": is_int or isinstance(value, float), "number": is_int or is_bool or isinstance(value, float),
            "Scalar": is_int or is_bool or isinstance(value, float), "float": is_int or isinstance(value, float),
            "int": is_int, "SymInt": is_int, "bool": is_bool,
            "str": isinstance(value, str) and value in WORDS}
    if kind in ("ScalarType", "Device", "Layout", "MemoryFormat"):
        return _kind(value, kind, where)
    _require(fits.get(kind, False), f"a {kind} for {where}", value)
    return value


def _kind(value: object, kind: str, where: str) -> object:
    """A dtype; of the others the one that the replay has."""
    if kind == "ScalarType":
        _require(isinstance(value, dict) and set(value) == {"dtype"} and isinstance(value["dtype"], str)
                 and value["dtype"] in DTYPES, f"a dtype for {where}", value)
        return DTYPES[value["dtype"]]
    choices = {"Device": {"cpu": torch.device("cpu")}, "Layout": {"strided": torch.strided},
               "MemoryFormat": {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last,
                                "preserve": torch.preserve_format}}[kind]
    _require(isinstance(value, str) and value in choices, f"one of {', '.join(choices)} for {where}", value)
    return choices[value]


def _ref(value: object, values: int) -> Ref:
    _require(isinstance(value, list) and len(value) in (1, 2) and all(map(_is_size, value)) and value[0] < values,
             "a value that is there already", value)
    return Ref(*value)


def encode(value: object) -> object:
    """An argument as JSON has it."""
    if isinstance(value, Ref):
        return {"ref": [value.number] if value.item is None else [value.number, value.item]}
    if isinstance(value, list):
        return [encode(part) for part in value]
    if isinstance(value, torch.dtype):
        return {"dtype": NAME_OF_DTYPE[value]}
    if isinstance(value, torch.device):
        return "cpu"
    if isinstance(value, torch.layout):
        return "strided"
    if isinstance(value, torch.memory_format):
        return {torch.contiguous_format: "contiguous", torch.channels_last: "channels_last"}.get(value, "preserve")
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    return value


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _require(fits: bool, expected: str, found: object) -> None:
    if not fits:
        raise GraphError(f"expected {expected}, found {str(found)[:80]!r}")
