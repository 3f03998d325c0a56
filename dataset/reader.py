"""Cityscapes' folders as pictures and targets of the lab's size.

    <root>/leftImg8bit/<split>/<city>/<city>_<seq>_<frame>_leftImg8bit.png     the picture
    <root>/gtFine/<split>/<city>/<city>_<seq>_<frame>_gtFine_labelIds.png      its label ids, or, where that is missing,
    <root>/gtFine/<split>/<city>/<city>_<seq>_<frame>_gtFine_color.png         its label colors, RGB or RGBA

There is one canonical resize, whatever the source's size: the picture by Pillow's bilinear filter with
reducing_gap=1.0 (for 1024 x 2048 the exact mean of 4 x 4 pixels), the label by its pixel nearest to each target
pixel's centre (for 1024 x 2048 `label[2::4, 2::4]`; the "nearest" of OpenCV and of torch's default pick another).
"""
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from dataset.sample import draw_sample
from utils.lab import DEFAULT_DATA, INPUT_SIZE, SAMPLE_DATA, SPLITS, LabError
from utils.labels_cat import check_ids, colors_to_categories, ids_to_categories
from utils.terminal import bar_stream

IMAGE_SUFFIX = "_leftImg8bit.png"
LABEL_SUFFIXES = ("_gtFine_labelIds.png", "_gtFine_color.png")  # the first that exists is read


class Pair(NamedTuple):
    """A picture and its label on disk; `name` is what their file names share."""

    name: str
    image: Path
    label: Path


def find_data(path: str | Path | None = None) -> Path:
    """The folder to read: `path`, or, for None and ./data, the sample when no Cityscapes is there (said on stderr).

    The sample is drawn if it is not there yet. Raises LabError if `path` does not hold leftImg8bit/.
    """
    root = Path(path or DEFAULT_DATA)
    if (root / "leftImg8bit").is_dir():
        return root
    if root.resolve() in (Path(DEFAULT_DATA).resolve(), SAMPLE_DATA):
        print(f"no Cityscapes in {DEFAULT_DATA}: using the lab's drawn sample, {os.path.relpath(SAMPLE_DATA)}",
              file=bar_stream())
        return draw_sample(SAMPLE_DATA)
    if not root.is_dir():
        raise LabError(f"expected a data folder, found none at {root}: pass the folder that holds leftImg8bit/ and "
                       "gtFine/")
    found = sorted(child.name for child in root.iterdir())
    below = [name for name in found if (root / name / "leftImg8bit").is_dir()]
    near = [root / name for name in below] or [up for up in root.parents if (up / "leftImg8bit").is_dir()]
    advice = f"pass {near[0]}" if near else "pass the folder that holds them"
    raise LabError(f"expected leftImg8bit/ and gtFine/, found {', '.join(found[:5]) or 'nothing'} in {root}: {advice}")


def list_split(root: Path, split: str) -> list[Pair]:
    """The pairs of a split, sorted by city and name. Raises LabError for an empty split or a missing label."""
    root = Path(root)
    if split not in SPLITS:
        raise LabError(f"expected a split of {', '.join(SPLITS)}, found {split!r}")
    images = _images(root, split)
    if not images:
        there = [name for name in SPLITS if _images(root, name)]
        raise LabError(f"expected pictures <city>/*{IMAGE_SUFFIX}, found none in {root / 'leftImg8bit' / split}: "
                       f"the splits with pictures are {', '.join(there) or 'none'}")
    return [_pair(root, split, image) for image in images]


def scored_split(root: Path) -> str:
    """The split to score on: val, or test where only that has pictures (a reserved set may be named so)."""
    return next((name for name in ("val", "test") if _images(Path(root), name)), "val")


def file_status(path: Path) -> os.stat_result:
    """`path.stat()`, with a LabError for a file that is gone or may not be looked at."""
    try:
        return path.stat()
    except OSError as error:
        raise LabError(f"expected a file at {path}, found: {error.strerror}: restore it, or delete it from the list "
                       "together with its partner in leftImg8bit/ or gtFine/") from None


def read_image(path: Path) -> np.ndarray:
    """A picture as uint8 (256, 512, 3), RGB, resized. Raises LabError if it cannot be read or is not 8-bit RGB."""
    image = _open(path)
    if image.mode != "RGB":
        raise LabError(f"expected an 8-bit RGB picture, found mode {image.mode} in {path}: convert it to RGB")
    height, width = INPUT_SIZE
    return np.array(image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=1.0))


def read_label(path: Path) -> np.ndarray:
    """A label as categories 0..7, uint8 (256, 512), resized. Raises LabError naming the file and the bad value.

    The whole file is checked against the label table, not only the pixels that the resize keeps.
    """
    image = _open(path)
    if path.name.endswith(LABEL_SUFFIXES[0]):
        if image.mode != "L":
            raise LabError(f"expected 8-bit grey label ids, found mode {image.mode} in {path}: use Cityscapes' gtFine "
                           "_labelIds.png as it is")
        ids = np.asarray(image)
        check_ids(ids, str(path))
        return ids_to_categories(resize_label(ids), str(path))

    if image.mode not in ("RGB", "RGBA"):
        raise LabError(f"expected label colors as RGB or RGBA, found mode {image.mode} in {path}: use Cityscapes' "
                       "gtFine _color.png as it is")
    return resize_label(colors_to_categories(np.asarray(image)[..., :3], str(path)))


def resize_label(label: np.ndarray) -> np.ndarray:
    """(H, W) to (256, 512) by the pixel that holds each target pixel's centre."""
    rows, columns = ((2 * np.arange(size) + 1) * source // (2 * size)
                     for size, source in zip(INPUT_SIZE, label.shape, strict=True))
    return np.ascontiguousarray(label[rows[:, None], columns])


def _images(root: Path, split: str) -> list[Path]:
    return sorted((root / "leftImg8bit" / split).glob(f"*/*{IMAGE_SUFFIX}"))


def _pair(root: Path, split: str, image: Path) -> Pair:
    name = image.name.removesuffix(IMAGE_SUFFIX)
    folder = root / "gtFine" / split / image.parent.name
    for suffix in LABEL_SUFFIXES:
        if (folder / (name + suffix)).is_file():
            return Pair(name, image, folder / (name + suffix))
    raise LabError(f"expected a label {name}{LABEL_SUFFIXES[0]} or ..{LABEL_SUFFIXES[1]}, found neither in {folder} "
                   f"for the picture {image}: unpack gtFine beside leftImg8bit")


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise LabError(f"expected a whole PNG, found a damaged or unreadable file, {path} ({error}): "
                       "copy it again from the source") from None
