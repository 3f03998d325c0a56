"""One split of the data as a torch Dataset, for those who want a DataLoader; dataset.batches is the faster way."""
import contextlib
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from dataset.augment import Augment, to_batch
from dataset.cache import open_cache, remap
from dataset.reader import DataFolder, file_status, find_data, read_image, read_label
from utils.classes import Classes
from utils.lab import INPUT_SIZE, LabError
from utils.machine import in_threads
from utils.terminal import bar_stream, run_main


class SegmentationDataset(Dataset):
    """One split as a torch Dataset: (image float32 (3, 256, 512) normalized, target int64 (256, 512)).

    The target holds the indices of `classes`, 0..7 for the lab's categories, and 255 where the label says nothing or
    `augment` or `transforms` made pixels up. Both work on image and mask together. `transforms` are torchvision's v2 or
    a function of (image, mask); they need a DataLoader, Batches takes `augment` alone. Random numbers come from torch's
    global generator, which DataLoader seeds for each worker. `folder` is the DataFolder of the pairs.

    Items come from the split's cache, which the first use builds; without `cache`, or where there can be none, from
    the files, each time.

    part: from which to which share of the split, in the order of the files' names: (0, 0.95) leaves out the last
    twentieth, whole drives rather than single images, which (0.95, 1) is. Raises LabError if that leaves nothing.
    """

    def __init__(self, root: DataFolder | str | Path | None, split: str, augment: Augment | None = None,
                 transforms: Callable | None = None, part: tuple[float, float] = (0, 1), cache: bool = True) -> None:
        self.folder = find_data(root)
        self.split = split
        pairs = self.folder.pairs(split)
        self.first, end = (round(share * len(pairs)) for share in part)
        if not 0 <= self.first < end <= len(pairs):
            raise LabError(f"expected a part of the {len(pairs)} images of {split}, found none from share {part[0]} "
                           f"to {part[1]} in the settings")
        self.pairs = pairs[self.first:end]
        self.augment, self.transforms = augment, None
        if transforms is not None:
            from dataset.transforms import JointTransforms  # torchvision is loaded only where it is used

            if augment is not None:
                raise LabError("expected augment or transforms, found both in SegmentationDataset: leave one out")
            self.transforms = JointTransforms(transforms, len(self.classes))
        self.cached = open_cache(self.folder, split, pairs) if cache else None
        if not self.cached:
            self.folder.layout.check_labels([pair.label for pair in pairs])

    @property
    def classes(self) -> Classes:
        return self.folder.classes

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, target = map(torch.from_numpy, self.read(index))
        if self.transforms:
            return self.transforms(image, target)
        data, target = to_batch(image[None], target[None], self.augment)
        return data[0], target[0]

    def __getstate__(self) -> dict:
        """What a worker process gets: the place of the cache instead of all its pixels."""
        state = {name: value for name, value in self.__dict__.items() if name != "arrays"}
        return state | {"cached": self.cached and self.cached.folder}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state | {"cached": state["cached"] and remap(state["cached"])})

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """A pair as stored values: image uint8 (256, 512, 3) and classes uint8 (256, 512)."""
        if self.cached:
            images, targets = self.arrays
            return np.array(images[index]), np.array(targets[index])
        pair = self.pairs[index]
        return read_image(pair.image, self.folder.layout), read_label(pair.label, self.folder.layout)

    @functools.cached_property
    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """All pairs, uint8 (N, 256, 512, 3) and (N, 256, 512): the cache, or else decoded into memory, with a bar."""
        if self.cached:
            own = slice(self.first, self.first + len(self))
            return self.cached.images[own], self.cached.targets[own]
        images = np.empty((len(self), *INPUT_SIZE, 3), np.uint8)
        targets = np.empty((len(self), *INPUT_SIZE), np.uint8)

        def store(index: int) -> None:
            images[index], targets[index] = self.read(index)

        with contextlib.closing(in_threads(store, range(len(self)))) as stored:
            for _ in tqdm(stored, f"reading {self.split}", len(self), unit="pair", file=bar_stream(), leave=False):
                pass
        return images, targets

    @functools.cached_property
    def fingerprint(self) -> str:
        """A digest of the names and sizes of `part`'s files, wherever they lie: other data have another one."""
        files = [(path.name, file_status(path).st_size) for pair in self.pairs for path in (pair.image, pair.label)]
        return hashlib.sha256(repr(files).encode()).hexdigest()[:12]


if __name__ == "__main__":
    from dataset.commands import describe

    run_main(describe)
