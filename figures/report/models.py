"""What the networks make of the same images: maps of their errors, and what they cost."""
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from figures.images import denormalize, image_grid
from figures.plots import name_points, spread_out
from figures.report.curves import LOOKS
from utils.lab import IGNORE
from utils.metric import ConfusionMatrix

TINTS = {1: (217, 95, 2), 2: (31, 78, 121), 3: (0, 0, 0)}  # orange, blue, black: they differ in lightness, too


def find_errors(target: np.ndarray, preds: Sequence[np.ndarray]) -> np.ndarray:
    """0 where all `preds` are right, plus 1 where the first is wrong, plus 2 where the second is; IGNORE is kept.

    Integers of one shape to uint8.
    """
    kinds = sum(number * (target != pred) for number, pred in enumerate(preds, 1))
    return np.where(target == IGNORE, IGNORE, kinds).astype(np.uint8)


def paint(image: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """A pale gray version of a uint8 image (H, W, 3) with each kind of error in its tint; IGNORE is white."""
    painted = np.repeat(150 + image.mean(2, keepdims=True) / 3, 3, 2).round().astype(np.uint8)
    for kind, tint in TINTS.items():
        painted[kinds == kind] = tint
    painted[kinds == IGNORE] = 255
    return painted


def plot_errors(data: Tensor, target: Tensor, preds: Sequence[Tensor], names: Sequence[str]) -> Figure:
    """A row an image: itself, where each network is wrong, and, of two, where only one is or both are.

    data: normalized images (N, 3, H, W); target, preds: categories (N, H, W).
    """
    target, preds = target.cpu().numpy(), [pred.cpu().numpy() for pred in preds]
    two = len(preds) == 2
    rows, shares = [], []
    for index, image in enumerate(denormalize(data)):
        wrong = [find_errors(target[index], [pred[index]]) for pred in preds]
        shares.append([(kinds == 1).sum() / max((kinds != IGNORE).sum(), 1) for kinds in wrong])
        panels = [paint(image, np.where(kinds == 1, number, kinds)) for number, kinds in enumerate(wrong, 1)]
        both = [paint(image, find_errors(target[index], [pred[index] for pred in preds]))] if two else []
        rows.append([image, *panels, *both])
    titles = ["image", *(f"wrong: {name}" for name in names), *["compared"] * two]
    figure, axes = image_grid(rows, titles, width=9.5, more=0.6 + 0.18 * len(rows))
    for line, row in zip(axes, shares, strict=True):
        for ax, share in zip(line[1:], row, strict=False):
            ax.set_xlabel(f"{share:.1%} wrong", fontsize=8)
    told = [f"{name} wrong" for name in names] + ["both wrong (in the last column)"] * two
    handles = [Patch(facecolor=np.array(TINTS[kind]) / 255, label=text) for kind, text in enumerate(told, 1)]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8, frameon=False)
    return figure


def choose_to_show(matrices: Sequence[Sequence[ConfusionMatrix]], number: int = 4) -> list[int]:
    """Images from the best to the worst, evenly spread by the models' mean mIoU; one list of matrices a model."""
    scores = np.nan_to_num([np.mean([matrix.miou() for matrix in one]) for one in zip(*matrices, strict=True)])
    order = np.argsort(-scores, kind="stable")
    return [int(order[place]) for place in np.linspace(0, len(order) - 1, min(number, len(order))).round().astype(int)]


def plot_costs(points: Sequence[dict], thresholds: Sequence[float] = ()) -> Figure:
    """mIoU against MACs, KB and parameters, on log axes. A point: `name`, `task`, `miou` and these, None if unknown."""
    kinds = (("macs", "multiply-accumulates an image"), ("kb", "KB of weights"), ("parameters", "parameters"))
    kinds = [kind for kind in kinds if any(point.get(kind[0]) for point in points)]
    figure = Figure(figsize=(3.3 * len(kinds) + 0.5, 3.4), layout="constrained")
    axes = figure.subplots(1, len(kinds), squeeze=False, sharey=True)[0]
    points = sorted(points, key=lambda point: -point["miou"])
    for ax, (key, label) in zip(axes, kinds, strict=True):
        for point in points:
            color, marker, _ = LOOKS[0] if point["task"] == 1 else LOOKS[1]
            ax.plot(point[key] or np.nan, point["miou"], marker, color=color, markersize=7)
        for threshold in thresholds:
            ax.axhline(threshold, color="0.4", linewidth=1, linestyle=":", zorder=0)
        ax.set_xscale("log")
        ax.set_xlabel(label, fontsize=9)
        spread_out(ax, [point[key] for point in points if point[key]])
        ax.grid(alpha=0.3)
    low, high = axes[0].get_ylim()
    axes[0].set(ylabel="mIoU", ylim=(max(low - 0.1 * (high - low), 0), min(high + 0.1 * (high - low), 1)))
    for ax, (key, _) in zip(axes, kinds, strict=True):
        name_points(ax, [(point[key], point["miou"], point["name"]) for point in points if point[key]], size=7)
    for threshold in thresholds:
        axes[-1].annotate(f"asked for: {threshold}", (1, threshold), (-4, 2), xycoords=("axes fraction", "data"),
                          textcoords="offset points", fontsize=7, color="0.35", ha="right")
    return figure
