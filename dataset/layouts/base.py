"""What every layout tells about a data set on disk, and how its files are opened."""
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from utils.classes import LAB_CLASSES, Classes
from utils.files import is_junk
from utils.lab import IGNORE, LabError
from utils.labels_cat import check_ids


class Layout(ABC):
    """A way in which images and labels lie in a folder, called `root` throughout. A layout itself holds no state.

    A label file holds a code at each pixel: a label's id, a class index, a color's row. `classes` are what the data
    set tells apart, `class_of_code` maps codes to them.
    """

    name: str                       # the data set's, as people call it
    holds: str                      # what is to be found in `root`, in words
    folders: tuple[str, ...] = ()   # those that every `root` has
    pattern: str                    # of the images of a `{split}` below `root`
    inside: tuple[str, ...] = ()    # where `root` may lie in the folder that a user names
    classes: Classes = LAB_CLASSES
    class_of_code: np.ndarray       # uint8 (256,): 0..K-1, or IGNORE
    first_instance = 1              # the lowest number of `instances` that is one thing; lower ones are whole regions
    note = ""                       # what was found out by looking into the files, for the user to check

    def fits(self, folder: Path) -> bool:
        """Whether `folder` is a `root` of this layout."""
        return all((folder / part).is_dir() for part in self.folders)

    def images(self, root: Path, split: str) -> list[Path]:
        """The images of a split in order; none if it has none. Their labels are not looked for."""
        return listed(root, self.pattern.format(split=split))

    @abstractmethod
    def label(self, root: Path, split: str, image: Path) -> Path:
        """The label of an image of the split. Raises LabError if there is none."""

    @abstractmethod
    def read_codes(self, path: Path) -> np.ndarray:
        """A label file as codes, uint8 (H, W), all of them known. Raises LabError naming the file and the bad value."""

    def read_image(self, path: Path) -> Image.Image:
        """An image, RGB, before the resize. Raises LabError if it cannot be read or is not 8-bit RGB."""
        image = open_file(path)
        if image.mode != "RGB":
            raise LabError(f"expected an 8-bit RGB image, found mode {image.mode} in {path}: convert it to RGB")
        return image

    def instances(self, root: Path, split: str, image: Path) -> Path:
        """The file of an image's instances: a number at each pixel. Raises LabError where the data set has none."""
        raise LabError(f"expected instances, found {self.name} in {root}, which has none: use Cityscapes, the drawn "
                       "sample or Penn-Fudan")

    def check_labels(self, labels: Sequence[Path]) -> None:  # noqa: B027 (most layouts have nothing to check)
        """Raises LabError for the labels of a split that can be read and still are of another kind."""

    def title(self, image: Path) -> str:
        """The name of a pair: what the names of its two files share."""
        return image.stem

    @property
    def key(self) -> list:
        """What pixels in a cache follow from besides the files and the resize: another key makes another cache."""
        return [self.name, list(self.classes.names), self.class_of_code.tolist()]


def codes_to(classes: Iterable[int]) -> np.ndarray:
    """uint8 (256,): the class of each code in order, IGNORE from there on."""
    return np.array([*classes, *[IGNORE] * 256][:256], np.uint8)


def listed(folder: Path, pattern: str) -> list[Path]:
    """The files below `folder` that match, sorted, without hidden files and folders (`._x.png`, `__MACOSX`)."""
    return sorted(path for path in folder.glob(pattern) if not any(map(is_junk, path.relative_to(folder).parts)))


def existing(label: Path, image: Path, advice: str) -> Path:
    """`label`, if it is there. Raises LabError naming both files otherwise."""
    if not label.is_file():
        raise LabError(f"expected a label {label.name}, found none in {label.parent} for the image {image}: {advice}")
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
    """A label whose pixels are ids of Cityscapes' table, 8-bit gray: uint8 (H, W). Raises LabError for others."""
    image = open_file(path)
    if image.mode != "L":
        raise LabError(f"expected 8-bit gray label ids, found mode {image.mode} in {path}: {advice}")
    ids = np.asarray(image)
    check_ids(ids, str(path), advice)
    return ids


def read_indices(path: Path, highest: int, others: dict[int, str], advice: str) -> np.ndarray:
    """A label whose pixels are class indices, 0 to `highest`, or one of `others` (and what that means): uint8 (H, W).

    The file is 8-bit gray, or paletted, where the palette is for the eye alone. Raises LabError for other values.
    """
    image = open_file(path)
    if image.mode not in ("L", "P"):
        raise LabError(f"expected class indices, 8-bit gray or paletted, found mode {image.mode} in {path}: {advice}")
    codes = np.asarray(image)
    known = {*range(highest + 1), *others}
    strange = [value for value in np.flatnonzero(np.bincount(codes.ravel())).tolist() if value not in known]
    if strange:
        more = "".join(f" (or {value}, {meaning})" for value, meaning in others.items())
        raise LabError(f"expected class indices 0 to {highest}{more}, found {strange[:5]} in {path}: {advice}")
    return codes
