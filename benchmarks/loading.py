"""From files to batches: one stored sample, batches for a network on the CPU, and the building of the cache."""
import contextlib
import io
import itertools
import os
from collections.abc import Iterator
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from benchmarks.data import Data, Usual
from benchmarks.measure import Table, Timed, exhaust, require
from dataset.batches import Batches
from dataset.cache import open_cache
from utils.machine import in_threads

USUAL = "PIL, Resize, ToTensor, Normalize, 34 masks"


def sample(data: Data) -> Iterator[Table]:
    """A stored pair as Batches gathers it, beside the usual way from the PNGs."""
    rows, size = data.rows(), data.sizes.batch
    batches, order = Batches(rows, size), torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    for index, parts in zip(order.split(size), batches._from_memory(order), strict=True):
        for row, *stored in zip(index.tolist(), *parts, strict=True):
            require(all(map(np.array_equal, stored, data.decoded[row % len(data.decoded)])),
                    f"row {row} as gathered to hold the bytes that the lab reads")
    usual, turn, order = Usual(data.pairs), itertools.count(), order.repeat(data.sizes.passes)
    buffers = [np.empty_like(part[:size]) for part in rows.arrays]

    def copy_bytes() -> None:
        for start in [*range(0, len(rows), size)] * data.sizes.passes:
            for buffer, part in zip(buffers, rows.arrays, strict=True):
                np.copyto(buffer, part[start:start + size])

    yield Table("a stored training sample, one core", "a sample", [
        # Without to_batch, which makes floats of the bytes; this half of Batches has no public name.
        Timed(f"np.take into a batch of {size}, as Batches does", lambda: exhaust(batches._from_memory(order)),
            len(order)),
        Timed("floor: memcpy of the same bytes, in order", copy_bytes, len(order)),
        Timed(f"usual: {USUAL}", lambda: [usual[next(turn) % len(usual)] for _ in range(4)], 4, at_least=1500)])


def batches(data: Data) -> Iterator[Table]:
    """The same to float32 images and int64 targets in a batch, without augmentation."""
    size = data.sizes.batch
    own, usual = Batches(data.rows(), size, shuffle=True), DataLoader(Usual(data.pairs, size), size, shuffle=True)
    (images, targets), copies = next(iter(own)), [torch.empty_like(part) for part in next(iter(own))]
    yield Table("an image as float32 and its target as int64 in a batch, one core", "an image", [
        Timed("Batches", lambda: exhaust(own), data.sizes.rows),
        Timed("floor: a copy of a finished batch", lambda: (copies[0].copy_(images), copies[1].copy_(targets)), size),
        Timed(f"DataLoader(num_workers=0), usual: {USUAL}", lambda: exhaust(usual), size, at_least=100)])


def build(data: Data) -> Iterator[Table]:
    """The cache, its checksums and writing included, beside what one epoch of the usual way does with the pairs."""
    usual, built = Usual(data.pairs), []
    number, n = itertools.count(), len(data.decoded)

    def build_cache() -> None:
        with patch.dict(os.environ, LAB_CACHE=str(data.folder / f"cache{next(number)}")), \
                contextlib.redirect_stderr(io.StringIO()):
            built.append(open_cache(data.root, "train"))

    def decode(index: int) -> None:
        for path in (data.pairs[index].image, data.pairs[index].label):
            Image.open(path).load()

    yield Table(f"the cache of {n} pairs, one core", "a pair", [
        Timed(f"usual epoch: {USUAL}", lambda: exhaust(in_threads(usual.__getitem__, range(n))), n),
        Timed("floor: PIL's decoding alone", lambda: exhaust(in_threads(decode, range(n))), n),
        Timed("building the cache", build_cache, n, at_most=1.1)])
    for arrays in built:
        require(arrays is not None, "a cache in the temporary folder", "none")
        require(all(np.array_equal(image, arrays.images[index]) and np.array_equal(label, arrays.targets[index])
                    for index, (image, label) in enumerate(data.decoded)), "the cache to hold what the lab reads")
