"""Cityscapes' folders as pictures and targets of the lab's size, and as batches for training and scoring.

    <root>/leftImg8bit/<split>/<city>/<city>_<seq>_<frame>_leftImg8bit.png     the picture
    <root>/gtFine/<split>/<city>/<city>_<seq>_<frame>_gtFine_labelIds.png      its label ids, or, where that is missing,
    <root>/gtFine/<split>/<city>/<city>_<seq>_<frame>_gtFine_color.png         its label colors, RGB or RGBA

There is one canonical resize, whatever the source's size: the picture by Pillow's bilinear filter with
reducing_gap=1.0 (for 1024 x 2048 the exact mean of 4 x 4 pixels), the label by its pixel nearest to each target
pixel's centre (for 1024 x 2048 `label[2::4, 2::4]`; the "nearest" of OpenCV and of torch's default pick another).
"""
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from dataset.augment import Augment, normalise
from dataset.sample import draw_sample, is_sample
from utils.lab import DEFAULT_DATA, INPUT_SIZE, SAMPLE_DATA, SPLITS, LabError
from utils.labels_cat import colors_to_categories, ids_to_categories
from utils.machine import available_cores
from utils.terminal import bar_stream, run_main

IMAGE_SUFFIX = "_leftImg8bit.png"
LABEL_SUFFIXES = ("_gtFine_labelIds.png", "_gtFine_color.png")  # the first that exists is read


class Pair(NamedTuple):
    """A picture and its label on disk; `name` is what their file names share."""

    name: str
    image: Path
    label: Path


def find_data(path: str | Path | None = None) -> Path:
    """The folder to read: `path`, or, for None and ./data, the sample when no Cityscapes is there (said on stderr).

    The sample is drawn if it is not there yet. Raises LabError if `path` does not hold leftImg8bit/.
    """
    root = Path(path or DEFAULT_DATA)
    if (root / "leftImg8bit").is_dir():
        return root
    if root.resolve() in (Path(DEFAULT_DATA).resolve(), SAMPLE_DATA):
        print(f"no Cityscapes in {DEFAULT_DATA}: using the lab's drawn sample, {os.path.relpath(SAMPLE_DATA)}",
              file=sys.stderr)
        return draw_sample(SAMPLE_DATA)
    if not root.is_dir():
        raise LabError(f"expected a data folder, found none at {root}: pass the folder that holds leftImg8bit/ and "
                       "gtFine/")
    found = sorted(child.name for child in root.iterdir())
    below = [name for name in found if (root / name / "leftImg8bit").is_dir()]
    near = [root / name for name in below] or [up for up in root.parents if (up / "leftImg8bit").is_dir()]
    advice = f"pass {near[0]}" if near else "pass the folder that holds them"
    raise LabError(f"expected leftImg8bit/ and gtFine/, found {', '.join(found[:5]) or 'nothing'} in {root}: {advice}")


def list_split(root: Path, split: str) -> list[Pair]:
    """The pairs of a split, sorted by city and name. Raises LabError for an empty split or a missing label."""
    root = Path(root)
    if split not in SPLITS:
        raise LabError(f"expected a split of {', '.join(SPLITS)}, found {split!r}")
    images = _images(root, split)
    if not images:
        there = [name for name in SPLITS if _images(root, name)]
        raise LabError(f"expected pictures <city>/*{IMAGE_SUFFIX}, found none in {root / 'leftImg8bit' / split}: "
                       f"the splits with pictures are {', '.join(there) or 'none'}")
    return [_pair(root, split, image) for image in images]


def read_image(path: Path) -> np.ndarray:
    """A picture as uint8 (256, 512, 3), RGB, resized. Raises LabError if it cannot be read or is not 8-bit RGB."""
    image = _open(path)
    if image.mode != "RGB":
        raise LabError(f"expected an 8-bit RGB picture, found mode {image.mode} in {path}: convert it to RGB")
    height, width = INPUT_SIZE
    return np.array(image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=1.0))


def read_label(path: Path) -> np.ndarray:
    """A label as categories 0..7, uint8 (256, 512), resized. Raises LabError naming the file and the bad value.

    The whole file is checked against the label table, not only the pixels that the resize keeps.
    """
    image = _open(path)
    if path.name.endswith(LABEL_SUFFIXES[0]):
        if image.mode != "L":
            raise LabError(f"expected 8-bit grey label ids, found mode {image.mode} in {path}: use Cityscapes' gtFine "
                           "_labelIds.png as it is")
        categories = ids_to_categories(np.asarray(image), str(path))
    else:
        if image.mode not in ("RGB", "RGBA"):
            raise LabError(f"expected label colors as RGB or RGBA, found mode {image.mode} in {path}: use Cityscapes' "
                           "gtFine _color.png as it is")
        categories = colors_to_categories(np.asarray(image)[..., :3], str(path))
    return resize_label(categories)


def resize_label(label: np.ndarray) -> np.ndarray:
    """(H, W) to (256, 512) by the pixel that holds each target pixel's centre."""
    rows, columns = ((2 * np.arange(size) + 1) * source // (2 * size)
                     for size, source in zip(INPUT_SIZE, label.shape, strict=True))
    return np.ascontiguousarray(label[rows[:, None], columns])


class Cityscapes(Dataset):
    """One split as a torch Dataset: (image float32 (3, 256, 512) normalised, target int64 (256, 512)).

    The target holds the categories 0..7, and 255 where `augment` made pixels up. `augment` works on image and mask
    together; its random numbers come from torch's global generator, which DataLoader seeds for each worker. Items are
    read from the files each time; `Batches` reads them once.
    """

    def __init__(self, root: str | Path | None, split: str, augment: Augment | None = None) -> None:
        self.root = find_data(root)
        self.split = split
        self.pairs = list_split(self.root, split)
        self.augment = augment

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, target = self.read(index)
        data, target = to_batch(torch.from_numpy(image)[None], torch.from_numpy(target)[None], self.augment)
        return data[0], target[0]

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """A pair as stored values: picture uint8 (256, 512, 3) and categories uint8 (256, 512)."""
        pair = self.pairs[index]
        image = read_image(pair.image)
        return image, read_label(pair.label)

    def read_all(self) -> tuple[Tensor, Tensor]:
        """All pairs, uint8 (N, 256, 512, 3) and (N, 256, 512): 524,288 bytes a pair. Decodes on every core, with a
        bar."""
        images = torch.empty(len(self), *INPUT_SIZE, 3, dtype=torch.uint8)
        targets = torch.empty(len(self), *INPUT_SIZE, dtype=torch.uint8)
        views = images.numpy(), targets.numpy()

        def store(index: int) -> None:
            views[0][index], views[1][index] = self.read(index)

        pool = ThreadPoolExecutor(available_cores())  # Pillow decodes outside the interpreter's lock
        try:
            for _ in tqdm(pool.map(store, range(len(self))), total=len(self), desc=f"reading {self.split}",
                          unit="pair", file=bar_stream(), leave=False):
                pass
        finally:
            pool.shutdown(cancel_futures=True)
        return images, targets


class Batches:
    """A split in memory, as batches (data float32 (N, 3, 256, 512), target int64 (N, 256, 512)) on `device`.

    The pictures are decoded once, at the start; no worker processes are needed. They are augmented as the dataset says,
    whole batches at a time, on the device. The order and the augmentation of epoch e follow from (seed, e) alone, so a
    run can be repeated, or taken up in the middle: `set_epoch` says which epoch comes next, and every pass moves on by
    one.
    """

    def __init__(self, dataset: Cityscapes, batch_size: int, device: torch.device | str = "cpu",
                 shuffle: bool = False, seed: int = 0) -> None:
        if batch_size < 1:
            raise LabError(f"expected a batch size of at least 1, found {batch_size} in the settings")
        self.dataset, self.batch_size, self.device = dataset, batch_size, torch.device(device)
        self.shuffle, self.seed, self.epoch = shuffle, seed, 0
        self.images, self.targets = dataset.read_all()

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def take(self, indices: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
        """The pictures of these indices as one batch, whole and unaugmented: to look at."""
        index = torch.as_tensor(indices)
        return to_batch(*self._fetch(index))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        self.epoch += 1
        n = len(self.images)
        order = torch.randperm(n, generator=generator) if self.shuffle else torch.arange(n)
        for index in order.split(self.batch_size):
            yield to_batch(*self._fetch(index), self.dataset.augment, generator)

    def _fetch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        # index_select: indexing a uint8 CPU tensor with [] is 10 times slower
        images, targets = self.images.index_select(0, index), self.targets.index_select(0, index)
        return images.to(self.device), targets.to(self.device)


def to_batch(images: Tensor, targets: Tensor, augment: Callable | None = None,
             generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """uint8 pictures (N, H, W, 3) and targets (N, H, W) to a network's float32 input and int64 target."""
    if augment:
        data, targets = augment(images, targets, generator)
    else:
        data = normalise(images)
    return data, targets.long()


def open_evaluation(path: str | Path | None, split: str | None, device: torch.device, batch_size: int = 8
                    ) -> tuple[Batches, str]:
    """The split to score on, unaugmented and in order, and a line that says which data it is.

    Without a `split` it is val, or test where only that has pictures (a reserved set may be named so).
    """
    root = find_data(path)
    if split is None:
        split = next((name for name in ("val", "test") if _images(root, name)), "val")
    dataset = Cityscapes(root, split)
    kind = "the lab's drawn sample" if is_sample(root) else "Cityscapes' layout"
    description = f"{split} of {root} ({kind}), {len(dataset)} pictures"
    print(f"scoring on {description}", file=sys.stderr)
    return Batches(dataset, batch_size, device), description


def _images(root: Path, split: str) -> list[Path]:
    return sorted((root / "leftImg8bit" / split).glob(f"*/*{IMAGE_SUFFIX}"))


def _pair(root: Path, split: str, image: Path) -> Pair:
    name = image.name.removesuffix(IMAGE_SUFFIX)
    folder = root / "gtFine" / split / image.parent.name
    for suffix in LABEL_SUFFIXES:
        if (folder / (name + suffix)).is_file():
            return Pair(name, image, folder / (name + suffix))
    raise LabError(f"expected a label {name}{LABEL_SUFFIXES[0]} or ..{LABEL_SUFFIXES[1]}, found neither in {folder} "
                   f"for the picture {image}: unpack gtFine beside leftImg8bit")


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise LabError(f"expected a whole PNG, found a damaged or unreadable file, {path} ({error}): "
                       "copy it again from the source") from None


def main() -> None:
    """Says what a data folder holds, so that a wrong path shows at once: python -m dataset.dataset [DATA]."""
    if len(sys.argv) > 2 or any(argument.startswith("-") for argument in sys.argv[1:]):
        raise LabError(f"expected at most a data folder, found {' '.join(sys.argv[1:])}: "
                       "python -m dataset.dataset [DATA]")
    root = find_data(sys.argv[1] if len(sys.argv) == 2 else None)
    counts = {split: len(list_split(root, split)) for split in ("train", "val")}
    print(f"{root}: {counts['train']} training and {counts['val']} validation pairs")


if __name__ == "__main__":
    run_main(main)
