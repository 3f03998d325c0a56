"""The room's two commands: what a data folder holds, and its cache.

    python -m dataset.dataset [DATA]             says what a data folder holds, so that a wrong path shows at once
    python -m dataset.cache [DATA] [--verify]    builds the cache of a data folder, or compares it with its checksums
"""
import argparse
import json

from dataset.cache import Arrays, checksum, gigabytes, open_cache
from dataset.reader import find_data, known
from utils.lab import SPLITS, LabError


def describe() -> None:
    """Prints the layout, the number of classes and the pairs of a data folder."""
    parser = argparse.ArgumentParser(prog="python -m dataset.dataset", description="Says what a data folder holds.")
    _add_folder(parser)
    folder = find_data(parser.parse_args().DATA)
    counts = [f"{len(folder.pairs(split))} of {split}" for split in folder.used_splits]
    print(f"{folder}: laid out as {folder.layout.name}, {len(folder.classes)} classes, pairs: {', '.join(counts)}")


def build_cache() -> None:
    """Builds the cache of a data folder, split by split, or verifies it."""
    parser = argparse.ArgumentParser(prog="python -m dataset.cache",
                                     description="Decodes the images once, for all who use them.")
    _add_folder(parser)
    parser.add_argument("--split", choices=SPLITS, help="only this split (default: train and val, those there are)")
    parser.add_argument("--verify", action="store_true", help="also compare every pair with its checksum")
    args = parser.parse_args()
    folder = find_data(args.DATA)
    for split in [args.split] if args.split else folder.used_splits:
        arrays = open_cache(folder, split)
        if arrays is None:
            raise LabError(f"expected a place for the cache of {split}, found none (see the note above): set LAB_CACHE "
                           "to a folder with room")
        print(f"{split}: {len(arrays.images)} pairs, {gigabytes(len(arrays.images))} in {arrays.folder}")
        if args.verify:
            verify(arrays)
            print(f"{split}: every row agrees with its checksum")


def verify(arrays: Arrays) -> None:
    """Raises LabError, naming the source, for a row that differs from its checksum."""
    manifest = json.loads((arrays.folder / "manifest.json").read_text(encoding="utf-8"))
    for index, expected in enumerate(manifest["checksums"]):
        if checksum(arrays.images[index], arrays.targets[index]) != expected:
            name = manifest["sources"][2 * index][0]
            raise LabError(f"expected the pixels of {name} in row {index}, found others in {arrays.folder}: delete "
                           "that folder and build the cache again")


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("DATA", nargs="?", help=f"folder with {known()} (default: ./data, or the sample)")
