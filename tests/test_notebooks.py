"""Both notebooks as they are stored, and executed from top to bottom for a few steps."""
import itertools
import json
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


@pytest.mark.parametrize("number", BOOKS)
def test_cells_are_short_and_explained(number):
    book = nbformat.read(BOOKS[number], as_version=4)
    settings = [cell for cell in cells(number) if "parameters" in cell.metadata.get("tags", [])]
    assert max(len(cell.source.splitlines()) for cell in cells(number) if cell not in settings) <= 30
    assert all(len(cell.source.splitlines()) <= 40 for cell in settings)  # a table of one line a setting
    assert len(cells(number, "markdown")) >= 0.6 * len(cells(number))
    assert book.cells[0].cell_type == "markdown" and book.cells[0].source.startswith(f"# Lab 05, task {number}")


@pytest.mark.parametrize("number", BOOKS)
def test_the_hand_outs_names_are_kept(number):
    text = "\n".join(cell.source for cell in cells(number))
    for name in ("data, target", "pred", 'Meter["metric"].update(target, pred)', 'Meter["loss"]', 'Meter["time"]',
                 "pbar"):
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
    pictures = [out for cell in book.cells if cell.cell_type == "code" for out in cell.outputs
                if "image/png" in out.get("data", {})]
    # data, augmentation, shares, curves, IoU, confusion, panels; in task 2 also where the cost sits
    assert len(pictures) == (7 if number == 1 else 8)


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
    result = run_command(*arguments, "-p", "RESUME", True)
    assert result.status == 0, result.stderr
    assert f"epoch   {done}/3" not in result.stdout and f"epoch   {done + 1}/3" in result.stdout
    whole, resumed = (torch.load(folder / TASKS[executed.number].model_file, weights_only=True)
                      for folder in (executed.folder, tmp_path))
    assert whole.keys() == resumed.keys() and all(torch.equal(whole[key], resumed[key]) for key in whole)
    whole, resumed = (json.loads((folder / "run/history.json").read_text(encoding="utf-8"))
                      for folder in (executed.folder, tmp_path))
    assert [record["confusion"] for record in whole] == [record["confusion"] for record in resumed]


def test_every_lever_of_task_2_at_once(sample, weights, tmp_path):
    levers = {"START": weights[2], "STORE": "int8", "CALIBRATE": 0.25, "EMA": 0,
              "LOSS": "{'ohem': 0.5, 'dice': 0.2}",
              "BRANCHES": 1, "TEACHER": None, "LOSS_STRIDE": 1, "CLASS_WEIGHTS": None, "WARM_UP": 0, "UNCROPPED": 0,
              "RUNG": "stretch"}
    result = run_command("-m", "training.headless", BOOKS[2], "-o", tmp_path / "out.ipynb", "-p", "DATA", sample,
                         "-p", "EPOCHS", 1, "-p", "BATCH_SIZE", 2, "-p", "MODEL", tmp_path / "m.pth",
                         "-p", "RUN", tmp_path / "run", "-p", "DEVICE", "cpu",
                         *itertools.chain(*(("-p", *pair) for pair in levers.items())))
    assert result.status == 0, result.stderr
    assert "train: 3 pictures" in result.stdout and "shifts of the classes' logits" in result.stdout
    assert "flops =20591360" in result.stdout  # START's own rung, safe
    assert "Model parameter size =20.254 KB" in result.stdout  # a byte a weight, four a filter
    assert torch.int8 in {tensor.dtype for tensor in torch.load(tmp_path / "m.pth", weights_only=True).values()}


def test_bad_settings_end_in_one_line(sample, tmp_path):
    result = run_command("-m", "training.headless", BOOKS[2], "-o", tmp_path / "out.ipynb", "-p", "DEVICE", "cpu",
                         "-p", "DATA", tmp_path / "nothing")
    assert_one_line_error(result, "found none at", stdout=result.stdout)


@pytest.mark.parametrize(("wrong", "message"), [
    ({"TEACHER": "no.pth"}, "expected a teacher's weights, found none at no.pth"),
    ({"START": "no.pth"}, "expected a model file, found none at no.pth"),
    ({"RUNG": "highest"}, "expected RUNG to be one of safe, target, lean"),
    ({"RUNG": [[8, 8], [1, 1, 1], 0, 1]}, r"expected RUNG as \(widths, blocks"),
    ({"RUNG": [[8, 8, 8], [1, 1, 1], 0, 1, "none"]}, r"expected RUNG as \(widths, blocks"),
    ({"NETWORK": "gallery.sinet:SINet", "BRANCHES": 1}, "expected STORE .* with another NETWORK"),
    ({"NETWORK": "gallery.sinet:SINet"}, "set CALIBRATE = 0")])
def test_settings_that_cannot_train_stop_before_the_training(wrong, message, sample, monkeypatch):
    for name in ("figures.pictures.show_panels", "figures.plots.plot_class_shares", "figures.layers.plot_layers",
                 "utils.timing.time_layers", "utils.complexity.format_layer_table", "training.step.speed_up"):
        monkeypatch.setattr(name, lambda *_, **__: None)
    monkeypatch.setattr("training.runs.Run", lambda *_, **__: pytest.fail("nothing may be trained"))
    settings = {"DATA": sample, "DEVICE": "cpu", **wrong}
    names = {}
    with pytest.raises(LabError, match=message):
        for cell in cells(2):
            lines = [line for line in cell.source.splitlines() if not line.startswith(("%", "!"))]
            exec("\n".join(lines), names)
            if "parameters" in cell.metadata.get("tags", []):
                names |= settings
