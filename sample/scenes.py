"""Draws one street scene: layout in 3-D, light, then everything painted back to front.

The same (seed, split, index) gives the same pixels on every machine; see `sample.canvas` for how.
"""
from typing import NamedTuple

import numpy as np

from sample import furniture, people, vehicles
from sample.canvas import HEIGHT, NEAR, WIDTH, Canvas, F
from sample.facades import FACADE_COLORS, facade, fence, house, low_wall
from sample.palette import LEAVES, PAINTS, mix
from sample.randomness import Random
from sample.street import Plan, Side, draw_backdrop, draw_ground, draw_plan, draw_sky

DRAWING_VERSION = 1  # raise it when a pixel changes: samples of another version are drawn anew

EGO, BORDER, OUT_OF_ROI = 1, 2, 3


class DrawnScene(NamedTuple):
    """An image (512, 1024, 3) uint8 RGB with label ids (512, 1024) uint8 and instance ids (512, 1024) uint16."""

    image: np.ndarray
    label_ids: np.ndarray
    instance_ids: np.ndarray


def _line_side(plan: Plan, side: Side, random: Random) -> None:
    """Lines one side of the street with houses, walls, fences, hedges or trees, from near to far."""
    z, x = random.real(0.5, 3.0), side.out(side.front)
    far = random.real(80.0, 130.0) if side.layout == "houses" else random.real(50.0, 90.0)
    floors = random.whole(2, 4)
    while z < far:
        end = z + random.real(8.0, 20.0)
        opening = side.street[1] > 0 and z < side.street[1] and end > side.street[0]
        if opening:
            end = max(z + 0.5, side.street[0])
        kind = side.layout
        if kind == "houses" and random.chance(0.1):
            kind = random.pick(("wall", "fence", "park"))
        _stretch(plan, side, random, kind, x, z, end, floors + random.whole(-1, 1))
        z = max(end, side.street[1]) + 0.5 if opening else end
        if side.layout == "houses" and random.chance(0.15):
            z += random.real(1.5, 6.0)
    if side.street[1] > 0:  # what stands across the side street
        shop = random.color(random.pick(PAINTS))
        far_x, low, high = side.out(side.front + 45.0), side.street[0] - 12.0, side.street[1] + 22.0
        plan.add(0, high, facade, (far_x, low), (far_x, high), 12.0, shop)


def _stretch(plan: Plan, side: Side, random: Random, kind: str, x: float, z: float, end: float, floors: int) -> None:
    """What stands beside the street from depth z to end."""
    if kind == "houses":
        height, color = 3.2 * max(1, floors) + random.real(1.0, 2.6), random.color(random.pick(FACADE_COLORS))
        roof = random.real(1.8, 4.0) if random.chance(0.6) else 0.0
        plan.add(1, end, house, x, z, end, side.sign, height, roof, color)
        return
    tone = random.color(random.pick(FACADE_COLORS))
    if kind == "wall":
        plan.add(1, end, low_wall, (x, z), (x, end), random.real(1.8, 3.4), tone)
    elif kind == "fence":
        plan.add(1, end, fence, (x, z), (x, end), random.real(1.4, 2.3), tone)
    elif kind == "hedge":
        high, step = random.real(1.2, 2.2), z
        while step < end:
            _add_bush(plan, random, 1, x + side.sign * 0.8, step + 1.0, high)
            step += 1.3
    count = {"park": 5, "field": 1}.get(kind, 3)
    for _ in range(count):
        _add_tree(plan, random, 0, x + side.sign * random.real(2.0, 16.0), random.real(z, end) + 3.0)
    if kind in ("park", "field"):
        for _ in range(2):
            _add_bush(plan, random, 0, x + side.sign * random.real(0.8, 9.0), random.real(z, end) + 3.0,
                      random.real(0.6, 1.5))


def _add_tree(plan: Plan, random: Random, layer: int, x: float, z: float) -> None:
    leaf = plan.leaf if random.chance(0.6) else random.pick(LEAVES)
    height, leaf = random.real(4.5, 10.0), random.color(leaf, 0.22)
    plan.add(layer, z, furniture.tree, x, z, height, leaf)


def _add_bush(plan: Plan, random: Random, layer: int, x: float, z: float, high: float) -> None:
    plan.add(layer, z, furniture.bush, x, z, high, random.color(plan.leaf, 0.2))


def _traffic(plan: Plan, random: Random) -> None:
    """Vehicles: parked rows, ahead in one's own lane, oncoming and crossing."""
    left, right = plan.sides

    def vehicle(x: float, z: float, heading: tuple[float, float], big: float) -> None:
        draw, half = vehicles.car, 2.4
        if random.chance(big):
            draw, half = random.pick(((vehicles.truck, 4.3), (vehicles.bus, 5.8)))
            z += half - 2.0
        wide, long = (half, 1.2) if heading[1] == 0 else (1.1, half)
        if z - long > 1.6 and plan.free(x, z, wide, long):
            plan.add(2, z - long * 0.5, draw, x, z, heading)

    for _ in range(random.whole(1, 3)):
        vehicle((plan.lane + right.curb) / 2 + random.real(-0.3, 0.3), random.real(9.0, 45.0), (0.0, 1.0), 0.2)
    for _ in range(random.whole(1, 3)):
        vehicle((plan.lane + left.curb) / 2 + random.real(-0.3, 0.3), random.real(9.0, 50.0), (0.0, -1.0), 0.2)
    for side in plan.sides:
        if not random.chance(0.75 if side.parking else 0.35):
            continue
        x = side.out(1.1 if side.parking else -1.1)
        z = random.real(5.0, 16.0)
        for _ in range(random.whole(2, 6)):
            if not side.street[0] - 3 < z < side.street[1] + 3:
                vehicle(x, z, (0.0, random.pick((1.0, float(side.sign)))), 0.03)
            z += random.real(5.6, 9.0)
    if random.chance(0.3):
        z = max([side.street[0] + 2.5 for side in plan.sides] + [plan.zebra + 5.0, 12.0])
        vehicle(random.real(-5.0, 5.0), z, (random.pick((-1.0, 1.0)), 0.0), 0.15)


def _people(plan: Plan, random: Random) -> None:
    """People on the sidewalks, alone and in groups, some who cross, and riders."""
    for _ in range(random.whole(6, 9)):
        for _ in range(3):  # near people are easily beside the image
            side, tall = random.pick(plan.sides), random.real(50.0, 220.0)  # pixels
            z = plan.camera.focal * 1.75 / tall
            x = side.out(side.parking + random.real(0.3, side.walk - 0.2))
            if plan.seen(x, z):
                break
        for _ in range(random.pick((1, 2, 2, 3))):
            _add_person(plan, random, x, z)
            x, z = x + random.pick((-1, 1)) * random.real(0.5, 0.8), z + random.real(-0.6, 0.8)
    for _ in range(random.whole(2, 4) if plan.zebra else random.whole(0, 3)):
        z = plan.zebra + random.real(-1.2, 1.2) if plan.zebra else random.real(8.0, 24.0)
        _add_person(plan, random, random.real(plan.sides[0].curb, plan.sides[1].curb), z)
    for _ in range(random.whole(0, 3)):
        draw, z = random.pick((people.bicycle, people.bicycle, people.motorcycle)), random.real(7.0, 22.0)
        side, ridden = random.pick(plan.sides), random.chance(0.75)
        sideways = random.chance(0.5) or not ridden
        x = side.out(random.real(-1.4, -0.5) if ridden else side.parking + 0.6)
        plan.place(draw, x, z, (0.9 if sideways else 0.4, 0.5), sideways, ridden)


def _add_person(plan: Plan, random: Random, x: float, z: float) -> None:
    size = random.real(0.9, 1.08) if random.chance(0.88) else random.real(0.62, 0.8)
    if z > 5.0:
        plan.place(people.person, x, z, (0.22, 0.2), size)


def _furniture(plan: Plan, random: Random) -> None:
    """Poles, lamps, signs and lights, street trees, and clutter on the sidewalks."""
    kinds = ["light", "sign", "sign"] + [random.pick(("plain", "lamp", "light", "sign", "board"))
                                         for _ in range(random.whole(4, 7))]
    for kind in kinds:
        side = random.pick(plan.sides)
        z, x = random.real(7.5, 24.0), side.out(side.parking + random.real(0.25, 0.7))
        plan.place(furniture.pole, x, z, (0.25, 0.6), -side.sign, kind)
    for side in plan.sides:
        if random.chance(0.6):
            z = random.real(6.0, 14.0)
            for _ in range(random.whole(2, 5)):
                x = side.out(side.parking + random.real(0.6, 1.0))
                if plan.free(x, z, 0.4, 0.4):
                    _add_tree(plan, random, 2, x, z)
                z += random.real(6.0, 11.0)
    for _ in range(random.whole(0, 3)):
        side = random.pick(plan.sides)
        x, z = side.out(side.parking + max(0.6, side.walk - 0.6)), random.real(6.5, 20.0)
        plan.place(vehicles.clutter, x, z, (0.6, 0.6))
    if random.chance(0.15):
        side = random.pick(plan.sides)
        plan.place(people.stroller_or_dog, side.out(side.parking + 1.2), random.real(7.0, 14.0), (0.6, 0.6))


def _hood(canvas: Canvas, plan: Plan, random: Random) -> None:
    """The hood of the car that carries the camera, which mirrors the sky, at the lower edge."""
    if random.chance(0.08):
        return
    high, bow, middle = random.real(18.0, 72.0), random.real(0.0, 46.0), random.real(0.4, 0.6) * WIDTH
    side = (np.arange(WIDTH, dtype=F) - F(middle)) / F(WIDTH / 2)
    edge = F(HEIGHT - high) + F(bow) * side * side * (F(0.5) + F(0.5) * side * side)
    top = max(0, int(edge.min()))
    window = slice(top, HEIGHT), slice(0, WIDTH)
    below = np.arange(top, HEIGHT, dtype=F)[:, None] + F(0.5) - edge[None, :]
    color = random.color(random.pick((*PAINTS, (30, 31, 34), (40, 44, 52))))
    mirror = random.real(0.1, 0.75)
    shine = np.maximum(F(1) - below / F(high), F(0)) * (F(1) + canvas.slow[window] * F(0.7)) * F(mirror)
    ridge = np.abs(np.abs(side) - F(random.real(0.3, 0.8)))[None, :] - below / F(12000)
    canvas.start(EGO, NEAR)
    planes = [F(base) * F(0.8) + (F(sky) - F(base) * F(0.8)) * shine for base, sky in
              zip(color, mix(plan.light.sky, plan.light.haze, 0.5), strict=True)]
    glow = np.where(ridge < F(0.012), F(1.18), F(1)) * np.where(below < F(2.5), F(0.5), F(1))
    canvas.paint_planes(window, below > 0, [plane * glow for plane in planes], 0.0)


def _border(canvas: Canvas, random: Random) -> None:
    """The black edge that rectification leaves."""
    canvas.start(random.pick((BORDER, OUT_OF_ROI)), NEAR)
    for edge in range(4):
        size = random.whole(0, 7)
        rows = slice(0, size) if edge == 0 else slice(HEIGHT - size, HEIGHT) if edge == 1 else slice(0, HEIGHT)
        columns = slice(0, size) if edge == 2 else slice(WIDTH - size, WIDTH) if edge == 3 else slice(0, WIDTH)
        canvas.rgb[:, rows, columns] = F(random.real(0.0, 8.0))
        canvas.ids[rows, columns] = canvas.pen.label
        canvas.instances[rows, columns] = canvas.pen.instance


def _develop(canvas: Canvas, random: Random) -> np.ndarray:
    """The camera: blur, contrast, cast, noise. Gives (H, W, 3) uint8."""
    rgb = canvas.rgb
    weight = F(random.real(0.12, 0.3))
    for axis in (1, 2):
        soft = rgb * (F(1) - weight - weight)
        inner = [slice(None)] * 3
        for low, high in ((slice(None, -1), slice(1, None)), (slice(1, None), slice(None, -1))):
            target, source = list(inner), list(inner)
            target[axis], source[axis] = low, high
            soft[tuple(target)] += rgb[tuple(source)] * weight
        for end in (0, -1):
            at = list(inner)
            at[axis] = end
            soft[tuple(at)] += rgb[tuple(at)] * weight
        rgb = soft
    contrast = random.real(-0.25, 0.5)
    share = np.minimum(np.maximum(rgb / F(255), F(0)), F(1))
    share += F(contrast) * share * (F(1) - share) * (share + share - F(1))
    noise = random.grid(3, HEIGHT, WIDTH) * F(random.real(2.0, 10.0))
    out = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    for channel in range(3):
        level = share[channel] * F(random.real(236.0, 255.0)) + noise[channel] + canvas.grain * F(3)
        out[..., channel] = np.minimum(np.maximum(level, F(0)), F(255)).astype(np.uint8)
    return out


def draw_scene(seed: int, split: int, index: int) -> DrawnScene:
    """Draws the scene of a seed, a split's number and an index (whole numbers from 0 to 2**32 - 1)."""
    random = Random(seed, split, index)
    plan = draw_plan(random)
    canvas = Canvas(plan.camera, plan.light, random)
    draw_sky(canvas, plan, random)
    draw_backdrop(canvas, plan, random)
    draw_ground(canvas, plan, random)
    for side in plan.sides:
        _line_side(plan, side, random)
    _traffic(plan, random)
    _furniture(plan, random)
    _people(plan, random)
    for *_, painter, look in sorted(plan.things, key=lambda thing: thing[:3]):
        painter(canvas, random, *look)
    _hood(canvas, plan, random)
    _border(canvas, random)
    return DrawnScene(_develop(canvas, random), canvas.ids, canvas.instances)
