"""The baseline that every network must beat: how often each class is at each position of the training images.

A street scene has its sky above and its road below, so this baseline scores although it never reads a pixel. It never
predicts a class that is nowhere the most frequent one (a pole, a pedestrian). Such counts are the location potential
of Shotton et al., "TextonBoost: Joint Appearance, Shape and Context Modeling for Multi-class Object Recognition and
Segmentation" (ECCV 2006), without its smoothing.

Shapes: N images of H x W pixels, K classes, h x w positions (256 x 512 in the lab).
"""
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.lab import IGNORE, INPUT_SIZE, NUM_CLASSES

FLOOR = 1e-9  # the smallest share whose logarithm is taken, less than that of any class that was seen
PART = 64     # images counted at a time: sums fit into uint8, and a memory map is not read as a whole


class ClassFrequency(nn.Module):
    """Images (N, 3, H, W), float32, to the logarithms of the classes' shares (N, K, H, W).

    shares: a buffer, float32 (1, K, h, w), 1 in sum at each position; 1/K everywhere in a new module. size: h and w.
    At another input size the shares are resized, bilinear.
    """

    def __init__(self, num_classes: int = NUM_CLASSES, size: tuple[int, int] = INPUT_SIZE) -> None:
        super().__init__()
        self.register_buffer("shares", torch.full((1, num_classes, *size), 1 / num_classes))

    @classmethod
    def from_targets(cls, targets: np.ndarray, num_classes: int = NUM_CLASSES) -> "ClassFrequency":
        """Counts the classes at each position of `targets`, uint8 (N, h, w), 0 to num_classes - 1 or 255 (ignored).

        A position without a label in any image gets the shares of all positions together. Raises ValueError for other
        shapes, types or values, and if no pixel is labeled.
        """
        if targets.ndim != 3 or targets.dtype != np.uint8:
            raise ValueError(f"expected targets (N, H, W) of uint8, got {targets.shape} of {targets.dtype}")
        counts = np.zeros((num_classes, *targets.shape[1:]), np.int64)
        for start in range(0, len(targets), PART):
            part = np.asarray(targets[start:start + PART])
            wrong = part[(part >= num_classes) & (part != IGNORE)]
            if wrong.size:
                raise ValueError(f"expected labels 0 to {num_classes - 1} or {IGNORE}, got {wrong[0]} in images "
                                 f"{start} to {start + len(part) - 1}")
            for label in range(num_classes):
                counts[label] += (part == label).sum(0, dtype=np.uint8)
        labeled = counts.sum(0)                                            # (h, w)
        if not labeled.any():
            raise ValueError(f"expected labeled pixels, got none in {len(targets)} images")
        overall = counts.sum((1, 2)) / labeled.sum()                       # (K,)
        # Divided in float64: counts of one position that differ still do so in float32, and equal ones tie.
        shares = np.where(labeled > 0, counts / np.maximum(labeled, 1), overall[:, None, None])
        model = cls(num_classes, targets.shape[1:])
        model.shares.copy_(torch.from_numpy(shares))                        # (1, K, h, w)
        return model

    def forward(self, x: Tensor) -> Tensor:
        shares = F.interpolate(self.shares, x.shape[2:], mode="bilinear", align_corners=False)  # (1, K, H, W)
        return shares.clamp(min=FLOOR).log().expand(len(x), -1, -1, -1)                         # (N, K, H, W)


def load_model(MODEL_PATH: str) -> nn.Module:  # noqa: N803  (the lab's fixed name)
    """Reads the shares in `MODEL_PATH` onto the CPU; the number of classes and the size are theirs."""
    state_dict = torch.load(MODEL_PATH, map_location="cpu", weights_only=True)
    _, num_classes, *size = state_dict["shares"].shape
    model = ClassFrequency(num_classes, tuple(size))
    model.load_state_dict(state_dict, strict=True)
    return model
