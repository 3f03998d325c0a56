"""The same on a GPU: the step against a plain one, the stall, and what the CPU does for a batch that lives there."""
import functools
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.data import Rows
from benchmarks.loops import Handout, Notebook, class_weights_of
from benchmarks.measure import Goal, Road, Table, measure, require
from benchmarks.setup import Setup, Sizes, hold
from benchmarks.training import AUGMENT, Fixed, check_fixed, part
from dataset.augment import Augment
from dataset.batches import Batches
from network.network import UNet
from training.step import speed_up
from utils.machine import synchronize

BATCHES = (8, 32)


def gpu(setup: Setup, device: torch.device | None = None) -> list[Table]:
    """All tables of the GPU, each held to one CPU core; rows that say so where there is none."""
    if device is None and not torch.cuda.is_available():
        missing = [Road(name, missing="no GPU", goal=goal) for name, goal in (
            ("notebook: 16 bits, channels_last, fused, meters", None),
            ("plain step: fp32, NCHW, a sync each step", Goal(at_least=3, by="wall")),
            ("stall ratio, split on the GPU", Goal(at_most=1.02, by="wall")),
            ("stall ratio, ring of pinned buffers", Goal(at_most=1.02, by="wall")),
            ("data step of a split on the GPU", None))]
        return [measure("gpu", "training steps of the U-Net", "a step", missing, 0)]
    device = device or torch.device("cuda")
    setup.tuned.prepare(tuned_gpu, setup.data.arrays, setup.sizes, device)
    return [_step(setup, device), _stall(setup, device), _data_step(setup)]


def tuned_gpu(arrays: Path, sizes: Sizes, device: torch.device) -> dict[str, Callable[[], object]]:
    speed_up(device)
    rows = Rows(arrays, Augment(**AUGMENT))
    loop = Notebook(network(sizes), device, class_weights_of(rows))
    first = next(iter(Batches(Rows(arrays), sizes.gpu_batch, device)))
    options = dict(batch_size=sizes.gpu_batch, device=device, shuffle=True)
    kinds = {"fixed": Fixed(rows, **options, tier="cpu"), "split on the GPU": Batches(rows, **options, tier="gpu"),
             "ring of pinned buffers": Batches(rows, **options, tier="ring")}
    roads = {f"gpu stall {name}": functools.partial(_train, loop, batches, sizes.gpu_steps)
             for name, batches in kinds.items()}

    def load(batches: Batches) -> None:
        for _ in part(batches, sizes.gpu_steps):
            pass
        synchronize(device)

    for size in BATCHES:
        size = min(size, len(rows))
        for name, source in (("gather, normalise", Rows(arrays)), ("gather, augment", rows)):
            resident = Batches(source, size, device, shuffle=True, tier="gpu")
            roads[f"gpu data {size} {name}"] = functools.partial(load, resident)

    def first_loss() -> float:
        return Notebook(network(sizes), device, class_weights_of(rows), "float32").train([first])[0]

    return roads | {"gpu step": lambda: loop.train([first] * sizes.gpu_steps), "gpu first loss": first_loss}


def _train(loop: Notebook, batches: Batches, steps: int) -> None:
    loop.train(part(batches, steps))


def _step(setup: Setup, device: torch.device) -> Table:
    sizes, rows = setup.sizes, setup.data.stored()
    weights = class_weights_of(rows)
    data, target = next(iter(Batches(rows, sizes.gpu_batch, device)))
    first = data.contiguous(), target
    loss = PlainStep(network(sizes), device, weights).train([first])
    ours = setup.tuned.call("gpu first loss", setup.one)
    require(abs(ours - loss) <= 1e-2 * loss, f"both steps' first loss to be {loss:.4f}", f"{ours:.4f}")
    plain = PlainStep(network(sizes), device, weights)
    roads = [Road("notebook: 16 bits, channels_last, fused, meters", setup.tuned.road("gpu step", setup.one),
                  sizes.gpu_steps),
             Road("plain step: fp32, NCHW, a sync each step", lambda: plain.train([first] * sizes.gpu_steps),
                  sizes.gpu_steps, Goal(at_least=3, by="wall"))]
    return _measured(setup, "training step of the U-Net, one batch on the GPU", roads)


def _stall(setup: Setup, device: torch.device) -> Table:
    check_fixed(setup.data.stored(Augment(**AUGMENT)), setup.sizes.gpu_batch, device)
    goal = Goal(at_most=1.02, by="wall")
    names = ("split on the GPU", "ring of pinned buffers")
    roads = [Road("the same batch each step", setup.tuned.road("gpu stall fixed", setup.one), setup.sizes.gpu_steps)]
    roads += [Road(f"stall ratio, {name}", setup.tuned.road(f"gpu stall {name}", setup.one), setup.sizes.gpu_steps,
                   goal) for name in names]
    return _measured(setup, "training step of the U-Net, augmented", roads)


def _data_step(setup: Setup) -> Table:
    roads = [Road(f"batch of {size}: {name}", setup.tuned.road(f"gpu data {size} {name}", setup.one),
                  setup.sizes.gpu_steps)
             for size in (min(size, setup.sizes.rows) for size in BATCHES)
             for name in ("gather, normalise", "gather, augment")]
    return _measured(setup, "data step of a split on the GPU, nothing trained", roads)


def _measured(setup: Setup, title: str, roads: list[Road]) -> Table:
    with hold(setup.one):
        for road in roads:
            road.run()
        return measure("gpu", f"{title}, width {setup.sizes.gpu_width}, batch {setup.sizes.gpu_batch}, one CPU core",
                       "a step", roads, setup.sizes.rounds)


class PlainStep(Handout):
    """The hand-out's step with a fetched loss, but without its matrix in numpy: the least that such a step does."""

    def train(self, batches: list[tuple[Tensor, Tensor]]) -> float:
        self.network.train()
        losses = []
        for data, target in batches:
            loss = self.criterion(self.network(data), target)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            losses.append(loss.item())
        synchronize(self.device)
        return sum(losses) / len(losses)


def network(sizes: Sizes) -> nn.Module:
    torch.manual_seed(0)
    return UNet(sizes.gpu_width)
