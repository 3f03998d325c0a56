"""Ends the sandboxes of a grader that was killed (kill -9), as a process that outlives it by a moment.

    python orphans.py MARK     waits until stdin ends, then kills the processes with MARK on their command line

A sandbox dies with its grader by itself, except in the moment in which bubblewrap starts: its outer process dies, and
the inner one waits for it without end. This file is also imported; it needs nothing but the standard library.
"""
import contextlib
import os
import signal
import sys
import time
from pathlib import Path

PATIENCE = 3.0  # seconds for a process that the grader was starting when it died


def marked(mark: str) -> list[int]:
    """The processes with `mark` on their command line, without this one."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if mark.encode() in place.read_bytes() and int(place.parent.name) != os.getpid():
                found.append(int(place.parent.name))
    return found


def kill_marked(mark: str) -> None:
    for pid in marked(mark):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def main() -> None:
    if sys.stdin.buffer.read():  # the grader ended as it should
        return
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        kill_marked(sys.argv[1])
        time.sleep(0.05)


if __name__ == "__main__":
    main()
