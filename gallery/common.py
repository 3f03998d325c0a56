"""What files of the gallery share: the check of the input, resizing, convolutions with norms, loading."""
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NUM_CLASSES = 8


def check_input(x: Tensor, stride: int, fewest: int = 1) -> None:
    """Raises ValueError unless `x` is a batch of images (N, 3, H, W) whose sides divide by `stride`.

    fewest: the least N; 2 where a batch norm follows a mean over the whole image, which has no variance for one image.
    """
    if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] % stride or x.shape[3] % stride:
        raise ValueError(f"expected images (N, 3, H, W) with H and W divisible by {stride}, got {tuple(x.shape)}")
    if len(x) < fewest:
        raise ValueError(f"expected at least {fewest} images in each step of the training, got {len(x)}: choose a "
                         "BATCH_SIZE that leaves no single image at the end of an epoch")


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, C, h, w) to (N, C, *size), bilinear, by pixel centers (align_corners=False)."""
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def conv_norm(in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, dilation: int = 1, groups: int = 1
              ) -> nn.Sequential:
    """A padded convolution and a batch norm: (N, C_in, h, w) -> (N, C_out, h/stride, w/stride)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2 * dilation, dilation=dilation,
                  groups=groups, bias=False),
        nn.BatchNorm2d(out_channels))


def conv_norm_act(*shape: int, **options: int) -> nn.Sequential:
    """`conv_norm` and a ReLU."""
    return conv_norm(*shape, **options).append(nn.ReLU(inplace=True))


def norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)  # as the authors of ENet and SINet have it


def norm_act(channels: int) -> nn.Sequential:
    """Batch norm and PReLU, a ReLU that learns a slope below zero for each channel."""
    return nn.Sequential(norm(channels), nn.PReLU(channels))


def initialize(network: nn.Module) -> None:
    """Draws all convolutions as He et al. ("Delving Deep into Rectifiers", 2015) do, by their outputs."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def load_weights(path: str, build: Callable[[dict[str, Tensor]], nn.Module]) -> nn.Module:
    """Loads the state_dict in `path` strictly, onto the CPU, into the network that `build` makes of its shapes."""
    state_dict = torch.load(path, map_location="cpu", weights_only=True)
    network = build(state_dict)
    network.load_state_dict(state_dict, strict=True)
    return network


def record_stride(network: nn.Module, output_stride: int) -> None:
    """Sets `STRIDE`, and an int64 buffer `output_stride` that tells it to load_model: the weights' shapes do not.

    Loading weights of another stride leaves the buffer at this network's own.
    """
    network.STRIDE = output_stride
    network.register_buffer("output_stride", torch.tensor(output_stride))
    network.register_load_state_dict_post_hook(_keep_output_stride)


def _keep_output_stride(network: nn.Module, _incompatible_keys: object) -> None:
    network.output_stride.fill_(network.STRIDE)
