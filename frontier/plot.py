"""The figure of the frontier: mIoU against cost, and the plane of costs with lines of equal figure of merit.

It is readable in print and for the color-blind: each point has its name beside it, and networks below the threshold
are hollow squares.
"""
import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.plots import DARK, LIGHT, name_points, spread_out
from frontier.ladder import ASSUMED, THRESHOLD
from utils.complexity import figure_of_merit
from utils.lab import FOM_OFFSET

MIOU = ASSUMED[1]  # the lines of equal FoM are drawn for this mIoU


def plot_frontier(rows: Sequence[dict]) -> Figure:
    """Three panels: mIoU against MACs, mIoU against KB, and MACs against KB with lines of equal FoM at mIoU MIOU.

    Each row: `name`, `macs`, `kb`, `miou` (the mean over the seeds, 0 to 1), `spread` (their standard deviation, None
    for a single seed).
    """
    figure = Figure(figsize=(15, 4.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for ax, cost, label in ((left, "macs", "multiply-accumulates an image"), (middle, "kb", "KB of weights")):
        _plot_miou(ax, rows, cost)
        ax.set(xlabel=label, ylabel="mIoU" if cost == "macs" else "")
    left.set_title("mIoU and MACs: mean and spread of the seeds")
    middle.set_title("mIoU and size")
    _plot_plane(right, rows)
    right.set(xlabel="multiply-accumulates an image", ylabel="KB of weights",
              title=f"lines of equal FoM at mIoU {MIOU}")
    for ax, x, y in ((left, "macs", "miou"), (middle, "kb", "miou"), (right, "macs", "kb")):
        name_points(ax, [(row[x], row[y], row["name"]) for row in rows])
    return figure


def _plot_miou(ax: Axes, rows: Sequence[dict], cost: str) -> None:
    ax.axhline(THRESHOLD, color="0.4", linewidth=1, linestyle=":", label=f"threshold {THRESHOLD}; below it hollow")
    for row in rows:
        ax.errorbar(row[cost], row["miou"], yerr=row["spread"] or None, capsize=4, **_marker(row))
    ax.set_xscale("log")
    tops = [row["miou"] + (row["spread"] or 0) for row in rows] + [THRESHOLD]
    floors = [row["miou"] - (row["spread"] or 0) for row in rows] + [THRESHOLD]
    room = 0.12 * max(max(tops) - min(floors), 0.02)
    ax.set_ylim(min(floors) - room, max(tops) + room)
    spread_out(ax, [row[cost] for row in rows])
    ax.grid(alpha=0.3)
    ax.legend(frameon=False, loc="best")


def _plot_plane(ax: Axes, rows: Sequence[dict]) -> None:
    ax.set(xscale="log", yscale="log")
    for row in rows:
        ax.errorbar(row["macs"], row["kb"], **_marker(row))
    x = spread_out(ax, [row["macs"] for row in rows])
    y = spread_out(ax, [row["kb"] for row in rows], axis="y")
    merits = [figure_of_merit(macs, kb, MIOU) for macs, kb in zip(x, y, strict=True)]
    for exponent in range(math.ceil(math.log10(merits[0])), math.ceil(math.log10(merits[1]))):
        product = math.sqrt(10**exponent * (MIOU - FOM_OFFSET))  # MACs x KB
        ax.plot(x, [product / x[0], product / x[1]], "--", color="0.6", linewidth=0.8, zorder=0)
        # The line's name stands where it leaves the panel: at the top or at the left.
        at_top = product / x[0] > y[1]
        place = (product / y[1], y[1]) if at_top else (x[0], product / x[0])
        ax.annotate(f"$10^{{{exponent}}}$", place, xytext=(2, -10) if at_top else (3, 1), textcoords="offset points",
                    fontsize=8, color="0.35")
    ax.set(xlim=x, ylim=y)


def _marker(row: dict) -> dict:
    passed = row["miou"] >= THRESHOLD
    return {"fmt": "o" if passed else "s", "color": DARK if passed else LIGHT, "markersize": 7,
            "markerfacecolor": DARK if passed else "white", "elinewidth": 1.2}
