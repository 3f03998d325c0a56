"""A data folder, in whichever layout of dataset/layouts/ it is, as pictures and targets of the lab's size.

There is one canonical resize, whatever the layout and the source's size: the picture by Pillow's bilinear filter with
reducing_gap=1.0 (for 1024 x 2048 the exact mean of 4 x 4 pixels), the label by its pixel nearest to each target
pixel's centre (for 1024 x 2048 `label[2::4, 2::4]`; the "nearest" of OpenCV and of torch's default pick another).
"""
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from dataset.layouts import CITYSCAPES, LAYOUTS
from dataset.layouts.base import Layout, open_file
from dataset.sample import draw_sample
from utils.classes import LAB_CLASSES
from utils.lab import DEFAULT_DATA, INPUT_SIZE, ROOT, SAMPLE_DATA, SPLITS, LabError
from utils.terminal import bar_stream

KNOWN = ", or ".join(f"{layout.holds} ({layout.name})" for layout in LAYOUTS)


class Pair(NamedTuple):
    """A picture and its label on disk; `name` is what their file names share."""

    name: str
    image: Path
    label: Path


def find_data(path: str | Path | None = None) -> Path:
    """The folder to read: what `present_data` finds, or the sample (said on stderr), drawn if it is not there yet."""
    root = present_data(path)
    if root is None:
        print(f"no Cityscapes in {DEFAULT_DATA}: using the lab's drawn sample, {os.path.relpath(SAMPLE_DATA)}",
              file=bar_stream())
        root = draw_sample(SAMPLE_DATA)
    return root


def present_data(path: str | Path | None = None) -> Path | None:
    """The folder to read: `path`, or, for None and ./data, also a folder in it (said on stderr); None if none is there.

    Where a data set's own folder has a name, such as VOCdevkit/VOC2012, `path` may be the folder around that. Raises
    LabError for a folder with more than one set, and for another than ./data without any.
    """
    root = Path(path or DEFAULT_DATA)
    if _fitting(root):
        return root
    inside = [root / name for layout in LAYOUTS for name in layout.inside if _fits(layout, root / name)]
    below = list(dict.fromkeys([*inside, *_data_below(root)]))
    default = root.resolve() in (Path(DEFAULT_DATA).resolve(), (ROOT / DEFAULT_DATA).resolve(), SAMPLE_DATA)
    if len(below) == 1 and (inside or default):
        if not inside:
            print(f"using the {_fitting(below[0]).name} in {below[0]}", file=bar_stream())
        return below[0]
    if default and not below:
        return None
    if not root.is_dir():
        raise LabError(f"expected a data folder, found none at {root}: pass the folder that holds {KNOWN}")
    if len(below) > 1:
        raise LabError(f"expected one data set, found {len(below)} in {root}: pass {' or '.join(map(str, below))}")
    raise _unknown(root)


def layout_of(root: Path) -> Layout:
    """The layout that a folder is in. Raises LabError if that is none of LAYOUTS."""
    layout = _fitting(Path(root))
    if layout is None:
        raise _unknown(Path(root))
    return layout


def require_lab_classes(root: Path) -> None:
    """Raises LabError unless the data in `root` has the lab's 8 categories, which the graded figures are about."""
    layout = layout_of(root)
    if layout.classes != LAB_CLASSES:
        raise LabError(f"expected the lab's {len(LAB_CLASSES)} categories, found {layout.name} with "
                       f"{len(layout.classes)} classes in {root}: pass a data set of street scenes")


def list_split(root: Path, split: str) -> list[Pair]:
    """The pairs of a split, sorted by path. Raises LabError for an empty split or a missing label."""
    root, layout = Path(root), layout_of(root)
    if split not in SPLITS:
        raise LabError(f"expected a split of {', '.join(SPLITS)}, found {split!r}")
    images = layout.images(root, split)
    if not images:
        raise LabError(f"expected pictures of {split} ({layout.where(split)}), found none in {root}: "
                       f"the splits with pictures are {', '.join(splits_with_pictures(root)) or 'none'}")
    return [Pair(layout.title(image), image, layout.label(root, split, image)) for image in images]


def splits_with_pictures(root: Path) -> list[str]:
    """Those of SPLITS that have a picture, in their order."""
    layout = layout_of(root)
    return [split for split in SPLITS if layout.images(Path(root), split)]


def scored_split(root: Path) -> str:
    """The split to score on: val, or test where only that has pictures (a reserved set may be named so)."""
    return next((split for split in splits_with_pictures(root) if split != "train"), "val")


def used_splits(root: Path) -> list[str]:
    """Those that the lab reads: train and the one to score on. Of a folder without pictures train, which is missed."""
    return [split for split in splits_with_pictures(root) if split in ("train", scored_split(root))] or ["train"]


def file_status(path: Path) -> os.stat_result:
    """`path.stat()`, with a LabError for a file that is gone or may not be looked at."""
    try:
        return path.stat()
    except OSError as error:
        raise LabError(f"expected a file at {path}, found: {error.strerror}: restore it, or take its pair, picture and "
                       "label, out of the data set") from None


def read_image(path: Path, layout: Layout = CITYSCAPES) -> np.ndarray:
    """A picture as uint8 (256, 512, 3), RGB, resized. Raises LabError if it cannot be read or is not 8-bit RGB."""
    image = open_file(path)
    if image.mode != "RGB":
        raise LabError(f"expected an 8-bit RGB picture, found mode {image.mode} in {path}: convert it to RGB")
    rows = layout.rows(image.height, image.width)
    if rows != slice(0, image.height):
        image = image.crop((0, rows.start, image.width, rows.stop))
    height, width = INPUT_SIZE
    return np.array(image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=1.0))


def read_label(path: Path, layout: Layout = CITYSCAPES) -> np.ndarray:
    """A label as classes 0..K-1 or IGNORE, uint8 (256, 512), resized. Raises LabError naming the file and the value.

    The whole file is checked against the layout's table, not only the pixels that the resize keeps.
    """
    codes = layout.read_codes(path)
    return layout.class_of_code[resize_label(codes[layout.rows(*codes.shape)])]


def resize_label(label: np.ndarray) -> np.ndarray:
    """(H, W) to (256, 512) by the pixel that holds each target pixel's centre."""
    rows, columns = ((2 * np.arange(size) + 1) * source // (2 * size)
                     for size, source in zip(INPUT_SIZE, label.shape, strict=True))
    return np.ascontiguousarray(label[rows[:, None], columns])


def _fitting(folder: Path) -> Layout | None:
    return next((layout for layout in LAYOUTS if _fits(layout, folder)), None)


def _fits(layout: Layout, folder: Path) -> bool:
    try:
        return layout.fits(folder)
    except PermissionError:  # somebody else's folder beside the data, say
        return False


def _data_below(root: Path) -> list[Path]:
    """The folders in `root` that are data sets, but for the lab's own sample."""
    return [child for child in _children(root) if child.resolve() != SAMPLE_DATA and _fitting(child)]


def _children(root: Path) -> list[Path]:
    try:
        return sorted(root.iterdir()) if root.is_dir() else []
    except OSError as error:
        raise LabError(f"expected a data folder that may be read, found: {error.strerror}, {root}: ask its owner"
                       ) from None


def _unknown(root: Path) -> LabError:
    found = [child.name for child in _children(root)]
    near = [*_data_below(root), *(up for up in root.parents if _fitting(up))]
    return LabError(f"expected {KNOWN}, found {', '.join(found[:5]) or 'nothing'} in {root}: pass "
                    + (str(near[0]) if near else "the folder that holds them"))
