"""`grading replay`: the kept network gives what was graded; a changed tensor, graph or record is found."""
import hashlib
import json
import shutil
import signal

import numpy as np
import pytest
from conftest import assert_one_line_error
from made_handins import seven
from safetensors.numpy import load_file, save_file

from grading.__main__ import main
from grading.grade import grade
from grading.settings import GradeSettings
from utils.lab import TASKS

STUDENT = "31355501"


@pytest.fixture(scope="module")
def graded(tmp_path_factory, sample, weights):
    """REPORT of one student with the reference network as task 2 and nothing as task 1."""
    folder = tmp_path_factory.mktemp("replay")
    seven(folder / "class" / STUDENT, STUDENT)
    shutil.copy(TASKS[2].network_file, folder / "class" / STUDENT / "network_task2.py")
    shutil.copy(weights[2], folder / "class" / STUDENT / TASKS[2].model_file)
    (folder / "class" / STUDENT / "network_task1.py").unlink()
    grade(GradeSettings(folder / "class", sample, folder / "report", device="cpu", insecure=True))
    return folder / "report"


@pytest.fixture
def out(graded, tmp_path):
    return shutil.copytree(graded, tmp_path / "report")


@pytest.fixture
def replay(here, monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    return lambda out, student=STUDENT, *more: here(main, "replay", out, student, "--insecure", *more)


def change_record(out, change):
    path = out / "records" / f"{STUDENT}.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    change(record)
    path.write_text(json.dumps(record), encoding="utf-8")


def change_tensor(out):
    path = out / "networks" / STUDENT / "task2.safetensors"
    tensors = load_file(path)
    largest = max(tensors, key=lambda name: tensors[name].size)
    tensors[largest] = tensors[largest] ^ np.uint8(64)
    save_file(tensors, path)
    return path


def test_the_same_comes_out_without_the_students_files(out, replay):
    shutil.rmtree(out / "sources")
    done = replay(out)
    assert done.status == 0, done.stderr
    assert done.stdout.startswith("task 2: equal in masks, confusion matrix and costs (mIoU 0.")
    assert done.stdout.count("\n") == 1


def test_changes_are_found_by_hash_and_by_what_comes_out(out, replay):
    path = change_tensor(out)
    done = replay(out)
    assert done.status == 2 and done.stdout == f"task 2: {path} changed since grading, so nothing was replayed\n"
    macs = json.loads((out / "records" / f"{STUDENT}.json").read_text())["tasks"]["2"]["costs"]["macs"]

    def change(record):
        record["tasks"]["2"]["proof"]["tensors"] = hashlib.sha256(path.read_bytes()).hexdigest()
        record["tasks"]["2"]["costs"]["macs"] -= 7
        record["versions"]["torch"] = "1.0"

    change_record(out, change)
    done = replay(out)
    assert done.status == 2 and "and was 1.0 for grading" in done.stdout
    assert "differs in masks (errors differ at" in done.stdout and "confusion matrix (" in done.stdout
    assert f"macs ({macs - 7} -> {macs})" in done.stdout


def test_what_is_missing_is_one_line(out, replay, tmp_path):
    assert_one_line_error(replay(out, "999"), "expected one record of '999'")
    assert_one_line_error(replay(tmp_path), "expected one record")
    (out / "networks" / STUDENT / "task2.json").unlink()
    done = replay(out)
    assert done.status == 2 and "No such file" in done.stdout and done.stdout.count("\n") == 1
    change_record(out, lambda record: record.update(data_folder="/nowhere"))
    assert_one_line_error(replay(out), "pass --data FOLDER")
    change_record(out, lambda record: record["tasks"]["2"].pop("masks"))
    assert_one_line_error(replay(out), "there is nothing to replay")
