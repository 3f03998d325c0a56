"""What two networks make of the same pictures: panels, maps of their errors, and what they cost."""
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from figures.pictures import denormalise, show_bare
from figures.plots import name_points, spread_out
from figures.report.curves import LOOKS
from utils.lab import IGNORE
from utils.metric import ConfusionMatrix

RIGHT, WRONG = 0, 1
TINTS = {1: (217, 95, 2), 2: (31, 78, 121), 3: (0, 0, 0)}  # orange, blue, black: they differ in lightness, too


def error_map(target: np.ndarray, pred: np.ndarray) -> np.ndarray:
    """RIGHT or WRONG at each pixel, IGNORE where no class is known; integers of one shape to uint8."""
    return np.where(target == IGNORE, IGNORE, np.where(target == pred, RIGHT, WRONG)).astype(np.uint8)


def errors_of_two(target: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """0 where both are right, 1 where only `one` is wrong, 2 where only `other`, 3 where both; IGNORE as above."""
    return np.where(target == IGNORE, IGNORE, (target != one) + 2 * (target != other)).astype(np.uint8)


def paint(picture: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """A pale grey version of a uint8 picture (H, W, 3) with each kind of error in its tint; IGNORE alone is white."""
    painted = np.repeat(150 + picture.mean(2, keepdims=True) / 3, 3, 2).round().astype(np.uint8)
    for kind, tint in TINTS.items():
        painted[kinds == kind] = tint
    painted[kinds == IGNORE] = 255
    return painted


def plot_errors(data: Tensor, target: Tensor, preds: Sequence[Tensor], names: Sequence[str]) -> Figure:
    """A row a picture: itself, where each network is wrong, and, of two, where only one is or both are.

    data: normalised pictures (N, 3, H, W); target, preds: categories (N, H, W).
    """
    pictures, target, preds = denormalise(data), target.cpu().numpy(), [pred.cpu().numpy() for pred in preds]
    titles = ["picture", *(f"wrong: {name}" for name in names), *["compared"] * (len(preds) == 2)]
    rows, (h, w) = len(pictures), target.shape[1:]
    figure = Figure(figsize=(9.5, rows * 9.5 / len(titles) * h / w + 0.18 * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, len(titles), squeeze=False)
    for row, picture in enumerate(pictures):
        images = [picture]
        for number, pred in enumerate(preds, 1):
            kinds = error_map(target[row], pred[row])
            known = max((kinds != IGNORE).sum(), 1)
            images.append(paint(picture, np.where(kinds == WRONG, number, kinds)))
            axes[row, number].set_xlabel(f"{(kinds == WRONG).sum() / known:.1%} wrong", fontsize=8)
        if len(preds) == 2:
            images.append(paint(picture, errors_of_two(target[row], preds[0][row], preds[1][row])))
        for ax, image, title in zip(axes[row], images, titles, strict=True):
            show_bare(ax, image)
            if row == 0:
                ax.set_title(title, fontsize=10)
    told = [f"{name} wrong" for name in names] + ["both wrong (in the last column)"] * (len(names) == 2)
    handles = [Patch(facecolor=np.array(TINTS[kind]) / 255, label=text) for kind, text in enumerate(told, 1)]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8, frameon=False)
    return figure


def choose_to_show(matrices: Sequence[Sequence[ConfusionMatrix]], number: int = 4) -> list[int]:
    """Pictures from the best to the worst, evenly spread by the models' mean mIoU; one list of matrices a model."""
    scores = np.nan_to_num([np.mean([matrix.miou() for matrix in one]) for one in zip(*matrices, strict=True)])
    order = np.argsort(-scores, kind="stable")
    return [int(order[place]) for place in np.linspace(0, len(order) - 1, min(number, len(order))).round().astype(int)]


def plot_costs(points: Sequence[dict], thresholds: Sequence[float] = ()) -> Figure:
    """mIoU against MACs, KB and parameters, on log axes. A point: `name`, `task`, `miou` and these, None if unknown."""
    kinds = (("macs", "multiply-accumulates a picture"), ("kb", "KB of weights"), ("parameters", "parameters"))
    kinds = [kind for kind in kinds if any(point.get(kind[0]) for point in points)]
    figure = Figure(figsize=(3.3 * len(kinds) + 0.5, 3.4), layout="constrained")
    axes = figure.subplots(1, len(kinds), squeeze=False, sharey=True)[0]
    for ax, (key, label) in zip(axes, kinds, strict=True):
        known = sorted((point for point in points if point.get(key)), key=lambda point: -point["miou"])
        for point in known:
            color, marker, _ = LOOKS[0] if point["task"] == 1 else LOOKS[1]
            ax.plot(point[key], point["miou"], marker, color=color, markersize=7)
        for threshold in thresholds:
            ax.axhline(threshold, color="0.4", linewidth=1, linestyle=":", zorder=0)
        ax.set_xscale("log")
        ax.set_xlabel(label, fontsize=9)
        spread_out(ax, [point[key] for point in known])
        ax.grid(alpha=0.3)
    low, high = axes[0].get_ylim()
    axes[0].set(ylabel="mIoU", ylim=(max(low - 0.1 * (high - low), 0), min(high + 0.1 * (high - low), 1)))
    for ax, (key, _) in zip(axes, kinds, strict=True):
        known = [(point[key], point["miou"], point["name"]) for point in points if point.get(key)]
        name_points(ax, sorted(known, key=lambda point: -point[1]), size=7)
    for threshold in thresholds:
        axes[-1].annotate(f"asked for: {threshold}", (1, threshold), (-4, 2), xycoords=("axes fraction", "data"),
                          textcoords="offset points", fontsize=7, color="0.35", ha="right")
    return figure
