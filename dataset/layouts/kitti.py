"""KITTI's semantic segmentation benchmark (Abu Alhaija et al., "Augmented reality meets computer vision", 2018).

    <root>/training/image_2/000000_10.png      the picture, about 375 x 1242
    <root>/training/semantic/000000_10.png     its label, 8-bit ids of Cityscapes' table

as data_semantics.zip unpacks; where `root` is called data_semantics, the folder around it does as well. 200 pictures
have labels, none of those in testing/ does. The benchmark names no validation split. Here it is the last fifth by name,
000160 to 000199, in one piece: neighbours in number may show the same street.

Labels become the lab's 8 categories. The pictures are 3.3:1, and the whole of them becomes the lab's 2:1: everything
looks narrower than it is, in pictures and labels alike.
"""
from pathlib import Path

import numpy as np

from dataset.layouts.base import Layout, existing, read_ids
from utils.labels_cat import ID_TO_CATEGORY

FIRST_OF_VAL = "000160"


class Kitti(Layout):
    name = "KITTI"
    holds = "training/image_2/ and training/semantic/"
    inside = ("data_semantics",)
    class_of_code = ID_TO_CATEGORY

    def fits(self, folder: Path) -> bool:
        # KITTI's other benchmarks have an image_2 too
        return all((folder / "training" / part).is_dir() for part in ("image_2", "semantic"))

    def images(self, root: Path, split: str) -> list[Path]:
        images = sorted((root / "training" / "image_2").glob("*_10.png"))
        return [image for image in images if split == ("val" if image.name >= FIRST_OF_VAL else "train")]

    def where(self, split: str) -> str:
        return {"train": f"training/image_2/*_10.png before {FIRST_OF_VAL}_10.png",
                "val": f"training/image_2/*_10.png from {FIRST_OF_VAL}_10.png on"}.get(
                    split, "there are none: KITTI's testing/ has no labels")

    def label(self, root: Path, split: str, image: Path) -> Path:
        return existing(root / "training" / "semantic" / image.name, image, "unpack data_semantics.zip once more")

    def read_codes(self, path: Path) -> np.ndarray:
        return read_ids(path, "use training/semantic of data_semantics.zip as it is, not instance/ or semantic_rgb/")
