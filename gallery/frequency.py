"""What is known before looking: how often each class is at each position of the training pictures.

A street scene has its sky above and its road below whoever looks at it, so this baseline, which never reads a pixel,
already scores. It has no parameters and learns nothing by gradients; every network of the lab must beat it, and a
network that does not has not learned to see. Its mIoU is the honest zero of the scale: a class that is nowhere the
most frequent (a thin pole, a pedestrian) is never predicted.

Such a count is the location potential of Shotton et al., "TextonBoost: Joint Appearance, Shape and Context Modeling for
Multi-class Object Recognition and Segmentation" (ECCV 2006), by itself and without its smoothing.

Shapes: N pictures of H x W pixels, K classes, h x w positions (256 x 512 in the lab).
"""
import numpy as np
import torch
from torch import Tensor, nn

from gallery.common import NUM_CLASSES, check_input, resize

IGNORED = 255      # a pixel of this label has no class
FLOOR = 1e-9       # the least share that a logarithm is taken of; below 1/N, so that nothing that was seen falls to it
PART = 64          # pictures that are counted at a time: 8 MB of labels, 8 MB for a comparison, and sums fit into uint8


class ClassFrequency(nn.Module):
    """Pictures (N, 3, H, W), float32, to the logarithms of the classes' shares (N, K, H, W); the pixels are not read.

    shares: a buffer, float32 (1, K, h, w), at each position 0 to 1 and 1 in sum; 1/K everywhere in a new module,
    the training set's in one from `from_targets`. Their softmax gives the shares back, to 1e-8.
    size: h and w. At another input size the shares are resized, bilinear.
    """

    STRIDE = 1

    def __init__(self, num_classes: int = NUM_CLASSES, size: tuple[int, int] = (256, 512)) -> None:
        super().__init__()
        self.register_buffer("shares", torch.full((1, num_classes, *size), 1 / num_classes))

    @classmethod
    def from_targets(cls, targets: np.ndarray, num_classes: int = NUM_CLASSES) -> "ClassFrequency":
        """Counts the classes at each position of `targets`, uint8 (N, h, w), 0 to num_classes - 1 or 255 (ignored).

        It reads a part at a time: a memory map of any length does. A position that no picture labels gets the shares
        of all positions together. Raises ValueError for other shapes, types or values, and where no pixel is labelled.
        """
        if targets.ndim != 3 or targets.dtype != np.uint8:
            raise ValueError(f"expected targets (N, H, W) of uint8, got {targets.shape} of {targets.dtype}")
        counts = np.zeros((num_classes, *targets.shape[1:]), np.int64)
        for start in range(0, len(targets), PART):
            part = np.asarray(targets[start:start + PART])
            wrong = part[(part >= num_classes) & (part != IGNORED)]
            if wrong.size:
                raise ValueError(f"expected labels 0 to {num_classes - 1} or {IGNORED}, got {wrong[0]} in pictures "
                                 f"{start} to {start + len(part) - 1}")
            for label in range(num_classes):
                counts[label] += (part == label).sum(0, dtype=np.uint8)
        labelled = counts.sum(0)                                            # (h, w)
        if not labelled.any():
            raise ValueError(f"expected labelled pixels, got none in {len(targets)} pictures")
        overall = counts.sum((1, 2)) / labelled.sum()                       # (K,)
        # Divided in float64: counts of one position that differ still do so in float32, and equal ones tie.
        shares = np.where(labelled > 0, counts / np.maximum(labelled, 1), overall[:, None, None])
        model = cls(num_classes, tuple(targets.shape[1:]))
        model.shares.copy_(torch.from_numpy(shares))                        # (1, K, h, w)
        return model

    def forward(self, x: Tensor) -> Tensor:
        check_input(x, self.STRIDE)
        shares = resize(self.shares, tuple(x.shape[2:]))                    # (1, K, H, W)
        return shares.clamp(min=FLOOR).log().expand(len(x), -1, -1, -1)     # (N, K, H, W)


def load_model(MODEL_PATH: str) -> nn.Module:  # noqa: N803  (the lab's fixed name)
    """Reads the shares in `MODEL_PATH` onto the CPU; the number of classes and the size are the buffer's."""
    state_dict = torch.load(MODEL_PATH, map_location="cpu", weights_only=True)
    _, num_classes, *size = state_dict["shares"].shape
    model = ClassFrequency(num_classes, tuple(size))
    model.load_state_dict(state_dict, strict=True)
    return model
