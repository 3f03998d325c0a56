"""Cityscapes (Cordts et al., "The Cityscapes dataset", 2016), and the lab's drawn sample, which lies the same way.

    <root>/leftImg8bit/<split>/<city>/<city>_<seq>_<frame>_leftImg8bit.png     the picture
    <root>/gtFine/<split>/<city>/<city>_<seq>_<frame>_gtFine_labelIds.png      its label ids, or, where that is missing,
    <root>/gtFine/<split>/<city>/<city>_<seq>_<frame>_gtFine_color.png         its label colors, RGB or RGBA

The lab's 8 categories are this data set's own (utils/labels_cat.py). Its pictures are 2:1 like the lab's input.
"""
from pathlib import Path

import numpy as np

from dataset.layouts.base import Layout, read_colors, read_ids
from utils.lab import LabError
from utils.labels_cat import ID_TO_CATEGORY, LABEL_COLORS

IMAGE_SUFFIX = "_leftImg8bit.png"
LABEL_SUFFIXES = ("_gtFine_labelIds.png", "_gtFine_color.png")  # the first that exists is read


class Cityscapes(Layout):
    name = "Cityscapes"
    holds = "leftImg8bit/ and gtFine/"
    class_of_code = ID_TO_CATEGORY

    @property
    def key(self) -> list:
        """The label table alone: caches made before there were other layouts stay valid."""
        return ID_TO_CATEGORY.tolist()

    def fits(self, folder: Path) -> bool:
        return (folder / "leftImg8bit").is_dir()

    def images(self, root: Path, split: str) -> list[Path]:
        return sorted((root / "leftImg8bit" / split).glob(f"*/*{IMAGE_SUFFIX}"))

    def where(self, split: str) -> str:
        return f"leftImg8bit/{split}/<city>/*{IMAGE_SUFFIX}"

    def title(self, image: Path) -> str:
        return image.name.removesuffix(IMAGE_SUFFIX)

    def label(self, root: Path, split: str, image: Path) -> Path:
        name, folder = self.title(image), root / "gtFine" / split / image.parent.name
        for suffix in LABEL_SUFFIXES:
            if (folder / (name + suffix)).is_file():
                return folder / (name + suffix)
        raise LabError(f"expected a label {name}{LABEL_SUFFIXES[0]} or ..{LABEL_SUFFIXES[1]}, found neither in "
                       f"{folder} for the picture {image}: unpack gtFine beside leftImg8bit")

    def read_codes(self, path: Path) -> np.ndarray:
        if path.name.endswith(LABEL_SUFFIXES[0]):
            return read_ids(path, "use Cityscapes' gtFine _labelIds.png as it is, not trainIds or instance ids")
        return read_colors(path, LABEL_COLORS, "use Cityscapes' gtFine _color.png as it is")
