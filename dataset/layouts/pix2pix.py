"""Cityscapes as prepared for pix2pix (Isola et al., "Image-to-image translation", 2017), and Kaggle's copy of that.

    <root>/train/1.jpg .. 2975.jpg, <root>/val/1.jpg .. 500.jpg     512 x 256: photo and color label side by side

Which half is the photo is found out by looking: label colors fill the other one. Either half is Cityscapes' image of
1024 x 2048 squeezed to 256 x 256; here it is enlarged to 256 x 512. The true resolution across is 256.

The labels were smoothed and JPEG-compressed, so a border is a mixture of two colors, which often resembles a third one:
sky against trees looks like a wall, a car's edge like a truck. Labels are read back in two steps:

1. A color counts at a pixel only where it stands almost pure nearby: within SURE of it, three times in 5 x 5 pixels.
   Poles, signs and people are a pixel or two wide and never quite pure: within LIKELY, once in 3 x 3 pixels, is enough.
2. Of the colors that count the nearest one wins; where none does, the nearest of all.

Figures measured on it belong to "Cityscapes at 256 x 256, labels read back from JPEG colors", never to Cityscapes.
"""
from pathlib import Path

import numpy as np
from PIL import Image

from dataset.layouts.base import Layout, codes_to
from utils.lab import LabError
from utils.labels_cat import CATEGORIES, labels

SURE, LIKELY = 20, 40  # distances in RGB
THIN = (CATEGORIES.index("object"), CATEGORIES.index("human"))
LABEL_SHARE = 0.6      # of a label half's pixels lie within SURE of a label color; of a photo less than half
COLORS, CATEGORY = zip(*{label.color: label.catId for label in reversed(labels) if label.id >= 0}.items(), strict=True)
AGAIN = "unpack cityscapes.tar.gz of pix2pix's data sets once more"


class Pix2Pix(Layout):
    name = "Cityscapes at 256 x 256, labels read back from JPEG colors"
    holds = "train/1.jpg and val/1.jpg, photo and label side by side"
    pattern = "{split}/*.jpg"
    inside = ("cityscapes", "cityscapes_data")
    class_of_code = codes_to(range(len(CATEGORIES)))

    def __init__(self, photo_left: bool) -> None:
        self.photo_left = photo_left
        self.note = f"photo {'left' if photo_left else 'right'}, label {'right' if photo_left else 'left'} in each file"

    @property
    def key(self) -> list:
        return [*super().key, self.photo_left, [SURE, LIKELY]]

    def fits(self, folder: Path) -> bool:
        """Whether the first file that can be read is a pair with its label in this layout's half."""
        for path in [*self.images(folder, "train"), *self.images(folder, "val")][:5]:
            try:
                return bool(label_share(distances(self._half(path, label=True))) > LABEL_SHARE)
            except LabError:
                continue
        return False

    def images(self, root: Path, split: str) -> list[Path]:
        numbered = [path for path in super().images(root, split) if path.stem.isdecimal()]
        return sorted(numbered, key=lambda path: int(path.stem))

    def label(self, root: Path, split: str, image: Path) -> Path:
        return image

    def read_image(self, path: Path) -> Image.Image:
        return self._half(path, label=False)

    def read_codes(self, path: Path) -> np.ndarray:
        far = distances(self._half(path, label=True))
        if (share := label_share(far)) < LABEL_SHARE:
            half = "right" if self.photo_left else "left"
            raise LabError(f"expected label colors in the {half} half, as in the first file, found them in {share:.0%} "
                           f"of its pixels in {path}: {AGAIN}")
        return read_back(far)

    def _half(self, path: Path, label: bool) -> Image.Image:
        pair = super().read_image(path)
        width = pair.width // 2
        if pair.width != 2 * pair.height:
            raise LabError(f"expected two square halves, found {pair.width} x {pair.height} in {path}: {AGAIN}")
        left = self.photo_left != label
        return pair.crop((0, 0, width, pair.height) if left else (width, 0, pair.width, pair.height))


def distances(half: Image.Image) -> np.ndarray:
    """Squared distances in RGB of a half's pixels to COLORS, int32 (colors, H, W): whole numbers, so exact."""
    planes = np.moveaxis(np.asarray(half), -1, 0).astype(np.int32)
    return np.stack([sum((plane - value)**2 for plane, value in zip(planes, color, strict=True)) for color in COLORS])


def label_share(far: np.ndarray) -> float:
    """The share of pixels that are almost a label's color; `far` are `distances`."""
    return (far.min(0) < SURE**2).mean()


def read_back(far: np.ndarray) -> np.ndarray:
    """Smeared label colors as categories, uint8 (H, W), by the two steps above; `far` are their `distances`."""
    nearest, least = far.argmin(0), far.min(0)
    answer, best = np.array(CATEGORY, np.uint8)[nearest], np.full_like(least, np.iinfo(np.int32).max)
    for color in np.unique(nearest[least < LIKELY**2]):
        here = nearest == color
        counts = around(here & (least < SURE**2), 5) >= 3
        if CATEGORY[color] in THIN:
            counts |= around(here & (least < LIKELY**2), 3) >= 1
        closer = counts & (far[color] < best)
        answer[closer], best[closer] = CATEGORY[color], far[color][closer]
    return answer


def around(mask: np.ndarray, size: int) -> np.ndarray:
    """How many pixels of the mask (H, W) are True in the square of `size` about each pixel, uint8 (H, W)."""
    height, width = mask.shape
    padded = np.pad(mask.astype(np.uint8), size // 2)
    rows = sum(padded[shift:shift + height] for shift in range(size))
    return sum(rows[:, shift:shift + width] for shift in range(size))


LAYOUTS = (Pix2Pix(photo_left=True), Pix2Pix(photo_left=False))
