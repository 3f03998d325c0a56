"""Small data sets in each layout but Cityscapes', drawn of noise, and how their errors are looked at."""
import contextlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset.layouts.camvid import COLORED
from utils.lab import LabError


def noise(seed: int, size: tuple[int, int], high: int) -> tuple[Image.Image, np.ndarray]:
    """A picture of noise, and label codes 0..high - 1 in blocks of 3 x 3, all of them there."""
    rng = np.random.default_rng(seed)
    blocks = rng.permutation(np.arange(-(-size[0] // 3) * -(-size[1] // 3)) % high).reshape(-(-size[0] // 3), -1)
    codes = blocks.repeat(3, 0).repeat(3, 1)[:size[0], :size[1]].astype(np.uint8)
    return Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)), codes


def save(path: Path, picture: Image.Image | np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(path)
    return path


def write_kitti(root: Path) -> Path:
    for number in (0, 1, 159, 160, 199):
        image, ids = noise(number, (38, 125), 34)
        save(root / f"training/image_2/{number:06}_10.png", image)
        save(root / f"training/semantic/{number:06}_10.png", ids)
    save(root / "testing/image_2/000000_10.png", image)
    return root


def write_indexed(root: Path) -> Path:
    for number, split in enumerate(("train", "train", "train", "val", "test")):
        image, codes = noise(number, (36, 48), 12)
        save(root / split / f"0001TP_{number:06}.png", image)
        save(root / f"{split}annot" / f"0001TP_{number:06}.png", codes)
    return root


def paint(codes: np.ndarray) -> np.ndarray:
    return np.array([row.color for row in COLORED], np.uint8)[codes]


def write_colored(root: Path) -> Path:
    for number, split in enumerate(("train", "train", "train", "val", "test")):
        image, codes = noise(number, (72, 96), 32)
        save(root / split / f"0001TP_{number:06}.png", image)
        save(root / f"{split}_labels" / f"0001TP_{number:06}_L.png", paint(codes))
    (root / "class_dict.csv").write_text("name,r,g,b\n", encoding="utf-8")
    return root


def write_stills(root: Path) -> Path:
    names = ("0001TP_006690", "0001TP_008550", "0006R0_f00930", "0016E5_00390", "0016E5_07959", "Seq05VD_f00000")
    for number, name in enumerate(names):
        image, codes = noise(number, (72, 96), 32)
        save(root / f"701_StillsRaw_full/{name}.png", image)
        save(root / f"LabeledApproved_full/{name}_L.png", paint(codes))
    return root


def write_voc(root: Path) -> Path:
    for number, (split, size) in enumerate([("train", (50, 38))] + [("train", (38, 50))] * 2 + [("val", (38, 50))]):
        image, codes = noise(number, size, 22)
        codes[codes == 21] = 255
        label = Image.fromarray(codes)
        label.putpalette(bytes(256 * 3))  # all black: the palette tells nothing
        save(root / f"JPEGImages/2007_{number:06}.jpg", image)
        save(root / f"SegmentationClass/2007_{number:06}.png", label)
        lists = root / "ImageSets/Segmentation"
        lists.mkdir(parents=True, exist_ok=True)
        with (lists / f"{split}.txt").open("a", encoding="ascii") as file:
            file.write(f"2007_{number:06}\n")
    save(root / "JPEGImages/2007_009999.jpg", image)  # of another task: in no list
    return root


WRITERS = {"KITTI": write_kitti, "indexed": write_indexed, "colored": write_colored, "stills": write_stills,
           "VOC": write_voc}


@contextlib.contextmanager
def expect(*parts: object):
    with pytest.raises(LabError) as caught:
        yield
    text = str(caught.value)
    assert "\n" not in text and all(str(part) in text for part in parts), text
