"""DeepLab v3 and v3+: filters with holes look far without giving up resolution.

A classifier's last maps have stride 32, one pixel for 32 x 32 of the picture: too coarse for a pedestrian. Four papers
of Chen, Papandreou, Kokkinos, Murphy and Yuille, later of Chen, Papandreou, Zhu, Schroff and Adam, keep them finer, and
wide in view. What each of them brought:

- v1, "Semantic Image Segmentation with Deep Convolutional Nets and Fully Connected CRFs" (ICLR 2015): the last steps
  of 2 are taken out of the classifier and the filters behind them dilated instead: the backbone's `output_stride`. A
  conditional random field over the pixels then sharpened the edges; v3 did without it, and so does this file;
- v2, "DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous Convolution, and Fully Connected CRFs"
  (TPAMI 2018): parallel 3x3 filters of different dilations, atrous spatial pyramid pooling (ASPP), for objects of
  different sizes;
- v3, "Rethinking Atrous Convolution for Semantic Image Segmentation" (2017, section 3.3 and figure 5): batch norm in
  the pyramid, a 1x1 convolution and the pooled picture beside the three dilated filters, and a 1x1 convolution that
  projects all five together: `DeepLabV3`;
- v3+, "Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation" (ECCV 2018, figure 2): a
  decoder, which takes the edges from the map of stride 4, and 3x3 convolutions split into depthwise and pointwise, in
  pyramid and decoder: `DeepLabV3Plus`.

The view of a dilated filter: nine weights with rate r between them span 2 r + 1 pixels each way. Rates of 6, 12 and 18
span 13, 25 and 37 pixels of a map of stride 16, that is 208, 400 and 592 of the picture, at the price of a plain 3x3.
But a picture of 256 x 512 pixels has a map of 16 x 32, and what lies beyond it is zeros: on average 5.9, 3.4 and 1.9
of the nine weights meet a pixel. The widest filter reads its own row alone, and of that never both sides: it has
become nearly a 1x1 (v3, figure 4). A higher rate would not see more, but less. Hence the image pooling: its mean, given
to every pixel, is of the whole picture.

Output stride 8, with doubled rates, which span as much of the picture as before, gives the last two stages and the
pyramid four times the pixels to compute and, in training, to keep: for a picture of 256 x 512, 32.3 instead of 10.0
billion multiply-accumulates (v3+: 27.1 instead of 9.7). The parameters stay the same, and v3's authors train at 16 and
score at 8: weights of the one can be loaded into the other, whose `output_stride` stays what it was built with.

What differs from the papers:

- ResNet-18 instead of ResNet-101 or Xception. Multi-grid, a dilation for each of the last stage's three blocks (v3,
  section 3.2.1), is left out: ResNet-18 has two blocks, which share one;
- the authors' code (github.com/tensorflow/models, research/deeplab) drops a tenth of the pyramid's outputs in
  training. The papers do not mention it; it is left out;
- maps are resized by pixel centres, theirs with aligned corners.

Learning rates: what is under `backbone` may be trained on ImageNet beforehand and wants a lower one than the rest,
which is new (v1 and v2 took a tenth): two groups of parameters for the optimiser.

Batch norm over a pooled map sees one number a picture. For a single picture in training mode there is nothing to
normalise by, and torch raises ValueError; of two, it leaves little more than which of them is the larger. The authors
train with 16 a batch.

Shapes: N pictures, H x W pixels, K classes, h x w the last map's pixels (H/16 x W/16, or H/8 x W/8).
"""
from collections.abc import Callable

import torch
from torch import Tensor, nn

from gallery.common import NUM_CLASSES, check_input, remember_output_stride, resize
from gallery.resnet import ResNet18

RATES = {16: (6, 12, 18), 8: (12, 24, 36)}  # of the pyramid's filters, by output stride (v3, section 3.3)
WIDTH = 64                                  # the backbone's first; for another one, those below change in proportion
ASPP_WIDTH = 256                            # of each branch of the pyramid, of what it projects to, and of the decoder
SKIP_WIDTH = 48                             # of the map of stride 4 (v3+, table 1), few, lest it outweigh the pyramid


def conv_norm_act(in_channels: int, out_channels: int, kernel: int = 1, dilation: int = 1, groups: int = 1
                  ) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=dilation * (kernel // 2), dilation=dilation,
                  groups=groups, bias=False),
        nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


def dense(in_channels: int, out_channels: int, dilation: int = 1) -> nn.Sequential:
    """A 3x3 convolution: (N, C_in, h, w) -> (N, C_out, h, w)."""
    return conv_norm_act(in_channels, out_channels, 3, dilation)


def separable(in_channels: int, out_channels: int, dilation: int = 1) -> nn.Sequential:
    """The same in two, a 3x3 on each channel and a 1x1 over them; norm and ReLU after both, as in the authors' code."""
    return nn.Sequential(conv_norm_act(in_channels, in_channels, 3, dilation, groups=in_channels),
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
        views.append(pooled.expand_as(views[0]))                            # one pixel, resized, is itself everywhere
        return self.project(torch.cat(views, dim=1))                        # (N, 5C, h, w) -> (N, C, h, w)


class DeepLab(nn.Module):
    """What both have: a dilated backbone and the pyramid. Raises ValueError unless `output_stride` is 16 or 8."""

    STRIDE = 16  # of the class as it is built without options; of an instance its output stride

    def __init__(self, convolution: Callable[[int, int, int], nn.Module], output_stride: int, width: int) -> None:
        super().__init__()
        if output_stride not in RATES:
            raise ValueError(f"expected an output stride of {' or '.join(map(str, RATES))}, got {output_stride}")
        remember_output_stride(self, output_stride)
        self.backbone = ResNet18(output_stride, width)
        self.aspp = ASPP(self.backbone.widths[-1], ASPP_WIDTH * width // WIDTH, RATES[output_stride], convolution)


def initialise(network: DeepLab) -> None:
    """He's initialisation; for the classifier the authors' standard deviation, whose logits start out nearly alike."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            # torch's fan_out takes no account of groups: for a depthwise filter, fan_in is the 9 that it should be
            mode = "fan_in" if module.groups > 1 else "fan_out"
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")
    nn.init.normal_(network.classify.weight, std=0.01)
    nn.init.zeros_(network.classify.bias)


class DeepLabV3(DeepLab):
    """Float32 pictures (N, 3, H, W), normalised, to logits (N, K, H, W). H and W divide by the output stride.

    `output_stride` is 16 or 8; `width`, a multiple of 4, scales all layers. Trained with two pictures a batch or more.
    """

    def __init__(self, num_classes: int = NUM_CLASSES, output_stride: int = 16, width: int = WIDTH) -> None:
        super().__init__(dense, output_stride, width)
        self.classify = nn.Conv2d(ASPP_WIDTH * width // WIDTH, num_classes, 1)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.STRIDE, fewest=2 if self.training else 1)
        size = x.shape[2:]
        x = self.aspp(self.backbone(x)[-1])                                 # (N, 256, h, w)
        return resize(self.classify(x), size)                               # (N, K, h, w) -> (N, K, H, W)


class DeepLabV3Plus(DeepLab):
    """Float32 pictures (N, 3, H, W), normalised, to logits (N, K, H, W). H and W divide by the output stride.

    `output_stride` is 16 or 8; `width`, a multiple of 4, scales all layers. Trained with two pictures a batch or more.
    """

    def __init__(self, num_classes: int = NUM_CLASSES, output_stride: int = 16, width: int = WIDTH) -> None:
        super().__init__(separable, output_stride, width)
        channels, skip = ASPP_WIDTH * width // WIDTH, SKIP_WIDTH * width // WIDTH
        self.skip = conv_norm_act(self.backbone.widths[1], skip)
        self.decoder = nn.Sequential(separable(skip + channels, channels), separable(channels, channels))
        self.classify = nn.Conv2d(channels, num_classes, 1)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.STRIDE, fewest=2 if self.training else 1)
        size = x.shape[2:]
        _, fine, *_, coarse = self.backbone(x)
        x, fine = self.aspp(coarse), self.skip(fine)                        # (N, 256, h, w), (N, 48, H/4, W/4)
        x = torch.cat([resize(x, fine.shape[2:]), fine], dim=1)             # (N, 304, H/4, W/4)
        return resize(self.classify(self.decoder(x)), size)                 # (N, K, H/4, W/4) -> (N, K, H, W)


def load_model(MODEL_PATH: str) -> nn.Module:  # noqa: N803  (the lab's fixed name)
    """Builds the network that the state_dict in `MODEL_PATH` belongs to and loads it, strictly, onto the CPU."""
    state_dict = torch.load(MODEL_PATH, map_location="cpu", weights_only=True)
    network = DeepLabV3Plus if "skip.0.weight" in state_dict else DeepLabV3
    model = network(num_classes=state_dict["classify.weight"].shape[0],
                    output_stride=int(state_dict["output_stride"]),
                    width=state_dict["backbone.conv1.weight"].shape[0])
    model.load_state_dict(state_dict, strict=True)
    return model
