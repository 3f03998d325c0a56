"""What a network costs: multiply-accumulates, bytes, and the figure of merit (FoM) that ranks task 2.

FLOPs are what thop counts for one 1 x 3 x 256 x 512 input, in multiply-accumulates, as the field reports them. thop
hangs its rules on module types, so work outside the modules it knows (functional calls, subclasses) escapes it;
torch's own counter (`torch.utils.flop_counter`) sees the usual convolutions and matrix products that are dispatched,
but no batch norm. Both are taken and the larger counts. The rules of some other products stand here, and of torch's
quantised layers (torch.ao.nn.quantized), which keep their weights packed, outside of every parameter and buffer.
"""
import copy
import functools
import math
import sys
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FunctionType, MethodType, ModuleType

import numpy as np
import thop
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from utils.lab import FOM_OFFSET, INPUT_SIZE, TASKS, LabError


def _product(_into: tuple, a: tuple, b: tuple, *_: object, **_options: object) -> int:
    return 2 * math.prod(a) * b[-1]


# FLOPs (2 a multiply-accumulate), by the shapes of the operands, of products that torch's counter has no rule for.
PRODUCTS: dict[object, Callable] = {getattr(torch.ops.aten, name): _product for name in (
    "addmm_", "baddbmm_", "addbmm", "addbmm_", "_addmm_activation")} | {
    torch.ops.aten._int_mm: lambda *args, **_options: _product((), *args),
    torch.ops.aten.conv_tbc: lambda _, weight, *_args, out_shape, **_options: 2 * math.prod((*out_shape, *weight[:2]))}


@dataclass
class Layer:
    """One row of the layer table; `macs` counts what this module does itself, without its children.

    `activations`: bytes of the tensors that it returns for one picture, over all its calls; 0 where it hands on a
    child's or works in place. They go through memory, and training holds them until the backward pass, for each
    picture of a batch. `share` is of the MACs, 0 to 1.
    """

    name: str
    type: str
    output_shape: tuple[int, ...] | None
    parameters: int
    macs: int
    activations: int
    share: float


@dataclass
class Profile:
    """The counts of one forward pass: thop's and the dispatcher's, in MACs, in total and by module name."""

    thop: int
    dispatched: int
    thop_by_module: dict[str, int]
    dispatched_by_module: dict[str, int]
    output_shapes: dict[str, tuple[int, ...]]
    output_bytes: dict[str, int]

    @property
    def flops(self) -> int:
        """The lab's FLOPs: the larger of the two totals."""
        return max(self.thop, self.dispatched)

    @property
    def unseen(self) -> list[str]:
        """Names of the modules that work more than thop sees, the most hidden first; empty where thop's is larger."""
        if self.thop >= self.dispatched:
            return []
        hidden = {name: macs - self.thop_by_module.get(name, 0) for name, macs in self.dispatched_by_module.items()}
        return sorted((name for name in hidden if hidden[name] > 0), key=lambda name: -hidden[name])


def profile_model(model: nn.Module, input_size: tuple[int, int] = INPUT_SIZE) -> Profile:
    """Counts one forward pass over a 1 x 3 x H x W input of zeros, on copies of `model` on the CPU, in eval mode."""
    h, w = input_size
    data = torch.zeros(1, 3, h, w)

    counted = copy.deepcopy(model).cpu().eval()  # thop leaves buffers behind, hence the copy
    total, _, tree = thop.profile(counted, (data,), verbose=False, ret_layer_info=True)
    by_thop = dict(_flatten_thop(tree))
    by_thop[""] = int(total) - sum(by_thop.values())  # the network itself, when it is one layer

    watched = copy.deepcopy(model).cpu().eval()
    shapes: dict[str, tuple[int, ...]] = {}
    sizes: dict[str, int] = {}
    made: dict[int, weakref.ref[Tensor]] = {}
    for name, module in watched.named_modules():
        module.register_forward_hook(functools.partial(_note_output, shapes, sizes, made, name))
    rules = PRODUCTS | _quantised_rules()
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the fused attention path hides its products from the counter
    try:
        with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=rules) as counter:
            watched(data)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    by_dispatch = _own_macs(counter, type(watched).__name__)
    return Profile(int(total), sum(by_dispatch.values()), by_thop, by_dispatch, shapes, sizes)


def count_flops(model: nn.Module, input_size: tuple[int, int] = INPUT_SIZE) -> int:
    """The lab's FLOPs (multiply-accumulates) of `model` for one picture of `input_size` (H, W).

    Where thop misses work, says so on stderr with the names of the layers, and counts it.
    """
    profile = profile_model(model, input_size)
    if profile.unseen:
        types = {name: type(module).__name__ for name, module in model.named_modules()}
        layers = ", ".join(f"{name or 'the network itself'} ({types.get(name, '?')})" for name in profile.unseen[:8])
        more = f" and {len(profile.unseen) - 8} more" if len(profile.unseen) > 8 else ""
        print(f"warning: thop counts {profile.thop} MACs but {profile.dispatched} are executed, which count; "
              f"thop cannot see {layers}{more}", file=sys.stderr)
    return profile.flops


def count_size(model: nn.Module) -> float:
    """The lab's size in KB: bytes of every tensor that `model` holds, each storage once, / 1024.

    Parameters, buffers (persistent or not) and tensors or arrays in attributes, containers and closures all count; a
    view counts with the whole storage it keeps alive, a quantised tensor with its scales and zero points, packed
    weights with what they unpack to.
    """
    storages: dict[int, int] = {}
    for tensor in _held_tensors(model, model.state_dict()):
        for place, size in _storages(tensor):
            storages[place] = max(size, storages.get(place, 0))  # an array and a tensor can share one
    return sum(storages.values()) / 1024


def figure_of_merit(flops: int, size_kb: float, miou: float) -> float | None:
    """FLOPs^2 x size_KB^2 / (mIoU - 0.65), smaller is better; None (unranked) below task 2's mIoU or for NaN."""
    if flops <= 0 or size_kb <= 0:
        raise LabError(f"expected a network that costs something, found {flops} FLOPs and {size_kb} KB: "
                       "keep the weights in parameters and the work in layers")
    if not miou >= TASKS[2].miou:
        return None
    return float(flops) ** 2 * float(size_kb) ** 2 / (miou - FOM_OFFSET)


def layer_table(model: nn.Module, input_size: tuple[int, int] = INPUT_SIZE, profile: Profile | None = None
                ) -> list[Layer]:
    """One row for every module that holds parameters or works itself, in the order of `named_modules`.

    The network itself has a row, too, if the output is its own (a last resize) and not its last layer's.

    The MACs are from the counter that the lab's FLOPs are from, so that the column adds up to `count_flops`. A
    `profile` of the model that is there already saves taking it.
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

    KB are those of the outputs (`activations`); each share is that of the column before it. Time that was spent
    outside the rows' layers (pooling, resizes, additions) has a line of its own before the totals.
    """
    kinds = ("activations", "parameters", "macs")
    totals = {kind: sum(getattr(row, kind) for row in rows) for kind in kinds}
    cells = [["layer", "type", "output", "KB", "share", "parameters", "share", "MACs", "share"]]
    for row in rows:
        shape = " x ".join(map(str, (row.output_shape or ())[1:]))
        kind = row.type if row.parameters or row.macs else ""
        cells.append([row.name, kind, shape, *_with_shares({name: getattr(row, name) for name in kinds}, totals)])
    cells.append(["total", "", "", *_with_shares(totals, totals)])
    if times is not None:
        inside, whole = [times.get(row.name, 0.0) for row in rows], sum(times.values())
        cells.insert(-1, ["outside these layers", *[""] * 8])
        column = ["ms", *(f"{ms:.2f}" for ms in (*inside, whole - sum(inside), whole))]
        cells = [[*line, cell] for line, cell in zip(cells, column, strict=True)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(" ".join([*map(str.ljust, line[:2], widths), *map(str.rjust, line[2:], widths[2:])]).rstrip()
                     for line in cells)


def _with_shares(values: dict[str, int], totals: dict[str, int]) -> list[str]:
    """Each value and its share of the total, as cells; activations in KB."""
    cells = []
    for kind, value in values.items():
        number = f"{value / 1024:,.1f}" if kind == "activations" else f"{value:,}"
        cells += [number, f"{value / max(totals[kind], 1):.1%}"]
    return cells


def _quantised_rules() -> dict[object, Callable]:
    """FLOPs (2 a multiply-accumulate) of torch's quantised operators, for its counter."""
    def count(*args: object, out_shape: tuple[int, ...], **_options: object) -> int:
        # (C_out, C_in / groups, ...): what one number takes is a filter's length
        weight = next(filter(_is_packed, args)).unpack()[0]
        return 2 * math.prod(out_shape) * weight.numel() // len(weight)

    names = [f"{layer}{after}" for layer in ("conv1d", "conv2d", "conv3d", "linear")
             for after in ("", "_relu", "_add", "_add_relu", "_dynamic", "_relu_dynamic", "_leaky_relu", "_tanh")]
    known = torch.ops.quantized
    return {getattr(known, name): count for name in names if hasattr(known, name)}


def _storages(tensor: Tensor | np.ndarray) -> Iterator[tuple[int, int]]:
    """Address and bytes of all memory that a tensor or array keeps alive."""
    if isinstance(tensor, np.ndarray):
        while isinstance(tensor.base, np.ndarray):
            tensor = tensor.base
        yield tensor.__array_interface__["data"][0], tensor.nbytes
    elif tensor.layout is torch.sparse_coo:
        for part in (tensor._indices(), tensor._values()):
            yield from _storages(part)
    elif tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        for part in (tensor.crow_indices(), tensor.col_indices(), tensor.values()):
            yield from _storages(part)
    elif tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        for part in (tensor.ccol_indices(), tensor.row_indices(), tensor.values()):
            yield from _storages(part)
    else:
        yield tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes()


def _is_packed(item: object) -> bool:
    """Whether it is what torch.ops.quantized keeps a layer's weights and biases in, laid out for the processor."""
    return type(item).__name__ == "ScriptObject" and hasattr(item, "unpack")


def _flatten_thop(tree: dict, prefix: str = "") -> Iterator[tuple[str, int]]:
    """thop's nested {child: (ops, params, children)} as (module name, its own MACs) of the leaves."""
    for child, (ops, _, children) in tree.items():
        if children:
            yield from _flatten_thop(children, f"{prefix}{child}.")
        else:
            yield f"{prefix}{child}", int(ops)


def _own_macs(counter: FlopCounterMode, root: str) -> dict[str, int]:
    """MACs that each module dispatches itself; the counter's figures are FLOPs = 2 MACs and include the children."""
    totals = {"" if name == root else name.removeprefix(f"{root}."): sum(ops.values()) // 2
              for name, ops in counter.get_flop_counts().items() if name != "Global"}
    # What runs outside every module's forward hooks is only in the counter's grand total.
    totals[""] = counter.get_total_flops() // 2
    own = dict(totals)
    for name, macs in totals.items():
        if name:
            parent = name.rpartition(".")[0]
            while parent and parent not in totals:
                parent = parent.rpartition(".")[0]
            own[parent] -= macs
    return {name: macs for name, macs in own.items() if macs > 0}


def _note_output(shapes: dict[str, tuple[int, ...]], sizes: dict[str, int], made: dict[int, "weakref.ref[Tensor]"],
                 name: str, _module: nn.Module, _args: tuple, output: object) -> None:
    if isinstance(output, Tensor):
        shapes[name] = tuple(output.shape)
        before = made.get(id(output))
        if before is None or before() is not output:  # an id is only unique while its object lives
            made[id(output)] = weakref.ref(output)
            sizes[name] = sizes.get(name, 0) + output.numel() * output.element_size()


def _held_tensors(*roots: object) -> Iterator[Tensor | np.ndarray]:
    """Every tensor and array that can be reached from `roots` through attributes, containers, closures and code."""
    stack, seen = list(roots), {}
    while stack:
        item = stack.pop()
        if id(item) in seen or isinstance(item, (type, ModuleType, str, bytes, int, float)):
            continue
        seen[id(item)] = item  # an id is only unique while its object lives
        if isinstance(item, (Tensor, np.ndarray)):
            yield item
            if getattr(item, "is_quantized", False) and "channel" in str(item.qscheme()):
                stack += [item.q_per_channel_scales(), item.q_per_channel_zero_points()]
        elif _is_packed(item):
            stack.append(item.unpack())
        elif isinstance(item, dict):
            stack += [*item.keys(), *item.values()]
        elif isinstance(item, (list, tuple, set, frozenset)):
            stack += item
        elif isinstance(item, MethodType):
            stack += [item.__self__, item.__func__]
        elif isinstance(item, functools.partial):
            stack += [item.func, item.args, item.keywords]
        elif isinstance(item, (staticmethod, classmethod)):
            stack.append(item.__func__)
        elif isinstance(item, property):
            stack += [item.fget, item.fset]
        elif isinstance(item, FunctionType):
            stack += _function_holds(item)
        elif isinstance(item, nn.Module):
            own = [cls for cls in type(item).__mro__ if not cls.__module__.startswith(("torch", "builtins"))]
            stack += [dict(vars(cls)) for cls in own]
        if hasattr(item, "__dict__"):
            held = dict(vars(item))
            if type(item).__module__.startswith("torch.ao.nn."):
                held.pop("_packed_params", None)  # their state_dict unpacks them
            stack.append(held)


def _function_holds(function: FunctionType) -> list[object]:
    """What a function carries along: defaults, closure; of the globals it names tensors, tables, its file's own."""
    held = [function.__defaults__, function.__kwdefaults__]
    for cell in function.__closure__ or ():
        try:
            held.append(cell.cell_contents)
        except ValueError:  # a name that was never bound
            continue
    for name in function.__code__.co_names:
        value = function.__globals__.get(name)
        ours = getattr(value, "__module__", None) == function.__module__  # defined in the same file
        if isinstance(value, type):
            held += [dict(vars(value))] if ours else []
        elif ours or isinstance(value, (Tensor, np.ndarray, list, tuple, dict, set)):
            held.append(value)
    return held
