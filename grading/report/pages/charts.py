"""Where things are in the drawing of costs: MACs against size, with lines of equal FoM (templates/charts.html).

Each color has a second sign beside it (a number, a hollow marker, a dash), for print and for the color-blind.
"""
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from grading.report.pages.page import si
from utils.lab import FOM_OFFSET

# Viridis (van der Walt and Smith, matplotlib), dark to light, without its lightest fifth, which white paper swallows.
RAMP = ("#440154", "#482475", "#414487", "#355f8d", "#2a788e", "#21918c", "#22a884", "#44bf70", "#7ad151")
SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
FAR = 1.2  # decades beyond the ranked networks; what lies farther out is named below the drawing


@dataclass(frozen=True)
class Point:
    """A student's network in the drawing; `page` is the student's, `rank` is None for one without."""

    label: str
    page: str
    flops: float
    size_kb: float
    miou: float | None
    fom: float | None = None
    rank: int | None = None

    @property
    def decades(self) -> tuple[float, float]:
        return math.log10(self.flops), math.log10(self.size_kb)


@dataclass(frozen=True)
class Axes:
    """The plot's area in pixels and the decades it shows."""

    left: float
    top: float
    width: float
    height: float
    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Pixels of a point given in decades."""
        across, up = self.x[1] - self.x[0], self.y[1] - self.y[0]
        return (round(self.left + (x - self.x[0]) / across * self.width, 1),
                round(self.top + self.height - (y - self.y[0]) / up * self.height, 1))

    def shows(self, point: Point) -> bool:
        x, y = point.decades
        return self.x[0] <= x <= self.x[1] and self.y[0] <= y <= self.y[1]


@dataclass
class Scatter:
    """The drawing: pixels and colors, all of it ready to be written down.

    key: keeps two drawings on one page apart. miou: what the lines of equal FoM are drawn for, the middle one of those
    ranked; None without any. outside: points that lie too far out.
    """

    key: str
    width: int
    height: int
    axes: Axes
    low: float
    high: float
    miou: float | None
    ramp: tuple[str, ...] = RAMP
    x_ticks: list[tuple[float, str]] = field(default_factory=list)
    y_ticks: list[tuple[float, str]] = field(default_factory=list)
    lines: list[tuple[float, float, float, float]] = field(default_factory=list)
    line_names: list[tuple[float, float, float, str]] = field(default_factory=list)  # x, y, degrees, power of ten
    markers: list[tuple[float, float, str, Point]] = field(default_factory=list)
    ranks: list[tuple[float, float, int]] = field(default_factory=list)
    outside: list[Point] = field(default_factory=list)


def scatter(points: Sequence[Point], width: int = 860, height: int = 470, key: str = "wide") -> Scatter:
    """MACs against size on logarithmic axes. points: at least one, all with costs above 0."""
    ranked = [point for point in points if point.rank is not None]
    spans = [_span([point.decades[axis] for point in ranked or points], [point.decades[axis] for point in points])
             for axis in (0, 1)]
    axes = Axes(62, 44, width - 62 - 16, height - 44 - 46, *spans)
    known = sorted(point.miou for point in ranked if point.miou is not None)
    low, high = math.floor((known or [0.65])[0] * 20) / 20, math.ceil((known or [0.75])[-1] * 20) / 20
    plot = Scatter(key, width, height, axes, low, max(high, low + 0.05), known[len(known) // 2] if known else None)
    plot.x_ticks = [(axes.at(math.log10(value), 0)[0], si(value) if named else "")
                    for value, named in _ticks(axes.x, axes.width)]
    plot.y_ticks = [(axes.at(0, math.log10(value))[1], f"{value:,.6g}" if named else "")
                    for value, named in _ticks(axes.y, axes.height)]
    _draw_equal_fom(plot)
    inside = [point for point in points if axes.shows(point)]
    plot.outside = [point for point in points if not axes.shows(point)]
    # The best are drawn last, on top of the others.
    for point in sorted(inside, key=lambda point: (point.rank is not None, -(point.rank or 0))):
        plot.markers.append((*axes.at(*point.decades), color_of(point.miou, plot.low, plot.high), point))
    _place_ranks(plot)
    return plot


def color_of(value: float | None, low: float, high: float) -> str:
    """The ramp's color for a value, the nearest end for one outside."""
    if value is None:
        return RAMP[0]
    place = min(max((value - low) / (high - low), 0), 1) * (len(RAMP) - 1)
    first = min(int(place), len(RAMP) - 2)
    one, other = (bytes.fromhex(color[1:]) for color in RAMP[first:first + 2])
    mixed = [round(a * (first + 1 - place) + b * (place - first)) for a, b in zip(one, other, strict=True)]
    return "#{:02x}{:02x}{:02x}".format(*mixed)


def _span(core: list[float], everything: list[float]) -> tuple[float, float]:
    """The decades to show: all of `core`, and of the rest what is not too far from it."""
    near = [value for value in everything if min(core) - FAR <= value <= max(core) + FAR]
    low, high = min(near), max(near)
    missing = max(0, 0.8 - (high - low)) / 2
    return low - missing - 0.12, high + missing + 0.12


def _ticks(span: tuple[float, float], pixels: float) -> list[tuple[float, bool]]:
    """The 1, 2 and 5 of each decade in `span`, and whether there is room for their number."""
    room = pixels / (span[1] - span[0])  # pixels a decade
    every = max(1, math.ceil(40 / room))
    values = [(digit, exponent) for exponent in range(math.floor(span[0]), math.ceil(span[1]) + 1)
              for digit in (1, 2, 5)]
    return [(digit * 10.0**exponent, (digit == 1 and exponent % every == 0) or room > 150)
            for digit, exponent in values if span[0] <= math.log10(digit) + exponent <= span[1]]


def _draw_equal_fom(plot: Scatter) -> None:
    """Lines on which networks of one mIoU have the same FoM, each named by its power of ten."""
    axes = plot.axes
    miou = 0.75 if plot.miou is None else plot.miou
    if miou <= FOM_OFFSET:
        return
    shift = math.log10(miou - FOM_OFFSET)  # FoM = F^2 S^2 / (mIoU - offset): log F + log S = (log FoM + shift) / 2
    low, high = (2 * (axes.x[end] + axes.y[end]) - shift for end in (0, 1))
    step = max(1, math.ceil((high - low) / 7))
    for exponent in range(math.ceil(low), math.floor(high) + 1):
        if exponent % step:
            continue
        total = (exponent + shift) / 2
        x1, y1 = axes.at(max(axes.x[0], total - axes.y[1]), min(axes.y[1], total - axes.x[0]))
        x2, y2 = axes.at(min(axes.x[1], total - axes.y[0]), max(axes.y[0], total - axes.x[1]))
        plot.lines.append((x1, y1, x2, y2))
        length = math.hypot(x2 - x1, y2 - y1)
        if length > 120:
            x, y = x1 + (x2 - x1) * 14 / length, y1 + (y2 - y1) * 14 / length
            plot.line_names.append((round(x, 1), round(y, 1), round(math.degrees(math.atan2(y2 - y1, x2 - x1)), 1),
                                    f"10{str(exponent).translate(SUPERSCRIPTS)}"))


def _place_ranks(plot: Scatter) -> None:
    """The ranks beside the markers, the best first, each where nothing is in its way."""
    taken: list[tuple[float, float, float]] = [(x, y, 7) for x, y, _, _ in plot.markers]  # with a radius
    ranked = [(point.rank, x, y) for x, y, _, point in plot.markers if point.rank is not None]
    for rank, x, y in sorted(ranked):
        wide = 3.5 * len(str(rank))
        for dx, dy in ((9 + wide, -7), (-9 - wide, -7), (9 + wide, 9), (-9 - wide, 9), (0, -14), (0, 15)):
            if all(math.hypot(x + dx - other, y + dy - above) > radius + 7 for other, above, radius in taken):
                taken.append((x + dx, y + dy, 4))
                plot.ranks.append((round(x + dx, 1), round(y + dy + 4, 1), rank))
                break
