"""SegFormer-B0: a transformer with maps of four resolutions, like a convolutional network, and a head of linear layers.

Follows Xie, Wang, Yu, Anandkumar, Alvarez and Luo, "SegFormer: Simple and Efficient Design for Semantic Segmentation
with Transformers" (NeurIPS 2021), figure 2, in details the authors' code (github.com/NVlabs/SegFormer):

- overlapped patches (section 3.1): a convolution whose kernel is larger than its stride makes the tokens, four times in
  a row, at strides 4, 8, 16 and 32;
- efficient self-attention (equations 1 and 2): keys and values come from a map that is R times smaller each way;
- Mix-FFN (equation 3): a depthwise 3x3 between the two linear layers tells a token where it lies, because it sees the
  zeros beyond the border; no position encoding depends on the image's size;
- the all-MLP head (section 3.2, equation 4): a linear layer for each map, a resize to stride 4, two 1x1 convolutions.

Unlike the authors' it starts from random weights, which costs a transformer more than others, drops nothing, and adds
1e-5 in all layer norms. thop does not see the two products of the attention, 7 % of the multiply-accumulates at 256 x
512.

`width` scales all of it. Shapes: N images, H x W pixels (both divisible by 32), K classes, w = `width`; inside a stage
h x w tokens with C channels, in the layout (N, h, w, C), since linear layers and layer norms work on the last axis.
"""
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gallery.common import NUM_CLASSES, check_input, load_weights, resize

# The encoder (the appendix's table of the MiT series, B0). A row is a stage: the patch and its stride, the channels in
# multiples of `width`, which is the number of heads as well, the reduction R of keys and values, the number of blocks.
STAGES = (
    # K  S  C  R  L
    (7,  4, 1, 8, 2),  # stride 4
    (3,  2, 2, 4, 2),  # stride 8
    (3,  2, 5, 2, 2),  # stride 16
    (3,  2, 8, 1, 2),  # stride 32
)
EXPANSION = 4   # of the channels inside a Mix-FFN
HEAD_WIDTH = 8  # the head's channels, in multiples of `width`


def to_tokens(x: Tensor) -> Tensor:
    """(N, C, h, w) -> (N, h, w, C), a view."""
    return x.permute(0, 2, 3, 1)


def to_map(x: Tensor) -> Tensor:
    """(N, h, w, C) -> (N, C, h, w), a view in channels_last memory."""
    return x.permute(0, 3, 1, 2)


class PatchEmbedding(nn.Module):
    """Overlapped patches become tokens: (N, C_in, h, w) -> (N, h/stride, w/stride, C_out)."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2)
        self.norm = nn.LayerNorm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(to_tokens(self.conv(x)))


class Attention(nn.Module):
    """Each token gathers from the whole map, reduced R times: (N, h, w, C) stays so; h and w must divide by R.

    The reduction, a reshape and a linear layer in the paper, is a convolution whose kernel equals its stride.
    """

    def __init__(self, channels: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads = heads
        self.reduce = self.norm = None
        if reduction > 1:
            self.reduce = nn.Conv2d(channels, channels, reduction, stride=reduction)
            self.norm = nn.LayerNorm(channels)
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)  # its bias, as in the authors' code, changes nothing after the softmax
        self.value = nn.Linear(channels, channels)
        self.project = nn.Linear(channels, channels)

    def split(self, x: Tensor) -> Tensor:
        """(N, h, w, C) -> (N, heads, h w, C/heads)."""
        return x.flatten(1, 2).unflatten(2, (self.heads, -1)).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        context = x
        if self.reduce is not None:
            context = self.norm(to_tokens(self.reduce(to_map(x))))              # (N, h/R, w/R, C)
        query = self.split(self.query(x))                                       # (N, heads, hw, C/heads)
        key, value = self.split(self.key(context)), self.split(self.value(context))
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[3])        # (N, heads, hw, hw/R^2)
        gathered = scores.softmax(dim=3) @ value                                # (N, heads, hw, C/heads)
        return self.project(gathered.transpose(1, 2).reshape(x.shape))


class MixFFN(nn.Module):
    """Two linear layers with a depthwise 3x3 between them: (N, h, w, C) stays so."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inside = EXPANSION * channels
        self.expand = nn.Linear(channels, inside)
        self.conv_dw = nn.Conv2d(inside, inside, 3, padding=1, groups=inside)
        self.reduce = nn.Linear(inside, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = to_tokens(self.conv_dw(to_map(self.expand(x))))                     # (N, h, w, 4C)
        return self.reduce(F.gelu(x))


class Block(nn.Module):
    """Attention and Mix-FFN, each on the normalized input and added to it: (N, h, w, C) stays so."""

    def __init__(self, channels: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attention = Attention(channels, heads, reduction)
        self.norm2 = nn.LayerNorm(channels)
        self.ffn = MixFFN(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.ffn(self.norm2(x))


class Stage(nn.Module):
    """(N, C_in, h, w) -> (N, C_out, h/stride, w/stride)."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, heads: int, reduction: int,
                 blocks: int) -> None:
        super().__init__()
        self.embed = PatchEmbedding(in_channels, out_channels, kernel, stride)
        self.blocks = nn.Sequential(*(Block(out_channels, heads, reduction) for _ in range(blocks)))
        self.norm = nn.LayerNorm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return to_map(self.norm(self.blocks(self.embed(x))))


class MixTransformer(nn.Module):
    """The encoder MiT-B0: (N, 3, H, W) to four maps with `widths` channels at strides 4, 8, 16 and 32.

    Linear layers start from a truncated normal distribution of deviation 0.02, convolutions as He et al.'s.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.widths = tuple(factor * width for _, _, factor, _, _ in STAGES)
        self.stages = nn.ModuleList(
            Stage(before, after, kernel, stride, heads, reduction, blocks)
            for before, after, (kernel, stride, heads, reduction, blocks)
            in zip((3, *self.widths[:-1]), self.widths, STAGES, strict=True))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv2d):
                # not kaiming_normal_, whose fan-out of a depthwise filter is C times too large
                fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for stage in self.stages:
            x = stage(x)                                    # (N, w, H/4, W/4), (N, 2w, H/8, W/8), ...
            maps.append(x)
        return maps


class SegFormerB0(nn.Module):
    """Float32 images (N, 3, H, W), normalized, to logits (N, K, H, W). H and W must divide by 32."""

    STRIDE = 32

    def __init__(self, num_classes: int = NUM_CLASSES, width: int = 32) -> None:
        super().__init__()
        self.backbone = MixTransformer(width)
        inside = HEAD_WIDTH * width
        self.unify = nn.ModuleList(nn.Linear(channels, inside) for channels in self.backbone.widths)
        self.fuse = nn.Sequential(nn.Conv2d(len(STAGES) * inside, inside, 1, bias=False), nn.BatchNorm2d(inside),
                                  nn.ReLU(inplace=True))
        self.classifier = nn.Conv2d(inside, num_classes, 1)
        # The head's other layers keep torch's initialization, as in the authors' code.
        nn.init.kaiming_normal_(self.fuse[0].weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.STRIDE)
        maps = self.backbone(x)
        size = maps[0].shape[2:]                            # H/4, W/4
        unified = [resize(to_map(linear(to_tokens(level))), size)
                   for linear, level in zip(self.unify, maps, strict=True)]
        x = self.fuse(torch.cat(unified[::-1], dim=1))      # (N, 32w, H/4, W/4) -> (N, 8w, H/4, W/4)
        return resize(self.classifier(x), (4 * size[0], 4 * size[1]))


def load_model(MODEL_PATH: str) -> nn.Module:  # noqa: N803  (the lab's fixed name)
    return load_weights(MODEL_PATH, lambda weights: SegFormerB0(
        num_classes=weights["classifier.weight"].shape[0],
        width=weights["backbone.stages.0.embed.conv.weight"].shape[0]))
