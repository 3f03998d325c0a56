"""Where a network's cost sits, layer by layer: multiply-accumulates, parameters, activation memory, time on the CPU.

Readable in print: lengths and figures say everything; color only sets the measured panel apart from the counted ones.
"""
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.plots import DARK, LIGHT, short
from utils.complexity import Layer

ModulePath = tuple[str, ...]  # a module's name, split at its dots; () is the network itself
NETWORK = "(network)"
SMALL = 0.02  # share of the time below which work between layers is added to the module around it


def plot_layers(rows: Sequence[Layer], times: Mapping[str, float] | None = None, most: int = 20) -> Figure:
    """Each layer's share of the MACs, parameters, activation memory and, where given, time, in the network's order.

    `rows` are those of `layer_table`, `times` the milliseconds of `time_layers`. Work between the layers (pooling,
    resizes, additions) has time alone: a bar for the module whose `forward` does it, "itself" if its layers have bars
    of their own. At most `most` bars: the innermost modules become one bar first, those of many layers before those
    of few and cheap before costly ones, each under the name that its layers have in common.
    """
    costs = _merge(_gather(rows, times or {}), max(most, 2))
    totals = [sum(row.macs for row in rows), sum(row.parameters for row in rows),
              sum(row.activations for row in rows), sum((times or {}).values())]
    titles = [f"MACs: {short(totals[0], '.1f')}", f"parameters: {totals[1]:,}",
              f"activation memory: {_kb(totals[2])}", f"CPU time: {totals[3]:.1f} ms"]
    shares = np.array(list(costs.values())) / [total or 1 for total in totals]
    panels = 3 if times is None else 4
    figure = Figure(figsize=(2 + 2.7 * panels, 0.8 + 0.24 * len(costs)), layout="constrained")
    axes = figure.subplots(1, panels, sharey=True, sharex=True, squeeze=False)[0]
    for ax, title, column in zip(axes, titles, shares.T, strict=False):
        _bars(ax, column, LIGHT if title.startswith("CPU") else DARK)
        ax.set_title(title, fontsize=10)
    axes[0].set_yticks(range(len(costs)), [_label(path, costs) for path in costs], fontsize=8)
    axes[0].set_ylim(len(costs) - 0.5, -0.5)
    axes[0].set_xlim(0, 1.3 * shares[:, :panels].max(initial=0.01))
    return figure


def _gather(rows: Sequence[Layer], times: Mapping[str, float]) -> dict[ModulePath, np.ndarray]:
    """(MACs, parameters, bytes, ms) of every row and of all other work that takes time, in the network's order."""
    layers = {row.name: np.array([row.macs, row.parameters, row.activations, 0.0]) for row in rows}
    names, place = list(times), 0
    for name in layers:  # a layer that never ran has no time: it comes after the row before it
        if name not in times:
            names.insert(place, name)
        place = names.index(name) + 1
    costs = {_path(name): layers.get(name, np.zeros(4)) + [0, 0, 0, times.get(name, 0)] for name in names}
    least = SMALL * sum(times.values())
    for name in sorted(names, key=lambda name: -len(_path(name))):
        path = _path(name)
        if path and name not in layers and costs[path][3] < least:
            costs[path[:-1]] = costs.get(path[:-1], np.zeros(4)) + costs.pop(path)
    return costs


def _merge(costs: dict[ModulePath, np.ndarray], most: int) -> dict[ModulePath, np.ndarray]:
    """At most `most` entries: innermost modules become one, see plot_layers; where names end, the cheapest ones."""
    totals = np.maximum(sum(costs.values(), np.zeros(4)), 1e-12)
    while len(costs) > most:
        families: dict[ModulePath, list[ModulePath]] = {}
        for path in costs:
            for length in range(1, len(path) + 1):
                families.setdefault(path[:length], []).append(path)
        families = {parent: members for parent, members in families.items() if len(members) > 1}
        if not families:
            break
        sums = {parent: sum(costs[path] for path in members) for parent, members in families.items()
                if not any(other[:len(parent)] == parent for other in families if other != parent)}
        chosen = min(sums, key=lambda parent: (-len(families[parent]), (sums[parent] / totals).sum()))
        first, *rest = families[chosen]
        costs = {chosen if path == first else path: sums[chosen] if path == first else cost
                 for path, cost in costs.items() if path not in rest}
    if len(costs) > most:
        kept = sorted(costs, key=lambda path: -(costs[path] / totals).sum())[:most - 1]
        others = [path for path in costs if path not in kept]
        costs = {**{path: costs[path] for path in costs if path in kept},
                 (f"{len(others)} others",): sum(costs[path] for path in others)}
    return costs


def _bars(ax: Axes, shares: np.ndarray, color: str) -> None:
    for row in range(1, len(shares), 2):  # leads the eye from panel to panel
        ax.axhspan(row - 0.5, row + 0.5, color="0.95", zorder=0)
    bars = ax.barh(range(len(shares)), shares, color=color, height=0.7)
    ax.bar_label(bars, [f"{share:.1%}" if share else "" for share in shares], fontsize=8, padding=2)
    ax.tick_params(axis="both", length=0, labelbottom=False)
    ax.spines[["top", "right", "bottom"]].set_visible(False)


def _path(name: str) -> ModulePath:
    return () if name == NETWORK else tuple(name.split("."))


def _label(path: ModulePath, paths: Mapping[ModulePath, object]) -> str:
    outer = any(other != path and other[:len(path)] == path for other in paths)
    return (".".join(path) or "network") + (" itself" if outer else "")


def _kb(size: float) -> str:
    return f"{size / 2**20:.1f} MB" if size >= 2**20 else f"{size / 1024:.1f} KB"
