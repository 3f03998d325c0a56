"""What a data set tells apart: the names of its classes and the colors they are drawn in.

The lab's own are the 8 categories of utils/labels_cat.py, LAB_CLASSES; the graded figures are about these alone. Which
classes another data set has, its layout says (dataset/layouts/).
"""
from dataclasses import dataclass

import numpy as np

from utils.lab import IGNORE
from utils.labels_cat import CATEGORIES, CATEGORY_COLORS


@dataclass(frozen=True, eq=False)
class Classes:
    """K classes in the order of their indices: `names`, and `colors`, uint8 (K, 3), RGB, read-only.

    Raises ValueError unless there is a color for each name, and at most 255 of them (255 is IGNORE).
    """

    names: tuple[str, ...]
    colors: np.ndarray

    def __post_init__(self) -> None:
        names, colors = tuple(self.names), np.array(self.colors, np.uint8)
        if colors.shape != (len(names), 3) or not 0 < len(names) <= IGNORE:
            raise ValueError(f"expected 1 to {IGNORE} names and a color (R, G, B) for each, got {len(names)} names and "
                             f"colors {colors.shape}")
        colors.flags.writeable = False
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "colors", colors)

    def __len__(self) -> int:
        return len(self.names)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Classes) and self.names == other.names and np.array_equal(self.colors, other.colors)

    def __hash__(self) -> int:
        return hash(self.names)

    def colorize(self, label: np.ndarray) -> np.ndarray:
        """Class indices (H, W), 0..K-1, as display colors, uint8 (H, W, 3); IGNORE is shown white."""
        palette = np.full((256, 3), 255, np.uint8)
        palette[:len(self)] = self.colors
        return palette[label]


LAB_CLASSES = Classes(CATEGORIES, CATEGORY_COLORS)
