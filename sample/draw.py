"""Draws the sample data set: street scenes in Cityscapes' layout and file formats, for where Cityscapes is not.

    python -m sample [OUT] [--train N] [--val N] [--seed S]
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from sample.scenes import DRAWING_VERSION, draw_scene
from utils.lab import CACHE_FOLDER, ROOT, SAMPLE_DATA, LabError
from utils.labels_cat import labels
from utils.machine import available_cores
from utils.terminal import bar_stream

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

CITIES = {"train": ("altmoor", "espenfeld", "kronhafen", "weidental"), "val": ("nordbruck", "sandheim")}
FRAME = 19
RECORD = "sample.json"
FOLDERS = ("leftImg8bit", "gtFine")
FEWEST_FOR_A_WORKER = 4  # fewer images are drawn sooner than a worker process starts
# A worker leaves Ctrl-C to the process that waits for it.
START_WORKER = ("import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); "
                f"sys.path.insert(0, {str(ROOT)!r}); from sample.draw import _work")

# uint8 (256, 4): label id -> its color in a `_color.png`.
_COLORS = np.zeros((256, 4), np.uint8)
for _label in labels:
    _COLORS[_label.id % 256] = (*_label.color, 255)


class Frame(NamedTuple):
    """One image to draw: the numbers it is drawn from and where it belongs below the data set's root."""

    seed: int
    split: str
    index: int
    city: str
    stem: str

    def paths(self, root: Path) -> dict[str, Path]:
        """The files of the image, by what they show."""
        truth = root / "gtFine" / self.split / self.city
        return {"image": root / "leftImg8bit" / self.split / self.city / f"{self.stem}_leftImg8bit.png",
                **{kind: truth / f"{self.stem}_gtFine_{kind}.png" for kind in ("labelIds", "color", "instanceIds")}}


def _frames(settings: dict[str, int]) -> list[Frame]:
    frames = []
    for split, cities in CITIES.items():
        count = settings[split]
        taken = dict.fromkeys(cities, 0)
        for index in range(count):
            city = cities[index * len(cities) // count]
            stem = f"{city}_{taken[city]:06d}_{FRAME:06d}"
            taken[city] += 1
            frames.append(Frame(settings["seed"], split, index, city, stem))
    return frames


def _draw(root: Path, frame: Frame) -> None:
    """Draws one image and writes its four files; their folders exist."""
    scene = draw_scene(frame.seed, list(CITIES).index(frame.split), frame.index)
    arrays = {"image": scene.image, "labelIds": scene.label_ids, "color": _COLORS[scene.label_ids],
              "instanceIds": scene.instance_ids}
    for kind, path in frame.paths(root).items():
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
        path.is_file() for frame in _frames(settings) for path in frame.paths(root).values())


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


def _draw_all(root: Path, settings: dict[str, int]) -> None:
    """Draws the images in a process for each core, with a bar."""
    frames = _frames(settings)
    for folder in {path.parent for frame in frames for path in frame.paths(root).values()}:
        folder.mkdir(parents=True, exist_ok=True)
    workers = min(available_cores(), len(frames) // FEWEST_FOR_A_WORKER)
    with tqdm(total=len(frames), desc="drawing the sample", unit="image", file=bar_stream()) as bar:
        if workers < 2:
            for frame in frames:
                _draw(root, frame)
                bar.update()
        else:
            for _ in _drawn_by_workers(root, settings, workers):
                bar.update()


def _drawn_by_workers(root: Path, settings: dict[str, int], workers: int) -> Iterator[None]:
    """Yields for each image that a worker process has drawn. Raises OSError with what stopped one.

    Workers print a line an image into one pipe, so they end with this process, too, should it be killed.
    """
    reader, writer = os.pipe()
    processes = []
    try:
        with os.fdopen(reader, encoding="utf-8", errors="replace") as lines:
            with os.fdopen(writer, "wb") as pipe:
                for number in range(workers):
                    program = f"{START_WORKER}; _work({str(root)!r}, {settings}, {number}, {workers})"
                    processes.append(subprocess.Popen([sys.executable, "-c", program], stdout=pipe,
                                                      stderr=subprocess.DEVNULL))
            for line in lines:
                if line.strip():
                    raise OSError(line.strip())
                yield
        if any(process.wait() for process in processes):
            raise OSError("a process that draws was killed")
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _work(root: str, settings: dict[str, int], first: int, step: int) -> None:
    """A worker process: draws every step-th image from `first` on, and prints an empty line for each, or an error."""
    try:
        for frame in _frames(settings)[first::step]:
            _draw(Path(root), frame)
            print(flush=True)
    except OSError as error:
        print(error.strerror or error, flush=True)


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
            _draw_all(part, settings)
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
    """Draws the sample data set of `train` + `val` images below `root` and returns it; takes about a minute.

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
    except OSError as error:
        raise LabError(f"expected to write the sample to {root}, found: {error.strerror or error}; "
                       "free some space or choose another place") from None
    return root


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m sample", description="Draws the sample data set.")
    parser.add_argument("out", nargs="?", type=Path, default=SAMPLE_DATA, metavar="OUT",
                        help="where it belongs (default: data/sample)")
    parser.add_argument("--train", type=int, default=200, metavar="N", help="images to train on (default: 200)")
    parser.add_argument("--val", type=int, default=50, metavar="N", help="images to validate on (default: 50)")
    parser.add_argument("--seed", type=int, default=5, metavar="S", help="another seed draws others (default: 5)")
    arguments = parser.parse_args()
    root = draw_sample(arguments.out, arguments.train, arguments.val, arguments.seed)
    print(f"{root}: {arguments.train} images to train on, {arguments.val} to validate on")
