"""Several runs in one figure, from their records: curves, over-fitting, IoU of each category.

For print and for the color-blind each run has its own color and marker or hatching (the colors of Okabe and Ito, "Color
universal design", 2008). Training is dashed, validation solid.
"""
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.plots import draw_curve, draw_history, show_epochs
from utils.labels_cat import CATEGORIES
from utils.run_records import RunRecord, is_number

#        color      marker  hatching
LOOKS = (("#1f4e79", "o", ""), ("#d95f02", "s", "//"), ("#009e73", "^", ".."), ("#cc79a7", "D", "xx"),
         ("#56b4e9", "v", "--"), ("#4d4d4d", "P", "++"))


def best_first(runs: Sequence[RunRecord]) -> list[RunRecord]:
    return sorted(runs, key=lambda run: -run.best.get("miou", -1))


def plot_curves(runs: Sequence[RunRecord], threshold: float | None = None) -> Figure:
    """Loss and mIoU of the runs by epoch, the best 6 in color, the others in gray."""
    figure = Figure(figsize=(9, 3.7), layout="constrained")
    axes = figure.subplots(1, 2)
    shown = best_first(runs)
    for ax, key, title in zip(axes, ("loss", "miou"), ("loss", "mIoU"), strict=True):
        for index, run in reversed(list(enumerate(shown))):  # the best on top
            color, marker, _ = LOOKS[index] if index < len(LOOKS) else ("0.75", "", "")
            draw_curve(ax, run.history, f"train_{key}", linestyle="--", color=color, linewidth=0.9, alpha=0.8)
            draw_curve(ax, run.history, key, color=color, marker=marker, markersize=4.5, linewidth=1.6,
                       markevery=max(len(run.history) // 8, 1), label=f"{run.name}: {run.best['miou']:.4f}")
        show_epochs(ax)
        ax.set_title(title)
        ax.spines[["top", "right"]].set_visible(False)
    handles = list(axes[1].lines[1::2])[::-1][:len(LOOKS)]  # every second line is of the validation
    if threshold is not None:
        axes[1].axhline(threshold, color="0.4", linewidth=1, linestyle=":")
        axes[1].annotate(f"asked for: {threshold}", (0, threshold), (4, 3), xycoords=("axes fraction", "data"),
                         textcoords="offset points", fontsize=8, color="0.3")
    axes[1].set_ylim(0, 1)
    if len(shown) > len(LOOKS):
        handles.append(Line2D([], [], color="0.75", label=f"{len(shown) - len(LOOKS)} other runs"))
    handles += [Line2D([], [], color="0.3", label="validation"),
                Line2D([], [], color="0.3", linestyle="--", linewidth=0.9, label="training")]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def plot_overfitting(runs: Sequence[RunRecord]) -> Figure:
    """The best 4 runs, a column each: the loss above, the mIoU with the gap between training and validation below.

    The dotted line is the epoch of the best mIoU, whose weights were kept.
    """
    shown = best_first(runs)[:4]
    figure = Figure(figsize=(2.6 * max(len(shown), 2) + 0.5, 4.6), layout="constrained")
    axes = figure.subplots(2, len(shown), squeeze=False, sharex="col", sharey="row")
    axes[0, 0].set_ylabel("loss")
    axes[1, 0].set_ylabel("mIoU")
    for column, run in zip(axes.T, shown, strict=True):
        draw_history(column, run.history)
        for ax in column:
            ax.axvline(run.best["epoch"], color="0.4", linewidth=1, linestyle=":")
        gap = gap_of(run)
        column[0].set_title(f"{run.name}\ngap " + ("-" if gap is None else f"{gap:+.3f}"), fontsize=9)
        column[0].set_xlabel("")
    axes[0, 0].legend(frameon=False, fontsize=8)
    return figure


def gap_of(run: RunRecord) -> float | None:
    """Training mIoU minus validation mIoU at the best epoch; None where one is not known."""
    values = run.best.get("train_miou"), run.best.get("miou")
    return values[0] - values[1] if all(map(is_number, values)) else None


def plot_ious(ious: Mapping[str, Sequence[float]]) -> Figure:
    """The IoU of each category, up to 6 models side by side; a category that does not occur has no bar."""
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
