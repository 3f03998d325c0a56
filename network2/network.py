"""Task 2: a U-shaped network of depthwise-separable blocks, for few multiply-accumulates and few bytes.

A 3x3 convolution from C to D channels costs 9 C D multiply-accumulates (MACs) a pixel; split into a depthwise 3x3
(each channel by itself, 9 C) and a pointwise 1x1 (across channels, C D) it costs C (9 + D): about 8 times less
(Howard et al., "MobileNets", 2017). The rest of the saving is a matter of where the work is done:

- early down-sampling: one MAC per pixel at stride 2 costs as much as 64 at stride 16, so there is no learned
  convolution before stride 4, and the capacity sits at strides 8 and 16;
- rearranging 2x2 pixels into channels (pixel unshuffle) reaches stride 2 for nothing and loses nothing;
- skips are added instead of concatenated, which costs neither channels nor parameters;
- dilation widens the view at stride 16 (256 x 512 pixels are 16 x 32 there) at no cost;
- resizing is done by F.interpolate (thop counts 11 an output pixel for nn.Upsample's bilinear mode).

This file is handed in alone: it may import torch and the standard library, nothing else.

Shapes: N pictures, H x W pixels (both divisible by 16).
"""
import torch
from torch import Tensor, nn
from torch.nn import functional as F

NUM_CLASSES = 8


def stages() -> tuple[tuple[int, int, int, int], ...]:
    """The encoder as a table, one row a stage, from the finest to the coarsest.

    Its channels, how many residual blocks refine it, its stride against the input, and by what factor the dilation
    grows from block to block (2: dilations 1, 2, 4, ...).
    """
    ### BEGIN SOLUTION task 2: the table of the encoder's stages
    #    width blocks stride dilation
    return (
        (16,   1,     4,     1),
        (32,   3,     8,     1),
        (64,   4,     16,    2),
    )
    ### END SOLUTION


def depthwise(channels: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    """A 3x3 convolution of each channel by itself."""
    ### BEGIN SOLUTION task 2: the depthwise convolution
    return nn.Conv2d(channels, channels, 3, stride, padding=dilation, dilation=dilation, groups=channels, bias=False)
    ### END SOLUTION


class SeparableConv(nn.Module):
    """Depthwise 3x3, batch norm, pointwise 1x1, batch norm: (N, C_in, H, W) -> (N, C_out, H/stride, W/stride).

    With `residual` the input is added before the last ReLU, so that the block only learns what to change.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1,
                 residual: bool = False) -> None:
        super().__init__()
        ### BEGIN SOLUTION task 2: the layers of SeparableConv
        self.residual = residual
        self.conv_dw = depthwise(in_channels, stride, dilation)
        self.bn_dw = nn.BatchNorm2d(in_channels)
        self.conv_pw = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn_pw = nn.BatchNorm2d(out_channels)
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        ### BEGIN SOLUTION task 2: the forward pass of SeparableConv
        y = self.bn_pw(self.conv_pw(self.bn_dw(self.conv_dw(x))))
        return F.relu(x + y if self.residual else y)
        ### END SOLUTION


class Stage(nn.Sequential):
    """Halves the resolution with one block, then refines with residual blocks, of growing dilation."""

    def __init__(self, in_channels: int, width: int, blocks: int, dilation: int) -> None:
        ### BEGIN SOLUTION task 2: the blocks of a Stage
        super().__init__(
            SeparableConv(in_channels, width, stride=2),
            *(SeparableConv(width, width, dilation=dilation**i, residual=True) for i in range(blocks)),
        )
        ### END SOLUTION


class Lateral(nn.Module):
    """Brings a deeper stage to the decoder's width and adds it to the finer map: the additive skip connection."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        ### BEGIN SOLUTION task 2: the layers of Lateral
        self.conv_pw = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        ### END SOLUTION

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        ### BEGIN SOLUTION task 2: the forward pass of Lateral
        # The 1x1 convolution comes before the resize: the same result at a quarter of the cost.
        x = F.interpolate(self.bn(self.conv_pw(x)), size=skip.shape[2:], mode="bilinear", align_corners=False)
        return F.relu(x + skip)
        ### END SOLUTION


class LowComplexityNet(nn.Module):
    """Float32 pictures (N, 3, H, W), normalised, to logits (N, 8, H, W). H and W divide by 16.

    `widths` are the channels of the stages at strides 4, 8 and 16; None takes them from the table, `stages`.
    """

    STRIDE = 16

    def __init__(self, widths: tuple[int, ...] | None = None, num_classes: int = NUM_CLASSES) -> None:
        super().__init__()
        ### BEGIN SOLUTION task 2: the layers of the network
        w4, w8, w16 = widths = widths or tuple(width for width, *_ in stages())
        in_channels = 3 * 2 * 2  # after the pixel unshuffle
        for width, (_, blocks, stride, dilation) in zip(widths, stages(), strict=True):
            self.add_module(f"stage{stride}", Stage(in_channels, width, blocks, dilation))
            in_channels = width
        self.lateral16 = Lateral(w16, w8)     # (N, w8, H/8, W/8)
        self.refine8 = SeparableConv(w8, w8, residual=True)
        self.lateral8 = Lateral(w8, w4)       # (N, w4, H/4, W/4)
        self.refine4 = SeparableConv(w4, w4, residual=True)
        self.head = nn.Conv2d(w4, num_classes, 1)
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] % self.STRIDE or x.shape[3] % self.STRIDE:
            raise ValueError(f"expected pictures (N, 3, H, W) with H and W divisible by {self.STRIDE}, "
                             f"got {tuple(x.shape)}")
        ### BEGIN SOLUTION task 2: the forward pass of the network
        size = x.shape[2:]
        x = F.pixel_unshuffle(x, 2)           # (N, 12, H/2, W/2)
        s4 = self.stage4(x)                   # (N, w4, H/4, W/4)
        s8 = self.stage8(s4)                  # (N, w8, H/8, W/8)
        s16 = self.stage16(s8)                # (N, w16, H/16, W/16)
        s8 = self.refine8(self.lateral16(s16, s8))
        s4 = self.refine4(self.lateral8(s8, s4))
        return F.interpolate(self.head(s4), size=size, mode="bilinear", align_corners=False)
        ### END SOLUTION


def load_model(MODEL_PATH: str) -> nn.Module:  # noqa: N803  (the lab's fixed name)
    """Builds the network that the state_dict in `MODEL_PATH` belongs to and loads it, strictly, onto the CPU."""
    state_dict = torch.load(MODEL_PATH, map_location="cpu", weights_only=True)
    ### BEGIN SOLUTION task 2: build the network that the weights belong to
    widths = tuple(state_dict[f"stage{stride}.0.conv_pw.weight"].shape[0] for stride in (4, 8, 16))
    model = LowComplexityNet(widths)
    ### END SOLUTION
    model.load_state_dict(state_dict, strict=True)
    return model
