"""The report's tables of runs and networks, as Markdown."""
from collections.abc import Mapping, Sequence

import numpy as np

from figures.report.curves import best_first, gap_of
from figures.report.gather import NetworkCost, Scored
from utils.complexity import figure_of_merit
from utils.further_metrics import AveragePrecision
from utils.labels_cat import CATEGORIES
from utils.metric import ConfusionMatrix, mean_of_present
from utils.run_records import RunRecord, as_text, settings_side_by_side
from utils.tables import markdown

PLACES = ("DATA", "DEVICE", "MODEL", "RUN")  # where things lie, which changes no result
ROUNDING = 5e-4  # of the mIoU, since training may compute in 16 bits
WIDE = 8  # runs in a table that has a column for each


def runs_table(runs: Sequence[RunRecord]) -> str:
    """The runs, best first, with the figures of their best epoch."""
    rows = [[run.name, f"{len(run.history)}/{as_text(run.options.get('EPOCHS'))}", _miou(run.best.get("miou")),
             as_text(run.best.get("epoch")), as_text(run.best.get("accuracy"), ".4f"),
             as_text(run.best.get("train_miou"), ".4f"), as_text(gap_of(run), "+.4f"),
             as_text(run.about.get("parameters"), ","), as_text(run.minutes, ".1f")] for run in best_first(runs)]
    head = ["run", "epochs", "best mIoU", "at epoch", "accuracy", "training mIoU", "gap", "parameters", "minutes"]
    return markdown([head, *rows])


def steps_table(runs: Sequence[RunRecord], costs: Mapping[str, NetworkCost]) -> str:
    """Each run, in the order of their starts, beside the earlier run that it differs least from.

    It shows what differs and what that brought; MACs and KB of a run if `costs` has them.
    """
    order = sorted(runs, key=lambda run: str(run.about.get("started", "")))
    rows = []
    for index, run in enumerate(order):
        if not index:
            rows.append([run.name, "", "the first run", _miou(run.best["miou"]), "", *_cost_cells(costs, run.name)])
            continue
        differences = [changes(other, run) for other in order[:index]]
        nearest = min(range(index), key=lambda one: (len(differences[one]), -one))
        miou, before = run.best["miou"], order[nearest].best["miou"]
        told = "; ".join(differences[nearest]) or "nothing: the same settings again"
        rows.append([run.name, order[nearest].name, told, _miou(miou), f"{miou - before:+.4f}",
                     *_cost_cells(costs, run.name, order[nearest].name)])
    head = ["run", "compared with", "what differs", "best mIoU", "difference", "MACs", "KB"]
    return markdown([row[:7 if costs else 5] for row in (head, *rows)], left=3)


def _cost_cells(costs: Mapping[str, NetworkCost], name: str, other: str | None = None) -> list[str]:
    """MACs and KB of a run, each with its change against another's in percent, "-" if they are not known."""
    if name not in costs:
        return ["-", "-"]
    own, before = costs[name], costs.get(other)
    changed = [f" ({new / old - 1:+.0%})" if old else "" for new, old in
               ((own.macs, before and before.macs), (own.kb, before and before.kb))]
    return [f"{own.macs:,}{changed[0]}", f"{own.kb:,.1f}{changed[1]}"]


def changes(before: RunRecord, after: RunRecord) -> list[str]:
    """The settings that differ, as `NAME old to new`, without those that say where things lie."""
    found = settings_side_by_side([before, after])
    return [f"{key} {old} to {new}" for key, (old, new) in found.items() if key not in PLACES]


def settings_table(runs: Sequence[RunRecord]) -> str:
    """The settings that differ between the best runs, a column each."""
    shown = best_first(runs)[:WIDE]
    rows = [[key, *row] for key, row in settings_side_by_side(shown).items() if key not in PLACES]
    if not rows:
        return "No setting differs between the runs."
    return markdown([["setting", *(run.name for run in shown)], *rows])


def all_settings(run: RunRecord) -> str:
    """Every setting of one run in one line: NAME value, ..."""
    return ", ".join(f"`{key}` {value}" for key, value in run.settings().items() if key not in PLACES)


def class_table(figures: Mapping[str, Sequence[float]]) -> str:
    """A row for each of `figures`: its name, the mean, and the figure of each category, "-" if it does not occur."""
    rows = [[name, *(as_text(value, ".4f") for value in (mean_of_present(np.array(values)), *values))]
            for name, values in figures.items()]
    return markdown([["", "mean", *CATEGORIES], *rows])


def class_figures(name: str, metric: ConfusionMatrix, precision: AveragePrecision) -> dict[str, list[float]]:
    """IoU and average precision of each category, two rows of a `class_table`."""
    return {f"{name}: IoU": metric.iou().tolist(), f"{name}: AP": precision.average_precision().tolist()}


def measures_table(scored: Scored) -> str:
    """What a network reaches by the mIoU and other measures, in a single row."""
    metric = scored.metric
    row = {"mIoU": metric.miou(), "without void": metric.miou_without_void(),
           "frequency-weighted IoU": metric.frequency_weighted_iou(), "pixel accuracy": metric.accuracy(),
           "accuracy without void": metric.accuracy_without_void(), "mean accuracy": metric.mean_accuracy(),
           "mean AP": scored.precision.mean(), "boundary F": scored.boundaries.mean()}
    return markdown([list(row), [as_text(value, ".4f") for value in row.values()]], left=0)


def cost_table(models: Sequence[Scored], costs: Mapping[str, NetworkCost], runs: Sequence[RunRecord]) -> str:
    """What networks cost and reach: the two handed in, then the runs whose weights are still there."""
    rows, handed_in = [], {name for model in models for name in model.runs}
    for model in models:
        told = ", ".join(model.runs)
        rows.append(_cost_row(model.name + (f" (run {told})" if told else ""), model.cost, model.metric.miou(),
                              model.task.number))
    for run in best_first(runs):
        if run.name in costs and run.name not in handed_in:
            rows.append(_cost_row(f"run {run.name}", costs[run.name], run.best["miou"], run.task))
    return markdown([["network", "MACs", "KB", "parameters", "mIoU", "FoM (task 2)"], *rows])


def changed_since(models: Sequence[Scored], runs: Sequence[RunRecord]) -> str:
    """A line on each network whose mIoU is not the one that its run recorded, by more than training's rounding."""
    lines = [f"{model.path.name} scores {model.metric.miou():.4f}, while the run {run.name} recorded "
             f"{run.best['miou']:.4f} at its best epoch: its weights were changed after that epoch (calibrated, or "
             "stored in fewer bits), or the run saw other images." for model in models for run in runs
             if run.name in model.runs and abs(run.best["miou"] - model.metric.miou()) > ROUNDING]
    return "\n\n".join(lines)


def _cost_row(name: str, cost: NetworkCost, miou: float, task: int | None) -> list[str]:
    fom = figure_of_merit(cost.macs, cost.kb, miou) if task == 2 else None
    return [name, f"{cost.macs:,}", f"{cost.kb:,.3f}", f"{cost.parameters:,}", _miou(miou),
            "" if task != 2 else "unranked" if fom is None else f"{fom:.4e}"]


def _miou(value: object) -> str:
    return as_text(value, ".4f")
