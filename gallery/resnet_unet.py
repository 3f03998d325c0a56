"""ResNet U-Net: the encoder of a classifier with the decoder of a U-Net, and the same without skip connections.

- Ronneberger, Fischer and Brox, "U-Net" (2015), figure 1: each step of the decoder sees the map from below, which knows
  what there is, and the encoder's map of its own resolution, which knows where its edges are.
- He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016): the encoder, gallery/resnet.py.
- Drozdzal et al., "The Importance of Skip Connections in Biomedical Image Segmentation" (2016): without skips all that
  the decoder knows has passed through one place for each 32 x 32 pixels. `ResNetUNetNoSkips` is that experiment; at a
  width of 64 it has 792,576 of 14,329,224 parameters less.

Widths and order of the decoder are those of segmentation_models_pytorch's Unet ("resnet18"), whose weights fit in the
order in which they are stored. Unlike U-Net's figure, convolutions are padded and normalized, up-sampling repeats each
pixel and has no weights, there is no map (and no skip) at stride 1, and the head is a 3x3 convolution.

Shapes: N images, H x W pixels (both divisible by 32), K classes, w = `width`.
"""
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gallery.common import NUM_CLASSES, check_input, conv_norm_act, load_weights
from gallery.resnet import ResNet18

QUARTERS = (16, 8, 4, 2, 1)  # channels of the decoder at strides 16, 8, 4, 2, 1, in quarters of `width`


class Up(nn.Module):
    """One step of the decoder: (N, C_in, H, W) and perhaps a skip (N, C_skip, 2H, 2W) -> (N, C_out, 2H, 2W)."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(*conv_norm_act(in_channels + skip_channels, out_channels, 3),
                                  *conv_norm_act(out_channels, out_channels, 3))

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        return self.conv(x if skip is None else torch.cat([x, skip], dim=1))


class ResNetUNet(nn.Module):
    """Float32 images (N, 3, H, W), normalized, to logits (N, K, H, W). H and W must divide by 32.

    `width`: channels of the encoder's first stage, 64 in ResNet-18. Raises ValueError unless it divides by 4.
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
    """ResNetUNet whose decoder sees only the encoder's last map."""

    SKIPS = False


def load_model(MODEL_PATH: str) -> nn.Module:  # noqa: N803  (the lab's fixed name)
    return load_weights(MODEL_PATH, build)


def build(weights: dict[str, Tensor]) -> ResNetUNet:
    """The network that a state_dict belongs to, by whether the decoder's first step sees a skip."""
    seen, below = weights["ups.0.conv.0.weight"].shape[1], weights["backbone.layer4.1.bn2.weight"].shape[0]
    network = ResNetUNet if seen > below else ResNetUNetNoSkips
    return network(num_classes=weights["head.bias"].shape[0], width=weights["backbone.conv1.weight"].shape[0])
