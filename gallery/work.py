"""Trains networks of the gallery with task 1's notebook, one recipe for all, and shows what they cost and reach."""
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from tqdm import tqdm

from dataset.batches import Batches
from dataset.dataset import SegmentationDataset
from dataset.reader import find_data
from figures.images import add_legend, colorize_all, denormalize, image_grid
from figures.report.baseline import ClassFrequency
from frontier.jobs import Job, all_settings, make_job, read_result
from gallery.catalog import BASELINE, CATALOG, FREQUENCY, find, shrink
from gallery.measure import MeasuredCost, measure
from training.networks import import_module, named_network, parse_name
from training.runs import save_weights
from training.settings import check_settings
from utils.evaluation import evaluate_images, load_model, predict, student_code
from utils.files import replacing, write_json
from utils.further_metrics import AveragePrecision
from utils.lab import INPUT_SIZE, ROOT, TASKS, LabError
from utils.machine import pick_device
from utils.metric import ConfusionMatrix
from utils.run_records import as_text
from utils.tables import markdown
from utils.terminal import bar_stream

TASK = TASKS[1]
OWN = ("NETWORK", "WIDTH", "RUN", "MODEL", "RESUME")   # what each run gets from here, or from its name
NEEDED = (*OWN, "EPOCHS", "DATA", "SEED")
NARROW = 8                                     # the divisor of the widths with which a receptive field is measured
SHOWN = 3                                      # images in predictions.png


class GalleryRow(NamedTuple):
    """A network of the table: its name, what NETWORK takes, and the folder of its run."""

    name: str
    network: str
    folder: Path


def rows_of(names: Sequence[str], divisor: int, folder: Path) -> list[GalleryRow]:
    """The rows for `names` (none: the whole catalog), large networks with a `divisor`-th of the paper's widths.

    "unet/8" has a divisor of its own. Raises LabError for a name that is no network, or one with nothing to divide.
    """
    rows: dict[Path, GalleryRow] = {}
    for text in dict.fromkeys(names or CATALOG):
        short, slash, own = text.partition("/") if ":" not in text else (text, "", "")
        if slash and not (own.isdecimal() and int(own)):
            raise LabError(f"expected a whole number behind the slash, as in unet/8, found {text!r}")
        name, network = find(short)
        smaller = shrink(network, int(own or divisor))
        if smaller == network and int(own or 1) > 1:
            raise LabError(f"expected a network with a width to divide by {own}, found {short}, which its paper makes "
                           f"that small: write {short}")
        if smaller != network:
            name += f"/{own or divisor}"
        row = GalleryRow(name, smaller, folder.resolve() / name.replace("/", "-"))
        if smaller not in [other.network for other in rows.values()]:  # once each, by whatever name
            rows.setdefault(row.folder, row)
    return list(rows.values())


def recipe_of(given: dict) -> dict:
    """The notebook's settings with those `given`, DATA as a whole path. Raises LabError for wrong ones or no data."""
    recipe = all_settings(ROOT / TASK.notebook, given, NEEDED, OWN)
    check_settings(recipe)
    return {**recipe, "DATA": str(find_data(recipe["DATA"]).root.resolve())}


def make_jobs(rows: Sequence[GalleryRow], given: dict, recipe: dict) -> list[Job]:
    """A run of the `recipe` for each row but the baseline's. Raises LabError for a row that is no network."""
    root = recipe["DATA"]
    data = SegmentationDataset(root, "train", cache=False)
    jobs = []
    for row in rows:
        if row.name != FREQUENCY:
            network = named_network(row.network, num_classes=len(data.classes)).network
            asked = {"data": data.fingerprint, "parameters": sum(part.numel() for part in network.parameters())}
            jobs.append(make_job(row.name, TASK, row.folder, {**given, "NETWORK": row.network, "DATA": root}, recipe,
                                 asked, {"network": row.network, "root": root}))
    return jobs


def finished_rows(folder: Path) -> list[GalleryRow]:
    """A row for each network that was trained in `folder`, by the name of its run's folder."""
    found = [(path.parent, read_result(path.parent)) for path in sorted(folder.resolve().glob("*/result.json"))]
    return [GalleryRow(place.name, result["network"], place) for place, result in found
            if "network" in result and not place.name.endswith(".previous")]


def count_frequencies(folder: Path, root: str) -> None:
    """Counts the baseline on the training images, scores it on the validation images, and leaves both in `folder`."""
    train_set = SegmentationDataset(root, "train")
    network = ClassFrequency.from_targets(train_set.arrays[1], len(train_set.classes))
    scores = _score(network, SegmentationDataset(root, "val"), FREQUENCY)
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(network, folder / TASK.model_file)
    write_json(folder / "result.json", {"network": BASELINE, "root": root, "data": train_set.fingerprint, "epochs": 0,
                                        "training_seconds": 0, **scores})
    print(f"{FREQUENCY}: mIoU {scores['miou']:.4f}, nothing trained", file=sys.stderr)


def score_classes(rows: Sequence[GalleryRow], root: str, device: str = "auto") -> None:
    """Adds IoU and average precision of each class to the results that do not have them yet."""
    val_set = SegmentationDataset(root, "val")
    for row, result in trained(rows, root):
        if "classes" not in result:
            network = _load(row).to(pick_device(device))
            write_json(row.folder / "result.json",
                       {**result, "classes": _score(network, val_set, row.name, device)["classes"]})


def trained(rows: Sequence[GalleryRow], root: str) -> list[tuple[GalleryRow, dict]]:
    """The rows with weights that were trained on the data in `root`, each with its result."""
    data = SegmentationDataset(root, "train", cache=False).fingerprint
    found = [(row, read_result(row.folder)) for row in rows if (row.folder / TASK.model_file).is_file()]
    return [(row, result) for row, result in found if result.get("data") == data]


def _score(network: nn.Module, val_set: SegmentationDataset, name: str, device: str = "cpu") -> dict:
    """The mIoU, and by class (IoU, average precision), None for a class that does not occur."""
    number = len(val_set.classes)
    precision = AveragePrecision(num_classes=number)
    matrices = evaluate_images(network, Batches(val_set, 4, pick_device(device)), name, f"scoring {name}", number,
                               ranked=[precision])
    metric = sum(matrices, ConfusionMatrix(number))
    pairs = zip(metric.iou().tolist(), precision.average_precision().tolist(), strict=True)
    known = [[None if value != value else value for value in pair] for pair in pairs]  # JSON has no NaN
    return {"miou": metric.miou(), "classes": dict(zip(val_set.classes.names, known, strict=True))}


def _load(row: GalleryRow) -> nn.Module:
    module = import_module(parse_name(row.network)[0], row.network)
    return load_model(Path(module.__file__), row.folder / TASK.model_file)


def show(rows: Sequence[GalleryRow], num_classes: int) -> str:
    """The tables as text: what each network costs, and what it reaches if its folder holds a finished run."""
    cells = [["network", "parameters", "KB", "MACs by thop", "MACs executed", "sees, rows x columns",
              "CPU ms an image", "mIoU", "mean AP", "on", "epochs", "minutes", "what it shows"]]
    results = {}
    for row in tqdm(rows, "measuring", unit="network", file=bar_stream(), leave=False):
        network, narrow = (_make(row.name, name, num_classes) for name in (row.network, shrink(row.network, NARROW)))
        with student_code(f"a network that can be measured, {row.name}"):
            cost, result = measure(network, narrow), read_result(row.folder)
        known = CATALOG.get(row.name.partition("/")[0])
        cells.append([row.name, f"{cost.parameters:,}", f"{cost.kb:,.1f}", f"{cost.thop:,}", f"{cost.dispatched:,}",
                      _field(cost), f"{cost.milliseconds:.1f}", *_outcome(result),
                      "; ".join(part for part in (known.shows, known.paper) if part) if known else row.network])
        results[row.name] = result.get("classes") or {}
    return (f"{markdown(cells)}\n\nMACs for one image of 256 x 512; sees: the input pixels that one output "
            "depends on, \"all\" if that is the whole image;\nCPU ms: one thread, one image, median of 5; "
            "mIoU: of the best epoch on the validation images;\nAP: average precision, the area under the "
            "precision-recall curve of one class against the rest over all pixels" + _class_table(results))


def _class_table(results: dict[str, dict]) -> str:
    """IoU and average precision of each class for the networks that have them; nothing if none has."""
    names = next((list(classes) for classes in results.values() if classes), [])
    rows = [[network, *(" / ".join(as_text(value, ".4f") for value in classes[name]) for name in names)]
            for network, classes in results.items() if list(classes) == names]
    return "\n\nIoU / AP of each class:\n\n" + markdown([["network", *names], *rows]) if names else ""


def _make(row: str, network: str, num_classes: int) -> nn.Module:
    if row == FREQUENCY:
        return ClassFrequency(num_classes=num_classes)
    return named_network(network, num_classes=num_classes).network


def _field(cost: MeasuredCost) -> str:
    if cost.field == (0, 0):
        return "nothing"
    return " x ".join("all" if seen == side else str(seen) for seen, side in zip(cost.field, INPUT_SIZE, strict=True))


def _outcome(result: dict) -> list[str]:
    """mIoU, mean AP, data, epochs and minutes of a run, empty without one."""
    try:
        precisions = [pair[1] for pair in result.get("classes", {}).values() if pair[1] is not None]
        return [f"{result['miou']:.4f}", f"{sum(precisions) / len(precisions):.4f}" if precisions else "",
                Path(result["root"]).name, str(result["epochs"]), f"{result['training_seconds'] / 60:.1f}"]
    except (KeyError, TypeError, ValueError):
        return [""] * 5


def draw_predictions(rows: Sequence[GalleryRow], root: str, path: Path) -> bool:
    """Draws validation images, labels and the predictions of the networks trained there; False if there is none."""
    shown = trained(rows, root)
    if not shown:
        return False
    val_set = SegmentationDataset(root, "val")
    chosen = torch.linspace(0, len(val_set) - 1, min(SHOWN, len(val_set))).long()
    data, target = Batches(val_set, len(chosen)).take(chosen)
    lines = {"image": list(denormalize(data)), "label": colorize_all(target, val_set.classes)}
    for row, result in shown:
        pred = predict(_load(row), data, row.name, num_classes=len(val_set.classes))
        lines[f"{row.name}, {result['miou']:.3f}"] = colorize_all(pred, val_set.classes)
    figure, _ = image_grid(list(lines.values()), names=list(lines))
    add_legend(figure, val_set.classes)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    return True
