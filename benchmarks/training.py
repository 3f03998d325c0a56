"""A training loop on the CPU: what waiting for data costs, how it compares with a plain hand-out's; and scoring."""
import contextlib
import dataclasses
import functools
import io
import itertools
import multiprocessing
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.data import Naive, Rows
from benchmarks.loops import Handout, Notebook, class_weights_of
from benchmarks.measure import Goal, Road, Table, measure, require
from benchmarks.setup import Setup, Sizes, hold
from dataset.augment import Augment
from dataset.batches import Batches
from dataset.reader import Pair
from network.network import UNet
from network2.network import LowComplexityNet
from training.step import speed_up
from utils.evaluation import evaluate
from utils.metric import ConfusionMatrix

CPU = torch.device("cpu")
AUGMENT = dict(flip=0.5, crop=0.2, scale=(0.75, 1.75), rotate=3, color=0.2)  # the notebooks' settings
WORKERS = 2


class Fixed(Batches):
    """The same epoch, augmented in the same way, but always of the same stored pictures, already on the device."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)
        self.fixed = [part.to(self.device) for part in self.stored(range(self.batch_size))]

    def _from_memory(self, order: Tensor) -> Iterator[list[Tensor]]:
        for index in order.split(self.batch_size):
            yield [part[:len(index)] for part in self.fixed]

    _from_gpu = _from_ring = _from_memory


def check_fixed(rows: Rows, batch: int, device: torch.device = CPU) -> None:
    """The first batch of an epoch in order is the same, bit for bit, gathered or fixed."""
    real, fixed = (next(iter(kind(rows, batch, device))) for kind in (Batches, Fixed))
    require(all(torch.equal(a, b) for a, b in zip(real, fixed, strict=True)),
            "the fixed batch to be the first real one, augmented alike")


def stall(setup: Setup) -> list[Table]:
    """The share of a training epoch that goes into gathering its pictures."""
    data, sizes = setup.data, setup.sizes
    check_fixed(data.stored(Augment(**AUGMENT)), sizes.train_batch)
    tuned = setup.tuned
    tuned.prepare(tuned_stall, data.arrays, sizes)
    pictures = sizes.steps * sizes.train_batch
    with hold(setup.one):
        roads = [Road(what, tuned.road(f"stall {what}", setup.one), units, goal) for what, units, goal in (
            ("the same batch each step", sizes.steps, None),
            ("real data", sizes.steps, Goal(at_most=1.05)),
            ("floor: gathering alone", sizes.steps, None))]
        for road in roads:
            road.run()
        return [measure("stall", f"a training step of the task 2 network on {sizes.train_batch} augmented pictures, "
                        f"{pictures} pictures a round, CPU, one core", "a step", roads, 3 * sizes.rounds)]


def tuned_stall(arrays: Path, sizes: Sizes) -> dict[str, Callable[[], None]]:
    speed_up(CPU)
    rows = Rows(arrays, Augment(**AUGMENT))
    loop = Notebook(network(), CPU, class_weights_of(rows))
    options = dict(batch_size=sizes.train_batch, shuffle=True)
    real, fixed = Batches(rows, **options), Fixed(rows, **options)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:sizes.steps * sizes.train_batch]
    return {"stall real data": lambda: loop.train(part(real, sizes.steps)),
            "stall the same batch each step": lambda: loop.train(part(fixed, sizes.steps)),
            "stall floor: gathering alone": lambda: [None for _ in real._from_memory(order)]}


def precision(setup: Setup) -> list[Table]:
    """What bfloat16 brings on a CPU: much for task 1's wide convolutions if the CPU knows it, nothing for task 2."""
    sizes, tuned = setup.sizes, setup.tuned
    tuned.prepare(tuned_precision, setup.data.arrays, sizes)
    tables = []
    for name, title in (("task 1", "the U-Net of width 8"), ("task 2", "the task 2 network")):
        roads = [Road(kind, tuned.road(f"precision {name} {kind}", setup.one), sizes.train_batch)
                 for kind in ("float32", "bfloat16")]
        with hold(setup.one):
            for road in roads:
                road.run()
            tables.append(measure("precision", f"a training step of {title}, batch {sizes.train_batch}, CPU, one core",
                                  "a picture", roads, sizes.rounds))
    return tables


def tuned_precision(arrays: Path, sizes: Sizes) -> dict[str, Callable[[], object]]:
    speed_up(CPU)
    rows = Rows(arrays)
    batch = next(iter(Batches(rows, sizes.train_batch)))
    loops = {f"precision {name} {kind}": Notebook(make(), CPU, class_weights_of(rows), kind)
             for name, make in (("task 1", lambda: UNet(8)), ("task 2", network)) for kind in ("float32", "bfloat16")}
    return {name: functools.partial(loop.train, [batch]) for name, loop in loops.items()}


def pixels(setup: Setup) -> list[Table]:
    """What looking at every pixel costs the task 2 network in training: LOSS_STRIDE 1, 2 and 4 of its notebook."""
    sizes, tuned = setup.sizes, setup.tuned
    tuned.prepare(tuned_pixels, setup.data.arrays, sizes)
    roads = [Road(f"LOSS_STRIDE {stride}", tuned.road(f"pixels {stride}", setup.one), sizes.train_batch)
             for stride in (2, 1, 4)]
    with hold(setup.one):
        for road in roads:
            road.run()
        return [measure("pixels", f"a training step of the task 2 network, batch {sizes.train_batch}, CPU, one core",
                        "a picture", roads, sizes.rounds)]


def tuned_pixels(arrays: Path, sizes: Sizes) -> dict[str, Callable[[], object]]:
    speed_up(CPU)
    rows = Rows(arrays)
    batch = next(iter(Batches(rows, sizes.train_batch)))
    steps = {}
    for stride in (1, 2, 4):
        model = network()
        model.train_stride = stride
        steps[f"pixels {stride}"] = functools.partial(Notebook(model, CPU, class_weights_of(rows)).train, [batch])
    return steps


def training(setup: Setup) -> list[Table]:
    """Images a second of the notebook's path against a plain hand-out's, and of its data path by itself."""
    data, sizes, tuned = setup.data, setup.sizes, setup.tuned
    require(data.checked, "the naive road to agree")
    tuned.prepare(tuned_training, data.arrays, data.pairs, sizes)
    rows = data.stored()
    handout = Handout(network(), CPU, class_weights_of(rows))
    with hold(setup.one):
        _check_loops(tuned.call("training first step", setup.one), rows, sizes)
    n = sizes.steps * sizes.train_batch
    tables = []
    for cores in dict.fromkeys((setup.one, setup.all)):
        by = "cpu" if cores == setup.one else "wall"
        loader, idle = _loader(Naive(data.pairs, n), sizes), _loader(range(n), sizes)
        busy = _busy(setup) if cores.threads > 1 else ""
        roads = [
            Road("notebook: Batches, Augment, speed_up, no sync", tuned.road("training notebook", cores), n),
            Road(f"hand-out: DataLoader(num_workers={WORKERS}) over the PNGs, plain loop",
                 functools.partial(handout.train, loader), n, Goal(at_least=3, by=by)),
            Road("data path alone: the hand-out's loader, the notebook's step",
                 tuned.road("training naive data", cores), n),
            Road("of it: starting and stopping the workers, once an epoch", functools.partial(list, idle), n),
            Road("floor: the notebook's step on one batch in memory", tuned.road("training no data", cores), n)]
        if busy:
            roads = [dataclasses.replace(road, missing=busy) for road in roads]
        else:
            with hold(cores):
                handout.train([next(iter(Batches(rows, sizes.train_batch)))])
        with hold(cores):
            table = measure("training", f"task 2 network on the CPU, batch {sizes.train_batch}, {n} pictures an epoch, "
                            f"{cores}", "a picture", roads, sizes.rounds)
        for row in table.rows:
            if not busy and not row.road.name.startswith("of it"):
                row.note = f"{1 / row.median.wall:.1f} images/s"
        tables.append(table)
    return tables


def tuned_training(arrays: Path, pairs: list[Pair], sizes: Sizes) -> dict[str, Callable[[], object]]:
    speed_up(CPU)
    rows = Rows(arrays, Augment(**AUGMENT))
    loop = Notebook(network(), CPU, class_weights_of(rows))
    batches = Batches(rows, sizes.train_batch, shuffle=True)
    loader = _loader(Naive(pairs, sizes.steps * sizes.train_batch), sizes)
    fixed = [next(iter(Batches(Rows(arrays), sizes.train_batch)))] * sizes.steps

    def first_step() -> tuple[float, np.ndarray]:
        return Notebook(network(), CPU, class_weights_of(rows)).train(fixed[:1])

    return {"training notebook": lambda: loop.train(part(batches, sizes.steps)),
            "training naive data": lambda: loop.train(loader),
            "training no data": lambda: loop.train(fixed),
            "training first step": first_step,
            "training step": lambda: loop.train(fixed[:1])}


def _busy(setup: Setup) -> str:
    """Why there is no sense in timing a step on all cores, if so.

    Where other processes take a core, the threads of a step wait for each other, spinning, up to 60 times as long as
    the step would take on one core.
    """
    one, every = (min(setup.tuned.road("training step", cores)().wall for _ in range(2))
                  for cores in (setup.one, setup.all))
    return f"others use the cores (a step: {every / one:.1f} x that on one core)" if every > 1.2 * one else ""


def scoring(setup: Setup) -> list[Table]:
    """What scoring costs beside the network's forward pass."""
    sizes, tuned = setup.sizes, setup.tuned
    batches = Batches(setup.data.stored(n=min(sizes.rows, 4 * sizes.batch)), sizes.batch)
    ready, model, n = list(batches), network().eval(), len(batches.dataset)
    tuned.prepare(tuned_scoring, setup.data.arrays, n, sizes)
    with hold(setup.one):
        expected = ConfusionMatrix()
        for logits, (_, target) in zip(_forward(model, ready), ready, strict=True):
            expected.update(target, logits.max(1).indices)
        for counts in (_score(model, batches), tuned.call("scoring", setup.one)):
            require(np.array_equal(counts, expected.counts), "evaluate's matrix to be that of the forward passes")
        settings = "memory settings of speed_up"
        roads = [Road("the forward pass alone, batches in memory", lambda: _forward(model, ready), n),
                 Road("Batches and utils.evaluation.evaluate", lambda: _score(model, batches), n),
                 Road(f"the forward pass alone, {settings}", tuned.road("scoring forward", setup.one), n),
                 Road(f"Batches and evaluate, {settings}", tuned.road("scoring", setup.one), n)]
        table = measure("scoring", f"scoring {n} pictures with the task 2 network, CPU, one core", "a picture", roads,
                        2 * sizes.rounds)
    for forward, whole in (table.rows[:2], table.rows[2:]):
        whole.note = f"the rest is {100 * (1 - forward.median.cpu / whole.median.cpu):.0f} % of it"
    return [table]


def tuned_scoring(arrays: Path, n: int, sizes: Sizes) -> dict[str, Callable[[], np.ndarray]]:
    speed_up(CPU)
    batches, model = Batches(Rows(arrays, n=n), sizes.batch), network().eval()
    ready = list(batches)
    return {"scoring": lambda: _score(model, batches), "scoring forward": lambda: len(_forward(model, ready))}


@torch.inference_mode()
def _forward(model: nn.Module, ready: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
    return [model(data) for data, _ in ready]


def _score(model: nn.Module, batches: Batches) -> np.ndarray:
    with contextlib.redirect_stderr(io.StringIO()):
        return evaluate(model, batches).counts


def network() -> nn.Module:
    """The task 2 network, always with the same weights."""
    torch.manual_seed(0)
    return LowComplexityNet()


def part(batches: Batches, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The first `steps` batches of an epoch; later epochs follow when the first is used up."""
    while steps > 0:
        for batch in itertools.islice(batches, steps):
            yield batch
            steps -= 1


def _loader(dataset: Sequence, sizes: Sizes) -> Iterable:
    """The usual DataLoader. Its workers start anew for each epoch; forked, that is a small part of a short one, too."""
    warnings.filterwarnings("ignore", message="This DataLoader will create")  # more workers than one core suggests
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
    return DataLoader(dataset, sizes.train_batch, shuffle=True, num_workers=WORKERS, multiprocessing_context=method)


def _check_loops(ours: tuple[float, np.ndarray], rows: Rows, sizes: Sizes) -> None:
    """From the same weights and batch, both loops have the same loss and, but for rounding, the same matrix."""
    loss, counts = Handout(network(), CPU, class_weights_of(rows)).train([next(iter(Batches(rows, sizes.train_batch)))])
    require(abs(ours[0] - loss) <= 1e-3 * loss, f"both loops' first loss to be {loss:.4f}", f"{ours[0]:.4f}")
    moved = int(np.abs(ours[1] - counts).sum()) // 2
    require(moved <= counts.sum() / 1000, "both loops to predict the same classes", f"{moved} pixels that differ")


