"""Cityscapes' labels in the lab's 8 categories: one aligned row a label, everything else derived from it.

Follows the table of cityscapesScripts (`helpers/labels.py`) with the lab's own choices: trainId is the category,
void is a class like the others, and the license plate (id -1, stored as 255) is void. A plate has the color of a
car, so in a `_color.png` it cannot be told from one and is read as vehicle.
"""
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from utils.lab import IGNORE, NUM_CLASSES, LabError

CATEGORIES = ("void", "flat", "construction", "object", "nature", "sky", "human", "vehicle")


class Label(NamedTuple):
    """One row of the table. `color` is Cityscapes' own (in `_color.png`), `outColor` the category's display color."""

    name: str
    id: int
    trainId: int
    category: str
    catId: int
    hasInstances: bool
    ignoreInEval: bool
    color: tuple[int, int, int]
    outColor: tuple[int, int, int]


labels = (
    #     name                   id  trainId  category       catId  instances  ignore color            outColor
    Label("unlabeled",            0,  0,      "void",         0,    False,     True,  (0, 0, 0),       (0, 0, 0)),
    Label("ego vehicle",          1,  0,      "void",         0,    False,     True,  (0, 0, 0),       (0, 0, 0)),
    Label("rectification border", 2,  0,      "void",         0,    False,     True,  (0, 0, 0),       (0, 0, 0)),
    Label("out of roi",           3,  0,      "void",         0,    False,     True,  (0, 0, 0),       (0, 0, 0)),
    Label("static",               4,  0,      "void",         0,    False,     True,  (0, 0, 0),       (0, 0, 0)),
    Label("dynamic",              5,  0,      "void",         0,    False,     True,  (111, 74, 0),    (0, 0, 0)),
    Label("ground",               6,  0,      "void",         0,    False,     True,  (81, 0, 81),     (0, 0, 0)),
    Label("road",                 7,  1,      "flat",         1,    False,     False, (128, 64, 128),  (244, 35, 232)),
    Label("sidewalk",             8,  1,      "flat",         1,    False,     False, (244, 35, 232),  (244, 35, 232)),
    Label("parking",              9,  1,      "flat",         1,    False,     True,  (250, 170, 160), (244, 35, 232)),
    Label("rail track",          10,  1,      "flat",         1,    False,     True,  (230, 150, 140), (244, 35, 232)),
    Label("building",            11,  2,      "construction", 2,    False,     False, (70, 70, 70),    (70, 70, 70)),
    Label("wall",                12,  2,      "construction", 2,    False,     False, (102, 102, 156), (70, 70, 70)),
    Label("fence",               13,  2,      "construction", 2,    False,     False, (190, 153, 153), (70, 70, 70)),
    Label("guard rail",          14,  2,      "construction", 2,    False,     True,  (180, 165, 180), (70, 70, 70)),
    Label("bridge",              15,  2,      "construction", 2,    False,     True,  (150, 100, 100), (70, 70, 70)),
    Label("tunnel",              16,  2,      "construction", 2,    False,     True,  (150, 120, 90),  (70, 70, 70)),
    Label("pole",                17,  3,      "object",       3,    False,     False, (153, 153, 153), (153, 153, 153)),
    Label("polegroup",           18,  3,      "object",       3,    False,     True,  (153, 153, 153), (153, 153, 153)),
    Label("traffic light",       19,  3,      "object",       3,    False,     False, (250, 170, 30),  (153, 153, 153)),
    Label("traffic sign",        20,  3,      "object",       3,    False,     False, (220, 220, 0),   (153, 153, 153)),
    Label("vegetation",          21,  4,      "nature",       4,    False,     False, (107, 142, 35),  (107, 142, 35)),
    Label("terrain",             22,  4,      "nature",       4,    False,     False, (152, 251, 152), (107, 142, 35)),
    Label("sky",                 23,  5,      "sky",          5,    False,     False, (70, 130, 180),  (70, 130, 180)),
    Label("person",              24,  6,      "human",        6,    True,      False, (220, 20, 60),   (220, 20, 60)),
    Label("rider",               25,  6,      "human",        6,    True,      False, (255, 0, 0),     (220, 20, 60)),
    Label("car",                 26,  7,      "vehicle",      7,    True,      False, (0, 0, 142),     (0, 0, 142)),
    Label("truck",               27,  7,      "vehicle",      7,    True,      False, (0, 0, 70),      (0, 0, 142)),
    Label("bus",                 28,  7,      "vehicle",      7,    True,      False, (0, 60, 100),    (0, 0, 142)),
    Label("caravan",             29,  7,      "vehicle",      7,    True,      True,  (0, 0, 90),      (0, 0, 142)),
    Label("trailer",             30,  7,      "vehicle",      7,    True,      True,  (0, 0, 110),     (0, 0, 142)),
    Label("train",               31,  7,      "vehicle",      7,    True,      False, (0, 80, 100),    (0, 0, 142)),
    Label("motorcycle",          32,  7,      "vehicle",      7,    True,      False, (0, 0, 230),     (0, 0, 142)),
    Label("bicycle",             33,  7,      "vehicle",      7,    True,      False, (119, 11, 32),   (0, 0, 142)),
    Label("license plate",       -1,  0,      "void",         0,    False,     True,  (0, 0, 142),     (0, 0, 0)),
)

id2label = {label.id: label for label in labels}

# (8, 3) uint8: the display color of each category.
CATEGORY_COLORS = np.zeros((NUM_CLASSES, 3), np.uint8)
for _label in labels:
    CATEGORY_COLORS[_label.catId] = _label.outColor

# uint8 (256,): the byte in a `_labelIds.png` -> category; IGNORE marks a byte that is no label's id.
ID_TO_CATEGORY = np.full(256, IGNORE, np.uint8)
for _label in labels:
    ID_TO_CATEGORY[_label.id % 256] = _label.catId


class ColorTable:
    """Finds the colors of label images in a table, where each stands for a byte: a label's id, say.

    rows: (R, G, B) and its byte; of rows that share a color the first counts. expected, advice: of the LabError for a
    color that is in no row.
    """

    def __init__(self, rows: Iterable[tuple[tuple[int, int, int], int]], expected: str, advice: str) -> None:
        packed: dict[int, int] = {}
        for (r, g, b), value in rows:
            packed.setdefault(r << 16 | g << 8 | b, value)
        self._colors = np.array(sorted(packed), np.int32)
        self._values = np.array([packed[color] for color in sorted(packed)], np.uint8)
        self._expected, self._advice = expected, advice

    def look_up(self, colors: np.ndarray, where: str) -> np.ndarray:
        """Maps uint8 RGB colors (..., 3) to bytes (...). Raises LabError naming `where` (the file) and the color."""
        wide = colors.astype(np.int32)
        packed = wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
        row = np.searchsorted(self._colors, packed).clip(max=len(self._colors) - 1)
        unknown = self._colors[row] != packed
        if unknown.any():
            color = tuple(int(value) for value in colors[unknown][0])
            raise LabError(f"expected {self._expected}, found {color} in {where}: {self._advice}")
        return self._values[row]


# Colors to the byte of a `_labelIds.png`. Rows that share a color (void's black, the two poles) agree on the category;
# of car and license plate, which do not, the car stands first and counts.
LABEL_COLORS = ColorTable(((label.color, label.id % 256) for label in labels),
                          "a color of the label table (utils/labels_cat.py)",
                          "use Cityscapes' gtFine _color.png, losslessly saved")


def check_ids(ids: np.ndarray, where: str,
              advice: str = "use Cityscapes' gtFine _labelIds.png, not trainIds or instance ids") -> None:
    """Raises LabError naming `where` (the file) and the value if one of the uint8 `ids` is in no row of the table."""
    # The table's ids run from -1, which is 255 in a file, to the highest without a gap: one comparison finds strays.
    if ids.size and (ids + np.uint8(1)).max() > max(id2label) + 1:
        found = [value for value in np.unique(ids).tolist() if ID_TO_CATEGORY[value] == IGNORE]
        raise LabError(f"expected label ids 0 to 33 (or 255, license plate), found {found[:5]} in {where}: {advice}")


def ids_to_categories(ids: np.ndarray, where: str) -> np.ndarray:
    """Maps uint8 label ids of any shape to uint8 categories 0..7 of the same shape; raises as `check_ids` does."""
    check_ids(ids, where)
    return ID_TO_CATEGORY[ids]
