"""What a network costs: multiply-accumulates (MACs), bytes, and the figure of merit (FoM) that ranks task 2.

The rules, for one 1 x 3 x 256 x 512 input: convolutions and matrix products count as torch's dispatcher sees them
(`torch.utils.flop_counter`, 2 FLOPs a MAC), batch norms and poolings as thop does, resizes by F.interpolate nothing.

Two counters take part, and the larger total counts. thop adds rules to module types, so it misses functional calls and
subclasses; it counts nn.Upsample too. The dispatcher sees all products however they are called, but no batch norm.
Rules for products that it lacks are here, and for torch's quantized layers, which keep their weights packed.
"""
import copy
import functools
import math
import re
import sys
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FunctionType, MethodType, ModuleType

import numpy as np
import thop
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from utils.lab import FOM_OFFSET, INPUT_SIZE, TASKS, LabError


def _product(_into: tuple, a: tuple, b: tuple, *_: object, **_options: object) -> int:
    return 2 * math.prod(a) * b[-1]


def _attention(query: tuple, key: tuple, value: tuple, *_: object, **_options: object) -> int:
    """query (..., L, E), key (..., S, E), value (..., S, V): L x S products over E, then over V."""
    return 2 * math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


# FLOPs, by the shapes of the operands, of products that torch's counter has no rule for.
PRODUCTS: dict[object, Callable] = {getattr(torch.ops.aten, name): _product for name in (
    "addmm_", "baddbmm_", "addbmm", "addbmm_", "_addmm_activation")} | {
    torch.ops.aten._int_mm: lambda *args, **_options: _product((), *args),
    torch.ops.aten.conv_tbc: lambda _, weight, *_args, out_shape, **_options: 2 * math.prod((*out_shape, *weight[:2])),
    # Each release of torch has other kernels for attention, and rules for some of them.
    **{getattr(torch.ops.aten, name): _attention for name in dir(torch.ops.aten)
       if re.fullmatch(r"_?scaled_dot_product\w*attention\w*(?<!backward)", name)}}


@dataclass
class Profile:
    """The counts of one forward pass, in MACs: thop's and the dispatcher's, in total and of each module by itself.

    `output_shapes` and `output_bytes` are of what each module returns, by its name; "" is the network itself.
    """

    thop: int = 0
    dispatched: int = 0
    thop_by_module: dict[str, int] = field(default_factory=dict)
    dispatched_by_module: dict[str, int] = field(default_factory=dict)
    output_shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    output_bytes: dict[str, int] = field(default_factory=dict)

    @property
    def flops(self) -> int:
        """The lab's FLOPs: the larger of the two totals."""
        return max(self.thop, self.dispatched)

    @property
    def unseen(self) -> list[str]:
        """The modules whose work thop misses, most of it first; empty where thop's total is the larger one."""
        if self.thop >= self.dispatched:
            return []
        hidden = {name: macs - self.thop_by_module.get(name, 0) for name, macs in self.dispatched_by_module.items()}
        return sorted((name for name in hidden if hidden[name] > 0), key=lambda name: -hidden[name])


def copy_for_counting(model: nn.Module) -> nn.Module:
    """A copy of `model` on the CPU, in eval mode."""
    copied = copy.deepcopy(model).cpu()
    copied.eval()  # not chained: a student's train() may return nothing
    return copied


def profile_model(model: nn.Module, input_size: tuple[int, int] = INPUT_SIZE) -> Profile:
    """Counts one forward pass over a 1 x 3 x H x W input of zeros, on copies of `model` on the CPU, in eval mode."""
    data, profile = torch.zeros(1, 3, *input_size), Profile()
    # thop leaves buffers behind, hence a copy for each counter
    total, _, tree = thop.profile(copy_for_counting(model), (data,), verbose=False, ret_layer_info=True)
    profile.thop = int(total)
    profile.thop_by_module = dict(_flatten_thop(tree))
    profile.thop_by_module[""] = profile.thop - sum(profile.thop_by_module.values())  # where it is one layer

    watched = copy_for_counting(model)
    made: dict[int, weakref.ref[Tensor]] = {}
    for name, module in watched.named_modules():
        module.register_forward_hook(functools.partial(_note_output, profile, made, name))
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # it hides attention's products from the counter
    try:
        with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=PRODUCTS | _quantized_rules()) as counter:
            watched(data)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    profile.dispatched_by_module = _own_macs(counter, type(watched).__name__)
    profile.dispatched = sum(profile.dispatched_by_module.values())
    return profile


def count_flops(model: nn.Module, input_size: tuple[int, int] = INPUT_SIZE) -> int:
    """The lab's FLOPs (multiply-accumulates) of `model` for one image of `input_size` (H, W).

    Where thop misses work, a warning on stderr names the layers; the work counts.
    """
    profile = profile_model(model, input_size)
    if profile.unseen:
        types = {name: type(module).__name__ for name, module in model.named_modules()}
        layers = ", ".join(f"{name or 'the network itself'} ({types.get(name, '?')})" for name in profile.unseen[:8])
        more = f" and {len(profile.unseen) - 8} more" if len(profile.unseen) > 8 else ""
        print(f"warning: thop counts {profile.thop} MACs but {profile.dispatched} are executed, which count; "
              f"thop cannot see {layers}{more}", file=sys.stderr)
    return profile.flops


def figure_of_merit(flops: int, size_kb: float, miou: float) -> float | None:
    """FLOPs^2 x size_KB^2 / (mIoU - FOM_OFFSET), smaller is better; None below task 2's mIoU (no rank) or for NaN."""
    if flops <= 0 or size_kb <= 0:
        raise LabError(f"expected a network that costs something, found {flops} FLOPs and {size_kb} KB: "
                       "keep the weights in parameters and the work in layers")
    if not miou >= TASKS[2].miou or miou <= FOM_OFFSET:
        return None
    return float(flops) ** 2 * float(size_kb) ** 2 / (miou - FOM_OFFSET)


def count_size(model: nn.Module) -> float:
    """The lab's size in KB: bytes of every tensor that `model` holds, each storage once, / 1024.

    Count it before the first forward pass: what a pass leaves behind depends on the batch (see `left_by_passes`).
    Parameters, buffers (persistent or not) and tensors or arrays in attributes, containers and closures all count. A
    view counts with the whole storage that it keeps alive, a quantized tensor with its scales and zero points, packed
    weights with what they unpack to.
    """
    return sum(held_storages(model).values()) / 1024


def held_storages(model: nn.Module) -> dict[int, int]:
    """The memory of all tensors and arrays that `model` holds: bytes by address."""
    return _storages_of(model, model.state_dict())


def left_by_passes(model: nn.Module, before: dict[int, int]) -> str:
    """What forward passes have left in `model` beyond `before`, its `held_storages` until then; "" for nothing.

    A line: KB, and the attributes that hold it. It is not counted in the size.
    """
    after = held_storages(model)
    grown = sum(after.values()) - sum(before.values())
    if grown <= 0:
        return ""
    new = {place for place, size in after.items() if size > before.get(place, 0)}
    names = []
    for name, module in model.named_modules():
        held = {**vars(module), **module._buffers, **module._parameters}
        names += [f"{name}.{attribute}".lstrip(".") for attribute, value in held.items()
                  if attribute not in ("_modules", "_buffers", "_parameters") and new & _storages_of(value).keys()]
    return f"{grown / 1024:,.1f} KB ({', '.join(names[:4]) or 'outside its modules'})"


def _storages_of(*roots: object) -> dict[int, int]:
    storages: dict[int, int] = {}
    for tensor in _held_tensors(*roots):
        for place, size in _storages(tensor):
            storages[place] = max(size, storages.get(place, 0))  # an array and a tensor can share one
    return storages


def _storages(tensor: Tensor | np.ndarray) -> Iterator[tuple[int, int]]:
    """Address and bytes of all memory that a tensor or array keeps alive."""
    if isinstance(tensor, np.ndarray):
        while isinstance(tensor.base, np.ndarray):
            tensor = tensor.base
        yield tensor.__array_interface__["data"][0], tensor.nbytes
        return
    parts = {torch.sparse_coo: ("_indices", "_values")}
    parts |= dict.fromkeys((torch.sparse_csr, torch.sparse_bsr), ("crow_indices", "col_indices", "values"))
    parts |= dict.fromkeys((torch.sparse_csc, torch.sparse_bsc), ("ccol_indices", "row_indices", "values"))
    for part in parts.get(tensor.layout, ()):
        yield from _storages(getattr(tensor, part)())
    if tensor.layout not in parts:
        yield tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes()


CARRIERS = {MethodType: ("__self__", "__func__"), functools.partial: ("func", "args", "keywords"),
            staticmethod: ("__func__",), classmethod: ("__func__",), property: ("fget", "fset")}


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
        elif isinstance(item, tuple(CARRIERS)):
            stack += [getattr(item, name) for kind, names in CARRIERS.items() if isinstance(item, kind)
                      for name in names]
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
    """What a function carries along: defaults, closure, and of its globals tensors, containers, its file's own."""
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


def _is_packed(item: object) -> bool:
    """Whether it is what torch.ops.quantized keeps a layer's weights and biases in, laid out for the processor."""
    return type(item).__name__ == "ScriptObject" and hasattr(item, "unpack")


def _quantized_rules() -> dict[object, Callable]:
    """FLOPs of torch's quantized operators, for its counter."""
    def count(*args: object, out_shape: tuple[int, ...], **_options: object) -> int:
        # (C_out, C_in / groups, ...): what one number takes is a filter's length
        weight = next(filter(_is_packed, args)).unpack()[0]
        return 2 * math.prod(out_shape) * weight.numel() // len(weight)

    names = [f"{layer}{after}" for layer in ("conv1d", "conv2d", "conv3d", "linear")
             for after in ("", "_relu", "_add", "_add_relu", "_dynamic", "_relu_dynamic", "_leaky_relu", "_tanh")]
    known = torch.ops.quantized
    return {getattr(known, name): count for name in names if hasattr(known, name)}


def _flatten_thop(tree: dict, prefix: str = "") -> Iterator[tuple[str, int]]:
    """thop's nested {child: (ops, params, children)} as (module name, its own MACs) of the leaves."""
    for child, (ops, _, children) in tree.items():
        if children:
            yield from _flatten_thop(children, f"{prefix}{child}.")
        else:
            yield prefix + child, int(ops)


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


def _note_output(profile: Profile, made: dict[int, "weakref.ref[Tensor]"], name: str, _module: nn.Module, _args: tuple,
                 output: object) -> None:
    """A forward hook: notes the shape and, unless a child has returned the same tensor before, the bytes."""
    if isinstance(output, Tensor):
        profile.output_shapes[name] = tuple(output.shape)
        before = made.get(id(output))
        if before is None or before() is not output:  # an id is only unique while its object lives
            made[id(output)] = weakref.ref(output)
            profile.output_bytes[name] = profile.output_bytes.get(name, 0) + output.numel() * output.element_size()
