"""PSPNet: what a pixel shows depends on the scene around it, so each pixel gets a summary of the scene.

Follows Zhao, Shi, Qi, Wang and Jia, "Pyramid Scene Parsing Network" (CVPR 2017). A boat on a river is called a car by a
network that sees too little of the scene (figure 2). The pyramid pooling module (section 3.2, figure 3) takes the means
of the regions of four grids, 1 x 1 to 6 x 6, weighs each grid's with a 1x1 convolution, stretches them over the map and
puts them beside it.

An image of 256 x 512 pixels has a map of 32 x 64, at 26.5 billion multiply-accumulates; at output stride 16 it takes
8.6. The widths keep the paper's proportions: each grid, and the 3x3 convolution behind them, has a quarter of the
backbone's channels. What differs: ResNet-18; no auxiliary classifier (section 4), since this interface has one output;
no dropout; maps are resized by pixel centers. Training needs two images a batch, because a batch norm follows the
pooled image; the authors take 16.

Shapes: N images, H x W pixels, K classes, h x w the last map's pixels (H/8 x W/8 by default).
"""
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gallery.common import NUM_CLASSES, check_input, conv_norm_act, initialize, load_weights, record_stride, resize
from gallery.resnet import ResNet18

GRIDS = (1, 2, 3, 6)  # regions in each direction
SHARE = 4             # each grid and the last convolution have a quarter of the backbone's channels


class PyramidPooling(nn.Module):
    """A map beside its regions' means: (N, C, h, w) -> (N, 2C, h, w), for any h and w."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weigh = nn.ModuleList(conv_norm_act(channels, channels // SHARE) for _ in GRIDS)

    def forward(self, x: Tensor) -> Tensor:
        maps = [x]
        for grid, weigh in zip(GRIDS, self.weigh, strict=True):
            means = weigh(F.adaptive_avg_pool2d(x, grid))       # (N, C/4, grid, grid)
            maps.append(resize(means, x.shape[2:]))             # (N, C/4, h, w)
        return torch.cat(maps, dim=1)


class PSPNet(nn.Module):
    """Float32 images (N, 3, H, W), normalized, to logits (N, K, H, W). H and W must divide by the output stride.

    `output_stride` is 8 as in the paper, 16 or 32, else ResNet18 raises ValueError; `width` scales all layers.
    Training needs two images a batch or more.
    """

    STRIDE = 8  # an instance has its own output stride

    def __init__(self, num_classes: int = NUM_CLASSES, output_stride: int = 8, width: int = 64) -> None:
        super().__init__()
        record_stride(self, output_stride)
        self.backbone = ResNet18(output_stride, width)
        channels = self.backbone.widths[-1]
        self.pyramid = PyramidPooling(channels)
        self.fuse = conv_norm_act(2 * channels, channels // SHARE, kernel=3)
        self.classify = nn.Conv2d(channels // SHARE, num_classes, 1)
        initialize(self.pyramid)
        initialize(self.fuse)
        # With so few outputs fan_out would start with logits far apart; fan_in keeps the scale of the map.
        nn.init.kaiming_normal_(self.classify.weight, mode="fan_in", nonlinearity="linear")
        nn.init.zeros_(self.classify.bias)

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.STRIDE, fewest=2 if self.training else 1)
        size = x.shape[2:]
        x = self.backbone(x)[-1]                                # (N, 512, h, w)
        x = self.fuse(self.pyramid(x))                          # (N, 1024, h, w) -> (N, 128, h, w)
        return resize(self.classify(x), size)                   # (N, K, h, w) -> (N, K, H, W)


def load_model(MODEL_PATH: str) -> nn.Module:  # noqa: N803  (the lab's fixed name)
    return load_weights(MODEL_PATH, lambda weights: PSPNet(
        num_classes=weights["classify.weight"].shape[0], output_stride=int(weights["output_stride"]),
        width=weights["backbone.conv1.weight"].shape[0]))
