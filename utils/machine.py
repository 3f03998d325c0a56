"""What of the machine this process may use. torch is loaded only where it is needed: drawing the sample is not."""
from __future__ import annotations

import contextlib
import ctypes
import math
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from utils.lab import LabError

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")
# Prints the bytes that are free on each GPU. Asking takes memory on every one of them, which ends with the process.
FREE_MEMORY = """
import torch
for index in range(torch.cuda.device_count()):
    try:
        print(torch.cuda.mem_get_info(index)[0])
    except RuntimeError:
        print(-1)
"""
Result = TypeVar("Result")


def available_cores() -> int:
    """Cores that this process may use, which on a shared server are fewer than the machine has.

    The smaller of its affinity (taskset, Slurm) and its control group's quota (containers), at least 1.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, _quota(Path("/sys/fs/cgroup")))))


def _quota(cgroup: Path) -> float:
    """Cores that the control group mounted at `cgroup` grants, infinity without a limit (Linux' cgroup-v2, v1)."""
    try:
        quota, period = (cgroup / "cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        try:
            quota, period = ((cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text(encoding="ascii").strip()
                             for name in ("quota", "period"))
        except OSError:
            return math.inf
    return math.inf if quota in ("max", "-1") else int(quota) / int(period)


def cpu_name() -> str:
    """The processor's model as the system calls it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """`map(function, items)` on every core that this process may use, in order, a few items ahead and no more.

    For work that leaves the interpreter's lock, as Pillow's decoding does. An exception, or the end of the loop over
    the results, stops what has not begun.
    """
    cores = available_cores()
    pool = ThreadPoolExecutor(cores)
    try:
        waiting = [pool.submit(function, item) for item in items[:2 * cores]]
        for index in range(len(items)):
            yield waiting.pop(0).result()
            if index + 2 * cores < len(items):
                waiting.append(pool.submit(function, items[index + 2 * cores]))
    finally:
        pool.shutdown(cancel_futures=True)


def keep_memory() -> None:
    """Lets this process keep the memory that it frees, for its next use; for work on a CPU, from here on to its end.

    glibc gives every large block back to the system and gets it anew, page by page and zeroed, in each step of a loop.
    Without that a training step of the lab's networks takes 5 to 15 % less time, and scoring 30 %.
    """
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):  # another C library than glibc
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(-4, 0)          # M_MMAP_MAX: large blocks come from the heap, too
            mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: whose free end is kept


def pick_device(name: str = "auto") -> torch.device:
    """The device called `name` ("cpu", "cuda", "cuda:1").

    "auto" is the GPU with the most free memory, or the CPU where there is none. A GPU by its number becomes the current
    one, so that nothing is allocated on another.
    """
    import torch

    if name == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        name = f"cuda:{_freest_gpu()}" if torch.cuda.device_count() > 1 else "cuda"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise LabError(f"expected a device that this machine has, found {name!r} "
                       f"({str(error).splitlines()[0]}): use cpu or auto") from None
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    return device


def _freest_gpu() -> int:
    """The number of the GPU with the most free memory, the first of equals."""
    done = subprocess.run([sys.executable, "-c", FREE_MEMORY], capture_output=True, text=True, check=False)
    free = [int(line) for line in done.stdout.split()] if done.returncode == 0 else []
    if not free:
        print("warning: expected the free memory of each GPU, found no answer: the first one is taken; name another "
              "as the device, such as cuda:1", file=sys.stderr)
    return max(range(len(free)), key=free.__getitem__, default=0)


def synchronize(device: torch.device) -> None:
    """Waits until the device has done all that was queued; a CPU has."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
