"""One split of the data as a torch Dataset, for those who want a DataLoader; dataset.batches is the faster way."""
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from dataset.augment import Augment, to_batch
from dataset.reader import find_data, list_split, read_image, read_label
from utils.lab import INPUT_SIZE, LabError
from utils.machine import available_cores
from utils.terminal import bar_stream, run_main


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
