"""The images that all trials of a run share: shuffled, with composites among them, without labels."""
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from grading.trial.costs import Seams
from utils.files import replacing
from utils.lab import INPUT_SIZE, NUM_CLASSES, LabError
from utils.metric import ConfusionMatrix

PIXELS = INPUT_SIZE[0] * INPUT_SIZE[1]
EVERY, FEWEST, MOST = 8, 8, 64  # a composite for so many images, and how many at least and at most


@dataclass(frozen=True)
class Composite:
    """An image put together: `left` up to `column`, `right` from there on."""

    left: int
    right: int
    column: int

    def of(self, arrays: np.ndarray) -> np.ndarray:
        """The composite of images, labels or masks, (N, 256, 512, ...)."""
        return np.concatenate([arrays[self.left][:, :self.column], arrays[self.right][:, self.column:]], 1)


@dataclass(frozen=True)
class StagedImages:
    """`count` images in a file, uint8 (256, 512, 3) one after the other.

    order: int64 (count,): which each staged image is, one of the split's `size` images or, from there on, a composite.
    No child sees it.
    """

    images: Path
    order: np.ndarray
    size: int
    composites: tuple[Composite, ...]

    @property
    def count(self) -> int:
        return len(self.order)

    def unshuffle(self, answer: bytes) -> np.ndarray | None:
        """The masks in a child's answer, uint8 (count, 256, 512), the split's first; None for what are no classes."""
        sent = np.frombuffer(answer, np.uint8).reshape(self.count, *INPUT_SIZE)
        if sent.max() >= NUM_CLASSES:
            return None
        masks = np.empty_like(sent)
        masks[self.order] = sent
        return masks

    def seams(self, masks: np.ndarray, targets: np.ndarray) -> Seams:
        """How well the composites are labeled, and the same pixels in whole images: masks as `unshuffle` gives them."""
        apart, whole = ConfusionMatrix(), ConfusionMatrix()
        for composite, mask in zip(self.composites, masks[self.size:], strict=True):
            target = composite.of(targets)
            apart.update(target, np.array(mask))
            whole.update(target, composite.of(masks))
        return Seams(float(apart.miou()), float(whole.miou()))


def stage_images(images: np.ndarray, folder: Path, secret: bytes) -> StagedImages:
    """Writes `images`, uint8 (N, 256, 512, 3), and composites of them into `folder`, in an order made from `secret`."""
    if images.ndim != 4 or images.shape[1:] != (*INPUT_SIZE, 3) or images.dtype != np.uint8 or not len(images):
        raise LabError(f"expected images of uint8 (N, {INPUT_SIZE[0]}, {INPUT_SIZE[1]}, 3), found {images.dtype} "
                       f"{images.shape}: check the data")
    size = len(images)
    random = np.random.default_rng(int.from_bytes(hashlib.sha256(b"order of the images" + secret).digest(), "big"))
    number = min(max(size // EVERY, FEWEST), MOST) if size > 1 else 0
    quarter = INPUT_SIZE[1] // 4
    composites = tuple(Composite(*map(int, random.choice(size, 2, replace=False)),
                                 int(random.integers(quarter, INPUT_SIZE[1] - quarter))) for _ in range(number))
    order = random.permutation(size + number)
    path = Path(folder) / "images"
    with replacing(path) as temporary, temporary.open("wb") as file:
        for index in order:
            image = images[index] if index < size else composites[index - size].of(images)
            file.write(np.ascontiguousarray(image).data)
    return StagedImages(path, order, size, composites)
