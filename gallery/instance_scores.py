"""Average precision of instances, as Cityscapes' own evaluation has it (cityscapesscripts, instance level).

A found instance matches a true one if their IoU is above a threshold. Instances are taken by falling score; precision
and recall at each score give a curve, and the area under it is the average precision. The threshold is 0.5, or the mean
over 0.5, 0.55, .. 0.95 is taken. There is one class here, things, and no region is ignored, as void, groups and small
instances are there: what is found on them counts as wrong.
"""
from collections.abc import Sequence

import numpy as np

from gallery.instances import Found

THRESHOLDS = tuple(0.5 + 0.05 * step for step in range(10))


class InstanceScores:
    """Adds up images, then gives the average precision. Both are NaN where no image has a true instance."""

    def __init__(self) -> None:
        self._true = 0
        self._scores: list[np.ndarray] = []
        self._best: list[np.ndarray] = []  # of each found instance: the true one it overlaps most, and how much
        self._ious: list[np.ndarray] = []

    def update(self, found: Found, truth: np.ndarray) -> None:
        """Adds an image: what was found in it, and its true instances, masks bool (T, H, W) that do not overlap."""
        ious = overlaps(found.masks, truth)
        place = ious.argmax(1) if len(truth) else np.zeros(len(ious), np.int64)
        self._scores.append(found.scores)
        self._ious.append(ious.max(1, initial=0.0))
        self._best.append(place + self._true)
        self._true += len(truth)

    def average_precision(self, threshold: float = 0.5) -> float:
        """The area under the curve of precision and recall, 0..1. threshold: of the IoU, from 0.5 on."""
        if not self._true:
            return float("nan")
        scores, ious, best = (np.concatenate([np.zeros(0), *parts]) for parts in (self._scores, self._ious, self._best))
        right = np.zeros(len(scores), bool)
        taken: set[int] = set()
        for number in np.argsort(-scores, kind="stable"):  # of several on one true instance the best scored counts
            if ious[number] > threshold and best[number] not in taken:
                taken.add(best[number])
                right[number] = True
        if not len(scores):
            return 0.0
        order = np.argsort(-scores, kind="stable")
        ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)  # equal scores are one point
        hits = right[order].cumsum()[ends]
        precision, recall = hits / (ends + 1), hits / self._true
        # From recall 0 at precision 1 on, each point stands for half of the way to both of its neighbors.
        points = np.concatenate([[0.0, 0.0], recall, [recall[-1]]])
        widths = (points[2:] - points[:-2]) / 2
        return float((widths * np.concatenate([[1.0], precision])).sum())

    def mean(self, thresholds: Sequence[float] = THRESHOLDS) -> float:
        """The mean over the thresholds: AP at 0.5:0.95."""
        return float(np.mean([self.average_precision(threshold) for threshold in thresholds]))


def overlaps(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The IoU of each of `found` (K, H, W) with each of `truth` (T, H, W), float64 (K, T)."""
    pixels = truth.shape[1] * truth.shape[2]
    found, truth = (masks.reshape(len(masks), pixels).astype(np.float32) for masks in (found, truth))
    both = (found @ truth.T).astype(np.float64)
    union = found.sum(1, dtype=np.float64)[:, None] + truth.sum(1, dtype=np.float64) - both
    return both / np.maximum(union, 1)
