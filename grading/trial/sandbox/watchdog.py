"""What a process and all its descendants use, read from /proc: for limits that the kernel sets no process tree."""
import contextlib
import os
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

PAGE = os.sysconf("SC_PAGE_SIZE")
TICK = os.sysconf("SC_CLK_TCK")


class Usage(NamedTuple):
    """Resident bytes and CPU seconds together, threads together; all zero when there is no process (any more)."""

    memory: int
    cpu: float
    threads: int


def tree(pid: int) -> list[int]:
    """The process and its descendants, the process first; an orphan belongs to the one that inherited it."""
    children = _children_of_all() if not Path("/proc/self/task", str(os.getpid()), "children").exists() else None
    found, waiting = [], [pid]
    while waiting:
        found.append(waiting.pop())
        waiting += children[found[-1]] if children is not None else _children(found[-1])
    return found


def usage(pids: list[int]) -> Usage:
    memory, cpu, threads = 0, 0.0, 0
    for pid in pids:
        with contextlib.suppress(OSError, IndexError):  # it may end at any moment
            # Past the name, which the process chooses and which may hold anything: state is field 0 here.
            fields = _stat(pid)
            cpu += (int(fields[11]) + int(fields[12])) / TICK
            threads += int(fields[17])
            memory += int(fields[21]) * PAGE
    return Usage(memory, cpu, threads)


def alive(pid: int, started: str) -> bool:
    """Whether the process that began at `started` (see started) is still there; a zombie is not."""
    try:
        fields = _stat(pid)
    except OSError:
        return False
    return fields[19] == started and fields[0] not in "ZX"


def started(pid: int) -> str:
    """When a process began, in the kernel's ticks: with its id it names one process; "" if there is none."""
    try:
        return _stat(pid)[19]
    except OSError:
        return ""


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].decode("ascii").split()


def _children(pid: int) -> list[int]:
    found = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found += map(int, (task / "children").read_text(encoding="ascii").split())
    return found


def _children_of_all() -> dict[int, list[int]]:
    # A kernel without CONFIG_PROC_CHILDREN: every process is asked for its parent.
    found = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                found[int(_stat(int(entry.name))[1])].append(int(entry.name))
    return found
