"""The operators that a graph may use, by exact name and overload, and how the work of each is counted.

Multiply-accumulates (MACs), from shapes alone:
- convolutions, matrix products and attention: as torch's own counter (torch.utils.flop_counter) has
  them, one for each product that is summed;
- batch norm and average pooling: as thop has them (4 an element with weights, 2 without; an element a mean, and for
  adaptive pooling its window as well);
- everything else, resizes among it: nothing. A second ledger has the elements that it writes, and those that a
  resize reads; a third the elements of arithmetic alone: what is computed number by number or normalized, what is
  summed, and what sampling at computed places weighs (see `arithmetic`).

Not here, so never run: random numbers, memory that is not initialized, views by raw strides, files, callbacks, and
every operator whose output's shape depends on the values of a tensor. Nor are recurrent layers as one operator, which
torch does not check (wrong shapes end the process): an export takes them apart into products.
"""
import math
from collections.abc import Callable

import torch

from utils.graph.errors import GraphError

Shape = tuple[int, ...]

# A name without an overload stands for its `default`.
ARITHMETIC = """
abs abs_ neg neg_ exp exp_ expm1 log log2 log1p log_ sqrt sqrt_ rsqrt rsqrt_ square reciprocal sign floor floor_
ceil round round_ trunc sin cos tan tanh tanh_ atan erf sigmoid sigmoid_ log_sigmoid relu relu_ relu6 relu6_
selu selu_ silu silu_ mish mish_ hardswish hardswish_ hardsigmoid hardsigmoid_ hardtanh hardtanh_ elu elu_ celu
celu_ leaky_relu leaky_relu_ gelu softplus softshrink hardshrink prelu _prelu_kernel logical_not logical_and
logical_or logical_xor bitwise_not isnan isinf isfinite add.Tensor add.Scalar add_.Tensor add_.Scalar sub.Tensor
sub.Scalar sub_.Tensor sub_.Scalar rsub.Scalar rsub.Tensor mul.Tensor mul.Scalar mul_.Tensor mul_.Scalar
div.Tensor div.Scalar div_.Tensor div_.Scalar div.Tensor_mode div_.Tensor_mode div.Scalar_mode
true_divide.Tensor floor_divide floor_divide.Scalar remainder.Scalar remainder.Tensor fmod.Scalar
pow.Tensor_Scalar pow.Tensor_Tensor pow_.Scalar atan2 maximum minimum max.other min.other lerp.Scalar
lerp.Tensor addcmul addcdiv clamp clamp_ clamp.Tensor clamp_min clamp_min_ clamp_max clamp_max_ clip where.self
where.ScalarOther where.ScalarSelf where.Scalar masked_fill.Scalar masked_fill.Tensor masked_fill_.Scalar
threshold threshold_ eq.Tensor eq.Scalar ne.Tensor ne.Scalar lt.Tensor lt.Scalar le.Tensor le.Scalar gt.Tensor
gt.Scalar ge.Tensor ge.Scalar bitwise_and.Tensor bitwise_and.Scalar bitwise_or.Tensor bitwise_or.Scalar
bitwise_xor.Tensor bitwise_xor.Scalar bitwise_left_shift.Tensor bitwise_left_shift.Tensor_Scalar
bitwise_right_shift.Tensor bitwise_right_shift.Tensor_Scalar __and__.Tensor __and__.Scalar __or__.Tensor
__or__.Scalar __rshift__.Scalar __rshift__.Tensor __lshift__.Scalar __lshift__.Tensor nan_to_num glu softmax.int
log_softmax.int _softmax _log_softmax cumsum layer_norm native_layer_norm group_norm native_group_norm rms_norm
_weight_norm _weight_norm_interface affine_grid_generator grid_sampler grid_sampler_2d
""".split()  # noqa: SIM905
SHAPING = """
view view.dtype reshape flatten.using_ints unflatten.int squeeze squeeze.dim squeeze.dims unsqueeze permute
transpose.int t movedim.int movedim.intlist swapaxes mT expand expand_as broadcast_to select.int slice.Tensor
narrow split.Tensor split_with_sizes split.sizes chunk unbind.int tensor_split.sections tensor_split.indices
detach detach_ alias contiguous view_as reshape_as _unsafe_view unfold diagonal
""".split()  # noqa: SIM905
MOVING = """
cat concat stack hstack vstack clone copy copy_ repeat repeat_interleave.self_int tile flip roll rot90
pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle pad constant_pad_nd reflection_pad1d
reflection_pad2d replication_pad1d replication_pad2d _pad_circular im2col gather index_select
take_along_dim index.Tensor index_put index_put_ scatter.src scatter.value slice_scatter select_scatter tril
triu to.dtype to.device to.dtype_layout to.other _to_copy type_as lift lift_fresh lift_fresh_copy fill.Scalar
fill_.Scalar zero_ zeros ones full scalar_tensor zeros_like ones_like full_like new_zeros new_ones new_full
arange arange.start arange.start_step linspace eye eye.m embedding one_hot meshgrid meshgrid.indexing item
_local_scalar_dense dropout dropout_ feature_dropout alpha_dropout
""".split()  # noqa: SIM905
SUMMING = """
sum sum.dim_IntList mean mean.dim prod prod.dim_int std.dim std.correction var.dim var.correction
var_mean.correction norm.ScalarOpt_dim norm.Scalar linalg_vector_norm logsumexp col2im
""".split()  # noqa: SIM905
OTHER = """
amax amin max min max.dim min.dim argmax argmin any any.dim all all.dim sort topk median.dim max_pool1d
max_pool2d max_pool2d_with_indices max_unpool2d adaptive_max_pool2d upsample_nearest2d.vec upsample_nearest2d
upsample_bilinear2d.vec upsample_bilinear2d upsample_bicubic2d.vec upsample_bicubic2d
_upsample_nearest_exact2d.vec _upsample_nearest_exact2d _upsample_bilinear2d_aa.vec _upsample_bilinear2d_aa
upsample_nearest1d.vec upsample_linear1d.vec
""".split()  # noqa: SIM905


def _convolution(out: Shape, args: dict) -> int:
    if args.get("transposed"):
        return math.prod(args["input"]) * math.prod(args["weight"][1:])
    return math.prod(out) * math.prod(args["weight"][1:])


def _transposed(out: Shape, args: dict) -> int:
    return math.prod(args["input"]) * math.prod(args["weight"][1:])


def _linear(out: Shape, args: dict) -> int:
    return math.prod(out) * args["weight"][-1]


def _product(out: Shape, args: dict) -> int:
    """The result's elements times the length of what is summed: (..., n, k) @ (..., k, m), vectors among them."""
    return math.prod(out) * args["self"][-1]


def _added(out: Shape, args: dict) -> int:
    first = next(args[name] for name in ("mat1", "batch1", "mat") if name in args)
    return math.prod(out) * first[-1]


def _attention(out: Shape, args: dict) -> int:
    query, key, value = args["query"], args["key"], args["value"]
    return math.prod(out[:-1]) * key[-2] * (query[-1] + value[-1])  # out: its batch may be the key's, broadcast


def _batch_norm(out: Shape, args: dict) -> int:
    return math.prod(out) * (4 if args.get("weight") is not None else 2)


def _pooling(out: Shape, args: dict) -> int:
    return math.prod(out)


def _adaptive_pooling(out: Shape, args: dict) -> int:
    size, area = args["self"], 1
    for whole, parts in zip(size[-2:], out[-2:], strict=True):
        area *= whole // parts
    return math.prod(out) * (area + 1)


COUNTED: dict[str, Callable[[Shape, dict], int]] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv2d.padding", "conv1d.padding", "convolution"), _convolution),
    **dict.fromkeys(("conv_transpose2d.input", "conv_transpose1d"), _transposed),
    "linear": _linear,
    **dict.fromkeys(("matmul", "mm", "bmm", "mv", "dot"), _product),
    **dict.fromkeys(("addmm", "baddbmm", "addmv"), _added),
    "scaled_dot_product_attention": _attention,
    **dict.fromkeys(("batch_norm", "_native_batch_norm_legit_no_training", "native_batch_norm"), _batch_norm),
    **dict.fromkeys(("avg_pool1d", "avg_pool2d"), _pooling),
    **dict.fromkeys(("adaptive_avg_pool2d", "_adaptive_avg_pool2d"), _adaptive_pooling),
}
# Input values that a resize reads for one output; the "bi" and "linear" of names stand in their order.
WINDOW = {"nearest": 1, "bilinear": 4, "linear": 2, "bicubic": 16, "grid_sampler": 4}
POSITIONS = {"index", "start", "end", "step", "shifts", "diagonal", "diagonal1"}  # whole numbers that select
# Arguments that must have one value: what else they do is random, changes the tensors, or sums without being counted.
FIXED = {"train": False, "training": False, "dropout_p": 0.0, "pin_memory": False, "sparse": False,
         "accumulate": False}
WORDS = {"zeros", "border", "reflection", "constant", "reflect", "replicate", "circular", "none", "tanh", "floor",
         "trunc", "valid", "same", "ij", "xy", "mean", "sum", "left", "right", "linear", "nearest"}


def _named(name: str) -> str:
    return name if "." in name else f"{name}.default"


NAMES = frozenset(map(_named, [*ARITHMETIC, *SHAPING, *MOVING, *SUMMING, *OTHER, *COUNTED]))
VIEWS = frozenset(map(_named, SHAPING))
ARITHMETIC_NAMES, SUMMING_NAMES = frozenset(map(_named, ARITHMETIC)), frozenset(map(_named, SUMMING))
COUNT = {_named(name): rule for name, rule in COUNTED.items()}


def find(name: str) -> object:
    """The operator of that name and overload, such as "conv2d.default". Raises GraphError if it is not on the list."""
    base, _, overload = name.partition(".")
    packet = getattr(torch.ops.aten, base, None) if name in NAMES else None
    if packet is None or overload not in packet.overloads():
        raise GraphError(f"expected an operator of the list, found {name[:80]!r}")
    return getattr(packet, overload)


def arithmetic(name: str, out: torch.Tensor, largest: int) -> int:
    """The elements of arithmetic that an operator adds; largest: the elements of its largest tensor.

    Each counts as many times as its type has bytes where it is of whole numbers or 64 bits, which hold several small
    numbers; of a sample at computed places 4 are weighed.
    """
    elements = largest if name in SUMMING_NAMES else out.numel() if name in ARITHMETIC_NAMES else 0
    exact = out.dtype == torch.float64 or not (out.is_floating_point() or out.dtype == torch.bool)
    return elements * (4 if "grid_sampler" in name else 1) * (out.dtype.itemsize if exact else 1)


def resize_window(name: str) -> int:
    """How many input values a resize reads for one of its output; 0 for what is no resize."""
    if "upsample" not in name and "grid_sampler" not in name:
        return 0
    return next(area for kind, area in WINDOW.items() if kind in name)
