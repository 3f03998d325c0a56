"""KITTI's semantic segmentation benchmark (Abu Alhaija et al., "Augmented reality meets computer vision", 2018).

    <root>/training/image_2/000000_10.png      the image, about 375 x 1242
    <root>/training/semantic/000000_10.png     its label, 8-bit ids of Cityscapes' table

as data_semantics.zip unpacks; where `root` is called data_semantics, the folder around it does as well. 200 images
have labels, none of those in testing/ does. The benchmark names no validation split. Here it is the last fifth by name,
000160 to 000199, in one piece: neighbors in number may show the same street.

Labels become the lab's 8 categories. The images are 3.3:1, and the whole of them becomes the lab's 2:1: everything
looks narrower than it is, in images and labels alike.
"""
from pathlib import Path

import numpy as np

from dataset.layouts.base import Layout, existing, listed, read_ids
from utils.labels_cat import ID_TO_CATEGORY

FIRST_OF_VAL = "000160"


class Kitti(Layout):
    name = "KITTI"
    holds = "training/image_2/ and training/semantic/"
    folders = ("training/image_2", "training/semantic")  # KITTI's other benchmarks have an image_2 too
    pattern = f"training/image_2/*_10.png, those from {FIRST_OF_VAL} on for val; testing/ has no labels"
    inside = ("data_semantics",)
    class_of_code = ID_TO_CATEGORY

    def images(self, root: Path, split: str) -> list[Path]:
        images = listed(root / "training" / "image_2", "*_10.png")
        return [image for image in images if split == ("val" if image.name >= FIRST_OF_VAL else "train")]

    def label(self, root: Path, split: str, image: Path) -> Path:
        return existing(root / "training" / "semantic" / image.name, image, "unpack data_semantics.zip once more")

    def read_codes(self, path: Path) -> np.ndarray:
        return read_ids(path, "use training/semantic of data_semantics.zip as it is, not instance/ or semantic_rgb/")


LAYOUTS = (Kitti(),)
