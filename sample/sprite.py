"""Flat things that face the camera."""
from collections.abc import Sequence

from sample.camera import Point
from sample.canvas import Canvas
from sample.palette import Color


class Sprite:
    """A flat thing that faces the camera; its own coordinates are meters right of and up from its foot point."""

    def __init__(self, canvas: Canvas, x: float, z: float, size: float = 1.0, flip: int = 1) -> None:
        self.canvas = canvas
        self.scale = canvas.camera.focal / z * size  # pixels a meter
        self.flip = flip
        self.foot = canvas.camera.point(x, 0.0, z)

    def at(self, right: float, up: float) -> Point:
        """Where a point of the thing is in the image."""
        return self.foot[0] + self.flip * right * self.scale, self.foot[1] - up * self.scale

    def poly(self, points: Sequence[Point], color: Color, texture: float = 0.0, slope: float = 0.0) -> None:
        """Fills a convex polygon."""
        self.canvas.polygon([self.at(*point) for point in points], color, texture, slope)

    def box(self, right: float, up: float, wide: float, high: float, color: Color, slope: float = 0.0) -> None:
        """Fills a rectangle, `wide` about `right`, from `up` to `up + high`."""
        half = wide / 2
        self.poly(((right - half, up), (right + half, up), (right + half, up + high), (right - half, up + high)),
                  color, 0.0, slope)

    def disc(self, right: float, up: float, rx: float, ry: float, color: Color, opacity: float = 1.0) -> None:
        """Fills an ellipse."""
        x, y = self.at(right, up)
        self.canvas.ellipse(x, y, rx * self.scale, ry * self.scale, color, opacity=opacity)

    def limb(self, points: Sequence[Point], width: float, color: Color, end: float | None = None) -> None:
        """Fills a bent bar through the points, rounded at its joints; its last piece may narrow to `end`."""
        for index in range(len(points) - 1):
            last = end if index == len(points) - 2 else None
            self.canvas.bar(self.at(*points[index]), self.at(*points[index + 1]), width * self.scale, color,
                            None if last is None else last * self.scale)
            if index and width * self.scale > 5:
                self.disc(*points[index], width / 2, width / 2, color)
