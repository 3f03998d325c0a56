"""ENet: small maps from the start, bottlenecks at an eighth of the resolution, and a small decoder.

Follows Paszke, Chaurasia, Kim and Culurciello, "ENet: A Deep Neural Network Architecture for Real-Time Semantic
Segmentation" (2016), table 1 and figure 2, in details the authors' code (github.com/e-lab/ENet-training):

- early down-sampling: two blocks reduce the image to a quarter, because fine maps cost much;
- a bottleneck (figure 2b) projects to a quarter of its channels, filters these (plain, dilated, or a column and a row
  of 5), expands them again and adds the result to its main branch;
- down-sampling pools the main branch and fills it up with channels of zeros; beside it the projection has 2x2 filters
  of stride 2, because 1x1 filters of that stride would skip three pixels of four;
- up-sampling puts values back where the pooling found its maxima (SegNet's idea), beside a transposed convolution;
- the decoder only refines what the encoder has decided: five bottlenecks against twenty-two.

Where paper and code differ, this file follows the paper. Unlike both, no convolution before a batch norm has a bias,
and the whole network is trained at once. thop counts the three transposed convolutions 4 times too high: 91 M instead
of 23 M of the 957 M multiply-accumulates at 256 x 512.

`width` scales all of it, from 4 on; table 1 is for 16. Shapes: N images, H x W pixels (both divisible by 8), K classes,
w = `width`; C channels and h x w places in a block.
"""
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gallery.common import NUM_CLASSES, check_input, load_weights, norm, norm_act

# Table 1, with the channels of width 16. A filter is (length, dilation): of length 3 it is a square, longer ones are a
# column and a row.
WIDTH = 16      # channels of the initial block
PLAIN = (3, 1)
SECTION = (PLAIN, (3, 2), (5, 1), (3, 4), PLAIN, (3, 8), (5, 1), (3, 16))  # bottlenecks 2.1 to 2.8
ENCODER = (
    # C   dropout filters; a stage starts with a bottleneck that halves the resolution
    (64,  0.01,   4 * (PLAIN,)),    # stride 4: bottlenecks 1.0 to 1.4
    (128, 0.1,    2 * SECTION),     # stride 8: 2.0 to 2.8, and 3.1 to 3.8, which repeat 2.1 to 2.8
)
DECODER = (
    # C   dropout filters; a stage starts with a bottleneck that doubles the resolution
    (64,  0.1,    2 * (PLAIN,)),    # stride 4: 4.0 to 4.2
    (16,  0.1,    1 * (PLAIN,)),    # stride 2: 5.0 and 5.1
)


def conv(in_channels: int, out_channels: int, kernel: int | tuple[int, int] = 1, **options: object) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel, bias=False, **options)


def spatial_filter(channels: int, length: int, dilation: int) -> nn.Sequential:
    """A square of 3x3, dilated, or a column and a row of `length`: (N, C, h, w) stays so."""
    if length == 3:
        return nn.Sequential(conv(channels, channels, 3, padding=dilation, dilation=dilation))
    return nn.Sequential(conv(channels, channels, (length, 1), padding=(length // 2, 0)),
                         conv(channels, channels, (1, length), padding=(0, length // 2)))


def branch(project: nn.Module, inside: int, spatial: nn.Module, out_channels: int, dropout: float) -> nn.Sequential:
    """What a bottleneck adds to its main branch: project to `inside` channels, filter, expand; drop whole channels."""
    return nn.Sequential(project, norm_act(inside), spatial, norm_act(inside),
                         conv(inside, out_channels), norm(out_channels), nn.Dropout2d(dropout))


class InitialBlock(nn.Module):
    """Filters beside the pooled image: (N, 3, H, W) -> (N, C, H/2, W/2); C is 4 or more."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv(3, channels - 3, 3, stride=2, padding=1)
        self.norm_act = norm_act(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm_act(torch.cat([self.conv(x), F.max_pool2d(x, 2)], dim=1))


class Bottleneck(nn.Module):
    """(N, C, h, w) stays so."""

    def __init__(self, channels: int, length: int, dilation: int, dropout: float) -> None:
        super().__init__()
        inside = channels // 4
        self.branch = branch(conv(channels, inside), inside, spatial_filter(inside, length, dilation),
                             channels, dropout)
        self.act = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x + self.branch(x))


class Down(nn.Module):
    """(N, C_in, h, w) -> (N, C_out, h/2, w/2), and the places of the maxima in x: int64 (N, C_in, h/2, w/2)."""

    def __init__(self, in_channels: int, out_channels: int, dropout: float) -> None:
        super().__init__()
        inside = out_channels // 4
        self.missing = out_channels - in_channels
        self.branch = branch(conv(in_channels, inside, 2, stride=2), inside, spatial_filter(inside, *PLAIN),
                             out_channels, dropout)
        self.act = nn.PReLU(out_channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        main, places = F.max_pool2d(x, 2, return_indices=True)
        main = F.pad(main, (0, 0, 0, 0, 0, self.missing))       # (N, C_out, h/2, w/2), the new channels zero
        return self.act(main + self.branch(x)), places


class Up(nn.Module):
    """(N, C_in, h, w) -> (N, C_out, 2h, 2w), with the places that `Down` returned: int64 (N, C_out, h, w)."""

    def __init__(self, in_channels: int, out_channels: int, dropout: float) -> None:
        super().__init__()
        inside = out_channels // 4
        self.main = nn.Sequential(conv(in_channels, out_channels), norm(out_channels))
        full = nn.ConvTranspose2d(inside, inside, 3, stride=2, padding=1, output_padding=1, bias=False)
        self.branch = branch(conv(in_channels, inside), inside, full, out_channels, dropout)
        self.act = nn.PReLU(out_channels)

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        main = F.max_unpool2d(self.main(x), places, 2)          # (N, C_out, 2h, 2w), three of four places zero
        return self.act(main + self.branch(x))


class ENet(nn.Module):
    """Float32 images (N, 3, H, W), normalized, to logits (N, K, H, W). H and W must divide by 8.

    The last layer is a transposed convolution whose kernel equals its stride: no pooling of K channels came before.
    """

    STRIDE = 8

    def __init__(self, num_classes: int = NUM_CLASSES, width: int = WIDTH) -> None:
        super().__init__()
        self.initial = InitialBlock(width)
        before = width
        self.downs, self.ups, self.encoder, self.decoder = (nn.ModuleList() for _ in range(4))
        for table, steps, step, stages in ((ENCODER, self.downs, Down, self.encoder),
                                           (DECODER, self.ups, Up, self.decoder)):
            for channels, dropout, filters in table:
                after = channels * width // WIDTH
                steps.append(step(before, after, dropout))
                stages.append(nn.Sequential(*(Bottleneck(after, *shape, dropout) for shape in filters)))
                before = after
        # The weights start with torch's defaults, as in the authors' code. With He et al.'s a new network has logits
        # in the thousands in eval mode: 27 bottlenecks add up, and the batch norms have no statistics yet.
        self.classifier = nn.ConvTranspose2d(before, num_classes, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.STRIDE)
        x = self.initial(x)                                     # (N, w, H/2, W/2)
        maxima = []
        for down, stage in zip(self.downs, self.encoder, strict=True):
            x, places = down(x)                                 # (N, 4w, H/4, W/4), (N, 8w, H/8, W/8)
            x = stage(x)
            maxima.append(places)
        for up, stage, places in zip(self.ups, self.decoder, reversed(maxima), strict=True):
            x = stage(up(x, places))                            # (N, 4w, H/4, W/4), (N, w, H/2, W/2)
        return self.classifier(x)                               # (N, K, H, W)


def load_model(MODEL_PATH: str) -> nn.Module:  # noqa: N803  (the lab's fixed name)
    return load_weights(MODEL_PATH, lambda weights: ENet(*weights["classifier.weight"].shape[1::-1]))
