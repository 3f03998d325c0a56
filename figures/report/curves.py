"""Several runs in one picture, from what their folders tell: curves, over-fitting, IoU of each category.

Readable in print and for the color-blind: a run has a color and a marker or hatching of its own (Okabe and Ito, "Color
universal design", 2008), training is dashed and validation solid.
"""
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from figures.plots import DARK, LIGHT
from utils.labels_cat import CATEGORIES
from utils.past import Past, is_number

#        color      marker  hatching
LOOKS = (("#1f4e79", "o", ""), ("#d95f02", "s", "//"), ("#009e73", "^", ".."), ("#cc79a7", "D", "xx"),
         ("#56b4e9", "v", "--"), ("#4d4d4d", "P", "++"))


def best_first(runs: Sequence[Past]) -> list[Past]:
    return sorted(runs, key=lambda run: -run.best.get("miou", -1))


def plot_curves(runs: Sequence[Past], threshold: float | None = None) -> Figure:
    """Validation loss and mIoU of the runs by epoch, training dashed; the best ones in color, more than 6 in grey."""
    figure = Figure(figsize=(9, 3.7), layout="constrained")
    left, right = figure.subplots(1, 2)
    order = best_first(runs)
    for ax, key, title in ((left, "loss", "loss"), (right, "miou", "mIoU")):
        for index, run in reversed(list(enumerate(order))):
            color, marker, _ = LOOKS[index] if index < len(LOOKS) else ("0.75", "", "")
            ax.plot(*series(run, f"train_{key}"), "--", color=color, linewidth=0.9, alpha=0.8)
            epochs, values = series(run, key)
            ax.plot(epochs, values, "-", color=color, marker=marker, markersize=4.5, linewidth=1.6,
                    markevery=max(len(epochs) // 8, 1), label=_label(run) if index < len(LOOKS) else None)
        _epochs(ax, title)
    if threshold is not None:
        right.axhline(threshold, color="0.4", linewidth=1, linestyle=":")
        right.annotate(f"asked for: {threshold}", (0, threshold), (4, 3), xycoords=("axes fraction", "data"),
                       textcoords="offset points", fontsize=8, color="0.3")
    right.set_ylim(0, 1)
    handles, labels = right.get_legend_handles_labels()
    handles, labels = handles[::-1], labels[::-1]
    if len(order) > len(LOOKS):
        handles.append(Line2D([], [], color="0.75"))
        labels.append(f"{len(order) - len(LOOKS)} other runs")
    handles += [Line2D([], [], color="0.3"), Line2D([], [], color="0.3", linestyle="--", linewidth=0.9)]
    figure.legend(handles, [*labels, "validation", "training"], loc="outside lower center", ncols=3, fontsize=8,
                  frameon=False)
    return figure


def plot_overfitting(runs: Sequence[Past]) -> Figure:
    """Training and validation of each of the best runs by themselves: above the loss, below the mIoU with the gap.

    The dotted line is the epoch of the best mIoU, whose weights were kept.
    """
    shown = best_first(runs)[:4]
    figure = Figure(figsize=(2.6 * max(len(shown), 2) + 0.5, 4.6), layout="constrained")
    axes = figure.subplots(2, len(shown), squeeze=False, sharex="col", sharey="row")
    axes[0, 0].set_ylabel("loss")
    axes[1, 0].set_ylabel("mIoU")
    for column, run in zip(axes.T, shown, strict=True):
        for ax, key in zip(column, ("loss", "miou"), strict=True):
            ax.plot(*series(run, f"train_{key}"), "--", color=LIGHT, label="training")
            ax.plot(*series(run, key), "-", color=DARK, label="validation")
            ax.axvline(run.best["epoch"], color="0.4", linewidth=1, linestyle=":")
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
            ax.grid(alpha=0.3)
        gap = gap_of(run)
        column[0].set_title(f"{run.name}\ngap " + ("-" if gap is None else f"{gap:+.3f}"), fontsize=9)
        column[1].set_xlabel("epoch")
    axes[0, 0].legend(frameon=False, fontsize=8)
    return figure


def gap_of(run: Past) -> float | None:
    """Training mIoU minus validation mIoU at the best epoch; None where one is not known."""
    values = run.best.get("train_miou"), run.best.get("miou")
    return values[0] - values[1] if all(map(is_number, values)) else None


def plot_ious(ious: Mapping[str, Sequence[float]]) -> Figure:
    """The IoU of each category, several models side by side; absent ones have no bar. More than 6: the first 6."""
    models = dict(list(ious.items())[:len(LOOKS)])
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    ax = figure.subplots()
    width = 0.84 / len(models)
    for index, (name, iou) in enumerate(models.items()):
        color, _, hatch = LOOKS[index]
        x = np.arange(len(CATEGORIES)) + (index - (len(models) - 1) / 2) * width
        values = np.array(iou, float)
        mean = f"{np.nanmean(values):.4f}" if not np.isnan(values).all() else "-"
        bars = ax.bar(x, np.nan_to_num(values), width * 0.94, color=color, hatch=hatch, edgecolor="white",
                      linewidth=0.4, label=f"{name}: mean {mean}")
        texts = ["" if np.isnan(value) else f"{value:.2f}" for value in values]
        ax.bar_label(bars, texts, fontsize=7 if len(models) < 4 else 5, padding=1)
    ax.set_xticks(range(len(CATEGORIES)), CATEGORIES)
    ax.set(ylim=(0, 1.08), ylabel="IoU")
    ax.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return figure


def series(run: Past, key: str) -> tuple[list[int], list[float]]:
    """The epochs whose record has a number as `key`, and these numbers."""
    known = [(record["epoch"], record[key]) for record in run.history if is_number(record.get(key))]
    return [epoch for epoch, _ in known], [value for _, value in known]


def _label(run: Past) -> str:
    return f"{run.name}: {run.best['miou']:.4f}" if run.best else run.name


def _epochs(ax: Axes, title: str) -> None:
    ax.set(title=title, xlabel="epoch")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
