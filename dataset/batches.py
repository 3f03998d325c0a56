"""Batches for training and scoring, without worker processes."""
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from dataset.augment import to_batch
from dataset.dataset import Cityscapes
from dataset.reader import find_data, scored_split
from dataset.sample import is_sample
from utils.lab import LabError


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


def open_evaluation(path: str | Path | None, split: str | None, device: torch.device, batch_size: int = 8
                    ) -> tuple[Batches, str]:
    """The split to score on, unaugmented and in order, and a line that says which data it is.

    Without a `split` it is `scored_split`'s.
    """
    root = find_data(path)
    split = split or scored_split(root)
    dataset = Cityscapes(root, split)
    kind = "the lab's drawn sample" if is_sample(root) else "Cityscapes' layout"
    description = f"{split} of {root} ({kind}), {len(dataset)} pictures"
    print(f"scoring on {description}", file=sys.stderr)
    return Batches(dataset, batch_size, device), description
