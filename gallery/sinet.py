"""SINet: two ideas that give a segmentation network of 0.1 million parameters.

Follows Park et al., "SINet: Extreme Lightweight Portrait Segmentation Networks with Spatial Squeeze Modules and
Information Blocking Decoder" (WACV 2020), as its authors published it for Cityscapes (github.com/clovaai/c3_sinet; 19
classes: 0.12 M parameters, 1.22 G multiply-accumulates for 1024 x 2048 pixels, 68.2 % mIoU on val):

- spatial squeeze (section 3.2): a module has two branches with different kernels and poolings. To pool a map, filter it
  and resize it again widens the view as dilation does, without gridding and at a lower cost;
- information blocking (section 3.1): the finer map passes only where the coarser one is unsure of its class.

Two parts compute the same in a shorter form: the channel shuffle, which would only renumber weights, is left out, and
the last transposed convolution is a 1x1 convolution and a pixel shuffle. The authors' logits have half the resolution;
here a bilinear resize follows. Their loss on the encoder's own logits is left out: this interface has one output.

Shapes: N images, H x W pixels (both divisible by 16), K classes.
"""
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gallery.common import NUM_CLASSES, check_input, load_weights, norm, norm_act

# The encoder (section 3.3). A row is an S2-module: its channels and the (kernel, pooling) of its two branches.
# Pooling 1 keeps the resolution. PLAIN is a square depthwise 3x3 instead of a column and a row.
PLAIN = (3, 0)
STAGE8 = (
    (60,  (3, 1), (5, 1)),
    (60,  PLAIN,  (3, 1)),
    (60,  PLAIN,  (3, 1)),
)
STAGE16 = (
    (84,  (3, 1), (5, 1)),
    (84,  PLAIN,  (3, 1)),
    (84,  (5, 1), (5, 4)),
    (84,  (3, 2), (5, 8)),
    (84,  (3, 1), (5, 1)),
    (108, (3, 1), (5, 1)),
    (108, PLAIN,  (3, 1)),
    (108, (5, 1), (5, 8)),
    (108, (3, 2), (5, 4)),
    (108, PLAIN,  (5, 2)),
)
WIDTH2, WIDTH8, WIDTH16 = 16, 24, 60  # channels of the first map at strides 2, 8 and 16; at stride 4 they are K


def upsample(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, 2H, 2W), bilinear."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class SqueezeExcite(nn.Module):
    """Scales each channel by a number computed from all channels' means (Hu et al., "Squeeze-and-Excitation", 2018).

    The scale ends in a PReLU instead of the paper's sigmoid, so it is not bounded by 0 and 1.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        layers = [nn.Linear(channels, channels // reduction), nn.PReLU(channels // reduction)]
        if reduction > 1:
            layers += [nn.Linear(channels // reduction, channels), nn.PReLU(channels)]
        self.scale = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale(x.mean(dim=(2, 3)))[:, :, None, None]


class Down(nn.Module):
    """Halves the resolution: depthwise 3x3, squeeze-excite, pointwise: (N, C_in, H, W) -> (N, C_out, H/2, W/2)."""

    def __init__(self, in_channels: int, out_channels: int, reduction: int = 1) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(in_channels, in_channels, 3, stride=2, padding=1, groups=in_channels, bias=False)
        self.squeeze_excite = SqueezeExcite(in_channels, reduction)
        self.conv_pw = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.norm_act = norm_act(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm_act(self.conv_pw(self.squeeze_excite(self.conv_dw(x))))


class S2Block(nn.Module):
    """One branch, the spatial squeeze: pool, filter each channel, mix the channels, resize: (N, C, H, W) stays so.

    The filter is the sum of a column and a row of `kernel` weights, or for PLAIN a square of 3x3.
    """

    def __init__(self, channels: int, kernel: int, pooling: int) -> None:
        super().__init__()
        shapes = [(kernel, 1), (1, kernel)] if pooling else [(kernel, kernel)]
        self.pooling = pooling
        self.filters = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, channels, shape, padding=(shape[0] // 2, shape[1] // 2),
                                    groups=channels, bias=False), norm(channels))
            for shape in shapes)
        self.act = nn.PReLU(channels)
        self.conv_pw = nn.Conv2d(channels, channels, 1, bias=False)
        self.bn = norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[2:]
        if self.pooling > 1:
            # Rounded up: a map of 3 rows, pooled by 2, becomes 2 rows; the last one has seen one row.
            x = F.avg_pool2d(x, self.pooling, ceil_mode=True)  # (N, C, H/pooling, W/pooling)
        first, *second = (conv(x) for conv in self.filters)
        x = self.conv_pw(self.act(sum(second, start=first)))
        if self.pooling > 1:
            x = F.interpolate(x, size=size, mode="bilinear", align_corners=True)
        return self.bn(x)


class S2Module(nn.Module):
    """Halve the channels, two S2-blocks, join them: (N, C_in, H, W) -> (N, C_out, H, W); residual if C_in = C_out."""

    def __init__(self, in_channels: int, out_channels: int, *branches: tuple[int, int]) -> None:
        super().__init__()
        width = out_channels // len(branches)
        self.residual = in_channels == out_channels
        self.reduce = nn.Conv2d(in_channels, width, 1, groups=len(branches), bias=False)
        self.branches = nn.ModuleList(S2Block(width, kernel, pooling) for kernel, pooling in branches)
        self.norm_act = norm_act(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.reduce(x)                                             # (N, C_out/2, H, W)
        y = torch.cat([branch(reduced) for branch in self.branches], dim=1)  # (N, C_out, H, W)
        return self.norm_act(x + y if self.residual else y)


class Stage(nn.Sequential):
    """The S2-modules of a table, at one resolution: (N, C, H, W) -> (N, C of the last row, H, W)."""

    def __init__(self, in_channels: int, rows: tuple[tuple, ...]) -> None:
        widths = [in_channels, *(width for width, *_ in rows)]
        super().__init__(*(S2Module(before, *row) for before, row in zip(widths[:-1], rows, strict=True)))
        self.out_channels = widths[-1]


def unsure(logits: Tensor) -> Tensor:
    """The blocking map, 1 - the highest class probability: (N, K, H, W) -> (N, 1, H, W), in 0..1."""
    return 1 - logits.softmax(dim=1).amax(dim=1, keepdim=True)


class SINet(nn.Module):
    """Float32 images (N, 3, H, W), normalized, to logits (N, K, H, W). H and W must divide by 16.

    The map at stride 4 has K channels, because the decoder adds it to the logits as it is.
    """

    STRIDE = 16

    def __init__(self, num_classes: int = NUM_CLASSES) -> None:
        super().__init__()
        # encoder
        self.stem = nn.Sequential(nn.Conv2d(3, WIDTH2, 3, stride=2, padding=1, bias=False), norm_act(WIDTH2))
        self.down4 = Down(WIDTH2, num_classes)
        self.down8 = Down(num_classes, WIDTH8)
        self.stage8 = Stage(WIDTH8, STAGE8)
        w8 = self.stage8.out_channels
        self.join8 = norm_act(WIDTH8 + w8)
        self.down16 = Down(WIDTH8 + w8, WIDTH16, reduction=2)
        self.stage16 = Stage(WIDTH16, STAGE16)
        w16 = self.stage16.out_channels
        self.join16 = norm_act(WIDTH16 + w16)
        # decoder
        self.classify16 = nn.Conv2d(WIDTH16 + w16, num_classes, 1, bias=False)
        self.bn8 = norm(num_classes)
        self.lateral8 = nn.Sequential(nn.Conv2d(w8, num_classes, 1, bias=False), norm_act(num_classes))
        self.bn4 = norm(num_classes)
        self.head = nn.Conv2d(num_classes, 4 * num_classes, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.STRIDE, fewest=2 if self.training else 1)
        x4 = self.down4(self.stem(x))                                         # (N, K, H/4, W/4)
        x8 = self.down8(x4)                                                   # (N, 24, H/8, W/8)
        s8 = self.stage8(x8)                                                  # (N, 60, H/8, W/8)
        x16 = self.down16(self.join8(torch.cat([x8, s8], dim=1)))             # (N, 60, H/16, W/16)
        s16 = self.stage16(x16)                                               # (N, 108, H/16, W/16)
        coarse = self.classify16(self.join16(torch.cat([x16, s16], dim=1)))   # (N, K, H/16, W/16)

        logits8 = self.bn8(upsample(coarse))                                  # (N, K, H/8, W/8)
        logits8 = logits8 + self.lateral8(s8) * unsure(logits8)
        logits4 = self.bn4(upsample(logits8))                                 # (N, K, H/4, W/4)
        logits4 = logits4 + x4 * unsure(logits4)
        return upsample(F.pixel_shuffle(self.head(logits4), 2))               # (N, K, H, W)


def load_model(MODEL_PATH: str) -> nn.Module:  # noqa: N803  (the lab's fixed name)
    return load_weights(MODEL_PATH, lambda weights: SINet(num_classes=weights["classify16.weight"].shape[0]))
