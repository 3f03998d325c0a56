"""The report's tables, as Markdown, of what the runs and networks tell: the same figures as in their files."""
import math
from collections.abc import Mapping, Sequence

from figures.report.curves import best_first, gap_of
from figures.report.gather import Cost, Scored
from utils.complexity import figure_of_merit
from utils.labels_cat import CATEGORIES
from utils.past import Past, as_text, settings_side_by_side
from utils.tables import markdown

PLACES = ("DATA", "DEVICE", "MODEL", "RUN")  # where things lie, which changes no result
ROUNDING = 5e-4  # of the mIoU, since training may compute in 16 bits
WIDE = 8  # runs in a table that has a column for each


def runs_table(runs: Sequence[Past]) -> str:
    """The runs, best first: figures of the epoch of the best mIoU."""
    rows = [[run.name, f"{len(run.history)}/{as_text(run.options.get('EPOCHS'))}", _miou(run.best.get("miou")),
             as_text(run.best.get("epoch")), as_text(run.best.get("accuracy"), ".4f"),
             as_text(run.best.get("train_miou"), ".4f"), as_text(gap_of(run), "+.4f"),
             as_text(run.about.get("parameters"), ","), as_text(run.minutes, ".1f")] for run in best_first(runs)]
    head = ["run", "epochs", "best mIoU", "at epoch", "accuracy", "training mIoU", "gap", "parameters", "minutes"]
    return markdown([head, *rows])


def steps_table(runs: Sequence[Past], costs: Mapping[str, Cost]) -> str:
    """What each run changed, compared with the earlier run that it differs least from, and what that brought.

    MACs and KB of a run and their change stand where `costs` has them.
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


def _cost_cells(costs: Mapping[str, Cost], name: str, other: str | None = None) -> list[str]:
    """MACs and KB of a run, each with its change against another's in percent, "-" where they are not known."""
    if name not in costs:
        return ["-", "-"]
    own, before = costs[name], costs.get(other)
    changed = [f" ({new / old - 1:+.0%})" if old else "" for new, old in
               ((own.macs, before and before.macs), (own.kb, before and before.kb))]
    return [f"{own.macs:,}{changed[0]}", f"{own.kb:,.1f}{changed[1]}"]


def changes(before: Past, after: Past) -> list[str]:
    """The settings that differ, as `NAME old to new`, without those that only say where things lie."""
    found = settings_side_by_side([before, after])
    return [f"{key} {old} to {new}" for key, (old, new) in found.items() if key not in PLACES]


def settings_table(runs: Sequence[Past]) -> str:
    """The settings that differ between the best runs, a column each."""
    shown = best_first(runs)[:WIDE]
    rows = settings_side_by_side(shown)
    rows = {key: row for key, row in rows.items() if key not in PLACES}
    if not rows:
        return "No setting differs between the runs."
    return markdown([["setting", *(run.name for run in shown)], *([key, *row] for key, row in rows.items())])


def all_settings(run: Past) -> str:
    """Every setting of one run in one line: NAME value, ..."""
    return ", ".join(f"`{key}` {value}" for key, value in run.settings().items() if key not in PLACES)


def iou_table(ious: Mapping[str, Sequence[float]]) -> str:
    """A row a model: its mean IoU, then that of each category, "-" where it does not occur."""
    rows = []
    for name, values in ious.items():
        known = [value for value in values if not math.isnan(value)]
        mean = sum(known) / len(known) if known else math.nan
        rows.append([name, _miou(mean), *(as_text(value, ".4f") for value in values)])
    return markdown([["", "mean", *CATEGORIES], *rows])


def measures_table(scored: Scored) -> str:
    """What a network reaches by other measures than the mIoU, in a single row."""
    metric = scored.metric
    row = {"mIoU": metric.miou(), "without void": metric.miou_without_void(),
           "frequency-weighted IoU": metric.frequency_weighted_iou(), "pixel accuracy": metric.accuracy(),
           "accuracy without void": metric.accuracy_without_void(), "mean accuracy": metric.mean_accuracy(),
           "boundary F": scored.boundaries.mean()}
    return markdown([list(row), [as_text(value, ".4f") for value in row.values()]], left=0)


def cost_table(models: Sequence[Scored], costs: Mapping[str, Cost], runs: Sequence[Past]) -> str:
    """What networks cost, and what they reach: the two handed in, then the runs whose weights are still there."""
    rows, handed_in = [], {name for model in models for name in model.runs}
    for model in models:
        told = ", ".join(model.runs)
        rows.append(_cost_row(model.name + (f" (run {told})" if told else ""), model.cost, model.metric.miou(),
                              model.task.number))
    for run in best_first(runs):
        if run.name in costs and run.name not in handed_in:
            rows.append(_cost_row(f"run {run.name}", costs[run.name], run.best["miou"], run.task))
    return markdown([["network", "MACs", "KB", "parameters", "mIoU", "FoM (task 2)"], *rows])


def changed_since(models: Sequence[Scored], runs: Sequence[Past]) -> str:
    """A line on each network that scores other than its run noted (by more than training's rounding), or nothing."""
    lines = [f"{model.path.name} scores {model.metric.miou():.4f}, while the run {run.name} noted "
             f"{run.best['miou']:.4f} at its best epoch: its weights were changed after that epoch (calibrated, or "
             "stored in fewer bits), or the run saw other pictures." for model in models for run in runs
             if run.name in model.runs and abs(run.best["miou"] - model.metric.miou()) > ROUNDING]
    return "\n\n".join(lines)


def _cost_row(name: str, cost: Cost, miou: float, task: int | None) -> list[str]:
    fom = figure_of_merit(cost.macs, cost.kb, miou) if task == 2 else None
    return [name, f"{cost.macs:,}", f"{cost.kb:,.3f}", f"{cost.parameters:,}", _miou(miou),
            "" if task != 2 else "unranked" if fom is None else f"{fom:.4e}"]


def _miou(value: object) -> str:
    return as_text(value, ".4f")
