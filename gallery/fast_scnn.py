"""Fast-SCNN: two branches that share their first layers, a deep one at low resolution and a shallow one.

Follows Poudel, Liwicki and Cipolla, "Fast-SCNN: Fast Semantic Segmentation Network" (BMVC 2019), figure 1 and tables 1
to 3; its authors published no code:

- learning to down-sample (section 3.2.1): three layers of stride 2 find the edges once for both branches;
- global feature extractor (section 3.2.2): MobileNetV2's inverted residuals (Sandler et al., CVPR 2018; table 2) and
  PSPNet's pyramid pooling (Zhao et al., CVPR 2017);
- feature fusion (section 3.2.3, table 3): the deep map, resized to four times its size and filtered with dilation 4,
  plus the shallow map after a pointwise convolution;
- classifier (section 3.2.4): two more depthwise-separable convolutions before the logits.

Chosen here, since the paper does not say: a batch norm between depthwise and pointwise, as in MobileNets; PSPNet's bins
1, 2, 3 and 6; a dropout of 0.1. Auxiliary logits (section 4.1) are left out: this interface has one output.

`width` scales all of it; table 1 is for 32. Training needs two images a batch, because a batch norm follows the bin of
1. Shapes: N images, H x W pixels (both divisible by 32), K classes, w = `width`; h x w and C inside a block.
"""
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gallery.common import NUM_CLASSES, check_input, conv_norm, conv_norm_act, initialize, load_weights, resize

# Table 1, with the channels of width 32.
WIDTH = 32
DOWNSAMPLE = (32, 48, 64)  # strides 2, 4 and 8
BOTTLENECKS = (
    # t  c    n  s    expansion, channels, repetitions, stride of the first
    (6,  64,  3, 2),  # stride 16
    (6,  96,  3, 2),  # stride 32
    (6,  128, 3, 1),  # stride 32
)
CHANNELS = 128             # of the pyramid pooling, the fusion and the classifier
BINS = (1, 2, 3, 6)        # rows and columns of the pyramid's maps
FUSION_STRIDE = 4          # how much coarser the deep map is than the shallow one
DROPOUT = 0.1


def ds_conv(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """Depthwise-separable, a 3x3 on each channel, then a 1x1: (N, C_in, h, w) -> (N, C_out, h/stride, w/stride)."""
    return nn.Sequential(conv_norm(in_channels, in_channels, 3, stride, groups=in_channels),
                         conv_norm_act(in_channels, out_channels))


class Bottleneck(nn.Module):
    """Expand, filter each channel, project (table 2): (N, C_in, h, w) -> (N, C_out, h/stride, w/stride).

    The projection has no ReLU: with few channels, what a ReLU cuts off is lost.
    """

    def __init__(self, in_channels: int, out_channels: int, expansion: int, stride: int) -> None:
        super().__init__()
        inside = expansion * in_channels
        self.residual = stride == 1 and in_channels == out_channels
        self.expand = conv_norm_act(in_channels, inside)
        self.filter = conv_norm_act(inside, inside, 3, stride, groups=inside)
        self.project = conv_norm(inside, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.filter(self.expand(x)))
        return x + y if self.residual else y


class PyramidPooling(nn.Module):
    """Means over the map, its halves, thirds and sixths, beside the map itself: (N, C, h, w) stays so."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inside = channels // len(BINS)
        self.reduce = nn.ModuleList(conv_norm_act(channels, inside) for _ in BINS)
        self.merge = conv_norm_act(channels + len(BINS) * inside, channels)

    def forward(self, x: Tensor) -> Tensor:
        pooled = [resize(reduce(F.adaptive_avg_pool2d(x, bins)), x.shape[2:])
                  for reduce, bins in zip(self.reduce, BINS, strict=True)]
        return self.merge(torch.cat([x, *pooled], dim=1))  # (N, 2C, h, w) -> (N, C, h, w)


class FeatureFusion(nn.Module):
    """A shallow map (N, C_s, 4h, 4w) and a deep one (N, C_d, h, w) to one (N, C, 4h, 4w)."""

    def __init__(self, shallow_channels: int, deep_channels: int, channels: int) -> None:
        super().__init__()
        self.filter = conv_norm_act(deep_channels, deep_channels, 3, dilation=FUSION_STRIDE, groups=deep_channels)
        self.deep = conv_norm(deep_channels, channels)
        self.shallow = conv_norm(shallow_channels, channels)

    def forward(self, shallow: Tensor, deep: Tensor) -> Tensor:
        deep = resize(deep, shallow.shape[2:])              # (N, C_d, 4h, 4w)
        return F.relu(self.deep(self.filter(deep)) + self.shallow(shallow))


class FastSCNN(nn.Module):
    """Float32 images (N, 3, H, W), normalized, to logits (N, K, H, W). H and W must divide by 32."""

    STRIDE = 32

    def __init__(self, num_classes: int = NUM_CLASSES, width: int = WIDTH) -> None:
        super().__init__()
        first, second, shallow = (channels * width // WIDTH for channels in DOWNSAMPLE)
        self.downsample = nn.Sequential(conv_norm_act(3, first, 3, 2), ds_conv(first, second, 2),
                                        ds_conv(second, shallow, 2))
        blocks, before = [], shallow
        for expansion, channels, repetitions, stride in BOTTLENECKS:
            after = channels * width // WIDTH
            blocks.append(Bottleneck(before, after, expansion, stride))
            blocks += [Bottleneck(after, after, expansion, 1) for _ in range(repetitions - 1)]
            before = after
        self.extract = nn.Sequential(*blocks, PyramidPooling(before))
        channels = CHANNELS * width // WIDTH
        self.fuse = FeatureFusion(shallow, before, channels)
        self.refine = nn.Sequential(ds_conv(channels, channels), ds_conv(channels, channels))
        self.dropout = nn.Dropout(DROPOUT)
        self.classifier = nn.Conv2d(channels, num_classes, 1)
        initialize(self)
        nn.init.normal_(self.classifier.weight, std=0.01)   # all classes start about equally probable
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.STRIDE, fewest=2 if self.training else 1)
        size = x.shape[2:]
        shallow = self.downsample(x)                        # (N, 2w, H/8, W/8)
        deep = self.extract(shallow)                        # (N, 4w, H/32, W/32)
        x = self.refine(self.fuse(shallow, deep))           # (N, 4w, H/8, W/8)
        return resize(self.classifier(self.dropout(x)), size)


def load_model(MODEL_PATH: str) -> nn.Module:  # noqa: N803  (the lab's fixed name)
    return load_weights(MODEL_PATH, lambda weights: FastSCNN(
        num_classes=weights["classifier.weight"].shape[0], width=weights["downsample.0.0.weight"].shape[0]))
