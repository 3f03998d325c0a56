"""Where the cost of a network sits, layer by layer: multiply-accumulates, parameters, activation memory, time."""
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from figures.plots import DARK, LIGHT
from utils.layer_table import Layer

NETWORK = "(network)"             # the row of layer_table for what the network itself does
OUTSIDE = "outside these layers"  # such work between the layers: pooling, resizes, additions


def plot_layers(rows: Sequence[Layer], times: Mapping[str, float] | None = None, most: int = 20) -> Figure:
    """Each layer's share of the MACs, parameters, activation memory and, if given, CPU time, in the network's order.

    rows: those of `layer_table`; times: the milliseconds of `time_layers`. Layers share the bar of the module around
    them where there would be more than `most` bars.
    """
    costs = _group(rows, times or {}, most)
    totals = sum(costs.values(), np.zeros(4))
    titles = [f"MACs: {EngFormatter(places=1, sep='')(totals[0])}", f"parameters: {totals[1]:,.0f}",
              f"activation memory: {totals[2] / 1024:,.1f} KB", f"CPU time: {totals[3]:.1f} ms"]
    shares = np.array(list(costs.values())) / np.where(totals, totals, 1)
    panels = 3 if times is None else 4
    figure = Figure(figsize=(2 + 2.7 * panels, 0.8 + 0.24 * len(costs)), layout="constrained")
    axes = figure.subplots(1, panels, sharey=True, sharex=True, squeeze=False)[0]
    for ax, title, column in zip(axes, titles, shares.T, strict=False):
        _draw_bars(ax, column, LIGHT if title.startswith("CPU") else DARK)
        ax.set_title(title, fontsize=10)
    axes[0].set_yticks(range(len(costs)), costs, fontsize=8)
    axes[0].set_ylim(len(costs) - 0.5, -0.5)
    axes[0].set_xlim(0, 1.3 * shares[:, :panels].max(initial=0.01))
    return figure


def _group(rows: Sequence[Layer], times: Mapping[str, float], most: int) -> dict[str, np.ndarray]:
    """(MACs, parameters, bytes, ms) by name: of modules as deep inside the network as `most` bars allow."""
    paths = [row.name.split(".") for row in rows if row.name != NETWORK]
    depths = range(1, max(map(len, paths), default=1) + 1)
    depth = max([depth for depth in depths if len({tuple(path[:depth]) for path in paths}) < most], default=1)
    costs = {".".join(path[:depth]): np.zeros(4) for path in paths}
    outside = np.zeros(4)
    for row in rows:
        group = costs.get(".".join(row.name.split(".")[:depth]), outside)
        group += row.macs, row.parameters, row.activations, 0
    for name, ms in times.items():
        group = costs.get(".".join(name.split(".")[:depth]), outside)
        group += 0, 0, 0, ms
    if len(costs) >= most:
        total = np.maximum(sum(costs.values(), outside), 1e-12)
        cheap = sorted(costs, key=lambda name: (costs[name] / total).sum())[:len(costs) - most + 2]
        costs[f"{len(cheap)} others"] = sum(costs.pop(name) for name in cheap)
    return {**costs, OUTSIDE: outside} if outside.any() else costs


def _draw_bars(ax: Axes, shares: np.ndarray, color: str) -> None:
    for row in range(1, len(shares), 2):  # leads the eye from panel to panel
        ax.axhspan(row - 0.5, row + 0.5, color="0.95", zorder=0)
    bars = ax.barh(range(len(shares)), shares, color=color, height=0.7)
    ax.bar_label(bars, [f"{share:.1%}" if share else "" for share in shares], fontsize=8, padding=2)
    ax.tick_params(axis="both", length=0, labelbottom=False)
    ax.spines[["top", "right", "bottom"]].set_visible(False)
