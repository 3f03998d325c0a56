"""What the mean IoU does not say: how well a network's scores rank the pixels, and how well its boundaries fit.

N images, C classes (the lab's 8 where `num_classes` says nothing else), H x W pixels. Both measures add up batch by
batch on the device of the predictions, which nothing waits for before a figure is read; pixels whose target is 255
(IGNORE) count nowhere. Bad shapes and types raise ValueError at once, values outside their ranges when a figure is
read. A figure is NaN where nothing was to be found.
"""
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from utils.lab import IGNORE, NUM_CLASSES, LabError
from utils.metric import mean_of_present, ratio

REACH = 16.0  # log-odds from -16 to 16: float32 has no probability beyond 16.6 but 1 itself


class AveragePrecision:
    """The area under each class's precision-recall curve, one class against the rest: no threshold has to be chosen.

    The step-wise sum of precision * growth of the recall, highest score first (Manning et al., "Introduction to
    Information Retrieval", 2008, section 8.4), without interpolation: scikit-learn's average_precision_score.

    Instead of every score it keeps two counts in each of `bins` bins a class: scores in one bin count as equal. The
    bins have equal widths in log-odds, ln(p / (1 - p)), because most pixels of a trained network have a p near 0 or 1:
    16384 bins part probabilities that are 0.0005 apart at 1/2, and 0.000002 at 0.999. `error` says from the counts how
    far the bins may have moved a figure: by 0.0012 at most for task 1's network on 12 images of the sample; in truth
    the figures there were at most 0.00016 too low.
    """

    def __init__(self, bins: int = 16384, logits: bool = True, num_classes: int = NUM_CLASSES) -> None:
        """logits: whether `update` is given logits, or else probabilities."""
        if isinstance(bins, bool) or not isinstance(bins, int) or bins < 2:
            raise LabError(f"expected a whole number of bins of at least 2, found {bins!r} in the settings")
        self.bins, self.logits, self.num_classes = bins, logits, num_classes
        self._counts: Tensor | None = None  # (2 * C * bins + 1,): all pixels, those of the class, values out of range

    def update(self, target: Tensor, scores: Tensor) -> None:
        """Adds images: target integers (N, H, W), 0..C-1 or 255; scores floats (N, C, H, W), taken as float32."""
        if not scores.is_floating_point() or scores.shape != (len(target), self.num_classes, *target.shape[1:]):
            raise ValueError(f"expected floats (N, {self.num_classes}, H, W) for target (N, H, W), got {scores.dtype} "
                             f"{tuple(scores.shape)} for {tuple(target.shape)}")
        target, known, outside = _labels(target, self.num_classes, scores.device, ignored=True)
        size = self.num_classes * self.bins
        first = torch.arange(0, size, self.bins, device=scores.device)[:, None, None]
        everything = torch.zeros(size + 1, dtype=torch.int64, device=scores.device)
        positives = torch.zeros_like(everything)
        for image, labels, labeled in zip(scores.detach(), target, known, strict=True):  # one, to bound the memory
            p = image.float()
            odds = (p.softmax(0) if self.logits else p).logit()  # NaN outside 0..1
            outside += (odds.isnan() & labeled).sum()
            place = odds.add_(REACH).mul_(self.bins / (2 * REACH)).nan_to_num_(0).clamp_(0, self.bins - 1)
            index = (place.long() + first).masked_fill_(~labeled, size)  # (C, H, W)
            everything += _histogram(index, size + 1)
            positives += _histogram(index.gather(0, labels.long()[None]), size + 1)
        counts = torch.cat([everything[:-1], positives[:-1], outside[None]])
        self._counts = counts if self._counts is None else self._counts.to(counts.device) + counts

    def average_precision(self) -> np.ndarray:
        """Each class's average precision, 0..1, float64 (C,), NaN for a class that no target contains."""
        t, true, false, _ = self._curve()
        return ratio((t * np.nan_to_num(ratio(true, true + false))).sum(1), t.sum(1))

    def mean(self) -> float:
        """The mean over the classes that the targets contain."""
        return mean_of_present(self.average_precision())

    def error(self) -> np.ndarray:
        """How far at most `average_precision` is from that of the scores without bins, float64 (C,).

        In a bin of t pixels of the class and f others, with T and F of them before, the i-th of the t has a precision
        of at least (T + i) / (T + i + F + f), if the others come first, and of at most (T + t) / (T + t + F).
        """
        t, true, false, others = self._curve()
        step = t * np.nan_to_num(ratio(true, true + false))
        highest = t * np.nan_to_num(ratio(true, true + false - others))
        digamma = [torch.from_numpy(true + false + 1 - less).digamma().numpy() for less in (0, t)]
        lowest = t - false * (digamma[0] - digamma[1])  # the sum over i = 1..t of the above
        return ratio(np.maximum(highest - step, step - lowest).clip(0).sum(1), t.sum(1))

    def _curve(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """By falling score, each (C, bins): the class's pixels in a bin, and so far; others so far, and in the bin."""
        c = self.num_classes
        counts = np.zeros(2 * c * self.bins) if self._counts is None else _read(self._counts, c)
        everything, t = counts.reshape(2, c, self.bins)[:, :, ::-1]
        others = everything - t
        return t, t.cumsum(1), others.cumsum(1), others


class BoundaryFScore:
    """How well each class's boundary is met: the harmonic mean of its precision and recall within a tolerance.

    Follows Csurka et al., "What is a good evaluation measure for semantic segmentation?" (2013): of the predicted
    boundary pixels of a class, the share with a true one within `tolerance` pixels (Euclidean) is the precision; the
    other way round, the recall. Worked out for each image by itself, as they argue, then averaged over the images
    where the class has a boundary; one that only target or prediction has is worth 0. DAVIS (Perazzi et al., 2016)
    dilates by a disc as well; Gated-SCNN (Takikawa et al., 2019), with DAVIS's code, counts images without the class
    as 1, which flatters rare classes, and this one does not.

    A boundary pixel of a class belongs to it and has one of its 4 neighbors in another class. Neither the edge of the
    image nor that of a region labeled 255 is a boundary, and pixels labeled 255 are left out of the prediction too.
    2 pixels of 256 x 512 are 0.35 % of the diagonal; Csurka et al. take 0.75 %, here 4.3 pixels.
    """

    def __init__(self, tolerance: float = 2, num_classes: int = NUM_CLASSES) -> None:
        """num_classes: up to 63, a bit each of an integer."""
        if not 0 <= tolerance <= 64:
            raise LabError(f"expected a tolerance from 0 to 64 pixels, found {tolerance} in the settings")
        if not 1 <= num_classes <= 63:
            raise LabError(f"expected 1 to 63 classes to find the boundaries of, found {num_classes} in the settings")
        reach = math.floor(tolerance)
        self.tolerance, self.num_classes = tolerance, num_classes
        self._disc = [(y, x) for y in range(2 * reach + 1) for x in range(2 * reach + 1)
                      if math.hypot(y - reach, x - reach) <= tolerance]
        self._sums: Tensor | None = None  # float64 (6 * C + 1,): precision, recall, F; their images; out of range

    def update(self, target: Tensor, pred: Tensor) -> None:
        """Adds images: integers (N, H, W), target 0..C-1 or 255, pred 0..C-1 (not logits)."""
        if target.ndim != 3 or target.shape != pred.shape:
            raise ValueError(f"expected target and pred of one shape (N, H, W), got {tuple(target.shape)} and "
                             f"{tuple(pred.shape)}; pass class indices, not logits")
        c = self.num_classes
        target, known, outside = _labels(target, c, pred.device, ignored=True)
        pred, _, strange = _labels(pred, c, pred.device, ignored=False)
        true, claimed = _boundaries(target, known, c), _boundaries(pred, known, c)
        precision, claims = self._matched(pred, claimed, true)
        recall, truths = self._matched(target, true, claimed)
        both = precision + recall
        f = 2 * precision * recall / both.where(both > 0, 1)
        # an image without a boundary to match has added a 0 above; here it is not counted
        images = torch.stack([claims > 0, truths > 0, (claims > 0) | (truths > 0)])
        sums = torch.cat([torch.stack([precision, recall, f]).sum(1).flatten(), images.sum(1).flatten(),
                          (outside + strange)[None]])
        self._sums = sums if self._sums is None else self._sums.to(sums.device) + sums

    def precision(self) -> np.ndarray:
        """Float64 (C,), over the images where the class is predicted with a boundary."""
        return self._figures()[0]

    def recall(self) -> np.ndarray:
        """Float64 (C,), over the images whose target has a boundary of the class."""
        return self._figures()[1]

    def f_score(self) -> np.ndarray:
        """Float64 (C,), 0..1, over the images where either has a boundary of the class."""
        return self._figures()[2]

    def mean(self) -> float:
        """The mean of the F-score over the classes that have one."""
        return mean_of_present(self.f_score())

    def _figures(self) -> np.ndarray:
        c = self.num_classes
        sums = np.zeros(6 * c) if self._sums is None else _read(self._sums, c)
        return ratio(*sums.reshape(2, 3, c))

    def _matched(self, labels: Tensor, boundary: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        """The share of each class's `boundary` pixels that are near `other`, 0 if there are none, and their number.

        Float64 and int64 (N, C). Both boundaries are integers (N, H, W), one bit a class: all are dilated at once.
        """
        n, h, w = labels.shape
        c = self.num_classes
        reach = math.floor(self.tolerance)
        padded = F.pad(other, (reach,) * 4)
        near = torch.zeros_like(other)
        for y, x in self._disc:
            near |= padded[:, y:y + h, x:x + w]
        hit = (near & boundary).bool()
        image = torch.arange(0, n * 2 * c, 2 * c, device=labels.device)[:, None, None]
        index = (image + hit * c + labels).masked_fill_(boundary == 0, n * 2 * c)
        counts = _histogram(index, n * 2 * c + 1)[:-1].view(n, 2, c)
        number = counts.sum(1)
        return counts[:, 1].double() / number.clamp(min=1), number


def _labels(labels: Tensor, c: int, device: torch.device, ignored: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Classes as uint8 (N, H, W), 0 where unknown; which are known, bool; how many are out of range, int64 ()."""
    if labels.is_floating_point() or labels.dtype == torch.bool or labels.ndim != 3:
        raise ValueError(f"expected class indices, integers (N, H, W), got {labels.dtype} {tuple(labels.shape)}")
    labels = labels.to(device, non_blocking=device.type != "cpu")
    labels = labels if labels.dtype == torch.uint8 else labels.long()
    known = (labels >= 0) & (labels < c)
    outside = ~known & (labels != IGNORE) if ignored else ~known
    return (labels * known).to(torch.uint8), known, outside.sum()


def _boundaries(labels: Tensor, known: Tensor, c: int) -> Tensor:
    """Bit k: whether the pixel is on the boundary of class k. From uint8 and bool (N, H, W), integers of C bits."""
    edge = torch.zeros_like(known)
    for axis in (1, 2):
        here, next_one = (slice(None, -1), slice(1, None))
        here, next_one = ((slice(None),) * axis + (part,) for part in (here, next_one))
        differ = (labels[here] != labels[next_one]) & known[here] & known[next_one]
        edge[here] |= differ
        edge[next_one] |= differ
    kind = torch.uint8 if c <= 8 else torch.int64
    return edge.to(kind) << labels.to(kind)


def _histogram(index: Tensor, size: int) -> Tensor:
    """How often each of 0..size-1 occurs, int64 (size,). On a GPU torch.bincount would wait for it."""
    index = index.flatten()
    if index.device.type == "cpu":
        return torch.bincount(index, minlength=size)
    return torch.zeros(size, dtype=torch.int64, device=index.device).scatter_add_(0, index, torch.ones_like(index))


def _read(counts: Tensor, c: int) -> np.ndarray:
    """All but the last, float64, from any device. Raises ValueError if that one, the values out of range, is not 0."""
    figures, outside = counts[:-1].cpu().numpy().astype(np.float64), counts[-1].item()
    if outside:
        raise ValueError(f"expected classes 0..{c - 1}, targets of those or {IGNORE} (ignored), and finite "
                         f"logits or probabilities 0..1, got {outside:.0f} values outside")
    return figures
