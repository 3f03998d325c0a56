"""Segmentation metrics from one accumulated confusion matrix (Long et al., "Fully convolutional networks", 2015).

Conventions, which the lab's figures rest on:
- row = target, column = prediction; the matrix is int64 and adds up over a whole split, so the result depends on
  neither the batch size nor the order of the images;
- pixels whose target is 255 (IGNORE) count nowhere;
- IoU = TP / (TP + FP + FN); a class that neither target nor prediction contains has no IoU (NaN) and is left out of
  the mean; a class that only one of the two contains has IoU 0 and is in it.
"""
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from utils.lab import IGNORE, NUM_CLASSES, VOID

Pixels = np.ndarray | Tensor

# Up to this C a pixel's (target + 1) * C + pred is below 128: seven bits of a byte, and two bytes a positive int16.
FUSED_CLASSES = 10
PART = 2**22  # pixels that count_without_waiting takes at a time; it needs about C * C bytes for each of them
WORD, WORDS = 8, 128  # bytes in an int64, and how many such words are added up before their bytes (255) could overflow


class ConfusionMatrix:
    """Counts pairs of (target, pred) pixels; every figure is derived from the counts.

    Ratios without a denominator (nothing counted yet) are NaN.
    """

    def __init__(self, num_classes: int = NUM_CLASSES) -> None:
        self.num_classes = num_classes
        self._counts = np.zeros((num_classes, num_classes), np.int64)
        self._pending: Tensor | None = None  # count_without_waiting's sum since the counts were read last

    def update(self, target: Pixels, pred: Pixels) -> None:
        """Adds the pixels of `target` and `pred`: integers of one shape, arrays or tensors, counted on pred's device.

        `target` holds 0..C-1 or 255 (ignored), `pred` holds 0..C-1; uint8 is fastest. Raises ValueError for other
        types, for shapes that differ and for values outside those ranges; then nothing is added. On a GPU nothing
        waits for the device, so there it is reading `counts` that raises for values outside the ranges.
        """
        target, pred = _as_tensor(target, "target"), _as_tensor(pred, "pred")
        if target.shape != pred.shape:
            raise ValueError(f"expected target and pred of one shape, got {tuple(target.shape)} and "
                             f"{tuple(pred.shape)}; pass class indices (logits.max(1).indices), not logits")
        if target.numel() == 0:
            return
        on_cpu = pred.device.type == "cpu"
        # A copy to the CPU has to be waited for: its memory would be read before it has arrived.
        target = target.to(pred.device, non_blocking=not on_cpu)
        if on_cpu or self.num_classes > FUSED_CLASSES:
            self._counts += _count(target, pred, self.num_classes).cpu().numpy()
        else:
            self._queue(count_without_waiting(target, pred, self.num_classes))

    @property
    def counts(self) -> np.ndarray:
        """The matrix, int64 (C, C), which may be changed in place. Fetches what is still on a GPU, and so waits for it.

        Raises ValueError if pixels counted on a GPU were outside their range, until the next `reset`.
        """
        self._fetch()
        return self._counts

    def _queue(self, counts: Tensor) -> None:
        if self._pending is not None and self._pending.device != counts.device:
            self._fetch()
        self._pending = counts if self._pending is None else self._pending + counts

    def _fetch(self) -> None:
        if self._pending is None:
            return
        *counts, outside = self._pending.tolist()
        if outside:
            c = self.num_classes
            raise ValueError(f"expected predictions in 0..{c - 1} and targets in 0..{c - 1} or {IGNORE} (ignored), "
                             f"got {outside} pixels outside")
        self._counts += np.reshape(counts, self._counts.shape)
        self._pending = None

    def merge(self, other: "ConfusionMatrix") -> "ConfusionMatrix":
        """Adds the counts of another matrix (of another process, say) to this one and returns it."""
        if other.num_classes != self.num_classes:
            raise ValueError(f"expected a matrix of {self.num_classes} classes, got {other.num_classes}")
        self._counts += other.counts
        return self

    def __add__(self, other: "ConfusionMatrix") -> "ConfusionMatrix":
        return ConfusionMatrix(self.num_classes).merge(self).merge(other)

    def reset(self) -> None:
        self._counts[:] = 0
        self._pending = None

    def iou(self) -> np.ndarray:
        """Intersection over union of each class, float64 (C,), NaN for a class that does not occur."""
        hits = np.diag(self.counts)
        return ratio(hits, self.counts.sum(0) + self.counts.sum(1) - hits)

    def miou(self) -> float:
        """Mean IoU over the classes that occur: the lab's graded figure."""
        return mean_of_present(self.iou())

    def miou_without_void(self) -> float:
        """Mean IoU over the classes but void. Pixels predicted void still count as missed ones."""
        return mean_of_present(np.delete(self.iou(), VOID))

    def accuracy(self) -> float:
        """Overall pixel accuracy."""
        return float(ratio(np.trace(self.counts), self.counts.sum()))

    def accuracy_without_void(self) -> float:
        """Pixel accuracy over the pixels whose target is not void. Pixels predicted void still count as missed ones."""
        rows = np.delete(self.counts, VOID, 0)
        return float(ratio(np.delete(np.diag(self.counts), VOID).sum(), rows.sum()))

    def class_accuracy(self) -> np.ndarray:
        """Recall of each class, float64 (C,), NaN for a class that no target contains."""
        return ratio(np.diag(self.counts), self.counts.sum(1))

    def mean_accuracy(self) -> float:
        """Mean of the recalls over the classes that the targets contain."""
        return mean_of_present(self.class_accuracy())

    def frequency_weighted_iou(self) -> float:
        """IoU weighted by each class's share of the target pixels."""
        share = ratio(self.counts.sum(1), self.counts.sum())
        iou = self.iou()
        return float("nan") if np.isnan(share).any() else float((share * np.nan_to_num(iou)).sum())


class AverageMeter:
    """A running mean: of the loss per image, of the seconds per image."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.sum, self.count = 0.0, 0

    def update(self, value: float | Tensor, n: int = 1) -> None:
        """Adds `value`, the mean over `n` items: a number, or a tensor () on any device, for which nothing waits."""
        if isinstance(value, Tensor):
            value = value.detach().double()
        # not in place: a sum that inference_mode made must not be changed outside of it
        self.sum = self.sum + value * n
        self.count += n

    @property
    def avg(self) -> float:
        """The mean over all items so far, NaN before the first. Waits for the device of the values, if any."""
        return float(self.sum) / self.count if self.count else float("nan")


def count_without_waiting(target: Tensor, pred: Tensor, num_classes: int = NUM_CLASSES, part: int = PART) -> Tensor:
    """The confusion matrix of integer tensors of one shape (not empty) on one device, C <= 10, only by queueing there.

    Returns int64 (C * C + 1,) on that device: the matrix, flattened, then the number of pixels outside their range
    (`target` in 0..C-1 or 255, `pred` in 0..C-1), which the matrix leaves out. torch.bincount would wait for the
    device: the size of its result depends on the values.
    part: pixels counted at a time, a multiple of 1024; bounds the memory.
    """
    c = num_classes
    outside = (pred < 0) | (pred >= c) | (target < 0) | ((target >= c) & (target != IGNORE))
    # 255 + 1 wraps to 0: ignored pixels are 0..C-1, known ones C..C*(C+1)-1, and the bin after those is for the strays.
    index = (target.to(torch.uint8) + 1).mul_(c).add_(pred.to(torch.uint8)).masked_fill_(outside, c * (c + 1)).flatten()
    index = F.pad(index, (0, -len(index) % (WORD * WORDS)))  # with 0, an ignored pixel
    bins = torch.arange(c, c * (c + 1) + 1, dtype=torch.uint8, device=pred.device)[:, None]
    total = torch.zeros(len(bins), dtype=torch.int64, device=pred.device)
    for some in index.split(part):
        # On a GPU sum() first copies bools to int64, 8 times their memory. Seen as int64 they are 8 counters of a byte
        # in a word, which are added up without a copy, and without a carry as long as each stays below 256.
        words = (some == bins).view(torch.int64).view(len(bins), -1, WORDS).sum(2)
        total += words.view(torch.uint8).sum(1)
    return total


def _count(target: Tensor, pred: Tensor, c: int) -> Tensor:
    """The matrix of integer tensors of one shape, int64 (C, C). Raises ValueError for values outside their ranges."""
    low, high = _span(pred)
    if low < 0 or high >= c:
        raise ValueError(f"expected predictions in 0..{c - 1}, got {low}..{high}")
    low, high = _span(target)
    row, column = (labels.flatten().to(torch.uint8) for labels in (target, pred))
    row = row + 1  # 255 wraps to 0: ignored pixels fill row 0, which is cut off below
    if low < 0 or high > IGNORE or row.max() > c:
        raise ValueError(f"expected targets in 0..{c - 1} or {IGNORE} (ignored), got {low}..{high}")
    bins = c * (c + 1)
    if c > FUSED_CLASSES or row.device.type != "cpu":
        return torch.bincount(row.long() * c + column, minlength=bins)[c:].view(c, c)
    index = torch.add(column, row, alpha=c, out=row)
    if len(index) % 4:
        index = F.pad(index, (0, -len(index) % 4))  # with 0, an ignored pixel
    # Neighbors are counted as one int16, in half as many steps, and every second int16 in a bin 128 further on: adding
    # to one bin twice in a row, as label maps ask for all the time, would have to wait for the first to be stored.
    index.view(torch.int32).bitwise_or_(128 << 16)
    pairs = torch.bincount(index.view(torch.int16), minlength=bins * 256).view(bins, 2, 128).sum(1)
    return (pairs.sum(1) + pairs.sum(0)[:bins])[c:].view(c, c)  # each pair for its two bytes


def _span(labels: Tensor) -> tuple[int, int]:
    """The smallest and the largest value; of bytes, which are fastest, 0 stands for the smallest."""
    return (0, int(labels.max())) if labels.dtype == torch.uint8 else tuple(map(int, labels.aminmax()))


def _as_tensor(pixels: Pixels, name: str) -> Tensor:
    if isinstance(pixels, np.ndarray) and min(pixels.strides, default=0) < 0:
        pixels = pixels.copy()  # a flipped array, which torch does not take
    tensor = torch.as_tensor(pixels)
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise ValueError(f"expected {name} as integer class indices, got {tensor.dtype}")
    # torch has no comparisons for the wider unsigned types
    return tensor.long() if tensor.dtype in (torch.uint16, torch.uint32, torch.uint64) else tensor


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, float64, NaN for 0 / 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(part, np.float64) / np.asarray(whole, np.float64)


def mean_of_present(values: np.ndarray) -> float:
    """The mean of all but the NaNs; NaN if there is nothing else."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else float("nan")
