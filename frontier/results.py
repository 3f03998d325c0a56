"""The table of finished runs: means and spreads over the seeds, a recommendation, the ablations, and a figure."""
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from frontier.ladder import BLOCKS_FILE, THRESHOLD
from frontier.plot import plot_frontier
from utils.complexity import figure_of_merit
from utils.evaluation import load_model
from utils.files import replacing
from utils.lab import TASKS, LabError
from utils.tables import markdown
from utils.timing import time_network

FIGURES = ("row", "seed", "flops", "size_kb", "miou", "last_miou", "settings")
PASSES = 20  # a network's time is their median


@dataclass(frozen=True)
class Result:
    """One row of the table: the result.json of each seed, and the folders that these lie in."""

    name: str
    runs: Sequence[dict]
    folders: Sequence[Path]
    macs: int
    kb: float
    ablation: str | None
    base: str | None

    @property
    def miou(self) -> float:
        return statistics.mean(run["miou"] for run in self.runs)

    @property
    def spread(self) -> float | None:
        """The seeds' standard deviation; None of a single one."""
        return statistics.stdev(run["miou"] for run in self.runs) if len(self.runs) > 1 else None

    def fom(self, miou: float) -> str:
        """The FoM at this mIoU, or unranked."""
        return _number(figure_of_merit(self.macs, self.kb, miou), ".3e", "unranked")


def read_results(folder: Path) -> list[Result]:
    """All finished runs in `folder`, the most expensive row first. Raises LabError for none, and for a damaged one."""
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
        raise LabError(f"expected finished runs in {folder}, found none: python -m frontier train first, or "
                       "pass --folder")
    results = []
    for name, pairs in found.items():
        runs, folders = zip(*sorted(pairs, key=lambda pair: pair[0]["seed"]), strict=True)
        first = runs[0]
        ablation = first.get("ablation", first.get("lever"))  # its name in older runs
        results.append(Result(name, runs, folders, first["flops"], first["size_kb"], ablation, first.get("base")))
    return sorted(results, key=lambda result: -result.macs * result.kb)


def show(folder: Path) -> str:
    """The tables and the recommendation as text; written as table.md, with frontier.png and frontier.svg beside it."""
    results = read_results(folder)
    rungs = [result for result in results if result.ablation is None]
    parts = [rung_table(rungs), recommend(rungs)] if rungs else []
    text = "\n\n".join(parts + ablation_tables(results) + notes(results))
    with replacing(folder / "table.md") as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    if rungs:
        figure = plot_frontier([{"name": result.name, "macs": result.macs, "kb": result.kb, "miou": result.miou,
                                 "spread": result.spread} for result in rungs])
        for kind in ("png", "svg"):
            with replacing(folder / f"frontier.{kind}") as temporary:
                figure.savefig(temporary, format=kind, dpi=150)
    return text


def rung_table(rungs: Sequence[Result]) -> str:
    """The main table, Markdown, with a legend below it."""
    rows = [["rung", "seeds", "MACs", "KB", "mIoU", "spread", "last epoch", "FoM of the mean", "FoM of the best seed",
             "CPU ms an image"]]
    for result in rungs:
        last = statistics.mean(run["last_miou"] for run in result.runs)
        rows.append([result.name, str(len(result.runs)), f"{result.macs:,}", f"{result.kb:.3f}", f"{result.miou:.4f}",
                     _number(result.spread, ".4f"), f"{last:.4f}", result.fom(result.miou),
                     result.fom(max(run["miou"] for run in result.runs)), _number(milliseconds(result), ".2f")])
    return (f"{markdown(rows)}\n\nmIoU: of the saved weights (best epoch, calibrated), the mean of the seeds; spread: "
            f"their standard deviation;\nlast epoch: before calibration; CPU ms: one thread, one image, median of "
            f"{PASSES}")


def recommend(rungs: Sequence[Result]) -> str:
    """One line: the rung with the smallest FoM of those whose mIoU minus one spread reaches the threshold."""
    sure = [result for result in rungs if result.spread is not None]
    if not sure:
        return "No recommendation: it needs the spread of a rung's mIoU, so two seeds or more."
    passing = [result for result in sure if result.miou - result.spread >= THRESHOLD]
    best = (min(passing, key=lambda result: figure_of_merit(result.macs, result.kb, result.miou)) if passing
            else max(sure, key=lambda result: result.miou - result.spread))
    figures = f"{best.miou:.4f} - {best.spread:.4f} = {best.miou - best.spread:.4f}"
    if not passing:
        return (f"No recommendation: no rung's mIoU minus one spread reaches {THRESHOLD}; {best.name} comes nearest "
                f"with {figures}.")
    return (f"Recommended: {best.name}, the smallest FoM, {best.fom(best.miou)}, of the rungs whose mIoU minus one "
            f"spread reaches {THRESHOLD}, as about five of six seeds then do: {figures}.")


def ablation_tables(results: Sequence[Result]) -> list[str]:
    """For each rung with ablations a table of their mIoU, and the difference from the rung's own recipe."""
    named = {result.name: result for result in results}
    texts = []
    for base in dict.fromkeys(result.base for result in results if result.ablation is not None):
        recipe = named.get(base)
        rows = [[f"ablation of {base}", "seeds", "mIoU", "spread", "points", "+-"]]
        for result in [*([recipe] if recipe else []), *(other for other in results if other.base == base)]:
            difference = ["", ""] if result is recipe else _difference(result, recipe)
            rows.append([result.ablation or "recipe", str(len(result.runs)), f"{result.miou:.4f}",
                         _number(result.spread, ".4f"), *difference])
        texts.append(f"{markdown(rows)}\n\npoints: 100 x the mIoU above (+) or below (-) that of the whole recipe; "
                     "+-: the standard error of this difference")
    return texts


def notes(results: Sequence[Result]) -> list[str]:
    """A line for each run that cannot be compared fairly with the first seed of its row, or a row with its recipe."""
    named, lines = {result.name: result for result in results}, []
    for result in results:
        first = result.runs[0]
        others = [(run, set()) for run in result.runs[1:]]
        if result.ablation is not None and result.base in named:
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
    """The time for one image with one thread on this CPU; None, and a line, if the weights cannot be loaded."""
    network_file = BLOCKS_FILE if result.runs[0]["settings"].get("NETWORK") else TASKS[2].network_file
    try:
        return time_network(load_model(network_file, result.folders[0] / TASKS[2].model_file), passes=PASSES)
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
