"""What a report is made of: the runs, and the networks with their scores and costs. Nothing is drawn here."""
import contextlib
import filecmp
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from dataset.batches import Batches
from figures.report.baseline import ClassFrequency
from figures.report.graph import BlockGraph, trace
from utils.complexity import Profile, count_size, profile_model
from utils.evaluation import check_output, evaluate_images, load_model, student_code
from utils.further_metrics import AveragePrecision, BoundaryFScore
from utils.lab import NUM_CLASSES, ROOT, RUNS, LabError, Task
from utils.layer_table import Layer, layer_table
from utils.metric import ConfusionMatrix
from utils.run_records import RunRecord, is_run, read_run, run_names, unknown_run
from utils.terminal import bar_stream


@dataclass(frozen=True)
class NetworkCost:
    """Multiply-accumulates of one image, KB of all tensors, number of parameters."""

    macs: int
    kb: float
    parameters: int


@dataclass
class Scored:
    """One network: its costs, layer by layer, and what it reaches on the validation images.

    `matrices` holds a confusion matrix for each image. `runs` names the runs that left these very weights.
    """

    task: Task
    path: Path
    model: nn.Module
    cost: NetworkCost
    rows: list[Layer]
    graph: BlockGraph | None
    matrices: list[ConfusionMatrix]
    precision: AveragePrecision = field(default_factory=AveragePrecision)
    boundaries: BoundaryFScore = field(default_factory=BoundaryFScore)
    runs: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"task {self.task.number}: {self.path.name}"

    @property
    def metric(self) -> ConfusionMatrix:
        return sum(self.matrices, ConfusionMatrix())


def find_runs(folder: Path | None, names: Sequence[str] | None) -> tuple[list[RunRecord], list[str]]:
    """The runs called `names` (paths below `folder`), or all but the .previous ones, and a line for each left out.

    A run is usable if it has a finished epoch and the lab's 8 classes. Raises LabError for a named run that is not, and
    for a `folder` without runs; if the default folder has none, a line says so.
    """
    where, notes, runs = folder or RUNS, [], []
    try:
        known = names or [name for name in run_names(where) if not name.endswith(".previous")]
    except LabError as error:
        if folder:
            raise
        return [], [f"runs and their curves: {error}"]
    for name in dict.fromkeys(known):
        try:
            runs.append(_usable_run(where, name))
        except LabError as error:
            if names:
                raise
            notes.append(f"the run {name}: {error}")
    return runs, notes


def _usable_run(where: Path, name: str) -> RunRecord:
    if not is_run(where / name):
        raise unknown_run(where, name, run_names(where))
    run = replace(read_run(where / name), name=name.strip("/"))
    if not run.has_lab_classes:
        raise LabError(f"expected a run on the lab's {NUM_CLASSES} categories, found {len(run.class_names)} classes, "
                       f"{run.class_names[0]} to {run.class_names[-1]}, in {where / name}: leave the run out")
    if not run.best:
        raise LabError(f"expected a run with a finished epoch, found none in {where / name}: wait for one, or leave "
                       "the run out")
    return run


def load(network_file: Path, path: Path) -> nn.Module:
    """The network of `path`. Raises LabError if it does not load or keep the contract."""
    model = load_model(network_file, path)
    check_output(model, str(network_file))
    return model


def score(task: Task, network_file: Path, path: Path, model: nn.Module, batches: Batches, device: torch.device
          ) -> Scored:
    """Counts and scores one network, with a bar. Raises LabError if it fails on the way."""
    with student_code(f"a network whose work can be counted, {network_file}"):
        profile = profile_model(model)
        rows, graph = layer_table(model, profile=profile), trace(model)
    scored = Scored(task, path, model, cost_of(model, profile), rows, graph, [])
    scored.matrices = evaluate_images(model.to(device), batches, str(path), f"scoring task {task.number}",
                                      further=[scored.boundaries], ranked=[scored.precision])
    if not scored.metric.counts.any():
        raise LabError(f"expected labeled pixels to score {path} on, found none: check the data's labels")
    return scored


def score_baseline(targets: np.ndarray, batches: Batches, device: torch.device
                   ) -> tuple[ConfusionMatrix, AveragePrecision]:
    """What the class frequencies of the training `targets` (N, H, W) reach on the validation `batches`."""
    precision = AveragePrecision()
    matrices = evaluate_images(ClassFrequency.from_targets(targets).to(device), batches, "the baseline",
                               "scoring the baseline", ranked=[precision])
    return sum(matrices, ConfusionMatrix()), precision


def cost_of(model: nn.Module, profile: Profile | None = None) -> NetworkCost:
    return NetworkCost((profile or profile_model(model)).flops, count_size(model),
                       sum(parameter.numel() for parameter in model.parameters()))


def costs_of_runs(runs: Sequence[RunRecord], folder: Path, network_files: dict[int, Path]) -> dict[str, NetworkCost]:
    """What the runs' networks cost, by the run's name, if the weights are still there and fit the network file."""
    weights, found = weights_of_runs(runs, folder), {}
    for run in tqdm(runs, "costs of the runs", unit="run", file=bar_stream(), leave=False):
        if run.name not in weights:
            continue
        with contextlib.suppress(LabError):  # weights of another version of the network file
            model = load_model(_network_file(run, network_files), weights[run.name])
            with student_code("a network whose work can be counted"):
                found[run.name] = cost_of(model)
    return found


def _network_file(run: RunRecord, network_files: dict[int, Path]) -> Path:
    """The file of NETWORK = "package.module:Class" if the run has that setting, else that of its task."""
    module, colon, _ = str(run.options.get("NETWORK")).partition(":")
    return ROOT / f"{module.replace('.', '/')}.py" if colon else network_files[run.task]


def weights_of_runs(runs: Sequence[RunRecord], folder: Path) -> dict[str, Path]:
    """The weights that are still there, by the run's name, of those runs whose task is known.

    They are model_task*.pth in the run's folder, or else the file that MODEL names, unless another run in `folder` was
    saved to it later.
    """
    known = [*runs]
    with contextlib.suppress(LabError):  # `runs` may lie deeper
        for name in run_names(folder):
            with contextlib.suppress(LabError):  # a damaged run, which find_runs reports
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


def name_runs(scored: Sequence[Scored], runs: Sequence[RunRecord], folder: Path) -> None:
    """Notes at each network which runs left these very weights: the files are compared."""
    weights = weights_of_runs(runs, folder)
    for one in scored:
        one.runs = [run.name for run in runs if run.task == one.task.number and run.name in weights
                    and filecmp.cmp(weights[run.name], one.path, shallow=False)]


def _saved(run: RunRecord) -> str:
    """When the last epoch was finished, as sortable text; empty before the first."""
    return max((str(record.get("finished", run.about.get("started", ""))) for record in run.history), default="")
