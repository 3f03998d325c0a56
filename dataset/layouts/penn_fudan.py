"""Penn-Fudan's pedestrians (Wang et al., "Object detection combining recognition and segmentation", 2007).

    <root>/PNGImages/FudanPed00001.png          the image, of any size
    <root>/PedMasks/FudanPed00001_mask.png      its mask: 0 for nothing, 1, 2, .. for each pedestrian

as PennFudanPed.zip unpacks. 170 images with 345 pedestrians; nothing else is labeled. The authors name no validation
split. Here it is the last 14 of the 74 from Fudan and the last 20 of the 96 from Penn.
"""
from pathlib import Path

import numpy as np

from dataset.layouts.base import Layout, codes_to, existing, listed, open_file
from utils.classes import Classes
from utils.lab import LabError

FIRST_OF_VAL = {"FudanPed": 61, "PennPed": 77}
MOST = 254  # pedestrians in an image that the mask can number


class PennFudan(Layout):
    name = "Penn-Fudan"
    holds = "PNGImages/ and PedMasks/"
    folders = ("PNGImages", "PedMasks")
    pattern = "PNGImages/FudanPed*.png and PennPed*.png, the last of each for val; there is no test split"
    inside = ("PennFudanPed",)
    classes = Classes(("background", "pedestrian"), np.array([[0, 0, 0], [220, 20, 60]]))
    class_of_code = codes_to([0, *[1] * MOST])

    def images(self, root: Path, split: str) -> list[Path]:
        found = []
        for source, first in FIRST_OF_VAL.items():
            for path in listed(root / "PNGImages", f"{source}*.png"):
                number = path.stem.removeprefix(source)
                if number.isdecimal() and split == ("val" if int(number) >= first else "train"):
                    found.append(path)
        return found

    def label(self, root: Path, split: str, image: Path) -> Path:
        return existing(root / "PedMasks" / f"{image.stem}_mask.png", image, "unpack PennFudanPed.zip once more")

    instances = label

    def read_codes(self, path: Path) -> np.ndarray:
        image = open_file(path)
        codes = np.asarray(image)
        if image.mode not in ("L", "P") or codes.max() > MOST:
            raise LabError(f"expected masks with 0 and the numbers of at most {MOST} pedestrians, found mode "
                           f"{image.mode}, up to {codes.max()}, in {path}: use PedMasks/ as it is")
        return codes


LAYOUTS = (PennFudan(),)
