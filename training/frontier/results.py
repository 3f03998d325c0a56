"""What the runs came to: means and spreads over the seeds, a recommendation, the levers, and the files of all that."""
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from figures.frontier import plot_frontier
from utils.complexity import figure_of_merit
from utils.evaluation import load_model
from utils.files import replacing
from utils.lab import TASKS, LabError
from utils.tables import markdown
from utils.timing import time_network

GATE = TASKS[2].miou
FIGURES = ("row", "seed", "flops", "size_kb", "miou", "last_miou", "settings")
PASSES = 20  # that a network's time is the median of


@dataclass(frozen=True)
class Result:
    """One row of the table: the results of all its seeds, as result.json holds them, and where these lie."""

    name: str
    runs: tuple[dict, ...]
    folders: tuple[Path, ...]

    @property
    def miou(self) -> float:
        return statistics.mean(run["miou"] for run in self.runs)

    @property
    def spread(self) -> float | None:
        """The seeds' standard deviation; None of a single one."""
        return statistics.stdev(run["miou"] for run in self.runs) if len(self.runs) > 1 else None

    @property
    def last(self) -> float:
        return statistics.mean(run["last_miou"] for run in self.runs)

    @property
    def macs(self) -> int:
        return self.runs[0]["flops"]

    @property
    def kb(self) -> float:
        return self.runs[0]["size_kb"]

    @property
    def fom(self) -> float | None:
        """The FoM at the mean mIoU; None below the gate."""
        return figure_of_merit(self.macs, self.kb, self.miou)

    @property
    def best_fom(self) -> float | None:
        return figure_of_merit(self.macs, self.kb, max(run["miou"] for run in self.runs))

    @property
    def lever(self) -> str | None:
        return self.runs[0].get("lever")

    @property
    def base(self) -> str | None:
        return self.runs[0].get("base")


def read_results(folder: Path) -> list[Result]:
    """All finished runs in `folder`, the rows by falling costs. Raises LabError if there is none, or a damaged one."""
    found: dict[str, list[tuple[dict, Path]]] = {}
    for path in sorted(folder.glob("*/seed-*/result.json")):
        if not path.parent.name.removeprefix("seed-").isdecimal():  # seed-1.previous
            continue
        try:
            run = json.loads(path.read_text(encoding="utf-8"))
            found.setdefault(str(run["row"]), []).append((run, path.parent))
            missing = [name for name in FIGURES if run.get(name) is None]
        except (OSError, ValueError, TypeError, KeyError):
            missing = FIGURES
        if missing:
            raise LabError(f"expected the figures of a run, found no {missing[0]} in {path}: delete it and call the "
                           "command that trained it again")
    if not found:
        raise LabError(f"expected finished runs in {folder}, found none: python -m training.frontier train first, or "
                       "pass --folder")
    results = []
    for name, runs in found.items():
        runs.sort(key=lambda item: item[0]["seed"])
        results.append(Result(name, tuple(run for run, _ in runs), tuple(place for _, place in runs)))
    return sorted(results, key=lambda result: -result.macs * result.kb)


def show(folder: Path) -> str:
    """The table, the recommendation and the levers as text; writes it as table.md with frontier.png and .svg."""
    results = read_results(folder)
    rungs = [result for result in results if result.lever is None]
    parts = [table_of(results_rows(rungs)), recommend(rungs)] if rungs else []
    parts += lever_tables(results)
    parts += notes(results)
    text = "\n\n".join(parts)
    with replacing(folder / "table.md") as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    if rungs:
        figure = plot_frontier([{"name": result.name, "macs": result.macs, "kb": result.kb, "miou": result.miou,
                                 "spread": result.spread} for result in rungs])
        for kind in ("png", "svg"):
            with replacing(folder / f"frontier.{kind}") as temporary:
                figure.savefig(temporary, format=kind, dpi=150)
    return text


def results_rows(rungs: Sequence[Result]) -> list[list[str]]:
    """The main table's cells, the heading first."""
    rows = [["rung", "seeds", "MACs", "KB", "mIoU", "spread", "last epoch", "FoM of the mean", "FoM of the best seed",
             "CPU ms a picture"]]
    for result in rungs:
        rows.append([result.name, str(len(result.runs)), f"{result.macs:,}", f"{result.kb:.3f}", f"{result.miou:.4f}",
                     _number(result.spread, ".4f"), f"{result.last:.4f}", _number(result.fom, ".3e", "unranked"),
                     _number(result.best_fom, ".3e", "unranked"), _number(milliseconds(result), ".2f")])
    return rows


def table_of(rows: list[list[str]]) -> str:
    return (f"{markdown(rows)}\n\nmIoU: of the weights as they are handed in (the best epoch's, calibrated), the "
            "mean of the seeds; spread: their standard deviation;\nlast epoch: before calibration; CPU ms: one thread, "
            f"one picture, median of {PASSES}")


def recommend(rungs: Sequence[Result]) -> str:
    """One line: the smallest FoM among the rungs that pass the gate with a margin of one spread."""
    margin = f"mIoU minus one spread, so that about five seeds in six pass {GATE}"
    sure = [result for result in rungs if result.spread is not None]
    if not sure:
        return f"No recommendation: it needs {margin}, and a spread needs two seeds or more."
    passing = [result for result in sure if result.miou - result.spread >= GATE]
    if not passing:
        near = max(sure, key=lambda result: result.miou - result.spread)
        return (f"No recommendation: no rung keeps {GATE} by its {margin}; {near.name} comes nearest with "
                f"{near.miou:.4f} - {near.spread:.4f} = {near.miou - near.spread:.4f}.")
    best = min(passing, key=lambda result: result.fom)
    return (f"Recommended: {best.name}, the smallest FoM, {best.fom:.3e}, of the rungs that keep {GATE} given the "
            f"margin ({margin}): {best.miou:.4f} - {best.spread:.4f} = {best.miou - best.spread:.4f}.")


def lever_tables(results: Sequence[Result]) -> list[str]:
    """For each rung with levers a table of what each changes, in points of mIoU against the recipe's own row."""
    named = {result.name: result for result in results}
    texts = []
    for base in dict.fromkeys(result.base for result in results if result.lever is not None):
        recipe = named.get(base)
        rows = [[f"lever of {base}", "seeds", "mIoU", "spread", "points", "+-"]]
        for result in [*([recipe] if recipe else []), *(other for other in results if other.base == base)]:
            own = ["", ""] if result is recipe else _difference(result, recipe)
            rows.append([result.lever or "recipe", str(len(result.runs)), f"{result.miou:.4f}",
                         _number(result.spread, ".4f"), *own])
        texts.append(f"{markdown(rows)}\n\npoints: of mIoU more (+) or less (-) than the recipe with all its "
                     "methods as they are; +-: the standard error of that difference, for it to be compared with")
    return texts


def notes(results: Sequence[Result]) -> list[str]:
    """A line for each row whose runs may not be compared: with each other, or with their recipe."""
    named, lines = {result.name: result for result in results}, []
    for result in results:
        first = result.runs[0]
        others = [(run, set()) for run in result.runs[1:]]
        if result.lever is not None and result.base in named:
            others.append((named[result.base].runs[0], set(first.get("changes", {}))))
        for run, allowed in others:
            differing = [name for name in {**first["settings"], **run["settings"]} if name not in {"SEED", *allowed}
                         and first["settings"].get(name) != run["settings"].get(name)]
            differing += [name for name in ("data", "flops", "size_kb") if first.get(name) != run.get(name)]
            if differing:
                lines.append(f"Note: {result.name} seed {first['seed']} and {run['row']} seed {run['seed']} differ in "
                             f"{', '.join(differing)}: train them again for a fair comparison.")
    return lines


def milliseconds(result: Result) -> float | None:
    """What one picture takes with one thread on this CPU; None, and a line, if the weights cannot be loaded."""
    path = result.folders[0] / TASKS[2].model_file
    try:
        return time_network(load_model(TASKS[2].network_file, path), passes=PASSES)
    except LabError as error:
        print(f"note: {result.name} is not timed: {error}", file=sys.stderr)
        return None


def _difference(result: Result, recipe: Result | None) -> list[str]:
    if recipe is None:
        return ["-", "-"]
    points = f"{100 * (result.miou - recipe.miou):+.2f}"
    if result.spread is None or recipe.spread is None:
        return [points, "-"]
    error = (result.spread**2 / len(result.runs) + recipe.spread**2 / len(recipe.runs)) ** 0.5
    return [points, f"{100 * error:.2f}"]


def _number(value: float | None, form: str, none: str = "-") -> str:
    return none if value is None else format(value, form)
