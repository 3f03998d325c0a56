"""Where a release is written and with which data; whatever interrupts it, the earlier archive stays whole."""
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, assert_one_line_error, run_command
from made_layouts import write_kitti

from dataset.reader import find_data
from grading.kit.archive import FORMATS, unpack_archive
from grading.kit.release import release
from utils.lab import LabError


@pytest.fixture
def data(sample, tmp_path) -> Path:
    """A data set of links, with a test split of its own."""
    for kind in ("leftImg8bit", "gtFine"):
        (tmp_path / "set" / kind).mkdir(parents=True)
        for split in ("train", "val"):
            (tmp_path / "set" / kind / split).symlink_to(sample / kind / split)
        shutil.copytree(sample / kind / "val", tmp_path / "set" / kind / "test")
    return tmp_path / "set"


@pytest.mark.parametrize("suffix", [".tar", ".zip"])
def test_the_data_travel_without_the_test_split(suffix, data, sample, tmp_path):
    made = release(ROOT, tmp_path / f"a{suffix}", data, trial=False)
    unpack_archive(made.out, FORMATS[suffix], tmp_path / "u")
    kit = tmp_path / "u/a"
    names = [path.relative_to(kit / "data").as_posix() for path in (kit / "data").rglob("*.png")]
    assert len(names) == 2 * (4 + 2)
    assert not any("/test/" in name for name in names)
    assert all(name.endswith(("_leftImg8bit.png", "_gtFine_labelIds.png")) for name in names)
    assert all((kit / "data" / name).read_bytes() == (sample / name).read_bytes() for name in names)
    assert [len(find_data(kit / "data").pairs(split)) for split in ("train", "val")] == [4, 2]
    assert made.files == sum(path.is_file() for path in kit.rglob("*"))


def test_a_wrong_data_folder_ends_in_one_line(data, tmp_path, monkeypatch):
    def refuse(folder: Path, words: str) -> None:
        with pytest.raises(LabError, match=words):
            release(ROOT, tmp_path / "a.tar", folder, trial=False)
        assert not (tmp_path / "a.tar").exists()

    monkeypatch.chdir(tmp_path)
    refuse(tmp_path / "nothing", "expected a data folder, found none at")
    refuse(data / "gtFine", f"pass {data}")
    refuse(write_kitti(tmp_path / "kitti"), "expected Cityscapes' layout, found KITTI in")
    (tmp_path / "data").mkdir()
    refuse(Path("data"), "found no data set in data")  # where the lab would take its drawn sample
    (data / "leftImg8bit/train").unlink()
    refuse(data, "expected images of train .*: the splits with images are val, test")
    (data / "leftImg8bit/train").symlink_to(data / "leftImg8bit/test")
    refuse(data, "expected a label")
    result = run_command("-m", "grading", "release", "--out", "a.tar", "--with-data", "nothing", cwd=tmp_path)
    assert_one_line_error(result, "expected a data folder, found none at", "nothing: pass")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a pipe with a name")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_an_interruption_leaves_nothing_half_written(name, data, tmp_path):
    for kind in ("leftImg8bit", "gtFine"):  # the test split, which is no link, becomes train
        (data / kind / "train").unlink()
        (data / kind / "test").rename(data / kind / "train")
    waiting = sorted((data / "leftImg8bit/train").rglob("*.png"))[-1]  # who reads it waits for ever
    waiting.unlink()
    os.mkfifo(waiting)
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    out.mkdir()
    scratch.mkdir()
    (out / "a.tar").write_bytes(b"earlier")
    process = subprocess.Popen(
        [sys.executable, "-m", "grading", "release", "--no-trial", "--out", out / "a.tar", "--with-data", data],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(scratch)}, stderr=subprocess.PIPE,
        text=True, encoding="utf-8")
    try:
        deadline = time.monotonic() + 60
        while not any(part.stat().st_size for part in out.glob(".a.tar.*.part")):
            assert process.poll() is None and time.monotonic() < deadline, process.stderr.read()
            time.sleep(0.05)
        process.send_signal(getattr(signal, name))
        _, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert (out / "a.tar").read_bytes() == b"earlier"
    if name != "SIGKILL":  # which nobody can answer: a hidden part stays, which git ignores
        assert process.returncode == {"SIGINT": 130, "SIGTERM": 143}[name]
        assert [path.name for path in out.iterdir()] == ["a.tar"] and not list(scratch.iterdir())
        assert "Traceback" not in stderr


def test_a_bad_place_ends_in_one_line(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder.tar").mkdir()
    for out, words in [("kit.rar", "ending in .tar, .tar.gz, .tgz, .zip"), ("kit", "ending in"), (".tar", "ending in"),
                       ("folder.tar", "found a folder at"), ("file/kit.tar", "expected a folder that can be written")]:
        with pytest.raises(LabError, match=words):
            release(ROOT, tmp_path / out, trial=False)
    assert_one_line_error(run_command("-m", "grading", "release", "--out", tmp_path / "kit.rar"), "ending in")
    result = run_command("-m", "grading")
    assert result.status == 2 and "Traceback" not in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.tar"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc, a folder that even root cannot write")
def test_an_unwritable_folder_ends_in_one_line():
    with pytest.raises(LabError, match=r"expected to write /proc/kit\.tar|expected a folder that can be written"):
        release(ROOT, Path("/proc/kit.tar"), trial=False)
