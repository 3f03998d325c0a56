"""ResNet U-Net: a classifier's encoder, U-Net's decoder; and the same without the skip connections.

- Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation" (2015), figure 1: a
  decoder doubles the resolution step by step. Each step sees, beside the map from below, the encoder's map of its own
  resolution, joined to it as further channels: the one knows what there is, the other where its edges run.
- He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016): the encoder, here the ResNet-18 of
  gallery/resnet.py. Its maps at strides 2, 4, 8, 16 and 32 take the place of those of U-Net's contracting path.
- Iglovikov and Shvets, "TernausNet: U-Net with VGG11 Encoder Pre-Trained on ImageNet for Image Segmentation" (2018): a
  classifier as U-Net's encoder, so that it can come pretrained. Here it starts from scratch like the rest.
- Drozdzal et al., "The Importance of Skip Connections in Biomedical Image Segmentation" (2016): what is lost without
  the skips. All that the decoder then knows has passed through the last map, of one place for each 32 x 32 pixels:
  512 numbers for 3072. `ResNetUNetNoSkips` is the experiment.

The widths and the order of the decoder are those of segmentation_models_pytorch's Unet ("resnet18", without
attention), whose weights fit here in the order in which they stand. What differs from U-Net's figure:

- the convolutions are padded and followed by batch norm;
- up-sampling repeats each pixel (nearest) and has no weights; the two 3x3 convolutions that follow do the smoothing.
  A transposed convolution would have to learn not to paint checkerboards (Odena et al., "Deconvolution and
  Checkerboard Artifacts", 2016);
- the encoder begins by halving the resolution: there is no map at stride 1, and the last step has no skip;
- channels halve from step to step as in U-Net, but the head is a 3x3 convolution.

Without the skips each step's first convolution sees the map from below alone. All else, the decoder's own widths too,
is the same, so the counts differ by 9 C_skip C_out for each of the four skips: at the width of 64 by
9 (256 256 + 128 128 + 64 64 + 64 32) = 792,576 parameters of 14,329,224.

Shapes: N pictures, H x W pixels (both divisible by 32), K classes, w = `width`.
"""
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gallery.common import NUM_CLASSES, check_input
from gallery.resnet import ResNet18

QUARTERS = (16, 8, 4, 2, 1)  # channels of the decoder at strides 16, 8, 4, 2, 1, in quarters of `width`


class Up(nn.Module):
    """One step of the decoder: (N, C_in, H, W) and perhaps a skip (N, C_skip, 2H, 2W) -> (N, C_out, 2H, 2W)."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(in_channels + skip_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        return self.conv(x if skip is None else torch.cat([x, skip], dim=1))


class ResNetUNet(nn.Module):
    """Float32 pictures (N, 3, H, W), normalised, to logits (N, K, H, W). H and W divide by 32.

    `width` is the number of channels of the encoder's first stage, 64 in ResNet-18; the decoder ends with a quarter of
    it. Raises ValueError for a width that does not divide by 4.
    """

    STRIDE = 32
    SKIPS = True

    def __init__(self, num_classes: int = NUM_CLASSES, width: int = 64) -> None:
        super().__init__()
        if width % 4:
            raise ValueError(f"expected a width divisible by 4, got {width}")
        self.backbone = ResNet18(width=width)
        bottom, *skips = self.backbone.widths[::-1]
        skips = [*skips, 0] if self.SKIPS else [0] * len(QUARTERS)
        widths = [bottom, *(quarters * width // 4 for quarters in QUARTERS)]
        self.ups = nn.ModuleList(Up(*channels) for channels in zip(widths[:-1], skips, widths[1:], strict=True))
        self.head = nn.Conv2d(widths[-1], num_classes, 3, padding=1)
        for module in (*self.ups.modules(), self.head):
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")  # U-Net's section 3
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.STRIDE)
        x, *skips = self.backbone(x)[::-1]  # (N, 8w, H/32, W/32), (N, 4w, H/16, W/16), ..., (N, w, H/2, W/2)
        skips = [*skips, None] if self.SKIPS else [None] * len(self.ups)
        for up, skip in zip(self.ups, skips, strict=True):
            x = up(x, skip)                 # (N, 4w, H/16, W/16), (N, 2w, H/8, W/8), ..., (N, w/4, H, W)
        return self.head(x)                 # (N, K, H, W)


class ResNetUNetNoSkips(ResNetUNet):
    """ResNetUNet whose decoder sees the encoder's last map and nothing else."""

    SKIPS = False


def load_model(MODEL_PATH: str) -> nn.Module:  # noqa: N803  (the lab's fixed name)
    """Builds the network that the state_dict in `MODEL_PATH` belongs to and loads it, strictly, onto the CPU."""
    state_dict = torch.load(MODEL_PATH, map_location="cpu", weights_only=True)
    width = state_dict["backbone.conv1.weight"].shape[0]
    seen, below = state_dict["ups.0.conv.0.weight"].shape[1], state_dict["backbone.layer4.1.bn2.weight"].shape[0]
    network = ResNetUNet if seen > below else ResNetUNetNoSkips  # what the first step sees beside the map from below
    model = network(num_classes=state_dict["head.bias"].shape[0], width=width)
    model.load_state_dict(state_dict, strict=True)
    return model
