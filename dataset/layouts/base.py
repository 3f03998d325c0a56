"""What every layout tells about a data set on disk, and how its files are opened."""
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from utils.classes import LAB_CLASSES, Classes
from utils.lab import LabError
from utils.labels_cat import ColorTable, check_ids


class Layout(ABC):
    """A way in which pictures and labels lie in a folder, called `root` throughout. A layout itself holds no state.

    A label file says a byte at each pixel, its code: a label's id, a class index, the row of a color's table. `classes`
    are what the data set tells apart, `class_of_code` maps codes to them.
    """

    name: str                            # the data set's, as people call it
    holds: str                           # what is to be found in `root`, in words
    inside: tuple[str, ...] = ()         # where `root` may lie in the folder that a user names
    classes: Classes = LAB_CLASSES
    class_of_code: np.ndarray            # uint8 (256,): 0..K-1, or IGNORE

    @abstractmethod
    def fits(self, folder: Path) -> bool:
        """Whether `folder` is a `root` of this layout, by the folders in it."""

    @abstractmethod
    def images(self, root: Path, split: str) -> list[Path]:
        """The pictures of a split, sorted; none if it has none. Their labels are not looked for."""

    @abstractmethod
    def where(self, split: str) -> str:
        """Which pictures would be those of the split, in words."""

    @abstractmethod
    def label(self, root: Path, split: str, image: Path) -> Path:
        """The label of a picture of the split. Raises LabError if there is none."""

    @abstractmethod
    def read_codes(self, path: Path) -> np.ndarray:
        """A label file as codes, uint8 (H, W), all of them known. Raises LabError naming the file and the bad value."""

    def title(self, image: Path) -> str:
        """By what a pair is called: what the names of its two files share."""
        return image.stem

    def rows(self, height: int, width: int) -> slice:
        """The rows of a picture of this size, and of its label, that are kept; the resize comes after. All of them."""
        return slice(0, height)

    @property
    def key(self) -> list:
        """What pixels in a cache follow from besides the files and the resize: another key makes another cache."""
        return [self.name, list(self.classes.names), self.class_of_code.tolist()]


def existing(label: Path, image: Path, advice: str) -> Path:
    """`label`, if it is there. Raises LabError naming both files otherwise."""
    if not label.is_file():
        raise LabError(f"expected a label {label.name}, found none in {label.parent} for the picture {image}: {advice}")
    return label


def open_file(path: Path) -> Image.Image:
    """A PNG or JPEG, decoded. Raises LabError if that fails."""
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        kind = "JPEG" if path.suffix.lower() in (".jpg", ".jpeg") else "PNG"
        raise LabError(f"expected a whole {kind}, found a damaged or unreadable file, {path} ({error}): "
                       "copy it again from the source") from None


def read_ids(path: Path, advice: str) -> np.ndarray:
    """A label whose pixels are ids of Cityscapes' table, 8-bit grey: uint8 (H, W). Raises LabError for others."""
    image = open_file(path)
    if image.mode != "L":
        raise LabError(f"expected 8-bit grey label ids, found mode {image.mode} in {path}: {advice}")
    ids = np.asarray(image)
    check_ids(ids, str(path), advice)
    return ids


def read_colors(path: Path, table: ColorTable, advice: str) -> np.ndarray:
    """A label whose pixels are colors of `table`, RGB or RGBA, as its bytes: uint8 (H, W). Raises LabError for others.

    advice: for a file that holds no such colors at all; the table has its own for a color that is not in it.
    """
    image = open_file(path)
    if image.mode not in ("RGB", "RGBA"):
        raise LabError(f"expected label colors as RGB or RGBA, found mode {image.mode} in {path}: {advice}")
    return table.look_up(np.asarray(image)[..., :3], str(path))


def read_indices(path: Path, highest: int, others: dict[int, str], advice: str) -> np.ndarray:
    """A label whose pixels are class indices, 0 to `highest`, or one of `others` (and what that means): uint8 (H, W).

    The file is 8-bit grey, or paletted, where the palette is for the eye alone. Raises LabError for other values.
    """
    image = open_file(path)
    if image.mode not in ("L", "P"):
        raise LabError(f"expected class indices, 8-bit grey or paletted, found mode {image.mode} in {path}: {advice}")
    codes = np.asarray(image)
    known = {*range(highest + 1), *others}
    strange = [value for value in np.flatnonzero(np.bincount(codes.ravel())).tolist() if value not in known]
    if strange:
        more = "".join(f" (or {value}, {meaning})" for value, meaning in others.items())
        raise LabError(f"expected class indices 0 to {highest}{more}, found {strange[:5]} in {path}: {advice}")
    return codes
