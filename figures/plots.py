"""Plots of a run: class shares, curves, IoU bars, the confusion matrix. Each returns a matplotlib Figure.

Readable in print: one hue for figures, dashes beside color where two curves meet. The categories' display colors
appear only where they name a category.
"""
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from utils.labels_cat import CATEGORIES, CATEGORY_COLORS
from utils.metric import ConfusionMatrix

DARK, LIGHT = "#1f4e79", "#d95f02"  # a blue and an orange that stay apart for the color-blind and in grey


def plot_class_shares(shares: Sequence[float], weights: Sequence[float] | None = None) -> Figure:
    """Each category's share of the training pixels, and, where given, its weight in the loss."""
    figure, axes = _figure(1 if weights is None else 2)
    draw_bars(axes[0], shares, "{:.1%}")
    axes[0].set_title("share of the training pixels")
    axes[0].yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    if weights is not None:
        draw_bars(axes[1], weights, "{:.2f}")
        axes[1].set_title("weight in the loss")
    return figure


def plot_history(history: Sequence[dict], threshold: float | None = None) -> Figure:
    """Loss and mIoU of training and validation by epoch; records hold loss, miou, train_loss, train_miou, epoch."""
    figure, (left, right) = _figure(2)
    epochs = [record["epoch"] for record in history]
    for ax, name, title in ((left, "loss", "loss"), (right, "miou", "mIoU")):
        ax.plot(epochs, [record[f"train_{name}"] for record in history], "--", color=LIGHT, label="training")
        ax.plot(epochs, [record[name] for record in history], "-", color=DARK, label="validation")
        ax.set(title=title, xlabel="epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(alpha=0.3)
    right.set_ylim(0, 1)
    if threshold is not None:
        right.axhline(threshold, color="0.4", linewidth=1, linestyle=":", label=f"asked for: {threshold}")
    left.legend(frameon=False)
    right.legend(frameon=False)
    return figure


def plot_iou(metric: ConfusionMatrix) -> Figure:
    """IoU of each category as bars, the mean as a line."""
    figure, (ax,) = _figure(1)
    iou = metric.iou()
    draw_bars(ax, iou, "{:.3f}")
    ax.axhline(metric.miou(), color="black", linewidth=1, linestyle=":")
    ax.set_ylim(0, 1.05)
    ax.set_title(f"IoU by category, mean {metric.miou():.4f} (dotted)")
    return figure


def plot_confusion(metric: ConfusionMatrix) -> Figure:
    """The confusion matrix, each row as shares of its category's labelled pixels: the diagonal is the recall."""
    shares = metric.counts / np.maximum(metric.counts.sum(1, keepdims=True), 1)
    figure = Figure(figsize=(6.4, 5.6), layout="constrained")
    ax = figure.subplots()
    image = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(shares.shape):
        ax.text(column, row, f"{shares[row, column]:.0%}", ha="center", va="center", fontsize=8,
                color="white" if shares[row, column] > 0.7 else "black")
    ax.set_xticks(range(len(CATEGORIES)), CATEGORIES, rotation=40, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(CATEGORIES)), CATEGORIES)
    ax.set(xlabel="predicted", ylabel="label", title="where the pixels of each category go")
    figure.colorbar(image, ax=ax, format=lambda value, _: f"{value:.0%}", shrink=0.8)
    return figure


def _figure(columns: int) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(5.5 * columns if columns > 1 else 7, 3.2), layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def draw_bars(ax: Axes, values: Sequence[float], form: str) -> None:
    """A bar for each category in its display color, the value above it in the format `form`; NaN is "absent"."""
    values = [float(value) for value in values]
    bars = ax.bar(CATEGORIES, np.nan_to_num(values), color=CATEGORY_COLORS / 255, edgecolor="0.3")
    ax.bar_label(bars, ["absent" if np.isnan(value) else form.format(value) for value in values], fontsize=8)
    ax.set_xticks(range(len(CATEGORIES)), CATEGORIES, rotation=35, ha="right", rotation_mode="anchor")
    ax.margins(y=0.15)
    ax.spines[["top", "right"]].set_visible(False)


def plain_ticks(axis: Axis, steps: Sequence[int] = (1, 2, 5)) -> None:
    """Plain figures (20K, 5M) at the `steps` of each decade of a logarithmic axis, none between them."""
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _plain(value)))
    axis.set_minor_formatter(NullFormatter())


def _plain(value: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("K", 1e3)):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"
