"""A canvas that paints image, label ids and instance ids at once.

Everything here gives the same bytes on every machine: floats meet only + - * / and sqrt, element by element. No libm,
no BLAS and no float sums, whose last bits differ between machines; and no ImageDraw, whose edge rules differ between
versions.
"""
from collections.abc import Sequence
from math import ceil, floor, sqrt
from typing import NamedTuple

import numpy as np

from sample.camera import Camera, Light, Point
from sample.palette import Color, mix
from sample.randomness import Random
from utils.labels_cat import id2label

HEIGHT, WIDTH = 512, 1024
NEAR = 0.7  # meters; nothing is drawn closer to the camera
FLAT_IDS = np.isin(np.arange(256), (7, 8, 9, 22))  # the labels that shadows fall on

# Points of the unit circle, from (1 - t * t, 2 * t) / (1 + t * t): sin and cos may differ in a last bit.
_QUARTER = [((1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)) for t in (0.0, 0.2, 0.41421356, 0.66666667)]
CIRCLE = [p for a, b in ((1, 0), (0, 1), (-1, 0), (0, -1)) for p in ((a * c - b * s, b * c + a * s)
                                                                       for c, s in _QUARTER)]

F = np.float32
Window = tuple[slice, slice]


class Pen(NamedTuple):
    """What is being painted: its label id, its instance id and the share of haze before it."""

    label: int
    instance: int
    fade: float


class Patch(NamedTuple):
    """The seen part of a vertical plane: window and mask (h, w) bool in the image, and in meters, float32, the
    place `along` the plane (1, w), the height `up` (h, w) and the distance `depth` (1, w)."""

    window: Window
    mask: np.ndarray
    along: np.ndarray
    up: np.ndarray
    depth: np.ndarray


class Canvas:
    """The image (3, H, W) float32 in 0..255, the label ids (H, W) uint8 and the instance ids (H, W) uint16."""

    def __init__(self, camera: Camera, light: Light, random: Random) -> None:
        self.camera = camera
        self.light = light
        self.rgb = np.zeros((3, HEIGHT, WIDTH), np.float32)
        self.ids = np.zeros((HEIGHT, WIDTH), np.uint8)
        self.instances = np.zeros((HEIGHT, WIDTH), np.uint16)
        self.pen = Pen(0, 0, 0.0)
        self._counts: dict[int, int] = {}
        # Textures in image coordinates: grain of single pixels, leaves, and slow changes of brightness.
        self.grain = random.grid(HEIGHT, WIDTH)
        leaves = random.smooth(HEIGHT, WIDTH, 4)
        self.fine = (self.grain + leaves * F(2)) / F(3)
        self.leaves = (leaves + random.smooth(HEIGHT, WIDTH, 8) + self.grain * F(0.6)) / F(2)
        self.clumps = (random.smooth(HEIGHT, WIDTH, 16) + random.smooth(HEIGHT, WIDTH, 32) + leaves * F(0.7)
                       ) / F(2)
        self.slow = random.smooth(HEIGHT, WIDTH, 64)

    def start(self, label: int, depth: float) -> Pen:
        """Begins a thing of this label at this distance (meters): a new instance if its label counts instances."""
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
                np.copyto(area, F(value), where=mask)
            else:
                new = F(value) if shade is None else shade * F(value)
                if opacity < 1.0:
                    new = area + (new - area) * F(opacity)
                np.copyto(area, new, where=mask)
        self.mark(window, mask)

    def paint_planes(self, window: Window, mask: np.ndarray, planes: Sequence[np.ndarray],
                     fade: np.ndarray | float) -> None:
        """Paints three planes (h, w) of unlit color with a haze share of its own for each row, column or pixel."""
        for plane, new, gain, haze in zip(self.rgb, planes, self.light.gain, self.light.haze, strict=True):
            new = new * F(gain)
            np.copyto(plane[window], new + (F(haze) - new) * fade, where=mask)
        self.mark(window, mask)

    def mark(self, window: Window, mask: np.ndarray) -> None:
        """Writes only the pen's label and instance."""
        np.copyto(self.ids[window], np.uint8(self.pen.label), where=mask)
        np.copyto(self.instances[window], np.uint16(self.pen.instance), where=mask)

    def fade_at(self, depth: np.ndarray) -> np.ndarray:
        """The share of haze (0..1) at distances in meters, float32."""
        return depth / (depth + F(self.light.sight))

    def polygon(self, points: Sequence[Point], color: Color, texture: float = 0.0, slope: float = 0.0) -> None:
        """Fills a convex polygon of (x, y); `texture` roughens it, `slope` darkens it towards its lower end."""
        across, down = zip(*points, strict=True)
        found = _pixels(min(across) - 0.5, max(across) + 0.5, min(down), max(down))
        if found is None:
            return
        window, columns, rows = found
        edges = list(zip(points, [*points[1:], points[0]], strict=True))
        turn = 0.0
        for (x0, y0), (x1, y1) in edges:
            turn += x0 * y1 - x1 * y0
        left, right = np.full(rows.shape, -np.inf), np.full(rows.shape, np.inf)
        for (x0, y0), (x1, y1) in edges:
            if y0 != y1:
                line = x0 + (rows - y0) * ((x1 - x0) / (y1 - y0))
                if (y1 > y0) == (turn > 0):  # walking clockwise on the screen, edges that go down bound the right
                    np.minimum(right, line, out=right)
                else:
                    np.maximum(left, line, out=left)
        shade = None
        if slope != 0.0:
            ramp = (np.arange(len(rows), dtype=F) + F(0.5)) / F(len(rows)) - F(0.5)
            shade = F(1) - F(slope) * ramp[:, None]
        if texture != 0.0:
            rough = F(1) + self.fine[window] * F(texture)
            shade = rough if shade is None else shade * rough
        self.paint(window, (columns >= left[:, None]) & (columns < right[:, None]), color, shade)

    def ellipse(self, x: float, y: float, rx: float, ry: float, color: Color, opacity: float = 1.0) -> None:
        """Fills an upright ellipse about (x, y) with radii rx and ry."""
        found = _pixels(x - rx, x + rx, y - ry, y + ry)
        if found is None:
            return
        window, columns, rows = found
        rise = (rows - y) / ry
        half = (rx * np.sqrt(np.maximum(0.0, 1.0 - rise * rise)))[:, None]
        self.paint(window, (columns >= x - half) & (columns < x + half), color, opacity=opacity)

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

    def shadow(self, x: float, z: float, wide: float, long: float, strength: float = 0.55) -> None:
        """Darkens the ground softly in an ellipse about the ground point (x, z), with radii in meters."""
        if z - long < NEAR:
            long = max(0.1, z - NEAR)
        cx, cy = self.camera.point(x, 0.0, z)
        upper, lower = (self.camera.point(x, 0.0, z + way)[1] for way in (long, -long))
        rx, ry = wide * self.camera.focal / z, max(1.5, (lower - upper) / 2)
        found = _pixels(floor(cx - rx), ceil(cx + rx), cy - ry, cy + ry)
        if found is None:
            return
        window, columns, rows = found
        down, side = ((rows - cy) / ry).astype(F)[:, None], ((columns - cx) / rx).astype(F)
        inside = F(1) - down * down - side * side
        dark = np.minimum(np.maximum(inside * F(1.8), F(0)), F(1)) * F(strength)
        dark *= FLAT_IDS[self.ids[window]]
        self.rgb[(slice(None), *window)] *= F(1) - dark

    def blob(self, x: float, y: float, lobes: Sequence[tuple[float, float, float, float]], color: Color,
             rough: float = 0.9, holes: bool = True) -> None:
        """Paints leaves: the union of the lobes (x, y, rx, ry), pixels from (x, y), with a ragged, pierced edge."""
        found = _pixels(floor(min(x + lx - rx * 1.3 for lx, _, rx, _ in lobes)),
                        ceil(max(x + lx + rx * 1.3 for lx, _, rx, _ in lobes)),
                        min(y + ly - ry * 1.3 for _, ly, _, ry in lobes),
                        max(y + ly + ry * 1.3 for _, ly, _, ry in lobes))
        if found is None:
            return
        window, columns, rows = found
        body = np.full((len(rows), len(columns)), -9.0, F)
        lift = np.zeros_like(body)
        for lx, ly, rx, ry in lobes:
            down = ((rows - (y + ly)) / ry).astype(F)[:, None]
            side = ((columns - (x + lx)) / rx).astype(F)[None, :]
            field = F(1) - down * down - side * side
            np.copyto(lift, F(-0.35) * down + F(0.15 * self.light.sun) * side, where=field > body)
            np.maximum(body, field, out=body)
        small = max(rx for _, _, rx, _ in lobes) < 26
        leaves, clumps = self.leaves[window], (self.leaves if small else self.clumps)[window]
        mask = body + (leaves + clumps) * F(0.5 * rough) > 0.12
        if holes and not small:
            mask &= (clumps + leaves * F(0.5) > -0.62) | (body > 0.75)
        shade = F(0.86) + lift + leaves * F(0.42) + clumps * F(0.22)
        self.paint(window, mask, color, np.maximum(shade, F(0.18)))

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
        heights = top_a, top_b, self.camera.point(xa, low, za)[1], self.camera.point(xb, low, zb)[1]
        found = _pixels(min(left, right), max(left, right), min(heights), max(heights))
        if found is None:
            return None
        window, columns, rows = found
        share = (columns - left) / (right - left)
        near = (1.0 - share) / za + share / zb  # 1 / depth is what runs evenly over the screen
        along = (first + (last - first) * (share / zb) / near) * length
        depth = (1.0 / near).astype(F)[None, :]
        up = F(self.camera.height) - (rows - self.camera.horizon).astype(F)[:, None] * (depth / F(self.camera.focal))
        return Patch(window, (up >= F(low)) & (up < F(high)), along.astype(F)[None, :], up, depth)


def _pixels(left: float, right: float, top: float, bottom: float) -> tuple[Window, np.ndarray, np.ndarray] | None:
    """The window of the pixels whose centers lie in a rectangle, and the centers' x (w,) and y (h,); None without any.
    """
    ends = [(ceil(max(0.0, low) - 0.5), ceil(min(float(size), high) - 0.5))
            for low, high, size in ((left, right, WIDTH), (top, bottom, HEIGHT))]
    if any(high <= low for low, high in ends):
        return None
    columns, rows = (np.arange(low, high, dtype=np.float64) + 0.5 for low, high in ends)
    return (slice(*ends[1]), slice(*ends[0])), columns, rows
