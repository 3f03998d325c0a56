"""Trains the network of gallery/instances.py, scores it, and draws what it found: python -m gallery instances."""
import sys
import time
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from dataset.reader import find_data
from figures.images import image_grid
from gallery.instance_scores import InstanceScores
from gallery.instances import (
    IGNORED,
    LEVELS,
    InstanceSet,
    WatershedUNet,
    colors_of,
    energy_of,
    find_instances,
    find_regions,
    predict_logits,
    train_watershed,
    true_masks,
)
from training.runs import save_weights
from utils.files import replacing
from utils.lab import LabError
from utils.tables import markdown

WAYS = {"regions of things": find_regions, "watershed of the energy": find_instances}


def run(root: str | None, folder: Path, epochs: int, width: int, seed: int) -> int:
    """The command: weights, table and figure go to `folder`. Raises LabError for data without instances."""
    data = find_data(root)
    known, seen = InstanceSet(data, "train"), InstanceSet(data, data.scored_split)
    if not known.instances.any():
        raise LabError(f"expected instances in the images of train, found none in {data}: is it the whole data set?")
    torch.manual_seed(seed)
    network = WatershedUNet(width)
    begin = time.perf_counter()
    losses = train_watershed(network, known, epochs, seed=seed)
    minutes = (time.perf_counter() - begin) / 60
    print(f"{epochs} epochs in {minutes:.1f} min, loss {losses[0]:.3f} to {losses[-1]:.3f}", file=sys.stderr)
    logits = predict_logits(network, seen)
    print(table(logits, seen))
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(network, folder / "instances.pth")
    with replacing(folder / "instances.png") as temporary:
        draw(logits, seen).savefig(temporary, format="png", dpi=100)
    print(f"written: instances.pth and instances.png in {folder}", file=sys.stderr)
    return 0


def table(logits: torch.Tensor, data: InstanceSet) -> str:
    """AP of each way to make instances of the logits, in Markdown, with how many were found and how many there are."""
    rows = [["instances by", "found", "true", "AP at 0.5", "AP at 0.5:0.95"]]
    truth = [true_masks(instances) for instances in data.instances]
    for name, find in WAYS.items():
        scores, found = InstanceScores(), [find(one) for one in logits]
        for one, masks in zip(found, truth, strict=True):
            scores.update(one, masks)
        rows.append([name, str(sum(len(one.masks) for one in found)), str(sum(map(len, truth))),
                     f"{scores.average_precision():.3f}", f"{scores.mean():.3f}"])
    return markdown(rows)


def draw(logits: torch.Tensor, data: InstanceSet, most: int = 4) -> Figure:
    """Image, true instances, true and predicted energy, and what the watershed made of it: those with the most things.
    """
    counts = [len(np.unique(instances)) for instances in data.instances]
    rows = []
    for number in np.argsort(counts, kind="stable")[::-1][:most]:
        truth, energy = true_masks(data.instances[number]), energy_of(data.instances[number])
        chances = logits[number, :2].softmax(0)[1].numpy()
        expected = logits[number, 2:].softmax(0).argmax(0).numpy()
        rows.append([data.images[number], colors_of(truth, energy.shape),
                     gray(energy, energy != IGNORED), gray(expected, chances > 0.5),
                     colors_of(find_instances(logits[number]).masks, energy.shape)])
    return image_grid(rows, ("image", "instances", "their energy", "predicted energy", "found instances"), width=15)[0]


def gray(energy: np.ndarray, things: np.ndarray) -> np.ndarray:
    """Levels as gray, brighter where deeper: uint8 (H, W, 3); black where nothing is."""
    shade = np.where(things, 60 + energy * (195 // (LEVELS - 1)), 0).astype(np.uint8)
    return np.repeat(shade[..., None], 3, 2)
