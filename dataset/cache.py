"""Every pair of a split decoded and resized once, as raw pixels on disk that all processes of a machine share.

    <place>/train-<fingerprint>/images.npy      uint8 (N, 256, 512, 3)
    <place>/train-<fingerprint>/labels.npy      uint8 (N, 256, 512), classes 0..K-1 or IGNORE
    <place>/train-<fingerprint>/manifest.json   the sources (names, sizes, times), a checksum a pair, the version

Decoding a pair of Cityscapes takes about 70 ms; reading it from the memory map takes 20 microseconds. The fingerprint
covers the sources, the version and the layout's key (for Cityscapes its label table). A file that was changed, added or
removed makes another cache, and so does another resize or table; the old one is deleted when the new one is whole.

The place is LAB_CACHE/<folder>-<digest of its path> if that variable is set. Otherwise it is lab-cache/ beside the
images, where one is or can be written (a TA builds it once for a class), or else
segmentation-lab/<folder>-<digest of its path> in the user's cache directory.

    python -m dataset.cache DATA              builds it by hand
    python -m dataset.cache DATA --verify     also compares every pair with its checksum
"""
import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from filelock import FileLock, Timeout
from numpy.lib.format import dtype_to_descr, open_memmap, write_array_header_1_0
from tqdm import tqdm

from dataset.layouts.base import Layout
from dataset.reader import DataFolder, Pair, file_status, find_data, read_image, read_label
from utils.lab import CACHE_FOLDER, INPUT_SIZE, LabError
from utils.machine import in_threads
from utils.terminal import bar_stream, run_main

VERSION = 1  # of the canonical resize and of this layout: a change of either raises it
PAIR_BYTES = INPUT_SIZE[0] * INPUT_SIZE[1] * 4


class Arrays(NamedTuple):
    """A split's pixels, memory-mapped and read-only: images uint8 (N, 256, 512, 3), targets uint8 (N, 256, 512)."""

    images: np.ndarray
    targets: np.ndarray
    folder: Path


class NoCacheError(Exception):
    """There can be no cache here; the message says why."""


def open_cache(data: DataFolder | Path, split: str, pairs: Sequence[Pair] | None = None) -> Arrays | None:
    """The cache of a split, built first if there is none or the sources have changed. `pairs`: the split's, if known.

    Returns None, with a note on stderr, where it cannot be written: the lab works without it, only slower. Raises
    LabError for a source that cannot be read.
    """
    folder = find_data(data)
    pairs = pairs or folder.pairs(split)
    # Of each file its name below the root, its size in bytes and its time in nanoseconds, image before label.
    sources = [[path.relative_to(folder.root).as_posix(), (status := file_status(path)).st_size, status.st_mtime_ns]
               for pair in pairs for path in (pair.image, pair.label)]
    name, places = f"{split}-{_fingerprint(sources, folder.layout)}", _places(folder.root)
    for place in places:
        if arrays := _open(place / name, len(pairs)):
            return arrays
    folder.layout.check_labels([pair.label for pair in pairs])
    try:
        place = next((place for place in places if _writable(place)), None)
        if place is None:
            raise NoCacheError(f"no folder to write it to ({', '.join(map(str, places))})")
        _build(place, name, split, pairs, sources, folder.layout)
        if arrays := _open(place / name, len(pairs)):
            return arrays
        raise NoCacheError(f"{place / name} was built but cannot be opened")
    except NoCacheError as reason:
        print(f"note: no cache of {split}: {reason}; every start decodes the images again. LAB_CACHE=<folder with "
              "room> puts it elsewhere", file=bar_stream())
        return None


def remap(folder: Path) -> Arrays:
    """Opens the cache in `folder` again, in a worker process say. Raises LabError if it is gone."""
    arrays = _open(folder)
    if arrays is None:
        raise LabError(f"expected the cache that this process started with, found none in {folder}: start again")
    return arrays


def _places(root: Path) -> list[Path]:
    """Where the cache of this data may lie, the best first."""
    resolved = Path(root).resolve()
    own = f"{resolved.name}-{hashlib.sha256(os.fsencode(resolved)).hexdigest()[:8]}"
    if os.environ.get("LAB_CACHE"):
        return [Path(os.environ["LAB_CACHE"]).expanduser() / own]
    variable, usual = ("LOCALAPPDATA", "~/AppData/Local") if os.name == "nt" else ("XDG_CACHE_HOME", "~/.cache")
    user = os.environ.get(variable) or usual
    places = [Path(root) / CACHE_FOLDER]
    with contextlib.suppress(RuntimeError):  # a container's user may have no home
        places.append(Path(user).expanduser() / "segmentation-lab" / own)
    return places


def _writable(place: Path) -> bool:
    """Whether files can be written there, found out by doing it: rights alone do not show a read-only disk."""
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            return True
    except OSError:
        return False


def _fingerprint(sources: Sequence[list], layout: Layout) -> str:
    content = [VERSION, INPUT_SIZE, layout.key, sources]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


def _open(folder: Path, n: int | None = None) -> Arrays | None:
    """The cache in `folder` if it is whole, of this version and of `n` pairs, else None."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        images, targets = (open_memmap(folder / f"{name}.npy", mode="r") for name in ("images", "labels"))
        version, known = manifest["version"], len(manifest["checksums"])
    except (OSError, ValueError, KeyError, TypeError):  # ValueError: no JSON, or an array shorter than its header says
        return None
    n = n or known
    whole = (version == VERSION and known == n and images.shape == (n, *INPUT_SIZE, 3)
             and targets.shape == (n, *INPUT_SIZE) and images.dtype == targets.dtype == np.uint8)
    return Arrays(images, targets, folder) if whole else None


def _build(place: Path, name: str, split: str, pairs: Sequence[Pair], sources: Sequence[list], layout: Layout) -> None:
    """Builds the cache `name` in `place`, or waits while another process does.

    It is written to a folder of another name, which is renamed when it is whole and removed when anything goes wrong;
    what a killed process left there is removed first.
    """
    with _alone(place, split):
        if _open(place / name, len(pairs)):
            return
        part, started = place / f".{split}.part", time.perf_counter()
        try:
            old = [path for path in place.glob(f"{split}-*") if path.is_dir()]
            if old:
                print(f"cache of {split}: the files, the lab's resize or the cache itself changed since it was built: "
                      "building it again", file=bar_stream())
            for path in (part, place / name):  # what is damaged; fails now, not after minutes of work
                if path.exists():
                    shutil.rmtree(path)
            part.mkdir()
            manifest = {"version": VERSION, "split": split, "size": INPUT_SIZE,
                        "checksum": "sha256 of a pair's pixels, 16 digits",
                        "checksums": _fill(part, pairs, split, layout),
                        "built": time.strftime("%Y-%m-%d %H:%M:%S"), "sources": sources}
            with (part / "manifest.json").open("w", encoding="utf-8") as file:
                json.dump(manifest, file)
                file.flush()
                os.fsync(file.fileno())
            for path in old:  # other processes that have it mapped keep their pages
                shutil.rmtree(path, ignore_errors=True)
            part.rename(place / name)
        except OSError as error:
            raise NoCacheError(f"{error.strerror or error} while writing {gigabytes(len(pairs))} to {place}") from None
        finally:
            shutil.rmtree(part, ignore_errors=True)
        print(f"cache of {split}: {len(pairs)} pairs, {gigabytes(len(pairs))}, built in "
              f"{time.perf_counter() - started:.0f} s in {place}", file=bar_stream())


@contextlib.contextmanager
def _alone(place: Path, split: str) -> Iterator[None]:
    """Holds the split's lock; the system takes it back from a process that dies."""
    try:
        lock = FileLock(place / f".{split}.lock", mode=0o666)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print(f"another process is building the cache of {split} in {place}: waiting for it", file=bar_stream())
            lock.acquire()
    except (OSError, NotImplementedError) as error:
        raise NoCacheError(f"{error} while locking {place}") from None
    try:
        yield
    finally:
        lock.release()


def _fill(part: Path, pairs: Sequence[Pair], split: str, layout: Layout) -> list[str]:
    """Decodes all pairs into two files in `part` and returns the pairs' checksums."""
    checksums = []
    with (_new_array(part / "images.npy", (len(pairs), *INPUT_SIZE, 3)) as images,
          _new_array(part / "labels.npy", (len(pairs), *INPUT_SIZE)) as labels,
          contextlib.closing(in_threads(lambda pair: _decode(pair, layout), pairs)) as decoded):
        for image, label, digest in tqdm(decoded, f"cache of {split}", len(pairs), unit="pair", file=bar_stream(),
                                           leave=False):
            images.write(image.data)
            labels.write(label.data)
            checksums.append(digest)
    return checksums


@contextlib.contextmanager
def _new_array(path: Path, shape: tuple[int, ...]) -> Iterator[BinaryIO]:
    """A new .npy file of uint8 to write the values to, its room on the disk taken at the start.

    Written by calls, not through a memory map: there a full disk would kill the process (SIGBUS) instead of raising.
    """
    with path.open("wb") as file:
        write_array_header_1_0(
            file, {"descr": dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False, "shape": shape})
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(file.fileno(), 0, file.tell() + math.prod(shape))
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):  # a file system that cannot
                    raise
        yield file
        file.flush()
        os.fsync(file.fileno())


def _decode(pair: Pair, layout: Layout) -> tuple[np.ndarray, np.ndarray, str]:
    image, label = read_image(pair.image, layout), read_label(pair.label, layout)
    return image, label, checksum(image, label)


def checksum(image: np.ndarray, label: np.ndarray) -> str:
    digest = hashlib.sha256(image)
    digest.update(label)
    return digest.hexdigest()[:16]


def gigabytes(n: int) -> str:
    return f"{n * PAIR_BYTES / 1e9:.2f} GB"


if __name__ == "__main__":
    from dataset.commands import build_cache

    run_main(build_cache)
