"""ENet: shrink at once, work in bottlenecks at an eighth of the resolution, and let a small decoder put it back.

Follows Paszke, Chaurasia, Kim and Culurciello, "ENet: A Deep Neural Network Architecture for Real-Time Semantic
Segmentation" (2016), table 1 and figure 2, and for details the code that the authors published
(github.com/e-lab/ENet-training, train/models):

- early down-sampling: the first two blocks bring the picture to a quarter, because pictures are redundant and fine
  maps are dear. The initial block (figure 2a) is thirteen filters and the picture itself, pooled;
- a bottleneck (figure 2b) projects to a quarter of its channels, filters these, expands them again and adds the result
  to its main branch. The filter is plain, dilated, or a 5x5 taken apart into a column and a row;
- down-sampling: the main branch is pooled, and filled up with channels of zeros; beside it the projection takes 2x2
  filters with a stride of 2, where 1x1 filters with that stride would drop three pixels of four;
- up-sampling: a pooling remembers where its maxima were, and the decoder's unpooling puts values back to just these
  places (an idea of SegNet: Badrinarayanan, Kendall and Cipolla, 2015). The other places get zeros, and the branch
  beside, with a transposed convolution, which the paper calls a full convolution;
- the decoder is small, five bottlenecks against twenty-two: it has only to refine what the encoder has decided.

`width` scales all of it and is at least 4; table 1 is for 16.

Where the paper and the published code differ, the paper is followed: the code's decoder has ReLUs instead of PReLUs,
and no dropout. What differs from both:

- what stands in front of a batch norm has no bias, which the norm's own would replace. The paper leaves them out of
  the projections alone;
- the whole network is trained at once; the paper trains the encoder on a small target first, then puts the decoder on.

thop counts a transposed convolution stride^2 = 4 times too high: each pixel of the output for the whole kernel, of
which it sees a quarter on average. Of ENet's 957 M multiply-accumulates at 256 x 512 (torch's counter) 23 M are in its
three, for which thop says 91 M; with the norms, which torch leaves out, it comes to 1101 M. The lab takes the larger.

Shapes: N pictures, H x W pixels (both divisible by 8), K classes, w = `width`; C channels and h x w places in a block.
"""
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gallery.common import NUM_CLASSES, check_input, norm, norm_act

# Table 1, with the channels of width 16. A filter is its (length, dilation): those of length 3 are squares, longer
# ones a column and a row.
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
    """What a bottleneck adds to its main branch: project to `inside` channels, filter, expand. Drops whole channels."""
    return nn.Sequential(project, norm_act(inside), spatial, norm_act(inside),
                         conv(inside, out_channels), norm(out_channels), nn.Dropout2d(dropout))


class InitialBlock(nn.Module):
    """Filters beside the pooled picture: (N, 3, H, W) -> (N, C, H/2, W/2); C is 4 or more."""

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
    """(N, C_in, h, w) -> (N, C_out, h/2, w/2), and where in x the maxima were: int64 (N, C_in, h/2, w/2)."""

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
    """Float32 pictures (N, 3, H, W), normalised, to logits (N, K, H, W). H and W divide by 8.

    The last layer has no counterpart in the encoder's poolings: the initial block has pooled the picture, with three
    channels, and the output has K. It is a bare transposed convolution, whose kernel equals its stride.
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
        # The weights start as torch leaves them, as in the authors' code. With He et al.'s a new network's logits are
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
    """Builds the network that the state_dict in `MODEL_PATH` belongs to and loads it, strictly, onto the CPU."""
    state_dict = torch.load(MODEL_PATH, map_location="cpu", weights_only=True)
    width, num_classes = state_dict["classifier.weight"].shape[:2]
    model = ENet(num_classes=num_classes, width=width)
    model.load_state_dict(state_dict, strict=True)
    return model
