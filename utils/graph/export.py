"""Exports a network as a graph: runs where the network's own code runs, and so proves nothing by itself.

Uses torch.export (strict=False, for one image). What it says is checked by schema.parse, and what it claims to cost
is never asked.
"""
import contextlib
import io
import json
import logging
import re
import traceback
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from utils.graph.errors import GraphError
from utils.graph.operators import NAMES
from utils.graph.schema import NAME_OF_DTYPE, SCHEMA
from utils.lab import INPUT_SIZE

PYTHON = contextlib.__file__.removesuffix("contextlib.py")  # the folder of Python's own modules
# Nodes that assert what the replay finds out by itself, and give no result.
SKIPPED = ("_assert_tensor_metadata", "_assert_scalar", "sym_constrain_range", "sym_constrain_range_for_size",
           "_assert_async")


def export_network(network: nn.Module) -> tuple[bytes, dict[str, Tensor]]:
    """The graph's JSON (see utils.graph.schema), and its storages, flat uint8, by name.

    network: maps float32 (1, 3, 256, 512) to logits; it is put into eval mode. Raises GraphError, with the line of the
    network's code where that is known, for what torch.export or the list of operators does not take.
    """
    network.eval()
    data = torch.zeros(1, 3, *INPUT_SIZE)
    logging.getLogger("torch").setLevel(logging.ERROR)
    try:
        with torch.no_grad(), warnings.catch_warnings(), _quiet():
            warnings.simplefilter("ignore")
            program = torch.export.export(network, (data,), strict=False)
            if _unlisted(program):
                program = _decompose(program)
    except GraphError:
        raise
    except Exception as error:
        raise GraphError(f"expected a network that torch.export takes, found {_reason(error)}{_place(error)}") from None
    return _Writer(program).write()


def _unlisted(program: torch.export.ExportedProgram) -> list[torch.fx.Node]:
    """The nodes whose operator is not on the list."""
    return [node for node in program.graph.nodes if node.op == "call_function" and not _is_item(node)
            and _name(node) not in NAMES and _name(node).partition(".")[0] not in SKIPPED]


def _decompose(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The program with its unlisted operators taken apart, where torch knows how: einsum becomes bmm."""
    unlisted = {node.target for node in _unlisted(program)}
    default = getattr(torch.export, "default_decompositions", None)
    table = {op: rule for op, rule in (default() if default else {}).items() if op in unlisted}
    return program.run_decompositions(table)


class _Writer:
    """Writes an exported program down as the schema has it."""

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        self.program, self.numbers = program, {}  # a node's name -> its value's number, or its Ref's list
        self.storages: dict[int, int] = {}        # address -> storage
        self.bytes: dict[str, Tensor] = {}
        self.tensors: list[dict] = []

    def write(self) -> tuple[bytes, dict[str, Tensor]]:
        signature = self.program.graph_signature
        inputs = [spec.arg.name for spec in signature.input_specs if spec.kind.name == "USER_INPUT"]
        for spec in signature.input_specs:
            if spec.kind.name == "USER_INPUT":
                self.numbers[spec.arg.name] = [0]
            elif spec.kind.name in ("PARAMETER", "BUFFER", "CONSTANT_TENSOR"):
                self.tensors.append(self._tensor(self._find(spec.target), spec.target))
                self.numbers[spec.arg.name] = [len(self.tensors)]
            else:
                raise GraphError(f"expected tensors alone as a network's constants, found a {spec.kind.name.lower()}")
        if len(inputs) != 1:
            raise GraphError(f"expected a network of one image, found {len(inputs)} inputs")
        nodes, output = [], None
        for node in self.program.graph.nodes:
            if node.op == "call_function":
                self._node(node, nodes)
            elif node.op == "output":
                which = [k for k, spec in enumerate(signature.output_specs) if spec.kind.name == "USER_OUTPUT"]
                if len(which) != 1 or not isinstance(node.args[0][which[0]], torch.fx.Node):
                    raise GraphError(f"expected one tensor of logits, found {len(which)} results")
                output = self._ref(node.args[0][which[0]])
            elif node.op == "get_attr":
                raise GraphError(f"expected operators alone, found a part with code of its own ({node.target})")
        content = {"schema": SCHEMA, "tensors": self.tensors, "nodes": nodes, "output": output}
        return json.dumps(content, separators=(",", ":"), allow_nan=False).encode(), self.bytes

    def _find(self, name: str) -> Tensor:
        found = self.program.state_dict.get(name)
        return self.program.constants[name] if found is None else found

    def _tensor(self, tensor: Tensor, name: str) -> dict:
        if tensor.is_quantized or tensor.layout != torch.strided or tensor.dtype not in NAME_OF_DTYPE:
            kind = "quantized" if tensor.is_quantized else str(tensor.layout if tensor.layout != torch.strided
                                                               else tensor.dtype)
            raise GraphError(f"expected plain tensors, found a {kind} one, {name}: its cost is unverified")
        tensor = tensor.detach().cpu()
        storage = tensor.untyped_storage()
        place = storage.data_ptr() or -1 - len(self.storages)  # an empty one has no address
        number = self.storages.setdefault(place, len(self.storages))
        self.bytes.setdefault(str(number), torch.empty(0, dtype=torch.uint8).set_(storage))
        return {"storage": number, "dtype": NAME_OF_DTYPE[tensor.dtype], "offset": tensor.storage_offset(),
                "shape": list(tensor.shape), "stride": list(tensor.stride())}

    def _node(self, node: torch.fx.Node, nodes: list[dict]) -> None:
        if _is_item(node):
            self.numbers[node.name] = [*self._ref(node.args[0]), node.args[1]]
            return
        name = _name(node)
        if name.partition(".")[0] in SKIPPED:
            return
        if name not in NAMES:
            raise GraphError(f"expected operators of the list, found {name}{_line(node)}")
        given = dict(zip((argument.name for argument in node.target._schema.arguments), node.args, strict=False))
        nodes.append({"op": name, "args": {key: self._value(value) for key, value in {**given, **node.kwargs}.items()}})
        self.numbers[node.name] = [len(self.tensors) + len(nodes)]

    def _ref(self, node: torch.fx.Node) -> list[int]:
        if node.name not in self.numbers:
            raise GraphError(f"expected values made by operators, found {node.name}")
        return self.numbers[node.name]

    def _value(self, value: object) -> object:
        if isinstance(value, torch.fx.Node):
            return {"ref": self._ref(value)}
        if isinstance(value, (list, tuple)):
            return [self._value(part) for part in value]
        if isinstance(value, torch.dtype):
            return {"dtype": NAME_OF_DTYPE.get(value, str(value))}
        if isinstance(value, torch.device):
            return value.type
        if isinstance(value, torch.layout):
            return "strided" if value == torch.strided else str(value)
        if isinstance(value, torch.memory_format):
            return {torch.contiguous_format: "contiguous", torch.channels_last: "channels_last"}.get(value, "preserve")
        if isinstance(value, float) and value - value != 0:  # not finite: JSON has no word for it
            return {"float": str(value)}
        return value


def _is_item(node: torch.fx.Node) -> bool:
    return node.op == "call_function" and getattr(node.target, "__name__", "") == "getitem"


def _name(node: torch.fx.Node) -> str:
    """An ATen operator's name and overload; what else it is otherwise, which is on no list."""
    return str(node.target).removeprefix("aten.") if hasattr(node.target, "_schema") else f"<{node.target}>"


def _line(node: torch.fx.Node) -> str:
    """Where in the network's code the node was made, if torch noted it."""
    frames = re.findall(r'File "([^"]+)", line (\d+), in .*\n\s*(.*)', node.meta.get("stack_trace") or "")
    own = [frame for frame in frames if _is_own(frame[0])]
    return f" (line {own[-1][1]} of {own[-1][0].rpartition('/')[2]}: {own[-1][2][:120]})" if own else ""


def _reason(error: BaseException) -> str:
    """What torch.export stopped at, in a few words."""
    if "DataDependent" in type(error).__name__:
        return "a step that depends on the values of the image"
    sentence = " ".join(str(error).split()).partition(". ")[0]
    return f"{type(error).__name__}: {sentence[:160]}"


def _place(error: BaseException) -> str:
    """The last line of the network's own code that the error passed."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_own(frame.filename)]
    return f" (line {own[-1].lineno} of {own[-1].filename.rpartition('/')[2]}: {own[-1].line})" if own else ""


def _is_own(file: str) -> bool:
    return not any(part in file for part in ("site-packages", "<", __file__)) and not file.startswith(PYTHON)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Drops what torch prints of the graph where it stops, and what a forward pass prints."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield

