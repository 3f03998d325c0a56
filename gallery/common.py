"""What files of the gallery share: number of classes, input's check, bilinear resizing, norms, a stride to remember."""
import torch
from torch import Tensor, nn
from torch.nn import functional as F

NUM_CLASSES = 8


def check_input(x: Tensor, stride: int, fewest: int = 1) -> None:
    """Raises ValueError unless `x` is a batch of pictures (N, 3, H, W) whose sides divide by `stride`.

    fewest: the least N: 2 for a network in training with batch norm behind a mean over the whole picture, where one
    picture has one value a channel, and no variance.
    """
    if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] % stride or x.shape[3] % stride:
        raise ValueError(f"expected pictures (N, 3, H, W) with H and W divisible by {stride}, got {tuple(x.shape)}")
    if len(x) < fewest:
        raise ValueError(f"expected at least {fewest} pictures in each step of the training, got {len(x)}: choose a "
                         "BATCH_SIZE that leaves no single picture at the end of an epoch")


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, C, h, w) to (N, C, *size), bilinear, by pixel centres (align_corners=False)."""
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)  # of ENet's and of SINet's authors


def norm_act(channels: int) -> nn.Sequential:
    """Batch norm and a ReLU with a learned slope below zero, one for each channel."""
    return nn.Sequential(norm(channels), nn.PReLU(channels))


def remember_output_stride(network: nn.Module, output_stride: int) -> None:
    """Sets `STRIDE`, and the int64 buffer `output_stride` by which load_model finds it: the weights do not show it.

    After load_state_dict the buffer tells what the layers do, not what those did that the weights come from.
    """
    network.STRIDE = output_stride
    network.register_buffer("output_stride", torch.tensor(output_stride))
    network.register_load_state_dict_post_hook(_keep_output_stride)


def _keep_output_stride(network: nn.Module, _incompatible_keys: object) -> None:
    network.output_stride.fill_(network.STRIDE)
