"""What all files of the gallery share: the number of classes, the check of an input, bilinear resizing."""
from torch import Tensor
from torch.nn import functional as F

NUM_CLASSES = 8


def check_input(x: Tensor, stride: int) -> None:
    """Raises ValueError unless `x` is a batch of pictures (N, 3, H, W) whose sides divide by `stride`."""
    if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] % stride or x.shape[3] % stride:
        raise ValueError(f"expected pictures (N, 3, H, W) with H and W divisible by {stride}, got {tuple(x.shape)}")


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, C, h, w) to (N, C, *size), bilinear, by pixel centres (align_corners=False)."""
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
