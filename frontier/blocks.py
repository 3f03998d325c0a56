"""Seven other blocks for task 2's network, to compare with its own: what is each kind of convolution worth?

    python -m frontier blocks target                 train the rung `target` with each of them
    NETWORK = "frontier.blocks:grouped"              train one in the notebook, or with another rung:
    NETWORK = 'frontier.blocks:grouped(rung="lean")'

This file is used like a network file: it has load_model, deploy and shift_logits, those of network2/network.py. You
hand in one file alone, though: to hand in one of these networks, copy the block's class into network2/network.py and
add it to BLOCKS there. Its weights then load from that file.

Shapes: each block maps (N, C, H, W) to the same shape, C being its width.
"""
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from network2 import network
from network2.network import BLOCKS, ConvNorm, LowComplexityNet, Separable, deploy, load_model, shift_logits

__all__ = ["LowComplexityNet", "build", "deploy", "load_model", "shift_logits"]


class Chain(Separable):
    """Separable without its skip connection, which costs no MACs (He et al., "Deep residual learning", 2016)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv_pw(F.relu(self.conv_dw(x))))


class Plain3x3(nn.Module):
    """A plain 3x3, added to the input: 9 C^2 MACs a pixel."""

    def __init__(self, width: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv = ConvNorm(width, width, 3, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.conv(x))


class Grouped(nn.Module):
    """A 3x3 within each of g groups of channels, then a 1x1 across them: 9 C^2 / g + C^2 MACs a pixel.

    It lies between a plain convolution (g = 1) and a depthwise one (g = C) (Xie et al., "ResNeXt", 2017).
    """

    def __init__(self, width: int, dilation: int = 1, groups: int = 4) -> None:
        super().__init__()
        self.conv = ConvNorm(width, width, 3, dilation=dilation, groups=groups)
        self.mix = ConvNorm(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.mix(F.relu(self.conv(x))))


class Squeeze(nn.Module):
    """A 1x1 to C / 4 channels, a 3x3 there, a 1x1 back: C^2 / 4 + 9 C^2 / 16 + C^2 / 4 = 1.06 C^2 MACs a pixel.

    Fewer channels for the 3x3 (Iandola et al., "SqueezeNet", 2016), here as a bottleneck.
    """

    def __init__(self, width: int, dilation: int = 1, ratio: int = 4) -> None:
        super().__init__()
        self.reduce = ConvNorm(width, width // ratio)
        self.conv = ConvNorm(width // ratio, width // ratio, 3, dilation=dilation)
        self.expand = ConvNorm(width // ratio, width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.expand(F.relu(self.conv(F.relu(self.reduce(x))))))


class Partition(nn.Module):
    """Half of the channels go through Separable, then a 1x1 mixes all: C / 2 (9 + C / 2) + C^2 MACs a pixel.

    Wang et al., "CSPNet", 2020.
    """

    def __init__(self, width: int, dilation: int = 1) -> None:
        super().__init__()
        self.half = width // 2
        self.body = Separable(width - self.half, dilation)
        self.mix = ConvNorm(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.mix(torch.cat([x[:, :self.half], self.body(x[:, self.half:])], 1)))


class SqueezeExcite(nn.Module):
    """Separable, then each channel times a factor computed from the means of all channels over the image.

    C (9 + C) MACs a pixel; C^2 / 2 MACs an image and as many weights more (Hu et al., "Squeeze-and-excitation", 2018).
    """

    def __init__(self, width: int, dilation: int = 1, ratio: int = 4) -> None:
        super().__init__()
        self.body = Separable(width, dilation)
        self.squeeze = nn.Conv2d(width, width // ratio, 1)
        self.excite = nn.Conv2d(width // ratio, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return y * torch.sigmoid(self.excite(F.relu(self.squeeze(y.mean((2, 3), keepdim=True)))))


class Dense(nn.Module):
    """Separable's output beside its input, both mixed by a 1x1 back to C channels: C (9 + C) + 2 C^2 MACs a pixel.

    Dense connections (Huang et al., "DenseNet", 2017): later layers see the input itself, not only a sum.
    """

    def __init__(self, width: int, dilation: int = 1) -> None:
        super().__init__()
        self.body = Separable(width, dilation)
        self.mix = ConvNorm(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.mix(torch.cat([x, self.body(x)], 1)))


# By the names that stand in the weights' keys. LowComplexityNet and load_model look them up in network2's table; a
# class that a student copied there comes first.
OTHERS = {"chain": Chain, "plain": Plain3x3, "grouped": Grouped, "squeeze": Squeeze, "partition": Partition,
          "attention": SqueezeExcite, "dense": Dense}
BLOCKS.update({**OTHERS, **BLOCKS})


def build(block: str, rung: str | tuple = "safe", branches: int = 0, num_classes: int = 8) -> nn.Module:
    """LowComplexityNet of a rung (a name in `rungs`, or a row's values) with `block` in the place of its own."""
    row = network.rungs()[rung] if isinstance(rung, str) else network.Rung(*rung)
    return LowComplexityNet(row._replace(block=block), branches, num_classes)


# What NETWORK names.
chain, plain, grouped, squeeze, partition, attention, dense = (partial(build, name) for name in OTHERS)
