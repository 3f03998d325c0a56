"""Atomic files, class weights, and the command that runs a notebook."""
import errno
import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
import torch
from conftest import ROOT, assert_one_line_error, run_command
from papermill.exceptions import PapermillException
from torch import nn

from training import headless as headless_file
from training.headless import notebook_settings, run_notebook
from training.losses import class_shares, class_weights
from training.names import run_name, weights_file
from training.runs import save_weights
from utils.files import replacing, write_json
from utils.lab import TASKS, LabError
from utils.terminal import run_main

# --- files --------------------------------------------------------------------------------------------------------


def test_a_failure_half_way_keeps_the_old_file_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "f.txt"
    path.write_text("old", encoding="utf-8")
    for error in (KeyboardInterrupt, ValueError):
        with pytest.raises(error), replacing(path) as temporary:
            temporary.write_text("half", encoding="utf-8")
            raise error
    assert path.read_text(encoding="utf-8") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["f.txt"]


def test_a_full_disk_is_one_clear_error_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "f.txt"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(LabError, match=r"No space left.*untouched"), replacing(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert path.read_text(encoding="utf-8") == "old" and [path.name for path in tmp_path.iterdir()] == ["f.txt"]


def test_weights_that_find_no_room_leave_the_old_ones_whole(tmp_path):
    save_weights(nn.Linear(2, 2), tmp_path / "m.pth")
    old = (tmp_path / "m.pth").read_bytes()
    program = ("import resource; from torch import nn; from training.runs import save_weights; "
               "from utils.terminal import run_main; resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)); "
               "run_main(lambda: save_weights(nn.Linear(100, 100), 'm.pth'))")
    assert_one_line_error(run_command("-c", program, cwd=tmp_path), "m.pth", "File too large", "untouched")
    assert (tmp_path / "m.pth").read_bytes() == old
    assert [path.name for path in tmp_path.iterdir()] == ["m.pth"]


def test_weights_are_saved_whole_and_plain(tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).to(memory_format=torch.channels_last)
    save_weights(network, tmp_path / "deep" / "m.pth")
    state = torch.load(tmp_path / "deep" / "m.pth", weights_only=True)
    assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())
    assert all(tensor.is_contiguous() for tensor in state.values())
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["m.pth"]


def test_json_is_utf8(tmp_path):
    write_json(tmp_path / "x.json", {"name": "Åse 王"})
    assert json.loads((tmp_path / "x.json").read_bytes().decode("utf-8")) == {"name": "Åse 王"}
    assert "王" in (tmp_path / "x.json").read_text(encoding="utf-8")


# --- class weights ------------------------------------------------------------------------------------------------


def test_shares_by_hand():
    targets = torch.tensor([0, 0, 0, 1, 7, 7, 255, 255], dtype=torch.uint8)
    assert class_shares(targets).tolist() == pytest.approx([3 / 6, 1 / 6, 0, 0, 0, 0, 0, 2 / 6])
    with pytest.raises(LabError, match="labeled pixels"):
        class_shares(torch.full((4,), 255))


def test_shares_of_other_classes():
    targets = torch.tensor([0, 20, 20, 255], dtype=torch.uint8)
    assert class_shares(targets, 21).tolist() == pytest.approx([1 / 3, *[0] * 19, 2 / 3])
    with pytest.raises(LabError, match=r"labels of 8 classes, found class 20 in them: .* as num_classes"):
        class_shares(targets)


def test_weights_follow_enet():
    shares = torch.tensor([0.387, 0.217, 0.152, 0.105, 0.073, 0.035, 0.018, 0.012])
    weights = class_weights(shares, c=1.02)
    expected = 1 / torch.log(torch.tensor(1.02) + shares)
    torch.testing.assert_close(weights / weights[0], expected / expected[0])
    assert weights.mean() == pytest.approx(1)
    with pytest.raises(LabError, match="above 1"):
        class_weights(shares, c=1.0)


# --- running a notebook -------------------------------------------------------------------------------------------


@pytest.fixture
def notebook(tmp_path):
    def write(*cells: str):
        book = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3",
                                                                "language": "python"}})
        book.cells = [nbformat.v4.new_code_cell("X = 1\nNAME = 'a'", metadata={"tags": ["parameters"]}),
                      *map(nbformat.v4.new_code_cell, cells)]
        nbformat.write(book, tmp_path / "book.ipynb")
        return tmp_path / "book.ipynb"
    return write


def headless(*arguments: object, **options):
    return run_command("-m", "training.headless", *arguments, cwd=ROOT, **options)


def test_settings_reach_the_cells_and_output_reaches_the_terminal(notebook, tmp_path):
    book = notebook("import sys; print(X[0] + X[1][1], NAME); print('bar', file=sys.stderr)")
    before = book.read_bytes()
    result = headless(book, "-p", "X", "(40, (1, 2))", "-p", "NAME", "/some/path", "-o", tmp_path / "out.ipynb")
    assert result.status == 0, result.stderr
    assert result.stdout == "42 /some/path\n" and "bar" in result.stderr
    assert book.read_bytes() == before
    assert "42 /some/path" in (tmp_path / "out.ipynb").read_text(encoding="utf-8")


def test_a_last_line_without_newline_is_not_lost(notebook, tmp_path):
    result = headless(notebook("print('one'); print('two', end='')"), "-o", tmp_path / "out.ipynb")
    assert result.stdout == "one\ntwo"


def test_a_bar_is_drawn_on_a_terminal_and_left_out_of_a_file(notebook, tmp_path):
    import pty

    book = notebook("for i in range(3): print(f'\\rbar {i}', end='')\nprint('\\r     \\rdone')\n!echo shell")
    arguments = [sys.executable, "-m", "training.headless", book, "-o", tmp_path / "out.ipynb"]
    assert headless(*arguments[3:]).stdout == "done\nshell\n"
    terminal, end = pty.openpty()
    subprocess.run(arguments, cwd=ROOT, stdout=end, stderr=subprocess.DEVNULL, check=True)
    os.close(end)
    shown = os.read(terminal, 1000).decode()
    assert "bar 0" in shown and "bar 2" in shown and "done" in shown
    stored = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells[-1].outputs
    assert "".join(out.text for out in stored).split() == ["done", "shell"]


def test_unknown_setting_and_missing_notebook(notebook, tmp_path):
    assert_one_line_error(headless(notebook(), "-p", "EPOCH", "1"), "X, NAME", "found EPOCH")
    assert_one_line_error(headless(tmp_path / "none.ipynb"), "none.ipynb")


@pytest.mark.parametrize(("place", "words"), [
    ("file/out.ipynb", "found: File exists, .*file: choose another place .* with -o"),
    ("file/deep/out.ipynb", "found: Not a directory, .*deep: choose another place .* with -o"),
    ("folder", "found a folder at .*folder: add a name to -o")])
def test_a_copy_that_cannot_be_written_is_one_line_before_anything_runs(notebook, tmp_path, place, words):
    book = notebook("1 / 0")
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(LabError, match=words):
        run_notebook(book, {}, tmp_path / place)


@pytest.mark.parametrize(("run", "name"), [(5, "5.ipynb"), ("runs/other", "other.ipynb"), ("mine", "book.ipynb")])
def test_the_copy_is_named_by_its_run_whatever_type_that_is(notebook, tmp_path, monkeypatch, run, name):
    book = notebook()
    book.write_text(book.read_text().replace("NAME = 'a'", "RUN = 'mine'"))
    monkeypatch.setattr(headless_file, "_execute", lambda book, notebook, output, *_: output.touch())
    monkeypatch.setattr(headless_file, "RUNS", tmp_path / "runs")
    assert run_notebook(book, {"RUN": run}) == tmp_path / "runs" / name
    assert weights_file(TASKS[1], run) == f"model_task1-{Path(name).stem if run != 'mine' else run}.pth"


@pytest.mark.parametrize(("run", "network", "name", "weights"), [
    ("task2", None, "task2", "model_task2.pth"),
    ("task2", "gallery.sinet:SINet", "task2-SINet", "model_task2-SINet.pth"),
    ("task2", "gallery.unet:UNet(width=8)", "task2-UNet", "model_task2-UNet.pth"),
    ("wide", "gallery.sinet:SINet", "wide", "model_task2-wide.pth"),
    ("runs/task2", "a:B", "runs/task2-B", "model_task2-B.pth")])
def test_another_network_leaves_the_files_that_are_handed_in_alone(run, network, name, weights):
    assert run_name(run, network) == name
    assert weights_file(TASKS[2], run_name(run, network)) == weights


def test_what_stdouts_encoding_lacks_is_a_question_mark(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    with pytest.raises(SystemExit):
        run_main(lambda: print("50%|█| 王", flush=True))
    assert written.getvalue() == b"50%|?| ?\n"


def test_a_lab_error_in_a_cell_is_one_line(notebook, tmp_path):
    book = notebook(f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom utils.lab import LabError\n"
                    "raise LabError('expected this, found that')")
    assert_one_line_error(headless(book, "-o", tmp_path / "out.ipynb"), "expected this, found that")


def test_an_executed_copy_is_replaced_when_the_first_epoch_is_done_and_not_before(notebook, tmp_path):
    run = tmp_path / "run"
    book = notebook(f"RUN = {str(run)!r}", "print('attempt', X)", "assert X != 2",
                    f"from pathlib import Path; Path({str(run)!r}).mkdir(exist_ok=True)\n"
                    f"Path({str(run)!r}, 'history.json').write_text(str(X))", "assert X != 3")
    book.write_text(book.read_text().replace("NAME = 'a'", f"RUN = {str(run)!r}"))
    out = tmp_path / "out.ipynb"
    run_notebook(book, {"X": 1}, out)
    first = out.read_bytes()
    assert b"attempt 1" in first
    with pytest.raises(SystemExit, match="stopped in cell"):
        run_notebook(book, {"X": 2}, out)  # fails before its first epoch
    assert out.read_bytes() == first
    with pytest.raises(SystemExit):
        run_notebook(book, {"X": 3}, out)  # fails after it
    assert b"attempt 3" in out.read_bytes() and b"attempt 1" not in out.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"book.ipynb", "out.ipynb", "run"}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), PapermillException("no such kernel")])
def test_an_error_of_papermill_itself_is_one_line_and_keeps_the_older_copy(notebook, tmp_path, monkeypatch, error):
    def fail(source, output, **_):
        Path(output).write_text("half")
        raise error

    (tmp_path / "out.ipynb").write_text("older")
    monkeypatch.setattr(headless_file.papermill, "execute_notebook", fail)
    with pytest.raises(LabError, match=r"expected to run book\.ipynb .*(No space left|no such kernel)"):
        run_notebook(notebook("1"), {}, tmp_path / "out.ipynb")
    assert (tmp_path / "out.ipynb").read_text() == "older"
    assert {path.name for path in tmp_path.iterdir()} == {"book.ipynb", "out.ipynb"}


@pytest.mark.parametrize("content", ["", "{}", "not a notebook", '{"cells": 3}'])
def test_what_is_no_notebook_is_one_line(tmp_path, content):
    (tmp_path / "book.ipynb").write_text(content)
    with pytest.raises(LabError, match=r"expected a notebook, found .*book\.ipynb: save it again") as caught:
        run_notebook(tmp_path / "book.ipynb", {}, tmp_path / "out.ipynb")
    assert "\n" not in str(caught.value)


def test_settings_outside_the_settings_cell_go_into_the_recipe(notebook, tmp_path):
    book = notebook("recipe = dict(A=1, B={'x': 0.5},   # explained\n              C=(1, 2))", "print(recipe, X)")
    assert notebook_settings(book) == {"X": 1, "NAME": "a", "A": 1, "B": {"x": 0.5}, "C": (1, 2)}
    result = headless(book, "-p", "C", "[3, 4]", "-p", "X", 7, "-p", "B", "{'y': 1}", "-o", tmp_path / "out.ipynb")
    assert result.stdout == "{'A': 1, 'B': {'y': 1}, 'C': [3, 4]} 7\n", result.stderr
    with pytest.raises(LabError, match=r"expected settings of book.ipynb \(X, NAME, A, B, C\), found D: check -p"):
        run_notebook(book, {"D": 1}, tmp_path / "out.ipynb")


def test_another_error_shows_the_cell(notebook, tmp_path):
    result = headless(notebook("y = 1 / 0"), "-o", tmp_path / "out.ipynb")
    assert result.status == 1
    assert "ZeroDivisionError" in result.stderr and "y = 1 / 0" in result.stderr and "papermill" not in result.stderr


def test_a_killed_kernel_is_one_line_of_its_own(notebook, tmp_path):
    book = notebook("import os, sys, time\nprint('a bar', end='', file=sys.stderr, flush=True)\ntime.sleep(1)\n"
                    "os.kill(os.getpid(), 9)")
    result = headless(book, "-o", tmp_path / "out.ipynb")
    assert_one_line_error(result, "kernel killed", "lower BATCH_SIZE")
    assert "a bar\nerror: " in result.stderr


def test_ctrl_c_ends_the_kernel_too(notebook, tmp_path):
    book = notebook(f"import os, time, pathlib; pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))\n"
                    "time.sleep(120)")
    process = subprocess.Popen([sys.executable, "-m", "training.headless", book, "-o", tmp_path / "out.ipynb"],
                               cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "pid").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(2)
    stderr = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "Traceback" not in stderr and "Ctrl-C" in stderr
    kernel = int((tmp_path / "pid").read_text())
    while time.monotonic() < deadline:
        if not Path(f"/proc/{kernel}").exists():
            return
        time.sleep(0.2)
    pytest.fail("the kernel outlived its notebook")


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_make_lab_hands_its_settings_on(tmp_path):
    """An environment whose Python tells its arguments, a line each run."""
    python = tmp_path / "bin/python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\nprintf "%s|" "$@"; echo\n', encoding="utf-8")
    python.chmod(0o755)
    (tmp_path / ".installed").touch()
    done = subprocess.run(["make", "lab", f"VENV={tmp_path}", f"PYTHON={sys.executable}", "DATA=/a folder", "EPOCHS=2",
                           "RESUME=True"], cwd=ROOT, text=True, capture_output=True, check=True)
    assert done.stdout.splitlines() == ["-m|dataset.dataset|/a folder|"] + [
        f"-m|training.headless|{task.notebook}|-p|DATA|/a folder|-p|EPOCHS|2|-p|RESUME|True|"
        for task in TASKS.values()] + [f"test_task{number}.py|{task.model_file}|/a folder|"
                                       for number, task in TASKS.items()]
