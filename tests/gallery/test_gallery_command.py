"""python -m gallery: the table, the receptive fields, training by name, and wrong input."""
import json
import re

import numpy as np
import pytest
import torch
from conftest import run_command
from torch import nn

from frontier import jobs
from gallery import __main__ as command
from gallery import work
from gallery.catalog import CATALOG, find, shrink
from gallery.measure import receptive_field
from utils.lab import LabError
from utils.labels_cat import CATEGORIES


@pytest.mark.parametrize(("layers", "field"), [
    ([nn.Conv2d(3, 4, 3, padding=1)], (3, 3)),
    ([nn.Conv2d(3, 4, (5, 1), padding=(2, 0))], (5, 1)),
    ([nn.Conv2d(3, 4, 3, padding=2, dilation=2), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1)], (7, 7)),
    # 2x2 maxima, then 3x3 of them: 3 * 2 rows; the transposed 2x2 brings the resolution back and sees one of them
    ([nn.MaxPool2d(2), nn.Conv2d(3, 4, 3, padding=1), nn.ConvTranspose2d(4, 4, 2, stride=2)], (6, 6)),
    ([nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Upsample((32, 64))], (32, 64)),
])
def test_receptive_fields_worked_out_by_hand(layers, field):
    assert receptive_field(nn.Sequential(*layers), (32, 64)) == field


def test_negative_weights_and_shut_relus_hide_nothing():
    first, second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
    nn.init.constant_(first.weight, -1)
    assert receptive_field(nn.Sequential(first, nn.ReLU(), second), (16, 16)) == (5, 5)
    assert (first.weight == -1).all() and second.weight.std() > 0   # a copy was measured


def test_shrinking_divides_each_width_and_leaves_what_has_none():
    assert shrink("gallery.fcn:FCN32s", 4) == "gallery.fcn:FCN32s(width=16)"
    dilated = shrink("gallery.deeplab:DeepLabV3(output_stride=8)", 4)
    assert dilated == "gallery.deeplab:DeepLabV3(output_stride=8, width=16)"
    assert shrink("gallery.fcn:FCN32s(width=24)", 4) == "gallery.fcn:FCN32s(width=24)"
    assert shrink("gallery.fcn:FCN32s", 1) == "gallery.fcn:FCN32s"
    for name in ("gallery.sinet:SINet", "gallery.enet:ENet"):   # no width; made small
        assert shrink(name, 4) == name


def test_names_and_networks_are_found():
    assert find("fcn32s") == ("fcn32s", "gallery.fcn:FCN32s")
    assert find("gallery.fcn:FCN32s(width=24)") == ("gallery.fcn-FCN32s-width=24", "gallery.fcn:FCN32s(width=24)")
    with pytest.raises(LabError, match=r"expected a network of frequency, .* found 'fcn'"):
        find("fcn")


def test_rows_may_have_widths_of_their_own(tmp_path):
    rows = work.rows_of(["unet/8", "fcn8s", "enet"], 4, tmp_path)
    assert [(row.name, row.network, row.folder.name) for row in rows] == [
        ("unet/8", "gallery.unet:UNet(width=8)", "unet-8"), ("fcn8s/4", "gallery.fcn:FCN8s(width=16)", "fcn8s-4"),
        ("enet", "gallery.enet:ENet", "enet")]


def test_the_table_names_all_and_the_costs_of_one(capsys, tmp_path):
    assert command.main(["sinet", "frequency", "--folder", str(tmp_path / "none")]) == 0
    sinet, frequency = (line for line in capsys.readouterr().out.splitlines() if line.startswith(("| sinet", "| freq")))
    assert "114,754" in sinet and "all x all" in sinet         # parameters as test_gallery.py has them
    assert re.search(r"\| +0 \|", frequency) and "nothing" in frequency
    assert {row.name for row in work.rows_of([], 1, tmp_path)} == set(CATALOG)
    twice = work.rows_of(["fcn8s/4", "gallery.fcn:FCN8s(width=16)", "fcn8s/4"], 1, tmp_path)
    assert [row.name for row in twice] == ["fcn8s/4"]


@pytest.fixture(scope="module")
def gallery(sample, tmp_path_factory):
    """A network trained for an epoch through the notebook itself, with the baseline; the folder."""
    folder = tmp_path_factory.mktemp("gallery")
    done = run_command("-m", "gallery", "train", "frequency", "fcn32s/16", "--epochs", 1, "--data", sample,
                       "--folder", folder, "-p", "DEVICE", "cpu")
    assert done.status == 0, done.stderr
    return folder, done


def test_networks_are_trained_with_the_notebook_and_shown(gallery):
    folder, done = gallery
    results = {}
    for name in ("frequency", "fcn32s/16"):
        place = folder / name.replace("/", "-")
        results[name] = result = json.loads((place / "result.json").read_text(encoding="utf-8"))
        assert f"| {result['miou']:.4f} |" in next(line for line in done.stdout.splitlines() if f"| {name} " in line)
        assert (place / "model_task1.pth").is_file()
    assert results["fcn32s/16"]["settings"]["NETWORK"] == "gallery.fcn:FCN32s(width=4)"
    assert 0.1 < results["frequency"]["miou"] < 0.6
    for name, result in results.items():
        ious, precisions = (np.array(values, float) for values in zip(*result["classes"].values(), strict=True))
        assert list(result["classes"]) == list(CATEGORIES)
        assert np.nanmean(ious) == pytest.approx(result["miou"], abs=1e-3)  # of the same weights
        line, classes = (re.sub(" +", " ", line) for line in done.stdout.splitlines() if f"| {name} " in line)
        assert f"| {np.nanmean(precisions):.4f} |" in line and f"{ious[1]:.4f} / {precisions[1]:.4f}" in classes
    assert (folder / "predictions.png").read_bytes()[:4] == b"\x89PNG" and "fcn" in (folder / "table.md").read_text()
    weights = torch.load(folder / "fcn32s-16/model_task1.pth", weights_only=True)
    assert weights["backbone.conv1.weight"].shape[0] == 4


def test_what_is_trained_is_not_trained_again(gallery, sample, here):
    folder, _ = gallery
    before = (folder / "fcn32s-16/model_task1.pth").stat().st_mtime_ns
    again = here(command.main, "train", "fcn32s/16", "--epochs", 1, "--data", sample, "--folder", folder,
                 "-p", "DEVICE", "cpu")
    assert again.status == 0 and "1 of 1 runs are finished already" in again.stderr
    assert [row.name for row in work.finished_rows(folder)] == ["fcn32s-16", "frequency"]
    assert (folder / "fcn32s-16/model_task1.pth").stat().st_mtime_ns == before


@pytest.mark.parametrize(("arguments", "message"), [
    (["train"], "expected the names of networks to train, or all, found none"),
    (["train", "unet/0"], "expected a whole number behind the slash"),
    (["train", "enet/4"], "expected a network with a width to divide by 4, found enet"),
    (["train", "alexnet"], "expected a network of frequency, encoder-decoder"),
    (["nonsense"], "found 'nonsense'"),
    (["train", "sinet", "-p", "NETWORK", "x"], "found NETWORK: check -p"),
    (["train", "sinet", "-p", "EPOCHS", "0"], "expected EPOCHS to be a whole number"),
    (["train", "sinet", "--data", "nowhere"], "expected a data folder, found none at"),
    (["train", "gallery.fcn:FCN32s(depth=3)"], "expected a network that can be built of"),
    (["train", "gallery.none:Net", "--shrink", "2"], "found none called 'gallery.none'"),
    (["train", "gallery.fcn:Net", "--shrink", "2"], "expected a class Net in gallery.fcn"),
    (["train", "gallery.common:NUM_CLASSES"], "expected a class NUM_CLASSES in gallery.common"),
    (["train", "gallery.fcn:FCN8s(num_classes=12)"], "expected NETWORK without num_classes"),
    (["train", "gallery.fcn:FCN8s(width=-3)"], "expected a network that can be built of"),
    (["train", "sinet", "-p", "BACKBONE_RATE", "-1"], "expected BACKBONE_RATE to be a number from 0 on"),
    (["train", "unet", "-p", "WIDTH", "4"], "found WIDTH: check -p"),
    (["checkerboard", "image.txt"], "expected a name ending in .png")])
def test_wrong_input_is_one_line(arguments, message, tmp_path, sample, monkeypatch):
    monkeypatch.setattr(jobs, "train", lambda *_: pytest.fail("nothing may be trained"))
    given = arguments if "--data" in arguments or arguments[0] != "train" else [*arguments, "--data", str(sample)]
    folder = ["--folder", str(tmp_path)] if arguments[0] != "checkerboard" else []
    with pytest.raises(LabError, match=re.escape(message).replace("\\ ", " ")):
        command.main([*given, *folder])
