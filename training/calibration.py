"""Shifts a trained network's class logits so that the mean IoU is largest: no further multiply-accumulate, no byte.

Cross-entropy asks for probabilities, the mean IoU for the best cut between the classes, and class weights move that cut
as well. One number for each class, added to the bias of the last layer, corrects it. The numbers are chosen on training
images, never on validation images: on ones held out of the training, or, where the network is too small to know its
training images by heart, on all of them.
"""
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from tqdm import tqdm

from dataset.batches import Batches
from utils.lab import IGNORE, LabError
from utils.terminal import bar_stream

REACH = 3.0   # largest shift tried, in units of a logit
STEPS = 121   # shifts tried for a class, from -REACH to REACH
ROUNDS = 3    # times that each class is shifted in turn
STRIDE = 4    # of the pixels that are looked at, each way: a sixteenth of them decides as well
MOST = 400    # images that are looked at


@torch.inference_mode()
def calibrate(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """What to add to the bias of each class's logit, float32 (C,) on the CPU, for the best mIoU over `batches`.

    `batches` yields (data float32 (N, 3, H, W), target int64 (N, H, W)), whole images as `spread` gives them. Raises
    LabError if no pixel of them has a label.
    """
    network.eval()
    logits, target = [], []
    with tqdm(batches, "calibrating", unit="batch", file=bar_stream(), leave=False) as bar:
        for data, labels in bar:
            some = labels[:, ::STRIDE, ::STRIDE]
            known = some != IGNORE
            seen = network(data)[:, :, ::STRIDE, ::STRIDE].permute(0, 2, 3, 1)
            logits.append(seen[known].float().cpu())
            target.append(some[known].cpu())
    if not sum(map(len, target)):
        raise LabError("expected labeled pixels to calibrate on, found none: check the data's labels")
    return best_shifts(torch.cat(logits), torch.cat(target))


def spread(batches: Batches) -> Iterator[tuple[Tensor, Tensor]]:
    """Images of the split from its beginning to its end, MOST of them or all, whole and unaugmented, as batches."""
    n = len(batches.dataset)
    for chosen in torch.linspace(0, n - 1, min(n, MOST)).round().long().split(batches.batch_size):
        yield batches.take(chosen)


def best_shifts(logits: Tensor, target: Tensor) -> Tensor:
    """The shifts, float32 (C,), that raise the mIoU of logits (P, C) over target (P,), class after class; mean 0.

    Each class in turn takes the best of the shifts -REACH to REACH, the others held fixed; a shift that gains nothing
    is not made, so the mIoU over these pixels never falls.
    """
    classes = logits.shape[1]
    shifts, tried = torch.zeros(classes), torch.linspace(-REACH, REACH, STEPS)
    for _ in range(ROUNDS):
        before = shifts.clone()
        for k in range(classes):
            miou = _miou_of_shifts(logits + shifts, target, k, tried)
            best = miou.argmax()
            if miou[best] > miou[STEPS // 2] + 1e-6:  # the one in the middle is no shift
                shifts[k] += tried[best]
        if torch.equal(before, shifts):
            break
    return shifts - shifts.mean()


def _miou_of_shifts(logits: Tensor, target: Tensor, k: int, tried: Tensor) -> Tensor:
    """The mIoU, (len(tried),), after adding each of `tried` to class k: one pass over the pixels for all of them.

    A pixel goes to class k as soon as the shift exceeds its lead, by which the best of the other classes is ahead.
    """
    others = logits.clone()
    others[:, k] = float("-inf")
    best, other = others.max(1)
    lead = best - logits[:, k]
    step = torch.bucketize(lead, tried)  # the first of `tried` from which on the pixel is k's; len(tried): none
    classes, n = logits.shape[1], len(tried)
    index = (step * classes + target) * classes + other
    moved = torch.bincount(index, minlength=(n + 1) * classes**2).reshape(n + 1, classes, classes)
    gone = moved.cumsum(0)[:n]                              # (shifts, target, other): pixels that are k's by now
    counts = moved.sum(0) - gone                            # the others stay what they were
    counts[:, :, k] += gone.sum(2)
    hits = counts.diagonal(dim1=1, dim2=2).double()
    union = counts.sum(1) + counts.sum(2) - hits
    return (hits / union).nanmean(1)                        # 0 / 0: a class that nobody names is left out
