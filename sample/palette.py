"""Colors of things in a street, RGB in 0..255. Classes share many of them, so a color alone tells no class."""

Color = tuple[float, float, float]

BLACK, DARK, WHITE = (18.0, 18.0, 20.0), (38.0, 38.0, 42.0), (232.0, 232.0, 228.0)
SKINS = ((222, 176, 146), (196, 146, 114), (150, 104, 76), (98, 66, 48), (234, 194, 170))
HAIRS = ((36, 28, 24), (70, 48, 32), (120, 86, 50), (176, 140, 90), (140, 138, 136), (24, 22, 24))
CLOTHES = ((36, 38, 48), (60, 66, 84), (120, 120, 122), (200, 198, 192), (150, 52, 46), (58, 82, 128), (78, 96, 66),
           (156, 128, 92), (110, 76, 58), (190, 160, 70), (104, 70, 104), (176, 110, 90), (130, 150, 166), (44, 44, 44))
PAINTS = ((226, 226, 224), (30, 31, 34), (150, 153, 156), (98, 99, 101), (70, 72, 76), (148, 36, 34), (44, 66, 112),
          (58, 82, 62), (140, 84, 62), (176, 164, 136), (190, 160, 50), (110, 132, 158), (120, 116, 104), (84, 48, 44))
METALS = ((120, 122, 122), (88, 92, 92), (66, 84, 70), (104, 84, 66), (48, 50, 54), (156, 156, 150), (80, 92, 108))
LEAVES = ((86, 118, 52), (66, 96, 44), (108, 128, 60), (52, 74, 42), (132, 128, 62), (176, 118, 48), (156, 76, 46),
          (190, 156, 60), (112, 70, 52), (74, 88, 66), (60, 84, 60))
BARKS = ((92, 78, 64), (70, 62, 56), (116, 106, 92), (84, 66, 50))


def mix(first: Color, second: Color, share: float) -> Color:
    """Gives the color `share` (0..1) of the way from the first to the second."""
    red, green, blue = (a + (b - a) * share for a, b in zip(first, second, strict=True))
    return red, green, blue


def scaled(color: Color, factor: float) -> Color:
    """Gives the color brightened (factor > 1) or darkened."""
    return color[0] * factor, color[1] * factor, color[2] * factor
