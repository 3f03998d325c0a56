"""A data folder, in whichever layout of dataset/layouts/ it is, as images and targets of the lab's size.

There is one canonical resize, whatever the layout and the source's size: the image by Pillow's bilinear filter with
reducing_gap=1.0 (for 1024 x 2048 the exact mean of 4 x 4 pixels), the label by its pixel nearest to each target
pixel's center (for 1024 x 2048 `label[2::4, 2::4]`; the "nearest" of OpenCV and of torch's default pick another).
"""
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from dataset.layouts import layouts
from dataset.layouts.base import Layout
from dataset.layouts.cityscapes import CITYSCAPES
from utils.classes import LAB_CLASSES, Classes
from utils.files import full_path, is_junk
from utils.lab import DEFAULT_DATA, INPUT_SIZE, ROOT, SAMPLE_DATA, SPLITS, LabError
from utils.terminal import bar_stream


class Pair(NamedTuple):
    """An image and its label on disk; `name` is what their file names share."""

    name: str
    image: Path
    label: Path


@dataclass(frozen=True)
class DataFolder:
    """A folder of images and labels, and the layout it is in. `find_data` makes it; it works where a path works."""

    root: Path
    layout: Layout = field(compare=False)

    def __fspath__(self) -> str:
        return str(self.root)

    def __str__(self) -> str:
        return str(self.root)

    @property
    def classes(self) -> Classes:
        return self.layout.classes

    @property
    def splits(self) -> list[str]:
        """The splits that have an image, in the order of SPLITS."""
        return [split for split in SPLITS if self.layout.images(self.root, split)]

    @property
    def scored_split(self) -> str:
        """The split to score on: val, or test where only that has images (a reserved set may be named so)."""
        return next((split for split in self.splits if split != "train"), "val")

    @property
    def used_splits(self) -> list[str]:
        """The splits that the lab reads: train, and the one to score on. Of a folder without images: train."""
        return [split for split in self.splits if split in ("train", self.scored_split)] or ["train"]

    @property
    def is_sample(self) -> bool:
        """Whether this is the sample that the lab draws."""
        from sample.draw import is_sample

        return is_sample(self.root)

    def pairs(self, split: str) -> list[Pair]:
        """The pairs of a split, sorted by path. Raises LabError for an empty split or a missing label."""
        if split not in SPLITS:
            raise LabError(f"expected a split of {', '.join(SPLITS)}, found {split!r}")
        root, layout = self.root, self.layout
        images = layout.images(root, split)
        if not images:
            raise LabError(f"expected images of {split} ({layout.pattern.format(split=split)}), found none in {root}: "
                           f"the splits with images are {', '.join(self.splits) or 'none'}")
        return [Pair(layout.title(image), image, layout.label(root, split, image)) for image in images]

    def require_lab_classes(self) -> None:
        """Raises LabError unless the data has the lab's 8 categories, which the graded figures are about."""
        if self.classes != LAB_CLASSES:
            raise LabError(f"expected the lab's {len(LAB_CLASSES)} categories, found {self.layout.name} with "
                           f"{len(self.classes)} classes in {self.root}: pass a data set of street scenes")


def find_data(path: DataFolder | str | Path | None = None) -> DataFolder:
    """The data to read: what `present_data` finds, or the sample (said on stderr), drawn if it is not there yet."""
    if isinstance(path, DataFolder):
        return path
    folder = present_data(path)
    if folder is None:
        from sample.draw import draw_sample

        print(f"no Cityscapes in {DEFAULT_DATA}: using the lab's drawn sample, {os.path.relpath(SAMPLE_DATA)}",
              file=bar_stream())
        folder = DataFolder(draw_sample(SAMPLE_DATA), CITYSCAPES)
    if folder.layout.note:
        print(f"{folder}: {folder.layout.name}; {folder.layout.note}", file=bar_stream())
    return folder


def present_data(path: str | Path | None = None) -> DataFolder | None:
    """The data to read: `path`, or, for None and ./data, also a folder in it (said on stderr); None if none is there.

    Where a data set's own folder has a name, such as VOCdevkit/VOC2012, `path` may be the folder around that. Raises
    LabError for a folder with more than one set, and for another than ./data without any.
    """
    root = Path(path or DEFAULT_DATA)
    default = root.resolve() in (Path(DEFAULT_DATA).resolve(), (ROOT / DEFAULT_DATA).resolve(), SAMPLE_DATA)
    if default and not _folders(root):
        return None
    if folder := _data_in(root):
        return folder
    inside = [folder for layout in layouts() for name in layout.inside if (folder := _data_in(root / name))]
    below = list(dict.fromkeys([*inside, *filter(None, map(_data_in, _folders(root)))]))
    if default and not below:
        return None
    if len(below) == 1 and (inside or default):
        if not inside:
            print(f"using the {below[0].layout.name} in {below[0]}", file=bar_stream())
        return below[0]
    if not root.is_dir():
        raise LabError(f"expected a data folder, found none at {full_path(root)}: pass the folder that holds "
                       f"{known()}")
    if len(below) > 1:
        raise LabError(f"expected one data set, found {len(below)} in {root}: pass {' or '.join(map(str, below))}")
    found = [child.name for child in _children(root)]
    near = [*below, *filter(None, map(_data_in, root.parents))]
    raise LabError(f"expected {known()}, found {', '.join(found[:5]) or 'nothing'} in {root}: pass "
                   + (str(near[0]) if near else "the folder that holds them"))


def file_status(path: Path) -> os.stat_result:
    """`path.stat()`. Raises LabError for a file that is gone or may not be looked at."""
    try:
        return path.stat()
    except OSError as error:
        raise LabError(f"expected a file at {path}, found: {error.strerror}: restore it, or take its pair, image and "
                       "label, out of the data set") from None


def read_image(path: Path, layout: Layout = CITYSCAPES) -> np.ndarray:
    """An image as uint8 (256, 512, 3), RGB, resized. Raises LabError if it cannot be read or is not 8-bit RGB."""
    height, width = INPUT_SIZE
    return np.array(layout.read_image(path).resize((width, height), Image.Resampling.BILINEAR, reducing_gap=1.0))


def read_label(path: Path, layout: Layout = CITYSCAPES) -> np.ndarray:
    """A label as classes 0..K-1 or IGNORE, uint8 (256, 512), resized. Raises LabError naming the file and the value.

    The whole file is checked against the layout's table, not only the pixels that the resize keeps.
    """
    return layout.class_of_code[resize_label(layout.read_codes(path))]


def resize_label(label: np.ndarray) -> np.ndarray:
    """(H, W) to (256, 512) by the pixel that holds each target pixel's center."""
    rows, columns = ((2 * np.arange(size) + 1) * source // (2 * size)
                     for size, source in zip(INPUT_SIZE, label.shape, strict=True))
    return np.ascontiguousarray(label[rows[:, None], columns])


def known() -> str:
    """What the folders of all layouts hold, in words."""
    return ", or ".join(dict.fromkeys(f"{layout.holds} ({layout.name})" for layout in layouts()))


def _data_in(folder: Path) -> DataFolder | None:
    try:
        return next((DataFolder(folder, layout) for layout in layouts() if layout.fits(folder)), None)
    except PermissionError:  # somebody else's folder beside the data, say
        return None


def _folders(root: Path) -> list[Path]:
    """The folders in `root` that may be data, so not the lab's own sample."""
    return [child for child in _children(root) if child.is_dir() and child.resolve() != SAMPLE_DATA]


def _children(root: Path) -> list[Path]:
    try:
        return sorted(path for path in root.iterdir() if not is_junk(path.name)) if root.is_dir() else []
    except OSError as error:
        raise LabError(f"expected a data folder that may be read, found: {error.strerror}, {root}: ask its owner"
                       ) from None
