"""Where things are in the drawing of who led when: FoM, logarithmic, against time, as a step curve."""
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from grading.report.pages.page import power

LEFT, RIGHT, TOP, BOTTOM = 64, 14, 12, 34  # pixels around the curve's area
MOST_LABELS = 12


@dataclass
class Steps:
    """The drawing in pixels. path: the curve; marks: (x, y, text) where the lead changed; names: those with room."""

    key: str
    width: int
    height: int
    path: str
    marks: list[tuple[float, float, str]] = field(default_factory=list)
    names: list[tuple[float, float, str, str]] = field(default_factory=list)  # x, y, anchor, nick
    x_ticks: list[tuple[float, str]] = field(default_factory=list)
    y_ticks: list[tuple[float, str]] = field(default_factory=list)


def steps(led: Sequence[tuple[float, float, str]], end: float, width: int = 860, height: int = 300, key: str = "wide"
          ) -> Steps:
    """The curve of (seconds since 1970, FoM, nick) of each lead, at least one, up to `end`."""
    begin, end = led[0][0], max(end, led[-1][0] + 60)
    low, high = math.log10(led[-1][1]), math.log10(led[0][1])
    low, high = low - max(0.3, (high - low) * 0.15), high + max(0.3, (high - low) * 0.1)

    def x(at: float) -> float:
        return round(LEFT + (at - begin) / (end - begin) * (width - LEFT - RIGHT), 1)

    def y(fom: float) -> float:
        return round(TOP + (high - math.log10(fom)) / (high - low) * (height - TOP - BOTTOM), 1)

    path = f"M{x(begin)} {y(led[0][1])}" + "".join(f"H{x(at)}V{y(fom)}" for at, fom, _ in led[1:]) + f"H{x(end)}"
    drawing = Steps(key, width, height, path)
    taken: list[float] = []
    for at, fom, nick in reversed(led):  # the latest has its name in any case
        drawing.marks.append((x(at), y(fom), f"{nick}: FoM {power(fom)}, {datetime.fromtimestamp(at):%b %d, %H:%M}"))
        if all(abs(y(fom) - other) > 14 for other in taken) and len(taken) < MOST_LABELS:
            taken.append(y(fom))
            before = x(at) > width * 0.7  # where there is no room behind the mark
            drawing.names.append((x(at) - 8, y(fom) + 12, "end", nick) if before else
                                 (x(at) + 8, y(fom) - 5, "start", nick))
    every = max(1, math.ceil((high - low) / 6))
    drawing.y_ticks = [(y(10.0**ten), f"1e{ten}") for ten in range(math.ceil(low), math.floor(high) + 1, every)]
    count, form = (4 if width > 500 else 2), "%b %d" if end - begin > 3 * 86400 else "%b %d, %H:%M"
    drawing.x_ticks = [(x(at), datetime.fromtimestamp(at).strftime(form))
                       for at in (begin + (end - begin) * (place + 0.5) / count for place in range(count))]
    return drawing
