"""What lines a street: house fronts, gables, roofs, walls and fences, as vertical planes in perspective."""
import numpy as np

from sample.camera import Point
from sample.canvas import NEAR, Canvas, F, Patch
from sample.palette import Color, mix, scaled
from sample.randomness import Random

BUILDING, WALL, FENCE = 11, 12, 13
ROOFS = ((120, 66, 52), (96, 58, 50), (74, 72, 74), (58, 56, 58), (132, 84, 60), (88, 84, 80))
FACADE_COLORS = ((176, 166, 150), (198, 188, 168), (150, 92, 74), (128, 78, 64), (206, 206, 202), (140, 142, 144),
                 (112, 116, 120), (142, 156, 172), (136, 148, 128), (190, 164, 116), (186, 140, 124), (96, 92, 90),
                 (116, 128, 112), (164, 172, 178))


def _share(values: np.ndarray, period: float) -> tuple[np.ndarray, np.ndarray]:
    """Splits values into the number of their period (int32) and the share (0..1) of it."""
    steps = values / F(period)
    whole = np.floor(steps)
    return whole.astype(np.int32), steps - whole


def _courses(patch: Patch, wide: float, high: float, strength: float) -> np.ndarray | float:
    """How dark the joints between bricks or slabs are, (h, w) float32: only near ones can be told apart."""
    if float(patch.depth.min()) > 28.0:
        return F(0)
    row, up = _share(patch.up, high)
    _, side = _share(patch.along + (row & 1).astype(F) * F(wide / 2), wide)
    joint = (up < F(0.2)) | (side < F(0.2 * high / wide))
    return joint * np.maximum(F(1) - patch.depth / F(28), F(0)) * F(strength)


def _face_tone(canvas: Canvas, sign: int) -> float:
    """How bright a front on the side `sign` of the street is: the sun's own side lies in shade."""
    return 1.0 if sign == 0 else 0.93 - 0.8 * canvas.light.shadow * 0.4 * sign * canvas.light.sun


def facade(canvas: Canvas, random: Random, start: Point, end: Point, height: float, color: Color, roof: float = 0.0,
           sign: int = 0) -> None:
    """A house front over the ground points (X, Z) with windows, doors, a cornice and at times a pitched roof."""
    canvas.start(BUILDING, max(NEAR, start[1]))
    if roof > 0:
        tiles = random.color(random.pick(ROOFS))
        (xa, za), (xb, zb) = (start[0], max(NEAR, start[1])), (end[0], max(NEAR, end[1]))
        back = sign * 3.0
        canvas.polygon([canvas.camera.point(xa, height, za), canvas.camera.point(xb, height, zb),
                        canvas.camera.point(xb + back, height + roof, zb),
                        canvas.camera.point(xa + back, height + roof, za)], tiles, 0.35)
    style = _style(random)
    patch = canvas.wall(start, end, 0.0, height)
    if patch is None:
        return
    shade = F(_face_tone(canvas, sign)) * (F(1) + canvas.slow[patch.window] * F(0.07)
                                           + canvas.fine[patch.window] * F(style["rough"]))
    planes = [shade * (F(1) - _courses(patch, *style["stones"])) * F(value) for value in color]
    trim = scaled(color, style["trim"])
    _put(planes, (patch.up > F(height - 0.35)) | (patch.up < F(0.5)), trim, shade)
    _openings(canvas, random, patch, planes, shade, height, color, style)
    canvas.paint_planes(patch.window, patch.mask, planes, canvas.fade_at(patch.depth))


def _style(random: Random) -> dict:
    """The looks that one house keeps: storys, windows, stones."""
    stones = random.pick(((0.5, 0.16, 0.3), (0.5, 0.16, 0.22), (1.4, 0.6, 0.25), (0.5, 0.2, 0.0), (0.5, 0.2, 0.0)))
    return {"story": random.real(2.9, 3.5), "bay": random.real(1.7, 3.4), "rough": random.real(0.06, 0.2),
            "stones": stones, "trim": random.pick((0.65, 0.8, 1.2, 1.3)), "half": random.real(0.2, 0.36),
            "sill": random.real(0.22, 0.34), "lintel": random.real(0.74, 0.86), "frame": random.pick((1.35, 1.2, 0.55)),
            "shop": random.chance(0.35), "band": random.chance(0.3), "balcony": random.chance(0.15)}


def _put(planes: list[np.ndarray], where: np.ndarray, color: Color, shade: np.ndarray | None = None) -> None:
    for plane, value in zip(planes, color, strict=True):
        np.copyto(plane, F(value) if shade is None else shade * F(value), where=where)


def _openings(canvas: Canvas, random: Random, patch: Patch, planes: list[np.ndarray], shade: np.ndarray, height: float,
              color: Color, style: dict) -> None:
    """Windows in rows, each with its own glass, and doors or shop windows on the ground floor."""
    ground = style["story"] + 0.5
    bay, across = _share(patch.along, style["bay"])
    level, rise = _share(patch.up - F(0.5), style["story"])
    off = np.abs(across - F(0.5))
    upper = (patch.up > F(ground)) & (patch.up < F(height - 0.6))
    half, sill, lintel = style["half"], style["sill"], style["lintel"]
    framed = upper & (off < F(half + 0.045)) & (rise > F(sill - 0.05)) & (rise < F(lintel + 0.035))
    glass = upper & (off < F(half)) & (off > F(0.018)) & (rise > F(sill)) & (rise < F(lintel))
    look = random.grid(16, 32)[level & 15, bay & 31]
    if style["band"]:
        _put(planes, np.abs(rise - F(0.03)) < F(0.03), scaled(color, style["trim"]), shade)
    _put(planes, framed, mix(scaled(color, style["frame"]), (200.0, 198.0, 192.0), 0.35), shade)
    pane = F(0.86) + look * F(0.3) + (rise - F(0.5)) * F(0.5)
    _put(planes, glass, canvas.light.glass, pane)
    curtain = glass & (look > F(0.3)) & (rise > F((sill + lintel) / 2))
    _put(planes, curtain, (196.0, 190.0, 176.0), shade)
    if style["balcony"]:
        _put(planes, upper & (off < F(half + 0.1)) & (rise < F(sill)) & (rise > F(0.0)), scaled(color, 0.6), shade)
    low = patch.up < F(ground)
    door = (bay & 3) == random.whole(0, 3)
    if style["shop"]:
        _put(planes, low & (off < F(0.44)) & (patch.up > F(0.5)) & (patch.up < F(ground - 0.9)), canvas.light.glass,
             pane * F(0.85))
        sign = random.color(random.pick(((170, 60, 50), (60, 80, 130), (60, 100, 70), (210, 200, 180), (50, 48, 50))))
        _put(planes, low & (patch.up > F(ground - 0.8)) & (patch.up < F(ground - 0.15)), sign, shade)
    else:
        _put(planes, low & ~door & (off < F(half)) & (patch.up > F(1.2)) & (patch.up < F(2.5)), canvas.light.glass,
             pane)
    wood = random.color(random.pick(((92, 60, 44), (60, 72, 60), (58, 62, 80), (150, 146, 140), (70, 40, 36))))
    _put(planes, low & door & (off < F(0.3)) & (patch.up < F(2.4)), wood, shade)


def house(canvas: Canvas, random: Random, x: float, z: float, end: float, sign: int, height: float, roof: float,
          color: Color) -> None:
    """A house beside the street from depth z to end, its front at x; `sign` is the street's side."""
    _gable(canvas, random, x, z, sign, height, roof, color)
    facade(canvas, random, (x, z), (x, end), height, color, roof, sign)


def _gable(canvas: Canvas, random: Random, x: float, z: float, sign: int, height: float, roof: float, color: Color
           ) -> None:
    """The side of a house that faces the camera, from the street's front at x outwards, with its roof's triangle."""
    if z < 2.0:
        return
    canvas.start(BUILDING, z)
    deep = 10.0
    camera = canvas.camera
    tone = scaled(color, 0.84)
    if roof > 0:
        canvas.polygon([camera.point(x, height, z), camera.point(x + sign * deep, height, z),
                        camera.point(x + sign * 3.0, height + roof, z)], tone, 0.15)
    patch = canvas.wall((x, z), (x + sign * deep, z), 0.0, height)
    if patch is None:
        return
    shade = F(1) + canvas.fine[patch.window] * F(0.14) - _courses(patch, 0.5, 0.16, 0.25)
    planes = [shade * F(value) for value in tone]
    if random.chance(0.5):
        _, rise = _share(patch.up - F(0.5), 3.2)
        off = np.abs(patch.along - F(deep * 0.45))
        _put(planes, (off < F(0.6)) & (np.abs(rise - F(0.55)) < F(0.24)) & (patch.up < F(height - 0.5)),
             canvas.light.glass)
    canvas.paint_planes(patch.window, patch.mask, planes, canvas.fade_at(patch.depth))


def low_wall(canvas: Canvas, random: Random, start: Point, end: Point, height: float, color: Color) -> None:
    """A garden or retaining wall with a coping."""
    patch = canvas.wall(start, end, 0.0, height)
    stones = random.pick(((0.5, 0.18, 0.3), (1.1, 0.45, 0.3), (3.0, height, 0.35)))
    if patch is None:
        return
    canvas.start(WALL, max(NEAR, start[1]))
    shade = (F(0.92) + canvas.slow[patch.window] * F(0.12) + canvas.fine[patch.window] * F(0.2)
             - _courses(patch, *stones))
    planes = [shade * F(value) for value in color]
    _put(planes, patch.up > F(height - 0.18), scaled(color, 1.22), shade)
    canvas.paint_planes(patch.window, patch.mask, planes, canvas.fade_at(patch.depth))


def fence(canvas: Canvas, random: Random, start: Point, end: Point, height: float, color: Color) -> None:
    """A fence of boards, or of bars that one looks through: like Cityscapes' labels, its gaps count as fence."""
    patch = canvas.wall(start, end, 0.0, height)
    boards = random.chance(0.5)
    if patch is None:
        return
    canvas.start(FENCE, max(NEAR, start[1]))
    _, across = _share(patch.along, 0.16 if boards else 0.2)
    _, post = _share(patch.along, 2.4)
    rail = np.abs(np.abs(patch.up - F(height / 2)) - F(height * 0.36)) < F(0.05)
    shade = F(0.95) + canvas.fine[patch.window] * F(0.25)
    tone = mix(color, (110.0, 86.0, 62.0), 0.6) if boards else scaled(color, 0.5)
    planes = [shade * F(value) for value in tone]
    seam = (across < F(0.16)) & (patch.depth < F(25))
    if boards:
        _put(planes, seam & patch.mask, scaled(tone, 0.5))
        seen = patch.mask
    else:
        seen = patch.mask & ((across < F(0.4)) | rail | (post < F(0.06)))
    canvas.mark(patch.window, patch.mask)
    canvas.paint_planes(patch.window, seen, planes, canvas.fade_at(patch.depth))
