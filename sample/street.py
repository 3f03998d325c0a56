"""The street itself: how it is laid out and lit, and what lies behind and below everything that stands in it."""
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from sample.camera import Camera, Light
from sample.canvas import HEIGHT, WIDTH, Canvas, F
from sample.facades import FACADE_COLORS, facade
from sample.palette import LEAVES, Color, mix, scaled
from sample.randomness import Random

ROAD, SIDEWALK, PARKING, VEGETATION, TERRAIN, SKY = 7, 8, 9, 21, 22, 23


@dataclass
class Side:
    """One side of the street: how its strips follow one another outwards from the edge of the road (X in meters)."""

    sign: int
    layout: str
    curb: float
    parking: float
    walk: float
    verge: float
    street: tuple[float, float]  # depths between which a side street opens, (0, 0) if none does

    def out(self, distance: float) -> float:
        """The X that lies `distance` meters outside the road's edge."""
        return self.sign * (abs(self.curb) + distance)

    @property
    def front(self) -> float:
        """How far outside the road's edge the houses stand."""
        return self.parking + self.walk + self.verge


@dataclass
class Plan:
    """What a scene is made of, and the things to paint, far to near within a layer."""

    camera: Camera
    light: Light
    mood: str
    sides: tuple[Side, Side]
    leaf: Color
    lane: float  # X of the line between the two directions
    zebra: float  # depth of a zebra crossing, 0 if there is none
    things: list[tuple] = field(default_factory=list)
    taken: list[tuple[float, float, float, float]] = field(default_factory=list)

    def add(self, layer: int, depth: float, painter: Callable[..., None], *look: object) -> None:
        """Adds a thing, which painter(canvas, random, *look) paints."""
        self.things.append((layer, -depth, len(self.things), painter, look))

    def place(self, painter: Callable[..., None], x: float, z: float, half: tuple[float, float], *look: object) -> None:
        """Adds a thing at the ground point (x, z), unless it cannot be seen or something stands within `half` sizes."""
        if self.seen(x, z) and self.free(x, z, *half):
            self.add(2, z, painter, x, z, *look)

    def free(self, x: float, z: float, wide: float, long: float) -> bool:
        """Whether nothing stands yet within the half sizes about (x, z); if so, the place is taken."""
        for x0, z0, wide0, long0 in self.taken:
            if abs(x - x0) < wide + wide0 and abs(z - z0) < long + long0:
                return False
        self.taken.append((x, z, wide, long))
        return True

    def seen(self, x: float, z: float) -> bool:
        """Whether the ground point's column lies in the image, more than 20 pixels from its edges."""
        return 20.0 < self.camera.point(x, 0.0, z)[0] < WIDTH - 20.0


MOODS = {  # sky above, sky at the horizon, clouds, gain of the light
    "clear": ((88, 134, 200), (196, 212, 226), (240, 240, 238), (1.06, 1.02, 0.96)),
    "bright": ((150, 186, 222), (226, 232, 236), (248, 248, 246), (1.1, 1.06, 1.0)),
    "overcast": ((196, 200, 204), (220, 222, 222), (172, 176, 182), (0.88, 0.9, 0.92)),
    "white": ((230, 230, 228), (240, 240, 238), (220, 222, 224), (0.94, 0.94, 0.94)),
    "dusk": ((96, 98, 132), (238, 172, 116), (204, 132, 112), (0.82, 0.68, 0.58)),
    "gloom": ((112, 118, 126), (150, 152, 154), (88, 92, 100), (0.64, 0.66, 0.7)),
}


def _light(random: Random) -> tuple[Light, str]:
    mood = random.pick(("clear", "clear", "bright", "overcast", "overcast", "white", "dusk", "gloom"))
    above, horizon, _, gain = MOODS[mood]
    cast = random.real(0.92, 1.08), random.real(0.95, 1.04), random.real(0.9, 1.08)
    level = random.real(0.86, 1.12)
    shaded = {"clear": 0.45, "bright": 0.5, "dusk": 0.3}.get(mood, 0.12) * random.real(0.8, 1.15)
    glass = mix((34.0, 40.0, 46.0), mix(above, horizon, 0.4), random.real(0.15, 0.6))
    return Light(gain=(gain[0] * cast[0] * level, gain[1] * cast[1] * level, gain[2] * cast[2] * level),
                 haze=random.color(horizon, 0.08), sight=random.real(120.0, 420.0), sky=random.color(above, 0.1),
                 glass=glass, shadow=shaded, sun=random.pick((-1, 1))), mood


def draw_plan(random: Random) -> Plan:
    """Draws the camera, the light and how the street is laid out."""
    camera = Camera(focal=random.real(640.0, 880.0), center=WIDTH * random.real(0.36, 0.64),
                    horizon=HEIGHT * random.real(0.3, 0.53), height=random.real(1.35, 2.0),
                    bend=random.pick((0.0, 0.0, 1.0, -1.0)) * random.real(0.0008, 0.003))
    light, mood = _light(random)
    width = random.real(6.5, 11.5)
    share = random.real(0.5, 0.74)
    sides = []
    for sign, curb in ((-1, -width * share), (1, width * (1 - share))):
        layout = random.pick(("houses",) * 13 + ("park", "park", "field", "wall", "fence", "hedge"))
        at = random.real(14.0, 45.0)
        street = (at, at + random.real(5.0, 9.0)) if random.chance(0.45) else (0.0, 0.0)
        sides.append(Side(sign, layout, curb, parking=random.pick((0.0, 0.0, 2.3)), walk=random.real(1.8, 4.2),
                          verge=random.pick((0.0, 0.0, random.real(0.8, 3.0))), street=street))
    return Plan(camera, light, mood, (sides[0], sides[1]), leaf=random.pick(LEAVES),
                lane=random.real(-2.0, -0.4), zebra=random.real(9.0, 24.0) if random.chance(0.45) else 0.0)


def draw_sky(canvas: Canvas, plan: Plan, random: Random) -> None:
    """The sky from above to the horizon, with clouds."""
    _, _, cloud, _ = MOODS[plan.mood]
    light = plan.light
    rows = min(HEIGHT, int(plan.camera.horizon) + 40)
    window = slice(0, rows), slice(0, WIDTH)
    fall = (np.arange(rows, dtype=F) / F(rows))[:, None]
    noise = canvas.slow[window] * F(0.9) + canvas.clumps[window] * F(0.35) * (F(1.2) - fall)
    cover = np.minimum(np.maximum(noise + F(random.real(-0.5, 0.5)), F(0)), F(1)) * F(random.real(0.3, 0.95))
    canvas.start(SKY, 1000.0)
    cloud = random.color(cloud, 0.06)
    for plane, top, low, puff in zip(canvas.rgb, light.sky, light.haze, cloud, strict=True):
        clear = F(top) + (F(low) - F(top)) * fall * (F(2) - fall)
        plane[window] = clear + (F(puff) - clear) * cover
    canvas.mark(window, np.ones((rows, WIDTH), bool))


def draw_backdrop(canvas: Canvas, plan: Plan, random: Random) -> None:
    """Hills, a line of trees and, at times, houses far away."""
    camera = plan.camera
    for depth, tall in ((700.0, 60), (320.0, 30)) if random.chance(0.8) else ((400.0, 26),):
        base = random.real(0.25, 1.0) * tall
        ridge = F(base) * (F(1) + F(0.5) * canvas.slow[10] + F(0.2) * canvas.clumps[30])
        top = max(0, int(camera.horizon - base * 2))
        window = slice(top, HEIGHT), slice(0, WIDTH)
        rows = np.arange(top, HEIGHT, dtype=F)[:, None] + F(0.5)
        canvas.start(VEGETATION, depth)
        shade = F(0.9) + canvas.leaves[window] * F(0.25)
        canvas.paint(window, (rows > F(camera.horizon) - ridge) & (rows < F(camera.horizon + 14)),
                     scaled(random.color(plan.leaf), 0.8), shade)
    if random.chance(0.5):
        for _ in range(random.whole(2, 6)):
            z = random.real(110.0, 200.0)
            left = (random.real(-0.1, 1.0) * WIDTH - camera.center) * z / camera.focal - camera.bend * z * z
            facade(canvas, random, (left, z), (left + random.real(8.0, 24.0), z), random.real(7.0, 20.0),
                   random.color(random.pick(FACADE_COLORS)))


def draw_ground(canvas: Canvas, plan: Plan, random: Random) -> None:
    """Road, parking strips, sidewalks, verges and what lies beyond, with markings, paving and long shadows."""
    camera, (left, right) = plan.camera, plan.sides
    top = max(0, int(camera.horizon) + 1)
    rows = np.arange(top, HEIGHT, dtype=F) + F(0.5)
    z = np.minimum(F(camera.focal * camera.height) / np.maximum(rows - F(camera.horizon), F(0.5)), F(900))[:, None]
    x = (np.arange(WIDTH, dtype=F) + F(0.5 - camera.center))[None, :] * (z / F(camera.focal)) - F(camera.bend) * z * z
    limits = [left.out(left.front), left.out(left.parking + left.walk), left.out(left.parking), left.curb,
              right.curb, right.out(right.parking), right.out(right.parking + right.walk), right.out(right.front)]
    zone = np.zeros(x.shape, np.uint8)
    for limit in limits:
        zone += x > F(limit)
    for side, road_side in ((left, zone < 4), (right, zone > 4)):
        if side.street[1] > 0:
            np.copyto(zone, np.uint8(4), where=road_side & (z > F(side.street[0])) & (z < F(side.street[1])))
    grass = random.color(random.pick(((92, 112, 58), (120, 122, 66), (128, 108, 72), (84, 100, 60), (142, 130, 92))))
    road = random.color(random.pick(((104, 104, 106), (84, 85, 88), (126, 125, 122), (116, 108, 100), (96, 100, 106))))
    paved = random.color(random.pick(((148, 144, 138), (126, 124, 124), (162, 150, 138), (138, 118, 106),
                                      (112, 112, 116))))
    park = mix(road, random.color((130, 124, 118)), random.real(0.2, 1.0))
    outer = [(PARKING, paved) if side.layout == "houses" and random.chance(0.3) else (TERRAIN, grass)
             for side in plan.sides]
    labels, colors = zip(outer[0], (TERRAIN, grass), (SIDEWALK, paved), (PARKING, park), (ROAD, road), (PARKING, park),
                         (SIDEWALK, paved), (TERRAIN, grass), outer[1], strict=True)
    shade = _surface(canvas, plan, random, x, z, zone)
    window = slice(top, HEIGHT), slice(0, WIDTH)
    table = np.array(colors, F)
    ids = np.array(labels, np.uint8)[zone]
    everywhere = np.ones(x.shape, bool)
    canvas.paint_planes(window, everywhere, [table[:, channel][zone] * shade for channel in range(3)],
                        canvas.fade_at(z))
    canvas.ids[window] = ids
    canvas.instances[window] = ids
    _markings(canvas, plan, random, window, x, z, zone == 4)


def _surface(canvas: Canvas, plan: Plan, random: Random, x: np.ndarray, z: np.ndarray, zone: np.ndarray) -> np.ndarray:
    """How bright the ground is, (h, w) float32 about 1: grain, stains, paving, curbs and the shadow of one side."""
    tile = canvas.fine[:256, :256]
    close = np.minimum(F(9) / z, F(1))
    far_x, far_z = (x * F(9)).astype(np.int32) & 255, (z * F(3)).astype(np.int32) & 255
    near_x, near_z = (x * F(60)).astype(np.int32) & 255, (z * F(40)).astype(np.int32) & 255
    rough = tile[near_z, near_x] * close
    soft = canvas.clumps[:256, :256][far_z, far_x]
    terrain = (zone < 2) | (zone > 6)
    shade = F(1) + soft * F(random.real(0.08, 0.16)) + rough * F(random.real(0.14, 0.24))
    np.copyto(shade, F(1) + soft * F(0.36) + rough * F(0.6), where=terrain)
    walk = (zone == 2) | (zone == 6)
    pave = random.real(0.4, 0.9)
    grid_x, grid_z = x / F(pave), z / F(pave)
    seam = (grid_x - np.floor(grid_x) < F(0.07)) | (grid_z - np.floor(grid_z) < F(0.09))
    np.copyto(shade, shade * (F(1) - F(0.3) * close), where=walk & seam)
    for side in plan.sides:
        edge = side.out(side.parking)
        off = (x - F(edge)) * F(side.sign)
        border = walk & (off < F(0.24))
        np.copyto(shade, F(1.25) + rough * F(0.1), where=border)
        np.copyto(shade, shade * F(0.6), where=(off > F(-0.12)) & (off <= F(0)) & ((zone > 2) & (zone < 6)))
    if plan.light.shadow > 0.2:
        side = plan.sides[0 if plan.light.sun < 0 else 1]
        reach = np.array([random.real(-1.0, side.front + 3.5) for _ in range(128)], F)
        limit = F(abs(side.out(side.front))) - reach[np.minimum(z / F(7), F(127)).astype(np.int32)]
        np.copyto(shade, shade * F(1 - plan.light.shadow), where=x * F(side.sign) > limit)
    return shade


def _markings(canvas: Canvas, plan: Plan, random: Random, window: tuple[slice, slice], x: np.ndarray, z: np.ndarray,
              road: np.ndarray) -> None:
    """Patches, lines and zebra crossings on the road: color only."""
    left, right = plan.sides
    white = random.color((216, 214, 206), 0.12)
    lines = np.zeros(x.shape, bool)
    if random.chance(0.85):
        dash = z / F(6) + F(random.real(0, 1))
        lines |= (np.abs(x - F(plan.lane)) < F(0.08)) & (dash - np.floor(dash) < F(random.pick((0.5, 0.35, 1.0))))
    if random.chance(0.4):
        for edge in (left.curb + 0.35, right.curb - 0.35):
            lines |= np.abs(x - F(edge)) < F(0.07)
    if plan.zebra > 0:
        stripe = x / F(1.0)
        lines |= (stripe - np.floor(stripe) < F(0.5)) & (np.abs(z - F(plan.zebra)) < F(1.7))
    worn = canvas.leaves[window] > F(random.real(-0.9, -0.25))
    for _ in range(random.whole(1, 4)):
        px, pz, wide, long = random.real(-6, 4), random.real(5, 30), random.real(0.3, 1.4), random.real(0.5, 4.0)
        patch = road & (np.abs(x - F(px)) < F(wide)) & (np.abs(z - F(pz)) < F(long))
        gain = F(random.pick((0.72, 0.85, 1.14)))
        rgb = canvas.rgb[(slice(None), *window)]
        np.multiply(rgb, gain, out=rgb, where=patch)
    lines &= road & worn
    for plane, value, haze, gain in zip(canvas.rgb, white, plan.light.haze, plan.light.gain, strict=True):
        line = F(value * gain)
        new = np.broadcast_to(line + (F(haze) - line) * canvas.fade_at(z), x.shape)
        np.copyto(plane[window], plane[window] * F(0.2) + new * F(0.8), where=lines)
    if random.chance(0.3):  # a wet road shows the sky, the more the flatter one looks at it
        wet = np.minimum(z / F(60), F(0.6)) * F(random.real(0.4, 0.9))
        for plane, value in zip(canvas.rgb, plan.light.haze, strict=True):
            np.copyto(plane[window], plane[window] * F(0.92) + (F(value) - plane[window]) * wet, where=road)
