"""Pairs of Cityscapes' size, array files of stored rows, and the naive road from a PNG to a tensor."""
import contextlib
import functools
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import transforms
from tqdm import tqdm

from benchmarks.measure import require
from dataset.augment import Augment
from dataset.layouts.cityscapes import IMAGE_SUFFIX, LABEL_SUFFIXES
from dataset.reader import Pair, list_split, read_image, read_label, scored_split
from dataset.sample import draw_sample
from utils.lab import INPUT_SIZE, MEAN, STD, LabError
from utils.labels_cat import labels
from utils.machine import in_threads
from utils.terminal import bar_stream

SOURCE_SIZE = (1024, 2048)
SIGMA = 0.42          # of the noise that brings a drawn picture's PNG to Cityscapes' 2.1 MB
IMAGE_TOLERANCE = 2.  # levels of 255, on average: torchvision's bilinear filter is another one than the 4 x 4 mean


class Data:
    """`count` pairs of 1024 x 2048 in Cityscapes' layout below `folder`, and `rows` rows of the lab's size.

    source: Cityscapes, of which the pairs are copied; None draws them.
    """

    def __init__(self, folder: Path, count: int, rows: int, source: Path | None = None) -> None:
        self.folder, self.root, self.rows = folder, folder / "pairs", rows
        with _room(folder):
            if source is None:
                self.origin = (f"drawn by the lab (dataset.sample), brought to 1024 x 2048 (bicubic, labels nearest), "
                               f"Gaussian noise of sigma {SIGMA}")
                _draw_pairs(folder / "drawn", self.root, count)
            else:
                self.origin = f"of {source}"
                _copy_pairs(source, self.root, count)
        self.pairs = list_split(self.root, "train")

    @functools.cached_property
    def decoded(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The pairs as the lab reads them: uint8 (256, 512, 3) and (256, 512)."""
        return list(in_threads(lambda pair: (read_image(pair.image), read_label(pair.label)), self.pairs))

    @functools.cached_property
    def arrays(self) -> Path:
        """A folder with images.npy and labels.npy as a cache has them, the pairs repeated to `rows` rows."""
        repeated = [self.decoded[index % len(self.pairs)] for index in range(self.rows)]
        folder = self.folder / "rows"
        with _room(self.folder):
            folder.mkdir()
            for name, parts in zip(("images", "labels"), zip(*repeated, strict=True), strict=True):
                np.save(folder / f"{name}.npy", np.stack(parts))
        return folder

    def stored(self, augment: Augment | None = None, n: int | None = None) -> "Rows":
        return Rows(self.arrays, augment, n)

    def cold_copy(self) -> Path:
        """Another folder like `arrays`, which no process has mapped, so that its pages can be dropped."""
        folder = self.folder / "cold"
        if not folder.exists():
            with _room(self.folder):
                shutil.copytree(self.arrays, folder)
        return folder

    @functools.cached_property
    def checked(self) -> bool:
        """True once the naive road has given the lab's labels, and its pictures but for the filter; else LabError."""
        naive = Naive(self.pairs)
        for index, (image, label) in enumerate(self.decoded):
            data, target = naive[index]
            name = self.pairs[index].name
            require(np.array_equal(target.numpy(), label), f"the naive road's label of {name} to be the lab's")
            levels = (data.permute(1, 2, 0).numpy() * STD + MEAN) * 255
            distance = float(np.abs(levels - image).mean())
            require(distance <= IMAGE_TOLERANCE,
                    f"the naive road's picture of {name} within {IMAGE_TOLERANCE} of 255 levels of the lab's",
                    f"{distance:.2f}")
        return True

    def describe(self) -> dict:
        sizes = [[path.stat().st_size for path in paths] for paths in
                 ([pair.image for pair in self.pairs], [pair.label for pair in self.pairs])]
        return {"origin": self.origin, "pairs": len(self.pairs), "image_bytes": float(np.mean(sizes[0])),
                "label_bytes": float(np.mean(sizes[1])), "rows": self.rows,
                "row_bytes": INPUT_SIZE[0] * INPUT_SIZE[1] * 4}

    def __str__(self) -> str:
        d = self.describe()
        return (f"data: {d['pairs']} pairs {d['origin']}; mean PNG {d['image_bytes'] / 1e6:.2f} MB, label "
                f"{d['label_bytes'] / 1e3:.0f} KB\n"
                f"      gathering from an array file of {d['rows']} rows, {d['rows'] * d['row_bytes'] / 1e6:.0f} MB, "
                "the pairs repeated; page cache hot unless said")


class Rows:
    """What Batches asks of a data set: the first `n` rows of the array files in `folder`, memory-mapped."""

    split, cached = "train", None

    def __init__(self, folder: Path, augment: Augment | None = None, n: int | None = None) -> None:
        self.augment = augment
        self.arrays = [open_memmap(folder / f"{name}.npy", mode="r")[:n] for name in ("images", "labels")]

    def __len__(self) -> int:
        return len(self.arrays[0])


class Naive(Dataset):
    """The road of most hand-outs: each time decode the PNGs, resize, make it float, and a mask for each label id."""

    def __init__(self, pairs: Sequence[Pair], n: int | None = None) -> None:
        self.pairs, self.n = pairs, n or len(pairs)
        self.transform = transforms.Compose(
            [transforms.Resize(INPUT_SIZE), transforms.ToTensor(), transforms.Normalize(MEAN, STD)])

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        pair = self.pairs[index % len(self.pairs)]
        data = self.transform(Image.open(pair.image).convert("RGB"))
        ids = np.array(Image.open(pair.label).resize(INPUT_SIZE[::-1], Image.Resampling.NEAREST))
        target = np.zeros(INPUT_SIZE, np.int64)
        for label in labels:
            if label.id >= 0:
                target[ids == label.id] = label.trainId
        return data, torch.from_numpy(target)


def drop_pages(folder: Path) -> None:
    """Takes the files of `folder`, which nobody may have mapped, out of the page cache."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())  # a page that is still to be written stays
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextlib.contextmanager
def _room(folder: Path) -> Iterator[None]:
    """Turns a full disk into a LabError."""
    try:
        yield
    except OSError as error:
        raise LabError(f"expected to write 300 MB to {folder}, found: {error.strerror or error}: free some space, or "
                       "set TMPDIR to a folder with room") from None


def _draw_pairs(drawn: Path, root: Path, count: int) -> None:
    pairs = list_split(draw_sample(drawn, train=count, val=1), "train")
    enlarged = in_threads(lambda index: _enlarge(pairs[index], index, root), range(count))
    for _ in tqdm(enlarged, "pairs of 1024 x 2048", count, unit="pair", leave=False, file=bar_stream()):
        pass


def _enlarge(pair: Pair, seed: int, root: Path) -> None:
    height, width = SOURCE_SIZE
    with Image.open(pair.image) as picture, Image.open(pair.label) as label:
        # Halved first: the drawn pictures' own sensor noise, enlarged, would make a PNG of 2.8 MB.
        large = picture.reduce(2).resize((width, height), Image.Resampling.BICUBIC)
        noise = np.random.default_rng(seed).standard_normal((height, width, 3), np.float32)
        pixels = np.rint(np.asarray(large) + SIGMA * noise).clip(0, 255).astype(np.uint8)
        image_path, label_path = _paths(root, pair)
        Image.fromarray(pixels).save(image_path)
        label.resize((width, height), Image.Resampling.NEAREST).save(label_path)


def _copy_pairs(source: Path, root: Path, count: int) -> None:
    split = "train" if (source / "leftImg8bit" / "train").is_dir() else scored_split(source)
    pairs = list_split(source, split)
    for pair in pairs[::max(1, len(pairs) // count)][:count]:
        if not pair.label.name.endswith(LABEL_SUFFIXES[0]):
            raise LabError(f"expected a label {LABEL_SUFFIXES[0]}, which the naive road reads, found {pair.label}: "
                           "use Cityscapes' gtFine as it is, or leave --data out")
        with Image.open(pair.image) as picture:
            if picture.size[::-1] != SOURCE_SIZE:
                raise LabError(f"expected pictures of 1024 x 2048, for which the goals hold, found "
                               f"{picture.height} x {picture.width} in {pair.image}: pass Cityscapes, or leave "
                               "--data out")
        for path, copy in zip((pair.image, pair.label), _paths(root, pair), strict=True):
            shutil.copyfile(path, copy)
    print(f"copied {min(count, len(pairs))} of {len(pairs)} pairs of {split}", file=sys.stderr)


def _paths(root: Path, pair: Pair) -> tuple[Path, Path]:
    """Where a copy of the pair goes; its folders exist then."""
    city = pair.image.parent.name
    paths = (root / "leftImg8bit" / "train" / city / f"{pair.name}{IMAGE_SUFFIX}",
             root / "gtFine" / "train" / city / f"{pair.name}{LABEL_SUFFIXES[0]}")
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    return paths
