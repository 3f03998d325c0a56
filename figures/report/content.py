"""What the report shows: each figure with its caption, and each table."""
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from matplotlib.figure import Figure

from dataset.batches import Batches
from figures.extremes import show_best_and_worst
from figures.images import show_panels
from figures.layers import NETWORK, OUTSIDE, plot_layers
from figures.plots import plot_confusion
from figures.report import curves, data, models, tables
from figures.report.drawing import draw_network
from figures.report.gather import NetworkCost, Scored
from utils.evaluation import predict
from utils.lab import IGNORE, TASKS
from utils.labels_cat import CATEGORIES
from utils.metric import ConfusionMatrix
from utils.run_records import RunRecord

TRAINING = ("The training figures are measured on augmented images while the weights change, and training's loss may "
            "have parts that validation's has not, so training may well look worse.")
MEASURES = ("Frequent classes decide the pixel accuracy. The mean accuracy, a mean over the classes, does not see "
            "false alarms; the frequency-weighted IoU does, and counts each class by its share of the pixels. Mean AP "
            "is the mean over the classes of the average precision. Boundary F says how much of a class's boundary is "
            "met within {tolerance} pixels.")
PRECISION = ("AP, average precision, is the area under the precision-recall curve of one class against the rest over "
             "all pixels: it judges the scores, not only the largest one. The class frequency is the baseline: how "
             "often each class is at each position of the training images, whatever the image shows.")


@dataclass
class ReportFigure:
    """A figure that is still to be drawn, and its caption."""

    draw: Callable[[], Figure]
    caption: str


@dataclass
class Content:
    """Figures and texts by the names that figures.report.outline uses."""

    figures: dict[str, ReportFigure] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)

    def draw(self, name: str, caption: str, function: Callable[..., Figure], *args: object, **options: object) -> None:
        """Adds the figure that `function` draws when it is called with the rest."""
        self.figures[name] = ReportFigure(partial(function, *args, **options), caption)


def add_data(content: Content, batches: Batches, runs: list[RunRecord]) -> None:
    """The data pages of the training split, with the augmentation of the best run that has one in its settings."""
    shares = data.count_classes(batches.dataset.arrays[1])
    chosen = data.choose_images(shares)
    mean, rarest = shares.mean(0), int(np.where(shares.mean(0) > 0, shares.mean(0), 2).argmin())
    seen = [CATEGORIES[k] for k in np.flatnonzero(shares[chosen].max(0) > 0)]
    content.draw("data_images", f"{len(chosen)} of the {len(shares)} training images beside their labels; together "
                 f"they show {', '.join(seen)}.", data.plot_page, batches, chosen)
    content.draw("data_frequencies", f"How often each class occurs in the {len(shares)} training images: "
                 f"{CATEGORIES[int(mean.argmax())]} has {mean.max():.1%} of the pixels, {CATEGORIES[rarest]} "
                 f"{mean[rarest]:.2%}.", data.plot_frequencies, shares)
    content.draw("data_shares", "Each class's share of an image. Left: the box holds the middle half of the images, "
                 "the line in it is the median. Right: the images of the data page by their numbers.",
                 data.plot_shares, shares, chosen)
    run = next((run for run in curves.best_first(runs) if "FLIP" in run.options), None)
    of = f"the settings of the run {run.name}" if run else "the kit's default settings"
    content.draw("augmentations", f"Two training images before and after each kind of augmentation, with {of}. White "
                 "in a label is outside the image, and ignored.",
                 data.plot_augmentations, *batches.stored(_richest(shares)), run.options if run else {})


def add_runs(content: Content, runs: list[RunRecord], task: int | None, costs: dict[str, NetworkCost]) -> None:
    """Curves, over-fitting, IoU and tables of the runs of one task, or of those whose task is not known."""
    if not runs:
        return
    ranked = curves.best_first(runs)
    end, best = f"task{task}" if task else "other", ranked[0]
    several = len(runs) > 1
    of = f"of {len(runs)} runs" if several else f"of the run {best.name}"
    reached = ", ".join(f"{run.name} {run.best['miou']:.4f} (epoch {run.best['epoch']})" for run in ranked[:6])
    content.texts[f"runs_{end}"] = "The runs, best first:\n\n" + tables.runs_table(runs)
    content.draw(f"curves_{end}", f"Loss and mIoU {of}, by epoch. Best validation mIoU: {reached}. {TRAINING}",
                 curves.plot_curves, runs, TASKS[task].miou if task else None)
    if several:
        content.texts[f"steps_{end}"] = (
            "What each run changed, in the order of their starts:\n\n" + tables.steps_table(runs, costs) +
            "\n\nEach run is compared with the earlier one that it differs least from. A single run says little about "
            "a small difference: repeat both with other values of `SEED`.")
    content.texts[f"settings_{end}"] = (
        f"The settings of the best run, {best.name}: {tables.all_settings(best)}."
        + ("\n\nWhere the runs differ:\n\n" + tables.settings_table(runs) if several else ""))
    gap = curves.gap_of(best)
    told = "not recorded" if gap is None else f"{gap:+.4f} ({best.best['train_miou']:.4f} - {best.best['miou']:.4f})"
    content.draw(f"overfitting_{end}", f"Training and validation. Dotted: the epoch whose weights were kept; there the "
                 f"gap in mIoU of the best run, {best.name}, is {told}. {TRAINING}", curves.plot_overfitting, runs)
    ious = {run.name: run.iou for run in ranked if not np.isnan(run.iou).all()}
    if ious:
        content.draw(f"iou_{end}", f"IoU of each category at the best epoch {of}{' (the best 6)' * (len(ious) > 6)}. "
                     + _lowest(*next(iter(ious.items()))), curves.plot_ious, ious)
        content.texts[f"ious_{end}"] = "IoU of the runs at their best epochs:\n\n" + tables.class_table(ious)
        if task and best.matrix.counts.any():
            _add_confusion(content, end, best.matrix, f"the best epoch of the run {best.name}")


def add_model(content: Content, scored: Scored, where: str, baseline: dict[str, list[float]]) -> None:
    """Drawing, costs, confusion matrix and scores of one network; baseline: rows for its table of the classes."""
    end, cost, metric, name = f"task{scored.task.number}", scored.cost, scored.metric, scored.path.name
    if scored.graph:
        content.draw(f"architecture_{end}", f"The network of task {scored.task.number}, {name}, drawn from its layers, "
                     "a row for each resolution. A box is the wider the more channels (ch) it returns, the darker the "
                     f"larger its share of the {cost.macs:,} MACs. Dashed: connections beside the longest path. "
                     f"{cost.parameters:,} parameters, {cost.kb:,.3f} KB.", draw_network, scored.graph, scored.rows)
    else:
        content.texts[f"architecture_{end}"] = (f"{name} has no drawing here: torch.export cannot follow its forward "
                                                "pass. Draw it by hand.")
    outside = any(row.name == NETWORK for row in scored.rows)
    content.draw(f"layers_{end}", f"Where the cost of {name} sits, layer by layer."
                 + f" “{OUTSIDE.capitalize()}”: the network's own steps, such as the last resize." * outside,
                 plot_layers, scored.rows)
    _add_confusion(content, end, metric, f"{name} on {where}")
    own = tables.class_figures(name, metric, scored.precision)
    parts = [f"{name}, scored on {where}: mIoU {metric.miou():.6f}, mean AP {scored.precision.mean():.4f}.",
             tables.class_table(own | baseline), PRECISION]
    content.texts[f"ious_{end}"] = "\n\n".join([*parts, *filter(None, [content.texts.get(f"ious_{end}")])])
    content.texts[f"measures_{end}"] = "\n\n".join([
        f"Other measures of {name} on the same images:", tables.measures_table(scored),
        MEASURES.format(tolerance=scored.boundaries.tolerance)])


def add_images(content: Content, scored: list[Scored], batches: Batches) -> None:
    """The same images through each network: panels, and maps of the errors."""
    chosen = models.choose_to_show([one.matrices for one in scored])
    shown, target = batches.take(chosen)
    preds = [predict(one.model, shown, str(one.path)) for one in scored]
    names = [f"task {one.task.number}" for one in scored]
    captions = ["\n".join(f"{name}: {one.matrices[index].miou():.3f}" for name, one in zip(names, scored, strict=True))
                for index in chosen]
    told = "from the best to the worst of the split, with the mIoU of each image on the left"
    content.draw("panels", f"Validation images, {told}: image, label, predictions.", show_panels, shown, target, *preds,
                 titles=("image", "label", *(one.name for one in scored)), captions=captions, width=9.5)
    content.draw("errors", "The same images: which pixels are wrong"
                 + ", and which network alone is wrong there" * (len(scored) == 2) + "."
                 + " White: no class is known." * bool((target == IGNORE).any()),
                 models.plot_errors, shown, target, preds, names)
    if scored[0].task.number == 1:
        content.draw("panels_task1", "Task 1: the two best and the two worst validation images, with the mIoU of each.",
                     show_best_and_worst, scored[0].model, batches, scored[0].matrices)


def add_costs(content: Content, scored: list[Scored], runs: list[RunRecord], costs: dict[str, NetworkCost]) -> None:
    """Cost against accuracy of the scored networks and of the runs, and the networks' IoU side by side."""
    points = [{"name": ", ".join(one.runs) or one.path.name, "task": one.task.number, "miou": one.metric.miou(),
               "macs": one.cost.macs, "kb": one.cost.kb, "parameters": one.cost.parameters} for one in scored]
    shown = {name for one in scored for name in one.runs}
    for run in runs:
        if run.name not in shown:
            cost = costs.get(run.name)
            points.append({"name": run.name, "task": run.task, "miou": run.best["miou"], "macs": cost and cost.macs,
                           "kb": cost and cost.kb,
                           "parameters": cost.parameters if cost else run.about.get("parameters")})
    if any(point["parameters"] for point in points):
        tasks = [task for number, task in TASKS.items() if any(point["task"] == number for point in points)]
        content.draw("cost_accuracy", "Accuracy against cost. Circles: task 1, squares: others. MACs and KB of a run "
                     "are known if its weights are still there; otherwise its parameters are those it trained with. "
                     "Dotted: the mIoU asked for.", models.plot_costs, points, [task.miou for task in tasks])
    if scored or costs:
        parts = tables.cost_table(scored, costs, runs), tables.changed_since(scored, runs)
        content.texts["costs"] = "\n\n".join(part for part in parts if part)
    if len(scored) == 2:
        one, two = (model.metric.iou() for model in scored)
        caption = "IoU of each category, both networks."
        if not np.isnan(two - one).all():
            most = int(np.nanargmax(np.abs(two - one)))
            caption += f" They differ most in {CATEGORIES[most]}: {(two - one)[most]:+.4f} from task 1 to task 2."
        content.draw("iou_models", caption, curves.plot_ious, {scored[0].name: one, scored[1].name: two})


def _add_confusion(content: Content, end: str, metric: ConfusionMatrix, of: str) -> None:
    recall = metric.class_accuracy()
    worst = int(np.nanargmin(recall))
    row = metric.counts[worst] / metric.counts[worst].sum()
    row[worst] = 0
    content.draw(f"confusion_{end}", f"Confusion matrix of {of}: accuracy {metric.accuracy():.4f}, mIoU "
                 f"{metric.miou():.4f}. The class found least is {CATEGORIES[worst]}: {recall[worst]:.1%} of its "
                 f"pixels are right, {row.max():.1%} are taken for {CATEGORIES[int(row.argmax())]}.",
                 plot_confusion, metric)


def _richest(shares: np.ndarray) -> list[int]:
    """Two images that show many classes, one from each half of the split."""
    seen = (shares >= data.VISIBLE).sum(1)
    half = max(len(seen) // 2, 1)
    return [int(seen[:half].argmax()), *([half + int(seen[half:].argmax())] if len(seen) > half else [])]


def _lowest(name: str, iou: list[float]) -> str:
    worst = int(np.nanargmin(iou))
    return f"{name} is weakest on {CATEGORIES[worst]} ({iou[worst]:.4f})."
