"""What several tests need: a small sample, untrained weights, and a way to run a command as a user would."""
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # before torch is loaded, see utils/__init__.py
os.environ.setdefault("OMP_NUM_THREADS", "1")  # so too: two files of tests run at a time, and share the cores
os.environ.pop("LAB_CACHE", None)  # a class's cache is no place for the tests' images
import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
CONFIG = tempfile.TemporaryDirectory(prefix="lab-config-")
os.environ["XDG_CONFIG_HOME"] = CONFIG.name  # tests make keys of their own
for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):  # a make that a test starts is not part of the one that started it
    os.environ.pop(name, None)
# A job in the background ignores Ctrl-C, and hands that on to all it starts; the tests send it and expect an answer.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, str(ROOT))

# The files that take longest, the longest first: what starts last ends last, with one of two workers idle.
LONGEST = [f"test_{name}.py" for name in (
    "handin", "benchmarks", "attacks", "scripts", "notebooks", "handin_networks", "distributed", "trials", "class",
    "grade", "sample", "gallery_command", "release", "sandbox", "training", "report_figures", "frontier", "cache",
    "run_folder", "page_in_browser")]


@pytest.fixture(autouse=True)
def signals():
    """A command that a test runs in this process leaves no signal ignored for the processes of the next test."""
    before = {which: signal.getsignal(which) for which in (signal.SIGINT, signal.SIGTERM)}
    yield
    for which, handler in before.items():
        signal.signal(which, handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def run_command(*arguments: object, cwd: Path = ROOT, timeout: float = 300, **environment: str) -> SimpleNamespace:
    """Runs `python ARGUMENTS` with the lab on the path; returns its status, stdout and stderr."""
    done = subprocess.run([sys.executable, *map(str, arguments)], cwd=cwd, capture_output=True, text=True,
                          encoding="utf-8", timeout=timeout, check=False,
                          env={**os.environ, "PYTHONPATH": str(ROOT), **environment})
    return SimpleNamespace(status=done.returncode, stdout=done.stdout, stderr=done.stderr)


@pytest.fixture
def here(capsys, monkeypatch):
    """`run_command` for a command's `main`, in this process: for all that is not about the process itself."""
    from utils.terminal import run_main

    def run(main: Callable, *arguments: object) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            run_main(main)
        shown = capsys.readouterr()
        return SimpleNamespace(status=ended.value.code or 0, stdout=shown.out, stderr=shown.err)

    return run


def assert_one_line_error(result: SimpleNamespace, *parts: str, stdout: str = "") -> None:
    """Status 2, nothing on stdout (but `stdout`), one last line `error: ...` that holds all `parts`, no traceback."""
    lines = result.stderr.strip().splitlines()
    assert result.status == 2, result.stderr
    assert result.stdout == stdout
    assert "Traceback" not in result.stderr
    assert lines[-1].startswith("error: "), result.stderr
    assert sum(line.startswith("error: ") for line in lines) == 1
    for part in parts:
        assert part in lines[-1], f"{part!r} is missing in: {lines[-1]}"


def sandbox_level():
    """The strongest sandbox of this machine; where there is none, the test that asks is skipped."""
    from grading.trial.sandbox import find_level
    from utils.lab import LabError

    try:
        return find_level()
    except LabError as error:
        pytest.skip(str(error))


def load_file(path: Path):
    """Imports a Python file by its path, without the lab's own loader."""
    spec = importlib.util.spec_from_file_location(f"loaded_{path.parent.name}_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where a dataclass, for one, looks up what its annotations mean
    spec.loader.exec_module(module)
    return module


def write_pair(root: Path, split: str, name: str, image: Image.Image, label: Image.Image | None,
               suffix: str = "_gtFine_labelIds.png") -> tuple[Path, Path]:
    """Saves an image and its label in Cityscapes' layout; `name` is city_seq_frame."""
    city = name.split("_")[0]
    paths = (root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png",
             root / "gtFine" / split / city / f"{name}{suffix}")
    for path, content in zip(paths, (image, label), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is not None:
            content.save(path)
    return paths


@pytest.fixture(scope="session")
def sample(tmp_path_factory) -> Path:
    """A sample of 4 training and 2 validation images, drawn once for the whole test run."""
    from sample.draw import draw_sample

    return draw_sample(tmp_path_factory.mktemp("data") / "sample", train=4, val=2)


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> dict[int, Path]:
    """Untrained weights of both reference networks as they are handed in, from a fixed seed."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    task2 = load_file(ROOT / "network2/network.py")
    networks = {1: load_file(ROOT / "network/network.py").UNet(4), 2: task2.deploy(task2.LowComplexityNet())}
    paths = {}
    for number, network in networks.items():
        paths[number] = folder / f"model_task{number}.pth"
        torch.save(network.state_dict(), paths[number])
    return paths


@pytest.fixture
def tiny_pair() -> tuple[Image.Image, Image.Image]:
    """An image and label ids of an odd size, from a fixed seed."""
    rng = np.random.RandomState(0)
    return (Image.fromarray(rng.randint(0, 256, (37, 71, 3)).astype(np.uint8)),
            Image.fromarray(rng.randint(0, 34, (37, 71)).astype(np.uint8)))
