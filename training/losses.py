"""What a network is trained to make small, and the class weights that follow from the data.

N images, C classes, H x W pixels. A loss is called as loss(logits, target): logits float16, bfloat16 or float32
(N, C, H, W), target int64 (N, H, W) of 0..C-1 or `ignore_index`. It answers with a scalar, worked out in float32 under
autocast too. Ignored pixels neither count nor get a gradient; a batch of nothing else is worth 0, where torch's own
mean would be NaN. Settings out of range raise LabError.
"""
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.contents import check
from utils.lab import IGNORE, NUM_CLASSES, LabError


def class_shares(targets: Tensor | np.ndarray, num_classes: int = NUM_CLASSES) -> Tensor:
    """Each class's share of the pixels of `targets`, integers 0..C-1 (255 is left out): float32 (C,), of sum 1.

    Raises LabError for another class, and if no pixel has a label.
    """
    counts = torch.zeros(256, dtype=torch.int64)
    for part in targets:  # bincount widens to int64: never a whole split at once
        part = part.cpu() if isinstance(part, Tensor) else torch.from_numpy(np.array(part))  # the cache is read-only
        counts += torch.bincount(part.flatten(), minlength=256)
    if counts[num_classes:IGNORE].any():
        raise LabError(f"expected labels of {num_classes} classes, found class {int(counts[:IGNORE].nonzero()[-1])} "
                       "in them: pass the data set's number of classes as num_classes")
    counts = counts[:num_classes].double()
    if counts.sum() == 0:
        raise LabError("expected labeled pixels to weigh the classes by, found none: check the training labels")
    return (counts / counts.sum()).float()


def class_weights(shares: Tensor, c: float = 1.10) -> Tensor:
    """Weights 1 / ln(c + share) for a cross-entropy, float32 (C,), scaled to a mean of 1.

    Follows Paszke et al., "ENet" (2016), who take c = 1.02. A larger c weighs more evenly: of Cityscapes' categories,
    whose shares go from 1 % to 39 %, the rarest weighs 3.7 times the most frequent with c = 1.10, 10.8 with 1.02.
    """
    if c <= 1:
        raise LabError(f"expected c above 1 in 1 / ln(c + share), found {c} in the settings")
    weights = 1 / torch.log(c + shares)
    return weights / weights.mean()


def thin(target: Tensor, size: Sequence[int]) -> Tensor:
    """As many of the target's pixels as logits of `size` (h, w) have: every s-th each way, from a random one on.

    target: (N, H, W), H / h and W / w the same whole s; the result is (N, h, w). Raises LabError for another size.
    """
    stride = target.shape[1] // size[0]
    check(stride >= 1 and target.shape[1:] == tuple(stride * side for side in size),
          f"logits whose size divides the target's, {tuple(target.shape[1:])}", tuple(size))
    if stride == 1:
        return target
    row, column = torch.randint(stride, (2,)).tolist()
    return target[:, row::stride, column::stride]


def check_weights(weights: list[float], whose: str) -> None:
    check(all(0 <= weight < math.inf for weight in weights) and any(weights),
          f"{whose} weights of 0 or above, not all 0", weights)


def full_precision(logits: Tensor) -> Tensor:
    """Half precision becomes float32; float64 stays, for checking gradients."""
    return logits if logits.dtype == torch.float64 else logits.float()


def ratio(above: Tensor, below: Tensor) -> Tensor:
    """above / below, and 0 with a gradient of 0 where `below` is 0: that is what dividing by infinity does."""
    return above / torch.where(below > 0, below, torch.inf)


def one_hot(target: Tensor, classes: int, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Bool (N, C, H, W), all False at an ignored pixel, and which pixels are labeled, bool (N, 1, H, W)."""
    target = target.unsqueeze(1)
    labeled = target != ignore_index
    hits = torch.zeros_like(labeled).repeat(1, classes, 1, 1)
    return hits.scatter_(1, target.masked_fill(~labeled, 0), labeled), labeled


class Weighted(nn.Module):
    """A loss that weighs the classes: `weight` (C,), 0 or above, moves along with .to(device); None weighs evenly."""

    def __init__(self, weight: Tensor | None, ignore_index: int):
        super().__init__()
        if weight is not None:
            check_weights(weight.tolist(), "class")
            weight = weight.float()
        self.register_buffer("weight", weight, persistent=False)
        self.ignore_index = ignore_index

    def pixel_weights(self, target: Tensor) -> Tensor:
        """What each pixel weighs, 0 where ignored: (N, H, W)."""
        labeled = target != self.ignore_index
        return labeled.float() if self.weight is None else self.weight.take(target * labeled) * labeled

    def pixel_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """The cross-entropy of each pixel, not weighted, 0 where ignored: (N, H, W)."""
        return F.cross_entropy(full_precision(logits), target, ignore_index=self.ignore_index, reduction="none")


class CrossEntropy(Weighted):
    """The mean of weight * -log p over the labeled pixels, divided by the mean weight: nn.CrossEntropyLoss's value."""

    def __init__(self, weight: Tensor | None = None, label_smoothing: float = 0.0, ignore_index: int = IGNORE):
        super().__init__(weight, ignore_index)
        check(0 <= label_smoothing <= 1, "a label smoothing from 0 to 1", label_smoothing)
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        total = F.cross_entropy(full_precision(logits), target, self.weight, ignore_index=self.ignore_index,
                                reduction="sum", label_smoothing=self.label_smoothing)
        return ratio(total, self.pixel_weights(target).sum())


class Focal(Weighted):
    """A cross-entropy times (1 - p)^gamma, p being the true class's probability: easy pixels count for little.

    Follows Lin et al., "Focal Loss for Dense Object Detection" (2017), with softmax for their sigmoid and `weight` for
    their alpha. They divide by the number of objects; this one by the pixels' weights, as CrossEntropy does.
    """

    def __init__(self, gamma: float = 2.0, weight: Tensor | None = None, ignore_index: int = IGNORE):
        super().__init__(weight, ignore_index)
        check(0 <= gamma < math.inf, "gamma at 0 or above", gamma)
        self.gamma = gamma

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        losses, weights = self.pixel_losses(logits, target), self.pixel_weights(target)
        miss = -torch.expm1(-losses)  # 1 - p, without its rounding near p = 1
        focused = miss.clamp(min=1e-12) ** self.gamma * losses  # the slope of 0^gamma is infinite for gamma below 1
        return ratio((weights * focused).sum(), weights.sum())


class OHEM(Weighted):
    """Online hard example mining: the cross-entropy of the batch's hardest pixels, `keep` of the labeled ones.

    Follows Shrivastava et al. (2016), who choose among an image's regions; in segmentation one chooses among pixels.
    A pixel is hard by its weighted loss; keep = 1 is CrossEntropy. The number kept is rounded up; to know it, a GPU is
    waited for in every step.
    """

    def __init__(self, keep: float = 0.25, weight: Tensor | None = None, ignore_index: int = IGNORE):
        super().__init__(weight, ignore_index)
        check(0 < keep <= 1, "a share to keep above 0 and up to 1", keep)
        self.keep = keep

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        weights = self.pixel_weights(target)
        losses = (weights * self.pixel_losses(logits, target)).flatten()
        ignored = (target == self.ignore_index).flatten()
        kept = math.ceil(self.keep * int((~ignored).sum()))
        hardest = losses.detach().masked_fill(ignored, -1).topk(kept, sorted=False).indices
        return ratio(losses.take(hardest).sum(), weights.take(hardest).sum())


class Dice(nn.Module):
    """1 - Dice, where Dice = (2 sum(p * t) + smooth) / (sum(p) + sum(t) + smooth) of softmax p and one-hot target t.

    The sums go over the whole batch, class by class; the mean over the classes the target holds. Follows Milletari et
    al., "V-Net" (2016), but with plain sums below the line, as Sudre et al. (2017), where V-Net squares.
    """

    def __init__(self, smooth: float = 1.0, ignore_index: int = IGNORE):
        super().__init__()
        check(0 <= smooth < math.inf, "smooth at 0 or above", smooth)
        self.smooth, self.ignore_index = smooth, ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        hits, labeled = one_hot(target, logits.shape[1], self.ignore_index)
        p = full_precision(logits).softmax(1) * labeled
        pixels = hits.sum((0, 2, 3))  # (C,)
        dice = ratio(2 * (p * hits).sum((0, 2, 3)) + self.smooth, p.sum((0, 2, 3)) + pixels + self.smooth)
        present = pixels > 0
        return ratio(((1 - dice) * present).sum(), present.sum())


class LovaszSoftmax(nn.Module):
    """The Lovasz extension of the Jaccard loss 1 - IoU, over the whole batch, mean over the classes the target holds.

    Follows Berman et al., "The Lovasz-Softmax loss" (2018), classes="present". On probabilities of 0 and 1 it equals
    1 - IoU. It sorts all pixels once a class, most of its cost on a CPU: `stride` s looks at every s-th pixel each way
    only. Forward and backward on one core: 7 ms for logits of (4, 8, 64, 128), 110 ms for (4, 8, 256, 512), of which
    stride 2 leaves 30 ms and stride 4 leaves 10 ms; a cross-entropy takes 1 and 17 ms.
    """

    def __init__(self, stride: int = 1, ignore_index: int = IGNORE):
        super().__init__()
        check(isinstance(stride, int) and stride >= 1, "a whole stride of 1 or above", stride)
        self.stride, self.ignore_index = stride, ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        every = slice(self.stride // 2, None, self.stride)
        logits, target = logits[..., every, every], target[..., every, every]
        check(target.numel() > 0, "a stride that leaves a pixel", self.stride)
        hits, labeled = one_hot(target, logits.shape[1], self.ignore_index)
        p = full_precision(logits).softmax(1)
        errors = (hits.to(p.dtype) - p).abs() * labeled  # an ignored pixel comes last and adds 0
        errors, hits = (values.transpose(0, 1).flatten(1) for values in (errors, hits))  # (C, N*H*W)
        present = hits.any(1)
        slopes = torch.zeros_like(errors)
        # To leave out the classes that are not there, a GPU would have to be waited for: it works them out as well.
        for c in range(len(hits)) if errors.is_cuda else present.nonzero().flatten().tolist():
            slopes[c] = lovasz_slopes(errors[c].detach(), hits[c])
        slopes = torch.where(present[:, None], slopes, 0)
        return ratio((errors * slopes).sum(), present.sum())


def lovasz_slopes(errors: Tensor, hits: Tensor) -> Tensor:
    """How much the Jaccard loss grows as each pixel, by falling error, turns wrong: float32 (P,); hits bool (P,)."""
    # Floats of 0 or above are ordered as their bits are, and a CPU's torch sorts one long row of integers upwards by
    # radix: 7 times faster than floats, 5 times faster than all classes' rows in one call (measured).
    order = (-errors.float().view(torch.int32)).sort().indices
    hit = hits.gather(0, order)
    missed = hit.cumsum(0, dtype=torch.int32).float()  # pixels of the class that have turned wrong so far
    inter = hits.sum() - missed
    union = inter + torch.arange(1, len(order) + 1, dtype=torch.float32, device=order.device)
    # A pixel of the class shrinks the intersection, any other one grows the union; J's own differences would be
    # lost in float32's rounding.
    slopes = (inter / (union - 1)).masked_fill_(hit, 1) / union
    return torch.empty_like(errors).scatter_(0, order, slopes.to(errors.dtype))


class WeightedSum(nn.Module):
    """The sum of weight * loss over pairs (loss, weight); a loss whose weight is 0 is not computed."""

    def __init__(self, *pairs: tuple[nn.Module, float]):
        super().__init__()
        check_weights([weight for _, weight in pairs], "loss")
        self.losses = nn.ModuleList(loss for loss, weight in pairs if weight)
        self.weights = [weight for _, weight in pairs if weight]

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return sum(weight * loss(logits, target) for loss, weight in zip(self.losses, self.weights, strict=True))


def named_loss(shares: Mapping[str, float], weight: Tensor | None = None, lovasz_stride: int = 1) -> nn.Module:
    """The sum of losses by name, each times its share: {"cross-entropy": 0.5, "lovasz": 0.5}.

    weight: the classes', for those that take it, all but dice and lovasz. "smoothed" is cross-entropy with a label
    smoothing of 0.1, "focal" has gamma 2, "ohem" keeps a quarter of the pixels. Raises LabError for other names.
    """
    made = {"cross-entropy": lambda: CrossEntropy(weight), "smoothed": lambda: CrossEntropy(weight, 0.1),
            "focal": lambda: Focal(2.0, weight), "ohem": lambda: OHEM(0.25, weight), "dice": Dice,
            "lovasz": lambda: LovaszSoftmax(lovasz_stride)}
    fits = isinstance(shares, Mapping) and shares and set(shares) <= set(made)
    check(fits and all(isinstance(share, (int, float)) for share in shares.values()),
          f"losses by name ({', '.join(made)}), each with its share", shares)
    return WeightedSum(*((made[name](), share) for name, share in shares.items()))
