"""U-Net as in its paper, the same without skips, and the same without transposed convolutions.

Follows figure 1 of Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation"
(MICCAI 2015), with padded convolutions, a batch norm after each, and no dropout.

- `EncoderDecoder` against `UNet` shows what the skips are for: without them, whatever the encoder knows about an edge
  has to pass through a map of stride 16.
- `UNet(kernel=2, 3 or 4)` against `UNetBilinear` shows the subject of Odena, Dumoulin and Olah, "Deconvolution and
  Checkerboard Artifacts" (Distill 2016), which gallery/checkerboard.py draws.

Multiply-accumulates (MACs) for 256 x 512 pixels with w = 64 and K = 8:

    class             parameters   MACs       of them for up-sampling
    EncoderDecoder    27,904,648    77.07 G    4.29 G
    UNet              31,038,088    96.39 G    4.29 G
    UNet(kernel=3)    34,519,688   101.76 G    9.66 G
    UNet(kernel=4)    39,393,928   109.28 G   17.18 G
    UNetBilinear      34,519,688   130.75 G   38.65 G, four times kernel 3's: it works at the output's resolution

thop counts transposed convolutions 4 times too high at stride 2. Shapes: N images, H x W pixels (both divisible by 16),
K classes, w = `width`.
"""
from collections.abc import Callable

import torch
from torch import Tensor, nn

from gallery.common import NUM_CLASSES, check_input, conv_norm_act, load_weights, resize

WIDTHS = (1, 2, 4, 8, 16)  # channels at strides 1, 2, 4, 8 and 16, in multiples of `width`
PADDING = {2: (0, 0), 3: (1, 1), 4: (1, 0)}  # kernel: (padding, output_padding) with which stride 2 doubles the size


class DoubleConv(nn.Sequential):
    """(convolution 3x3, batch norm, ReLU) twice: (N, C_in, H, W) -> (N, C_out, H, W)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(*conv_norm_act(in_channels, out_channels, 3), *conv_norm_act(out_channels, out_channels, 3))


class Down(nn.Module):
    """One level deeper: (N, C_in, H, W) -> (N, C_out, H/2, W/2)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2)
        self.conv = DoubleConv(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.pool(x))


def transposed(in_channels: int, out_channels: int, kernel: int = 2) -> nn.ConvTranspose2d:
    """A transposed convolution of stride 2: (N, C_in, H, W) -> (N, C_out, 2H, 2W). Kernel 2, 3 or 4."""
    if kernel not in PADDING:
        raise ValueError(f"expected a kernel of 2, 3 or 4, got {kernel}")
    padding, output_padding = PADDING[kernel]
    return nn.ConvTranspose2d(in_channels, out_channels, kernel, stride=2, padding=padding,
                              output_padding=output_padding)


class BilinearConv(nn.Module):
    """A bilinear resize, then a convolution 3x3: (N, C_in, H, W) -> (N, C_out, 2H, 2W)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(resize(x, (2 * x.shape[2], 2 * x.shape[3])))


class Up(nn.Module):
    """One level up: (N, C_in, H, W), and a skip (N, C_out, 2H, 2W) if there are skips -> (N, C_out, 2H, 2W).

    upsampling: a module (N, C_in, H, W) -> (N, C_out, 2H, 2W). As in the paper, no norm and no ReLU follows it.
    """

    def __init__(self, upsampling: nn.Module, out_channels: int, skip: bool) -> None:
        super().__init__()
        self.up = upsampling
        self.conv = DoubleConv((2 if skip else 1) * out_channels, out_channels)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        x = self.up(x)
        return self.conv(x if skip is None else torch.cat([skip, x], dim=1))


def initialize(network: nn.Module) -> None:
    """Draws weights as He et al. (2015) do, by the number of outputs that an input pixel reaches; biases are 0."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            # A transposed convolution stores (C_in, C_out, k, k), so torch takes its fan-out for the fan-in.
            mode = "fan_in" if isinstance(module, nn.ConvTranspose2d) else "fan_out"
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class UShape(nn.Module):
    """What the three networks below share. The parameters of its encoder have the names of network/network.py.

    upsampling: makes the module that doubles a map's size, from the numbers of channels before and after.
    """

    STRIDE = 16

    def __init__(self, width: int, num_classes: int, upsampling: Callable[[int, int], nn.Module], skips: bool) -> None:
        super().__init__()
        w0, w1, w2, w3, w4 = (factor * width for factor in WIDTHS)
        self.skips = skips
        self.stem = DoubleConv(3, w0)
        self.down1 = Down(w0, w1)
        self.down2 = Down(w1, w2)
        self.down3 = Down(w2, w3)
        self.down4 = Down(w3, w4)
        self.up3 = Up(upsampling(w4, w3), w3, skips)
        self.up2 = Up(upsampling(w3, w2), w2, skips)
        self.up1 = Up(upsampling(w2, w1), w1, skips)
        self.up0 = Up(upsampling(w1, w0), w0, skips)
        self.head = nn.Conv2d(w0, num_classes, 1)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.STRIDE)
        x = self.stem(x)                                                # (N, w, H, W)
        passed = []
        for down in (self.down1, self.down2, self.down3, self.down4):
            passed.append(x if self.skips else None)
            x = down(x)                                                 # (N, 2w, H/2, W/2) to (N, 16w, H/16, W/16)
        for up in (self.up3, self.up2, self.up1, self.up0):
            x = up(x, passed.pop())                                     # (N, 8w, H/8, W/8) to (N, w, H, W)
        return self.head(x)                                             # (N, K, H, W)


class EncoderDecoder(UShape):
    """No skips: float32 images (N, 3, H, W), normalized, to logits (N, K, H, W). H and W must divide by 16.

    The first convolution of each level on the way up reads half as many channels as the U-Net's; that saves 765 w^2
    parameters and 36 w^2 H W MACs. A U-Net with zeros in these weights computes the same.
    """

    def __init__(self, width: int = 64, num_classes: int = NUM_CLASSES) -> None:
        super().__init__(width, num_classes, transposed, skips=False)


class UNet(UShape):
    """The paper's: float32 images (N, 3, H, W), normalized, to logits (N, K, H, W). H and W must divide by 16.

    kernel: of the transposed convolutions of stride 2: 2 as in the paper, 3 or 4. Raises ValueError for others.
    """

    def __init__(self, width: int = 64, num_classes: int = NUM_CLASSES, kernel: int = 2) -> None:
        super().__init__(width, num_classes, lambda before, after: transposed(before, after, kernel), skips=True)


class UNetBilinear(UShape):
    """Resizes, then convolves: float32 images (N, 3, H, W), normalized, to logits (N, K, H, W). H and W divide by 16.

    It has as many parameters as `UNet(kernel=3)`.
    """

    def __init__(self, width: int = 64, num_classes: int = NUM_CLASSES) -> None:
        super().__init__(width, num_classes, BilinearConv, skips=True)


def load_model(MODEL_PATH: str) -> nn.Module:  # noqa: N803  (the lab's fixed name)
    return load_weights(MODEL_PATH, build)


def build(weights: dict[str, Tensor]) -> UShape:
    """The network that a state_dict belongs to."""
    sizes = {"width": weights["stem.0.weight"].shape[0], "num_classes": weights["head.weight"].shape[0]}
    after, before = weights["up0.conv.0.weight"].shape[:2]
    if "up0.up.conv.weight" in weights:
        return UNetBilinear(**sizes)
    return EncoderDecoder(**sizes) if before == after else UNet(**sizes, kernel=weights["up0.up.weight"].shape[2])
