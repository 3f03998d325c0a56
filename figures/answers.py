"""Several networks' answers to the same pictures, one network a row."""
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from figures.pictures import add_legend, denormalise, show_bare
from utils.classes import LAB_CLASSES, Classes


def show_answers(data: Tensor, answers: Sequence[tuple[str, Tensor]], classes: Classes = LAB_CLASSES
                 ) -> Figure:
    """The pictures in the first row, then a row for each of `answers`, named at its left, in the classes' colors.

    data: normalised pictures, float32 (N, 3, H, W); answers: names and class indices, integers (N, H, W); 255 is white.
    """
    rows = [("picture", denormalise(data))]
    rows += [(name, [classes.colorize(label) for label in batch.cpu().numpy().astype(np.uint8)])
             for name, batch in answers]
    n, _, h, w = data.shape
    figure = Figure(figsize=(11, len(rows) * 11 / n * h / w + 0.7), layout="constrained")
    axes = figure.subplots(len(rows), n, squeeze=False)
    for line, (name, images) in zip(axes, rows, strict=True):
        for ax, image in zip(line, images, strict=True):
            show_bare(ax, image)
        line[0].set_ylabel(name, fontsize=9)
    add_legend(figure, classes)
    return figure
