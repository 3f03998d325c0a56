"""The confusion matrix and the arg-max, beside what is commonly used for them."""
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from benchmarks.data import Data
from benchmarks.measure import NotMeasuredError, Table, Timed, require
from utils.evaluation import arg_max
from utils.lab import INPUT_SIZE, NUM_CLASSES
from utils.metric import ConfusionMatrix


def matrix(data: Data) -> Iterator[Table]:
    """One batch's confusion matrix: the lab's from bytes and the others' from int64, then all from int64."""
    target, pred = images(data)
    expected = np.zeros((NUM_CLASSES, NUM_CLASSES), np.int64)
    np.add.at(expected, (target.numpy().ravel(), pred.numpy().ravel()), 1)
    for kind, goals in ((torch.uint8, (20, 2, 60)), (torch.int64, (None, None, None))):
        rows = [Timed(f"utils.metric, {str(kind).removeprefix('torch.')}", own(target.to(kind), pred.to(kind)))]
        rows += [Timed(f"{name}, int64", run, at_least=goal)
                 for (name, run), goal in zip(others(target.long(), pred.long()).items(), goals, strict=True)]
        for row in rows:
            require(np.array_equal(row.run(), expected), f"the exact confusion matrix from {row.name}")
        rows.insert(1, Timed("floor: reading both (amax)", lambda: (target.amax(), pred.amax())))
        yield Table(f"confusion matrix of {tuple(target.shape)} pixels, one core", "a batch", rows)


def argmax(data: Data) -> Iterator[Table]:
    """The most likely class of each pixel, for logits as torch lays them out."""
    shape = (data.sizes.batch, NUM_CLASSES, *INPUT_SIZE)
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    ties = logits.round()  # a few whole numbers: nearly every pixel has a tie
    for name, pred in (("arg_max", arg_max(ties)), ("max(1)", ties.max(1).indices), ("argmax(1)", ties.argmax(1))):
        require(np.array_equal(pred.numpy(), ties.numpy().argmax(1)), f"{name} to break ties as numpy does")
    yield Table(f"classes of logits {shape}, one core", "a batch", [
        Timed("utils.evaluation.arg_max", lambda: arg_max(logits)),
        Timed("floor: reading the logits (amax of all)", lambda: logits.amax()),
        Timed("max(1).indices", lambda: logits.max(1).indices),
        Timed("argmax(1)", lambda: logits.argmax(1), at_least=4)])


def images(data: Data) -> tuple[Tensor, Tensor]:
    """Targets and predictions, uint8 (N, 256, 512): labels, and the same shifted with one pixel in 50 wrong."""
    target = torch.from_numpy(np.array(data.rows().arrays[1][:data.sizes.batch]))
    generator = torch.Generator().manual_seed(0)
    wrong = torch.rand(target.shape, generator=generator) < 0.02
    noise = torch.randint(NUM_CLASSES, target.shape, dtype=torch.uint8, generator=generator)
    return target, torch.where(wrong, noise, target.roll((2, 3), (1, 2)))


def own(target: Tensor, pred: Tensor) -> Callable[[], np.ndarray]:
    def run() -> np.ndarray:
        metric = ConfusionMatrix()
        metric.update(target, pred)
        return metric.counts
    return run


def others(target: Tensor, pred: Tensor) -> dict[str, Callable[[], np.ndarray]]:
    """torchmetrics' as it comes and unvalidated, and scikit-learn's; each returns its matrix."""
    try:
        from sklearn.metrics import confusion_matrix
        from torchmetrics.functional.classification import multiclass_confusion_matrix
    except ImportError as error:
        raise NotMeasuredError(f"no {error.name}: pip install -r requirements-dev.txt") from None
    flat = target.numpy().ravel(), pred.numpy().ravel()
    return {"torchmetrics": lambda: multiclass_confusion_matrix(pred, target, NUM_CLASSES).numpy(),
            "torchmetrics, validate_args=False": lambda: multiclass_confusion_matrix(
                pred, target, NUM_CLASSES, validate_args=False).numpy(),
            "sklearn.metrics.confusion_matrix": lambda: confusion_matrix(*flat, labels=range(NUM_CLASSES))}
