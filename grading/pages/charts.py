"""The report's drawings, as inline SVG: costs against each other, IoU by category.

Colors are attributes and not styles, so that the pages' policy can forbid style attributes; each color has a second
sign beside it (a number, a hollow marker, a dash) for print and for the color-blind.
"""
import math
from collections.abc import Sequence
from dataclasses import dataclass

from grading.pages.page import number, power, si
from utils.lab import FOM_OFFSET
from utils.labels_cat import CATEGORIES, CATEGORY_COLORS

# Viridis (van der Walt and Smith, matplotlib), dark to light, without its lightest fifth, which white paper swallows.
RAMP = ("#440154", "#482475", "#414487", "#355f8d", "#2a788e", "#21918c", "#22a884", "#44bf70", "#7ad151")
INK, FAINT, BAR = "#5b6472", "#dfe3e8", "#3b6ea5"
SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
FAR = 1.2  # decades beyond the ranked networks; what lies farther out is named below the drawing


@dataclass(frozen=True)
class Point:
    """A network in the scatter; `href` and `label` are HTML already, `rank` is None for one without."""

    label: str
    href: str
    flops: float
    size_kb: float
    miou: float | None
    fom: float | None = None
    rank: int | None = None


@dataclass(frozen=True)
class Frame:
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
        return (self.left + (x - self.x[0]) / across * self.width,
                self.top + self.height - (y - self.y[0]) / up * self.height)


def scatter(points: Sequence[Point], width: int = 860, height: int = 470, key: str = "wide") -> tuple[str, list[Point]]:
    """MACs against size on logarithmic axes with lines of equal FoM; returns the SVG and the points left out.

    Color is mIoU, a hollow marker has no rank. `key` keeps two drawings on one page apart.
    """
    points = [point for point in points if point.flops > 0 and point.size_kb > 0]
    ranked = [point for point in points if point.rank is not None]
    core = ranked or points
    if not core:
        return "", []
    spans = [_span([math.log10(getattr(point, axis)) for point in core],
                   [math.log10(getattr(point, axis)) for point in points]) for axis in ("flops", "size_kb")]
    frame = Frame(62, 44, width - 62 - 16, height - 44 - 46, *spans)
    inside = [point for point in points if spans[0][0] <= math.log10(point.flops) <= spans[0][1]
              and spans[1][0] <= math.log10(point.size_kb) <= spans[1][1]]
    known = [point.miou for point in ranked if point.miou is not None] or [0.65, 0.75]
    low, high = math.floor(min(known) * 20) / 20, math.ceil(max(known) * 20) / 20
    high = max(high, low + 0.05)
    reference = sorted(known)[len(known) // 2]
    parts = [f'<svg class="scatter {key}" viewBox="0 0 {width} {height}" role="group" aria-label="Multiply-accumulates '
             'against size of the networks of task 2">', *_axes(frame, width), *_equal_fom(frame, reference),
             *_legend(frame, low, high, width, key)]
    # The best are drawn last, on top of the others.
    order = sorted(inside, key=lambda point: (point.rank is not None, -(point.rank or 0)))
    parts += [_marker(frame, point, low, high) for point in order]
    parts += _rank_labels(frame, inside)
    return "\n".join([*parts, "</svg>"]), [point for point in points if point not in inside]


def reference_miou(points: Sequence[Point]) -> float | None:
    """The mIoU that the lines of equal FoM are drawn for: the middle one of those ranked."""
    known = sorted(point.miou for point in points if point.rank is not None and point.miou is not None)
    return known[len(known) // 2] if known else None


def iou_bars(iou: Sequence[object], mean: object, width: int = 440) -> str:
    """IoU of each category as bars, the mean as a dotted line."""
    left, right, row = 112, 48, 25
    across = width - left - right
    height = row * len(CATEGORIES) + 30
    values = []
    parts = [f'<svg class="bars" viewBox="0 0 {width} {height}" role="img" aria-label="IoU by category">']
    for share in (0, 0.25, 0.5, 0.75, 1):
        x = left + share * across
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{height - 22}" stroke="{FAINT}"/>'
                     f'<text x="{x:.1f}" y="{height - 7}" text-anchor="middle" font-size="11" fill="{INK}">'
                     f"{share:g}</text>")
    for index, (category, color) in enumerate(zip(CATEGORIES, CATEGORY_COLORS.tolist(), strict=True)):
        value, top = number(iou[index]) if index < len(iou) else None, index * row + 6
        swatch = "#{:02x}{:02x}{:02x}".format(*color)
        parts.append(f'<rect x="2" y="{top + 4}" width="10" height="10" rx="2" fill="{swatch}"/>'
                     f'<text x="19" y="{top + 13.5}" font-size="13" fill="#1c2530">{category}</text>')
        if value is None:
            parts.append(f'<text x="{left + 4}" y="{top + 13.5}" font-size="12" fill="{INK}">absent</text>')
            continue
        value = min(max(value, 0), 1)
        parts.append(f'<rect x="{left}" y="{top}" width="{max(value * across, 1):.1f}" height="18" rx="2" '
                     f'fill="{BAR}"/>')
        values.append(f'<text x="{left + value * across + 5:.1f}" y="{top + 13.5}" font-size="12" fill="#1c2530" '
                      f'class="halo">{value:.3f}</text>')
    middle = number(mean)
    if middle is not None:
        x = left + min(max(middle, 0), 1) * across
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="2" y2="{height - 22}" stroke="#1c2530" stroke-width="1.5" '
                     'stroke-dasharray="2 3"><title>mean</title></line>')
    return "".join([*parts, *values, "</svg>"])  # the numbers on top of the line


def share_bar(share: object) -> str:
    """A small bar for a table's cell."""
    value = min(max(number(share) or 0, 0), 1)
    return ('<svg class="share" viewBox="0 0 60 8" aria-hidden="true">'
            f'<rect width="60" height="8" rx="2" fill="{FAINT}"/>'
            f'<rect width="{60 * value:.1f}" height="8" rx="2" fill="{BAR}"/></svg>')


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
    low, high = min(core), max(core)
    near = [value for value in everything if low - FAR <= value <= high + FAR]
    low, high = min(near), max(near)
    missing = max(0, 0.8 - (high - low)) / 2
    return low - missing - 0.12, high + missing + 0.12


def _axes(frame: Frame, width: float) -> list[str]:
    bottom, right = frame.top + frame.height, frame.left + frame.width
    parts = [f'<rect x="{frame.left}" y="{frame.top}" width="{frame.width}" height="{frame.height}" fill="#fff" '
             f'stroke="#c3cad3"/>']
    for value, major in _ticks(frame.x, frame.width):
        x, _ = frame.at(math.log10(value), frame.y[0])
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{frame.top}" y2="{bottom}" stroke="{FAINT}"/>')
        if major:
            parts.append(f'<text x="{x:.1f}" y="{bottom + 17}" text-anchor="middle" font-size="12" fill="{INK}">'
                         f'{si(value)}</text>')
    for value, major in _ticks(frame.y, frame.height):
        _, y = frame.at(frame.x[0], math.log10(value))
        parts.append(f'<line x1="{frame.left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="{FAINT}"/>')
        if major:
            parts.append(f'<text x="{frame.left - 7}" y="{y + 4:.1f}" text-anchor="end" font-size="12" fill="{INK}">'
                         f'{value:,.6g}</text>')
    return [*parts,
            f'<text x="{frame.left + frame.width / 2}" y="{bottom + 38}" text-anchor="middle" font-size="13" '
            'fill="#1c2530">multiply-accumulates (FLOPs as the lab counts them)</text>'
            if width > 500 else
            f'<text x="{frame.left + frame.width / 2}" y="{bottom + 38}" text-anchor="middle" font-size="13" '
            'fill="#1c2530">multiply-accumulates</text>',
            f'<text transform="translate(15 {frame.top + frame.height / 2}) rotate(-90)" text-anchor="middle" '
            'font-size="13" fill="#1c2530">size in KB</text>']


def _ticks(span: tuple[float, float], pixels: float) -> list[tuple[float, bool]]:
    """The 1, 2 and 5 of each decade in `span`, and whether there is room for their number."""
    room = pixels / (span[1] - span[0])  # pixels a decade
    decades = range(math.floor(span[0]), math.ceil(span[1]) + 1)
    values = [(digit, exponent) for exponent in decades for digit in (1, 2, 5)]
    every = max(1, math.ceil(40 / room))
    return [(digit * 10.0**exponent, (digit == 1 and exponent % every == 0) or room > 150)
            for digit, exponent in values if span[0] <= math.log10(digit) + exponent <= span[1]]


def _equal_fom(frame: Frame, miou: float) -> list[str]:
    """Dashed lines on which networks of this mIoU have the same FoM, each named by its power of ten."""
    if miou <= FOM_OFFSET:
        return []
    shift = math.log10(miou - FOM_OFFSET)  # FoM = F^2 S^2 / (mIoU - offset): log F + log S = (log FoM + shift) / 2
    low, high = (2 * (frame.x[end] + frame.y[end]) - shift for end in (0, 1))
    step = max(1, math.ceil((high - low) / 7))
    parts = ['<g stroke="#8a6d3b" stroke-dasharray="5 4" stroke-opacity="0.55">']
    labels = ['<g class="halo" font-size="11" fill="#7a5c28">']
    for exponent in range(math.ceil(low), math.floor(high) + 1):
        if exponent % step:
            continue
        total = (exponent + shift) / 2
        ends = [(max(frame.x[0], total - frame.y[1]), min(frame.y[1], total - frame.x[0])),
                (min(frame.x[1], total - frame.y[0]), max(frame.y[0], total - frame.x[1]))]
        (x1, y1), (x2, y2) = (frame.at(*end) for end in ends)
        length = math.hypot(x2 - x1, y2 - y1)
        parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')
        if length > 120:
            angle = math.degrees(math.atan2(y2 - y1, x2 - x1))
            x, y = x1 + (x2 - x1) * 14 / length, y1 + (y2 - y1) * 14 / length
            name = f"10{str(exponent).translate(SUPERSCRIPTS)}"
            labels.append(f'<text transform="translate({x:.1f} {y:.1f}) rotate({angle:.1f})" dy="-4">FoM {name}</text>')
    return [*parts, "</g>", *labels, "</g>"]


def _legend(frame: Frame, low: float, high: float, width: float, key: str) -> list[str]:
    """Above the plot: the ramp with its ends, and the two kinds of markers."""
    y, bar = 16, 150 if width > 500 else 84
    stops = "".join(f'<stop offset="{index / (len(RAMP) - 1):.3f}" stop-color="{color}"/>'
                    for index, color in enumerate(RAMP))
    x = frame.left
    parts = [f'<defs><linearGradient id="ramp-{key}">{stops}</linearGradient></defs>',
             f'<text x="{x}" y="{y + 4}" font-size="12" fill="{INK}">mIoU {low:.2f}</text>',
             f'<rect x="{x + 70}" y="{y - 6}" width="{bar}" height="12" rx="2" fill="url(#ramp-{key})"/>',
             f'<text x="{x + 76 + bar}" y="{y + 4}" font-size="12" fill="{INK}">{high:.2f}</text>']
    x += bar + (130 if width > 500 else 112)
    note = "no rank (hollow)" if width > 500 else "no rank"
    return [*parts, f'<circle cx="{x}" cy="{y}" r="5.5" fill="none" stroke="{RAMP[2]}" stroke-width="2"/>',
            f'<text x="{x + 11}" y="{y + 4}" font-size="12" fill="{INK}">{note}</text>']


def _marker(frame: Frame, point: Point, low: float, high: float) -> str:
    x, y = frame.at(math.log10(point.flops), math.log10(point.size_kb))
    color = color_of(point.miou, low, high)
    look = f'fill="{color}" stroke="#1c2530" stroke-width="0.8"' if point.rank is not None else \
        f'fill="#fff" fill-opacity="0.6" stroke="{color}" stroke-width="2"'
    miou = f", mIoU {point.miou:.4f}" if point.miou is not None else ", no mIoU"
    place = f"rank {point.rank}, FoM {power(point.fom)}" if point.rank is not None else "no rank"
    told = f"{point.label}: {place}{miou}, {si(point.flops)} MACs, {point.size_kb:,.1f} KB"
    return (f'<a href="{point.href}" aria-label="{told}"><circle cx="{x:.1f}" cy="{y:.1f}" r="6" {look}>'
            f"<title>{told}</title></circle></a>")


def _rank_labels(frame: Frame, points: Sequence[Point]) -> list[str]:
    """The ranks beside the markers, the best first, each where nothing is in its way."""
    places = [frame.at(math.log10(point.flops), math.log10(point.size_kb)) for point in points]
    taken: list[tuple[float, float, float]] = [(x, y, 7) for x, y in places]
    parts = ['<g class="halo ranks" font-size="11" font-weight="600" fill="#1c2530" aria-hidden="true">']
    for point, (x, y) in sorted(zip(points, places, strict=True), key=lambda pair: pair[0].rank or 0):
        if point.rank is None:
            continue
        wide = 3.5 * len(str(point.rank))
        for dx, dy in ((9 + wide, -7), (-9 - wide, -7), (9 + wide, 9), (-9 - wide, 9), (0, -14), (0, 15)):
            if all(math.hypot(x + dx - other, y + dy - above) > radius + 7 for other, above, radius in taken):
                taken.append((x + dx, y + dy, 4))
                parts.append(f'<text x="{x + dx:.1f}" y="{y + dy + 4:.1f}" text-anchor="middle">{point.rank}</text>')
                break
    return [*parts, "</g>"]
