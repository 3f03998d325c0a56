"""People, riders and their two wheels, dogs and strollers.

Each function paints one at a ground point (x, z) in meters on a `Canvas`, with looks drawn from the `Random`.
"""
from sample.canvas import CIRCLE, Canvas
from sample.palette import BLACK, CLOTHES, DARK, HAIRS, PAINTS, SKINS, WHITE, scaled
from sample.randomness import Random
from sample.sprite import Sprite

DYNAMIC = 5
PERSON, RIDER = 24, 25
MOTORCYCLE, BICYCLE = 32, 33


def _head(sprite: Sprite, random: Random, right: float, up: float, helmet: bool = False) -> None:
    """A head with hair or helmet; some look away from the camera."""
    skin, hair = random.color(random.pick(SKINS)), random.color(random.pick(HAIRS))
    away, turned = random.chance(0.4), random.pick((-0.03, 0.0, 0.03))
    sprite.box(right, up - 0.2, 0.12, 0.14, scaled(skin, 0.8))
    if helmet:
        sprite.disc(right, up, 0.105, 0.14, skin)
        sprite.disc(right - 0.01, up + 0.06, 0.14, 0.12, random.color(random.pick(PAINTS)))
        return
    sprite.disc(right + turned, up + 0.035, 0.13, 0.145, hair)
    if not away:
        sprite.disc(right - turned, up - 0.02, 0.1, 0.125, skin)


def person(canvas: Canvas, random: Random, x: float, z: float, size: float = 1.0) -> None:
    """Someone who stands or walks; `size` 1 is 1.75 m tall."""
    canvas.shadow(x - 0.2 * canvas.light.sun, z, 0.55, 0.35, canvas.light.shadow)
    canvas.start(PERSON, z)
    sprite = Sprite(canvas, x, z, size, random.pick((-1, 1)))
    top, trousers = random.color(random.pick(CLOTHES), 0.3), random.color(random.pick(CLOTHES), 0.3)
    shoes, skin = random.color(random.pick((DARK, WHITE, (90.0, 60.0, 40.0)))), random.color(random.pick(SKINS))
    stride = random.pick((0.05, 0.08, 0.16, 0.24))
    swing = stride * random.real(0.6, 1.1)
    hem = random.pick((0.86, 0.86, 0.8, 0.56))  # where the jacket or coat ends
    skirt = random.chance(0.15)
    legs = skin if skirt else trousers
    sleeve = skin if random.chance(0.2) else scaled(top, 0.82)
    sprite.limb(((0.0, 1.36), (-0.2 - swing * 0.3, 1.12), (-0.16 - swing, 0.84)), 0.11, sleeve, 0.08)
    for side, tone in ((-1, 0.78), (1, 1.0)):
        foot = side * (0.07 + stride)
        sprite.limb(((side * 0.08, 0.9), (side * (0.09 + stride * 0.5) + 0.03, 0.48), (foot, 0.07)), 0.18,
                    scaled(legs, tone), 0.12)
        sprite.disc(foot + 0.05, 0.045, 0.12, 0.055, shoes)
    if skirt or hem < 0.6:
        sprite.poly(((-0.2, 0.95), (0.2, 0.95), (0.26, 0.52), (-0.26, 0.52)), trousers if skirt else top, 0.1, 0.25)
    sprite.poly(((-0.25, 1.38), (-0.15, 1.46), (0.15, 1.46), (0.25, 1.38), (0.19, hem), (-0.19, hem)), top, 0.12, 0.3)
    if random.chance(0.25):  # a backpack or a bag counts as part of its owner
        bag = random.color(random.pick(CLOTHES))
        sprite.poly(((-0.3, 1.38), (-0.13, 1.42), (-0.13, 0.98), (-0.31, 0.98)), bag, 0.0, 0.3)
    elif random.chance(0.25):
        sprite.box(0.3 + swing, 0.5, 0.24, 0.3, random.color(random.pick(CLOTHES)), 0.3)
    sprite.limb(((0.21, 1.37), (0.26 + swing * 0.2, 1.1), (0.2 + swing, 0.86)), 0.11, sleeve, 0.08)
    sprite.disc(0.2 + swing, 0.83, 0.05, 0.06, skin)
    _head(sprite, random, 0.02 if stride > 0.1 else 0.0, 1.6)


def _rider(sprite: Sprite, random: Random, z: float, sideways: bool, seat: float) -> None:
    """Someone who sits at the height `seat`, seen from the side or from the front."""
    sprite.canvas.start(RIDER, z)
    top, trousers = random.color(random.pick(CLOTHES), 0.3), random.color(random.pick(CLOTHES), 0.3)
    helmet = seat < 0.85 or random.chance(0.5)
    if sideways:
        lean = random.real(0.1, 0.28)
        shoulder = (-0.2 + lean, seat + 0.52)
        sprite.limb(((-0.2, seat + 0.02), (0.14, seat - 0.3), (0.0, seat - 0.72)), 0.17, scaled(trousers, 0.8), 0.1)
        sprite.limb(((-0.2, seat), shoulder), 0.3, top, 0.34)
        sprite.limb(((-0.2, seat + 0.02), (0.2, seat - 0.16), (0.1, seat - 0.56)), 0.18, trousers, 0.11)
        sprite.limb((shoulder, (0.12, seat + 0.26), (0.38, seat + 0.2)), 0.11, scaled(top, 0.85), 0.08)
        _head(sprite, random, shoulder[0] + 0.08, seat + 0.76, helmet)
        return
    for side in (-1, 1):
        sprite.limb(((side * 0.1, seat), (side * 0.2, seat - 0.25 + 0.08 * side), (side * 0.14, seat - 0.66)), 0.17,
                    scaled(trousers, 0.85), 0.11)
        sprite.limb(((side * 0.2, seat + 0.5), (side * 0.32, seat + 0.3), (side * 0.26, seat + 0.18)), 0.12,
                    scaled(top, 0.8))
    sprite.poly(((-0.25, seat + 0.5), (-0.14, seat + 0.58), (0.14, seat + 0.58), (0.25, seat + 0.5),
                 (0.18, seat - 0.06), (-0.18, seat - 0.06)), top, 0.1, 0.3)
    _head(sprite, random, 0.0, seat + 0.74, helmet)


def bicycle(canvas: Canvas, random: Random, x: float, z: float, sideways: bool, ridden: bool) -> None:
    """A bicycle from the side or the front, with or without its rider."""
    canvas.shadow(x, z, 0.9 if sideways else 0.4, 0.4, canvas.light.shadow)
    sprite = Sprite(canvas, x, z, 1.08, random.pick((-1, 1)))
    frame, tire = random.color(random.pick(PAINTS), 0.3), random.color(DARK)
    canvas.start(BICYCLE, z)
    if sideways:
        for hub in (-0.54, 0.54):  # spokes are a veil: as in Cityscapes' labels, a wheel counts as filled
            sprite.disc(hub, 0.35, 0.36, 0.36, (150.0, 148.0, 142.0), 0.3)
            ring = [(hub + 0.33 * c, 0.35 + 0.33 * s) for c, s in CIRCLE]
            sprite.limb((*ring, ring[0]), 0.07, tire)
            sprite.disc(hub, 0.35, 0.06, 0.06, tire)
        for start, end in (((-0.54, 0.35), (-0.2, 0.8)), ((-0.2, 0.85), (0.0, 0.3)), ((-0.54, 0.35), (0.0, 0.3)),
                           ((0.0, 0.3), (0.4, 0.8)), ((-0.18, 0.76), (0.38, 0.82)), ((0.36, 0.95), (0.54, 0.35))):
            sprite.limb((start, end), 0.065, frame)
        sprite.box(-0.22, 0.86, 0.28, 0.07, tire)
        sprite.limb(((0.3, 1.0), (0.46, 1.02)), 0.06, tire)
    else:
        sprite.disc(0.0, 0.36, 0.06, 0.37, tire)
        sprite.limb(((0.0, 0.4), (0.0, 0.95)), 0.07, frame)
        sprite.limb(((-0.3, 1.0), (0.3, 1.0)), 0.06, tire)
    if ridden:
        _rider(sprite, random, z, sideways, 0.94)


def motorcycle(canvas: Canvas, random: Random, x: float, z: float, sideways: bool, ridden: bool) -> None:
    """A motorcycle or scooter from the side or the front, with or without its rider."""
    canvas.shadow(x, z, 1.0 if sideways else 0.5, 0.45, canvas.light.shadow)
    sprite = Sprite(canvas, x, z, 1.1, random.pick((-1, 1)))
    body, tire = random.color(random.pick(PAINTS), 0.3), random.color(BLACK)
    canvas.start(MOTORCYCLE, z)
    if sideways:
        for hub in (-0.62, 0.64):
            sprite.disc(hub, 0.32, 0.33, 0.33, tire)
            sprite.disc(hub, 0.32, 0.18, 0.18, (120.0, 120.0, 120.0))
        sprite.poly(((-0.5, 0.34), (0.3, 0.26), (0.44, 0.62), (-0.3, 0.62)), scaled(tire, 1.8))
        sprite.poly(((-0.86, 0.66), (-0.1, 0.6), (0.42, 0.66), (0.36, 0.9), (0.0, 0.84), (-0.8, 0.8)), body, 0.0, 0.4)
        sprite.limb(((0.4, 1.02), (0.64, 0.32)), 0.09, (130.0, 130.0, 130.0))
        sprite.disc(0.52, 0.86, 0.1, 0.1, WHITE)
    else:
        sprite.disc(0.0, 0.33, 0.1, 0.34, tire)
        sprite.poly(((-0.16, 0.4), (0.16, 0.4), (0.24, 0.92), (0.1, 1.06), (-0.1, 1.06), (-0.24, 0.92)), body, 0.0, 0.4)
        sprite.disc(0.0, 0.86, 0.1, 0.09, random.pick((WHITE, (200.0, 40.0, 30.0))))
        sprite.limb(((-0.4, 1.04), (0.4, 1.04)), 0.07, tire)
    if ridden:
        _rider(sprite, random, z, sideways, 0.8)


def stroller_or_dog(canvas: Canvas, random: Random, x: float, z: float) -> None:
    """Void that moves: a dog or a stroller."""
    canvas.shadow(x, z, 0.5, 0.3, 0.5)
    canvas.start(DYNAMIC, z)
    sprite = Sprite(canvas, x, z, 1.2, random.pick((-1, 1)))
    if random.chance(0.5):
        fur = random.color(random.pick(HAIRS))
        for leg in (-0.3, -0.2, 0.2, 0.3):
            sprite.limb(((leg, 0.4), (leg, 0.0)), 0.08, scaled(fur, 0.8))
        sprite.disc(0.0, 0.46, 0.4, 0.16, fur)
        sprite.limb(((0.3, 0.5), (0.46, 0.7)), 0.16, fur)
        sprite.disc(0.5, 0.72, 0.17, 0.1, fur)
        sprite.limb(((-0.36, 0.52), (-0.58, 0.72)), 0.06, fur)
        return
    cloth = random.color(random.pick(CLOTHES))
    for wheel in (-0.3, 0.3):
        sprite.disc(wheel, 0.14, 0.14, 0.14, DARK)
    sprite.poly(((-0.34, 0.3), (0.34, 0.3), (0.44, 0.66), (-0.44, 0.66)), cloth)
    sprite.disc(0.2, 0.68, 0.26, 0.26, scaled(cloth, 0.75))
    sprite.limb(((-0.4, 0.6), (-0.66, 0.96)), 0.06, DARK)
