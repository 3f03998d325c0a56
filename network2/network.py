"""Task 2: a U-shaped network of depthwise-separable blocks, with few multiply-accumulates (MACs) and few bytes.

A 3x3 convolution from C to D channels costs 9 C D MACs a pixel. Split into a depthwise 3x3 (each channel by itself,
9 C) and a pointwise 1x1 (across the channels, C D) it costs C (9 + D), 5 to 8 times less at these widths (Howard et
al., "MobileNets", 2017). What else makes the network small:

- Pixel unshuffle turns 2x2 pixels into channels: it reaches stride 2, loses nothing and costs nothing.
- A layer at stride 4 costs 16 times as much as at stride 16, so most channels and blocks are at strides 8 and 16.
- Dilation lets the blocks at stride 16, where the image is 16 x 32, see further. It costs nothing.
- Skip connections are added, not concatenated. The decoder is as wide as stride 4, so the skip there costs nothing.
- Batch norm is for the training alone. `deploy` folds it into the convolution before it: the same output.

Hand in this file alone; import only torch and the standard library. Shapes: N images, C channels, H x W pixels.
"""
import copy
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

DILATIONS = {4: (1,), 8: (1,), 16: (1, 2, 4, 8)}  # of the blocks in turn, for each stage by its stride
frozen = partial(nn.Parameter, requires_grad=False)
resize = partial(F.interpolate, mode="bilinear", align_corners=False)  # thop counts 11 MACs a pixel for nn.Upsample


class Rung(NamedTuple):
    """One row of the table. Widths and blocks are those of the stages at strides 4, 8 and 16."""

    widths: tuple[int, int, int]
    blocks: tuple[int, int, int]
    refine: int = 0           # blocks at stride 8 in the decoder
    context: bool = True      # whether the mean over the whole image is added at stride 16
    block: str = "separable"  # a name in BLOCKS


def rungs() -> dict[str, Rung]:
    """The networks by name, from the safest to the smallest. `LowComplexityNet()` builds the one called `safe`."""
    ### BEGIN SOLUTION task 2: the table of networks
    return {
        #                widths        blocks     refine  context
        "safe":    Rung((16, 24, 48), (1, 2, 4), 1),
        "target":  Rung((12, 24, 36), (0, 2, 3), 1),
        "lean":    Rung((12, 20, 32), (0, 2, 3)),
        "stretch": Rung((12, 16, 24), (0, 1, 2), 0,      False),
    }
    ### END SOLUTION


class ConvNorm(nn.Module):
    """A convolution without bias, then batch norm: (N, C_in, H, W) -> (N, C_out, H/stride, W/stride)."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, dilation: int = 1,
                 groups: int = 1) -> None:
        super().__init__()
        self.shape = dict(in_channels=in_channels, out_channels=out_channels, kernel_size=kernel, stride=stride,
                          padding=kernel // 2 * dilation, dilation=dilation, groups=groups)
        ### BEGIN SOLUTION task 2: the layers of ConvNorm
        self.conv = nn.Conv2d(**self.shape, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        self.branches = nn.ModuleList()
        ### END SOLUTION

    def add_branches(self, number: int) -> None:
        """Adds `number` convolutions beside this one, and where the shapes allow it a 1x1 and the input itself.

        The sum is easier to train, and `fold` makes one convolution of it (Ding et al., "RepVGG", 2021).
        """
        shape = self.shape
        added = [nn.Conv2d(**shape, bias=False) for _ in range(number)]
        if number and shape["kernel_size"] == 3:
            added.append(nn.Conv2d(**shape | {"kernel_size": 1, "padding": 0}, bias=False))
        if number and shape["in_channels"] == shape["out_channels"] and shape["stride"] == 1:
            added.append(nn.Identity())
        self.branches.extend(nn.Sequential(module, nn.BatchNorm2d(shape["out_channels"])) for module in added)

    def forward(self, x: Tensor) -> Tensor:
        ### BEGIN SOLUTION task 2: the forward pass of ConvNorm
        return sum((branch(x) for branch in self.branches), self.bn(self.conv(x)))
        ### END SOLUTION

    def fold(self) -> nn.Conv2d:
        """One convolution with bias that computes what this module computes in eval mode."""
        folded = nn.Conv2d(**self.shape).to(self.bn.weight.device)
        ### BEGIN SOLUTION task 2: fold batch norms and branches into one convolution
        # In eval mode batch norm is y = gain (x - mean) / std + shift: one factor for each filter, and a bias.
        identity = nn.init.dirac_(torch.empty_like(folded.weight), self.shape["groups"])
        weight = bias = 0
        for conv, bn in [(self.conv, self.bn), *self.branches]:
            kernel = getattr(conv, "weight", identity)
            border = (identity.shape[2] - kernel.shape[2]) // 2  # a 1x1 is a 3x3 with zeros around it
            part = fuse_conv_bn_weights(F.pad(kernel, [border] * 4), None, bn.running_mean, bn.running_var, bn.eps,
                                        bn.weight, bn.bias)
            weight, bias = weight + part[0].data, bias + part[1].data
        folded.weight, folded.bias = nn.Parameter(weight), nn.Parameter(bias)
        return folded
        ### END SOLUTION


class Separable(nn.Module):
    """Depthwise 3x3, pointwise 1x1, added to the input: C (9 + C) MACs a pixel, 792 for C = 24 (a plain 3x3: 5,184)."""

    def __init__(self, width: int, dilation: int = 1) -> None:
        super().__init__()
        ### BEGIN SOLUTION task 2: the layers of Separable
        self.conv_dw = ConvNorm(width, width, 3, dilation=dilation, groups=width)
        self.conv_pw = ConvNorm(width, width)
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        ### BEGIN SOLUTION task 2: the forward pass of Separable
        return F.relu(x + self.conv_pw(F.relu(self.conv_dw(x))))
        ### END SOLUTION


# The blocks of the table by name, each a module of (width, dilation) that keeps the shape. frontier/blocks.py has
# others: to hand in a network of one, copy its class into this file and add it here.
BLOCKS = {"separable": Separable}


class Stage(nn.Module):
    """Halves the resolution, then applies the blocks: (N, C_in, H, W) -> (N, width, H/2, W/2)."""

    def __init__(self, in_channels: int, width: int, blocks: int, block: str, dilations: tuple[int, ...]) -> None:
        super().__init__()
        ### BEGIN SOLUTION task 2: the layers of Stage
        self.conv_dw = ConvNorm(in_channels, in_channels, 3, stride=2, groups=in_channels)
        self.conv_pw = ConvNorm(in_channels, width)
        self.blocks = nn.Sequential()
        for index in range(blocks):
            self.blocks.add_module(f"{block}{index}", BLOCKS[block](width, dilations[index % len(dilations)]))
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        ### BEGIN SOLUTION task 2: the forward pass of Stage
        return self.blocks(F.relu(self.conv_pw(F.relu(self.conv_dw(x)))))
        ### END SOLUTION


class LowComplexityNet(nn.Module):
    """Float32 images (N, 3, H, W), normalized, to float32 logits (N, 8, H, W). H and W divide by 16.

    `branches` adds that many convolutions beside each one. In training mode H and W of the logits are divided by
    `train_stride`, 1, 2 or 4: a CPU needs longer to enlarge them to the full size than for all the rest.
    """

    train_stride = 1
    dtype = torch.float32  # of the computation, see `deploy`

    def __init__(self, rung: Rung | None = None, branches: int = 0, num_classes: int = 8) -> None:
        super().__init__()
        ### BEGIN SOLUTION task 2: the layers of the network
        self.rung = rung = rung or rungs()["safe"]
        in_channels = 3 * 2 * 2               # after the pixel unshuffle
        for width, blocks, (stride, dilations) in zip(rung.widths, rung.blocks, DILATIONS.items(), strict=True):
            self.add_module(f"stage{stride}", Stage(in_channels, width, blocks, rung.block, dilations))
            in_channels = width
        w4, w8, w16 = rung.widths
        self.context = nn.Conv2d(w16, w4, 1) if rung.context else None
        self.lateral16 = ConvNorm(w16, w4)
        self.lateral8 = ConvNorm(w8, w4)
        self.refine8 = nn.Sequential(*(Separable(w4) for _ in range(rung.refine)))
        self.refine4 = ConvNorm(w4, w4, 3, groups=w4)
        self.head = nn.Conv2d(w4, num_classes, 1)
        for part in [part for part in self.modules() if isinstance(part, ConvNorm)]:
            part.add_branches(branches)
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] % 16 or x.shape[3] % 16:
            raise ValueError(f"expected images (N, 3, H, W) with H and W divisible by 16, got {tuple(x.shape)}")
        ### BEGIN SOLUTION task 2: the forward pass of the network
        stride = self.train_stride if self.training else 1
        size = x.shape[2] // stride, x.shape[3] // stride
        x = F.pixel_unshuffle(x.to(self.dtype), 2)         # (N, 12, H/2, W/2)
        s4 = self.stage4(x)                                # (N, w4, H/4, W/4)
        s8 = self.stage8(s4)                               # (N, w8, H/8, W/8)
        s16 = self.stage16(s8)                             # (N, w16, H/16, W/16)
        y = self.lateral16(s16)                            # (N, w4, H/16, W/16); before the resize it costs a quarter
        if self.context is not None:
            y = y + self.context(s16.mean((2, 3), keepdim=True))
        y = self.refine8(F.relu(resize(y, s8.shape[2:]) + self.lateral8(s8)))  # (N, w4, H/8, W/8)
        y = F.relu(resize(y, s4.shape[2:]) + s4)           # (N, w4, H/4, W/4)
        y = self.head(F.relu(self.refine4(y)))             # (N, 8, H/4, W/4)
        return resize(y.float(), size)
        ### END SOLUTION


def load_model(MODEL_PATH: str) -> nn.Module:  # noqa: N803  (the lab's fixed name)
    """Builds the network that the state_dict in `MODEL_PATH` belongs to and loads it, strictly, onto the CPU."""
    state_dict = torch.load(MODEL_PATH, map_location="cpu", weights_only=True)
    ### BEGIN SOLUTION task 2: build the network that the weights belong to
    weights = {key.replace(".stored.", "."): tensor for key, tensor in state_dict.items()}
    num_classes, w4 = weights["head.weight"].shape[:2]
    w8, w16 = (weights[f"lateral{stride}.weight"].shape[1] for stride in (8, 16))
    names = [{key.split(".")[2] for key in weights if key.startswith(f"stage{stride}.blocks.")} for stride in DILATIONS]
    refine = {key.split(".")[1] for key in weights if key.startswith("refine8.")}
    block = {name.rstrip("0123456789") for stage in names for name in stage}
    rung = Rung((w4, w8, w16), tuple(map(len, names)), len(refine), "context.weight" in weights, *block)
    store = str(weights["head.weight"].dtype).removeprefix("torch.")
    model = deploy(LowComplexityNet(rung, num_classes=num_classes), store)
    ### END SOLUTION
    model.load_state_dict(state_dict, strict=True)
    return model


def deploy(network: nn.Module, store: str = "float32") -> nn.Module:
    """The copy of `network` that is saved and handed in: in eval mode, batch norms folded, weights held as `store`.

    "float32" computes the same to 1e-4, "float16" takes half of the bytes and computes in float16, "int8" (see Stored)
    takes a quarter and computes in float32. Raises ValueError for another one. A float32 copy may be deployed again.
    """
    if store not in ("float32", "float16", "int8"):
        raise ValueError(f"expected float32, float16 or int8, got {store}")
    deployed = copy.deepcopy(network).eval()
    steps = [(ConvNorm, ConvNorm.fold)] + ([(nn.Conv2d, Stored)] if store == "int8" else [])
    for kind, make in steps:
        for parent in list(deployed.modules()):
            for name, module in list(parent.named_children()):
                if type(module) is kind:
                    setattr(parent, name, make(module))
    if store == "float16":
        deployed.half().dtype = torch.float16
    return deployed


def shift_logits(network: nn.Module, shifts: Tensor) -> None:
    """Adds `shifts`, float32 (C,), to the logits of a float32 network, in place: to the bias of its last layer."""
    network.head.bias.data += shifts.to(network.head.bias)


class Stored(nn.Module):
    """A convolution whose weights are held in 8 bits: integers -127..127, and a float16 step size for each filter.

    A filter's largest weight is 127 steps, each weight the nearest multiple (Krishnamoorthi, "Quantizing deep
    convolutional networks", 2018, symmetric). It computes with float32 weights, so the MACs stay the same.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        weight = conv.weight.detach().float()
        largest = weight.abs().amax((1, 2, 3), keepdim=True)  # (C_out, 1, 1, 1)
        step = (largest / 127).half().clamp(min=2.0**-24)     # float16's smallest number
        step = torch.where(step.float() * 127 < largest, torch.nextafter(step, step.new_tensor(torch.inf)), step)
        self.step, self.stored = frozen(step), copy.deepcopy(conv).half().requires_grad_(False)
        self.stored.weight = frozen((weight / step.float()).round().to(torch.int8))

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.stored.weight, self.stored.bias
        self.stored.weight = frozen(weight.float() * self.step.float())
        self.stored.bias = None if bias is None else frozen(bias.float())
        try:
            return self.stored(x)
        finally:
            self.stored.weight, self.stored.bias = weight, bias
