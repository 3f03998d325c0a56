"""Both notebooks as they are stored, and executed from top to bottom for a few steps."""
import itertools
import json

import nbformat
import numpy as np
import pytest
import torch
from conftest import ROOT, assert_one_line_error, load_file, run_command

from utils.lab import TASKS

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


@pytest.mark.parametrize("number", BOOKS)
def test_executed_end_to_end(number, sample, weights, tmp_path):
    model = tmp_path / TASKS[number].model_file
    own = {1: {"WIDTH": 4}, 2: {"TEACHER": weights[1], "CALIBRATE": 0}}[number]
    result = run_command("-m", "training.headless", BOOKS[number], "-o", tmp_path / "out.ipynb", "-p", "DATA", sample,
                         "-p", "EPOCHS", 2, "-p", "BATCH_SIZE", 2, "-p", "MODEL", model, "-p", "RUN", tmp_path / "run",
                         "-p", "DEVICE", "cpu", *itertools.chain(*(("-p", *pair) for pair in own.items())))
    assert result.status == 0, result.stderr
    assert "epoch   1/2" in result.stdout and "epoch   2/2" in result.stdout and "min left" in result.stdout

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
    common = ("-m", "training.headless", BOOKS[2], "-o", tmp_path / "out.ipynb", "-p", "MODEL", tmp_path / "m.pth",
              "-p", "RUN", tmp_path / "run", "-p", "DEVICE", "cpu")
    for wrong, message in (({"DATA": tmp_path / "nothing"}, "found none at"),
                           ({"DATA": sample, "TEACHER": tmp_path / "no.pth"}, "expected a teacher's weights"),
                           ({"DATA": sample, "START": tmp_path / "no.pth"}, "expected a model file, found none"),
                           ({"DATA": sample, "RUNG": "highest"}, "expected RUNG to be one of safe, target, lean"),
                           ({"DATA": sample, "RUNG": "[[8, 8], [1, 1, 1], 0, 1]"}, "expected RUNG as (widths, blocks")):
        result = run_command(*common, *itertools.chain(*(("-p", *pair) for pair in wrong.items())))
        assert_one_line_error(result, message, stdout=result.stdout)
        assert not (tmp_path / "m.pth").exists()
