"""FCN-32s, FCN-16s and FCN-8s: a classifier that scores every place of its map, and finer maps that correct it.

Follows Long, Shelhamer and Darrell, "Fully Convolutional Networks for Semantic Segmentation" (CVPR 2015; extended by
Shelhamer, Long and Darrell, PAMI 2017), figure 3, and for details the networks that the authors published
(github.com/shelhamer/fcn.berkeleyvision.org):

- section 3.1: a classifier's last layer, slid over the last map, is a 1x1 convolution that scores the classes at each
  place. Any size of picture goes, and the places share all that their views have in common;
- section 3.3: the scores reach the picture's resolution by a transposed convolution. A kernel of triangular weights
  makes it bilinear interpolation, which is where a trained one starts;
- section 4.2: a map of stride 32 knows what there is, but not where. Finer maps are scored, too, and the scores are
  summed up from coarse to fine: those of stride 32 are doubled and meet those of stride 16 (FCN-16s), these sums are
  doubled and meet stride 8 (FCN-8s). Only scores meet, K channels a level; U-Net's skips hand over whole maps.

As in the paper (section 4.3) the last up-sampling is fixed to bilinear, and the inner ones, by 2, start there and are
learnt, with a kernel for each pair of classes. The authors fixed those, too, in the networks that they published, and
found no significant difference. The fixed kernel is the same for every class: one buffer instead of K^2 kernels of
parameters, and a grouped convolution, which takes a K-th of the multiply-accumulates of one that sums over the classes.

What differs from the paper:

- the backbone is a ResNet-18 (He et al., 2016), whose stages of strides 8, 16 and 32 stand for pool3, pool4 and fc7.
  VGG's fc6 and fc7, made convolutions of 7x7 and 1x1 with 4096 channels, have no counterpart, nor has their dropout;
- the authors pad the picture by 100 pixels and cut the scores to size. Here the paddings fit, and the scores fade
  towards the border instead, as beyond it there is nothing to interpolate with: in FCN-32s to a half, and to a quarter
  in the corners. In the fixed step all classes fade alike, so that the most probable one stays;
- the paper starts all score layers at zero. Then nothing reaches the backbone in the first step, which does not matter
  to one that is pretrained and is a step lost to one that is not. Here they start close to zero;
- the paper trains in stages: FCN-16s starts from a trained FCN-32s, FCN-8s from FCN-16s. The names of the parameters
  allow it (load_state_dict with strict=False), but nothing needs it: batch norm keeps the stages' maps of like
  magnitude, whereas VGG's pool4 and pool3 had to be scaled by 0.01 and 0.0001 to be trained at once.

torchvision's models of the name have another head (FCNHead): a 3x3 convolution before one score layer, on a dilated
backbone, and no sums.

Shapes: N pictures, H x W pixels (both divisible by 32), K classes, w = `width`.
"""
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gallery.common import NUM_CLASSES, check_input
from gallery.resnet import ResNet18

SCORE_STD = 0.01  # of the score layers' first weights: the logits start within a few tenths of zero


def bilinear_kernel(factor: int) -> Tensor:
    """The weights that make a transposed convolution of stride `factor` bilinear interpolation: float32 (1, 1, k, k).

    k = 2 factor - factor % 2. With a padding of factor // 2 the output is `factor` times as high and wide, and, by
    pixel centres (align_corners=False), bilinear but for the factor // 2 pixels along the border, which fade.
    """
    size = 2 * factor - factor % 2
    distance = (torch.arange(size) - (size - 1) / 2).abs()  # from the kernel's centre, in pixels of the output
    triangle = 1 - distance / factor                        # 1 at the source pixel's centre, 0 at its neighbours'
    return torch.outer(triangle, triangle)[None, None]


def double(classes: int) -> nn.ConvTranspose2d:
    """Learnt up-sampling by 2, at first bilinear and each class by itself: (N, K, H, W) -> (N, K, 2H, 2W)."""
    conv = nn.ConvTranspose2d(classes, classes, 4, stride=2, padding=1, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.eye(classes)[:, :, None, None] * bilinear_kernel(2))
    return conv


class FCN32s(nn.Module):
    """Float32 pictures (N, 3, H, W), normalised, to logits (N, K, H, W). H and W divide by 32.

    `width` is the number of channels of the backbone's first stage, 64 in ResNet-18.
    """

    STRIDE = 32
    LEVELS = 1  # how many of the backbone's maps are scored, the coarsest first

    def __init__(self, num_classes: int = NUM_CLASSES, width: int = 64) -> None:
        super().__init__()
        self.backbone = ResNet18(width=width)
        self.scores = nn.ModuleList(nn.Conv2d(channels, num_classes, 1)
                                    for channels in self.backbone.widths[::-1][:self.LEVELS])
        self.doubles = nn.ModuleList(double(num_classes) for _ in self.scores[1:])
        self.factor = self.STRIDE // 2 ** len(self.doubles)  # what is left to the last up-sampling
        self.register_buffer("kernel", bilinear_kernel(self.factor), persistent=False)
        for score in self.scores:
            nn.init.normal_(score.weight, std=SCORE_STD)
            nn.init.zeros_(score.bias)

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.STRIDE)
        coarsest, *finer = self.backbone(x)[::-1][:self.LEVELS]  # (N, 8w, H/32, W/32), (N, 4w, H/16, W/16), ...
        first, *others = self.scores
        logits = first(coarsest)                                 # (N, K, H/32, W/32)
        for up, score, features in zip(self.doubles, others, finer, strict=True):
            logits = up(logits) + score(features)                # (N, K, H/16, W/16), (N, K, H/8, W/8)
        classes = logits.shape[1]
        return F.conv_transpose2d(logits, self.kernel.expand(classes, -1, -1, -1), stride=self.factor,
                                  padding=self.factor // 2, groups=classes)  # (N, K, H, W)


class FCN16s(FCN32s):
    """FCN-32s whose doubled scores meet those of stride 16."""

    LEVELS = 2


class FCN8s(FCN32s):
    """FCN-16s whose doubled sums meet the scores of stride 8."""

    LEVELS = 3


def load_model(MODEL_PATH: str) -> nn.Module:  # noqa: N803  (the lab's fixed name)
    """Builds the network that the state_dict in `MODEL_PATH` belongs to and loads it, strictly, onto the CPU."""
    state_dict = torch.load(MODEL_PATH, map_location="cpu", weights_only=True)
    levels = sum(name.startswith("scores.") and name.endswith(".weight") for name in state_dict)
    network = {network.LEVELS: network for network in (FCN32s, FCN16s, FCN8s)}[levels]
    width = state_dict["backbone.conv1.weight"].shape[0]
    model = network(num_classes=state_dict["scores.0.bias"].shape[0], width=width)
    model.load_state_dict(state_dict, strict=True)
    return model
