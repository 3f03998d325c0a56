"""Gathers, draws and writes a report: the figures as PNG and SVG, and report.md around them."""
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import torch
from matplotlib.figure import Figure
from tqdm import tqdm

from dataset.batches import Batches, open_evaluation
from dataset.dataset import SegmentationDataset
from dataset.reader import find_data
from figures.report.content import Content, add_costs, add_data, add_images, add_model, add_runs
from figures.report.folder import check_folder, renewing
from figures.report.gather import Scored, costs_of_runs, find_runs, load, name_runs, score, score_baseline
from figures.report.outline import OUTLINE, write_outline
from figures.report.tables import class_figures
from utils.lab import RUNS, TASKS
from utils.machine import keep_memory
from utils.terminal import bar_stream

DPI = 200
STYLE = {"svg.hashsalt": "figures.report", "font.size": 10}  # the same figures give the same files


def make_report(out: Path, device: torch.device, data: str | None = None, folder: Path | None = None,
                names: Sequence[str] | None = None, weights: dict[int, Path | None] | None = None,
                network_files: dict[int, Path] | None = None, dpi: int = DPI) -> list[str]:
    """Writes the folder `out` and returns a line for everything that is left out.

    names: the runs, paths below `folder`; None: all of them. weights, network_files: by the task's number; the default
    is the task's own, which may be missing. Raises LabError for bad input, before anything is drawn.
    """
    check_folder(out)
    source = find_data(data)
    source.require_lab_classes()
    if device.type == "cpu":
        keep_memory()
    runs, notes = find_runs(folder, names)
    files = {number: (network_files or {}).get(number) or task.network_file for number, task in TASKS.items()}
    networks = _load_all(weights or {}, files, notes)
    train, content = Batches(SegmentationDataset(source, "train"), 1), Content()
    scored: list[Scored] = []
    if networks:
        batches, where = open_evaluation(source, None, device)
        scored = [score(TASKS[number], files[number], path, model, batches, device)
                  for number, (path, model) in networks.items()]
        baseline = class_figures("class frequency", *score_baseline(train.dataset.arrays[1], batches, device))
    name_runs(scored, runs, folder or RUNS)
    add_data(content, train, runs)
    costs = costs_of_runs(runs, folder or RUNS, files)
    for number in (*TASKS, None):
        add_runs(content, [run for run in runs if run.task == number], number, costs)
    for one in scored:
        add_model(content, one, where, baseline)
    if scored:
        add_images(content, scored, batches)
    add_costs(content, scored, runs, costs)
    with renewing(out) as (temporary, kept):
        text = _draw(content, temporary, dpi)
        (temporary / "report.md").write_text(write_outline(text, notes), encoding="utf-8")
    for name in kept:
        print(f"kept as you left it: {out / name}", file=sys.stderr)
    return notes


def _load_all(weights: dict[int, Path | None], files: dict[int, Path], notes: list[str]
              ) -> dict[int, tuple[Path, torch.nn.Module]]:
    """The networks that exist, by the task's number, with the paths of their weights; a note for each that does not."""
    networks = {}
    for number, task in TASKS.items():
        path = weights.get(number) or Path(task.model_file)
        if weights.get(number) or path.is_file():
            networks[number] = path, load(files[number], path)
        else:
            notes.append(f"task {number}'s network (drawing, costs, panels, errors): no {path}: train it with "
                         f"{task.notebook}, or pass --task{number} FILE")
    return networks


def _draw(content: Content, folder: Path, dpi: int) -> dict[str, str]:
    """Draws and saves every figure, with a bar, numbered in the outline's order; returns the Markdown of all parts."""
    order = [key for section in OUTLINE for key in section.content if key in content.figures]
    text = dict(content.texts)
    with matplotlib.rc_context(STYLE), tqdm(order, "drawing", unit="figure", file=bar_stream()) as bar:
        for number, key in enumerate(bar, 1):
            bar.set_postfix_str(key)
            figure = content.figures[key]
            save(figure.draw(), folder / key, dpi)
            text[key] = f"![Figure {number}: {key.replace('_', ' ')}]({key}.png)\n\nFigure {number}: {figure.caption}"
    return text


def save(figure: Figure, path: Path, dpi: int) -> None:
    """Writes `path`.png and `path`.svg."""
    figure.savefig(path.with_name(f"{path.name}.png"), dpi=dpi)
    figure.set_layout_engine("none")  # everything has its place by now
    figure.savefig(path.with_name(f"{path.name}.svg"), metadata={"Date": None})
