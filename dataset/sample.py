"""Draws the sample data set: street scenes in Cityscapes' layout and file formats, for where Cityscapes is not.

    python -m dataset.sample [OUT] [--train N] [--val N] [--seed S]
"""
import argparse
import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from dataset.drawing.scenes import DRAWING_VERSION, draw_scene
from utils.lab import CACHE_FOLDER, SAMPLE_DATA, LabError
from utils.labels_cat import labels
from utils.machine import available_cores
from utils.terminal import bar_stream, run_main

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

CITIES = {"train": ("altmoor", "espenfeld", "kronhafen", "weidental"), "val": ("nordbruck", "sandheim")}
FRAME = 19
RECORD = "sample.json"
FOLDERS = ("leftImg8bit", "gtFine")
FEWEST_FOR_WORKERS = 8  # fewer pictures are drawn sooner than worker processes start

# uint8 (256, 4): label id -> its color in a `_color.png`.
_COLORS = np.zeros((256, 4), np.uint8)
for _label in labels:
    _COLORS[_label.id % 256] = (*_label.color, 255)


class Picture(NamedTuple):
    """One picture to draw: the numbers it is drawn from and where it belongs below the data set's root."""

    seed: int
    split: str
    index: int
    city: str
    stem: str

    def paths(self, root: Path) -> dict[str, Path]:
        """The files of the picture, by what they show."""
        truth = root / "gtFine" / self.split / self.city
        return {"image": root / "leftImg8bit" / self.split / self.city / f"{self.stem}_leftImg8bit.png",
                **{kind: truth / f"{self.stem}_gtFine_{kind}.png" for kind in ("labelIds", "color", "instanceIds")}}


def _pictures(settings: dict[str, int]) -> list[Picture]:
    pictures = []
    for split, cities in CITIES.items():
        count = settings[split]
        taken = dict.fromkeys(cities, 0)
        for index in range(count):
            city = cities[index * len(cities) // count]
            stem = f"{city}_{taken[city]:06d}_{FRAME:06d}"
            taken[city] += 1
            pictures.append(Picture(settings["seed"], split, index, city, stem))
    return pictures


def _draw(root: Path, picture: Picture) -> None:
    """Draws one picture and writes its four files; their folders exist."""
    scene = draw_scene(picture.seed, list(CITIES).index(picture.split), picture.index)
    arrays = {"image": scene.image, "labelIds": scene.label_ids, "color": _COLORS[scene.label_ids],
              "instanceIds": scene.instance_ids}
    for kind, path in picture.paths(root).items():
        Image.fromarray(arrays[kind]).save(path, compress_level=1)


def is_sample(root: Path | str) -> bool:
    """Tells whether the folder was written by `draw_sample`."""
    return _settings(Path(root)) is not None


def _settings(root: Path) -> dict | None:
    """What the sample in the folder was drawn from; None if it is no sample."""
    try:
        record = json.loads((root / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and "drawing" in record else None


def _is_complete(root: Path, settings: dict[str, int]) -> bool:
    return _settings(root) == settings and all(
        path.is_file() for picture in _pictures(settings) for path in picture.paths(root).values())


def _check_replaceable(root: Path) -> None:
    """Raises LabError if there is something at `root` that is not ours to replace."""
    if not os.path.lexists(root):
        return
    if not root.is_dir():
        raise LabError(f"expected a folder for the sample, found a file at {root}: choose another place")
    entries = sorted(path.name for path in root.iterdir() if not path.name.startswith("."))
    if is_sample(root):
        entries = [name for name in entries if name not in (*FOLDERS, RECORD, CACHE_FOLDER)]
    if entries:
        raise LabError(f"expected a free place or an older sample, found {', '.join(entries[:3])} in {root}: "
                       "choose another place, or move what is there away")


def _start_worker() -> None:
    """Leaves Ctrl-C to the parent, and ends with it should it be killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)
    if parent is not None:
        threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _starting_workers() -> Iterator[None]:
    """What processes that start meanwhile inherit: they ignore Ctrl-C and do not run the caller's script.

    A Ctrl-C while they import would make each print a traceback. And a spawned process first runs the main script
    again, which fails where there is no file (stdin) or no `if __name__ == "__main__":`; here it needs none of it.
    """
    main_module = vars(sys.modules["__main__"])
    hidden = {name: main_module.pop(name) for name in ("__file__", "__spec__") if name in main_module}
    main_module["__spec__"] = None
    in_main_thread = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if in_main_thread else None
    try:
        yield
    finally:
        if in_main_thread:
            signal.signal(signal.SIGINT, before)
        main_module.update(hidden)


def _draw_all(root: Path, pictures: list[Picture]) -> None:
    """Draws the pictures on all cores, with a bar."""
    for folder in {path.parent for picture in pictures for path in picture.paths(root).values()}:
        folder.mkdir(parents=True, exist_ok=True)
    workers = min(available_cores(), len(pictures))
    bar = tqdm(total=len(pictures), desc="drawing the sample", unit="picture", file=bar_stream())
    if workers == 1 or len(pictures) < FEWEST_FOR_WORKERS:
        with bar:
            for picture in pictures:
                _draw(root, picture)
                bar.update()
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
    try:
        with bar:
            with _starting_workers():  # the pool does so when it gets work
                tasks = [pool.submit(_draw, root, picture) for picture in pictures]
            for task in as_completed(tasks):
                task.result()
                bar.update()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _claim(folder: Path) -> Iterator[bool]:
    """Claims a folder while the context lasts, or until this process dies; False if another process has done so.

    Where folders cannot be locked (Windows, some network drives) every claim is granted.
    """
    if fcntl is None:
        yield True
        return
    handle = os.open(folder, os.O_RDONLY)
    free = True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        free = False
    except OSError:
        pass
    try:
        yield free
    finally:
        os.close(handle)


def _remove_leftovers(root: Path) -> None:
    """Removes what interrupted runs left beside `root`, not what a run that goes on elsewhere is writing."""
    for path in root.parent.glob(f".{root.name}.part-*"):
        with _claim(path) as free:
            if free:
                shutil.rmtree(path, ignore_errors=True)


def _draw_beside(root: Path, settings: dict[str, int]) -> None:
    """Draws the sample in a folder beside `root` and moves it there when it is whole; leaves nothing else behind."""
    part = root.with_name(f".{root.name}.part-{uuid.uuid4().hex[:8]}")
    old = root.with_name(f"{part.name}-old")
    try:
        part.mkdir()
        with _claim(part):
            _draw_all(part, _pictures(settings))
            (part / RECORD).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
            if _is_complete(root, settings):
                return  # another run was faster
            if root.exists():
                root.rename(old)
            part.rename(root)
    finally:
        for folder in (part, old):
            shutil.rmtree(folder, ignore_errors=True)


def draw_sample(root: Path | str = SAMPLE_DATA, train: int = 200, val: int = 50, seed: int = 5) -> Path:
    """Draws the sample data set of `train` + `val` pictures below `root` and returns it; takes about a minute.

    Returns at once if the same sample is there already; a sample of other settings is replaced. It appears at `root`
    only when it is whole. Raises LabError if `root` holds something else or cannot be written.
    """
    root = Path(root).expanduser().resolve()
    settings = {"drawing": DRAWING_VERSION, "seed": seed, "train": train, "val": val}
    if not 0 <= seed < 2 ** 32 or train < 1 or val < 1:
        raise LabError(f"expected train and val of at least 1 and a seed from 0 to 4294967295, found train {train}, "
                       f"val {val}, seed {seed}")
    try:
        if _is_complete(root, settings):
            return root
        _check_replaceable(root)
        root.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(root)
        _draw_beside(root, settings)
    except (OSError, BrokenProcessPool) as error:
        found = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise LabError(f"expected to write the sample to {root}, found: {found}; "
                       "free some space or choose another place") from None
    return root


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m dataset.sample", description="Draws the sample data set.")
    parser.add_argument("out", nargs="?", type=Path, default=SAMPLE_DATA, metavar="OUT",
                        help="where it belongs (default: data/sample)")
    parser.add_argument("--train", type=int, default=200, metavar="N", help="pictures to train on (default: 200)")
    parser.add_argument("--val", type=int, default=50, metavar="N", help="pictures to validate on (default: 50)")
    parser.add_argument("--seed", type=int, default=5, metavar="S", help="another seed draws others (default: 5)")
    arguments = parser.parse_args()
    root = draw_sample(arguments.out, arguments.train, arguments.val, arguments.seed)
    print(f"{root}: {arguments.train} pictures to train on, {arguments.val} to validate on")


if __name__ == "__main__":
    from dataset import sample  # the workers know this module by its own name, not as __main__

    run_main(sample.main)
