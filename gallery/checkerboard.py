"""The checkerboard of transposed convolutions, drawn and measured on the up-sampling of gallery/unet.py.

Follows Odena, Dumoulin and Olah, "Deconvolution and Checkerboard Artifacts" (Distill 2016), and Aitken et al.,
"Checkerboard artifact free sub-pixel convolution" (arXiv 1707.02937, 2017), who describe two causes:

- overlap: if the stride does not divide the kernel, more weights meet at some pixels than at others: `phase_ratio`;
- initialization: the four pixels that come from one are sums of different, random weights: `share_in_blocks`.

Nothing is trained here: a smooth input goes through three up-samplings in a row, without a ReLU. Shapes: C channels,
maps of h x w pixels; a phase is the quarter of a map with one parity of row and column.
"""
import math
from collections.abc import Callable
from functools import partial

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

from gallery.unet import BilinearConv, initialize, transposed

UPSAMPLINGS = {
    "transposed 3x3, stride 2": partial(transposed, kernel=3),
    "transposed 2x2, stride 2": partial(transposed, kernel=2),
    "transposed 4x4, stride 2": partial(transposed, kernel=4),
    "bilinear, then 3x3": BilinearConv,
}
CHANNELS = 16
TIMES = 3    # up-samplings in a row: their patterns repeat every 2, 4 and 8 pixels
SIDE = 10    # rows and columns of the input
MARGIN = 16  # pixels cut off each side of the output, which the zeros around the maps reach; an even number
SEEDS = range(20)

Upsampling = Callable[[int, int], nn.Module]  # from the channels before and after to (N, C, h, w) -> (N, C', 2h, 2w)


@torch.no_grad()
def count_contributions(upsampling: Upsampling, side: int = 6) -> Tensor:
    """How many weights meet at each pixel away from the borders: int64 (side, side), side even."""
    layer = upsampling(1, 1)
    for name, parameter in layer.named_parameters():
        parameter.fill_(0 if name.endswith("bias") else 1)
    response = layer(torch.ones(1, 1, side, side))[0, 0]                # (2 side, 2 side)
    start = side // 2 + side // 2 % 2                                   # even: keeps the phases in order
    return response[start:start + side, start:start + side].round().long()


@torch.no_grad()
def respond(upsampling: Upsampling, seed: int) -> Tensor:
    """A smooth input after TIMES up-samplings with random weights: float32 (CHANNELS, h, w), h = w = 48.

    Each channel of the input is 1 plus a wave half as high, shifted at random. All follows from `seed`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        stack = nn.Sequential(*(upsampling(CHANNELS, CHANNELS) for _ in range(TIMES)))
        initialize(stack)
        shift = torch.rand(2, CHANNELS, 1)
    wave = torch.cos(2 * math.pi * (torch.arange(SIDE) / SIDE + shift))              # (2, CHANNELS, SIDE)
    data = 1 + 0.5 * wave[0, :, :, None] * wave[1, :, None, :]                       # (CHANNELS, SIDE, SIDE)
    return stack(data[None])[0, :, MARGIN:-MARGIN, MARGIN:-MARGIN]


def share_in_blocks(maps: Tensor) -> Tensor:
    """The part of each map's variance that lies inside its blocks of 2x2 pixels: (..., C, h, w) -> (..., C), 0 to 1.

    A checkerboard has 1, noise from pixel to pixel 3/4, a smooth map nearly 0. h and w are even.
    """
    return 1 - F.avg_pool2d(maps, 2).var((-2, -1), correction=0) / maps.var((-2, -1), correction=0)


def phase_ratio(maps: Tensor) -> float:
    """The root mean square of the strongest phase over that of the weakest, over all maps (..., C, h, w): 1 is even."""
    phases = torch.stack([maps[..., row::2, column::2].square().mean() for row in (0, 1) for column in (0, 1)])
    return float((phases.max() / phases.min()).sqrt())


def plot_checkerboard() -> Figure:
    """A column for each of UPSAMPLINGS: the overlap, one response, and the mean strength of all responses."""
    figure = Figure(figsize=(11, 9.4), dpi=100, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08, rect=(0, 0, 1, 0.99))
    axes = figure.subplots(3, len(UPSAMPLINGS))
    for column, (name, upsampling) in zip(axes.T, UPSAMPLINGS.items(), strict=True):
        contributions = count_contributions(upsampling)
        maps = torch.stack([respond(upsampling, seed) for seed in SEEDS])            # (seeds, CHANNELS, 48, 48)
        column[0].set_title(name, fontsize=12, fontweight="bold")
        _draw_counts(column[0], contributions)
        column[1].imshow(maps[0, 0].numpy(), cmap="gray", interpolation="nearest")
        column[1].set_xlabel(f"{share_in_blocks(maps).mean():.1%} of the variance\nis inside 2x2 blocks")
        strength = maps.square().mean((0, 1)).sqrt().numpy()
        column[2].imshow(strength, cmap="gray", vmin=0, vmax=strength.max(), interpolation="nearest")
        column[2].set_xlabel(f"strongest phase : weakest\n= {phase_ratio(maps):.2f} : 1")
    for ax, text in zip(axes[:, 0], ("weights that meet\nat each output pixel", "one channel after\nthree up-samplings",
                                     f"root mean square,\n{len(SEEDS)} seeds, {CHANNELS} channels"), strict=True):
        ax.set_ylabel(text, fontsize=11)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
    figure.supxlabel(
        "Untrained layers, a smooth input: uneven overlap (3x3) favors the same pixels in every network; even overlap "
        "(2x2, 4x4)\nfavors none, yet each network paints a pattern of its own, as rough as noise (75%); "
        "a resize before the convolution, none.", fontsize=11)
    return figure


def _draw_counts(ax: Axes, counts: Tensor) -> None:
    """The counts (h, w) as shades of blue, each with its number; under them which numbers there are."""
    ax.imshow(counts.numpy(), cmap="Blues", vmin=0, vmax=12)
    for row, line in enumerate(counts.tolist()):
        for column, count in enumerate(line):
            ax.text(column, row, count, ha="center", va="center", color="white" if count > 7 else "black")
    values = sorted(set(counts.flatten().tolist()))
    ax.set_xlabel(f"{', '.join(map(str, values))}: {'even' if len(values) == 1 else 'uneven'}")
