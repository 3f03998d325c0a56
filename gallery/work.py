"""Trains networks of the gallery with task 1's notebook, one recipe for all, and gathers what they came to."""
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from tqdm import tqdm

from dataset.batches import Batches
from dataset.dataset import SegmentationDataset
from dataset.reader import find_data
from figures.answers import show_answers
from gallery.catalogue import BASELINE, CATALOGUE, FREQUENCY, find, shrink
from gallery.frequency import ClassFrequency
from gallery.measure import Cost, measure
from training.jobs import Job, all_settings, make_job, read_result
from training.networks import import_module, named_network, parse_name
from training.runs import check_settings, save_weights
from utils.evaluation import evaluate, load_model, predict, student_code
from utils.files import replacing, write_json
from utils.lab import INPUT_SIZE, ROOT, TASKS, LabError
from utils.tables import markdown
from utils.terminal import bar_stream

TASK = TASKS[1]
OWN = ("NETWORK", "WIDTH", "RUN", "MODEL", "RESUME")   # what each run gets from here, or its name says
NEEDED = (*OWN, "EPOCHS", "DATA", "SEED")
NARROW = 8                                     # the divisor of the widths at which a view is measured
SHOWN = 3                                      # pictures in predictions.png


class Row(NamedTuple):
    """A network of the table: its name, what NETWORK takes, and the folder of its run."""

    name: str
    network: str
    folder: Path


def rows_of(names: Sequence[str], divisor: int, folder: Path) -> list[Row]:
    """The rows for `names` (none: the whole catalogue), large networks with a `divisor`-th of the paper's widths.

    "unet/8" has a divisor of its own. Raises LabError for a name that is no network, or one with nothing to divide.
    """
    rows: dict[Path, Row] = {}
    for text in dict.fromkeys(names or CATALOGUE):
        short, slash, own = text.partition("/") if ":" not in text else (text, "", "")
        if slash and not (own.isdecimal() and int(own)):
            raise LabError(f"expected a whole number behind the stroke, as in unet/8, found {text!r}")
        name, network = find(short)
        smaller = shrink(network, int(own or divisor))
        if smaller == network and int(own or 1) > 1:
            raise LabError(f"expected a network with a width to divide by {own}, found {short}, which its paper makes "
                           f"that small: write {short}")
        if smaller != network:
            name += f"/{own or divisor}"
        row = Row(name, smaller, folder.resolve() / name.replace("/", "-"))
        if smaller not in [other.network for other in rows.values()]:  # once each, whatever it is called
            rows.setdefault(row.folder, row)
    return list(rows.values())


def recipe_of(given: dict) -> dict:
    """The notebook's settings with those `given`, DATA the folder itself. Raises LabError for wrong ones, no data."""
    recipe = all_settings(ROOT / TASK.notebook, given, NEEDED, OWN)
    check_settings(recipe)
    return {**recipe, "DATA": str(find_data(recipe["DATA"]).resolve())}


def make_jobs(rows: Sequence[Row], given: dict, recipe: dict) -> list[Job]:
    """A run for each row but the baseline's, with what recipe_of says. Raises LabError for what is no network."""
    root = recipe["DATA"]
    data = SegmentationDataset(root, "train", cache=False)
    made = []
    for row in rows:
        if row.network != BASELINE:
            network = named_network(row.network, num_classes=len(data.classes)).network
            asked = {"data": data.fingerprint, "parameters": sum(part.numel() for part in network.parameters())}
            made.append(make_job(row.name, TASK, row.folder, {**given, "NETWORK": row.network, "DATA": root}, recipe,
                                 asked, {"network": row.network, "root": root}, scored=False))
    return made


def finished_rows(folder: Path) -> list[Row]:
    """A row for each network that was trained in `folder`, by the name of its run's folder."""
    found = [(path.parent, read_result(path.parent)) for path in sorted(folder.resolve().glob("*/result.json"))]
    return [Row(place.name, result["network"], place) for place, result in found
            if "network" in result and not place.name.endswith(".previous")]


def count_frequencies(folder: Path, root: str) -> None:
    """The baseline: counted on the training pictures, scored on the validation pictures, left in `folder`."""
    train_set, val_set = SegmentationDataset(root, "train"), SegmentationDataset(root, "val")
    classes = len(train_set.classes)
    network = ClassFrequency.from_targets(train_set.arrays[1], classes)
    metric = evaluate(network, Batches(val_set, 4), FREQUENCY, num_classes=classes)
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(network, folder / TASK.model_file)
    write_json(folder / "result.json", {
        "network": BASELINE, "root": root, "miou": metric.miou(), "epochs": 0,
        "training_seconds": 0, "data": train_set.fingerprint})
    print(f"{FREQUENCY}: mIoU {metric.miou():.4f}, nothing trained", file=sys.stderr)


def show(rows: Sequence[Row], num_classes: int) -> str:
    """The table as text: what each costs, and its mIoU where its folder holds a finished run."""
    cells = [["network", "parameters", "KB", "MACs by thop", "MACs executed", "sees, rows x columns",
              "CPU ms a picture", "mIoU", "on", "epochs", "minutes", "what it shows"]]
    for row in tqdm(rows, "measuring", unit="network", file=bar_stream(), leave=False):
        network, narrow = (_make(name, num_classes) for name in (row.network, shrink(row.network, NARROW)))
        with student_code(f"a network that can be measured, {row.name}"):
            cost, result = measure(network, narrow), read_result(row.folder)
        known = CATALOGUE.get(row.name.partition("/")[0])
        cells.append([row.name, f"{cost.parameters:,}", f"{cost.kb:,.1f}", f"{cost.thop:,}", f"{cost.dispatched:,}",
                      _field(cost), f"{cost.milliseconds:.1f}", *_outcome(result),
                      "; ".join(part for part in (known.shows, known.paper) if part) if known else row.network])
    return (f"{markdown(cells)}\n\nMACs for one picture of 256 x 512; sees: the input pixels that one output "
            "depends on, \"all\" where that is the whole picture;\nCPU ms: one thread, one picture, median of 5; "
            "mIoU: of the best epoch on the validation pictures")


def _make(network: str, num_classes: int) -> torch.nn.Module:
    if network == BASELINE:
        return ClassFrequency(num_classes=num_classes)
    return named_network(network, num_classes=num_classes).network


def _field(cost: Cost) -> str:
    if cost.field == (0, 0):
        return "nothing"
    return " x ".join("all" if seen == side else str(seen) for seen, side in zip(cost.field, INPUT_SIZE, strict=True))


def _outcome(result: dict) -> list[str]:
    try:
        return [f"{result['miou']:.4f}", Path(result["root"]).name, str(result["epochs"]),
                f"{result['training_seconds'] / 60:.1f}"]
    except (KeyError, TypeError, ValueError):
        return ["", "", "", ""]


def draw_predictions(rows: Sequence[Row], path: Path) -> bool:
    """Validation pictures, their labels and each trained network's answers, as a PNG; whether there was one to draw.

    Runs on other data than the first one's are left out.
    """
    trained = [(row, result) for row in rows if (result := read_result(row.folder)).get("data")
               and (row.folder / TASK.model_file).is_file()]
    trained = [(row, result) for row, result in trained if result["data"] == trained[0][1]["data"]]
    if not trained:
        return False
    val_set = SegmentationDataset(trained[0][1]["root"], "val")
    chosen = torch.linspace(0, len(val_set) - 1, min(SHOWN, len(val_set))).long()
    data, target = Batches(val_set, len(chosen)).take(chosen)
    answers = [("label", target)]
    for row, result in trained:
        module = import_module(parse_name(row.network)[0], row.network)
        network = load_model(Path(module.__file__), row.folder / TASK.model_file).eval()
        label = f"{row.name}, {result['miou']:.3f}"
        answers.append((label, predict(network, data, row.name, num_classes=len(val_set.classes))))
    figure = show_answers(data, answers, val_set.classes)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    return True
