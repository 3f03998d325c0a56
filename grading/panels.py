"""The images that a network does worst on, as PNG: image | label | prediction, in the categories' colors."""
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from utils.classes import LAB_CLASSES
from utils.files import replacing

SCALE = 2  # the panels are this much smaller than the images
GAP = 4    # pixels between the panels


def write_panels(entries: Sequence[dict], images: np.ndarray, targets: np.ndarray, masks: np.ndarray,
                 names: Sequence[str], out: Path, folder: str, task: int) -> list[dict]:
    """Writes a panel for each of `entries`, a record's worst images, into the folder `folder` of REPORT.

    images uint8 (N, H, W, 3); targets and masks uint8 (N, H, W); names: of the N images. Returns the entries with
    their files, relative to REPORT. Raises LabError where they cannot be written.
    """
    written = []
    for place, entry in enumerate(entries):
        index = names.index(entry["name"])
        file = Path(folder, f"task{task}_{place}.png")
        panel = make_panel(images[index], targets[index], masks[index])
        with replacing(Path(out) / file) as temporary:
            panel.save(temporary, format="png", optimize=True)
        written.append(entry | {"file": file.as_posix()})
    return written


def make_panel(image: np.ndarray, target: np.ndarray, mask: np.ndarray) -> Image.Image:
    """An image (H, W, 3), its label and the prediction (H, W) beside each other, each of half the size."""
    height, width = target.shape[0] // SCALE, target.shape[1] // SCALE
    panel = Image.new("RGB", (3 * width + 2 * GAP, height), "white")
    pixels = [(image, Image.Resampling.BOX), (LAB_CLASSES.colorize(target), Image.Resampling.NEAREST),
              (LAB_CLASSES.colorize(mask), Image.Resampling.NEAREST)]
    for place, (part, filter_) in enumerate(pixels):
        panel.paste(Image.fromarray(np.ascontiguousarray(part)).resize((width, height), filter_),
                    (place * (width + GAP), 0))
    return panel
