"""FCN-32s, FCN-16s and FCN-8s: a classifier that scores every place of its map, and finer maps that correct it.

Follows Long, Shelhamer and Darrell, "Fully Convolutional Networks for Semantic Segmentation" (CVPR 2015), figure 3, in
details the authors' networks (github.com/shelhamer/fcn.berkeleyvision.org):

- section 3.1: a classifier's last layer, moved over the last map, is a 1x1 convolution that scores each place;
- section 3.3: a transposed convolution with triangular weights brings the scores to the image's resolution, bilinearly;
- section 4.2: a map of stride 32 knows what there is, but not where. So the scores of finer maps are added: FCN-16s
  doubles those of stride 32 and adds those of stride 16, FCN-8s doubles these sums and adds those of stride 8.

The last up-sampling stays bilinear (section 4.3), one fixed kernel for all classes; the inner ones learn from there.

What differs from the paper: the backbone is a ResNet-18, whose stages of strides 8, 16 and 32 stand for pool3, pool4
and fc7; paddings fit, so scores fade towards the border, all classes alike; score layers start close to zero, not at
it, so that gradients reach the backbone in the first step; all is trained at once, not in stages.

Shapes: N images, H x W pixels (both divisible by 32), K classes, w = `width`.
"""
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gallery.common import NUM_CLASSES, check_input, load_weights
from gallery.resnet import ResNet18

SCORE_STD = 0.01  # of the score layers' first weights: the logits start within a few tenths of zero


def bilinear_kernel(factor: int) -> Tensor:
    """Weights with which a transposed convolution of stride `factor` interpolates bilinearly: float32 (1, 1, k, k).

    k = 2 factor - factor % 2, with a padding of factor // 2. The factor // 2 pixels along the border fade.
    """
    size = 2 * factor - factor % 2
    distance = (torch.arange(size) - (size - 1) / 2).abs()  # from the kernel's center, in pixels of the output
    triangle = 1 - distance / factor                        # 1 at the source pixel's center, 0 at its neighbors'
    return torch.outer(triangle, triangle)[None, None]


def double(classes: int) -> nn.ConvTranspose2d:
    """Learned up-sampling by 2, at first bilinear and each class by itself: (N, K, H, W) -> (N, K, 2H, 2W)."""
    conv = nn.ConvTranspose2d(classes, classes, 4, stride=2, padding=1, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.eye(classes)[:, :, None, None] * bilinear_kernel(2))
    return conv


class FCN32s(nn.Module):
    """Float32 images (N, 3, H, W), normalized, to logits (N, K, H, W). H and W must divide by 32.

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
    """FCN-32s whose doubled scores are added to those of stride 16."""

    LEVELS = 2


class FCN8s(FCN32s):
    """FCN-16s whose doubled sums are added to the scores of stride 8."""

    LEVELS = 3


def load_model(MODEL_PATH: str) -> nn.Module:  # noqa: N803  (the lab's fixed name)
    return load_weights(MODEL_PATH, build)


def build(weights: dict[str, Tensor]) -> FCN32s:
    """The network that a state_dict belongs to, by the number of its score layers."""
    levels = sum(name.startswith("scores.") and name.endswith(".weight") for name in weights)
    network = {network.LEVELS: network for network in (FCN32s, FCN16s, FCN8s)}[levels]
    return network(num_classes=weights["scores.0.bias"].shape[0], width=weights["backbone.conv1.weight"].shape[0])
