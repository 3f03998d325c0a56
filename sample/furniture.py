"""What stands along a street: poles, lamps, lights, signs, trees and bushes.

Each function paints one at a ground point (x, z) in meters on a `Canvas`, with looks drawn from the `Random`.
"""
from sample.canvas import NEAR, Canvas
from sample.palette import BARKS, BLACK, DARK, METALS, WHITE, Color, scaled
from sample.randomness import Random
from sample.sprite import Sprite

POLE, TRAFFIC_LIGHT, TRAFFIC_SIGN = 17, 19, 20
VEGETATION = 21


def pole(canvas: Canvas, random: Random, x: float, z: float, inward: int, kind: str) -> None:
    """A `plain` pole, street `lamp`, traffic `light`, traffic `sign` or `board`; `inward` is the street's side."""
    width = max(random.real(0.14, 0.21), 4.5 * z / canvas.camera.focal)
    canvas.shadow(x, z, 0.4, 0.25, 0.5)
    sprite = Sprite(canvas, x, z, 1.0, inward)
    metal = random.color(random.pick(METALS))
    canvas.start(POLE, z)
    height = {"plain": random.real(2.2, 5.0), "lamp": random.real(5.0, 7.5), "light": random.real(3.2, 4.0),
              "sign": random.real(2.5, 3.3), "board": random.real(3.6, 4.4)}[kind]
    top = height - 0.4 if kind in ("sign", "board") else height
    sprite.limb(((0.0, 0.0), (0.0, top)), width, metal, width * 0.8)
    sprite.limb(((width * 0.24, 0.0), (width * 0.2, top)), width * 0.3, scaled(metal, 0.65))
    sprite.box(0.0, 0.0, width * 1.7, 0.5, scaled(metal, 0.8))
    if kind == "lamp":
        _lamp(sprite, random, height, width, metal)
    elif kind == "light":
        _traffic_light(sprite, random, height, width, metal)
    elif kind != "plain":
        canvas.start(TRAFFIC_SIGN, z)
        _sign(sprite, random, height, kind == "board")


def _lamp(sprite: Sprite, random: Random, height: float, width: float, metal: Color) -> None:
    reach = random.pick((0.0, 1.0, 1.8))
    if reach == 0.0:
        sprite.poly(((-0.16, height), (0.16, height), (0.3, height + 0.6), (-0.3, height + 0.6)), (214.0, 208.0, 190.0))
        sprite.box(0.0, height + 0.58, 0.7, 0.14, scaled(metal, 0.7))
        return
    sprite.limb(((0.0, height), (reach * 0.3, height + 0.45), (reach, height + 0.55)), width * 0.8, metal)
    sprite.disc(reach + 0.2, height + 0.52, 0.5, 0.13, scaled(metal, 0.8))
    sprite.disc(reach + 0.25, height + 0.47, 0.36, 0.07, (236.0, 226.0, 190.0))


def _traffic_light(sprite: Sprite, random: Random, height: float, width: float, metal: Color) -> None:
    reach = random.pick((0.0, 0.0, 0.24, 2.4))
    if reach > 1.0:  # one that hangs over the lane, besides the one at the pole
        sprite.limb(((0.0, 0.0), (0.0, 5.0)), width, metal)
        sprite.limb(((0.0, 4.9), (reach + 0.2, 5.1)), width * 0.8, metal)
    spots = ((0.26, height - 0.9), (reach, 4.5)) if reach > 1.0 else ((reach, height - 0.9),)
    for right, up in spots:
        sprite.canvas.start(TRAFFIC_LIGHT, sprite.canvas.camera.focal / sprite.scale)
        case = random.color(random.pick((DARK, BLACK, (50.0, 66.0, 54.0), (180.0, 150.0, 40.0))))
        sprite.box(right, up - 0.06, 0.54, 1.32, scaled(case, 0.7) if random.chance(0.6) else WHITE)
        sprite.box(right, up, 0.44, 1.2, case)
        if random.chance(0.2):
            continue  # seen from behind
        lit = random.whole(0, 2)
        for index, color in enumerate(((60.0, 220.0, 130.0), (250.0, 180.0, 50.0), (240.0, 50.0, 36.0))):
            sprite.disc(right, up + 0.22 + 0.38 * index, 0.155, 0.155, color if index == lit else scaled(color, 0.25))


def _sign(sprite: Sprite, random: Random, height: float, board: bool) -> None:
    red, blue, yellow = (188.0, 34.0, 36.0), (32.0, 78.0, 156.0), (226.0, 180.0, 40.0)
    size = random.real(0.42, 0.56)
    if board:
        ground = random.pick((blue, (30.0, 104.0, 70.0), WHITE, yellow))
        wide, high = random.real(1.7, 2.8), random.real(0.9, 1.4)
        ink = (30.0, 30.0, 34.0) if ground in (WHITE, yellow) else WHITE
        sprite.box(0.3, height - high, wide, high, ink)
        sprite.box(0.3, height - high + 0.06, wide - 0.12, high - 0.12, random.color(ground, 0.1))
        for row in range(2):
            long = wide * random.real(0.35, 0.7)
            sprite.box(0.3 - wide / 2 + 0.15 + long / 2, height - high * (0.4 + 0.4 * row), long, high * 0.15, ink)
        return
    up = height - size
    shape = random.pick(("ring", "disc", "triangle", "give way", "diamond", "square", "octagon", "back"))
    if shape in ("ring", "disc", "back"):
        rim = {"ring": red, "disc": WHITE, "back": (140.0, 142.0, 140.0)}[shape]
        sprite.disc(0.0, up, size, size, rim)
        inner = {"ring": WHITE, "disc": blue, "back": (120.0, 122.0, 122.0)}[shape]
        sprite.disc(0.0, up, size * 0.74, size * 0.74, random.color(inner, 0.08))
        if shape != "back":
            sprite.box(0.0, up - size * 0.3, size * 0.5, size * 0.6, DARK if shape == "ring" else WHITE)
    elif shape in ("triangle", "give way"):
        turn = 1 if shape == "triangle" else -1
        for share, color in ((1.15, red), (0.62, WHITE)):
            wide, low = size * share, turn * size * share * 0.6
            sprite.poly(((-wide, up - low), (wide, up - low), (0.0, up + turn * size * share * 1.05)), color)
    elif shape == "square":
        sprite.box(0.0, up - size, size * 2, size * 2, WHITE)
        sprite.box(0.0, up - size * 0.9, size * 1.8, size * 1.8, random.color(random.pick((blue, blue, yellow)), 0.1))
        sprite.box(0.0, up - size * 0.6, size * 0.5, size * 1.2, WHITE)
    else:
        corner = 0.0 if shape == "diamond" else 0.42
        for share, color in ((1.15, WHITE), (0.95, yellow if shape == "diamond" else red)):
            r, c = size * share, size * share * corner
            sprite.poly(((r, up - c), (r, up + c), (c, up + r), (-c, up + r), (-r, up + c), (-r, up - c), (-c, up - r),
                         (c, up - r)), color)
        if shape == "octagon":
            sprite.box(0.0, up - size * 0.15, size * 1.2, size * 0.3, WHITE)


def tree(canvas: Canvas, random: Random, x: float, z: float, height: float, leaf: Color) -> None:
    """A broad-leaved tree or, at times, a conifer; its trunk counts as vegetation."""
    canvas.shadow(x - 0.5 * canvas.light.sun, z, height * 0.32, min(height * 0.3, z - NEAR), canvas.light.shadow)
    canvas.start(VEGETATION, z)
    sprite = Sprite(canvas, x, z)
    scale, (foot_x, foot_y) = sprite.scale, sprite.foot
    trunk, lean = height * random.real(0.24, 0.36), random.real(-0.2, 0.2)
    bark = random.color(random.pick(BARKS))
    start, end = sprite.at(0.0, 0.0), sprite.at(lean, trunk * 1.6)
    canvas.bar(start, end, scale * height * 0.05, bark, scale * height * 0.03, 0.5)
    lobes = []
    if random.chance(0.15):
        for step in range(6):
            up, wide = trunk * 0.7 + (height - trunk * 0.7) * step / 6, height * 0.24 * (1 - step / 6.5)
            lobes.append((0.0, -up * scale, wide * scale, height * 0.11 * scale))
    else:
        wide, middle = height * random.real(0.24, 0.34), (height + trunk) / 2
        for _ in range(random.whole(6, 9)):
            right, up = random.real(-0.75, 0.75) * wide, middle + random.real(-0.6, 0.6) * (height - middle)
            size = wide * random.real(0.45, 0.75)
            lobes.append((right * scale, -up * scale, size * scale, size * random.real(0.7, 1.0) * scale))
        for side in (-1, 1):
            canvas.bar(sprite.at(lean * 0.8, trunk), sprite.at(side * wide * 0.6, middle), scale * height * 0.022, bark)
    canvas.blob(foot_x + lean * scale, foot_y, lobes, leaf)


def bush(canvas: Canvas, random: Random, x: float, z: float, height: float, leaf: Color) -> None:
    """A bush or a piece of hedge."""
    canvas.start(VEGETATION, z)
    sprite = Sprite(canvas, x, z)
    lobes = []
    for _ in range(random.whole(2, 5)):
        size = height * random.real(0.5, 0.7)
        lobes.append((random.real(-1.0, 1.0) * height * sprite.scale, -size * 0.7 * sprite.scale,
                      size * 1.2 * sprite.scale, size * 0.75 * sprite.scale))
    canvas.blob(*sprite.foot, lobes, leaf, 0.6, False)
