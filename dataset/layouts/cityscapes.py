"""Cityscapes (Cordts et al., "The Cityscapes dataset", 2016), and the lab's drawn sample, which lies the same way.

    <root>/leftImg8bit/<split>/<city>/<city>_<seq>_<frame>_leftImg8bit.png     the image
    <root>/gtFine/<split>/<city>/<city>_<seq>_<frame>_gtFine_labelIds.png      its label ids, or, where that is missing,
    <root>/gtFine/<split>/<city>/<city>_<seq>_<frame>_gtFine_color.png         its label colors, RGB or RGBA

The lab's 8 categories are this data set's own (utils/labels_cat.py). Its images are 2:1 like the lab's input.
"""
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dataset.layouts.base import Layout, existing, open_file, read_ids
from utils.lab import LabError
from utils.labels_cat import ID_TO_CATEGORY, LABEL_COLORS

IMAGE_SUFFIX = "_leftImg8bit.png"
LABEL_SUFFIXES = ("_gtFine_labelIds.png", "_gtFine_color.png")  # the first that exists is read
LOOKED_AT = 8  # labels of a split that are looked at for trainIds
ADVICE = "use Cityscapes' gtFine _labelIds.png as it is, not trainIds or instance ids"


class Cityscapes(Layout):
    name = "Cityscapes"
    holds = "leftImg8bit/ and gtFine/"
    folders = ("leftImg8bit",)
    pattern = f"leftImg8bit/{{split}}/*/*{IMAGE_SUFFIX}"
    class_of_code = ID_TO_CATEGORY
    first_instance = 1000  # id // 1000 is the label, id % 1000 the instance; below are regions and groups

    @property
    def key(self) -> list:
        """The label table alone: caches made before there were other layouts stay valid."""
        return ID_TO_CATEGORY.tolist()

    def title(self, image: Path) -> str:
        return image.name.removesuffix(IMAGE_SUFFIX)

    def label(self, root: Path, split: str, image: Path) -> Path:
        name, folder = self.title(image), root / "gtFine" / split / image.parent.name
        for suffix in LABEL_SUFFIXES:
            if (folder / (name + suffix)).is_file():
                return folder / (name + suffix)
        raise LabError(f"expected a label {name}{LABEL_SUFFIXES[0]} or ..{LABEL_SUFFIXES[1]}, found neither in "
                       f"{folder} for the image {image}: unpack gtFine beside leftImg8bit")

    def instances(self, root: Path, split: str, image: Path) -> Path:
        name = f"{self.title(image)}_gtFine_instanceIds.png"
        return existing(root / "gtFine" / split / image.parent.name / name, image, "unpack the whole of gtFine")

    def read_codes(self, path: Path) -> np.ndarray:
        if path.name.endswith(LABEL_SUFFIXES[0]):
            return read_ids(path, ADVICE)
        image = open_file(path)
        if image.mode not in ("RGB", "RGBA"):
            raise LabError(f"expected label colors as RGB or RGBA, found mode {image.mode} in {path}: use Cityscapes' "
                           "gtFine _color.png as it is")
        return LABEL_COLORS.look_up(np.asarray(image)[..., :3], str(path))

    def check_labels(self, labels: Sequence[Path]) -> None:
        """Raises LabError for trainIds under the name of label ids: nothing above 18, and 1 % of 255 or more.

        As label ids every scene has vegetation, sky or cars, ids 21 to 33, and 255 is a license plate.
        """
        some = [path for path in labels[::-(-len(labels) // LOOKED_AT)] if path.name.endswith(LABEL_SUFFIXES[0])]
        counts = sum((np.bincount(self.read_codes(path).ravel(), minlength=256) for path in some), np.zeros(256, int))
        if counts[255] * 100 > counts.sum() and not counts[19:255].any():
            raise LabError(f"expected label ids, found what looks like trainIds (no id above 18, and "
                           f"{counts[255] / counts.sum():.0%} of 255) in {some[0]} and others: {ADVICE}")


CITYSCAPES = Cityscapes()
LAYOUTS = (CITYSCAPES,)
