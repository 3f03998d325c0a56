"""Image pairs of Cityscapes' size, stored rows of the lab's size, and the usual way from a PNG to a tensor."""
import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import transforms
from tqdm import tqdm

from benchmarks.measure import exhaust, require
from dataset.augment import Augment
from dataset.layouts.cityscapes import IMAGE_SUFFIX, LABEL_SUFFIXES
from dataset.reader import Pair, find_data, read_image, read_label
from sample.draw import draw_sample
from utils.lab import INPUT_SIZE, MEAN, STD, LabError
from utils.labels_cat import labels
from utils.machine import in_threads
from utils.terminal import bar_stream

SOURCE_SIZE = (1024, 2048)
SIGMA = 0.42            # of the noise that brings a drawn image's PNG to Cityscapes' 2.1 MB
IMAGE_TOLERANCE = 2.0   # of 255 levels, on average: torchvision's bilinear filter is not the lab's 4 x 4 mean


@dataclass(frozen=True)
class Sizes:
    """How much is measured. 256 rows are 134 MB, more than a last-level cache holds."""

    rounds: int = 5
    pairs: int = 12       # PNG pairs
    rows: int = 256       # stored rows
    passes: int = 4       # over the rows in one round, where a pass takes milliseconds
    batch: int = 8        # images a batch where nothing is trained
    train_batch: int = 4  # the notebooks' BATCH_SIZE on a CPU
    steps: int = 8        # training steps in one round
    gpu_batch: int = 16
    gpu_steps: int = 64
    gpu_width: int = 32   # of the U-Net, the notebook's on a GPU
    students: int = 30    # hand-ins of a class
    scored: int = 200     # images that they are scored on


QUICK = Sizes(rounds=1, pairs=2, rows=16, passes=1, batch=2, train_batch=2, steps=2, gpu_batch=2, gpu_steps=1,
              gpu_width=4, students=1, scored=2)


class Data:
    """What a run of the benchmarks works on, below `folder`; each part is made when it is first asked for.

    source: Cityscapes, of whose training split some pairs are taken; None draws pairs.
    """

    def __init__(self, folder: Path, sizes: Sizes, source: Path | None = None) -> None:
        self.folder, self.sizes, self.source = folder, sizes, source

    @functools.cached_property
    def root(self) -> Path:
        """A folder in Cityscapes' layout with `sizes.pairs` training pairs of 1024 x 2048."""
        if self.source is None:
            return _draw(self.folder, self.sizes.pairs)
        pairs = find_data(self.source).pairs("train")
        chosen = pairs[::max(1, len(pairs) // self.sizes.pairs)][:self.sizes.pairs]
        for pair in chosen:
            with Image.open(pair.image) as image:
                if image.size[::-1] != SOURCE_SIZE or not pair.label.name.endswith(LABEL_SUFFIXES[0]):
                    raise LabError(f"expected images of 1024 x 2048 with {LABEL_SUFFIXES[0]}, found {image.height} x "
                                   f"{image.width} and {pair.label.name} in {pair.image}: pass Cityscapes, or leave "
                                   "--data out")
        return link(chosen, self.folder / "pairs", "train", len(chosen))

    @functools.cached_property
    def pairs(self) -> list[Pair]:
        return find_data(self.root).pairs("train")

    @functools.cached_property
    def decoded(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The pairs as the lab reads them, uint8 (256, 512, 3) and (256, 512), once the usual way agrees with them."""
        read = list(in_threads(lambda pair: (read_image(pair.image), read_label(pair.label)), self.pairs))
        usual = Usual(self.pairs)
        for index, (image, label) in enumerate(read):
            data, target = usual[index]
            name = self.pairs[index].name
            require(np.array_equal(target.numpy(), label), f"the usual label of {name} to be the lab's")
            levels = (data.permute(1, 2, 0).numpy() * STD + MEAN) * 255
            distance = float(np.abs(levels - image).mean())
            require(distance <= IMAGE_TOLERANCE, f"the usual image of {name} within {IMAGE_TOLERANCE} of 255 levels "
                    "of the lab's", f"{distance:.2f}")
        return read

    @functools.cached_property
    def stored(self) -> Path:
        """A folder with images.npy and labels.npy as a cache has them, the pairs repeated to `sizes.rows` rows."""
        folder = self.folder / "rows"
        folder.mkdir()
        for name, parts in zip(("images", "labels"), zip(*self.decoded, strict=True), strict=True):
            np.save(folder / f"{name}.npy", np.stack([parts[row % len(parts)] for row in range(self.sizes.rows)]))
        return folder

    def rows(self, augment: Augment | None = None, n: int | None = None) -> "Rows":
        return Rows(self.stored, augment, n)

    def describe(self) -> dict:
        image, label = (np.mean([getattr(pair, kind).stat().st_size for pair in self.pairs])
                        for kind in ("image", "label"))
        return {"source": str(self.source or "drawn by the lab"), "image_bytes": image, "label_bytes": label,
                **asdict(self.sizes)}


class Rows:
    """What Batches asks of a data set: the first `n` stored rows of `folder`, memory-mapped as those of a cache."""

    split, cached = "train", None

    def __init__(self, folder: Path, augment: Augment | None = None, n: int | None = None) -> None:
        self.augment = augment
        self.arrays = [open_memmap(folder / f"{name}.npy", mode="r")[:n] for name in ("images", "labels")]

    def __len__(self) -> int:
        return len(self.arrays[0])


class Usual(Dataset):
    """The data set of most hand-outs: decodes and resizes the PNGs every time, with a mask for each label id."""

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


def link(pairs: Sequence[Pair], root: Path, split: str, count: int) -> Path:
    """A folder in Cityscapes' layout whose `split` is `count` links to `pairs`, each pair as often as needed."""
    for index in range(count):
        pair = pairs[index % len(pairs)]
        for target, place in zip((pair.image, pair.label), _places(root, split, f"x_{index:06d}_000000"), strict=True):
            place.symlink_to(target.resolve())
    return root


def _draw(folder: Path, count: int) -> Path:
    """Draws `count` pairs and brings them to 1024 x 2048: bicubic and noise for images, nearest for labels."""
    pairs = find_data(draw_sample(folder / "drawn", train=count, val=1)).pairs("train")
    enlarged = in_threads(lambda index: _enlarge(pairs[index], index, folder / "pairs"), range(count))
    exhaust(tqdm(enlarged, "pairs of 1024 x 2048", count, unit="pair", leave=False, file=bar_stream()))
    return folder / "pairs"


def _enlarge(pair: Pair, index: int, root: Path) -> None:
    height, width = SOURCE_SIZE
    image_path, label_path = _places(root, "train", f"x_{index:06d}_000000")
    with Image.open(pair.image) as opened, Image.open(pair.label) as label:
        # Halved first: the drawn images' own sensor noise, enlarged, would make a PNG of 2.8 MB.
        large = opened.reduce(2).resize((width, height), Image.Resampling.BICUBIC)
        noise = np.random.default_rng(index).standard_normal((height, width, 3), np.float32)
        pixels = np.rint(np.asarray(large) + SIGMA * noise).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(image_path)
        label.resize((width, height), Image.Resampling.NEAREST).save(label_path)


def _places(root: Path, split: str, stem: str) -> tuple[Path, Path]:
    """Where an image and its label go; their folders exist then."""
    image = root / "leftImg8bit" / split / "x" / f"{stem}{IMAGE_SUFFIX}"
    label = root / "gtFine" / split / "x" / f"{stem}{LABEL_SUFFIXES[0]}"
    for path in (image, label):
        path.parent.mkdir(parents=True, exist_ok=True)
    return image, label
