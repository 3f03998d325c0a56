"""SegNet: the decoder learns where each maximum of the encoder was, and nothing else.

Follows Badrinarayanan, Kendall and Cipolla, "SegNet: A Deep Convolutional Encoder-Decoder Architecture for Image
Segmentation" (IEEE TPAMI 2017), figures 2 and 3:

- the encoder is VGG-16 without its fully connected layers (Simonyan and Zisserman, ICLR 2015, table 1, column D);
- its poolings remember which pixel of each 2x2 had the maximum. The decoder, its mirror image, puts a value back at
  that pixel and zeros beside it, and its convolutions fill the gaps: 2 bits a value where a U-Net keeps whole maps.

Batch norm and ReLU follow every convolution but the last; these convolutions have no bias. The paper starts from
ImageNet's weights, this lab from random ones. With w = 64 and K = 8: 29,439,688 parameters, 80.56 G
multiply-accumulates for 256 x 512 pixels.

Shapes: N images, H x W pixels (both divisible by 32), K classes, w = `width`.
"""
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from gallery.common import NUM_CLASSES, check_input, conv_norm_act, initialize, load_weights

# A row is a stage: the widths of its convolutions, in multiples of `width`. A pooling follows each row of the encoder,
# an unpooling comes before each row of the decoder. The decoder's last convolution, to the K classes, is the head.
ENCODER = (
    (1, 1),      # stride 1
    (2, 2),      # stride 2
    (4, 4, 4),   # stride 4
    (8, 8, 8),   # stride 8
    (8, 8, 8),   # stride 16
)
DECODER = (
    (8, 8, 8),   # stride 16
    (8, 8, 4),   # stride 8
    (4, 4, 2),   # stride 4
    (2, 1),      # stride 2
    (1,),        # stride 1
)


class Stage(nn.Sequential):
    """(convolution 3x3, batch norm, ReLU) for each of `widths`: (N, C_in, H, W) -> (N, widths[-1], H, W)."""

    def __init__(self, in_channels: int, widths: tuple[int, ...]) -> None:
        pairs = pairwise((in_channels, *widths))
        super().__init__(*(layer for before, after in pairs for layer in conv_norm_act(before, after, 3)))


def stages(in_channels: int, rows: tuple[tuple[int, ...], ...], width: int) -> nn.ModuleList:
    """The stages of a table; the first one gets `in_channels`."""
    made = nn.ModuleList()
    for row in rows:
        made.append(Stage(in_channels, tuple(factor * width for factor in row)))
        in_channels = row[-1] * width
    return made


def pool(x: Tensor) -> tuple[Tensor, Tensor]:
    """(N, C, H, W) -> its maxima (N, C, H/2, W/2), and their places in the H x W plane: int64, row-major."""
    return F.max_pool2d(x, 2, return_indices=True)


def unpool(x: Tensor, indices: Tensor) -> Tensor:
    """(N, C, H/2, W/2) -> (N, C, H, W): each value at its index from `pool`, 0 elsewhere."""
    return F.max_unpool2d(x, indices, 2)


class SegNet(nn.Module):
    """Float32 images (N, 3, H, W), normalized, to logits (N, K, H, W). H and W must divide by 32.

    width: channels of the first stage; 64 is the paper's, 8 trains on a CPU.
    """

    STRIDE = 32

    def __init__(self, width: int = 64, num_classes: int = NUM_CLASSES) -> None:
        super().__init__()
        self.encoder = stages(3, ENCODER, width)
        self.decoder = stages(ENCODER[-1][-1] * width, DECODER, width)
        self.head = nn.Conv2d(DECODER[-1][-1] * width, num_classes, 3, padding=1)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.STRIDE)
        places = []
        for stage in self.encoder:
            x, indices = pool(stage(x))         # (N, w, H/2, W/2), (N, 2w, H/4, W/4), ... (N, 8w, H/32, W/32)
            places.append(indices)
        for stage in self.decoder:
            x = stage(unpool(x, places.pop()))  # (N, 8w, H/16, W/16), (N, 4w, H/8, W/8), ... (N, w, H, W)
        return self.head(x)                     # (N, K, H, W)


def load_model(MODEL_PATH: str) -> nn.Module:  # noqa: N803  (the lab's fixed name)
    return load_weights(MODEL_PATH, lambda weights: SegNet(
        width=weights["encoder.0.0.weight"].shape[0], num_classes=weights["head.weight"].shape[0]))
