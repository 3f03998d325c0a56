"""Batches for training and scoring, without worker processes.

A batch is gathered from the split's cache as stored bytes; everything else (float, normalization, augmentation) is done
to the whole batch on the device. One of three tiers keeps the bytes, the first that is possible:

    gpu     the whole split in the GPU's memory, where it takes at most a quarter of what is free
    ring    the computer's memory; a thread gathers into a ring of pinned buffers, from which the GPU copies while it
            computes
    cpu     the computer's memory, gathered into one reused buffer

A worker process of a DataLoader would cost more than all of the gathering (20 microseconds an image): it sends each
batch through shared memory and takes the few cores from those that compute.
"""
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dataset.augment import Augment, to_batch
from dataset.dataset import SegmentationDataset
from dataset.reader import DataFolder, find_data
from utils.lab import LabError

TIERS = ("gpu", "ring", "cpu")
ROOM = 1 / 4  # share of the free GPU memory that a split may take


class Batches:
    """A split as batches (data float32 (N, 3, 256, 512), target int64 (N, 256, 512)) on `device`.

    The dataset's `augment` is applied. The order and the augmentation of epoch e follow from (seed, e) alone, image by
    image, so a run can be repeated, resumed in the middle, or shared by several processes: `set_epoch` says which epoch
    comes next, and every pass moves on by one.

    shard: (rank, world), this process's part: every world-th image of the order, from the rank-th on. Shuffled
        batches leave out the remainder of the order (fewer than `world` images, other ones each epoch), so that all
        processes make equally many steps; unshuffled ones leave out and repeat nothing.
    batch_size: images a step, over all processes together.
    soft: uint8 (N, C, h, w), a second target of each image, such as a teacher's answers (training.distillation). It is
        the third part of each batch, mirrored with the image, and zero where the image was cropped.
    tier: where the bytes are kept, one of TIERS; None chooses.
    """

    def __init__(self, dataset: SegmentationDataset, batch_size: int, device: torch.device | str = "cpu",
                 shuffle: bool = False, seed: int = 0, shard: tuple[int, int] = (0, 1), tier: str | None = None,
                 soft: np.ndarray | None = None) -> None:
        self.rank, world = shard
        if batch_size < 1 or batch_size % world:
            raise LabError(f"expected BATCH_SIZE to be at least 1 and to divide by the number of processes, {world}, "
                           f"found {batch_size} in the settings")
        if getattr(dataset, "transforms", None):
            raise LabError("expected a dataset with augment=, found one with transforms=, which need a DataLoader: use "
                           "torch.utils.data.DataLoader(dataset, batch_size, shuffle=True)")
        self.dataset, self.batch_size, self.world = dataset, batch_size // world, world
        self.device = torch.device(device)
        self.shuffle, self.seed, self.epoch = shuffle, seed, 0
        self.arrays = dataset.arrays if soft is None else (*dataset.arrays, soft)
        if soft is not None and (soft.dtype != np.uint8 or soft.ndim != 4 or len(soft) != len(dataset)):
            raise ValueError(f"expected soft as uint8 ({len(dataset)}, C, h, w), got {soft.dtype} {soft.shape}")
        if tier not in (None, *TIERS):
            raise LabError(f"expected a tier of {', '.join(TIERS)}, found {tier!r}: leave it out to have it chosen")
        self.tier = tier or self._choose_tier()
        if self.tier == "gpu":
            self._resident = [torch.from_numpy(np.array(part)).to(self.device) for part in self.arrays]

    def __len__(self) -> int:
        return -(-len(self._share(range(len(self.dataset)))) // self.batch_size)

    def __str__(self) -> str:
        about = f"{self.dataset.split}: {len(self.dataset)} images, {self._bytes() / 1e9:.2f} GB, "
        source = f"the cache {self.dataset.cached.folder}" if self.dataset.cached else "memory, decoded just now"
        return about + {"gpu": f"in the memory of {self.device}, copied from {source}",
                           "ring": f"copied to {self.device} batch by batch from {source}",
                           "cpu": f"gathered batch by batch from {source}"}[self.tier]

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def take(self, indices: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
        """The images of these indices as one batch, whole and without augmentation, to look at."""
        images, targets = self.stored(indices)
        return to_batch(images.to(self.device), targets.to(self.device))

    def stored(self, indices: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
        """The same images as they are stored, on the CPU: uint8 (N, 256, 512, 3) and (N, 256, 512)."""
        index = np.asarray(indices)
        images, targets = (torch.from_numpy(part.take(index, axis=0)) for part in self.arrays[:2])
        return images, targets

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        self.epoch += 1
        n = len(self.dataset)
        order = torch.randperm(n, generator=generator) if self.shuffle else torch.arange(n)
        # Drawn for the whole order, not batch by batch: an image's numbers depend on its place in the order alone.
        numbers = torch.rand(n, Augment.DRAWS, generator=generator)
        order, numbers = self._share(order), self._share(numbers)
        if not len(order):  # fewer images than processes; split would make one empty batch of it
            return
        gathered = {"gpu": self._from_gpu, "ring": self._from_ring, "cpu": self._from_memory}[self.tier]
        augment = self.dataset.augment
        for (images, targets, *soft), own in zip(gathered(order), numbers.split(self.batch_size), strict=True):
            soft = [(augment.follow(part, own) if augment else part).clone() for part in soft]  # of a reused buffer
            yield *to_batch(images, targets, augment, own), *soft

    def _share(self, order):
        """This process's part of a sequence with one entry an image."""
        if self.shuffle:
            order = order[:len(order) - len(order) % self.world]
        return order[self.rank::self.world]

    def _bytes(self) -> int:
        return sum(part.nbytes for part in self.arrays)

    def _choose_tier(self) -> str:
        if self.device.type != "cuda":
            return "cpu"
        free, _ = torch.cuda.mem_get_info(self.device)
        return "gpu" if self._bytes() <= ROOM * free else "ring"

    def _from_gpu(self, order: Tensor) -> Iterator[list[Tensor]]:
        for index in order.to(self.device, non_blocking=True).split(self.batch_size):
            yield [part.index_select(0, index) for part in self._resident]

    def _from_memory(self, order: Tensor) -> Iterator[list[Tensor]]:
        buffer = new_buffer(self.arrays, min(self.batch_size, len(order)))
        for index in order.split(self.batch_size):
            yield [part.to(self.device) for part in gather(buffer, self.arrays, index)]

    def _from_ring(self, order: Tensor) -> Iterator[list[Tensor]]:
        from dataset.ring import through_ring  # threads and pinned memory: for a GPU alone

        return through_ring(self.arrays, order.split(self.batch_size), self.device, f"batches of {self.dataset.split}")


def new_buffer(arrays: Sequence[np.ndarray], n: int, pinned: bool = False) -> list[Tensor]:
    """Memory for n images as they are stored; a GPU copies from it in the background if it is pinned."""
    return [torch.empty(n, *part.shape[1:], dtype=torch.uint8, pin_memory=pinned) for part in arrays]


def gather(buffer: Sequence[Tensor], arrays: Sequence[np.ndarray], index: Tensor) -> list[Tensor]:
    """The images of these indices, copied to the front of the buffer."""
    parts = [part[:len(index)] for part in buffer]
    for part, source in zip(parts, arrays, strict=True):
        # np.take into a buffer: a tensor indexed with [] is 10 times slower; mode "raise" would copy twice
        np.take(source, index.numpy(), axis=0, out=part.numpy(), mode="clip")
    return parts


def open_evaluation(path: DataFolder | str | Path | None, split: str | None, device: torch.device, batch_size: int = 8
                    ) -> tuple[Batches, str]:
    """The split to score on, unaugmented and in order, and a line that says which data it is.

    Without a `split` it is the folder's `scored_split`. Raises LabError for data of other classes than the lab's 8.
    """
    folder = find_data(path)
    folder.require_lab_classes()
    split = split or folder.scored_split
    batches = Batches(SegmentationDataset(folder, split), batch_size, device)
    kind = "the lab's drawn sample" if folder.is_sample else f"laid out as {folder.layout.name}"
    print(f"scoring on {split} of {folder} ({kind})\n{batches}", file=sys.stderr)
    return batches, f"{split} of {folder} ({kind}), {len(batches.dataset)} images"
