"""A drawing of a network: boxes for its blocks, arrows along the data, one row a resolution.

It can be read in print: skip connections are dashed as well as orange, and a box's figures stand beside it.
"""
import math
from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from figures.plots import DARK, LIGHT
from figures.report.graph import INPUT, OUTPUT, BlockGraph, BlockNode, main_path
from utils.layer_table import Layer

WHOLE = "whole image"  # the row of what has no place in the image, such as a mean over it
MEETING = 0.26, 0.21   # width and height of the circle where tensors meet
LINE = 11              # letters of a name in a line: as many as fit between two boxes
LANE = 0.95            # height of an arrow that passes over the boxes of its row, in widths of a column
BoxPlace = tuple[float, float, float, float]  # x and y of the center, width, height


def draw_network(graph: BlockGraph, rows: Sequence[Layer] = ()) -> Figure:
    """The blocks from left to right as they run, from top to bottom by resolution: a U-Net looks like a U.

    A box is the wider the more channels it returns, the higher the finer its maps, the darker the larger its share of
    the MACs. `rows` are those of `layer_table`.
    """
    levels = _levels(graph)
    names = sorted(set(levels.values()))
    heights = {level: -index for index, level in enumerate(names)}
    shares = _shares(graph, rows)
    figure = Figure(figsize=(min(max(0.8 * len(graph.nodes) + 0.8, 6), 24), 1.15 * len(names) + 0.5),
                    layout="constrained")
    ax = figure.subplots()
    most = max((node.shape[0] for node in graph.nodes if node.shape), default=1)
    places = {node.name: _place(index, heights[levels[node.name]], node, most)
              for index, node in enumerate(graph.nodes)}
    for y in heights.values():
        ax.axhline(y, color="0.93", linewidth=8, zorder=0)
    ax.set_yticks([*heights.values()], [_row_name(graph, levels, level) for level in heights], fontsize=8)
    main = main_path(graph)
    for edge, resized in graph.edges.items():
        _arrow(ax, places, edge, resized, edge not in main)
    ax.set(xlim=(-0.6, len(graph.nodes) - 0.4), ylim=(-len(names) + 0.42, 0.85))
    for node in graph.nodes:
        _box(ax, node, places[node.name], shares.get(node.name))
    ax.set_xticks([])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return figure


def _levels(graph: BlockGraph) -> dict[str, float]:
    """How often each node's maps were halved: log2 of the stride; infinity for 1 x 1; without a map as before."""
    height = next(node.shape[1] for node in graph.nodes if node.name == INPUT)
    levels: dict[str, float] = {}
    last = 0.0
    for node in graph.nodes:
        if node.shape and node.shape[1] == 1 == node.shape[2]:
            levels[node.name] = math.inf
            continue
        if node.shape:
            last = round(2 * math.log2(height / node.shape[1])) / 2  # unpadded maps share a row
        levels[node.name] = last
    return levels


def _row_name(graph: BlockGraph, levels: dict[str, float], level: float) -> str:
    shape = next((node.shape for node in graph.nodes if levels[node.name] == level and node.shape), None)
    if shape is None:
        return ""
    stride = f"1/{2 ** level:.3g}" if level else "full size"
    return WHOLE if level == math.inf else f"{stride}\n{shape[1]} x {shape[2]}"


def _place(x: float, y: float, node: BlockNode, most: int) -> BoxPlace:
    if node.kind == "meeting":
        return x, y, *MEETING
    if node.kind in (INPUT, OUTPUT):
        return x, y, 0.2, 0.5
    channels = node.shape[0] if node.shape else most
    return x, y, 0.16 + 0.6 * math.sqrt(channels / most), max(0.5 + 0.055 * y, 0.2)


def _shares(graph: BlockGraph, rows: Sequence[Layer]) -> dict[str, float]:
    total = sum(row.macs for row in rows)
    shares = {}
    for node in graph.nodes:
        if node.kind == "block" and total and "(" not in node.name:  # of a block that runs twice the first box has both
            inside = [row.macs for row in rows if row.name == node.name or row.name.startswith(f"{node.name}.")]
            shares[node.name] = sum(inside) / total
    return shares


def _box(ax: Axes, node: BlockNode, place: BoxPlace, share: float | None) -> None:
    x, y, width, height = place
    if node.kind == "meeting":
        ax.plot(x, y, "o", markersize=15, markerfacecolor="white", markeredgecolor=DARK, zorder=3)
        ax.text(x, y, node.label[:4], ha="center", va="center_baseline", fontsize=11 if len(node.label) == 1 else 7,
                zorder=4)
        return
    end = node.kind in (INPUT, OUTPUT)
    color = "white" if end else matplotlib.colormaps["Blues"](0.18 + 0.75 * (share or 0))
    ax.add_patch(Rectangle((x - width / 2, y - height / 2), width, height, facecolor=color, edgecolor=DARK, zorder=3,
                           linestyle=":" if end else "-", linewidth=1.1))
    above = fit_name(node.name)
    size = 7.5 if "\n" in above else 8.5
    kind = "" if node.label == node.name else node.label[:13]
    text = {"ha": "center", "zorder": 5, "linespacing": 1.05}
    ax.text(x, y + height / 2 + 0.03, above + "\n" * bool(kind), va="bottom", fontsize=size, weight="bold", **text)
    ax.text(x, y + height / 2 + 0.03, kind, va="bottom", fontsize=8, color="0.35", **text)
    figures = [f"{node.shape[0]} ch"] if node.shape else []
    figures += [f"{share:.0%} MACs" if share >= 0.01 else "<1% MACs"] if share is not None else []
    ax.text(x, y - height / 2 - 0.03, "\n".join(figures), va="top", fontsize=8, **text)


def fit_name(name: str) -> str:
    """`name` in one line, or two that break after a dot or an underscore; what is still too long is cut with "…"."""
    if len(name) <= LINE:
        return name
    breaks = [place + 1 for place, letter in enumerate(name[:-1]) if letter in "._"]
    place = min(breaks, key=lambda place: max(place, len(name) - place), default=0)
    first, second = name[:place], name[place:]
    first = first if len(first) <= LINE else first[:LINE - 1] + "…"
    second = second if len(second) <= LINE else "…" + second[1 - LINE:]
    return f"{first}\n{second}".strip("\n")


def _arrow(ax: Axes, places: dict[str, BoxPlace], edge: tuple[str, str], resized: str, skip: bool) -> None:
    """An arrow that goes straight, around a corner, or above the boxes in its row; `resized` stands on it."""
    (x0, y0, w0, h0), (x1, y1, w1, h1) = places[edge[0]], places[edge[1]]
    start, end = (x0 + w0 / 2, y0), (x1 - w1 / 2, y1)
    way, label = "arc3", ((start[0] + end[0]) / 2, (y0 + y1) / 2)
    between = {y for x, y, *_ in places.values() if x0 < x < x1}
    if y0 == y1 and y0 in between:
        way = f"bar,armA=0,armB=0,fraction={-LANE / (end[0] - start[0])}"
        label = label[0], y0 + 0.65 * LANE
    elif y0 != y1 and x1 - x0 > 1 and y0 not in between and (y1 > y0 or (w1, h1) == MEETING):
        end = x1, y1 - math.copysign(h1 / 2 + (0 if (w1, h1) == MEETING else 0.24), y1 - y0)
        way, label = "angle,angleA=0,angleB=90", ((start[0] + x1) / 2, y0)
    elif y1 < y0 and x1 - x0 > 1 and y1 not in between:
        start = x0, y0 - h0 / 2 - 0.24
        way, label = "angle,angleA=90,angleB=0", ((x0 + end[0]) / 2, y1)
    color, dashes = (LIGHT, (0, (4, 2))) if skip else (DARK, "-")
    ax.annotate("", end, start, zorder=2, arrowprops={
        "arrowstyle": "-|>,head_width=0.22,head_length=0.4", "shrinkA": 0, "shrinkB": 0, "color": color,
        "linewidth": 1.2, "linestyle": dashes, "connectionstyle": way})
    if resized:
        ax.annotate(resized, label, fontsize=8, style="italic", color="0.25", ha="center", va="center", zorder=4,
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.85})
