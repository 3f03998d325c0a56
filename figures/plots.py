"""Plots of a run, each a matplotlib Figure: class shares, curves, IoU bars, confusion matrix; what other plots share.

They can be read in print: one hue for figures, dashes beside color where two curves meet. The classes' display colors
appear only where they name a class. Pass `classes` for other classes than the lab's 8; many of them get more room.
"""
import itertools
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter

from utils.classes import LAB_CLASSES, Classes
from utils.metric import ConfusionMatrix
from utils.run_records import is_number

DARK, LIGHT = "#1f4e79", "#d95f02"  # a blue and an orange that stay apart for the color-blind and in gray
LEADER = {"arrowstyle": "-", "color": "0.6", "linewidth": 0.6}  # from a name to its point
MANY = 10  # classes: more of them need more room than the lab's 8


def plot_class_shares(shares: Sequence[float], weights: Sequence[float] | None = None,
                      classes: Classes = LAB_CLASSES) -> Figure:
    """Each class's share of the training pixels, and, where given, its weight in the loss."""
    figure, axes = _figure(1 if weights is None else 2, classes)
    draw_bars(axes[0], shares, "{:.1%}", classes)
    axes[0].set_title("share of the training pixels")
    axes[0].yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    if weights is not None:
        draw_bars(axes[1], weights, "{:.2f}", classes)
        axes[1].set_title("weight in the loss")
    return figure


def plot_history(history: Sequence[dict], threshold: float | None = None) -> Figure:
    """Loss and mIoU of training and validation by epoch; records hold loss, miou, train_loss, train_miou, epoch."""
    figure, (left, right) = _figure(2)
    draw_history((left, right), history)
    left.set_title("loss")
    right.set_title("mIoU")
    right.set_ylim(0, 1)
    if threshold is not None:
        right.axhline(threshold, color="0.4", linewidth=1, linestyle=":", label=f"asked for: {threshold}")
    left.legend(frameon=False)
    right.legend(frameon=False)
    return figure


def draw_history(axes: Sequence[Axes], history: Sequence[dict]) -> None:
    """The loss on the first of two axes, the mIoU on the second, of training (dashed) and validation by epoch."""
    for ax, key in zip(axes, ("loss", "miou"), strict=True):
        draw_curve(ax, history, f"train_{key}", linestyle="--", color=LIGHT, label="training")
        draw_curve(ax, history, key, color=DARK, label="validation")
        show_epochs(ax)


def draw_curve(ax: Axes, history: Sequence[dict], key: str, **style: object) -> None:
    """The numbers that the records hold as `key`, by epoch. A single one gets a marker: its line would not show."""
    points = [(record["epoch"], record[key]) for record in history if is_number(record.get(key))]
    if len(points) == 1:
        style["marker"] = style.get("marker") or "o"
    ax.plot([epoch for epoch, _ in points], [value for _, value in points], **style)


def show_epochs(ax: Axes) -> None:
    """Epochs as the x axis, whole numbers alone."""
    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))  # of one epoch, too
    ax.grid(alpha=0.3)


def plot_iou(metric: ConfusionMatrix, classes: Classes = LAB_CLASSES) -> Figure:
    """IoU of each class as bars, the mean as a line."""
    figure, (ax,) = _figure(1, classes)
    iou = metric.iou()
    draw_bars(ax, iou, "{:.3f}", classes)
    ax.axhline(metric.miou(), color="black", linewidth=1, linestyle=":")
    ax.set_ylim(0, 1.05)
    ax.set_title(f"IoU by {'category' if classes == LAB_CLASSES else 'class'}, mean {metric.miou():.4f} (dotted)")
    return figure


def plot_confusion(metric: ConfusionMatrix, classes: Classes = LAB_CLASSES) -> Figure:
    """The confusion matrix, each row as shares of its class's labeled pixels: the diagonal is the recall."""
    _check_classes(metric.num_classes, classes)
    shares = metric.counts / np.maximum(metric.counts.sum(1, keepdims=True), 1)
    many = len(classes) > MANY
    side = 0.42 * len(classes) if many else 0.7 * len(classes)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    ax = figure.subplots()
    image = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(shares.shape):
        if many and shares[row, column] < 0.005:  # 0 %, of which there are hundreds
            continue
        ax.text(column, row, f"{shares[row, column]:.0%}", ha="center", va="center", fontsize=7 if many else 8,
                color="white" if shares[row, column] > 0.7 else "black")
    size = 8 if many else 10
    ax.set_xticks(range(len(classes)), classes.names, rotation=40, ha="right", rotation_mode="anchor", fontsize=size)
    ax.set_yticks(range(len(classes)), classes.names, fontsize=size)
    ax.set(xlabel="predicted", ylabel="label",
           title=f"where the pixels of each {'category' if classes == LAB_CLASSES else 'class'} go")
    figure.colorbar(image, ax=ax, format=lambda value, _: f"{value:.0%}", shrink=0.8)
    return figure


def _figure(panels: int, classes: Classes = LAB_CLASSES) -> tuple[Figure, Sequence[Axes]]:
    """Panels beside each other, or, for bars of many classes, wide ones below each other."""
    if len(classes) > MANY:
        figure = Figure(figsize=(11, 3.2 * panels), layout="constrained")
        return figure, figure.subplots(panels, 1, squeeze=False)[:, 0]
    figure = Figure(figsize=(5.5 * panels if panels > 1 else 7, 3.2), layout="constrained")
    return figure, figure.subplots(1, panels, squeeze=False)[0]


def draw_bars(ax: Axes, values: Sequence[float], form: str, classes: Classes = LAB_CLASSES) -> None:
    """A bar for each class in its display color, the value above it in the format `form`; NaN is "absent"."""
    values = [float(value) for value in values]
    _check_classes(len(values), classes)
    bars = ax.bar(classes.names, np.nan_to_num(values), color=classes.colors / 255, edgecolor="0.3")
    ax.bar_label(bars, ["absent" if np.isnan(value) else form.format(value) for value in values], fontsize=8)
    ax.set_xticks(range(len(classes)), classes.names, rotation=35, ha="right", rotation_mode="anchor")
    ax.margins(y=0.15)
    ax.spines[["top", "right"]].set_visible(False)


def _check_classes(number: int, classes: Classes) -> None:
    if number != len(classes):
        raise ValueError(f"expected figures of {len(classes)} classes, got {number}: pass classes=<the data set's>")


def spread_out(ax: Axes, values: Sequence[float], axis: str = "x") -> tuple[float, float]:
    """Sets limits with room around `values` on a logarithmic axis, x or y, and returns them.

    Ticks such as 20k and 5M stand at 1, 2 and 5, over a wide range at powers of ten alone.
    """
    low, high = min(values) / 1.6, max(values) * 1.6
    getattr(ax, f"set_{axis}lim")(low, high)
    ticks = getattr(ax, f"{axis}axis")
    ticks.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 80 else (1,)))
    ticks.set_major_formatter(EngFormatter(sep=""))
    ticks.set_minor_formatter(NullFormatter())
    return low, high


def name_points(ax: Axes, points: Sequence[tuple[float, float, str]], size: float = 8) -> None:
    """Writes a name beside each point (x, y, name), where it covers no other point or name if such a place exists.

    The axes must have their limits already. `size` is that of the letters.
    """
    ax.figure.draw_without_rendering()  # gives everything its place
    places = ax.transData.transform([(x, y) for x, y, _ in points])  # (points, 2), in pixels
    pixel = ax.figure.dpi / 72
    taken = [(px - 5 * pixel, py - 5 * pixel, px + 5 * pixel, py + 5 * pixel) for px, py in places]
    for (x, y, name), (px, py) in zip(points, places, strict=True):
        wide, high = 0.62 * size * len(name) * pixel, 1.1 * size * pixel  # about
        sides = []
        for dy, side in itertools.product((0, 7, -7, 14, -14, 21, -21, 28, -28, 35, -35, 42, -42), (1, -1)):
            left, low = px + 8 * pixel if side > 0 else px - 8 * pixel - wide, py + dy * pixel - high / 2
            box = (left, low, left + wide, low + high)
            outside = left < ax.bbox.x0 or box[2] > ax.bbox.x1 or low < ax.bbox.y0 or box[3] > ax.bbox.y1
            sides.append((10 * outside + sum(_overlap(box, other) for other in taken), len(sides), side, dy, box))
        _, _, side, dy, box = min(sides)
        taken.append(box)
        ax.annotate(name, (x, y), xytext=(8 * side, dy), textcoords="offset points", fontsize=size,
                    ha="left" if side > 0 else "right", va="center", arrowprops=LEADER if abs(dy) > 7 else None)


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
