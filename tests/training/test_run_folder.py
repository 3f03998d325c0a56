"""A run's folder: what is in it, resuming bit for bit, being killed at any moment, and what a resume refuses."""
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, assert_one_line_error, run_command
from PIL import Image
from torch import nn

from training import environment as surroundings
from training.compare import main as compare
from training.folder import RunFolder
from utils.classes import LAB_CLASSES, Classes
from utils.files import write_json
from utils.lab import LabError
from utils.labels_cat import CATEGORY_COLORS
from utils.metric import ConfusionMatrix
from utils.run_records import read_run

SETTINGS = {"EPOCHS": 4, "SEED": 1, "SCALE": (0.75, 1.75), "RESUME": False, "DEVICE": "cpu", "MODEL": "m.pth"}
MIOUS = [0.1, 0.3, 0.2, 0.25]


def toy(width: int = 2) -> dict:
    """A state of every part that a notebook has: network, optimizer, scheduler, scaler, EMA."""
    network = nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), nn.Dropout(0.3))
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    return {"network": network, "optimizer": optimizer,
            "scheduler": torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=4),
            "scaler": torch.amp.GradScaler("cpu", enabled=False),
            "ema": torch.optim.swa_utils.AveragedModel(network, use_buffers=True)}


def train_some(folder: Path, last_epoch: int = 4, resume: bool = False, settings: dict = SETTINGS, data="abc"
               ) -> RunFolder:
    """A toy training whose every epoch draws from torch's, numpy's and Python's random numbers."""
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    state = toy()
    run = RunFolder("toy", settings, state, resume=resume, data=data, folder=folder)
    for epoch in range(run.epoch, last_epoch):
        loss = (state["network"](torch.randn(8, 4)) * np.random.rand() - random.random()).square().mean()
        state["optimizer"].zero_grad()
        loss.backward()
        state["optimizer"].step()
        state["scheduler"].step()
        state["ema"].update_parameters(state["network"])
        matrix = ConfusionMatrix()
        matrix.update(np.array([0, 1, 7]), np.array([0, 1, epoch]))
        run.finish_epoch({"miou": MIOUS[epoch], "loss": np.float32(loss.item()), "accuracy": 0.5}, matrix)
    return run


def timeless(history: list[dict]) -> list[dict]:
    return [{key: value for key, value in record.items() if key not in ("seconds", "finished")} for record in history]


def assert_same(one: object, other: object) -> None:
    """Equal to the last bit, through dicts and lists."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    else:
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def read(path: Path):
    return json.loads(path.read_bytes().decode("utf-8"))


# --- resume -------------------------------------------------------------------------------------------------------


def test_a_resumed_run_ends_like_an_uninterrupted_one_bit_for_bit(tmp_path):
    whole = train_some(tmp_path / "a")
    train_some(tmp_path / "b", 1)
    train_some(tmp_path / "b", 3, resume=True)
    resumed = train_some(tmp_path / "b", resume=True)
    for name in whole.state:
        assert_same(whole.state[name].state_dict(), resumed.state[name].state_dict())
    saved = [torch.load(run.checkpoint, weights_only=True) for run in (whole, resumed)]
    for key in ("state", "random", "settings", "data", "epoch", "best"):
        assert_same(saved[0][key], saved[1][key])
    assert timeless(resumed.history) == timeless(whole.history)
    assert resumed.best == 0.3 and resumed.epoch == 4


def test_a_finished_run_resumes_to_no_more_epochs(tmp_path):
    train_some(tmp_path)
    before = contents(tmp_path / "toy")
    assert train_some(tmp_path, resume=True).epoch == 4
    after = contents(tmp_path / "toy")
    assert {name for name in after if after[name] != before[name]} == {"settings.json"}


def test_random_states_of_other_gpus_are_left_out(monkeypatch):
    state, restored = surroundings.random_states()[0], []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda content, device: restored.append((content, device)))
    for saved in (["a"], ["a", "b"], ["a", "b", "c"]):
        restored.clear()
        surroundings.set_random_state({**state, "cuda": saved})
        assert restored == [("a", 0), ("b", 1)][:len(saved)]


PROCESSES = """
import os, sys
import torch
from torch import distributed, nn
from training import folder as run_folder
from training.runs import save_weights

folder, rank = sys.argv[1], 0
torch.set_num_threads(1)
for number in (1, 2):
    if os.fork() == 0:
        rank = number
        break
if rank == 0:
    failed = [os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(2)]
    sys.exit(any(failed))
rank -= 1
distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
if rank == 1:
    def forbidden(*arguments, **more):
        raise AssertionError("a second process writes")
    run_folder.replacing = run_folder.write_json = forbidden

def train(name, epochs, resume=False):
    torch.manual_seed(1)
    network = nn.Linear(2, 2)
    run = run_folder.RunFolder(name, {"EPOCHS": 4}, {"network": network}, resume=resume, folder=folder)
    for epoch in range(run.epoch, epochs):
        noise = torch.randn(1 + rank)[-1]  # the processes draw different amounts
        distributed.all_reduce(noise)
        with torch.no_grad():
            network.weight.add_(noise)
        run.finish_epoch({"miou": 0.1 * epoch})
    save_weights(network, f"{folder}/{name}.pth")
    assert len(run.history) == run.epoch == epochs
    return network.weight

whole = train("whole", 4)
train("parts", 2)
distributed.barrier()
parts = train("parts", 4, resume=True)
assert torch.equal(whole, parts), (rank, whole, parts)
distributed.destroy_process_group()
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_two_processes_keep_in_step_and_one_writes(tmp_path):
    result = run_command("-c", PROCESSES, tmp_path)
    assert result.status == 0, result.stderr
    assert {path.name for path in (tmp_path / "parts").iterdir()} == {"settings.json", "history.json",
                                                                      "checkpoint.pth"}
    assert read(tmp_path / "parts/settings.json")["processes"] == 2 and (tmp_path / "parts.pth").exists()
    with pytest.raises(LabError, match=r"number of processes, found 2 instead of 1 in .*resume with 2, or RESUME"):
        RunFolder("parts", {"EPOCHS": 4}, {"network": nn.Linear(2, 2)}, resume=True, folder=tmp_path)


# --- interruptions ------------------------------------------------------------------------------------------------

SERVER = """
import os, signal, sys, time
import numpy as np, random
import torch
from torch import nn
from training.folder import RunFolder
from training.runs import save_weights

torch.set_num_threads(1)  # no threads before fork
EPOCHS = int(sys.argv[1])

def train(folder, pid, last):
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    network = nn.Sequential(nn.Linear(500, 500), nn.Dropout(0.1))  # 1 MB, 4 with all parts: saving takes longest
    ema = torch.optim.swa_utils.AveragedModel(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=EPOCHS)
    run = RunFolder("toy", {"EPOCHS": EPOCHS}, {"network": network, "optimizer": optimizer, "scheduler": scheduler,
                                          "ema": ema}, resume=True, folder=folder)
    os.write(1, f"started {pid} {run.epoch}\\n".encode())
    for epoch in range(run.epoch, EPOCHS):
        if epoch == last:
            signal.pause()  # it will be killed
        loss = (network(torch.randn(2, 500)) * np.random.rand() - random.random()).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        ema.update_parameters(network)
        run.finish_epoch({"miou": random.random(), "loss": loss.item()})
        os.write(1, f"finished {run.epoch}\\n".encode())
    save_weights(network, f"{folder}/network.pth")
    save_weights(ema, f"{folder}/ema.pth")

torch.optim.AdamW([torch.zeros(1, requires_grad=True)]).zero_grad()  # imports for a second what is forked below

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            folder, last = line.split()
            train(folder, os.getpid(), int(last))
            status = 0
        finally:
            os._exit(status)
    status = os.waitpid(child, 0)[1]
    os.write(1, f"ended {os.waitstatus_to_exitcode(status)}\\n".encode())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_killed_at_random_moments_a_run_loses_no_epoch_and_ends_with_the_same_weights(tmp_path):
    epochs, kills, rng = 40, 8, random.Random(5)
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(epochs)], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})

    def start(folder: Path, last: int = epochs) -> tuple[int, int]:
        """Begins or resumes a training in `folder`, which waits after epoch `last` if that is not the last of all.

        Returns its process and how many epochs it found done.
        """
        server.stdin.write(f"{folder} {last}\n")
        server.stdin.flush()
        word, pid, done = server.stdout.readline().split()
        assert word == "started"
        return int(pid), int(done)

    def wait() -> tuple[int, int]:
        """Waits for the training's end; returns the last epoch it reported (0: none) and its exit code."""
        last = 0
        while True:
            word, number = server.stdout.readline().split()
            if word == "ended":
                return last, int(number)
            last = int(number)

    try:
        start(tmp_path / "whole")
        began = time.monotonic()
        assert wait() == (epochs, 0)
        epoch_seconds = (time.monotonic() - began) / epochs

        reported = leftovers = 0
        for _ in range(kills):
            pid, done = start(tmp_path / "parts", last=reported + 4)
            assert done in (reported, reported + 1)  # killed between saving and reporting
            assert not list((tmp_path / "parts/toy").glob(".*.part"))
            for _ in range(rng.randint(0, 3)):  # some epochs, and then a moment within one
                done = int(server.stdout.readline().removeprefix("finished"))
            time.sleep(rng.uniform(0, epoch_seconds))
            os.kill(pid, signal.SIGKILL)
            last, code = wait()
            assert code == -signal.SIGKILL
            reported = max(reported, done, last)
            folder = tmp_path / "parts/toy"
            if reported:
                saved = torch.load(folder / "checkpoint.pth", weights_only=True)
                assert saved["epoch"] in (reported, reported + 1)
                assert timeless(saved["history"])[:reported] == timeless(read(folder / "history.json"))[:reported]
                assert [record["epoch"] for record in saved["history"]] == list(range(1, saved["epoch"] + 1))
                assert len(read(folder / "history.json")) >= reported
                assert read(folder / "settings.json")["settings"] == {"EPOCHS": epochs}
            leftovers += len(list(folder.glob(".*.part")))
        assert reported < epochs
        _, done = start(tmp_path / "parts")
        assert wait() == (epochs, 0)
    finally:
        server.stdin.close()
        server.wait(timeout=120)

    print(f"{kills} kills, {leftovers} of them while a file was written; resumed at last from epoch {done}")
    for name in ("network.pth", "ema.pth"):
        assert_same(*(torch.load(tmp_path / part / name, weights_only=True) for part in ("whole", "parts")))
    whole, parts = (read(tmp_path / part / "toy/history.json") for part in ("whole", "parts"))
    assert timeless(whole) == timeless(parts) and len(parts) == epochs
    assert {path.name for path in (tmp_path / "parts/toy").iterdir()} == {"settings.json", "history.json",
                                                                          "checkpoint.pth"}


def test_killed_between_checkpoint_and_history_the_history_catches_up(tmp_path, monkeypatch):
    def killed(run):
        raise KeyboardInterrupt

    run = train_some(tmp_path, 3)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RunFolder, "_write_history", killed)
        run.finish_epoch({"miou": 0.25})
    assert len(read(tmp_path / "toy/history.json")) == 3
    assert train_some(tmp_path, resume=True).epoch == 4
    assert len(read(tmp_path / "toy/history.json")) == 4


def test_interrupted_while_saving_the_last_checkpoint_stays(tmp_path, monkeypatch):
    run = train_some(tmp_path, 2)
    before = contents(tmp_path / "toy")
    for error in (KeyboardInterrupt, OSError(28, "No space left on device")):
        def fail(*arguments, error=error):
            raise error
        with monkeypatch.context() as patch, pytest.raises((KeyboardInterrupt, LabError)):
            patch.setattr("utils.files.os.fsync", fail)
            run.finish_epoch({"miou": 0.5})
        assert contents(tmp_path / "toy") == before
    assert train_some(tmp_path, resume=True).epoch == 4


def test_leftovers_of_killed_writers_go(tmp_path):
    train_some(tmp_path, 1)
    (tmp_path / "toy/.checkpoint.pth.abc.part").write_bytes(b"half")
    (tmp_path / "toy/notes.part").write_bytes(b"the user's own")
    train_some(tmp_path, 1, resume=True)
    assert set(contents(tmp_path / "toy")) == {"checkpoint.pth", "history.json", "settings.json", "notes.part"}


def test_a_run_begun_by_mistake_leaves_the_older_one_whole(tmp_path, capsys):
    train_some(tmp_path, 3)
    before = contents(tmp_path / "toy")
    run = train_some(tmp_path, 0, settings={**SETTINGS, "SEED": 2})  # stopped in its first epoch
    run.save_thumbnails(*made_images(1))
    assert contents(tmp_path / "toy") == before and not (tmp_path / "toy.previous").exists()
    told = capsys.readouterr().err
    assert "toy.previous" in told and "RESUME = True" in told and told.count("\n") == 1

    run.finish_epoch({"miou": 0.1})
    assert contents(tmp_path / "toy.previous") == before
    assert len(read(tmp_path / "toy/history.json")) == 1
    assert read(tmp_path / "toy/settings.json")["settings"]["SEED"] == 2
    assert (tmp_path / "toy/thumbnails.png").exists()

    assert train_some(tmp_path, 1).epoch == 1  # one older run is kept, not all
    assert read(tmp_path / "toy.previous/settings.json")["settings"]["SEED"] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["toy", "toy.previous"]


def test_a_name_that_is_no_folder_of_its_own_is_refused(tmp_path):
    for name in ("", ".", "..", "a/.."):
        with pytest.raises(LabError, match="set RUN"):
            RunFolder(name, SETTINGS, toy(), folder=tmp_path)
    elsewhere = RunFolder(str(tmp_path / "elsewhere"), SETTINGS, toy(), folder=tmp_path / "runs")
    assert elsewhere.folder == tmp_path / "elsewhere"


# --- what is refused ----------------------------------------------------------------------------------------------


def refused(tmp_path: Path, state: dict, *parts: str, settings: dict = SETTINGS, data: str | None = "abc") -> None:
    """Resuming fails with one LabError of all `parts` and the file, and leaves `state` and the files as they were."""
    before = {name: str(part.state_dict()) for name, part in state.items()}
    files, drawn = contents(tmp_path / "toy"), torch.get_rng_state()
    with pytest.raises(LabError) as error:
        RunFolder("toy", settings, state, resume=True, data=data, folder=tmp_path)
    for part in (*parts, str(tmp_path / "toy/checkpoint.pth"), "or RESUME = False"):
        assert part in str(error.value), error.value
    assert {name: str(part.state_dict()) for name, part in state.items()} == before
    assert contents(tmp_path / "toy") == files and torch.equal(torch.get_rng_state(), drawn)


def test_a_checkpoint_of_other_settings_or_data_is_refused(tmp_path):
    train_some(tmp_path, 1)
    refused(tmp_path, toy(), "found SEED = 1 instead of 2", "set SEED back", settings={**SETTINGS, "SEED": 2})
    refused(tmp_path, toy(), "found FLIP = None instead of 0.5", settings={**SETTINGS, "FLIP": 0.5})
    refused(tmp_path, toy(), "found SEED = 1 instead of None",
            settings={key: value for key, value in SETTINGS.items() if key != "SEED"})
    refused(tmp_path, toy(), "expected a checkpoint of this data set, found 'abc' instead of 'xyz' in", data="xyz")
    refused(tmp_path, toy(), "expected a checkpoint of this data set, found 'abc' instead of None in", data=None)


def test_where_things_lie_may_change(tmp_path):
    train_some(tmp_path, 1)
    moved = {**SETTINGS, "SCALE": [0.75, 1.75], "DATA": Path("/d"), "MODEL": "n.pth", "COMPILE": True, "RESUME": True,
             "DEVICE": "cuda:1"}
    assert train_some(tmp_path, 2, resume=True, settings=moved).epoch == 2


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    train_some(tmp_path, 1)
    refused(tmp_path, toy(width=3), "expected a checkpoint of this network, found 0.weight (2, 4) instead of (3, 4) in",
            "undo the change")
    state = toy()
    refused(tmp_path, {**state, "network": nn.Sequential(*state["network"], nn.Linear(2, 2))}, "found no 3.weight")
    refused(tmp_path, {**state, "network": state["network"][:1]}, "found a further 1.weight")
    refused(tmp_path, {**state, "ema": torch.optim.swa_utils.AveragedModel(nn.Linear(1, 1))}, "of this ema")


def test_other_parts_are_refused(tmp_path):
    train_some(tmp_path, 1)
    state = toy()
    parameters = list(state["network"].parameters())
    refused(tmp_path, {**state, "optimizer": torch.optim.SGD(parameters, 0.1)}, "of this optimizer",
            "found AdamW instead of SGD")
    groups = [{"params": parameters[:1]}, {"params": parameters[1:]}]
    refused(tmp_path, {**state, "optimizer": torch.optim.AdamW(groups, 0.1)}, "of this optimizer", "does not load",
            "parameter groups")
    refused(tmp_path, {name: part for name, part in state.items() if name != "ema"}, "scaler, found", "ema in")
    refused(tmp_path, {**state, "second": state["ema"]}, "ema, second, found", "ema in")
    refused(tmp_path, {**state, "scaler": torch.amp.GradScaler("cpu", enabled=True)}, "of this scaler")


def test_a_damaged_or_older_checkpoint_is_refused(tmp_path):
    run = train_some(tmp_path, 1)
    whole = run.checkpoint.read_bytes()
    saved = torch.load(run.checkpoint, weights_only=True)
    del saved["random"]
    torch.save(saved, run.checkpoint)
    refused(tmp_path, toy(), "this version of the lab, found one without 'random'")
    for content in (whole[:100], b"", b"\x80"):
        run.checkpoint.write_bytes(content)
        with pytest.raises(LabError, match=r"damaged file, .*checkpoint\.pth"):
            train_some(tmp_path, resume=True)


# --- what is in the folder ----------------------------------------------------------------------------------------


def test_the_history_holds_figures_times_and_matrix_a_record_a_line(tmp_path):
    began = time.monotonic()
    run = train_some(tmp_path, 2)
    text = (tmp_path / "toy/history.json").read_text(encoding="utf-8")
    assert json.loads(text) == run.history and len(text.splitlines()) == 2 + 2
    record = run.history[1]
    assert list(record) == ["epoch", "miou", "loss", "accuracy", "seconds", "finished", "confusion"]
    assert record["epoch"] == 2 and type(record["loss"]) is float
    assert 0 <= sum(record["seconds"] for record in run.history) <= time.monotonic() - began + 0.01
    time.strptime(record["finished"], "%Y-%m-%d %H:%M:%S")
    expected = np.zeros((8, 8), int)
    expected[0, 0] = expected[1, 1] = expected[7, 1] = 1
    assert record["confusion"] == expected.tolist()


def test_the_best_weights_stay_until_there_are_better_ones(tmp_path):
    train_some(tmp_path, 1)  # an older run
    run = train_some(tmp_path, 0)
    assert not run.best_weights.exists()
    for miou, value in ((0.2, 1.0), (0.1, None), (0.3, 3.0), (0.3, None)):
        run.finish_epoch({"miou": miou}, weights=None if value is None else {"w": torch.tensor(value)})
        assert torch.load(run.best_weights, weights_only=True)["w"] == (3.0 if run.best == 0.3 else 1.0)
    assert run.best_weights.parent == tmp_path / "toy" and not (tmp_path / "toy.previous/best.pth").exists()


def test_nan_and_unknown_figures(tmp_path):
    run = train_some(tmp_path, 0)
    run.finish_epoch({"miou": 0.5, "iou": np.array([0.5, np.nan]), "note": "Åse 王"})
    assert np.isnan(run.history[0]["iou"][1])
    text = (tmp_path / "toy/history.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=pytest.fail)[0]["iou"] == [0.5, None] and "王" in text
    for wrong in ({"loss": 1.0}, {"miou": "high"}, {"miou": 0.5, "matrix": ConfusionMatrix()}):
        with pytest.raises(LabError, match="figures"):
            run.finish_epoch(wrong)
    assert run.epoch == 1 and len(run.history) == 1


def test_a_state_that_could_not_be_loaded_is_told_at_once(tmp_path):
    class Odd:
        def state_dict(self) -> dict:
            return {"path": tmp_path}

    run = RunFolder("toy", SETTINGS, {"network": nn.Linear(2, 2), "odd": Odd()}, folder=tmp_path)
    with pytest.raises(LabError, match="plain values"):
        run.finish_epoch({"miou": 0.5})
    assert not run.checkpoint.exists()


def test_settings_name_data_machine_versions_and_every_start(tmp_path):
    train_some(tmp_path, 1)
    about = read(tmp_path / "toy/settings.json")
    assert about["settings"] == {"EPOCHS": 4, "SEED": 1, "SCALE": [0.75, 1.75], "DEVICE": "cpu", "MODEL": "m.pth"}
    assert (about["data"], about["processes"], about["parameters"], about["resumed"]) == ("abc", 1, 4 * 2 + 2 + 4, [])
    assert about["machine"]["name"] and about["machine"]["torch_threads"] == torch.get_num_threads()
    assert set(about["versions"]) == {"python", "torch", "numpy", "lab"}
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert about["versions"]["lab"] == (commit.stdout.strip() or None)
    train_some(tmp_path, 2, resume=True)
    train_some(tmp_path, 3, resume=True)
    later = read(tmp_path / "toy/settings.json")
    assert [start["epoch"] for start in later.pop("resumed")] == [1, 2]
    about.pop("resumed")
    assert later == about


def test_outside_git_the_commit_is_null(monkeypatch, tmp_path):
    monkeypatch.setattr(surroundings, "ROOT", tmp_path)
    assert surroundings.describe_versions()["lab"] is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert surroundings.describe_versions()["lab"] is None


def made_images(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.RandomState(0)
    target = rng.randint(0, 8, (n, 256, 512)).astype(np.uint8)
    target[:, 0, 0] = 255
    return (rng.randint(0, 256, (n, 256, 512, 3)).astype(np.uint8), target,
            rng.randint(0, 8, (n, 256, 512)).astype(np.int64))


@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor])
def test_thumbnails_show_image_label_and_prediction(tmp_path, convert):
    run = train_some(tmp_path, 1)
    images, target, pred = made_images(10)
    run.save_thumbnails(*map(convert, (images, target, pred)))
    drawn = np.asarray(Image.open(tmp_path / "toy/thumbnails.png"))
    assert drawn.shape == (8 * 128, 3 * 256, 3)
    for i, y, x in ((0, 0, 1), (3, 17, 200), (7, 127, 255)):
        row = drawn[i * 128 + y]
        mean = images[i, 2 * y:2 * y + 2, 2 * x:2 * x + 2].astype(float).mean((0, 1))
        assert np.abs(row[x] - mean).max() <= 0.5
        assert (row[256 + x] == CATEGORY_COLORS[target[i, 2 * y, 2 * x]]).all()
        assert (row[512 + x] == CATEGORY_COLORS[pred[i, 2 * y, 2 * x]]).all()
    assert (drawn[0, 256] == 255).all()  # an ignored pixel
    with pytest.raises(ValueError, match="uint8 images"):
        run.save_thumbnails(images / 255, target, pred)
    with pytest.raises(ValueError, match="target and pred"):
        run.save_thumbnails(images, target, pred[:, ::2])


SEA = Classes(("sea", "beach", "land"), [(0, 0, 200), (200, 200, 0), (0, 200, 0)])


def sea_run(folder: Path, resume: bool = False, classes: Classes = SEA, data: str = "coast") -> RunFolder:
    return RunFolder("coast", {"EPOCHS": 2}, {"network": nn.Linear(2, 2)}, resume=resume, data=data, folder=folder,
               classes=classes)


def finish(run: RunFolder) -> RunFolder:
    matrix = ConfusionMatrix(3)
    matrix.counts[:] = [[3, 1, 0], [0, 4, 0], [0, 0, 0]]
    run.finish_epoch({"miou": 0.775, "accuracy": 0.875}, matrix)
    return run


def test_a_run_on_other_classes_names_and_draws_them(tmp_path):
    run = finish(sea_run(tmp_path))
    assert read(tmp_path / "coast/settings.json")["class_names"] == ["sea", "beach", "land"]
    images, target, _ = made_images(1)
    target %= 3
    target[0, 0, 0] = 255
    run.save_thumbnails(images, target, target % 3)
    drawn = np.asarray(Image.open(tmp_path / "coast/thumbnails.png"))
    assert (drawn[0, 256] == 255).all() and (drawn[3, 260] == SEA.colors[target[0, 6, 8]]).all()
    past = read_run(tmp_path / "coast")
    assert past.class_names == SEA.names and not past.has_lab_classes and past.matrix.num_classes == 3
    assert past.iou == pytest.approx([3 / 4, 4 / 5, np.nan], nan_ok=True)
    assert "class_names" not in train_some(tmp_path, 1).about and read_run(tmp_path / "toy").has_lab_classes


def test_a_run_goes_on_with_the_same_classes_only(tmp_path):
    finish(sea_run(tmp_path))
    assert sea_run(tmp_path, resume=True).about["class_names"] == list(SEA.names)
    for classes in (LAB_CLASSES, Classes(("sea", "shore", "land"), SEA.colors)):
        with pytest.raises(LabError, match="a checkpoint of this data set's classes, found one of other classes"):
            sea_run(tmp_path, resume=True, classes=classes)
    with pytest.raises(LabError, match="a checkpoint of this data set, found 'coast'"):
        sea_run(tmp_path, resume=True, data="city")


# --- python -m training.runs --------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path) -> Path:
    """Three runs: best mIoU 0.9 in epoch 1 of 4, 0.3 in epoch 2 of 2, and one that has no finished epoch."""
    for name, width, mious in (("small", 2, [0.1, 0.3]), ("large", 3, [0.9, 0.2])):
        run = RunFolder(name, {"EPOCHS": 4 if name == "large" else 2, "SEED": 1}, {"network": nn.Linear(width, width)},
                  data="abc", folder=tmp_path)
        for miou in mious:
            matrix = ConfusionMatrix()
            matrix.counts[:2, :2] = [[3, 1], [0, 4]] if miou == 0.9 else [[1, 1], [1, 1]]
            run.finish_epoch({"miou": miou, "accuracy": miou / 2}, matrix)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/settings.json").write_text('{"settings": {"EPOCHS": 7}}', encoding="utf-8")
    (tmp_path / "no run").mkdir()
    (tmp_path / "out.ipynb").write_text("{}", encoding="utf-8")
    return tmp_path


def shown(capsys, *arguments: object) -> list[list[str]]:
    compare(list(map(str, arguments)))
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_the_list_is_best_first_and_names_damaged_runs(folder, capsys):
    (folder / "broken").mkdir()
    (folder / "broken/history.json").write_text('[{"epoch": 1,', encoding="utf-8")
    head, *lines, note = shown(capsys, "--folder", folder)
    assert head == ["run", "epochs", "best", "mIoU", "at", "epoch", "accuracy", "parameters", "minutes", "machine",
                    "started"]
    assert [line[:6] for line in lines] == [["large", "2/4", "0.9000", "1", "0.4500", "12"],
                                            ["small", "2/2", "0.3000", "2", "0.1500", "6"],
                                            ["empty", "0/7", "-", "-", "-", "-"]]
    assert note[:3] == ["broken", "is", "damaged:"] and f"{folder / 'broken/history.json'}:" in note


def test_a_comparison_shows_what_differs_and_each_categorys_iou(folder, capsys):
    rows = {" ".join(line[:-2]): line[-2:] for line in shown(capsys, "large", "small", "--folder", folder) if line}
    assert rows["EPOCHS"] == ["4", "2"] and "SEED" not in rows and "data set" not in rows
    assert rows["best mIoU"] == ["0.9000", "0.3000"] and rows["at epoch"] == ["1", "2"]
    # worked out by hand: 3 / (3 + 1), 4 / (4 + 1); 1 / 3
    assert rows["void"] == ["0.7500", "0.3333"] and rows["flat"] == ["0.8000", "0.3333"]
    assert rows["sky"] == ["-", "-"]


def test_runs_on_other_classes_stand_by_themselves(folder, capsys):
    finish(sea_run(folder))
    *_, note = shown(capsys, "--folder", folder)
    assert " ".join(note).startswith("coast learned 3 other classes, sea to land: its mIoU cannot be compared")
    rows = {" ".join(line[:-2]): line[-2:] for line in shown(capsys, "large", "coast", "--folder", folder) if line}
    assert (rows["void"], rows["sea"], rows["beach"]) == (["0.7500", "-"], ["-", "0.7500"], ["-", "0.8000"])
    settings = json.loads((folder / "coast/settings.json").read_text(encoding="utf-8"))
    for names, part in ((["sea"], "1 x 1"), ([], "names of the classes"), ("sea", "names of the classes"),
                        ([1, 2, 3], "names of the classes")):
        write_json(folder / "coast/settings.json", {**settings, "class_names": names})
        with pytest.raises(LabError, match=rf"expected .*{part}.* in .*coast"):
            compare(["coast", "--folder", str(folder)])


def test_one_run_shows_all_its_settings(folder, capsys):
    rows = {" ".join(line[:-1]): line[-1] for line in shown(capsys, "large", "--folder", folder) if line}
    assert (rows["EPOCHS"], rows["SEED"], rows["data set"], rows["processes"]) == ("4", "1", "abc", "1")
    assert rows["parameters"] == "12" and rows["void"] == "0.7500"


def test_no_runs_an_unknown_name_and_damage_are_one_line(folder, here):
    for content, part in (("[{}]", "record of epoch 1"), ("{", "JSON"), ("{}", "list of epochs"), ("\x00", "JSON"),
                          ('[{"epoch": 1, "confusion": [[1]]}]', "8 x 8"),
                          ('[{"epoch": 1, "seconds": "x"}]', "seconds")):
        (folder / "small/history.json").write_text(content, encoding="utf-8")
        with pytest.raises(LabError, match=rf"{part}.*found .* in .*small/history\.json"):
            compare(["small", "--folder", str(folder)])
    for settings in ("[]", '{"settings": 3}'):
        (folder / "empty/settings.json").write_text(settings, encoding="utf-8")
        with pytest.raises(LabError, match=r"empty/settings\.json"):
            compare(["empty", "--folder", str(folder)])
    with pytest.raises(LabError, match=r"\(empty, large, small\), found 'larg'"):
        compare(["large", "larg", "--folder", str(folder)])
    with pytest.raises(LabError, match=r"expected runs in .*, found no such folder"):
        compare(["--folder", str(folder / "nothing")])
    assert_one_line_error(here(compare, "--folder", folder / "no run"), "expected runs in", "none")


def test_the_command_prints_utf8(folder):
    (folder / "large").rename(folder / "größer 王")
    result = run_command("-m", "training.runs", "--folder", folder, PYTHONIOENCODING="ascii")
    assert result.status == 0, result.stderr
    assert result.stdout.splitlines()[1].startswith("größer 王  ")
