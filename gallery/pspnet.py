"""PSPNet: what a pixel shows depends on the scene around it, so each pixel is told of the scene.

Follows Zhao, Shi, Qi, Wang and Jia, "Pyramid Scene Parsing Network" (CVPR 2017). The paper starts from mistakes of
networks that see too little of it: a boat on a river is called a car for its looks, although cars rarely float
(figure 2). The mean over the whole picture would tell a river from a street, but not where in the picture they are. The
pyramid pooling module (section 3.2, figure 3) takes the means of the regions of four grids, 1 x 1, 2 x 2, 3 x 3 and
6 x 6, weighs each grid's with a 1x1 convolution, stretches them over the map and puts them beside it.

A picture of 256 x 512 pixels has a map of 32 x 64, whose 6 x 6 regions stand for about 43 x 85 pixels of the picture
each. Where a grid does not divide the map, as here, neighbouring regions share a row or a column of it. At output
stride 8 the network takes 26.5 billion multiply-accumulates for that picture, at 16 it takes 8.6.

The widths are the paper's in proportion: a grid's 1x1 convolution leaves a quarter of the backbone's channels, so that
the four together weigh as much as the map; the 3x3 convolution after it again has a quarter (the paper's 512 of
ResNet-101's 2048 are 128 of ResNet-18's 512).

What differs from the paper:

- it also classifies the last stage but one, with 0.4 of the weight in the loss, to help the gradients into a deep
  backbone (section 4, figure 4), and throws that classifier away after training. This interface has one output;
- the authors' code (github.com/hszhao/PSPNet and semseg) drops a tenth of the channels before the classifier in
  training, starts the ResNet with three 3x3 convolutions in place of the 7x7, and resizes with aligned corners, all
  of which the paper does not mention. Here nothing is dropped, and maps are resized by pixel centres.

Learning rates: what is under `backbone` may be trained on ImageNet beforehand and wants a lower one than the rest
(the authors' code: a tenth): two groups of parameters for the optimiser.

Batch norm over the pooled picture sees one number a picture. For a single picture in training mode there is nothing to
normalise by, and torch raises ValueError; of two, it leaves little more than which of them is the larger. The authors
train with 16 a batch.

Shapes: N pictures, H x W pixels, K classes, h x w the last map's pixels (H/8 x W/8 by default).
"""
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gallery.common import NUM_CLASSES, check_input, remember_output_stride, resize
from gallery.resnet import ResNet18

GRIDS = (1, 2, 3, 6)  # regions a side
SHARE = 4             # the part of the backbone's channels that each grid, and the last convolution, has: a quarter


def conv_norm_act(in_channels: int, out_channels: int, kernel: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False),
                         nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


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
    """Float32 pictures (N, 3, H, W), normalised, to logits (N, K, H, W). H and W divide by the output stride.

    `output_stride` is 8 as in the paper, 16 or 32, else ResNet18 raises ValueError; `width` scales all layers.
    Trained with two pictures a batch or more.
    """

    STRIDE = 8  # of the class as it is built without options; of an instance its output stride

    def __init__(self, num_classes: int = NUM_CLASSES, output_stride: int = 8, width: int = 64) -> None:
        super().__init__()
        remember_output_stride(self, output_stride)
        self.backbone = ResNet18(output_stride, width)
        channels = self.backbone.widths[-1]
        self.pyramid = PyramidPooling(channels)
        self.fuse = conv_norm_act(2 * channels, channels // SHARE, kernel=3)
        self.classify = nn.Conv2d(channels // SHARE, num_classes, 1)
        for module in (*self.pyramid.modules(), *self.fuse.modules()):
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        # fan_out, here the few classes, would start with logits far apart; fan_in keeps the scale of the map
        nn.init.kaiming_normal_(self.classify.weight, mode="fan_in", nonlinearity="linear")
        nn.init.zeros_(self.classify.bias)

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.STRIDE, fewest=2 if self.training else 1)
        size = x.shape[2:]
        x = self.backbone(x)[-1]                                # (N, 512, h, w)
        x = self.fuse(self.pyramid(x))                          # (N, 1024, h, w) -> (N, 128, h, w)
        return resize(self.classify(x), size)                   # (N, K, h, w) -> (N, K, H, W)


def load_model(MODEL_PATH: str) -> nn.Module:  # noqa: N803  (the lab's fixed name)
    """Builds the network that the state_dict in `MODEL_PATH` belongs to and loads it, strictly, onto the CPU."""
    state_dict = torch.load(MODEL_PATH, map_location="cpu", weights_only=True)
    model = PSPNet(num_classes=state_dict["classify.weight"].shape[0],
                   output_stride=int(state_dict["output_stride"]),
                   width=state_dict["backbone.conv1.weight"].shape[0])
    model.load_state_dict(state_dict, strict=True)
    return model
