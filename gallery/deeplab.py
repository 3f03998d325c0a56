"""DeepLab v3 and v3+: dilated filters see far and keep the resolution.

The last map of a classifier has stride 32: too coarse for a pedestrian. Chen et al. keep it finer and still see far:

- v1 (ICLR 2015): the last strides of 2 become dilations of the filters behind them: the backbone's `output_stride`;
- v2 (TPAMI 2018): filters of different dilations side by side, atrous spatial pyramid pooling (ASPP);
- v3, "Rethinking Atrous Convolution for Semantic Image Segmentation" (2017, section 3.3, figure 5): batch norm in the
  pyramid, beside it a 1x1 convolution and the pooled image: `DeepLabV3`;
- v3+, "Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation" (ECCV 2018, figure 2): a
  decoder that takes the edges from the map of stride 4, and depthwise separable convolutions: `DeepLabV3Plus`.

Dilations of 6, 12 and 18 span 13, 25 and 37 pixels of a map. An image of 256 x 512 has a map of only 16 x 32, so most
of the widest filter reads zeros beyond it (v3, figure 4). This is why the image is pooled as well.

At output stride 8 the parameters are the same, and an image of 256 x 512 takes 32.3 instead of 10.0 billion
multiply-accumulates (v3+: 27.1 instead of 9.7). Weights trained at 16 can be loaded into a network of stride 8.

What differs from the papers: ResNet-18 instead of ResNet-101 or Xception, without multi-grid (v3, section 3.2.1); maps
are resized by pixel centers; nothing is dropped. Training needs two images a batch, because a batch norm follows the
pooled image; the authors take 16.

Shapes: N images, H x W pixels, K classes, h x w the last map's pixels (H/16 x W/16, or H/8 x W/8).
"""
from collections.abc import Callable

import torch
from torch import Tensor, nn

from gallery.common import NUM_CLASSES, check_input, conv_norm_act, load_weights, record_stride, resize
from gallery.resnet import ResNet18

RATES = {16: (6, 12, 18), 8: (12, 24, 36)}  # dilations of the pyramid's filters, by output stride (v3, section 3.3)
WIDTH = 64                                  # the backbone's first; the two below scale with it
ASPP_WIDTH = 256                            # of each branch of the pyramid, of its projection, and of the decoder
SKIP_WIDTH = 48                             # of the map of stride 4 (v3+, table 1): few, so the pyramid outweighs it


def dense(in_channels: int, out_channels: int, dilation: int = 1) -> nn.Sequential:
    """A 3x3 convolution: (N, C_in, h, w) -> (N, C_out, h, w)."""
    return conv_norm_act(in_channels, out_channels, 3, dilation=dilation)


def separable(in_channels: int, out_channels: int, dilation: int = 1) -> nn.Sequential:
    """The same as depthwise 3x3 and pointwise 1x1; norm and ReLU follow both, as in the authors' code."""
    return nn.Sequential(conv_norm_act(in_channels, in_channels, 3, dilation=dilation, groups=in_channels),
                         conv_norm_act(in_channels, out_channels))


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: five views of one map, projected together: (N, C_in, h, w) -> (N, C, h, w).

    `convolution` makes the dilated filters, `dense` or `separable`; `rates` are their dilations.
    """

    def __init__(self, in_channels: int, channels: int, rates: tuple[int, ...],
                 convolution: Callable[[int, int, int], nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList([conv_norm_act(in_channels, channels)])
        self.branches.extend(convolution(in_channels, channels, rate) for rate in rates)
        self.pooled = conv_norm_act(in_channels, channels)
        self.project = conv_norm_act((len(self.branches) + 1) * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        views = [branch(x) for branch in self.branches]                     # four of (N, C, h, w)
        pooled = self.pooled(x.mean(dim=(2, 3), keepdim=True))              # (N, C, 1, 1)
        views.append(pooled.expand_as(views[0]))                            # a resize of one pixel
        return self.project(torch.cat(views, dim=1))                        # (N, 5C, h, w) -> (N, C, h, w)


class DeepLab(nn.Module):
    """What both have: a dilated backbone and the pyramid. Raises ValueError unless `output_stride` is 16 or 8."""

    STRIDE = 16  # an instance has its own output stride

    def __init__(self, convolution: Callable[[int, int, int], nn.Module], output_stride: int, width: int) -> None:
        super().__init__()
        if output_stride not in RATES:
            raise ValueError(f"expected an output stride of {' or '.join(map(str, RATES))}, got {output_stride}")
        record_stride(self, output_stride)
        self.backbone = ResNet18(output_stride, width)
        self.aspp = ASPP(self.backbone.widths[-1], ASPP_WIDTH * width // WIDTH, RATES[output_stride], convolution)


def initialize(network: DeepLab) -> None:
    """Draws convolutions as He et al. (2015) do; the classifier as the authors do, so its logits start nearly alike."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            # torch's fan_out ignores groups; for a depthwise filter fan_in is 9, as it should be
            mode = "fan_in" if module.groups > 1 else "fan_out"
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")
    nn.init.normal_(network.classify.weight, std=0.01)
    nn.init.zeros_(network.classify.bias)


class DeepLabV3(DeepLab):
    """Float32 images (N, 3, H, W), normalized, to logits (N, K, H, W). H and W must divide by the output stride.

    `output_stride` is 16 or 8; `width`, a multiple of 4, scales all layers. Training needs two images a batch or more.
    """

    def __init__(self, num_classes: int = NUM_CLASSES, output_stride: int = 16, width: int = WIDTH) -> None:
        super().__init__(dense, output_stride, width)
        self.classify = nn.Conv2d(ASPP_WIDTH * width // WIDTH, num_classes, 1)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.STRIDE, fewest=2 if self.training else 1)
        size = x.shape[2:]
        x = self.aspp(self.backbone(x)[-1])                                 # (N, 256, h, w)
        return resize(self.classify(x), size)                               # (N, K, h, w) -> (N, K, H, W)


class DeepLabV3Plus(DeepLab):
    """Float32 images (N, 3, H, W), normalized, to logits (N, K, H, W). H and W must divide by the output stride.

    `output_stride` is 16 or 8; `width`, a multiple of 4, scales all layers. Training needs two images a batch or more.
    """

    def __init__(self, num_classes: int = NUM_CLASSES, output_stride: int = 16, width: int = WIDTH) -> None:
        super().__init__(separable, output_stride, width)
        channels, skip = ASPP_WIDTH * width // WIDTH, SKIP_WIDTH * width // WIDTH
        self.skip = conv_norm_act(self.backbone.widths[1], skip)
        self.decoder = nn.Sequential(separable(skip + channels, channels), separable(channels, channels))
        self.classify = nn.Conv2d(channels, num_classes, 1)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.STRIDE, fewest=2 if self.training else 1)
        size = x.shape[2:]
        _, fine, *_, coarse = self.backbone(x)
        x, fine = self.aspp(coarse), self.skip(fine)                        # (N, 256, h, w), (N, 48, H/4, W/4)
        x = torch.cat([resize(x, fine.shape[2:]), fine], dim=1)             # (N, 304, H/4, W/4)
        return resize(self.classify(self.decoder(x)), size)                 # (N, K, H/4, W/4) -> (N, K, H, W)


def load_model(MODEL_PATH: str) -> nn.Module:  # noqa: N803  (the lab's fixed name)
    return load_weights(MODEL_PATH, lambda weights: (DeepLabV3Plus if "skip.0.weight" in weights else DeepLabV3)(
        num_classes=weights["classify.weight"].shape[0], output_stride=int(weights["output_stride"]),
        width=weights["backbone.conv1.weight"].shape[0]))
