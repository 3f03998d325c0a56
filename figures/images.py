"""Images, labels and predictions side by side, in the classes' display colors."""
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from utils.classes import LAB_CLASSES, Classes
from utils.lab import MEAN, STD

MOST = 8  # names in a line of the legend


def denormalize(data: Tensor) -> np.ndarray:
    """A network's input (N, 3, H, W), float32, back to images: uint8 (N, H, W, 3)."""
    std, mean = (torch.tensor(values)[:, None, None] for values in (STD, MEAN))
    pixels = (data.detach().cpu().float() * std + mean) * 255
    return pixels.round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()


def colorize_all(labels: Tensor, classes: Classes = LAB_CLASSES) -> list[np.ndarray]:
    """Class indices, integers (N, H, W), as N images uint8 (H, W, 3) in display colors; 255 (ignored) is white."""
    return [classes.colorize(label) for label in labels.cpu().numpy().astype(np.uint8)]


def show_panels(data: Tensor, *labels: Tensor, titles: Sequence[str] = ("image", "label", "prediction"),
                captions: Sequence[str] = (), width: float = 11, classes: Classes = LAB_CLASSES) -> Figure:
    """One row a sample: the image, then each of `labels` in display colors.

    data: normalized images, float32 (N, 3, H, W); labels: indices of `classes`, integers (N, H, W), 255 is white.
    captions: a text for each row, on its left.
    """
    columns = [denormalize(data), *(colorize_all(batch, classes) for batch in labels)]
    figure, _ = image_grid(list(zip(*columns, strict=True)), titles, captions, width)
    add_legend(figure, classes)
    return figure


def image_grid(rows: Sequence[Sequence[np.ndarray | None]], titles: Sequence[str] = (), names: Sequence[str] = (),
               width: float = 11, more: float = 0.7) -> tuple[Figure, np.ndarray]:
    """A figure `width` inches wide with images (H, W, 3) of one size in rows, and its axes (rows, columns).

    titles: above the columns; names: left of the rows. None leaves a place empty. more: inches of height for what
    else the figure holds.
    """
    h, w, _ = rows[0][0].shape
    height = len(rows) * width / len(rows[0]) * h / w + more
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(len(rows), len(rows[0]), squeeze=False)
    for line, images in zip(axes, rows, strict=True):
        for ax, image in zip(line, images, strict=True):
            if image is not None:
                ax.imshow(image, interpolation="nearest")
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
    for ax, title in zip(axes[0], titles, strict=False):
        ax.set_title(title, fontsize=10)
    for ax, name in zip(axes[:, 0], names, strict=False):
        ax.set_ylabel(name, fontsize=9)
    return figure, axes


def add_legend(figure: Figure, classes: Classes = LAB_CLASSES) -> None:
    """The classes and their display colors under the figure, to be read line by line, MOST in a line."""
    columns = -(-len(classes) // -(-len(classes) // MOST))
    handles = [Patch(facecolor=color / 255, edgecolor="0.6", label=name)
               for name, color in zip(classes.names, classes.colors, strict=True)]
    handles = [handle for column in range(columns) for handle in handles[column::columns]]  # matplotlib fills columns
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=8, frameon=False,
                  handlelength=1.2, columnspacing=1.2)
