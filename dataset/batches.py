"""Batches for training and scoring, without worker processes.

A batch is gathered from the split's cache as stored bytes, and everything else (float, normalisation, augmentation)
happens to the whole batch on the device. Where the bytes are kept is chosen by itself:

    gpu     the whole split in the GPU's memory, where it takes at most a quarter of what is free
    ring    in the computer's memory; a thread gathers into a ring of pinned buffers, from which the GPU copies while
            it computes
    cpu     in the computer's memory, gathered into one reused buffer

A worker process of a DataLoader would cost more than the whole gathering (20 microseconds a picture): it sends each
batch through shared memory, and with few cores it takes the time of those that compute.
"""
import contextlib
import itertools
import queue
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dataset.augment import Augment, to_batch
from dataset.dataset import SegmentationDataset
from dataset.reader import find_data, layout_of, require_lab_classes, scored_split
from dataset.sample import is_sample
from utils.lab import LabError

TIERS = ("gpu", "ring", "cpu")
ROOM = 1 / 4  # share of the free GPU memory that a split may take
RING = 3      # buffers: one is filled, one waits, one is copied


class Batches:
    """A split as batches (data float32 (N, 3, 256, 512), target int64 (N, 256, 512)) on `device`.

    The pictures are augmented as the dataset says. The order and the augmentation of epoch e follow from (seed, e)
    alone, picture by picture, so a run can be repeated, taken up in the middle, or shared by several processes:
    `set_epoch` says which epoch comes next, and every pass moves on by one.

    shard: (rank, world), this process's part: every world-th picture of the order, from the rank-th on. Shuffled
        batches leave out what is left over of the order when it is dealt (fewer than `world` pictures, other ones each
        epoch), so that all processes make equally many steps; unshuffled ones leave out and repeat nothing.
    batch_size: pictures a step, over all processes together.
    soft: uint8 (N, C, h, w), something known of each picture beside its target, such as a teacher's answers
        (training.distillation). Each batch then has it as a third part, mirrored where the picture is, and zero where
        the picture was cropped.
    tier: where the bytes are kept, one of TIERS; None chooses.
    """

    def __init__(self, dataset: SegmentationDataset, batch_size: int, device: torch.device | str = "cpu",
                 shuffle: bool = False, seed: int = 0, shard: tuple[int, int] = (0, 1), tier: str | None = None,
                 soft: np.ndarray | None = None) -> None:
        self.rank, world = shard
        if batch_size < 1 or batch_size % world:
            raise LabError(f"expected BATCH_SIZE to be at least 1 and to divide by the number of processes, {world}, "
                           f"found {batch_size} in the settings")
        self.dataset, self.batch_size, self.world = dataset, batch_size // world, world
        self.device = torch.device(device)
        self.shuffle, self.seed, self.epoch = shuffle, seed, 0
        self.arrays = dataset.arrays if soft is None else (*dataset.arrays, soft)
        if soft is not None and (soft.dtype != np.uint8 or soft.ndim != 4 or len(soft) != len(dataset)):
            raise ValueError(f"expected soft as uint8 ({len(dataset)}, C, h, w), got {soft.dtype} {soft.shape}")
        if tier not in (None, *TIERS):
            raise LabError(f"expected a tier of {', '.join(TIERS)}, found {tier!r}: leave it out, it is chosen then")
        self.tier = tier or self._choose_tier()
        if self.tier == "gpu":
            self._resident = [torch.from_numpy(np.array(part)).to(self.device) for part in self.arrays]

    def __len__(self) -> int:
        return -(-len(self._share(range(len(self.dataset)))) // self.batch_size)

    def __str__(self) -> str:
        pictures = f"{self.dataset.split}: {len(self.dataset)} pictures, {self._bytes() / 1e9:.2f} GB, "
        source = f"the cache {self.dataset.cached.folder}" if self.dataset.cached else "memory, decoded just now"
        return pictures + {"gpu": f"in the memory of {self.device}, copied from {source}",
                           "ring": f"copied to {self.device} batch by batch from {source}",
                           "cpu": f"gathered batch by batch from {source}"}[self.tier]

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def take(self, indices: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
        """The pictures of these indices as one batch, whole and unaugmented: to look at."""
        images, targets = self.stored(indices)
        return to_batch(images.to(self.device), targets.to(self.device))

    def stored(self, indices: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
        """The same pictures as they are stored, on the CPU: uint8 (N, 256, 512, 3) and (N, 256, 512)."""
        index = np.asarray(indices)
        images, targets = (torch.from_numpy(part.take(index, axis=0)) for part in self.arrays[:2])
        return images, targets

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        self.epoch += 1
        n = len(self.dataset)
        order = torch.randperm(n, generator=generator) if self.shuffle else torch.arange(n)
        # Drawn for the whole order, not batch by batch: a picture's numbers depend on its place in the order alone.
        numbers = torch.rand(n, Augment.DRAWS, generator=generator)
        order, numbers = self._share(order), self._share(numbers)
        if not len(order):  # fewer pictures than processes; split would make one empty batch of it
            return
        gathered = {"gpu": self._from_gpu, "ring": self._from_ring, "cpu": self._from_memory}[self.tier]
        augment = self.dataset.augment
        for (images, targets, *soft), own in zip(gathered(order), numbers.split(self.batch_size), strict=True):
            soft = [(augment.follow(part, own) if augment else part).clone() for part in soft]  # of a reused buffer
            yield *to_batch(images, targets, augment, own), *soft

    def _share(self, order):
        """This process's part of a sequence with one entry a picture."""
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
        buffer = _Buffer(self.arrays, min(self.batch_size, len(order)), pinned=False)
        for index in order.split(self.batch_size):
            yield [part.to(self.device) for part in buffer.fill(self.arrays, index)]

    def _from_ring(self, order: Tensor) -> Iterator[list[Tensor]]:
        indices = order.split(self.batch_size)
        ready, stop = queue.Queue(maxsize=1), threading.Event()

        def put(item: object) -> None:
            while not stop.is_set():
                with contextlib.suppress(queue.Full):
                    return ready.put(item, timeout=0.1)

        def fill() -> None:
            try:
                on_gpu = self.device.type == "cuda"
                size = min(self.batch_size, len(order))
                ring = [_Buffer(self.arrays, size, pinned=on_gpu) for _ in range(min(RING, len(indices)))]
                stream = torch.cuda.Stream(self.device) if on_gpu else None  # copies beside the network's work
                for index, buffer in zip(indices, itertools.cycle(ring)):
                    if stop.is_set():
                        return
                    buffer.wait()
                    put(buffer.send(buffer.fill(self.arrays, index), self.device, stream))
            except Exception as error:  # raised where the batches are used
                put(error)

        thread = threading.Thread(target=fill, name=f"batches of {self.dataset.split}", daemon=True)
        thread.start()
        try:
            for _ in indices:
                sent = ready.get()
                if isinstance(sent, Exception):
                    raise sent
                parts, copied = sent
                if copied:
                    torch.cuda.current_stream(self.device).wait_event(copied)
                    for part in parts:
                        part.record_stream(torch.cuda.current_stream(self.device))
                yield parts
        finally:
            stop.set()
            thread.join()


class _Buffer:
    """Memory for one batch as it is stored, used again and again; a GPU can copy from it by itself if it is pinned."""

    def __init__(self, arrays: Sequence[np.ndarray], n: int, pinned: bool) -> None:
        self.parts = [torch.empty(n, *part.shape[1:], dtype=torch.uint8, pin_memory=pinned) for part in arrays]
        self.copied: torch.cuda.Event | None = None

    def fill(self, arrays: Sequence[np.ndarray], index: Tensor) -> list[Tensor]:
        parts = [buffer[:len(index)] for buffer in self.parts]
        for part, source in zip(parts, arrays, strict=True):
            # np.take into a buffer: a tensor indexed with [] is 10 times slower; mode "raise" would copy twice
            np.take(source, index.numpy(), axis=0, out=part.numpy(), mode="clip")
        return parts

    def send(self, parts: list[Tensor], device: torch.device, stream: torch.cuda.Stream | None
             ) -> tuple[list[Tensor], torch.cuda.Event | None]:
        """Copies on the device, and the event that says they are there; None on a CPU, where they are at once."""
        if stream is None:
            return [part.clone() for part in parts], None
        with torch.cuda.stream(stream):
            sent = [part.to(device, non_blocking=True) for part in parts]
            self.copied = torch.cuda.Event()
            self.copied.record(stream)
        return sent, self.copied

    def wait(self) -> None:
        """Returns when the buffer may be filled again."""
        if self.copied:
            self.copied.synchronize()


def open_evaluation(path: str | Path | None, split: str | None, device: torch.device, batch_size: int = 8
                    ) -> tuple[Batches, str]:
    """The split to score on, unaugmented and in order, and a line that says which data it is.

    Without a `split` it is `scored_split`'s. Raises LabError for data of other classes than the lab's 8.
    """
    root = find_data(path)
    require_lab_classes(root)
    split = split or scored_split(root)
    batches = Batches(SegmentationDataset(root, split), batch_size, device)
    kind = "the lab's drawn sample" if is_sample(root) else f"laid out as {layout_of(root).name}"
    print(f"scoring on {split} of {root} ({kind})\n{batches}", file=sys.stderr)
    return batches, f"{split} of {root} ({kind}), {len(batches.dataset)} pictures"
