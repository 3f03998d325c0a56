"""A pinhole camera over a street, and the light in which it sees it."""
from dataclasses import dataclass

from sample.palette import Color

Point = tuple[float, float]


@dataclass(frozen=True)
class Camera:
    """A pinhole camera over a street: X to the right, Y up, Z ahead (meters) become x to the right, y down (pixels).

    `horizon` is the row of the horizon, `center` the column of the vanishing point; the street bends sideways by
    `bend` * Z * Z meters.
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
    """How a scene is lit: gains per channel, what the air far away looks like and how far (meters) one sees."""

    gain: Color
    haze: Color
    sight: float
    sky: Color
    glass: Color
    shadow: float
    sun: int
