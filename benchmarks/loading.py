"""From files to batches: one stored sample, batches for a network on the CPU, and the building of the cache."""
import contextlib
import io
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from benchmarks.data import Data, Naive, Rows, drop_pages
from benchmarks.measure import Cost, Goal, Road, Table, measure, now, require
from benchmarks.setup import Setup, Sizes, cache_in, hold
from dataset.batches import Batches
from dataset.cache import open_cache
from training.step import speed_up
from utils.machine import in_threads

NAIVE = "PIL, Resize, ToTensor, Normalize, 34 masks"


def sample(setup: Setup) -> list[Table]:
    """A stored pair as Batches gathers it, against the naive road from the PNGs."""
    data, sizes = setup.data, setup.sizes
    rows = data.stored()
    batches = Batches(rows, sizes.batch)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0)).repeat(sizes.passes)
    _check_rows(rows, data, batches)
    naive, turn = Naive(data.pairs), itertools.count()

    def gather() -> None:
        for _ in batches._from_memory(order):  # without to_batch; it has no public name
            pass

    def copy_rows() -> None:
        for index in order.tolist():
            np.array(rows.arrays[0][index]), np.array(rows.arrays[1][index])

    buffers = [np.empty_like(part[:sizes.batch]) for part in rows.arrays]

    def copy_bytes() -> None:
        for start in [*range(0, len(rows), sizes.batch)] * sizes.passes:
            for buffer, part in zip(buffers, rows.arrays, strict=True):
                np.copyto(buffer, part[start:start + sizes.batch])

    roads = [
        Road(f"np.take into a batch of {sizes.batch}, as Batches does", gather, len(order)),
        Road("a copy of one row, as Cityscapes does", copy_rows, len(order)),
        _cold_road(data, sizes),
        Road(f"naive: {NAIVE}", lambda: [naive[next(turn) % len(naive)] for _ in range(4)], 4, Goal(at_least=1500)),
        Road("floor: memcpy of the same bytes, in order", copy_bytes, len(order)),
    ]
    with hold(setup.one):
        gather(), copy_rows(), copy_bytes()
        table = measure("sample", "one stored training sample, one core", "a sample", roads, sizes.rounds)
    to_naive, floor = table.row(roads[3].name).median.cpu, table.row(roads[4].name)
    floor.note = f"naive takes {to_naive / floor.median.cpu:,.0f} x the floor"
    return [table]


def batches(setup: Setup) -> list[Table]:
    """float32 and int64 on the CPU, the whole way, without augmentation."""
    data, sizes = setup.data, setup.sizes
    rows = data.stored()
    _check_rows(rows, data, Batches(rows, sizes.batch))
    require(data.checked, "the naive road to agree")
    own = Batches(rows, sizes.batch, shuffle=True)
    setup.tuned.prepare(tuned_batches, data.arrays, sizes)
    naive = Naive(data.pairs, sizes.batch)
    first, target = next(iter(own))
    there = [torch.empty_like(first), torch.empty_like(target)]

    def copy_bytes() -> None:
        for to, part in zip(there, (first, target), strict=True):
            to.copy_(part)

    roads = [
        Road("Batches, memory settings of speed_up", setup.tuned.road("batches", setup.one), len(rows)),
        Road("Batches, as a process starts", lambda: _exhaust(own), len(rows)),
        Road(f"DataLoader(num_workers=0), naive: {NAIVE}",
             lambda: _exhaust(DataLoader(naive, sizes.batch, shuffle=True)), len(naive), Goal(at_least=100)),
        Road("floor: copy of a finished batch", copy_bytes, sizes.batch),
    ]
    with hold(setup.one):
        setup.tuned.call("batches", setup.one)
        _exhaust(own), copy_bytes()
        return [measure("batches", "a picture as float32 and its target as int64 in a batch, one core", "a picture",
                        roads, sizes.rounds)]


def tuned_batches(arrays: Path, sizes: Sizes) -> dict[str, Callable[[], None]]:
    speed_up(torch.device("cpu"))
    own = Batches(Rows(arrays), sizes.batch, shuffle=True)
    return {"batches": lambda: _exhaust(own)}


def build(setup: Setup) -> list[Table]:
    """The cache, its checksums and writing included, against what one naive epoch does with the same pairs."""
    data, sizes = setup.data, setup.sizes
    require(data.checked, "the naive road to agree")
    number, naive = itertools.count(), Naive(data.pairs)
    n, every = len(naive), range(len(naive))

    def build_cache() -> None:
        with cache_in(setup.folder / f"cache{next(number)}"), contextlib.redirect_stderr(io.StringIO()):
            built.append(open_cache(data.root, "train"))

    def decode(index: int) -> None:
        for path in (data.pairs[index].image, data.pairs[index].label):
            Image.open(path).load()

    tables = []
    for cores in dict.fromkeys((setup.one, setup.all)):
        built = []
        with hold(cores):
            roads = [
                Road("naive epoch, its pairs read in threads", lambda: _exhaust(in_threads(naive.__getitem__, every)),
                     n),
                Road("building the cache", build_cache, n, Goal(at_most=1.1)),
                Road("floor: PIL's decoding alone", lambda: _exhaust(in_threads(decode, every)), n),
            ]
            tables.append(measure("build", f"the cache of {n} pairs, {cores}", "a pair", roads, sizes.rounds))
        for arrays in built:
            require(arrays is not None, "a cache in the temporary folder", "none")
            same = all(np.array_equal(image, arrays.images[index]) and np.array_equal(label, arrays.targets[index])
                       for index, (image, label) in enumerate(data.decoded))
            require(same, "the built cache to hold what the lab reads")
    return tables


def _check_rows(rows: Rows, data: Data, batches: Batches) -> None:
    """The gathered bytes are those that the lab reads from the PNGs, and the naive road's but for the filter."""
    require(data.checked, "the naive road to agree")
    order = torch.arange(len(rows)).flip(0)
    for index, parts in zip(order.split(batches.batch_size), batches._from_memory(order), strict=True):
        for row, *stored in zip(index.tolist(), *parts, strict=True):
            read = data.decoded[row % len(data.decoded)]
            require(all(np.array_equal(a, b) for a, b in zip(stored, read, strict=True)),
                    f"row {row} as gathered to hold the bytes that the lab reads")


def _cold_road(data: Data, sizes: Sizes) -> Road:
    """The same gathering with none of the file in the page cache, each round; only where that can be had."""
    name = "the same, the files' pages dropped first"
    if not hasattr(os, "posix_fadvise"):
        return Road(name, missing="no posix_fadvise")
    import resource  # where there is posix_fadvise, there is this

    folder = data.cold_copy()
    order = torch.randperm(data.rows, generator=torch.Generator().manual_seed(0))

    def gather() -> Cost:
        drop_pages(folder)
        started = now()
        for _ in Batches(Rows(folder), sizes.batch)._from_memory(order):
            pass
        return now() - started

    before = resource.getrusage(resource.RUSAGE_SELF).ru_inblock
    gather()
    fetched = (resource.getrusage(resource.RUSAGE_SELF).ru_inblock - before) * 512
    total = sum(path.stat().st_size for path in folder.iterdir())
    if fetched < total / 2:
        return Road(name, missing=f"{folder.parent} is not on a disk")
    return Road(name, gather, data.rows, note="wall is the disk's (a virtual one's host may still have the pages)")


def _exhaust(items: object) -> None:
    for _ in items:
        pass
