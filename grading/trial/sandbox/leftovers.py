"""What a grader leaves behind when it is killed: made so that the next one knows what is nobody's any more.

A temporary folder is locked by its maker, and the kernel takes the lock away from a dead process. A sandbox has the
grader's MARK on its command line: the namespace of its process ids, its own, and when it began.
"""
import atexit
import contextlib
import fcntl
import functools
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from grading.trial.sandbox import orphans
from grading.trial.sandbox.watchdog import alive, started

PREFIXES = ("lab-grading-", "lab-replay-", "lab-box-", "lab-probe-", "lab-scene-")
NEW = ".lab-new-"
OLD = 3600.0  # seconds after which a half-written file in a report is nobody's
MARK = re.compile(rb"lab-grader-(\d+)-(\d+)-(\d+)\.")  # the dot: no mark is the beginning of another


@contextlib.contextmanager
def temporary_folder(prefix: str, within: Path | None = None) -> Iterator[Path]:
    """A folder that is gone afterwards; `prefix` is one of PREFIXES, perhaps with a dot before it."""
    within = Path(within or tempfile.gettempdir())
    new = Path(tempfile.mkdtemp(prefix=NEW, dir=within))
    handle = os.open(new, os.O_RDONLY)
    folder = within / f"{prefix}{new.name.removeprefix(NEW)}"
    try:
        with contextlib.suppress(OSError):  # a file system without locks: such a folder is never swept
            fcntl.flock(handle, fcntl.LOCK_EX)
        new.rename(folder)  # not before it is locked
        yield folder
    finally:
        _remove(folder)
        os.close(handle)


def sweep(report: Path | None = None) -> None:
    """Removes what graders that are dead have left on this machine, and half-written files in the folder REPORT."""
    for place in {Path(tempfile.gettempdir()), Path.home()}:
        with contextlib.suppress(OSError):
            for folder in place.iterdir():
                if folder.name.removeprefix(".").startswith(PREFIXES):
                    _sweep_folder(folder)
    for pid in orphans.marked("lab-grader-"):
        with contextlib.suppress(OSError):
            found = MARK.search(Path(f"/proc/{pid}/cmdline").read_bytes())
            if found and int(found[1]) == _namespace() and not alive(int(found[2]), found[3].decode()):
                orphans.kill_marked(found[0].decode())
    for path in report.rglob(".*.part") if report else ():  # utils.files.replacing's
        with contextlib.suppress(OSError):
            if time.time() - path.lstat().st_mtime > OLD:
                path.unlink()


def _sweep_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if os.fstat(handle).st_uid == os.getuid():
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # OSError: its maker lives
                _remove(folder)
        finally:
            os.close(handle)


def _remove(folder: Path) -> None:
    for place, _, _ in os.walk(folder):  # a program may have locked its own folders
        with contextlib.suppress(OSError):
            Path(place).chmod(stat.S_IRWXU)
    shutil.rmtree(folder, ignore_errors=True)


def _namespace() -> int:
    return Path("/proc/self/ns/pid").stat().st_ino


@functools.cache
def mark() -> str:
    """This grader's mark, for the command lines of its sandboxes. The first call starts what watches over them."""
    name = f"lab-grader-{_namespace()}-{os.getpid()}-{started(os.getpid())}."
    watcher = subprocess.Popen([sys.executable, "-I", "-S", orphans.__file__, name], stdin=subprocess.PIPE,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={}, start_new_session=True)

    def end() -> None:
        with contextlib.suppress(OSError):
            watcher.stdin.write(b"end")
            watcher.stdin.close()
        watcher.wait()

    atexit.register(end)
    return name
