"""One split of the data as a torch Dataset, for those who want a DataLoader; dataset.batches is the faster way."""
import contextlib
import functools
import hashlib
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from dataset.augment import Augment, to_batch
from dataset.cache import open_cache, remap
from dataset.reader import file_status, find_data, layout_of, list_split, read_image, read_label, used_splits
from utils.classes import Classes
from utils.lab import INPUT_SIZE, LabError
from utils.machine import in_threads
from utils.terminal import bar_stream, run_main


class SegmentationDataset(Dataset):
    """One split as a torch Dataset: (image float32 (3, 256, 512) normalised, target int64 (256, 512)).

    The target holds the indices of `classes`, 0..7 for the lab's categories, and 255 where the label says nothing or
    `augment` made pixels up. `augment` works on image and mask together; its random numbers come from torch's global
    generator, which DataLoader seeds for each worker. `layout` says which data set it is: `layout.name`.

    Items come from the split's cache, which the first use builds; without `cache`, or where there can be none, from
    the files, each time.

    part: from which to which share of the split, in the order of the files' names: (0, 0.95) leaves out the last
    twentieth, which (0.95, 1) is, whole drives rather than single pictures. Raises LabError if that leaves nothing.
    """

    def __init__(self, root: str | Path | None, split: str, augment: Augment | None = None, cache: bool = True,
                 part: tuple[float, float] = (0, 1)) -> None:
        self.root = find_data(root)
        self.layout = layout_of(self.root)
        self.split = split
        pairs = list_split(self.root, split)
        self.first, end = (round(share * len(pairs)) for share in part)
        if not 0 <= self.first < end <= len(pairs):
            raise LabError(f"expected a part of the {len(pairs)} pictures of {split}, found none from share {part[0]} "
                           f"to {part[1]} in the settings")
        self.pairs = pairs[self.first:end]
        self.augment = augment
        self.cached = open_cache(self.root, split, pairs) if cache else None

    @property
    def classes(self) -> Classes:
        return self.layout.classes

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, target = self.read(index)
        data, target = to_batch(torch.from_numpy(image)[None], torch.from_numpy(target)[None], self.augment)
        return data[0], target[0]

    def __getstate__(self) -> dict:
        """What a worker process gets: the place of the cache instead of all its pixels."""
        state = {name: value for name, value in self.__dict__.items() if name != "arrays"}
        return state | {"cached": self.cached and self.cached.folder}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state | {"cached": state["cached"] and remap(state["cached"])})

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """A pair as stored values: picture uint8 (256, 512, 3) and classes uint8 (256, 512)."""
        if self.cached:
            images, targets = self.arrays
            return np.array(images[index]), np.array(targets[index])
        pair = self.pairs[index]
        return read_image(pair.image, self.layout), read_label(pair.label, self.layout)

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
        """Tells one data set from another: a digest of the names and sizes of `part`'s files, wherever they lie."""
        files = [(path.name, file_status(path).st_size) for pair in self.pairs for path in (pair.image, pair.label)]
        return hashlib.sha256(repr(files).encode()).hexdigest()[:12]


def main() -> None:
    """Says what a data folder holds, so that a wrong path shows at once: python -m dataset.dataset [DATA]."""
    if len(sys.argv) > 2 or any(argument.startswith("-") for argument in sys.argv[1:]):
        raise LabError(f"expected at most a data folder, found {' '.join(sys.argv[1:])}: "
                       "python -m dataset.dataset [DATA]")
    root = find_data(sys.argv[1] if len(sys.argv) == 2 else None)
    layout = layout_of(root)
    counts = [f"{len(list_split(root, split))} of {split}" for split in used_splits(root)]
    print(f"{root}: laid out as {layout.name}, {len(layout.classes)} classes, pairs: {', '.join(counts)}")


if __name__ == "__main__":
    run_main(main)
