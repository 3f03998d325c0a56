"""Pascal VOC 2012's segmentation task (Everingham et al., "The Pascal visual object classes challenge", 2015).

    <root>/ImageSets/Segmentation/<split>.txt     a split's images by name: 1464 of train, 1449 of val
    <root>/JPEGImages/<name>.jpg                  the image, of about 375 x 500 or 500 x 375
    <root>/SegmentationClass/<name>.png           its label, paletted: 0..20, and 255 for the objects' borders

`root` is VOC2012; VOCdevkit, which holds it, and the folder around that do as well. It has 21 classes, the background
and 20 kinds of things, not the lab's categories: it is for trying networks on, and no graded figure comes of it. The
border is IGNORE. Labels of a test split were never published.

The whole image becomes the lab's 2:1, whatever its shape: what is portrait is squeezed most.
"""
from pathlib import Path

import numpy as np

from dataset.layouts.base import Layout, codes_to, existing, read_indices
from utils.classes import Classes
from utils.lab import IGNORE, LabError

NAMES = ("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
         "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor")
LISTS = "ImageSets/Segmentation"
AGAIN = "unpack VOCtrainval_11-May-2012.tar once more"


def palette(classes: int) -> np.ndarray:
    """The development kit's colors of class indices, uint8 (classes, 3), made so that near indices look different.

    The index's bits are dealt to red, green and blue in turn, its lowest ones to their highest.
    """
    colors = np.zeros((classes, 3), np.uint8)
    for index in range(classes):
        for bit in range(8):
            colors[index, bit % 3] |= (index >> bit & 1) << 7 - bit // 3
    return colors


class PascalVOC(Layout):
    name = "Pascal VOC 2012"
    holds = f"JPEGImages/, SegmentationClass/ and {LISTS}/"
    folders = ("JPEGImages", "SegmentationClass", LISTS)
    pattern = f"JPEGImages/*.jpg named in {LISTS}/{{split}}.txt"
    inside = ("VOC2012", "VOCdevkit/VOC2012")
    classes = Classes(NAMES, palette(len(NAMES)))
    class_of_code = codes_to(range(len(NAMES)))

    def images(self, root: Path, split: str) -> list[Path]:
        try:
            text = (root / LISTS / f"{split}.txt").read_text(encoding="ascii")
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise LabError(f"expected a list of images, found: {error} in {root / LISTS / split}.txt: {AGAIN}"
                           ) from None
        return [root / "JPEGImages" / f"{name}.jpg" for name in sorted(text.split())]

    def label(self, root: Path, split: str, image: Path) -> Path:
        if not image.is_file():
            raise LabError(f"expected {image.name}, which {root / LISTS / split}.txt names, found no such file in "
                           f"{image.parent}: {AGAIN}, or take the name out of the list")
        return existing(root / "SegmentationClass" / f"{image.stem}.png", image, AGAIN)

    def read_codes(self, path: Path) -> np.ndarray:
        return read_indices(path, len(NAMES) - 1, {IGNORE: "an object's border"}, "use SegmentationClass as it is")


LAYOUTS = (PascalVOC(),)
