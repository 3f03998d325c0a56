"""A pinhole camera and a canvas that paints picture, label ids and instance ids at once.

Everything here gives the same bytes on every machine: random numbers come from NumPy's frozen RandomState streams,
and floats meet only + - * / and sqrt, element by element. No libm, no BLAS and no float sums, whose last bits differ
between machines; and no ImageDraw, whose edge rules differ between versions.
"""
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, sqrt
from typing import NamedTuple

import numpy as np

from utils.labels_cat import id2label

HEIGHT, WIDTH = 512, 1024
NEAR = 0.7  # metres; nothing is drawn closer to the camera
FLAT_IDS = np.isin(np.arange(256), (7, 8, 9, 22))  # the labels that shadows fall on

# Points of the unit circle, from (1 - t * t, 2 * t) / (1 + t * t): sin and cos may differ in a last bit.
_QUARTER = [((1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)) for t in (0.0, 0.2, 0.41421356, 0.66666667)]
CIRCLE = [p for a, b in ((1, 0), (0, 1), (-1, 0), (0, -1)) for p in ((a * c - b * s, b * c + a * s)
                                                                       for c, s in _QUARTER)]

Color = tuple[float, float, float]
Point = tuple[float, float]
Window = tuple[slice, slice]


def mix(first: Color, second: Color, share: float) -> Color:
    """Gives the color `share` (0..1) of the way from the first to the second."""
    red, green, blue = (a + (b - a) * share for a, b in zip(first, second, strict=True))
    return red, green, blue


def scaled(color: Color, factor: float) -> Color:
    """Gives the color brightened (factor > 1) or darkened."""
    return color[0] * factor, color[1] * factor, color[2] * factor


class Dice:
    """Random choices from one frozen stream, told by whole numbers such as (seed, split, index)."""

    def __init__(self, *key: int) -> None:
        self._stream = np.random.RandomState(list(key))

    def real(self, low: float, high: float) -> float:
        """A number from low to high."""
        return low + (high - low) * float(self._stream.random_sample())

    def whole(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return int(self._stream.randint(low, high + 1))

    def chance(self, share: float) -> bool:
        """True in `share` (0..1) of the cases."""
        return float(self._stream.random_sample()) < share

    def pick(self, items: Sequence):
        """One of the items."""
        return items[self.whole(0, len(items) - 1)]

    def color(self, base: Color, light: float = 0.15) -> Color:
        """The base color, its brightness varied by the share `light` and each channel by 8."""
        gain = self.real(1 - light, 1 + light)
        red, green, blue = (min(250.0, max(6.0, value * gain + self.real(-8.0, 8.0))) for value in base)
        return red, green, blue

    def grid(self, *shape: int) -> np.ndarray:
        """Noise of the given shape, float32 in -1..1: sums of two uniform bytes."""
        pair = self._stream.randint(0, 256, (2, *shape), dtype=np.uint8).astype(np.float32)
        return (pair[0] + pair[1] - np.float32(255)) / np.float32(255)

    def smooth(self, height: int, width: int, cell: int) -> np.ndarray:
        """Smooth noise (height, width) float32 in -1..1 with blobs of `cell` pixels (a divisor of both); it tiles."""
        grid = self.grid(height // cell, width // cell)
        step = (np.arange(cell, dtype=np.float32) + np.float32(0.5)) / np.float32(cell)
        after = np.roll(grid, -1, 0)
        rows = (grid[:, None, :] + (after - grid)[:, None, :] * step[None, :, None]).reshape(height, -1)
        after = np.roll(rows, -1, 1)
        return (rows[:, :, None] + (after - rows)[:, :, None] * step).reshape(height, width)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera over a street: X to the right, Y up, Z ahead (metres) become x to the right, y down (pixels).

    `horizon` is the row of the horizon, `center` the column of the vanishing point; the street bends sideways by
    `bend` * Z * Z metres.
    """

    focal: float
    center: float
    horizon: float
    height: float
    bend: float

    def point(self, x: float, y: float, z: float) -> Point:
        """Projects a point with z > 0."""
        scale = self.focal / z
        return self.center + scale * (x + self.bend * z * z), self.horizon + scale * (self.height - y)


@dataclass(frozen=True)
class Light:
    """How a scene is lit: gains per channel, what the air far away looks like and how far (metres) one sees."""

    gain: Color
    haze: Color
    sight: float
    sky: Color
    glass: Color
    shadow: float
    sun: int


class Pen(NamedTuple):
    """What is being painted: its label id, its instance id and the share of haze before it."""

    label: int
    instance: int
    fade: float


class Patch(NamedTuple):
    """The seen part of a vertical plane: window and mask (h, w) bool in the picture, and in metres, float32, the
    place `along` the plane (1, w), the height `up` (h, w) and the distance `depth` (1, w)."""

    window: Window
    mask: np.ndarray
    along: np.ndarray
    up: np.ndarray
    depth: np.ndarray


class Canvas:
    """The picture (3, H, W) float32 in 0..255, the label ids (H, W) uint8 and the instance ids (H, W) uint16."""

    def __init__(self, camera: Camera, light: Light, dice: Dice) -> None:
        self.camera = camera
        self.light = light
        self.rgb = np.zeros((3, HEIGHT, WIDTH), np.float32)
        self.ids = np.zeros((HEIGHT, WIDTH), np.uint8)
        self.instances = np.zeros((HEIGHT, WIDTH), np.uint16)
        self.pen = Pen(0, 0, 0.0)
        self._counts: dict[int, int] = {}
        # Textures in picture coordinates: grain of single pixels, leaves, and slow changes of brightness.
        self.grain = dice.grid(HEIGHT, WIDTH)
        leaves = dice.smooth(HEIGHT, WIDTH, 4)
        self.fine = (self.grain + leaves * np.float32(2)) / np.float32(3)
        self.leaves = (leaves + dice.smooth(HEIGHT, WIDTH, 8) + self.grain * np.float32(0.6)) / np.float32(2)
        self.clumps = (dice.smooth(HEIGHT, WIDTH, 16) + dice.smooth(HEIGHT, WIDTH, 32) + leaves * np.float32(0.7)
                       ) / np.float32(2)
        self.slow = dice.smooth(HEIGHT, WIDTH, 64)

    def start(self, label: int, depth: float) -> Pen:
        """Begins a thing of this label at this distance (metres): a new instance if its label counts instances."""
        instance = label
        if id2label[label].hasInstances:
            self._counts[label] = self._counts.get(label, -1) + 1
            instance = label * 1000 + self._counts[label]
        self.pen = Pen(label, instance, depth / (depth + self.light.sight))
        return self.pen

    def lit(self, color: Color) -> Color:
        """The color in this scene's light, seen through the haze before the thing that is being painted."""
        return mix((color[0] * self.light.gain[0], color[1] * self.light.gain[1], color[2] * self.light.gain[2]),
                   self.light.haze, self.pen.fade)

    def paint(self, window: Window, mask: np.ndarray, color: Color, shade: np.ndarray | None = None,
              opacity: float = 1.0) -> None:
        """Paints the mask (h, w) in the window: color times shade (h, w), if any, and the pen's label."""
        for plane, value in zip(self.rgb, self.lit(color), strict=True):
            area = plane[window]
            if shade is None and opacity == 1.0:
                np.copyto(area, np.float32(value), where=mask)
            else:
                new = np.float32(value) if shade is None else shade * np.float32(value)
                if opacity < 1.0:
                    new = area + (new - area) * np.float32(opacity)
                np.copyto(area, new, where=mask)
        self.mark(window, mask)

    def paint_planes(self, window: Window, mask: np.ndarray, planes: Sequence[np.ndarray],
                     fade: np.ndarray | float) -> None:
        """Paints three planes (h, w) of unlit color with a haze share of its own for each row, column or pixel."""
        for plane, new, gain, haze in zip(self.rgb, planes, self.light.gain, self.light.haze, strict=True):
            new = new * np.float32(gain)
            np.copyto(plane[window], new + (np.float32(haze) - new) * fade, where=mask)
        self.mark(window, mask)

    def mark(self, window: Window, mask: np.ndarray) -> None:
        """Writes only the pen's label and instance."""
        np.copyto(self.ids[window], np.uint8(self.pen.label), where=mask)
        np.copyto(self.instances[window], np.uint16(self.pen.instance), where=mask)

    def fade_at(self, depth: np.ndarray) -> np.ndarray:
        """The share of haze (0..1) at distances in metres, float32."""
        return depth / (depth + np.float32(self.light.sight))

    def _between(self, top: int, left: np.ndarray, right: np.ndarray) -> tuple[Window, np.ndarray] | None:
        """The window and mask of the pixels whose centers lie between left and right (h,), rows from `top` on."""
        low = max(0, ceil(max(-1.0, float(left.min())) - 0.5))
        high = min(WIDTH, ceil(min(WIDTH + 1.0, float(right.max())) - 0.5))
        if high <= low:
            return None
        columns = np.arange(low, high, dtype=np.float64) + 0.5
        mask = (columns >= left[:, None]) & (columns < right[:, None])
        return (slice(top, top + len(left)), slice(low, high)), mask

    def _rows(self, low: float, high: float) -> tuple[int, np.ndarray] | None:
        """The first row and the centers (h,) of the rows whose centers lie from low to high."""
        top = ceil(max(0.0, low) - 0.5)
        bottom = ceil(min(float(HEIGHT), high) - 0.5)
        if bottom <= top:
            return None
        return top, np.arange(top, bottom, dtype=np.float64) + 0.5

    def polygon(self, points: Sequence[Point], color: Color, texture: float = 0.0, slope: float = 0.0) -> None:
        """Fills a convex polygon of (x, y); `texture` roughens it, `slope` darkens it towards its lower end."""
        heights = [y for _, y in points]
        found = self._rows(min(heights), max(heights))
        if found is None:
            return
        top, rows = found
        turn = 0.0
        edges = list(zip(points, [*points[1:], points[0]], strict=True))
        for (x0, y0), (x1, y1) in edges:
            turn += x0 * y1 - x1 * y0
        left = np.full(rows.shape, -np.inf)
        right = np.full(rows.shape, np.inf)
        for (x0, y0), (x1, y1) in edges:
            if y0 != y1:
                line = x0 + (rows - y0) * ((x1 - x0) / (y1 - y0))
                if (y1 > y0) == (turn > 0):  # walking clockwise on the screen, edges that go down bound the right
                    np.minimum(right, line, out=right)
                else:
                    np.maximum(left, line, out=left)
        self._fill(self._between(top, left, right), color, texture, slope)

    def ellipse(self, x: float, y: float, rx: float, ry: float, color: Color, opacity: float = 1.0) -> None:
        """Fills an upright ellipse about (x, y) with radii rx and ry."""
        found = self._rows(y - ry, y + ry) if ry > 0 else None
        if found is None:
            return
        top, rows = found
        rise = (rows - y) / ry
        half = rx * np.sqrt(np.maximum(0.0, 1.0 - rise * rise))
        self._fill(self._between(top, x - half, x + half), color, opacity=opacity)

    def bar(self, start: Point, end: Point, width: float, color: Color, end_width: float | None = None,
            texture: float = 0.0) -> None:
        """Fills a slanted bar from start to end, `width` pixels wide at its start and `end_width` at its end."""
        dx, dy = end[0] - start[0], end[1] - start[1]
        length = sqrt(dx * dx + dy * dy)
        if length == 0.0:
            return
        nx, ny = -dy / length / 2, dx / length / 2
        last = width if end_width is None else end_width
        self.polygon([(start[0] + nx * width, start[1] + ny * width), (end[0] + nx * last, end[1] + ny * last),
                      (end[0] - nx * last, end[1] - ny * last), (start[0] - nx * width, start[1] - ny * width)],
                     color, texture)

    def _fill(self, area: tuple[Window, np.ndarray] | None, color: Color, texture: float = 0.0, slope: float = 0.0,
              opacity: float = 1.0) -> None:
        if area is None:
            return
        window, mask = area
        shade = None
        if slope != 0.0:
            rows = window[0].stop - window[0].start
            ramp = (np.arange(rows, dtype=np.float32) + np.float32(0.5)) / np.float32(rows) - np.float32(0.5)
            shade = np.broadcast_to((np.float32(1) - np.float32(slope) * ramp)[:, None], mask.shape)
        if texture != 0.0:
            rough = np.float32(1) + self.fine[window] * np.float32(texture)
            shade = rough if shade is None else shade * rough
        self.paint(window, mask, color, shade, opacity)

    def shadow(self, x: float, z: float, wide: float, long: float, strength: float = 0.55) -> None:
        """Darkens the ground softly in an ellipse about the ground point (x, z), with radii in metres."""
        if z - long < NEAR:
            long = max(0.1, z - NEAR)
        cx, cy = self.camera.point(x, 0.0, z)
        upper = self.camera.point(x, 0.0, z + long)[1]
        lower = self.camera.point(x, 0.0, z - long)[1]
        rx, ry = wide * self.camera.focal / z, max(1.5, (lower - upper) / 2)
        found = self._rows(cy - ry, cy + ry)
        low, high = max(0, floor(max(-1.0, cx - rx))), min(WIDTH, ceil(min(WIDTH + 1.0, cx + rx)))
        if found is None or high <= low:
            return
        top, rows = found
        window = slice(top, top + len(rows)), slice(low, high)
        down = ((rows - cy) / ry).astype(np.float32)
        side = ((np.arange(low, high, dtype=np.float64) + 0.5 - cx) / rx).astype(np.float32)
        inside = np.float32(1) - down[:, None] * down[:, None] - side * side
        dark = np.minimum(np.maximum(inside * np.float32(1.8), np.float32(0)), np.float32(1)) * np.float32(strength)
        dark *= FLAT_IDS[self.ids[window]]
        self.rgb[(slice(None), *window)] *= np.float32(1) - dark

    def blob(self, x: float, y: float, lobes: Sequence[tuple[float, float, float, float]], color: Color,
             rough: float = 0.9, holes: bool = True) -> None:
        """Paints leaves: the union of the lobes (x, y, rx, ry), pixels from (x, y), with a ragged, pierced edge."""
        low = max(0, floor(max(-1.0, min(x + lx - rx * 1.3 for lx, _, rx, _ in lobes))))
        high = min(WIDTH, ceil(min(WIDTH + 1.0, max(x + lx + rx * 1.3 for lx, _, rx, _ in lobes))))
        found = self._rows(min(y + ly - ry * 1.3 for _, ly, _, ry in lobes),
                           max(y + ly + ry * 1.3 for _, ly, _, ry in lobes))
        if found is None or high <= low:
            return
        top, rows = found
        window = slice(top, top + len(rows)), slice(low, high)
        columns = np.arange(low, high, dtype=np.float64) + 0.5
        body = np.full((len(rows), high - low), -9.0, np.float32)
        lift = np.zeros_like(body)
        for lx, ly, rx, ry in lobes:
            down = ((rows - (y + ly)) / ry).astype(np.float32)[:, None]
            side = ((columns - (x + lx)) / rx).astype(np.float32)[None, :]
            field = np.float32(1) - down * down - side * side
            np.copyto(lift, np.float32(-0.35) * down + np.float32(0.15 * self.light.sun) * side, where=field > body)
            np.maximum(body, field, out=body)
        small = max(rx for _, _, rx, _ in lobes) < 26
        leaves, clumps = self.leaves[window], (self.leaves if small else self.clumps)[window]
        edge = body + (leaves + clumps) * np.float32(0.5 * rough)
        mask = edge > 0.12
        if holes and not small:
            mask &= (clumps + leaves * np.float32(0.5) > -0.62) | (body > 0.75)
        shade = np.float32(0.86) + lift + leaves * np.float32(0.42) + clumps * np.float32(0.22)
        self.paint(window, mask, color, np.maximum(shade, np.float32(0.18)))

    def wall(self, start: Point, end: Point, low: float, high: float) -> Patch | None:
        """The seen part of the vertical plane over the ground points (X, Z) start to end, from height low to high."""
        (x0, z0), (x1, z1) = start, end
        length = sqrt((x1 - x0) * (x1 - x0) + (z1 - z0) * (z1 - z0))
        first, last = 0.0, 1.0
        if z0 < NEAR and z1 < NEAR:
            return None
        if z0 < NEAR:
            first = (NEAR - z0) / (z1 - z0)
        elif z1 < NEAR:
            last = (NEAR - z0) / (z1 - z0)
        (xa, za), (xb, zb) = ((x0 + (x1 - x0) * t, z0 + (z1 - z0) * t) for t in (first, last))
        (left, top_a), (right, top_b) = self.camera.point(xa, high, za), self.camera.point(xb, high, zb)
        feet = self.camera.point(xa, low, za)[1], self.camera.point(xb, low, zb)[1]
        found = self._rows(min(top_a, top_b, *feet), max(top_a, top_b, *feet))
        begin, end_column = (max(0, ceil(max(-1.0, min(left, right)) - 0.5)),
                             min(WIDTH, ceil(min(WIDTH + 1.0, max(left, right)) - 0.5)))
        if found is None or end_column <= begin:
            return None
        top, rows = found
        share = (np.arange(begin, end_column, dtype=np.float64) + 0.5 - left) / (right - left)
        near = (1.0 - share) / za + share / zb  # 1 / depth is what runs evenly over the screen
        along = (first + (last - first) * (share / zb) / near) * length
        depth = (1.0 / near).astype(np.float32)[None, :]
        up = np.float32(self.camera.height) - (rows - self.camera.horizon).astype(np.float32)[:, None] * (
            depth / np.float32(self.camera.focal))
        window = slice(top, top + len(rows)), slice(begin, end_column)
        return Patch(window, (up >= np.float32(low)) & (up < np.float32(high)), along.astype(np.float32)[None, :],
                     up, depth)
