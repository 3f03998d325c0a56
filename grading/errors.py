"""How alike two networks err: a copy that was disguised in code and weights still makes its model's mistakes.

An error map says of each pixel which wrong class was predicted there; grading makes it of the masks, on a grid of
pixels of some images (`thin`), and keeps it beside the sources. Two maps are compared by the share of equal errors:
equal wrong classes among the pixels at which either network errs.
"""
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from utils.classes import LAB_CLASSES
from utils.files import replacing
from utils.lab import IGNORE, NUM_CLASSES

MOST_IMAGES = 50  # of the scored ones, evenly spaced
STRIDE = 4        # of the pixels each way
RIGHT = 255       # in an error map: right, or without a label
PART = 1 << 18    # pixels compared at a time
SHOWN, SCALE, GAP = 3, 3, 6  # images of a pair on its page, enlarged so much, pixels between them


def thin(arrays: np.ndarray) -> np.ndarray:
    """Every STRIDE-th pixel each way of at most MOST_IMAGES evenly spaced images of (N, H, W)."""
    places = np.unique(np.linspace(0, len(arrays) - 1, min(len(arrays), MOST_IMAGES)).astype(int))
    return np.stack([arrays[place][::STRIDE, ::STRIDE] for place in places])


def error_map(masks: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """uint8 (n, h, w): the predicted class where `masks` err, RIGHT elsewhere; both uint8 (N, H, W), thinned here."""
    masks, targets = thin(masks), thin(targets)
    return np.where((masks != targets) & (targets != IGNORE), masks, RIGHT).astype(np.uint8)


def errors_path(out: Path, slug: str, task: int) -> Path:
    """Where the error map of a task's masks is kept in REPORT, if it was scored."""
    return Path(out) / "sources" / slug / f"errors_task{task}.npz"


def save_errors(path: Path, errors: np.ndarray, data: str) -> None:
    """Writes an error map, compressed, and the digest of the data that it was made on."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, errors=errors, data=np.array(data))


def read_errors(path: Path) -> tuple[np.ndarray, str] | None:
    """The error map in `path` and its data's digest; None where there is none, or a damaged one."""
    try:
        with np.load(path, allow_pickle=False) as found:
            errors, data = found["errors"], str(found["data"])
    except (OSError, ValueError, KeyError, EOFError):
        return None
    return (errors, data) if errors.ndim == 3 and errors.dtype == np.uint8 else None


def equal_errors(maps: Sequence[np.ndarray]) -> np.ndarray:
    """float64 (n, n): for each two error maps of one shape the share of equal errors, 0 where neither errs."""
    rows = np.stack([one.reshape(-1) for one in maps])
    equal, both = (np.zeros((len(rows), len(rows))) for _ in range(2))
    for start in range(0, rows.shape[1], PART):
        part = rows[:, start:start + PART]
        wrong = (part != RIGHT).astype(np.float32)
        both += wrong @ wrong.T
        for label in range(NUM_CLASSES):
            chosen = (part == label).astype(np.float32)
            equal += chosen @ chosen.T
    counts = (rows != RIGHT).sum(1, dtype=np.float64)
    either = counts[:, None] + counts - both
    return equal / np.maximum(either, 1)


def show_errors(first: np.ndarray, second: np.ndarray) -> Image.Image:
    """Two error maps side by side with what both have, for the images with the most equal errors."""
    equal = np.where(first == second, first, RIGHT)
    rows = np.argsort(-(equal != RIGHT).sum((1, 2)), kind="stable")[:SHOWN]
    height, width = first.shape[1] * SCALE, first.shape[2] * SCALE
    page = Image.new("RGB", (3 * width + 2 * GAP, len(rows) * (height + GAP) - GAP), "#888")
    for y, row in enumerate(rows):
        for x, one in enumerate((first, second, equal)):
            panel = Image.fromarray(LAB_CLASSES.colorize(one[row]))
            page.paste(panel.resize((width, height), Image.Resampling.NEAREST),
                       (x * (width + GAP), y * (height + GAP)))
    return page
