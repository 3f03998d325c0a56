"""What a run of the benchmarks works with: how much of everything, which cores, the data, the second process."""
from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from utils.machine import available_cores

if TYPE_CHECKING:
    from benchmarks.apart import Apart
    from benchmarks.data import Data


@dataclass(frozen=True)
class Sizes:
    """How much is measured. 256 rows are 134 MB, more than a last-level cache holds."""

    rounds: int = 5
    pairs: int = 12       # PNG pairs
    rows: int = 256       # rows of the array files
    passes: int = 4       # over the rows in one round, where a pass takes milliseconds
    batch: int = 8        # pictures a batch where nothing is trained
    train_batch: int = 4  # the notebooks' BATCH_SIZE
    steps: int = 8        # training steps in one round
    gpu_batch: int = 16
    gpu_steps: int = 64
    gpu_width: int = 32   # of the U-Net, the notebook's on a GPU
    students: int = 30    # hand-ins of a class
    scored: int = 200     # pictures that they are scored on


QUICK = Sizes(rounds=1, pairs=2, rows=16, passes=1, batch=2, train_batch=2, steps=2, gpu_batch=2, gpu_steps=2,
              gpu_width=4, students=1, scored=2)


class Cores(NamedTuple):
    """Which cores to use: their numbers where the system tells them, and how many threads torch takes."""

    numbers: tuple[int, ...]
    threads: int

    def __str__(self) -> str:
        return "one core" if self.threads == 1 else f"{self.threads} cores"


def all_cores() -> Cores:
    numbers = tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()
    return Cores(numbers, available_cores())


@contextlib.contextmanager
def hold(cores: Cores) -> Iterator[None]:
    """Keeps this process, and the threads and processes it starts meanwhile, to these cores."""
    before, threads = all_cores().numbers, torch.get_num_threads()
    _place(cores.numbers)
    torch.set_num_threads(cores.threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        _place(before)


def _place(numbers: tuple[int, ...]) -> None:
    if not numbers:
        return
    tasks = Path("/proc/self/task")  # a process' affinity is each thread's own
    for thread in [int(path.name) for path in tasks.iterdir()] if tasks.is_dir() else [0]:
        with contextlib.suppress(ProcessLookupError):  # one that has ended meanwhile
            os.sched_setaffinity(thread, numbers)


@contextlib.contextmanager
def cache_in(folder: Path) -> Iterator[None]:
    """Caches are made in `folder` meanwhile; the LAB_CACHE that the user has set, if any, comes back."""
    before = os.environ.get("LAB_CACHE")
    os.environ["LAB_CACHE"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["LAB_CACHE"]
        else:
            os.environ["LAB_CACHE"] = before


class Setup:
    """Sizes, cores and data of a run. What is costly is made when a benchmark first asks for it."""

    def __init__(self, folder: Path, sizes: Sizes, source: Path | None = None) -> None:
        self.folder, self.sizes, self.source = folder, sizes, source
        self.all = all_cores()
        self.one = Cores(self.all.numbers[-1:], 1)

    @functools.cached_property
    def data(self) -> Data:
        from benchmarks.data import Data

        return Data(self.folder, self.sizes.pairs, self.sizes.rows, self.source)

    @functools.cached_property
    def tuned(self) -> Apart:
        from benchmarks.apart import Apart

        return Apart()

    def close(self) -> None:
        if "tuned" in self.__dict__:
            self.tuned.close()
