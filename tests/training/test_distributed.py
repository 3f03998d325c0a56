"""Several processes against one: the same matrix, the same gradients; and torchrun with the notebooks' own code."""
import json
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from conftest import ROOT, run_command
from torch import nn

from training import distributed
from utils.lab import TASKS, LabError

WORLDS = (2, 3, 8)


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict[tuple[int, int], dict]:
    """What each process of each number of processes found; see ranks.py."""
    folder = tmp_path_factory.mktemp("ranks")
    done = run_command(ROOT / "tests/ranks.py", folder, OMP_NUM_THREADS="1")
    assert done.status == 0, done.stderr
    found = {}
    for path in folder.glob("*.json"):
        world, rank = map(int, path.stem.split("-"))
        found[world, rank] = json.loads(path.read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("world", WORLDS)
def test_the_matrix_is_the_single_process_one_whatever_the_number_of_processes(results, world):
    single = np.array(results[1, 0]["counts"])
    assert single.sum() == (23 - 1) * 64 * 128 - unlabeled()
    for rank in range(world):
        np.testing.assert_array_equal(results[world, rank]["counts"], single)


def unlabeled() -> int:
    """Ignored pixels of ranks.py's scored images beside the one that has none at all: columns from 3 i on."""
    return sum(64 * (128 - 3 * index) for index in range(1, 23, 5))


@pytest.mark.parametrize("world", WORLDS)
def test_training_is_that_of_a_single_process_with_the_same_batch(results, world):
    single = results[1, 0]
    for rank in range(world):
        np.testing.assert_allclose(results[world, rank]["weights"], single["weights"], rtol=0, atol=1e-9)
        assert results[world, rank]["loss"] == pytest.approx(single["loss"], abs=1e-9)
        np.testing.assert_array_equal(results[world, rank]["train_counts"], single["train_counts"])


@pytest.mark.parametrize("world", WORLDS)
def test_buffers_are_the_first_process_s_and_only_that_writes(results, world):
    assert all(results[world, rank]["mean"] == results[1, 0]["mean"] for rank in range(world))
    assert [results[world, rank]["main"] for rank in range(world)] == [True] + [False] * (world - 1)


def test_one_process_changes_nothing():
    network, loss = nn.Conv2d(3, 8, 1), torch.tensor(2.0)
    assert distributed.parallel(network) is network
    assert distributed.balance(loss, torch.zeros(1, 2, 2)) is loss
    assert distributed.shard() == (0, 1) and distributed.is_main()
    assert distributed.start("cpu") == torch.device("cpu")


def test_a_gpu_by_number_is_refused_under_torchrun(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(distributed, "pick_device", torch.device)
    with pytest.raises(LabError, match="a GPU of its own, found 'cuda:1'"):
        distributed.start("cuda:1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for device in ("cuda", "auto"):  # torch.device knows no "auto": no GPU is chosen by its free memory here
        with pytest.raises(LabError, match="found process 2 on a machine with 1 GPUs: torchrun --nproc-per-node=1"):
            distributed.start(device)


# --- torchrun -----------------------------------------------------------------------------------------------------


def torchrun(n: int, *arguments: object, **environment: str):
    return run_command("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n}", "-m",
                       "training.headless", *arguments, **environment)


@pytest.fixture
def notebook(tmp_path) -> Path:
    """Two shared cells and one of results; writes who ran what."""
    lines = [f"import os, sys; sys.path.insert(0, {str(ROOT)!r})\nfrom pathlib import Path\n"
             "from training import distributed\ndistributed.start('cpu')\n"
             "open(f'shared{distributed.shard()}', 'w').close()\nprint('hello from', distributed.shard())",
             "if FAIL == distributed.shard()[0]:\n    from utils.lab import LabError\n"
             "    raise LabError('expected all to be well, found a fault')\ndistributed.finish()",
             "open('results' + os.environ['RANK'], 'w').close(); print('done')"]
    cells = [nbformat.v4.new_code_cell(source) for source in ["FAIL = None", *lines]]
    cells[0].metadata["tags"], cells[-1].metadata["tags"] = ["parameters"], ["results"]
    path = tmp_path / "book.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}), path)
    return path


def test_all_processes_run_the_shared_cells_and_one_the_results(notebook, tmp_path):
    done = torchrun(2, notebook, "-o", tmp_path / "out.ipynb")
    assert done.status == 0, done.stderr
    assert done.stdout.splitlines() == ["hello from (0, 2)", "done"]
    assert "in 2 processes" in done.stderr and done.stderr.count("running") == 1
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"book.ipynb", "out.ipynb", "shared(0, 2)", "shared(1, 2)", "results0"}


def test_a_process_that_fails_ends_the_others_and_their_kernels(notebook, tmp_path):
    done = torchrun(2, notebook, "-o", tmp_path / "out.ipynb", "-p", "FAIL", 1, RANKS_TEST=str(tmp_path))
    assert done.status != 0 and "error: expected all to be well, found a fault" in done.stderr
    assert not (tmp_path / "results0").exists()
    assert not [process for process in Path("/proc").glob("[0-9]*") if marked(process, f"RANKS_TEST={tmp_path}")]


def marked(process: Path, mark: str) -> bool:
    """Whether the process, a folder of /proc, has `mark` in its environment."""
    try:
        return mark.encode() in (process / "environ").read_bytes()
    except OSError:  # it is another user's, or has ended
        return False


def test_the_notebook_trains_in_two_processes(sample, weights, tmp_path):
    model = tmp_path / "m.pth"
    done = torchrun(2, ROOT / TASKS[2].notebook, "-o", tmp_path / "out.ipynb", "-p", "DATA", sample, "-p", "EPOCHS", 1,
                    "-p", "BATCH_SIZE", 2, "-p", "MODEL", model, "-p", "RUN", tmp_path / "run", "-p", "DEVICE", "cpu",
                    "-p", "TEACHER", weights[1], "-p", "CALIBRATE", 0)
    assert done.status == 0, done.stderr
    assert done.stdout.count("epoch   1/1") == 1 and done.stdout.count("Final IoU") == 1
    history = json.loads((tmp_path / "run/history.json").read_text(encoding="utf-8"))
    settings = json.loads((tmp_path / "run/settings.json").read_text(encoding="utf-8"))
    assert settings["processes"] == 2
    assert np.sum(history[0]["confusion"]) == 2 * 256 * 512  # both validation images, once
    reported = float(done.stdout.split("Final IoU = ")[1].split()[0])
    assert reported == pytest.approx(history[0]["miou"], abs=2e-3)
