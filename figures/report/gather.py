"""What a report is made of: the runs, the networks with their scores and costs, the data. Nothing is drawn here."""
import contextlib
import filecmp
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from dataset.batches import Batches
from figures.report.tracing import Graph, trace
from utils.complexity import Layer, count_size, layer_table, profile_model
from utils.evaluation import check_output, evaluate_images, load_model, student_code
from utils.further_metrics import BoundaryFScore
from utils.lab import NUM_CLASSES, RUNS, LabError, Task
from utils.metric import ConfusionMatrix
from utils.past import Past, is_run, read_run, run_names, unknown_run
from utils.terminal import bar_stream


@dataclass(frozen=True)
class Cost:
    """Multiply-accumulates of one picture, KB of all tensors, number of parameters."""

    macs: int
    kb: float
    parameters: int


@dataclass
class Scored:
    """One network with what it costs, layer by layer, its confusion matrix of each picture, how its boundaries fit.

    `runs` names the runs that left these very weights.
    """

    task: Task
    path: Path
    model: nn.Module
    cost: Cost
    rows: list[Layer]
    graph: Graph
    matrices: list[ConfusionMatrix]
    boundaries: BoundaryFScore = field(default_factory=BoundaryFScore)
    runs: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"task {self.task.number}: {self.path.name}"

    @property
    def metric(self) -> ConfusionMatrix:
        return sum(self.matrices, ConfusionMatrix())


def find_runs(folder: Path | None, names: Sequence[str] | None) -> tuple[list[Past], list[str]]:
    """The runs called `names` (paths below `folder`), or all but the .previous ones; and a line for each left out.

    Runs on other classes than the lab's 8 are left out: no figure of theirs compares with the others'. Raises LabError
    for a name that is no run's, for a damaged run or one of other classes that was named, and for a `folder` without
    runs; of the default folder, which has none yet, a line tells.
    """
    notes: list[str] = []
    where = folder or RUNS
    if names:
        for name in names:
            if not is_run(where / name):
                raise unknown_run(where, name, run_names(where))
        runs = [replace(read_run(where / name), name=name.strip("/")) for name in dict.fromkeys(names)]
        for run in runs:
            if not run.best:
                raise LabError(f"expected a run with a finished epoch, found none in {where / run.name}: wait for one, "
                               "or leave the run out")
            if not run.has_lab_classes:
                raise LabError(f"expected a run on the lab's {NUM_CLASSES} categories, found {_other_classes(run)} in "
                               f"{where / run.name}: leave the run out")
        return runs, notes
    try:
        known = [name for name in run_names(where) if not name.endswith(".previous")]
    except LabError as error:
        if folder:
            raise
        return [], [f"runs and their curves: {error}"]
    runs = []
    for name in known:
        try:
            runs.append(read_run(where / name))
        except LabError as error:
            notes.append(f"the run {name}: {error}")
    notes += [f"the run {run.name}: it learned {_other_classes(run)}, not the lab's {NUM_CLASSES} categories"
              for run in runs if not run.has_lab_classes]
    runs = [run for run in runs if run.has_lab_classes]
    unfinished = [run.name for run in runs if not run.best]
    if unfinished:
        notes.append(f"the run{'s' * (len(unfinished) > 1)} {', '.join(unfinished)}: no epoch is finished yet")
    return [run for run in runs if run.best], notes


def load(network_file: Path, path: Path) -> nn.Module:
    """The network of `path`. Raises LabError for one that does not load or keep the contract."""
    model = load_model(network_file, path)
    check_output(model, str(network_file))
    return model


def score(task: Task, network_file: Path, path: Path, model: nn.Module, batches: Batches, device: torch.device
          ) -> Scored:
    """Counts and scores one network, with a bar. Raises LabError for one that fails on the way."""
    with student_code(f"a network whose work can be counted, {network_file}"):
        profile = profile_model(model)
        rows, graph = layer_table(model, profile=profile), trace(model)
        cost = Cost(profile.flops, count_size(model), sum(parameter.numel() for parameter in model.parameters()))
    boundaries = BoundaryFScore()
    matrices = evaluate_images(model.to(device), batches, str(path), f"scoring task {task.number}",
                               further=[boundaries])
    if not sum(matrices, ConfusionMatrix()).counts.any():
        raise LabError(f"expected labelled pixels to score {path} on, found none: check the data's labels")
    return Scored(task, path, model, cost, rows, graph, matrices, boundaries)


def costs_of_runs(runs: Sequence[Past], folder: Path, network_files: dict[int, Path]) -> dict[str, Cost]:
    """What the runs' networks cost, by the run's name, where the weights are still there and fit the network file."""
    weights, found = weights_of_runs(runs, folder), {}
    for run in tqdm(runs, "costs of the runs", unit="run", file=bar_stream(), leave=False):
        if run.name not in weights:
            continue
        try:
            model = load_model(network_files[run.task], weights[run.name])
            with student_code("a network whose work can be counted"):
                macs = profile_model(model).flops
        except LabError:  # of another version of the network file
            continue
        found[run.name] = Cost(macs, count_size(model), sum(parameter.numel() for parameter in model.parameters()))
    return found


def weights_of_runs(runs: Sequence[Past], folder: Path) -> dict[str, Path]:
    """The weights that are still there, by the run's name, of those runs that tell their task.

    They are the run's own, model_task*.pth in its folder, or else the file that MODEL names, if no other run in
    `folder` was saved to the same after this one.
    """
    known = [*runs]
    with contextlib.suppress(LabError):  # `runs` may lie deeper
        for name in run_names(folder):
            with contextlib.suppress(LabError):  # a damaged run: find_runs has told of it
                known.append(read_run(folder / name))
    found = {}
    for run in runs:
        own, model = folder / run.name / f"model_task{run.task}.pth", run.options.get("MODEL")
        if run.task and own.is_file():
            found[run.name] = own
        elif run.task and isinstance(model, str) and Path(model).is_file() and not any(
                other.options.get("MODEL") == model and _saved(other) > _saved(run) for other in known):
            found[run.name] = Path(model)
    return found


def name_runs(scored: Sequence[Scored], runs: Sequence[Past], folder: Path) -> None:
    """Notes at each network which runs left just these weights: the files are compared."""
    weights = weights_of_runs(runs, folder)
    for one in scored:
        one.runs = [run.name for run in runs if run.task == one.task.number and run.name in weights
                    and filecmp.cmp(weights[run.name], one.path, shallow=False)]


def _other_classes(run: Past) -> str:
    return f"{len(run.class_names)} classes, {run.class_names[0]} to {run.class_names[-1]}"


def _saved(run: Past) -> str:
    """When the last epoch was finished, as sortable text; empty before the first."""
    return max((str(record.get("finished", run.about.get("started", ""))) for record in run.history), default="")
