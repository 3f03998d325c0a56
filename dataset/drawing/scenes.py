"""Draws one street scene: layout in 3-D, light, then everything painted back to front.

The same (seed, split, index) gives the same pixels on every machine; see `dataset.drawing.canvas` for how.
"""
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dataset.drawing import furniture, people, vehicles
from dataset.drawing.canvas import HEIGHT, NEAR, WIDTH, Canvas, Dice, mix
from dataset.drawing.facades import FACADE_COLORS, facade, fence, gable, low_wall
from dataset.drawing.palette import LEAVES, PAINTS
from dataset.drawing.street import Plan, Side, draw_backdrop, draw_ground, draw_plan, draw_sky

DRAWING_VERSION = 1  # raise it when a pixel changes: samples of another version are drawn anew

EGO, BORDER, OUT_OF_ROI = 1, 2, 3
F = np.float32


class Scene(NamedTuple):
    """A picture (512, 1024, 3) uint8 RGB with label ids (512, 1024) uint8 and instance ids (512, 1024) uint16."""

    image: np.ndarray
    label_ids: np.ndarray
    instance_ids: np.ndarray


def _line_side(canvas: Canvas, plan: Plan, side: Side, dice: Dice) -> None:
    """Lines one side of the street with houses, walls, fences, hedges or trees, from near to far."""
    z, x = dice.real(0.5, 3.0), side.out(side.front)
    far = dice.real(80.0, 130.0) if side.layout == "houses" else dice.real(50.0, 90.0)
    floors = dice.whole(2, 4)
    while z < far:
        end = z + dice.real(8.0, 20.0)
        opening = side.street[1] > 0 and z < side.street[1] and end > side.street[0]
        if opening:
            end = max(z + 0.5, side.street[0])
        kind = side.layout
        if kind == "houses" and dice.chance(0.1):
            kind = dice.pick(("wall", "fence", "park"))
        _stretch(canvas, plan, side, dice, kind, x, z, end, floors + dice.whole(-1, 1))
        z = max(end, side.street[1]) + 0.5 if opening else end
        if side.layout == "houses" and dice.chance(0.15):
            z += dice.real(1.5, 6.0)
    if side.street[1] > 0:  # what stands across the side street
        shop = dice.color(dice.pick(PAINTS))
        far_x, low, high = side.out(side.front + 45.0), side.street[0] - 12.0, side.street[1] + 22.0
        plan.jobs.append((0, high, lambda: facade(canvas, dice, (far_x, low), (far_x, high), 12.0, shop)))


def _stretch(canvas: Canvas, plan: Plan, side: Side, dice: Dice, kind: str, x: float, z: float, end: float,
             floors: int) -> None:
    """What stands beside the street from depth z to end."""
    if kind == "houses":
        height, color = 3.2 * max(1, floors) + dice.real(1.0, 2.6), dice.color(dice.pick(FACADE_COLORS))
        roof = dice.real(1.8, 4.0) if dice.chance(0.6) else 0.0

        def house() -> None:
            gable(canvas, dice, x, z, side.sign, height, roof, color)
            facade(canvas, dice, (x, z), (x, end), height, color, roof, side.sign)
        plan.jobs.append((1, end, house))
        return
    tone = dice.color(dice.pick(FACADE_COLORS))
    if kind == "wall":
        high = dice.real(1.8, 3.4)
        plan.jobs.append((1, end, lambda: low_wall(canvas, dice, (x, z), (x, end), high, tone)))
    elif kind == "fence":
        high = dice.real(1.4, 2.3)
        plan.jobs.append((1, end, lambda: fence(canvas, dice, (x, z), (x, end), high, tone)))
    elif kind == "hedge":
        high, step = dice.real(1.2, 2.2), z
        while step < end:
            _add_bush(canvas, plan, dice, 1, x + side.sign * 0.8, step + 1.0, high)
            step += 1.3
    count = {"park": 5, "field": 1}.get(kind, 3)
    for _ in range(count):
        _add_tree(canvas, plan, dice, 0, x + side.sign * dice.real(2.0, 16.0), dice.real(z, end) + 3.0)
    if kind in ("park", "field"):
        for _ in range(2):
            _add_bush(canvas, plan, dice, 0, x + side.sign * dice.real(0.8, 9.0), dice.real(z, end) + 3.0,
                      dice.real(0.6, 1.5))


def _add_tree(canvas: Canvas, plan: Plan, dice: Dice, layer: int, x: float, z: float) -> None:
    leaf = plan.leaf if dice.chance(0.6) else dice.pick(LEAVES)
    height, leaf = dice.real(4.5, 10.0), dice.color(leaf, 0.22)
    plan.jobs.append((layer, z, lambda: furniture.tree(canvas, dice, x, z, height, leaf)))


def _add_bush(canvas: Canvas, plan: Plan, dice: Dice, layer: int, x: float, z: float, high: float) -> None:
    leaf = dice.color(plan.leaf, 0.2)
    plan.jobs.append((layer, z, lambda: furniture.bush(canvas, dice, x, z, high, leaf)))


def _add(plan: Plan, z: float, painter: Callable[[], None]) -> None:
    plan.jobs.append((2, z, painter))


def _traffic(canvas: Canvas, plan: Plan, dice: Dice) -> None:
    """Vehicles: parked rows, ahead in one's own lane, oncoming and crossing."""
    left, right = plan.sides

    def vehicle(x: float, z: float, heading: tuple[float, float], big: float) -> None:
        draw, half = (vehicles.car, 2.4)
        if dice.chance(big):
            draw, half = dice.pick(((vehicles.truck, 4.3), (vehicles.bus, 5.8)))
            z += half - 2.0
        wide, long = (half, 1.2) if heading[1] == 0 else (1.1, half)
        if z - long > 1.6 and plan.free(x, z, wide, long):
            _add(plan, z - long * 0.5, lambda: draw(canvas, dice, x, z, heading))

    for _ in range(dice.whole(1, 3)):
        vehicle((plan.lane + right.kerb) / 2 + dice.real(-0.3, 0.3), dice.real(9.0, 45.0), (0.0, 1.0), 0.2)
    for _ in range(dice.whole(1, 3)):
        vehicle((plan.lane + left.kerb) / 2 + dice.real(-0.3, 0.3), dice.real(9.0, 50.0), (0.0, -1.0), 0.2)
    for side in plan.sides:
        if not dice.chance(0.75 if side.parking else 0.35):
            continue
        x = side.out(1.1 if side.parking else -1.1)
        z = dice.real(5.0, 16.0)
        for _ in range(dice.whole(2, 6)):
            if not side.street[0] - 3 < z < side.street[1] + 3:
                vehicle(x, z, (0.0, dice.pick((1.0, float(side.sign)))), 0.03)
            z += dice.real(5.6, 9.0)
    if dice.chance(0.3):
        z = max([side.street[0] + 2.5 for side in plan.sides] + [plan.zebra + 5.0, 12.0])
        vehicle(dice.real(-5.0, 5.0), z, (dice.pick((-1.0, 1.0)), 0.0), 0.15)


def _people(canvas: Canvas, plan: Plan, dice: Dice) -> None:
    """People on the sidewalks, alone and in groups, some who cross, and riders."""
    for _ in range(dice.whole(6, 9)):
        for _ in range(3):  # near people are easily beside the picture
            side, tall = dice.pick(plan.sides), dice.real(50.0, 220.0)  # pixels
            z = plan.camera.focal * 1.75 / tall
            x = side.out(side.parking + dice.real(0.3, side.walk - 0.2))
            if plan.seen(x, z):
                break
        for _ in range(dice.pick((1, 2, 2, 3))):
            _add_person(canvas, plan, dice, x, z)
            x, z = x + dice.pick((-1, 1)) * dice.real(0.5, 0.8), z + dice.real(-0.6, 0.8)
    for _ in range(dice.whole(2, 4) if plan.zebra else dice.whole(0, 3)):
        z = plan.zebra + dice.real(-1.2, 1.2) if plan.zebra else dice.real(8.0, 24.0)
        _add_person(canvas, plan, dice, dice.real(plan.sides[0].kerb, plan.sides[1].kerb), z)
    for _ in range(dice.whole(0, 3)):
        draw, z = dice.pick((people.bicycle, people.bicycle, people.motorcycle)), dice.real(7.0, 22.0)
        side, ridden = dice.pick(plan.sides), dice.chance(0.75)
        sideways = dice.chance(0.5) or not ridden
        x = side.out(dice.real(-1.4, -0.5) if ridden else side.parking + 0.6)
        _add_cycle(canvas, plan, dice, draw, x, z, sideways, ridden)


def _add_cycle(canvas: Canvas, plan: Plan, dice: Dice, draw: Callable[..., None], x: float, z: float, sideways: bool,
               ridden: bool) -> None:
    if plan.seen(x, z) and plan.free(x, z, 0.9 if sideways else 0.4, 0.5):
        _add(plan, z, lambda: draw(canvas, dice, x, z, sideways, ridden))


def _add_person(canvas: Canvas, plan: Plan, dice: Dice, x: float, z: float) -> None:
    size = dice.real(0.9, 1.08) if dice.chance(0.88) else dice.real(0.62, 0.8)
    if z > 5.0 and plan.seen(x, z) and plan.free(x, z, 0.22, 0.2):
        _add(plan, z, lambda: people.person(canvas, dice, x, z, size))


def _furniture(canvas: Canvas, plan: Plan, dice: Dice) -> None:
    """Poles, lamps, signs and lights, street trees, and clutter on the sidewalks."""
    kinds = ["light", "sign", "sign"] + [dice.pick(("plain", "lamp", "light", "sign", "board"))
                                         for _ in range(dice.whole(4, 7))]
    for kind in kinds:
        side = dice.pick(plan.sides)
        z, x = dice.real(7.5, 24.0), side.out(side.parking + dice.real(0.25, 0.7))
        _add_pole(canvas, plan, dice, x, z, -side.sign, kind)
    for side in plan.sides:
        if dice.chance(0.6):
            z = dice.real(6.0, 14.0)
            for _ in range(dice.whole(2, 5)):
                x = side.out(side.parking + dice.real(0.6, 1.0))
                if plan.free(x, z, 0.4, 0.4):
                    _add_tree(canvas, plan, dice, 2, x, z)
                z += dice.real(6.0, 11.0)
    for _ in range(dice.whole(0, 3)):
        side = dice.pick(plan.sides)
        x, z = side.out(side.parking + max(0.6, side.walk - 0.6)), dice.real(6.5, 20.0)
        _add_clutter(canvas, plan, dice, vehicles.clutter, x, z)
    if dice.chance(0.15):
        side = dice.pick(plan.sides)
        _add_clutter(canvas, plan, dice, people.stroller_or_dog, side.out(side.parking + 1.2), dice.real(7.0, 14.0))


def _add_pole(canvas: Canvas, plan: Plan, dice: Dice, x: float, z: float, inward: int, kind: str) -> None:
    if plan.seen(x, z) and plan.free(x, z, 0.25, 0.6):
        _add(plan, z, lambda: furniture.pole(canvas, dice, x, z, inward, kind))


def _add_clutter(canvas: Canvas, plan: Plan, dice: Dice, draw: Callable[..., None], x: float, z: float) -> None:
    if plan.seen(x, z) and plan.free(x, z, 0.6, 0.6):
        _add(plan, z, lambda: draw(canvas, dice, x, z))


def _hood(canvas: Canvas, plan: Plan, dice: Dice) -> None:
    """The hood of the car that carries the camera, which mirrors the sky, at the lower edge."""
    if dice.chance(0.08):
        return
    high, bow, middle = dice.real(18.0, 72.0), dice.real(0.0, 46.0), dice.real(0.4, 0.6) * WIDTH
    side = (np.arange(WIDTH, dtype=F) - F(middle)) / F(WIDTH / 2)
    edge = F(HEIGHT - high) + F(bow) * side * side * (F(0.5) + F(0.5) * side * side)
    top = max(0, int(edge.min()))
    window = slice(top, HEIGHT), slice(0, WIDTH)
    below = np.arange(top, HEIGHT, dtype=F)[:, None] + F(0.5) - edge[None, :]
    color = dice.color(dice.pick((*PAINTS, (30, 31, 34), (40, 44, 52))))
    mirror = dice.real(0.1, 0.75)
    shine = np.maximum(F(1) - below / F(high), F(0)) * (F(1) + canvas.slow[window] * F(0.7)) * F(mirror)
    ridge = np.abs(np.abs(side) - F(dice.real(0.3, 0.8)))[None, :] - below / F(12000)
    canvas.start(EGO, NEAR)
    planes = [F(base) * F(0.8) + (F(sky) - F(base) * F(0.8)) * shine for base, sky in
              zip(color, mix(plan.light.sky, plan.light.haze, 0.5), strict=True)]
    glow = np.where(ridge < F(0.012), F(1.18), F(1)) * np.where(below < F(2.5), F(0.5), F(1))
    canvas.paint_planes(window, below > 0, [plane * glow for plane in planes], 0.0)


def _border(canvas: Canvas, dice: Dice) -> None:
    """The black edge that rectification leaves."""
    canvas.start(dice.pick((BORDER, OUT_OF_ROI)), NEAR)
    for edge in range(4):
        size = dice.whole(0, 7)
        rows = slice(0, size) if edge == 0 else slice(HEIGHT - size, HEIGHT) if edge == 1 else slice(0, HEIGHT)
        columns = slice(0, size) if edge == 2 else slice(WIDTH - size, WIDTH) if edge == 3 else slice(0, WIDTH)
        canvas.rgb[:, rows, columns] = F(dice.real(0.0, 8.0))
        canvas.ids[rows, columns] = canvas.pen.label
        canvas.instances[rows, columns] = canvas.pen.instance


def _develop(canvas: Canvas, dice: Dice) -> np.ndarray:
    """The camera: blur, contrast, cast, noise. Gives (H, W, 3) uint8."""
    rgb = canvas.rgb
    weight = F(dice.real(0.12, 0.3))
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
    contrast = dice.real(-0.25, 0.5)
    share = np.minimum(np.maximum(rgb / F(255), F(0)), F(1))
    share += F(contrast) * share * (F(1) - share) * (share + share - F(1))
    noise = dice.grid(3, HEIGHT, WIDTH) * F(dice.real(2.0, 10.0))
    out = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    for channel in range(3):
        level = share[channel] * F(dice.real(236.0, 255.0)) + noise[channel] + canvas.grain * F(3)
        out[..., channel] = np.minimum(np.maximum(level, F(0)), F(255)).astype(np.uint8)
    return out


def draw_scene(seed: int, split: int, index: int) -> Scene:
    """Draws the scene of a seed, a split's number and an index (whole numbers from 0 to 2**32 - 1)."""
    dice = Dice(seed, split, index)
    plan = draw_plan(dice)
    canvas = Canvas(plan.camera, plan.light, dice)
    draw_sky(canvas, plan, dice)
    draw_backdrop(canvas, plan, dice)
    draw_ground(canvas, plan, dice)
    for side in plan.sides:
        _line_side(canvas, plan, side, dice)
    _traffic(canvas, plan, dice)
    _furniture(canvas, plan, dice)
    _people(canvas, plan, dice)
    for _, _, painter in sorted(plan.jobs, key=lambda job: (job[0], -job[1])):
        painter()
    _hood(canvas, plan, dice)
    _border(canvas, dice)
    return Scene(_develop(canvas, dice), canvas.ids, canvas.instances)
