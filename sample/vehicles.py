"""Cars, trucks, buses and boxes: solids in 3-D, each a few convex hulls with panes, lights and wheels on them."""
from collections.abc import Sequence

from sample.camera import Point
from sample.canvas import CIRCLE, NEAR, Canvas
from sample.palette import BLACK, DARK, METALS, PAINTS, WHITE, Color, scaled
from sample.randomness import Random

STATIC = 4
CAR, TRUCK, BUS = 26, 27, 28

Point3D = tuple[float, float, float]
Face = tuple[Point3D, Point3D, Point3D, Point3D]


class Body:
    """A vehicle's frame: meters ahead of (a), right of (b) and above (y) its middle, turned by a `heading`.

    The heading is (along X, along Z), a unit vector; (0, 1) drives away from the camera.
    """

    def __init__(self, canvas: Canvas, x: float, z: float, heading: Point) -> None:
        self.canvas = canvas
        self.x, self.z, self.heading = x, z, heading

    def world(self, place: Point3D) -> Point3D:
        """A place of the vehicle as X, Y, Z."""
        a, b, y = place
        hx, hz = self.heading
        return self.x + a * hx + b * hz, y, max(NEAR, self.z + a * hz - b * hx)

    def on_screen(self, places: Sequence[Point3D]) -> list[Point]:
        """Places of the vehicle in the image."""
        return [self.canvas.camera.point(*self.world(place)) for place in places]

    def paint(self, places: Sequence[Point3D], color: Color, slope: float = 0.0, texture: float = 0.0) -> bool:
        """Paints a convex face if it is seen from outside (its places run anticlockwise there)."""
        points = self.on_screen(places)
        area = 0.0
        for (x0, y0), (x1, y1) in zip(points, [*points[1:], points[0]], strict=True):
            area += x0 * y1 - x1 * y0
        if area >= 0:
            return False
        self.canvas.polygon(points, color, texture, slope)
        return True

    def tone(self, side: str) -> float:
        """How bright a side is: the top most, then whatever faces the sun."""
        if side == "top":
            return 1.12
        hx, hz = self.heading
        right = {"rear": -hx, "front": hx, "left": -hz, "right": hz}[side]
        return 0.86 + 0.16 * right * self.canvas.light.sun


def hull(a: Point, b: float, y: Point, taper: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> dict[str, Face]:
    """The faces of a box from a[0] to a[1], -b to b and y[0] to y[1], its top drawn in at rear, front and sides."""
    (a0, a1), (y0, y1), (rear, front, side) = a, y, taper
    low = {(i, j): (ai, bj, y0) for i, ai in enumerate((a0, a1)) for j, bj in enumerate((-b, b))}
    high = {(i, j): (ai, bj, y1) for i, ai in enumerate((a0 + rear, a1 - front))
            for j, bj in enumerate((side - b, b - side))}
    return {"top": (high[0, 0], high[0, 1], high[1, 1], high[1, 0]),
            "rear": (low[0, 0], low[0, 1], high[0, 1], high[0, 0]),
            "front": (low[1, 1], low[1, 0], high[1, 0], high[1, 1]),
            "left": (low[1, 0], low[0, 0], high[0, 0], high[1, 0]),
            "right": (low[0, 1], low[1, 1], high[1, 1], high[0, 1])}


def part(face: Face, u0: float, u1: float, v0: float, v1: float) -> Face:
    """The part of a face between the shares u (along its lower edge) and v (upwards)."""
    def place(u: float, v: float) -> Point3D:
        low = [p + (q - p) * u for p, q in zip(face[0], face[1], strict=True)]
        high = [p + (q - p) * u for p, q in zip(face[3], face[2], strict=True)]
        a, b, y = (p + (q - p) * v for p, q in zip(low, high, strict=True))
        return a, b, y
    return place(u0, v0), place(u1, v0), place(u1, v1), place(u0, v1)


def _wheels(body: Body, axles: Sequence[float], half: float, radius: float) -> None:
    """Tires and rims on the sides; from ahead or behind one sees treads."""
    for side in (-1, 1):
        for axle in axles:
            outer = side * (half + 0.01)
            rims = ((1.0, scaled(BLACK, 1.2)), (0.6, (150.0, 152.0, 154.0)), (0.2, (70.0, 70.0, 72.0)))
            for share, color in rims:
                ring = [(axle + side * radius * share * c, outer, radius * (1 + share * s)) for c, s in CIRCLE]
                if not body.paint(ring, color):
                    break


def _treads(body: Body, axles: Sequence[float], half: float, radius: float) -> None:
    """The wheels as blocks below the body, to be painted before it."""
    for axle in (axles[0], axles[-1]):
        for low in (-half + 0.02, half - 0.24):
            faces = hull((axle - radius, axle + radius), 0.11, (0.0, radius * 1.4))
            for face in faces.values():
                body.paint([(a, b + low + 0.11, y) for a, b, y in face], BLACK)


def _solid(body: Body, faces: dict[str, Face], color: Color, texture: float = 0.0) -> None:
    for side in ("top", "rear", "front", "left", "right"):
        body.paint(faces[side], scaled(color, body.tone(side)), 0.0 if side == "top" else 0.22, texture)


def _ends(body: Body, faces: dict[str, Face], low: float, high: float) -> None:
    """Lights, plate, bumper and grille at the front and rear, lights between the shares low and high."""
    for side, lamp in (("rear", (178.0, 30.0, 26.0)), ("front", (240.0, 238.0, 222.0))):
        face = faces[side]
        if not body.paint(part(face, 0.0, 1.0, 0.0, 0.2), DARK):
            continue
        if side == "front":
            body.paint(part(face, 0.25, 0.75, low, high), scaled(DARK, 0.8))
        for u0, u1 in ((0.03, 0.2), (0.8, 0.97)):
            body.paint(part(face, u0, u1, low, high), lamp)
        body.paint(part(face, 0.38, 0.62, 0.24, 0.42), (222.0, 220.0, 206.0))


def _glaze(body: Body, face: Face, panes: Sequence[Point], v0: float, v1: float, gain: float = 1.0) -> None:
    for u0, u1 in panes:
        body.paint(part(face, u0, u1, v0, v1), scaled(body.canvas.light.glass, gain), -0.5)


def _vehicle(canvas: Canvas, label: int, x: float, z: float, heading: Point, size: Point) -> Body:
    """Shadow and body frame of a vehicle of a length and width."""
    long, wide = (size[0] + 0.5) / 2, (size[1] + 0.4) / 2
    along = abs(heading[1])
    canvas.shadow(x - 0.25 * canvas.light.sun, z, (wide * along + long * (1 - along)) * 1.2,
                  (long * along + wide * (1 - along)) * 1.2, 0.72)
    canvas.start(label, z)
    return Body(canvas, x, z, heading)


def car(canvas: Canvas, random: Random, x: float, z: float, heading: Point) -> None:
    """A hatchback, sedan, wagon or van."""
    kind = random.pick(("hatch", "hatch", "sedan", "wagon", "van"))
    length, height = {"hatch": (4.0, 1.5), "sedan": (4.6, 1.45), "wagon": (4.6, 1.6), "van": (5.0, 2.1)}[kind]
    length, height, half = length * random.real(0.95, 1.05), height * random.real(0.97, 1.06), random.real(0.86, 0.96)
    paint, belt = random.color(random.pick(PAINTS)), random.real(0.82, 0.92) if kind != "van" else random.real(1.0, 1.1)
    body = _vehicle(canvas, CAR, x, z, heading, (length, 2 * half))
    ends, axles = (-length / 2, length / 2), (-length * 0.31, length * 0.31)
    _treads(body, axles, half, 0.32)
    lower = hull(ends, half, (0.26, belt), (0.06, 0.14, 0.05))
    _solid(body, lower, paint)
    _ends(body, lower, 0.6, 0.86)
    rear, slant = {"hatch": (0.05, 0.45), "sedan": (0.75, 0.55), "wagon": (0.05, 0.3), "van": (0.04, 0.1)}[kind]
    front = length * (0.16 if kind == "van" else 0.27)
    cabin = hull((ends[0] + rear, ends[1] - front), half - 0.06, (belt - 0.01, height), (slant, 0.75, 0.17))
    _solid(body, cabin, scaled(paint, 0.96))
    gain = random.real(0.75, 1.15)
    panes = ((0.06, 0.48), (0.53, 0.93)) if kind != "van" or random.chance(0.5) else ((0.62, 0.93),)
    _glaze(body, cabin["right"], panes, 0.12, 0.86, gain)
    _glaze(body, cabin["left"], [(1 - u1, 1 - u0) for u0, u1 in panes], 0.12, 0.86, gain)
    _glaze(body, cabin["rear"], ((0.07, 0.93),), 0.14, 0.88, gain * 0.85)
    _glaze(body, cabin["front"], ((0.05, 0.95),), 0.06, 0.9, gain)
    for side in ("left", "right"):  # sill and the gap between the doors
        body.paint(part(lower[side], 0.0, 1.0, 0.0, 0.14), DARK)
        body.paint(part(lower[side], 0.495, 0.507, 0.14, 1.0), scaled(paint, 0.45))
    _wheels(body, axles, half, 0.33)


def truck(canvas: Canvas, random: Random, x: float, z: float, heading: Point) -> None:
    """A truck: a cab and a tall load."""
    length, height = random.real(6.0, 8.5), random.real(2.9, 3.6)
    body = _vehicle(canvas, TRUCK, x, z, heading, (length, 2.5))
    paint, load = random.color(random.pick(PAINTS)), random.color(random.pick((*PAINTS, WHITE, WHITE)))
    axles = (-length * 0.34, length * 0.36)
    _treads(body, axles, 1.2, 0.46)
    _solid(body, hull((-length / 2, length / 2 - 0.4), 1.15, (0.45, 0.8)), DARK)
    cab = hull((length / 2 - 2.0, length / 2), 1.15, (0.5, random.real(2.4, 2.8)), (0.0, 0.15, 0.05))
    box = hull((-length / 2, length / 2 - 2.2), 1.25, (0.8, height))

    def paint_load() -> None:
        _solid(body, box, load, 0.08)
        body.paint(part(box["rear"], 0.49, 0.51, 0.0, 1.0), scaled(load, 0.5))
        for side in ("left", "right"):
            body.paint(part(box[side], 0.12, 0.88, 0.35, 0.62), random.color(random.pick(PAINTS)))
        for u0, u1 in ((0.02, 0.14), (0.86, 0.98)):
            body.paint(part(box["rear"], u0, u1, 0.02, 0.08), (190.0, 34.0, 28.0))

    def paint_cab() -> None:
        _solid(body, cab, paint)
        _ends(body, cab, 0.12, 0.26)
        _glaze(body, cab["front"], ((0.07, 0.93),), 0.5, 0.86)
        for side, panes in (("right", ((0.35, 0.85),)), ("left", ((0.15, 0.65),))):
            _glaze(body, cab[side], panes, 0.52, 0.84)
    for paint_piece in (paint_cab, paint_load) if heading[1] > 0 else (paint_load, paint_cab):
        paint_piece()
    _wheels(body, axles, 1.2, 0.48)


def bus(canvas: Canvas, random: Random, x: float, z: float, heading: Point) -> None:
    """A city bus with a band of windows, doors and a destination display."""
    length = random.real(8.5, 11.5)
    body = _vehicle(canvas, BUS, x, z, heading, (length, 2.5))
    paint, stripe = random.color(random.pick(PAINTS)), random.color(random.pick(PAINTS))
    axles = (-length * 0.27, length * 0.32)
    _treads(body, axles, 1.2, 0.48)
    box = hull((-length / 2, length / 2), 1.25, (0.32, random.real(2.9, 3.2)), (0.05, 0.12, 0.06))
    _solid(body, box, paint)
    _ends(body, box, 0.16, 0.28)
    count = random.whole(5, 7)
    panes = [((i + 0.06) / count, (i + 0.94) / count) for i in range(count)]
    for side in ("left", "right"):
        body.paint(part(box[side], 0.0, 1.0, 0.0, 0.12), stripe)
        _glaze(body, box[side], panes, 0.42, 0.82)
    body.paint(part(box["right"], 0.55, 0.64, 0.04, 0.82), scaled(canvas.light.glass, 0.7))
    _glaze(body, box["rear"], ((0.1, 0.9),), 0.5, 0.82)
    _glaze(body, box["front"], ((0.05, 0.95),), 0.34, 0.84)
    for side in ("front", "rear"):
        body.paint(part(box[side], 0.2, 0.8, 0.86, 0.96), DARK)
        body.paint(part(box[side], 0.3, 0.7, 0.89, 0.93), (240.0, 170.0, 60.0))
    _wheels(body, axles, 1.23, 0.48)


def clutter(canvas: Canvas, random: Random, x: float, z: float) -> None:
    """Void that stands still: a bin, box, cabinet or container."""
    long, wide, high = random.pick(((0.7, 0.7, 1.15), (0.6, 0.9, 0.7), (0.5, 1.2, 1.3), (1.3, 1.7, 1.3),
                                    (0.9, 0.6, 1.6)))
    canvas.shadow(x, z, wide * 0.8, long * 0.8, 0.6)
    canvas.start(STATIC, z)
    body = Body(canvas, x, z, (0.0, 1.0))
    color = random.color(random.pick((*PAINTS, *METALS)))
    box = hull((-long / 2, long / 2), wide / 2, (0.04, high), (0.0, 0.0, -0.03))
    _solid(body, box, color, 0.1)
    _solid(body, hull((-long / 2 - 0.05, long / 2), wide / 2 + 0.06, (high - 0.14, high)), scaled(color, 0.7))
    if random.chance(0.6):
        body.paint(part(box["rear"], 0.25, 0.75, 0.45, 0.7), random.pick((WHITE, (210.0, 180.0, 60.0), DARK)))
