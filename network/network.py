"""Task 1: a U-Net trained from scratch.

Follows figure 1 of Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation"
(2015): an encoder halves the resolution four times and doubles the channels, a decoder goes back up, and at every
level a skip connection hands the encoder's fine detail to the decoder. Two things differ from the paper:

- the convolutions are padded, so that the output has the input's size, and followed by batch norm;
- up-sampling is a 1x1 convolution and a bilinear resize instead of a transposed convolution. A transposed convolution
  whose kernel its stride does not divide paints a checkerboard (Odena et al., "Deconvolution and Checkerboard
  Artifacts", 2016), one whose kernel equals its stride gives each output pixel weights of its own and no neighbors,
  and thop counts it stride^2 = 4 times too high. The 1x1 convolution comes first: it acts on each pixel alone, so it
  commutes with the resize, and at the lower resolution it costs a quarter.

This file is handed in alone: it may import torch and the standard library, nothing else.

Shapes: N images, H x W pixels (both divisible by 16), w = `width`.
"""
import torch
from torch import Tensor, nn
from torch.nn import functional as F

NUM_CLASSES = 8


class DoubleConv(nn.Sequential):
    """(convolution 3x3, batch norm, ReLU) twice, at one resolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        ### BEGIN SOLUTION task 1: the six layers of DoubleConv
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),  # the batch norm brings the bias
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )
        ### END SOLUTION


class Down(nn.Module):
    """One step of the encoder: (N, C_in, H, W) -> (N, C_out, H/2, W/2)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        ### BEGIN SOLUTION task 1: the layers of Down
        self.pool = nn.MaxPool2d(2)
        self.conv = DoubleConv(in_channels, out_channels)
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        ### BEGIN SOLUTION task 1: the forward pass of Down
        return self.conv(self.pool(x))
        ### END SOLUTION


class Up(nn.Module):
    """One step of the decoder: (N, C_in, H, W) and the skip (N, C_skip, 2H, 2W) -> (N, C_out, 2H, 2W)."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int) -> None:
        super().__init__()
        ### BEGIN SOLUTION task 1: the layers of Up
        self.reduce = nn.Conv2d(in_channels, skip_channels, 1)
        self.conv = DoubleConv(2 * skip_channels, out_channels)
        ### END SOLUTION

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        ### BEGIN SOLUTION task 1: the forward pass of Up
        x = F.interpolate(self.reduce(x), scale_factor=2, mode="bilinear", align_corners=False)
        return self.conv(torch.cat([skip, x], dim=1))
        ### END SOLUTION


class UNet(nn.Module):
    """U-Net: float32 images (N, 3, H, W), normalized, to logits (N, 8, H, W). H and W divide by 16.

    `width` is the number of channels at full resolution: 8 trains on a laptop, 32 and more on a GPU.
    """

    STRIDE = 16

    def __init__(self, width: int = 32, num_classes: int = NUM_CLASSES) -> None:
        super().__init__()
        ### BEGIN SOLUTION task 1: the layers of the U-Net
        w = width
        # encoder
        self.stem = DoubleConv(3, w)           # (N,   w, H,    W)
        self.down1 = Down(w, 2 * w)            # (N,  2w, H/2,  W/2)
        self.down2 = Down(2 * w, 4 * w)        # (N,  4w, H/4,  W/4)
        self.down3 = Down(4 * w, 8 * w)        # (N,  8w, H/8,  W/8)
        # bottleneck
        self.down4 = Down(8 * w, 16 * w)       # (N, 16w, H/16, W/16)
        # decoder
        self.up3 = Up(16 * w, 8 * w, 8 * w)    # (N,  8w, H/8,  W/8)
        self.up2 = Up(8 * w, 4 * w, 4 * w)     # (N,  4w, H/4,  W/4)
        self.up1 = Up(4 * w, 2 * w, 2 * w)     # (N,  2w, H/2,  W/2)
        self.up0 = Up(2 * w, w, w)             # (N,   w, H,    W)
        self.head = nn.Conv2d(w, num_classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # He et al. (2015): keeps the variance through ReLU layers
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] % self.STRIDE or x.shape[3] % self.STRIDE:
            raise ValueError(f"expected images (N, 3, H, W) with H and W divisible by {self.STRIDE}, "
                             f"got {tuple(x.shape)}")
        ### BEGIN SOLUTION task 1: the forward pass of the U-Net
        s0 = self.stem(x)
        s1 = self.down1(s0)
        s2 = self.down2(s1)
        s3 = self.down3(s2)
        x = self.down4(s3)
        x = self.up3(x, s3)
        x = self.up2(x, s2)
        x = self.up1(x, s1)
        x = self.up0(x, s0)
        return self.head(x)
        ### END SOLUTION


def load_model(MODEL_PATH: str) -> nn.Module:  # noqa: N803  (the lab's fixed name)
    """Builds the network that the state_dict in `MODEL_PATH` belongs to and loads it, strictly, onto the CPU."""
    state_dict = torch.load(MODEL_PATH, map_location="cpu", weights_only=True)
    ### BEGIN SOLUTION task 1: build the network that the weights belong to
    width = state_dict["stem.0.weight"].shape[0]  # so a narrow and a wide U-Net load with the same call
    model = UNet(width, num_classes=state_dict["head.weight"].shape[0])
    ### END SOLUTION
    model.load_state_dict(state_dict, strict=True)
    return model
