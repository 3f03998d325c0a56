"""Instances: targets worked out by hand, the watershed on energies drawn by hand, AP beside Cityscapes' own code."""
from types import SimpleNamespace

import nbformat
import numpy as np
import papermill
import pytest
import torch
from cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling import evaluateMatches
from conftest import ROOT, assert_one_line_error, run_command
from PIL import Image

from dataset.layouts.penn_fudan import PennFudan
from dataset.reader import find_data
from gallery import __main__ as command
from gallery.instance_scores import THRESHOLDS, InstanceScores
from gallery.instances import (
    DISTANCES,
    IGNORED,
    LEVELS,
    Found,
    InstanceSet,
    WatershedUNet,
    energy_of,
    find_instances,
    find_regions,
    train_watershed,
    true_masks,
    watershed_loss,
)


def test_energy_is_the_distance_to_the_own_boundary():
    instances = np.zeros((20, 60), np.int32)
    instances[4:17, 2:22] = 24001   # 13 x 20 pixels, and beside it, touching, 13 x 30
    instances[4:17, 22:52] = 24002
    energy = energy_of(instances)
    assert (energy[instances == 0] == IGNORED).all()
    for left, right in ((2, 22), (22, 52)):
        for row in range(4, 17):
            for column in range(left, right):
                distance = min(row - 3, 17 - row, column - left + 1, right - column)  # of a rectangle, to its outside
                assert energy[row, column] == sum(distance >= edge for edge in DISTANCES), (row, column)


def logits_of(levels, things):
    """Logits that are sure of these levels and things: integers and bool (H, W)."""
    flat = np.concatenate([np.stack([~things, things]), np.arange(LEVELS)[:, None, None] == levels]).astype(np.float32)
    return torch.from_numpy(flat * 40)


def test_the_watershed_parts_what_touches():
    instances = np.zeros((32, 64), np.int32)
    instances[4:28, 4:24], instances[4:28, 24:50], instances[2, 56:60] = 24001, 24002, 24003
    instances[10:12, 54:62] = 24004                   # too thin for a core
    energy = energy_of(instances)
    logits = logits_of(np.maximum(energy, 0), instances > 0)
    found = find_instances(logits)
    wanted = true_masks(instances)
    assert len(wanted) == 3                            # the fourth is below the smallest
    assert len(found.masks) == 3
    for mask in wanted:                                # but for ties where two meet
        assert max((mask & other).sum() / (mask | other).sum() for other in found.masks) > 0.99
    assert len(find_regions(logits).masks) == 2        # without the energy the two that touch are one
    assert (found.scores > 0.99).all()
    nothing = find_instances(logits_of(np.zeros((32, 64), int), np.zeros((32, 64), bool)))
    assert nothing.masks.shape == (0, 32, 64) and len(nothing.scores) == 0


def random_image(random):
    """True rectangles in a grid of cells, and found ones beside them: moved, missing, doubled by halves, invented."""
    truth, found, scores = [], [], []
    for row in range(0, 60, 20):
        for column in range(0, 120, 20):
            mask = np.zeros((60, 120), bool)
            mask[row + 2:row + 18, column + 2:column + 18] = True
            if random.random() < 0.7:
                truth.append(mask)
            if random.random() < 0.7:
                shift = random.integers(0, 6)
                found.append(np.roll(mask, shift, 1) & (np.arange(120) >= column) & (np.arange(120) < column + 20))
                scores.append(round(random.random(), 1))   # some are equal
    empty = np.zeros((0, 60, 120), bool)
    return Found(np.stack(found) if found else empty, np.array(scores)), np.stack(truth) if truth else empty


def official_ap(images):
    """The average precisions of cityscapesscripts, of one class, by threshold."""
    matches = {}
    for number, (found, truth) in enumerate(images):
        true = [{"imgName": number, "instID": 24001 + place, "pixelCount": int(mask.sum()), "medDist": -1,
                 "distConf": 0.0, "matchedPred": []} for place, mask in enumerate(truth)]
        predicted = []
        for mask, score in zip(found.masks, found.scores, strict=True):
            one = {"pixelCount": int(mask.sum()), "confidence": float(score), "voidIntersection": 0, "matchedGt": []}
            for gt, other in zip(true, truth, strict=True):
                both = int((mask & other).sum())
                if both:
                    one["matchedGt"].append(gt | {"intersection": both})
                    gt["matchedPred"].append(one | {"intersection": both})
            predicted.append(one)
        matches[number] = {"groundTruth": {"person": true}, "prediction": {"person": predicted}}
    args = SimpleNamespace(overlaps=np.array(THRESHOLDS), minRegionSizes=[1], distanceThs=[float("inf")],
                           distanceConfs=[-float("inf")], distanceAvailable=False, instLabels=["person"])
    return evaluateMatches(matches, args)[0, 0]


@pytest.mark.parametrize("seed", range(8))
def test_average_precision_is_the_official_one(seed):
    random = np.random.default_rng(seed)
    images = [random_image(random) for _ in range(1 + seed % 4)]
    scores = InstanceScores()
    for found, truth in images:
        scores.update(found, truth)
    wanted = official_ap(images)
    assert [scores.average_precision(threshold) for threshold in THRESHOLDS] == pytest.approx(wanted.tolist())
    assert scores.mean() == pytest.approx(wanted.mean()) and wanted[0] > wanted[-1]


def test_nothing_found_and_nothing_there():
    empty, one = np.zeros((0, 4, 4), bool), np.ones((1, 4, 4), bool)
    scores = InstanceScores()
    scores.update(Found(one, np.ones(1)), empty)
    assert np.isnan(scores.average_precision())
    scores.update(Found(empty, np.zeros(0)), one)
    scores = InstanceScores()
    scores.update(Found(empty, np.zeros(0)), one)
    assert scores.average_precision() == 0


def test_the_sample_has_instances_and_a_network_learns_some(sample):
    data = InstanceSet(find_data(sample), "train")
    assert data.images.shape == (4, 256, 512, 3) and data.instances.dtype == np.int32
    known = set(np.unique(data.instances)) - {0}
    assert known and all(24 <= number // 1000 <= 33 for number in known)
    torch.manual_seed(0)
    losses = train_watershed(WatershedUNet(2), data, epochs=4, batch_size=2)
    assert losses[-1] < losses[0]


def test_the_loss_asks_for_energy_within_things_alone():
    energy = torch.full((1, 4, 4), IGNORED)
    logits = torch.randn(1, 2 + LEVELS, 4, 4, requires_grad=True)
    watershed_loss(logits, energy).backward()
    assert logits.grad[:, 2:].abs().sum() == 0 and logits.grad[:, :2].abs().sum() > 0
    energy[0, 1, 2] = 3
    logits.grad = None
    watershed_loss(logits, energy).backward()
    assert (logits.grad[0, 2:].abs().sum(0) > 0).nonzero().tolist() == [[1, 2]]


def test_penn_fudan_as_it_unpacks(tmp_path):
    root = tmp_path / "PennFudanPed"
    for part in ("PNGImages", "PedMasks"):
        (root / part).mkdir(parents=True)
    for name in ("FudanPed00001", "FudanPed00061", "PennPed00076", "PennPed00096"):
        Image.new("RGB", (40, 60), (9, 99, 200)).save(root / f"PNGImages/{name}.png")
        mask = np.zeros((60, 40), np.uint8)
        mask[10:50, 5:15], mask[10:50, 20:38] = 1, 2
        Image.fromarray(mask).save(root / f"PedMasks/{name}_mask.png")
    data = find_data(tmp_path)
    assert isinstance(data.layout, PennFudan) and data.splits == ["train", "val"]
    assert [pair.name for pair in data.pairs("val")] == ["FudanPed00061", "PennPed00096"]
    seen = InstanceSet(data, "train")
    assert set(np.unique(seen.instances)) == {0, 1, 2} and (seen.instances == 2).sum() > (seen.instances == 1).sum()
    Image.fromarray(np.full((60, 40), 255, np.uint8)).save(root / "PedMasks/PennPed00096_mask.png")
    with pytest.raises(Exception, match=r"expected masks with 0 and the numbers .* found mode L, up to 255"):
        data.layout.read_codes(root / "PedMasks/PennPed00096_mask.png")


def test_data_without_instances_and_wrong_options_end_in_a_line(tmp_path, sample, here):
    for part in ("training/image_2", "training/semantic"):
        (tmp_path / part).mkdir(parents=True)
        Image.new("RGB" if "image" in part else "L", (8, 4)).save(tmp_path / part / "000000_10.png")
        Image.new("RGB" if "image" in part else "L", (8, 4)).save(tmp_path / part / "000170_10.png")
    result = run_command("-m", "gallery", "instances", "--data", tmp_path, "--folder", tmp_path / "out")
    assert_one_line_error(result, "expected instances, found KITTI")
    assert here(command.main, "instances", "--epochs", "0").status == 2


def test_the_command_scores_both_ways_and_draws(tmp_path, sample, here):
    result = here(command.main, "instances", "--data", sample, "--folder", tmp_path, "--epochs", 1, "--width", 2)
    assert result.status == 0 and "| regions of things " in result.stdout and "AP at 0.5:0.95" in result.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["instances.png", "instances.pth"]
    assert Image.open(tmp_path / "instances.png").width > 1000


NOTEBOOK = ROOT / "gallery" / "instances.ipynb"


def test_the_notebook_is_stored_without_outputs():
    code = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert max(len(cell.source.splitlines()) for cell in code) <= 12


@pytest.mark.long
def test_the_notebook_runs_from_top_to_bottom(sample, tmp_path):
    book = papermill.execute_notebook(NOTEBOOK, tmp_path / "out.ipynb", {"DATA": str(sample), "EPOCHS": 1, "IMAGES": 2},
                                      cwd=ROOT / "gallery", progress_bar=False)
    images = [out for cell in book.cells if cell.cell_type == "code" for out in cell.outputs
              if "image/png" in out.get("data", {})]
    assert len(images) == 3
