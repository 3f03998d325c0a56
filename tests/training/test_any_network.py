"""Three students' walks through a released kit, each with a network of another kind.

Everybody fills in the stubs. "laid out" writes what the stubs propose. "plain" puts a small encoder-decoder of one
class into network2/network.py and uses torch's own loss and optimizer. "slides" writes a U-Net with transposed
convolutions under another name, and the loops as the hand-out's slides have them.
"""
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from conftest import ROOT, assert_one_line_error

from grading.course import read_course
from grading.kit.release import stage
from utils.lab import TASKS

ID = "31355555"

PLAIN_NETWORK = '''
"""A plain encoder-decoder: three times down, three times up, no skip connections."""
import torch
from torch import nn


class Net(nn.Module):
    """Images (N, 3, H, W) to logits (N, 8, H, W)."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
        )
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(32, 16, 2, stride=2),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.ConvTranspose2d(16, 8, 2, stride=2),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.ConvTranspose2d(8, 8, 2, stride=2),
        )

    def forward(self, x):
        return self.decoder(self.encoder(x))


def load_model(MODEL_PATH):
    model = Net()
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    return model
'''

PLAIN_CELLS = {
    "import your network and build it as `network`": "from network2.network import Net\nnetwork = Net()",
    "define `criterion`": "criterion = nn.CrossEntropyLoss(ignore_index=IGNORE)",
    "define `optimizer` and, if you use one, `scheduler`":
        "optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)",
    "one training step: `output`, `loss`, `pred`": (
        "optimizer.zero_grad()\noutput = model(data)\nloss = criterion(output, target)\nloss.backward()\n"
        "optimizer.step()\npred = output.argmax(1)"),
    "one validation step: `output`, `loss`, `pred`": (
        "output = model(data)\nloss = criterion(output, target)\npred = output.argmax(1)")}

SLIDES_NETWORK = '''
import torch
import torch.nn as nn


def block(inputs, outputs):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True),
                         nn.Conv2d(outputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class MyUnet(nn.Module):
    def __init__(self, classes=8, n=4):
        super(MyUnet, self).__init__()
        self.conv1, self.conv2, self.conv3 = block(3, n), block(n, 2 * n), block(2 * n, 4 * n)
        self.pool = nn.MaxPool2d(2)
        self.up2, self.up1 = nn.ConvTranspose2d(4 * n, 2 * n, 2, 2), nn.ConvTranspose2d(2 * n, n, 2, 2)
        self.conv4, self.conv5 = block(4 * n, 2 * n), block(2 * n, n)
        self.out = nn.Conv2d(n, classes, 1)

    def forward(self, x):
        x1 = self.conv1(x)
        x2 = self.conv2(self.pool(x1))
        x3 = self.conv3(self.pool(x2))
        x = self.conv4(torch.cat([x2, self.up2(x3)], 1))
        x = self.conv5(torch.cat([x1, self.up1(x)], 1))
        return self.out(x)


def load_model(MODEL_PATH):
    model = MyUnet()
    model.load_state_dict(torch.load(MODEL_PATH, map_location='cpu'))
    return model
'''

SLIDES_CELLS = {
    "import your network and build it as `network`": "from network.network import MyUnet\nnetwork = MyUnet()",
    "define `criterion`, `optimizer` and, if you use one, `scheduler`": (
        "criterion = nn.CrossEntropyLoss(ignore_index=IGNORE)\n"
        "optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)")}

SLIDES_LOOPS = {"def train(": """
def train(model, data_loader):
    Meter = run.meters()
    model.train()
    for i, (data, target) in enumerate(data_loader):
        data, target = data.to(device), target.to(device)
        optimizer.zero_grad()
        output = model(data)
        loss = criterion(output, target)
        loss.backward()
        optimizer.step()
        training_loss = loss.item()
        pred = output
        pred = pred.data.max(1)[1]
        Meter['metric'].update(target.data.cpu().numpy(), pred.data.cpu().numpy())
        Meter['loss'].update(training_loss, data.size()[0])
    return Meter
""", "def validate(": """
def validate(model, data_loader):
    Meter = run.meters()
    model.eval()
    with torch.no_grad():
        for i, (data, target) in enumerate(data_loader):
            data, target = data.to(device), target.to(device)
            output = model(data)
            loss = criterion(output, target)
            validation_loss = loss.item()
            pred = output
            pred = pred.data.max(1)[1]
            Meter['metric'].update(target.data.cpu().numpy(), pred.data.cpu().numpy())
            Meter['loss'].update(validation_loss, data.size()[0])
    return Meter
"""}

# walk: the task, its network file (None: the stubs as laid out), what stands for stubs, what for whole functions
WALKS = {"laid out 1": (1, None, {}, {}), "laid out 2": (2, None, {}, {}),
         "plain": (2, PLAIN_NETWORK, PLAIN_CELLS, {}), "slides": (1, SLIDES_NETWORK, SLIDES_CELLS, SLIDES_LOOPS)}


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> SimpleNamespace:
    """The kit as it is handed out, and what was taken out of it."""
    folder = tmp_path_factory.mktemp("released") / "kit"
    _, blocks, _ = stage(ROOT, folder, read_course())
    return SimpleNamespace(folder=folder, blocks=[block for block in blocks if block.task])


def fill_in(kit: Path, blocks: list, number: int) -> None:
    """Writes the reference's solutions of one task for its stubs, in the network file and the notebook."""
    for block in blocks:
        if block.task == number:
            write_for(kit / block.file, block.cell, block.stub, block.solution)


def write_for(path: Path, cell: int, stub: str, code: str) -> None:
    if not cell:
        text = path.read_text(encoding="utf-8")
        assert stub in text
        path.write_text(text.replace(stub, code), encoding="utf-8")
        return
    book = nbformat.read(path, as_version=4)
    assert stub in book.cells[cell - 1].source
    book.cells[cell - 1].source = book.cells[cell - 1].source.replace(stub, code)
    nbformat.write(book, path)


def walk(kit: Path, blocks: list, name: str) -> int:
    """Does a student's work in `kit`; returns the task."""
    number, network, cells, functions = WALKS[name]
    if network is None:
        fill_in(kit, blocks, number)
        return number
    (kit / TASKS[number].network_file.relative_to(ROOT)).write_text(network, encoding="utf-8")
    path, left = kit / TASKS[number].notebook, dict(cells)
    for block in blocks:
        if block.file == path.name and block.name in left:
            code = left.pop(block.name).replace("\n", f"\n{block.indent}")
            write_for(path, block.cell, block.stub, block.indent + code)
    assert not left
    book = nbformat.read(path, as_version=4)
    for start, code in functions.items():
        (cell,) = (cell for cell in book.cells if cell.cell_type == "code" and start in cell.source)
        before = cell.source[:cell.source.index(start)].removesuffix("@torch.inference_mode()\n")
        cell.source = before + code.strip()
    nbformat.write(book, path)
    return number


def run(kit: Path, *arguments: object, **options: object) -> SimpleNamespace:
    done = subprocess.run([sys.executable, *map(str, arguments)], cwd=kit, capture_output=True, text=True, check=False,
                          encoding="utf-8", timeout=600, env={**os.environ, "PYTHONPATH": ""}, **options)
    return SimpleNamespace(status=done.returncode, stdout=done.stdout, stderr=done.stderr)


def train(kit: Path, number: int, sample: Path, *more: object) -> SimpleNamespace:
    settings = {"DATA": sample, "EPOCHS": 2, "BATCH_SIZE": 2, "DEVICE": "cpu"} | {1: {}, 2: {"TEACHER": None}}[number]
    given = [part for pair in settings.items() for part in ("-p", *pair)]
    return run(kit, "-m", "training.headless", TASKS[number].notebook, *given, *more)


@pytest.mark.parametrize("name", ["plain", pytest.param("slides", marks=pytest.mark.long)])
def test_a_network_and_loops_of_ones_own_train_and_are_scored(name, released, sample, tmp_path):
    kit = shutil.copytree(released.folder, tmp_path / "kit")
    number = walk(kit, released.blocks, name)
    done = train(kit, number, sample)
    assert done.status == 0, done.stderr
    told = done.stdout
    assert "epoch   2/2" in told and "Final IoU" in told
    history = json.loads((kit / f"runs/task{number}/history.json").read_text(encoding="utf-8"))
    best = max(record["miou"] for record in history)
    assert float(told.split("Final IoU = ")[1].split()[0]) == pytest.approx(best, abs=2e-3)
    if number == 2:  # what does not apply to the network is said once and skipped
        for words in ("LOSS_STRIDE does not apply: Net has no train_stride", "CALIBRATE does not apply: network.py"):
            assert told.count(words) == 1
    again = train(kit, number, sample, "-p", "RESUME", True)
    assert again.status == 0 and "epoch   2/2" not in again.stdout, again.stderr

    # the file now holds another class: every command says which line to look at, and nothing is lost
    (kit / TASKS[number].network_file.relative_to(ROOT)).write_text(
        PLAIN_NETWORK if number == 1 else SLIDES_NETWORK, encoding="utf-8")
    weights = (kit / TASKS[number].model_file).read_bytes()
    done = run(kit, f"test_task{number}.py", TASKS[number].model_file, sample)
    assert_one_line_error(done, "weights that fit the network")
    assert (kit / TASKS[number].model_file).read_bytes() == weights


@pytest.mark.long
@pytest.mark.parametrize("names", [("laid out 1", "laid out 2"), ("laid out 1", "plain"), ("slides", "laid out 2")],
                         ids=["laid out", "plain", "slides"])
def test_the_whole_walk_from_the_kit_to_the_hand_in(names, released, sample, tmp_path):
    kit = shutil.copytree(released.folder, tmp_path / "kit")
    for name in names:
        number = walk(kit, released.blocks, name)
        done = train(kit, number, sample)
        assert done.status == 0, done.stderr
        scored = run(kit, f"test_task{number}.py", TASKS[number].model_file, sample)
        assert scored.status == 0 and "Final IoU = " in scored.stdout, scored.stderr
    tested = run(kit, "-m", "pytest", "-q", "tests/student")
    assert tested.status == 0, tested.stdout
    (kit / "report.pdf").write_bytes(b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\ntrailer\n<<>>\n%%EOF\n")
    checked = run(kit, "-m", "handin", "check", "--data", sample)
    assert "FAIL" not in checked.stdout, checked.stdout
    packed = run(kit, "-m", "handin", "pack", "--id", ID, "--data", sample)
    assert packed.status == 0 and (kit / f"Lab05_{ID}.zip").exists(), packed.stdout + packed.stderr
    again = run(kit, "-m", "handin", "check", f"Lab05_{ID}.zip", "--data", sample)
    assert "FAIL" not in again.stdout, again.stdout
    report = run(kit, "-m", "figures.report", "--data", sample)
    assert report.status == 0, report.stderr
    assert {"curves_task1.png", "curves_task2.png"} <= {path.name for path in (kit / "report").rglob("*.png")}
