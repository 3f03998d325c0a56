"""The confusion matrix and the arg-max, against what is commonly used for them."""
import importlib.util

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import Goal, Road, Table, measure, require
from benchmarks.setup import Setup, hold
from utils.evaluation import arg_max
from utils.lab import INPUT_SIZE, NUM_CLASSES
from utils.metric import ConfusionMatrix

TYPES = {"uint8": torch.uint8, "int64": torch.int64}


def matrix(setup: Setup) -> list[Table]:
    """One batch's confusion matrix. The goals are for stored bytes against the others' int64; like for like follows."""
    target, pred = _pictures(setup)
    inputs = {name: (target.to(kind), pred.to(kind)) for name, kind in TYPES.items()}
    title = f"confusion matrix of {len(target)} x {INPUT_SIZE[0]} x {INPUT_SIZE[1]} pixels, one core"
    with hold(setup.one):
        others = {name: _competitors(name, *pair) for name, pair in inputs.items()}
        own = {name: _own(name, *pair) for name, pair in inputs.items()}
        loop = _own("int64 target, uint8 pred, as the lab's loops have them", target.long(), pred)
        expected = np.zeros((NUM_CLASSES, NUM_CLASSES), np.int64)
        np.add.at(expected, (target.numpy().ravel(), pred.numpy().ravel()), 1)
        for road in [loop, *(road for kind in TYPES for road in (own[kind], *others[kind]))]:
            if not road.missing:
                require(np.array_equal(road.run(), expected), f"the exact confusion matrix from {road.name}")
        goals = (Goal(at_least=20), Goal(at_least=2), Goal(at_least=60))
        judged = [Road(road.name, road.run, road.units, goal, road.note, road.missing)
                  for road, goal in zip(others["int64"], goals, strict=True)]
        return [
            measure("matrix", title, "a batch",
                    [own["uint8"], loop, *judged, *others["uint8"], _floor(*inputs["uint8"])], 3 * setup.sizes.rounds),
            measure("matrix", title + ", all given int64", "a batch",
                    [own["int64"], *others["int64"], _floor(*inputs["int64"])], 3 * setup.sizes.rounds)]


def argmax(setup: Setup) -> list[Table]:
    """The most likely class of each pixel, for logits as torch lays them out and as the lab's networks do."""
    n = setup.sizes.batch
    logits = torch.randn(n, NUM_CLASSES, *INPUT_SIZE, generator=torch.Generator().manual_seed(0))
    tables = []
    for layout, goal in ((torch.contiguous_format, Goal(at_least=4)), (torch.channels_last, None)):
        kind = "channels_last" if layout == torch.channels_last else "contiguous"
        values = logits.contiguous(memory_format=layout)
        ties = values.round()  # a few whole numbers: nearly every pixel has a tie
        with hold(setup.one):
            for name, pred in (("arg_max", arg_max(ties)), ("max(1).indices", ties.max(1).indices)):
                require(torch.equal(pred.long(), ties.argmax(1)), f"{name} to break ties as argmax(1) does")
                require(np.array_equal(pred.numpy(), ties.numpy().argmax(1)), f"{name} to break ties as numpy does")
            roads = [Road("utils.evaluation.arg_max", lambda values=values: arg_max(values)),
                     Road("max(1).indices", lambda values=values: values.max(1).indices),
                     Road("argmax(1)", lambda values=values: values.argmax(1), goal=goal),
                     Road("floor: reading the logits (amax of all)", lambda values=values: values.amax())]
            tables.append(measure("argmax", f"classes of logits {n} x {NUM_CLASSES} x {INPUT_SIZE[0]} x "
                                  f"{INPUT_SIZE[1]}, {kind}, one core", "a batch", roads, setup.sizes.rounds))
    return tables


def _pictures(setup: Setup) -> tuple[Tensor, Tensor]:
    """Targets and predictions, uint8 (N, 256, 512): labels, and the same labels shifted, with one pixel in 50 wrong."""
    target = torch.from_numpy(np.array(setup.data.stored().arrays[1][:setup.sizes.batch]))
    generator = torch.Generator().manual_seed(0)
    wrong = torch.rand(target.shape, generator=generator) < 0.02
    noise = torch.randint(NUM_CLASSES, target.shape, dtype=torch.uint8, generator=generator)
    return target, torch.where(wrong, noise, target.roll((2, 3), (1, 2)))


def _own(kind: str, target: Tensor, pred: Tensor) -> Road:
    def run() -> np.ndarray:
        metric = ConfusionMatrix()
        metric.update(target, pred)
        return metric.counts
    return Road(f"utils.metric, {kind}", run)


def _competitors(kind: str, target: Tensor, pred: Tensor) -> list[Road]:
    """torchmetrics' as it comes and unvalidated, and scikit-learn's; each returns its matrix."""
    roads = []
    for name, options in (("default", {}), ("validate_args=False", {"validate_args": False})):
        name = f"torchmetrics, {name}, {kind}"
        if not importlib.util.find_spec("torchmetrics"):
            roads.append(Road(name, missing="pip install torchmetrics"))
            continue
        from torchmetrics.classification import MulticlassConfusionMatrix

        def run(metric: object = MulticlassConfusionMatrix(NUM_CLASSES, **options)) -> np.ndarray:
            metric.reset()
            metric.update(pred, target)
            return metric.confmat.numpy()
        roads.append(Road(name, run))
    name = f"sklearn.metrics.confusion_matrix, {kind}"
    if not importlib.util.find_spec("sklearn"):
        return [*roads, Road(name, missing="pip install scikit-learn")]
    from sklearn.metrics import confusion_matrix

    flat = target.numpy().ravel(), pred.numpy().ravel()
    return [*roads, Road(name, lambda: confusion_matrix(*flat, labels=range(NUM_CLASSES)))]


def _floor(target: Tensor, pred: Tensor) -> Road:
    return Road("floor: reading both (amax)", lambda: (target.amax(), pred.amax()))
