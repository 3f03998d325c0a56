"""What can be wrong with a network's logits although their shape is right."""
import functools
from collections.abc import Iterator

import torch
from torch import nn

from utils.lab import INPUT_SIZE

AXES = {0: "the images of the batch", 2: "the rows", 3: "the columns"}


def doubt_outputs(model: nn.Module, name: str) -> Iterator[str]:
    """Yields a line for each doubt about the logits of two images of noise; `name` is the network file's.

    Logits should not change from pass to pass in eval mode, not depend on the other images of the batch, and be neither
    probabilities nor the logarithms of a softmax over another axis than the classes.
    """
    data = torch.randn(2, 3, *INPUT_SIZE, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        first, again, alone = (model(images).float() for images in (data, data, data[:1]))
    probable = first.min() >= 0 and first.max() <= 1
    shares = first if probable else first.exp() if first.max() <= 0 else torch.zeros_like(first)  # or of a log_softmax
    axes = [axis for axis in range(4) if torch.allclose(shares.sum(axis), torch.ones(()), atol=1e-3)]
    if axes and 1 not in axes:
        yield (f"expected scores over the classes (dim=1), found a softmax over {AXES[axes[0]]} (dim={axes[0]}) from "
               f"{name}: leave it out, nn.CrossEntropyLoss has its own")
    elif probable and (axes or (first.min() > 0 and first.max() < 1)):
        yield (f"expected logits, found probabilities from {name}: leave the softmax or sigmoid out, "
               "nn.CrossEntropyLoss has its own, and after two of them a network learns slowly")
    close = functools.partial(torch.allclose, rtol=1e-3, atol=1e-3 * first.abs().max().item())
    if not close(first, again):
        yield (f"expected the same logits for the same images, found others in a second pass in eval mode from {name}: "
               "turn dropout off there (nn.Dropout does so, F.dropout needs training=self.training)")
    elif axes[:1] != [0] and not close(first[:1], alone):
        yield (f"expected logits that depend on their own image, found that the other images of the batch change them "
               f"in eval mode, from {name}: let batch norms keep running statistics")
