"""Segmentation metrics from one accumulated confusion matrix (Long et al., "Fully convolutional networks", 2015).

Conventions, which the lab's figures rest on:
- row = target, column = prediction; the matrix is int64 and adds up over a whole split, so the result depends on
  neither the batch size nor the order of the pictures;
- pixels whose target is 255 (IGNORE) count nowhere;
- IoU = TP / (TP + FP + FN); a class that neither target nor prediction contains has no IoU (NaN) and is left out of
  the mean; a class that only one of the two contains has IoU 0 and is in it.
"""
import numpy as np
import torch

from utils.lab import IGNORE, NUM_CLASSES, VOID

Pixels = np.ndarray | torch.Tensor


class ConfusionMatrix:
    """Counts pairs of (target, pred) pixels; every figure is derived from the counts.

    Ratios without a denominator (nothing counted yet) are NaN.
    """

    def __init__(self, num_classes: int = NUM_CLASSES) -> None:
        self.num_classes = num_classes
        self.counts = np.zeros((num_classes, num_classes), np.int64)

    def update(self, target: Pixels, pred: Pixels) -> None:
        """Adds the pixels of `target` and `pred`: integers of one shape, on any device, array or tensor.

        `target` holds 0..C-1 or 255 (ignored), `pred` holds 0..C-1. Raises ValueError for shapes that differ and
        for values outside those ranges; then nothing is added.
        """
        target, pred = _as_tensor(target, "target"), _as_tensor(pred, "pred")
        if target.shape != pred.shape:
            raise ValueError(f"expected target and pred of one shape, got {tuple(target.shape)} and "
                             f"{tuple(pred.shape)}; pass class indices (logits.max(1).indices), not logits")
        if target.numel() == 0:
            return
        c = self.num_classes
        low, high = int(pred.min()), int(pred.max())
        if low < 0 or high >= c:
            raise ValueError(f"expected predictions in 0..{c - 1}, got {low}..{high}")
        target = target.to(pred.device).flatten().long()
        row = torch.where(target == IGNORE, -1, target)  # ignored pixels fill row -1, which is cut off below
        if int(target.min()) < 0 or int(row.max()) >= c:
            raise ValueError(f"expected targets in 0..{c - 1} or {IGNORE} (ignored), "
                             f"got {int(target.min())}..{int(target.max())}")
        pairs = torch.bincount((row + 1) * c + pred.flatten().long(), minlength=c * (c + 1))
        self.counts += pairs[c:].reshape(c, c).cpu().numpy()

    def merge(self, other: "ConfusionMatrix") -> "ConfusionMatrix":
        """Adds the counts of another matrix (of another process, say) to this one and returns it."""
        if other.num_classes != self.num_classes:
            raise ValueError(f"expected a matrix of {self.num_classes} classes, got {other.num_classes}")
        self.counts += other.counts
        return self

    def __add__(self, other: "ConfusionMatrix") -> "ConfusionMatrix":
        return ConfusionMatrix(self.num_classes).merge(self).merge(other)

    def reset(self) -> None:
        self.counts[:] = 0

    def iou(self) -> np.ndarray:
        """Intersection over union of each class, float64 (C,), NaN for a class that does not occur."""
        hits = np.diag(self.counts)
        return _ratio(hits, self.counts.sum(0) + self.counts.sum(1) - hits)

    def miou(self) -> float:
        """Mean IoU over the classes that occur: the lab's graded figure."""
        return _mean(self.iou())

    def miou_without_void(self) -> float:
        """Mean IoU over the classes but void. Pixels predicted void still count as missed ones."""
        return _mean(np.delete(self.iou(), VOID))

    def accuracy(self) -> float:
        """Overall pixel accuracy."""
        return float(_ratio(np.trace(self.counts), self.counts.sum()))

    def class_accuracy(self) -> np.ndarray:
        """Recall of each class, float64 (C,), NaN for a class that no target contains."""
        return _ratio(np.diag(self.counts), self.counts.sum(1))

    def mean_accuracy(self) -> float:
        """Mean of the recalls over the classes that the targets contain."""
        return _mean(self.class_accuracy())

    def frequency_weighted_iou(self) -> float:
        """IoU weighted by each class's share of the target pixels."""
        share = _ratio(self.counts.sum(1), self.counts.sum())
        iou = self.iou()
        return float("nan") if np.isnan(share).any() else float((share * np.nan_to_num(iou)).sum())


class AverageMeter:
    """A running mean: of the loss per picture, of the seconds per picture."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.sum, self.count = 0.0, 0

    def update(self, value: float, n: int = 1) -> None:
        """Adds `value`, the mean over `n` items."""
        self.sum += value * n
        self.count += n

    @property
    def avg(self) -> float:
        """The mean over all items so far, NaN before the first."""
        return self.sum / self.count if self.count else float("nan")


def _as_tensor(pixels: Pixels, name: str) -> torch.Tensor:
    tensor = torch.as_tensor(pixels)
    if tensor.is_floating_point() or tensor.is_complex():
        raise ValueError(f"expected {name} as integer class indices, got {tensor.dtype}")
    return tensor


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(part, np.float64) / np.asarray(whole, np.float64)


def _mean(values: np.ndarray) -> float:
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else float("nan")
