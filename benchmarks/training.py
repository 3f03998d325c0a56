"""Training and scoring on the CPU: what waiting for data costs, and the lab's loop beside a hand-out's."""
import contextlib
import functools
import io
import itertools
import multiprocessing
import warnings
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.data import Data, Rows, Usual
from benchmarks.measure import Table, Timed, hold, require
from dataset.augment import Augment
from dataset.batches import Batches
from network2.network import LowComplexityNet
from training.losses import class_shares, class_weights, thin
from training.step import prepare, speed_up
from utils.evaluation import arg_max, evaluate
from utils.lab import IGNORE, NUM_CLASSES
from utils.machine import available_cores, synchronize
from utils.metric import AverageMeter, ConfusionMatrix

CPU = torch.device("cpu")
AUGMENT = Augment(flip=0.5, crop=0.2, scale=(0.75, 1.75), rotate=3, color=0.2)  # the notebooks' settings
WORKERS = 2
LEARNING_RATE, STEPS = 1e-3, 1_000_000  # the schedule's steps: more than are ever made


class Loop:
    """The training loop of the notebooks: 16 bits on a GPU, channels_last, and nothing fetched from the device."""

    memory, precision, fused = torch.channels_last, "auto", True

    def __init__(self, network: nn.Module, rows: Rows, device: torch.device = CPU) -> None:
        self.device = device
        self.network = network.to(device, memory_format=self.memory)
        self.model = prepare(network, device, self.precision) if self.memory is torch.channels_last else network
        weights = class_weights(class_shares(rows.arrays[1][:8])).to(device)
        self.criterion = nn.CrossEntropyLoss(weight=weights, ignore_index=IGNORE)
        self.optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=1e-4, fused=self.fused)
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, LEARNING_RATE, STEPS, pct_start=0.1)

    def train(self, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[float, np.ndarray]:
        """The mean loss and the confusion matrix, once the device has done all that was queued."""
        metric, mean = ConfusionMatrix(), AverageMeter()
        self.model.train()
        for data, target in batches:
            self.optimizer.zero_grad(set_to_none=True)
            output = self.model(data)
            target = thin(target, output.shape[2:])
            loss = self.criterion(output, target)
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            metric.update(target, arg_max(output))
            mean.update(loss, len(data))
        synchronize(self.device)
        return mean.avg, metric.counts


class Plain(Loop):
    """The usual loop: float32, contiguous, argmax, the matrix in numpy and the loss fetched in each step."""

    memory, precision, fused = torch.contiguous_format, "float32", False

    def train(self, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[float, np.ndarray]:
        losses, counts = [], np.zeros((NUM_CLASSES, NUM_CLASSES), np.int64)
        self.network.train()
        for data, target in batches:
            # Contiguous, whatever the batch's memory: it is what a DataLoader yields.
            data, target = data.to(self.device).contiguous(), target.to(self.device)
            output = self.network(data)
            loss = self.criterion(output, target)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            counts += fast_hist(target.cpu().numpy().ravel(), output.argmax(1).cpu().numpy().ravel())
            losses.append(loss.item())
        return float(np.mean(losses)), counts


def fast_hist(target: np.ndarray, pred: np.ndarray) -> np.ndarray:
    """The confusion matrix as FCN's published code counts it (Long et al., 2015)."""
    known = (target >= 0) & (target < NUM_CLASSES)
    fused = NUM_CLASSES * target[known].astype(int) + pred[known]
    return np.bincount(fused, minlength=NUM_CLASSES**2).reshape(NUM_CLASSES, NUM_CLASSES)


def check_loops(network: Callable[[], nn.Module], rows: Rows, batch: tuple[Tensor, Tensor],
                device: torch.device = CPU, tolerance: float = 1e-3) -> None:
    """From the same weights and batch, both loops have the same loss and, but for rounding, the same matrix."""
    with hold(1):
        (ours, counts), (loss, expected) = (kind(network(), rows, device).train([batch]) for kind in (Loop, Plain))
    require(abs(ours - loss) <= tolerance * loss, f"both loops' first loss to be {loss:.4f}", f"{ours:.4f}")
    moved = int(np.abs(counts - expected).sum()) // 2
    require(moved <= expected.sum() * tolerance, "both loops to predict the same", f"{moved} pixels that differ")


class Fixed(Batches):
    """The same epoch, augmented in the same way, but of the same stored images each time, already on the device."""

    def _from_memory(self, order: Tensor) -> Iterator[list[Tensor]]:
        fixed = [part.to(self.device) for part in self.stored(range(self.batch_size))]
        for index in order.split(self.batch_size):
            yield [part[:len(index)] for part in fixed]

    _from_gpu = _from_ring = _from_memory


def stall(data: Data) -> Iterator[Table]:
    """The share of a training epoch that goes into gathering its images."""
    speed_up(CPU)
    rows, sizes = data.rows(AUGMENT), data.sizes
    yield Table("a training step of task 2's network on augmented images, one core", "a step", stall_rows(
        Loop(network(), rows), rows, sizes.train_batch, sizes.steps, {"cpu": "gathered in memory"}, 1.05))


def stall_rows(loop: Loop, rows: Rows, size: int, steps: int, tiers: dict[str, str], goal: float) -> list[Timed]:
    """`steps` training steps on fixed images, and on real ones from each tier of Batches."""
    def row(name: str, kind: type[Batches], tier: str, at_most: float | None) -> Timed:
        batches = kind(rows, size, loop.device, shuffle=True, tier=tier)
        return Timed(name, lambda: loop.train(part(batches, steps)), steps, at_most=at_most)

    for tier in tiers:
        first = [next(iter(kind(rows, size, loop.device, tier=tier))) for kind in (Batches, Fixed)]
        require(all(map(torch.equal, *first)), "the fixed batch to be the first real one, augmented alike")
    return [row("floor: the same images each step", Fixed, next(iter(tiers)), None),
            *(row(f"real data, {name}", Batches, tier, goal) for tier, name in tiers.items())]


def training(data: Data) -> Iterator[Table]:
    """The notebook's way beside a hand-out's; the lab's memory settings hold for both."""
    speed_up(CPU)
    rows, sizes = data.rows(), data.sizes
    size, steps, n = sizes.train_batch, sizes.steps, sizes.train_batch * sizes.steps
    batch = next(iter(Batches(rows, size)))
    check_loops(network, rows, batch)
    ours, plain = Loop(network(), rows), Plain(network(), rows)
    batches = Batches(data.rows(AUGMENT), size, shuffle=True)
    warnings.filterwarnings("ignore", message="This DataLoader will create")  # more workers than one core suggests
    loader = DataLoader(Usual(data.pairs, n), size, shuffle=True, num_workers=WORKERS, multiprocessing_context=(
        "fork" if "fork" in multiprocessing.get_all_start_methods() else None))
    for cores in dict.fromkeys((1, available_cores())):
        yield Table(f"training task 2's network, {n} images an epoch, {cores} core(s)", "an image", [
            Timed("notebook: Batches, Augment, speed_up, no sync", lambda: ours.train(part(batches, steps)), n),
            Timed("floor: its step on one batch in memory", lambda: ours.train([batch] * steps), n),
            Timed(f"hand-out: DataLoader(num_workers={WORKERS}) over the PNGs, plain loop", lambda: plain.train(loader),
                n, at_least=3)], "cpu" if cores == 1 else "wall", cores)


def pixels(data: Data) -> Iterator[Table]:
    """What a loss on every pixel costs task 2's network: LOSS_STRIDE 1 and 2 of its notebook."""
    speed_up(CPU)
    rows, size = data.rows(), data.sizes.train_batch
    batch, model = next(iter(Batches(rows, size))), network().train()

    def step(stride: int) -> Callable[[], object]:
        strided = network()
        strided.train_stride = stride
        return functools.partial(Loop(strided, rows).train, [batch])

    yield Table("a training step of task 2's network on one batch, one core", "an image", [
        Timed("LOSS_STRIDE 2", step(2), size), Timed("floor: the forward pass alone", lambda: model(batch[0]), size),
        Timed("LOSS_STRIDE 1", step(1), size)])


def scoring(data: Data) -> Iterator[Table]:
    """What scoring costs beside the network's forward pass."""
    speed_up(CPU)
    batches = Batches(data.rows(n=4 * data.sizes.batch), data.sizes.batch)
    ready, model, n = list(batches), network().eval(), len(batches.dataset)

    @torch.inference_mode()
    def forward() -> list[Tensor]:
        return [model(images) for images, _ in ready]

    def score() -> np.ndarray:
        with contextlib.redirect_stderr(io.StringIO()):
            return evaluate(model, batches).counts

    expected = ConfusionMatrix()
    for logits, (_, target) in zip(forward(), ready, strict=True):
        expected.update(target, logits.max(1).indices)
    require(np.array_equal(score(), expected.counts), "evaluate's matrix to be that of the forward passes")
    yield Table(f"scoring {n} images with task 2's network, one core", "an image", [
        Timed("floor: the forward pass alone, batches in memory", forward, n),
        Timed("Batches and utils.evaluation.evaluate", score, n)])


def network() -> nn.Module:
    """Task 2's network, always with the same weights."""
    torch.manual_seed(0)
    return LowComplexityNet()


def part(batches: Batches, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The first `steps` batches of an epoch; later epochs follow when the first is used up."""
    return itertools.islice(itertools.chain.from_iterable(itertools.repeat(batches)), steps)
