"""Training on a GPU: the notebook's step beside a plain one, and what waiting for data costs."""
from collections.abc import Iterator

import torch
from torch import nn

from benchmarks.data import Data
from benchmarks.measure import NotMeasuredError, Table, Timed
from benchmarks.training import AUGMENT, Loop, Plain, check_loops, stall_rows
from dataset.batches import Batches
from network.network import UNet
from training.step import speed_up
from utils.machine import synchronize


def gpu(data: Data, device: torch.device | None = None) -> Iterator[Table]:
    """Both tables, each held to one CPU core. `device` stands for the GPU in tests."""
    if device is None and not torch.cuda.is_available():
        raise NotMeasuredError("no GPU")
    device = device or torch.device("cuda")
    rows, sizes = data.rows(), data.sizes
    batch, steps = next(iter(Batches(rows, sizes.gpu_batch, device))), sizes.gpu_steps

    def network() -> nn.Module:
        torch.manual_seed(0)
        return UNet(sizes.gpu_width)

    check_loops(network, rows, batch, device, tolerance=1e-2)  # bfloat16
    ours, plain = (kind(network(), rows, device) for kind in (Loop, Plain))

    def notebook() -> None:
        speed_up(device)
        ours.train([batch] * steps)

    def handout() -> None:
        torch.set_float32_matmul_precision("highest")  # torch's own settings, which speed_up changes
        torch.backends.cudnn.benchmark = False
        plain.train([batch] * steps)

    @torch.no_grad()
    def forward() -> None:
        for _ in range(steps):
            ours.model(batch[0])
        synchronize(device)

    title = f"a training step of the U-Net of width {sizes.gpu_width}, {sizes.gpu_batch} images, one CPU core"
    yield Table(title, "a step", [
        Timed("notebook: 16 bits, channels_last, fused, meters", notebook, steps),
        Timed("floor: its forward pass alone", forward, steps),
        Timed("plain: float32, contiguous, matrix and loss fetched each step", handout, steps, at_least=3)], "wall")
    speed_up(device)
    rows = data.rows(AUGMENT)
    tiers = {"gpu": "the split on the GPU", "ring": "a ring of pinned buffers"}
    yield Table(f"{title}, augmented", "a step", stall_rows(
        Loop(network(), rows, device), rows, sizes.gpu_batch, steps, tiers, 1.02), "wall")
