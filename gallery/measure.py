"""What a network costs, and how far one of its outputs sees."""
import copy
from typing import NamedTuple

import torch
from torch import nn

from utils.complexity import count_size, profile_model
from utils.lab import INPUT_SIZE
from utils.timing import time_network

IMAGES = 3  # for the receptive field: a max pooling hides all pixels but its maximum, others in each image
PASSES = 5


class MeasuredCost(NamedTuple):
    """parameters; KB of all tensors; MACs by thop and by torch's dispatcher; rows and columns seen; CPU ms."""

    parameters: int
    kb: float
    thop: int
    dispatched: int
    field: tuple[int, int]
    milliseconds: float


def measure(network: nn.Module, narrow: nn.Module) -> MeasuredCost:
    """The costs of `network` for one image of the lab's size, one thread of the CPU (the median of 5 passes).

    narrow: the same network with fewer channels, if there is one; it sees as far and is measured faster.
    """
    network = network.cpu().eval()
    profile = profile_model(network)
    return MeasuredCost(sum(parameter.numel() for parameter in network.parameters()), count_size(network), profile.thop,
                profile.dispatched, receptive_field(narrow), time_network(network, passes=PASSES))


def receptive_field(network: nn.Module, size: tuple[int, int] = INPUT_SIZE) -> tuple[int, int]:
    """Rows and columns of an input of `size` (H, W) that the logits of the pixel in its middle depend on.

    These are the pixels whose gradient is not 0 once all weights are positive; they differ, because a layer norm of
    equal channels is 0. The outer ones have almost no influence (Luo et al., "Understanding the Effective Receptive
    Field", 2016).
    """
    network = copy.deepcopy(network).cpu().double().eval()
    generator = torch.Generator().manual_seed(0)
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            nn.init.uniform_(parameter, 0.5, 1.5, generator=generator)
            parameter.data /= parameter[0].numel()  # a mean: the numbers of deep networks stay in range
        else:
            nn.init.constant_(parameter, 0. if name.endswith("bias") else 1.)
    seen = torch.zeros(size, dtype=torch.bool)
    for _ in range(IMAGES):
        data = torch.rand((1, 3, *size), generator=generator, dtype=torch.float64).requires_grad_()
        logits = network(data)
        if logits.requires_grad:
            gradient, = torch.autograd.grad(logits[0, :, size[0] // 2, size[1] // 2].sum(), data, allow_unused=True)
            seen |= (gradient[0] != 0).any(0) if gradient is not None else False
    rows, columns = seen.any(1).nonzero(), seen.any(0).nonzero()
    if not len(rows):
        return 0, 0
    return int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
