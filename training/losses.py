"""What a loss needs to know of the data: how often each class occurs, and the weights that follow from it."""
import numpy as np
import torch
from torch import Tensor

from utils.lab import NUM_CLASSES, LabError


def class_shares(targets: Tensor | np.ndarray) -> Tensor:
    """Each class's share of the pixels of `targets`, integers 0..7 (255 is left out): float32 (8,), adding up to 1."""
    counts = torch.zeros(256, dtype=torch.int64)
    for part in targets:  # picture by picture: bincount widens to int64, 8 times a whole split's bytes
        part = part.cpu() if isinstance(part, Tensor) else torch.from_numpy(np.array(part))  # the cache is read-only
        counts += torch.bincount(part.flatten(), minlength=256)
    counts = counts[:NUM_CLASSES].double()
    if counts.sum() == 0:
        raise LabError("expected labelled pixels to weigh the classes by, found none: check the training labels")
    return (counts / counts.sum()).float()


def class_weights(shares: Tensor, c: float = 1.10) -> Tensor:
    """Weights 1 / ln(c + share) for a cross-entropy, float32 (8,), scaled to a mean of 1.

    Follows Paszke et al., "ENet" (2016), who take c = 1.02. A larger c weighs more evenly: with Cityscapes' 8
    categories, whose shares go from 1 % to 39 %, the rarest gets 3.7 times the weight of the most frequent one with
    c = 1.10, and 10.8 times with 1.02.
    """
    if c <= 1:
        raise LabError(f"expected c above 1 in 1 / ln(c + share), found {c} in the settings")
    weights = 1 / torch.log(c + shares)
    return weights / weights.mean()
