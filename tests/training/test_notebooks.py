"""Both notebooks as they are stored, and executed from top to bottom for a few steps."""
import ast
import itertools
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
import torch
from conftest import ROOT, assert_one_line_error, load_file, run_command

from training.headless import notebook_settings
from utils.lab import TASKS, LabError

BOOKS = {number: ROOT / task.notebook for number, task in TASKS.items()}


def cells(number: int, kind: str = "code") -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(BOOKS[number], as_version=4).cells if cell.cell_type == kind]


@pytest.mark.parametrize("number", BOOKS)
def test_stored_valid_and_without_outputs(number):
    nbformat.validate(nbformat.read(BOOKS[number], as_version=4))
    assert all(not cell.outputs and cell.execution_count is None for cell in cells(number))
    book = nbformat.read(BOOKS[number], as_version=4)
    assert [cell.metadata.tags for cell in book.cells if cell.metadata.get("tags")] == [["parameters"], ["results"]]


@pytest.mark.parametrize(("number", "most"), [(1, 120), (2, 160)])
def test_a_notebook_is_short_and_explained(number, most):
    lines = [line for cell in cells(number) for line in cell.source.splitlines()
             if line.strip() and not line.strip().startswith("#")]
    assert len(lines) <= most
    (settings,) = (cell for cell in cells(number) if "parameters" in cell.metadata.get("tags", []))
    names = [node.targets[0].id for node in ast.parse(settings.source).body]
    assert len(names) <= 20 and len(names) == len(set(names))
    for start, longest in (("def train(", 20), ("def validate(", 15)):
        (loop,) = (cell.source[cell.source.index(start):] for cell in cells(number) if start in cell.source)
        assert len([line for line in loop.splitlines() if line.strip()]) <= longest
    assert len(cells(number, "markdown")) >= 0.8 * len(cells(number))
    book = nbformat.read(BOOKS[number], as_version=4)
    assert book.cells[0].cell_type == "markdown" and book.cells[0].source.startswith(f"# Lab 05, task {number}")
    assert cells(1)[0].source == cells(2)[0].source and len(cells(1)[0].source.splitlines()) <= 14  # 12 of code


# What students and the frontier's ablations set by name, as -p NAME VALUE.
BOTH = ("DATA NETWORK EPOCHS BATCH_SIZE LEARNING_RATE FLIP CROP SCALE ROTATE COLOR SEED DEVICE PRECISION COMPILE "
        "RESUME RUN MODEL ")
SETTINGS = {1: BOTH + "WIDTH BACKBONE_RATE",
            2: BOTH + "RUNG LOSS_STRIDE CLASS_WEIGHTS LOSS TEACHER DISTILL TEMPERATURE EMA WEIGHT_DECAY WARM_UP "
               "UNCROPPED START STORE BRANCHES CALIBRATE"}


@pytest.mark.parametrize("number", BOOKS)
def test_every_setting_is_reached_by_name_and_used_once_it_is_set(number):
    settings = notebook_settings(BOOKS[number])
    assert set(settings) == set(SETTINGS[number].split())
    text = "\n".join(cell.source for cell in cells(number)) + (ROOT / "training/settings.py").read_text("utf-8") \
        + (ROOT / "training/networks.py").read_text("utf-8") + (ROOT / "training/runs.py").read_text("utf-8")
    for name in settings:
        typed = len(re.findall(rf"^ *{name} = |[(\s]{name}=", "\n".join(cell.source for cell in cells(number)), re.M))
        assert typed == 1, f"{name} is set {typed} times"
        assert len(re.findall(rf"\b{name}\b", text)) > 1, f"{name} is not used"


@pytest.mark.parametrize("number", BOOKS)
def test_the_hand_outs_names_are_kept(number):
    text = "\n".join(cell.source for cell in cells(number))
    for name in ("data, target", "data_loader", "pred", 'Meter["metric"].update(target, pred)', 'Meter["loss"]',
                 "model.train()", "model.eval()"):
        assert name in text


def command(number: int, folder: Path, sample: Path, weights: dict[int, Path], **settings: object) -> list[object]:
    """The arguments that run a notebook for a few steps, with all it leaves in `folder`."""
    own = {1: {"WIDTH": 4}, 2: {"TEACHER": weights[1], "CALIBRATE": 0}}[number]
    own |= {"DATA": sample, "EPOCHS": 3, "BATCH_SIZE": 2, "DEVICE": "cpu", "RUN": folder / "run",
            "MODEL": folder / TASKS[number].model_file, **settings}
    return ["-m", "training.headless", BOOKS[number], "-o", folder / "out.ipynb",
            *itertools.chain(*(("-p", *pair) for pair in own.items()))]


@pytest.fixture(scope="module", params=BOOKS)
def executed(request, sample, weights, tmp_path_factory) -> SimpleNamespace:
    """A notebook's run from top to bottom: its number, its folder, and what the command gave."""
    folder = tmp_path_factory.mktemp("executed")
    return SimpleNamespace(number=request.param, folder=folder,
                           result=run_command(*command(request.param, folder, sample, weights)))


def test_executed_end_to_end(executed):
    number, tmp_path, result = executed.number, executed.folder, executed.result
    model = tmp_path / TASKS[number].model_file
    assert result.status == 0, result.stderr
    assert "epoch   1/3" in result.stdout and "epoch   3/3" in result.stdout and "min left" in result.stdout

    # the weights are what was trained, and the notebook's own test run reports the best epoch's mIoU
    history = json.loads((tmp_path / "run/history.json").read_text(encoding="utf-8"))
    best = max(record["miou"] for record in history)
    reported = float(result.stdout.split("Final IoU = ")[1].split()[0])
    assert reported == pytest.approx(best, abs=2e-3)  # other summation order than in training
    load_file(TASKS[number].network_file).load_model(str(model))
    assert all(isinstance(t, torch.Tensor) for t in torch.load(model, weights_only=True).values())

    book = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert (tmp_path / "run/thumbnails.png").exists()
    assert all(np.sum(record["confusion"]) == 2 * 256 * 512 for record in history)
    images = [out for cell in book.cells if cell.cell_type == "code" for out in cell.outputs
                if "image/png" in out.get("data", {})]
    # augmentation, shares, curves, IoU, confusion, panels; in task 1 the data and transforms, in 2 where the cost sits
    assert len(images) == (8 if number == 1 else 7)
    settings = json.loads((tmp_path / "run/settings.json").read_text(encoding="utf-8"))["settings"]
    assert set(settings) == set(SETTINGS[number].split()) - {"RUN", "RESUME"}
    assert settings["MODEL"] == str(model) and settings["CROP"] == 0.2 and settings.get("WIDTH", 4) == 4


@pytest.mark.parametrize("executed", [pytest.param(1, marks=pytest.mark.long), 2], indirect=True)
def test_an_interrupted_run_goes_on_to_the_same_weights(executed, sample, weights, tmp_path):
    arguments = [str(part) for part in command(executed.number, tmp_path, sample, weights)]
    history = tmp_path / "run/history.json"
    run = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                           text=True, encoding="utf-8")
    while not history.exists() and run.poll() is None:
        time.sleep(0.02)
    run.send_signal(signal.SIGINT)
    stderr = run.communicate(timeout=60)[1]
    assert run.returncode == 130 and "stopped by Ctrl-C" in stderr, stderr
    done = len(json.loads(history.read_text(encoding="utf-8")))
    assert done < 3
    (tmp_path / TASKS[executed.number].model_file).unlink()  # another machine, with the run's folder on a drive
    result = run_command(*arguments, "-p", "RESUME", True)
    assert result.status == 0, result.stderr
    assert f"epoch   {done}/3" not in result.stdout and f"epoch   {done + 1}/3" in result.stdout
    whole, resumed = (torch.load(folder / TASKS[executed.number].model_file, weights_only=True)
                      for folder in (executed.folder, tmp_path))
    assert whole.keys() == resumed.keys() and all(torch.equal(whole[key], resumed[key]) for key in whole)
    whole, resumed = (json.loads((folder / "run/history.json").read_text(encoding="utf-8"))
                      for folder in (executed.folder, tmp_path))
    assert [record["confusion"] for record in whole] == [record["confusion"] for record in resumed]


def test_every_method_of_task_2_set_otherwise_at_once(sample, weights, tmp_path):
    changes = {"START": weights[2], "STORE": "int8", "CALIBRATE": 0.25, "EMA": 0,
              "LOSS": "{'ohem': 0.5, 'dice': 0.2}",
              "BRANCHES": 1, "TEACHER": None, "LOSS_STRIDE": 1, "CLASS_WEIGHTS": None, "WARM_UP": 0, "UNCROPPED": 0,
              "RUNG": "stretch"}
    result = run_command("-m", "training.headless", BOOKS[2], "-o", tmp_path / "out.ipynb", "-p", "DATA", sample,
                         "-p", "EPOCHS", 1, "-p", "BATCH_SIZE", 2, "-p", "MODEL", tmp_path / "m.pth",
                         "-p", "RUN", tmp_path / "run", "-p", "DEVICE", "cpu",
                         *itertools.chain(*(("-p", *pair) for pair in changes.items())))
    assert result.status == 0, result.stderr
    assert "train: 3 images" in result.stdout and "shifts of the classes' logits" in result.stdout
    assert "flops =20591360" in result.stdout  # START's own rung, safe
    assert "Model parameter size =20.254 KB" in result.stdout  # a byte a weight, four a filter
    assert torch.int8 in {tensor.dtype for tensor in torch.load(tmp_path / "m.pth", weights_only=True).values()}


def test_bad_settings_end_in_one_line(sample, tmp_path):
    result = run_command("-m", "training.headless", BOOKS[2], "-o", tmp_path / "out.ipynb", "-p", "DEVICE", "cpu",
                         "-p", "DATA", tmp_path / "nothing")
    assert_one_line_error(result, "found none at", stdout=result.stdout)


@pytest.mark.parametrize(("wrong", "message"), [
    ({"TEACHER": "no.pth"}, r"expected a teacher's weights, found none at .*no\.pth"),
    ({"START": "no.pth"}, r"expected a model file, found none at .*no\.pth"),
    ({"RUNG": "highest"}, r"can be built of RUNG \(safe, target, lean.*\), found 'highest'"),
    ({"RUNG": [[8, 8], [1, 1, 1], 0, 1]}, r"can be built of RUNG .*found \[\[8, 8\]"),
    ({"RUNG": [[8, 8, 8], [1, 1, 1], 0, 1, "none"]}, r"can be built of RUNG .*'none'"),
    ({"NETWORK": "gallery.sinet:SINet", "BRANCHES": 1}, "expected BRANCHES to be 0 with another NETWORK"),
    ({"NETWORK": "gallery.none:Net"}, "found none called 'gallery.none'"),
    ({"RUN": ".."}, "expected a name for the run's folder")])
def test_settings_that_cannot_train_stop_before_the_training(wrong, message, sample, monkeypatch):
    for name in ("figures.images.show_panels", "figures.plots.plot_class_shares", "figures.layers.plot_layers",
                 "utils.timing.time_layers", "utils.layer_table.format_layer_table", "training.settings.speed_up"):
        monkeypatch.setattr(name, lambda *_, **__: None)
    monkeypatch.setattr("training.runs.Run.epochs", lambda *_, **__: pytest.fail("nothing may be trained"))
    settings = {"DATA": str(sample), "DEVICE": "cpu", "TEACHER": None, **wrong}
    names = {}
    with pytest.raises(LabError, match=message):
        for cell in cells(2):
            lines = [line for line in cell.source.splitlines() if not line.startswith(("%", "!"))]
            exec("\n".join(lines), names)
            if "parameters" in cell.metadata.get("tags", []):
                names.update((name, value) for name, value in settings.items() if name in names)
            if cell.source.startswith("recipe"):
                names["recipe"] |= {name: value for name, value in settings.items() if name in names["recipe"]}
