"""ESPNetv2 at width 0.5: thin depthwise branches that see far.

The encoder follows Mehta, Rastegari, Shapiro and Hajishirzi, "ESPNetv2: A Light-weight, Power Efficient, and General
Purpose Convolutional Neural Network" (CVPR 2019):

- the EESP unit (figure 1c) reduces the channels to a quarter, filters them four times with different dilations, and
  adds the branches up one by one, from the narrowest on, so that dense filters fill the holes of the dilated ones;
- a strided unit (figure 2) halves the resolution, joins the pooled input and adds the pooled image.

The decoder is that of the authors' EdgeNets (github.com/sacmehta/EdgeNets, model/segmentation/espnetv2.py; width 0.5:
0.08 M parameters, 149.4 M multiply-accumulates for 256 x 512 pixels). Each level filters a thin map at five resolutions
and scales each channel of the encoder's map. Their strided units hold a PReLU that never runs; it is left out.

Shapes: N images, H x W pixels (both divisible by 16), K classes, P channels inside a pyramid.
"""
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gallery.common import NUM_CLASSES, check_input, conv_norm, load_weights

# The encoder (section 3.3). A row is a level, which starts with a strided unit: its channels, the number of plain units
# that follow, and the dilations of the strided and of the plain units' branches.
STEM = 16  # channels at stride 2
LEVELS = (
    # C  plain dilations: strided, plain
    (32,  0,   (1, 2, 3, 4), ()),            # stride 4
    (64,  3,   (1, 2, 3, 4), (1, 2, 3, 4)),  # stride 8
    (128, 7,   (1, 2, 3, 4), (1, 1, 2, 3)),  # stride 16
)
DECODER = (64, 48, 32)  # channels of the decoder at strides 16, 8 and 4; at stride 2 they are K
SCALES = (2.0, 1.5, 1.0, 0.5, 0.1)  # the resolutions of a pyramid, relative to its input's
SMALLEST = 5  # rows and columns that a pyramid's map has at least


def conv_norm_prelu(in_channels: int, out_channels: int, **options: int) -> nn.Sequential:
    return conv_norm(in_channels, out_channels, **options).append(nn.PReLU(out_channels))


def norm_act(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(channels), nn.PReLU(channels))


def halve(x: Tensor) -> Tensor:
    """Average pooling: (N, C, H, W) -> (N, C, H/2, W/2)."""
    return F.avg_pool2d(x, kernel_size=3, stride=2, padding=1)


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


class Branches(nn.Module):
    """Reduce, filter with each dilation, add up, join, mix: (N, C_in, H, W) -> (N, C_out, H/stride, W/stride)."""

    def __init__(self, in_channels: int, out_channels: int, dilations: tuple[int, ...], stride: int = 1) -> None:
        super().__init__()
        groups = len(dilations)
        width = out_channels // groups
        self.reduce = conv_norm_prelu(in_channels, width, groups=groups)
        self.convs_dw = nn.ModuleList(
            nn.Conv2d(width, width, 3, stride, padding=dilation, dilation=dilation, groups=width, bias=False)
            for dilation in dilations)
        self.norm_act = norm_act(out_channels)
        self.mix = conv_norm(out_channels, out_channels, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        x = self.reduce(x)                                 # (N, C_out/4, H, W)
        fused = [self.convs_dw[0](x)]                      # hierarchical feature fusion
        for conv in self.convs_dw[1:]:
            fused.append(fused[-1] + conv(x))
        return self.mix(self.norm_act(torch.cat(fused, dim=1)))


class EESP(nn.Module):
    """The EESP unit: branches and a residual connection: (N, C, H, W) stays so."""

    def __init__(self, channels: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.branches = Branches(channels, channels, dilations)
        self.act = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x + self.branches(x))


class StridedEESP(nn.Module):
    """(N, C_in, H, W) and the image at half that resolution (N, 3, H/2, W/2) -> (N, C_out, H/2, W/2)."""

    def __init__(self, in_channels: int, out_channels: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.branches = Branches(in_channels, out_channels - in_channels, dilations, stride=2)
        self.image = nn.Sequential(conv_norm_prelu(3, 3, kernel=3), conv_norm(3, out_channels))
        self.act = nn.PReLU(out_channels)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        y = torch.cat([halve(x), self.branches(x)], dim=1)
        return self.act(y + self.image(image))


class PyramidPool(nn.Module):
    """Filters P channels at five resolutions and merges them: (N, C_in, H, W) -> (N, C_out, H, W)."""

    def __init__(self, in_channels: int, width: int, out_channels: int, bias: bool = False) -> None:
        super().__init__()
        self.reduce = conv_norm_prelu(in_channels, width)
        self.convs_dw = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False) for _ in SCALES)
        self.norm_act = norm_act(len(SCALES) * width)
        self.merge = conv_norm_prelu(len(SCALES) * width, width, kernel=3, groups=width)
        self.expand = nn.Conv2d(width, out_channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.reduce(x)                                                      # (N, P, H, W)
        size = x.shape[2:]
        maps = []
        for scale, conv in zip(SCALES, self.convs_dw, strict=True):
            scaled = tuple(max(SMALLEST, math.ceil(scale * side)) for side in size)
            if scale < 1:
                maps.append(resize(conv(F.adaptive_avg_pool2d(x, scaled)), size))
            elif scale > 1:
                maps.append(F.adaptive_avg_pool2d(conv(resize(x, scaled)), size))
            else:
                maps.append(conv(x))
        x = self.norm_act(torch.stack(maps, dim=2).flatten(1, 2))               # (N, 5P, H, W)
        return self.expand(self.merge(x))                                       # (N, C_out, H, W)


class Lateral(nn.Module):
    """Brings a level of the encoder to the decoder's width and scales each channel by a gate in 0..1."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.gate = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.conv = conv_norm_prelu(in_channels, out_channels, kernel=3, groups=math.gcd(in_channels, out_channels))

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gate(x.mean(dim=(2, 3), keepdim=True)).sigmoid()            # (N, C_out, 1, 1)
        return gate * self.conv(x)


class ESPNetv2(nn.Module):
    """Float32 images (N, 3, H, W), normalized, to logits (N, K, H, W). H and W must divide by 16."""

    STRIDE = 16

    def __init__(self, num_classes: int = NUM_CLASSES) -> None:
        super().__init__()
        # encoder
        self.stem = conv_norm_prelu(3, STEM, kernel=3, stride=2)
        self.strided, self.plain = nn.ModuleList(), nn.ModuleList()
        widths = [STEM]
        for width, units, strided, plain in LEVELS:
            self.strided.append(StridedEESP(widths[-1], width, strided))
            self.plain.append(nn.Sequential(*(EESP(width, plain) for _ in range(units))))
            widths.append(width)
        # decoder, from stride 16 to stride 2
        inside = min(num_classes // 2, 16)
        entering = (widths.pop(), *DECODER[:-1])
        self.pyramids = nn.ModuleList(PyramidPool(before, inside, after)
                                      for before, after in zip(entering, DECODER, strict=True))
        self.pyramids.append(PyramidPool(DECODER[-1], inside, num_classes, bias=True))
        self.laterals = nn.ModuleList(Lateral(*pair) for pair in zip(reversed(widths), DECODER, strict=True))
        self.norms_out = nn.ModuleList(norm_act(width) for width in DECODER)
        self.norms_in = nn.ModuleList(norm_act(width) for width in DECODER)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.STRIDE)
        size, image = x.shape[2:], halve(x)
        x = self.stem(x)                          # (N, 16, H/2, W/2)
        skips = []
        for strided, plain in zip(self.strided, self.plain, strict=True):
            skips.append(x)
            image = halve(image)
            x = plain(strided(x, image))        # (N, 32, H/4, W/4), (N, 64, H/8, W/8), (N, 128, H/16, W/16)

        first, *others = self.pyramids
        x = first(x)                              # (N, 64, H/16, W/16)
        for pyramid, lateral, norm_out, norm_in in zip(others, self.laterals, self.norms_out, self.norms_in,
                                                       strict=True):
            skip = skips.pop()
            x = resize(norm_out(x), skip.shape[2:]) + lateral(skip)
            x = pyramid(norm_in(x))               # (N, 48, H/8, W/8), (N, 32, H/4, W/4), (N, K, H/2, W/2)
        return resize(x, size)                    # (N, K, H, W)


def load_model(MODEL_PATH: str) -> nn.Module:  # noqa: N803  (the lab's fixed name)
    last = f"pyramids.{len(DECODER)}.expand.bias"
    return load_weights(MODEL_PATH, lambda weights: ESPNetv2(num_classes=weights[last].shape[0]))
