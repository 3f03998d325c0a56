"""What stands in the report: each figure with its caption, which states the figures shown, and each table."""
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from dataset.batches import Batches
from figures.layers import NETWORK, plot_layers
from figures.pictures import show_panels
from figures.plots import plot_confusion
from figures.report import curves, data, models, tables
from figures.report.drawing import draw_network
from figures.report.gather import Cost, Scored
from utils.evaluation import predict
from utils.lab import IGNORE, TASKS
from utils.labels_cat import CATEGORIES
from utils.metric import ConfusionMatrix
from utils.past import Past

TRAINING = ("The training figures are those of the augmented pictures while the weights still change, and training's "
            "loss may have parts that validation's has not, so training may well look worse.")


@dataclass
class Picture:
    """A figure that is still to be drawn, and what stands below it."""

    draw: Callable[[], Figure]
    caption: str


@dataclass
class Content:
    """By the names that figures.report.outline uses: pictures and text, and beneath pictures more text."""

    pictures: dict[str, Picture] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)


def add_data(content: Content, batches: Batches, runs: list[Past]) -> None:
    """The data pages of the training split, with the augmentation of the first run that has one in its settings."""
    shares = data.count_classes(batches.dataset.arrays[1])
    chosen = data.choose_pictures(shares)
    mean, rarest = shares.mean(0), int(np.where(shares.mean(0) > 0, shares.mean(0), 2).argmin())
    seen = [CATEGORIES[k] for k in np.flatnonzero(shares[chosen].max(0) > 0)]
    content.pictures["data_pictures"] = Picture(
        partial(data.plot_page, batches, chosen),
        f"{len(chosen)} of the {len(shares)} training pictures beside their labels; together they show "
        f"{', '.join(seen)}.")
    content.pictures["data_frequencies"] = Picture(
        partial(data.plot_frequencies, shares),
        f"How often each class occurs in the {len(shares)} training pictures: {CATEGORIES[int(mean.argmax())]} has "
        f"{mean.max():.1%} of the pixels, {CATEGORIES[rarest]} {mean[rarest]:.2%}.")
    content.pictures["data_shares"] = Picture(
        partial(data.plot_shares, shares, chosen),
        "Each class's share of a picture: the box holds the middle half of the pictures, the line in it is the "
        "median; and in each picture of the data page, under its number.")
    run = next((run for run in curves.best_first(runs) if "FLIP" in run.options), None)
    of = f", with the settings of the run {run.name}" if run else ""
    images, targets = batches.stored(_richest(shares))
    content.pictures["augmentations"] = Picture(
        partial(data.plot_augmentations, images, targets, run.options if run else {}),
        f"Two training pictures before and after each kind of augmentation{of}; white in a label: outside the "
        "picture, ignored.")


def add_runs(content: Content, runs: list[Past], task: int | None, costs: dict[str, Cost]) -> None:
    """Curves, over-fitting, IoU and tables of the runs of one task, or of those that tell none."""
    if not runs:
        return
    end, best = f"task{task}" if task else "other", curves.best_first(runs)[0]
    many = f"of {len(runs)} runs" if len(runs) > 1 else f"of the run {best.name}"
    reached = ", ".join(f"{run.name} {run.best['miou']:.4f} (epoch {run.best['epoch']})"
                        for run in curves.best_first(runs)[:6])
    content.texts[f"runs_{end}"] = "The runs, best first:\n\n" + tables.runs_table(runs)
    content.pictures[f"curves_{end}"] = Picture(
        partial(curves.plot_curves, runs, TASKS[task].miou if task else None),
        f"Loss and mIoU {many}, by epoch. Best validation mIoU: {reached}. {TRAINING}")
    if len(runs) > 1:
        content.texts[f"steps_{end}"] = (
            "What each run changed, in the order of their starts:\n\n" + tables.steps_table(runs, costs) +
            "\n\nEach run is compared with the earlier one that it differs least from. A "
            "single run says little about a small difference: repeat both with other values of `SEED`.")
    content.texts[f"settings_{end}"] = (
        f"The settings of the best run, {best.name}: {tables.all_settings(best)}."
        + ("\n\nWhere the runs differ:\n\n" + tables.settings_table(runs) if len(runs) > 1 else ""))
    gap = curves.gap_of(best)
    content.pictures[f"overfitting_{end}"] = Picture(
        partial(curves.plot_overfitting, runs),
        "Training and validation apart; dotted: the epoch whose weights were kept. The gap in mIoU of the best run, "
        f"{best.name}, there: " + ("not recorded." if gap is None else f"{gap:+.4f} ({best.best['train_miou']:.4f} - "
                                   f"{best.best['miou']:.4f}).") + f" {TRAINING}")
    ious = {run.name: run.iou for run in curves.best_first(runs) if not np.isnan(run.iou).all()}
    if ious:
        content.pictures[f"iou_{end}"] = Picture(
            partial(curves.plot_ious, ious), f"IoU of each category at the best epoch {many}"
            f"{' (the best 6)' if len(ious) > 6 else ''}. " + _lowest(*next(iter(ious.items()))))
        content.texts[f"ious_{end}"] = "The runs at their best epochs:\n\n" + tables.iou_table(ious)
        if task and best.matrix.counts.any():
            _add_confusion(content, end, best.matrix, f"the best epoch of the run {best.name}")


def add_model(content: Content, scored: Scored, where: str) -> None:
    """Drawing, costs and confusion matrix of one scored network."""
    end, cost, metric = f"task{scored.task.number}", scored.cost, scored.metric
    content.pictures[f"architecture_{end}"] = Picture(
        partial(draw_network, scored.graph, scored.rows),
        f"The network of task {scored.task.number}, {scored.path.name}, drawn from its layers: a row a resolution, a "
        f"box the wider the more channels "
        f"(ch), the darker the larger its share of the {cost.macs:,} MACs; dashed: connections beside the main way. "
        f"{cost.parameters:,} parameters, {cost.kb:,.3f} KB.")
    content.pictures[f"layers_{end}"] = Picture(
        partial(plot_layers, scored.rows), f"Where the cost of {scored.path.name} sits, layer by layer"
        + ("; “network itself”: its own last step, such as a resize." if any(
            row.name == NETWORK for row in scored.rows) else "."))
    _add_confusion(content, end, metric, f"{scored.path.name} on {where}")
    before = [content.texts[f"ious_{end}"]] if f"ious_{end}" in content.texts else []
    content.texts[f"ious_{end}"] = "\n\n".join(
        [f"{scored.path.name}, scored on {where}: mIoU {metric.miou():.6f}.",
         tables.iou_table({scored.path.name: metric.iou().tolist()}), *before])
    content.texts[f"measures_{end}"] = (
        f"Other measures of {scored.path.name} on the same pictures:\n\n" + tables.measures_table(scored) +
        "\n\nThe pixel accuracy is decided by the frequent classes. The mean accuracy, a mean over the classes, sees "
        "no false alarm; the frequency-weighted IoU does, and counts each class by its share of the pixels. Boundary "
        f"F: of a class's boundary, how much is met within {scored.boundaries.tolerance} pixels.")


def add_pictures(content: Content, scored: list[Scored], batches: Batches) -> None:
    """The same pictures through each network: panels, and maps of the errors."""
    chosen = models.choose_to_show([one.matrices for one in scored])
    shown, target = batches.take(chosen)
    preds = [predict(one.model, shown, str(one.path)) for one in scored]
    names = [f"task {one.task.number}" for one in scored]
    captions = ["\n".join(f"{name}: {one.matrices[index].miou():.3f}" for name, one in zip(names, scored, strict=True))
                for index in chosen]
    told = "from the best to the worst of the split, by the mIoU of each picture on the left"
    content.pictures["panels"] = Picture(
        partial(show_panels, shown, target, *preds, titles=("picture", "label", *(one.name for one in scored)),
                captions=captions, width=9.5), f"Validation pictures, {told}: picture, label, predictions.")
    content.pictures["errors"] = Picture(
        partial(models.plot_errors, shown, target, preds, names),
        "The same pictures: which pixels are wrong" + (", and which network alone is wrong there." if len(scored) == 2
                                                       else ".")
        + (" White: no class is known." if (target == IGNORE).any() else ""))
    if scored[0].task.number == 1:
        content.pictures["panels_task1"] = Picture(partial(_panels_of_one, scored[0], batches),
                                                   f"Task 1: validation pictures, {told}.")


def add_costs(content: Content, scored: list[Scored], runs: list[Past], costs: dict[str, Cost]) -> None:
    """Cost against accuracy of the scored networks and of the runs, and the networks' IoU side by side."""
    points = [{"name": one.path.name, "task": one.task.number, "miou": one.metric.miou(), "macs": one.cost.macs,
               "kb": one.cost.kb, "parameters": one.cost.parameters} for one in scored]
    for run in runs:
        cost = costs.get(run.name)
        same = [point for point, one in zip(points, scored, strict=False) if run.name in one.runs]
        if same:
            same[0]["name"] = run.name
            continue
        points.append({"name": run.name, "task": run.task, "miou": run.best["miou"], "macs": cost and cost.macs,
                       "kb": cost and cost.kb,
                       "parameters": cost.parameters if cost else run.about.get("parameters")})
    if any(point["parameters"] for point in points):
        tasks = [TASKS[number] for number in TASKS if any(point["task"] == number for point in points)]
        content.pictures["cost_accuracy"] = Picture(
            partial(models.plot_costs, points, [task.miou for task in tasks]),
            "Accuracy against cost. Circles: task 1, squares: others. A run has MACs and KB where its weights are "
            "still there; without, its parameters are those it trained with. Dotted: the mIoU asked for.")
    if scored or costs:
        parts = tables.cost_table(scored, costs, runs), tables.changed_since(scored, runs)
        content.texts["costs"] = "\n\n".join(part for part in parts if part)
    if len(scored) > 1:
        ious = {one.name: one.metric.iou().tolist() for one in scored}
        difference = np.array(ious[scored[1].name]) - ious[scored[0].name]
        content.pictures["iou_models"] = Picture(
            partial(curves.plot_ious, ious), "IoU of each category, both networks. " + (
                "" if np.isnan(difference).all() else f"They differ most in {CATEGORIES[_most(difference)]}: "
                f"{difference[_most(difference)]:+.4f} from task 1 to task 2."))


def _add_confusion(content: Content, end: str, metric: ConfusionMatrix, of: str) -> None:
    recall = metric.class_accuracy()
    worst = int(np.nanargmin(recall))
    row = metric.counts[worst] / metric.counts[worst].sum()
    row[worst] = 0
    content.pictures[f"confusion_{end}"] = Picture(
        partial(plot_confusion, metric), f"Confusion matrix of {of}: accuracy {metric.accuracy():.4f}, mIoU "
        f"{metric.miou():.4f}. Least found is {CATEGORIES[worst]} ({recall[worst]:.1%} of its pixels; "
        f"{row.max():.1%} are taken for {CATEGORIES[int(row.argmax())]}).")


def _panels_of_one(scored: Scored, batches: Batches) -> Figure:
    chosen = models.choose_to_show([scored.matrices])
    shown, target = batches.take(chosen)
    pred: Tensor = predict(scored.model, shown)
    captions = [f"mIoU {scored.matrices[index].miou():.3f}" for index in chosen]
    return show_panels(shown, target, pred, captions=captions, width=9.5)


def _richest(shares: np.ndarray) -> list[int]:
    """Two pictures in which many classes are to be seen, the first from the first half of the split."""
    seen = (shares >= data.VISIBLE).sum(1)
    half = max(len(seen) // 2, 1)
    return [int(seen[:half].argmax()), *([half + int(seen[half:].argmax())] if len(seen) > half else [])]


def _lowest(name: str, iou: list[float]) -> str:
    worst = int(np.nanargmin(iou))
    return f"{name} is weakest on {CATEGORIES[worst]} ({iou[worst]:.4f})."


def _most(difference: np.ndarray) -> int:
    return int(np.nanargmax(np.abs(difference)))
