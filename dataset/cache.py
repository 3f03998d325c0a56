"""Every pair of a split decoded and resized once, as raw pixels on disk that all processes of a machine share.

    <place>/train-<fingerprint>/images.npy      uint8 (N, 256, 512, 3)
    <place>/train-<fingerprint>/labels.npy      uint8 (N, 256, 512), classes 0..K-1 or IGNORE
    <place>/train-<fingerprint>/manifest.json   the sources (names, sizes, times), a checksum a pair, the version
    <place>/train-<fingerprint>/done.txt        the journal of the building, by which an interrupted one goes on

Decoding the PNGs of a pair of Cityscapes takes about 70 ms; its row of a memory map is read in 20 microseconds. The
fingerprint is that of the sources, the version and the layout's key: for Cityscapes the label table; for others the
data set's name, its classes, which code in a label file is which class, and what is cropped. So a file that was
changed, added or removed, another resize or another table makes another cache; the old one is deleted when the new one
is whole.

A place is LAB_CACHE/<folder>-<digest> if that variable is set, otherwise lab-cache/ beside the pictures where one is
or can be written (a TA builds it once for a class), otherwise segmentation-lab/<folder>-<digest> in the user's cache
directory. <folder> is the data's name, the digest that of its path: several data sets may share such a place.

    python -m dataset.cache DATA              builds it by hand
    python -m dataset.cache DATA --verify     reads every row and compares it with its checksum
"""
import argparse
import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
from filelock import FileLock, Timeout
from numpy.lib.format import open_memmap
from tqdm import tqdm

from dataset.layouts.base import Layout
from dataset.reader import (
    KNOWN,
    Pair,
    file_status,
    find_data,
    layout_of,
    list_split,
    read_image,
    read_label,
    used_splits,
)
from dataset.rows import Rows
from utils.lab import CACHE_FOLDER, INPUT_SIZE, SPLITS, LabError
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
    """There can be no cache here; the message says why. Everything works without one, only slower."""


def open_cache(root: Path, split: str, pairs: Sequence[Pair] | None = None) -> Arrays | None:
    """The cache of a split, built first if there is none or the sources have changed.

    pairs: the split's, if they are listed already.
    Where it cannot be written (no room, no right) a note on stderr says so and None is returned: go on without.
    Raises LabError for a source that cannot be read.
    """
    pairs = pairs or list_split(root, split)
    sources, layout = _sources(root, pairs), layout_of(root)
    name = f"{split}-{_fingerprint(sources, layout)}"
    places = _places(root)
    for place in places:
        if arrays := _open(place / name, len(pairs)):
            return arrays
    try:
        place = next((place for place in places if _writable(place)), None)
        if place is None:
            raise NoCacheError(f"no folder to write it to ({', '.join(map(str, places))})")
        _build(place, name, split, pairs, sources, layout)
        if arrays := _open(place / name, len(pairs)):
            return arrays
        raise NoCacheError(f"{place / name} was built but cannot be opened")
    except NoCacheError as reason:
        print(f"note: no cache of {split}: {reason}; every start decodes the pictures anew. LAB_CACHE=<folder with "
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
    if os.name == "nt":
        user = os.environ.get("LOCALAPPDATA", "~/AppData/Local")
    else:
        user = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
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


def _sources(root: Path, pairs: Sequence[Pair]) -> list[list]:
    """Of each file its name below `root`, its size in bytes and its time in nanoseconds, picture before label."""
    return [[path.relative_to(root).as_posix(), (status := file_status(path)).st_size, status.st_mtime_ns]
            for pair in pairs for path in (pair.image, pair.label)]


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
    """Builds the cache `name` in `place`, or waits while another process does."""
    with _alone(place, split):
        if _open(place / name, len(pairs)):
            return
        part = place / f".{split}.part"
        started = time.perf_counter()
        try:
            old = [path for path in place.glob(f"{split}-*") if path.is_dir()]
            if old:
                print(f"cache of {split}: the files, the lab's resize or the cache itself changed since it was built: "
                      "building it anew", file=bar_stream())
            if (place / name).exists():  # damaged, or it would have been opened; fails now, not after minutes of work
                shutil.rmtree(place / name)
            manifest = {"version": VERSION, "split": split, "size": INPUT_SIZE,
                        "checksum": "sha256 of a pair's pixels, 16 digits",
                        "checksums": _fill(part, pairs, sources, split, layout),
                        "built": time.strftime("%Y-%m-%d %H:%M:%S"), "sources": sources}
            with (part / "manifest.json").open("w", encoding="utf-8") as file:
                json.dump(manifest, file)
                file.flush()
                os.fsync(file.fileno())
            part.rename(place / name)
            for path in old:  # other processes that have it mapped keep their pages
                if path != place / name:
                    shutil.rmtree(path, ignore_errors=True)
        except OSError as error:
            shutil.rmtree(part, ignore_errors=True)
            raise NoCacheError(f"{error.strerror or error} while writing {_gigabytes(len(pairs))} to {place}") from None
        print(f"cache of {split}: {len(pairs)} pairs, {_gigabytes(len(pairs))}, built in "
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


def _fill(part: Path, pairs: Sequence[Pair], sources: Sequence[list], split: str, layout: Layout) -> list[str]:
    """Decodes all pairs into `part` and returns their checksums; what an interrupted process left there is used."""
    n = len(pairs)
    # A row is known by its own two files alone: when one is mended, the others need not be decoded again.
    keys = [_fingerprint(sources[2 * index:2 * index + 2], layout) for index in range(n)]
    part.mkdir(exist_ok=True)
    with (contextlib.closing(Rows(part / "images.npy", (n, *INPUT_SIZE, 3))) as images,
          contextlib.closing(Rows(part / "labels.npy", (n, *INPUT_SIZE))) as labels,
          (part / "done.txt").open("a+", encoding="ascii", errors="replace") as done):
        # A line follows its pixels; where the machine itself went down the pixels may still be missing: checked.
        checksums = {index: checksum for index, key, checksum in _journal(done)
                     if index < n and key == keys[index]
                     and checksum == _checksum(images.read(index), labels.read(index))}
        done.write("\n")  # a last line cut short would swallow the next one
        left = [index for index in range(n) if index not in checksums]
        with (tqdm(desc=f"cache of {split}", total=n, initial=n - len(left), unit="pair", file=bar_stream(),
                   leave=False) as bar,
              contextlib.closing(in_threads(lambda index: _decode(pairs[index], layout), left)) as decoded):
            for index, (image, label, checksum) in zip(left, decoded, strict=True):
                images.write(index, image)
                labels.write(index, label)
                images.flush()
                labels.flush()
                done.write(f"{index} {keys[index]} {checksum}\n")
                done.flush()
                checksums[index] = checksum
                bar.update()
    return [checksums[index] for index in range(n)]


def _decode(pair: Pair, layout: Layout) -> tuple[np.ndarray, np.ndarray, str]:
    image, label = read_image(pair.image, layout), read_label(pair.label, layout)
    return image, label, _checksum(image, label)


def _checksum(image: np.ndarray, label: np.ndarray) -> str:
    digest = hashlib.sha256(image)
    digest.update(label)
    return digest.hexdigest()[:16]


def _journal(done: TextIO) -> list[tuple[int, str, str]]:
    """The lines of done.txt: row, key of its sources, checksum, which in a line cut short is missing or wrong."""
    done.seek(0)
    parts = [line.split() for line in done.read().splitlines()]
    return [(int(words[0]), words[1], words[2]) for words in parts if len(words) == 3 and words[0].isdigit()]


def _gigabytes(n: int) -> str:
    return f"{n * PAIR_BYTES / 1e9:.2f} GB"


def main() -> None:
    """Builds the cache of a data folder, split by split, or verifies it."""
    parser = argparse.ArgumentParser(description="Decodes the pictures once, for all who use them.")
    parser.add_argument("DATA", nargs="?", help=f"folder with {KNOWN} (default: ./data, or the sample)")
    parser.add_argument("--split", choices=SPLITS, help="only this split (default: train and val, those there are)")
    parser.add_argument("--verify", action="store_true", help="also compare every row with its checksum")
    args = parser.parse_args()
    root = find_data(args.DATA)
    for split in [args.split] if args.split else used_splits(root):
        arrays = open_cache(root, split)
        if arrays is None:
            raise LabError(f"expected a place for the cache of {split}, found none (see the note above): set LAB_CACHE "
                           "to a folder with room")
        print(f"{split}: {len(arrays.images)} pairs, {_gigabytes(len(arrays.images))} in {arrays.folder}")
        if args.verify:
            verify(arrays)
            print(f"{split}: every row agrees with its checksum")


def verify(arrays: Arrays) -> None:
    """Raises LabError, naming the source, for a row that differs from its checksum."""
    manifest = json.loads((arrays.folder / "manifest.json").read_text(encoding="utf-8"))
    for index, expected in enumerate(manifest["checksums"]):
        if _checksum(arrays.images[index], arrays.targets[index]) != expected:
            name = manifest["sources"][2 * index][0]
            raise LabError(f"expected the pixels of {name} in row {index}, found others in {arrays.folder}: delete "
                           "that folder and build the cache again")


if __name__ == "__main__":
    run_main(main)
