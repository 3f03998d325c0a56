"""Small data sets in each layout but Cityscapes', drawn of noise, and how their errors are looked at."""
import contextlib
import functools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sample.scenes import draw_scene
from utils.lab import LabError
from utils.labels_cat import id2label


def noise(seed: int, size: tuple[int, int], high: int) -> tuple[Image.Image, np.ndarray]:
    """An image of noise, and label codes 0..high - 1 in blocks of 3 x 3, all of them there."""
    rng = np.random.default_rng(seed)
    blocks = rng.permutation(np.arange(-(-size[0] // 3) * -(-size[1] // 3)) % high).reshape(-(-size[0] // 3), -1)
    codes = blocks.repeat(3, 0).repeat(3, 1)[:size[0], :size[1]].astype(np.uint8)
    return Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)), codes


def save(path: Path, image: Image.Image | np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path)
    return path


def write_kitti(root: Path) -> Path:
    for number in (0, 1, 159, 160, 199):
        image, ids = noise(number, (38, 125), 34)
        save(root / f"training/image_2/{number:06}_10.png", image)
        save(root / f"training/semantic/{number:06}_10.png", ids)
    save(root / "testing/image_2/000000_10.png", image)
    return root


def write_camvid(root: Path) -> Path:
    for number, split in enumerate(("train", "train", "train", "val", "test")):
        image, codes = noise(number, (36, 48), 12)
        save(root / split / f"0001TP_{number:06}.png", image)
        save(root / f"{split}annot" / f"0001TP_{number:06}.png", codes)
    return root


drawn = functools.cache(draw_scene)


def write_pix2pix(root: Path, photo_left: bool = True) -> Path:
    """Scenes of the drawn sample as pix2pix has them: both halves squeezed to 256 x 256, smoothed, one JPEG.

    Their exact label ids are left in the folder `truth` beside `root`.
    """
    for split, count in (("train", 3), ("val", 1)):
        for number in range(1, count + 1):
            scene = drawn(5, int(split == "val"), number)
            colors = np.array([id2label[i].color for i in range(34)], np.uint8)[scene.label_ids]
            halves = [Image.fromarray(half).resize((256, 256), Image.Resampling.BICUBIC)
                      for half in (scene.image, colors)]
            pair = np.concatenate([np.asarray(half) for half in (halves if photo_left else halves[::-1])], 1)
            path = root / split / f"{number * 7}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pair).save(path, quality=95, subsampling=2)
            save(root.parent / "truth" / split / f"{path.stem}.png", scene.label_ids)
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


WRITERS = {"KITTI": write_kitti, "CamVid": write_camvid, "pix2pix": write_pix2pix, "VOC": write_voc}


@contextlib.contextmanager
def expect(*parts: object):
    with pytest.raises(LabError) as caught:
        yield
    text = str(caught.value)
    assert "\n" not in text and all(str(part) in text for part in parts), text
