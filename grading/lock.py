"""One lock for each REPORT, so that two runs of `grade` never write the same records. Shards share a REPORT."""
import contextlib
import datetime
import math
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from utils.lab import LabError

NAME = re.compile(r"\.grade-(\d+)-of-(\d+)\.lock")


@contextlib.contextmanager
def table_lock(out: Path) -> Iterator[None]:
    """Holds the lock under which REPORT/overrides.csv is read and written again; waits for it."""
    with FileLock(out / ".grade.lock", mode=0o666):
        yield


@contextlib.contextmanager
def report_lock(out: Path, shard: tuple[int, int]) -> Iterator[None]:
    """Holds the lock of one shard, (index from 0, number of shards), of the folder REPORT, which exists.

    Raises LabError, with the other's host and process, where another run grades some of the same students.
    """
    index, count = shard
    name = out / f".grade-{index + 1}-of-{count}.lock"
    lock, holder = FileLock(name, mode=0o666), name.with_suffix(".holder")
    with table_lock(out):  # of two that begin together one finds the other's lock
        for path in sorted({*out.glob(".grade-*-of-*.lock"), name}):
            other = NAME.fullmatch(path.name)
            # Two shards have students in common where their indices agree modulo the common divisor of their counts.
            if other and (int(other[1]) - 1 - index) % math.gcd(int(other[2]), count) == 0:
                _require_free(path, out)
        lock.acquire(timeout=0)
        now = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
        holder.write_text(f"host {platform.node()}, process {os.getpid()}, since {now}", encoding="utf-8")
    try:
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _require_free(path: Path, out: Path) -> None:
    try:
        with FileLock(path, mode=0o666, timeout=0):
            path.with_suffix(".holder").unlink(missing_ok=True)  # of a run that was killed
    except Timeout:
        try:
            who = path.with_suffix(".holder").read_text(encoding="utf-8")
        except OSError:
            who = "another process"
        raise LabError(f"expected {out} for this run alone, found another that grades into it ({who}): wait for it or "
                       "stop it; only different shards of one class may share a report") from None
