"""Pictures, labels and predictions side by side, in the classes' display colors."""
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from utils.classes import LAB_CLASSES, Classes
from utils.lab import MEAN, STD

MOST = 8  # names in a line of the legend


def denormalise(data: Tensor) -> np.ndarray:
    """A network's input (N, 3, H, W), float32, back to pictures: uint8 (N, H, W, 3)."""
    std, mean = (torch.tensor(values)[:, None, None] for values in (STD, MEAN))
    pixels = (data.detach().cpu().float() * std + mean) * 255
    return pixels.round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()


def show_panels(data: Tensor, *labels: Tensor, titles: Sequence[str] = ("picture", "label", "prediction"),
                captions: Sequence[str] = (), width: float = 11, classes: Classes = LAB_CLASSES) -> Figure:
    """One row a sample: the picture, then each of `labels` in display colors; 255 (ignored) is white.

    data: normalised pictures, float32 (N, 3, H, W); labels: indices of `classes`, integers (N, H, W).
    captions: a text for each row, on its left.
    """
    pictures = denormalise(data)
    columns = [pictures] + [[classes.colorize(label) for label in batch.cpu().numpy().astype(np.uint8)]
                            for batch in labels]
    rows = len(pictures)
    _, h, w, _ = pictures.shape
    height = rows * width / len(columns) * h / w + 0.5 + 0.2 * legend_lines(classes)
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, len(columns), squeeze=False)
    for row in range(rows):
        for column, images in enumerate(columns):
            ax = axes[row, column]
            show_bare(ax, images[row])
            if row == 0:
                ax.set_title(titles[column], fontsize=10)
        if captions:
            axes[row, 0].set_ylabel(captions[row], fontsize=9)
    add_legend(figure, classes)
    return figure


def show_bare(ax: Axes, image: np.ndarray) -> None:
    """A picture (H, W, 3), pixel by pixel, with nothing around it."""
    ax.imshow(image, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def add_legend(figure: Figure, classes: Classes = LAB_CLASSES) -> None:
    """The classes and their display colors under the figure, to be read line by line: the lab's 8 in a single one."""
    columns = -(-len(classes) // legend_lines(classes))
    handles = [Patch(facecolor=color / 255, edgecolor="0.6", label=name)
               for name, color in zip(classes.names, classes.colors, strict=True)]
    handles = [handle for column in range(columns) for handle in handles[column::columns]]  # matplotlib fills columns
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=8, frameon=False,
                  handlelength=1.2, columnspacing=1.2)


def legend_lines(classes: Classes) -> int:
    """How many lines `add_legend` takes."""
    return -(-len(classes) // MOST)
