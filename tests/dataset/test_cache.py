"""The cache against the files decoded again: the same pixels whatever happened while it was built."""
import errno
import hashlib
import itertools
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, assert_one_line_error, run_command, write_pair
from PIL import Image
from torch.utils.data import DataLoader

from dataset import cache, commands
from dataset.batches import Batches
from dataset.cache import Arrays, open_cache
from dataset.dataset import SegmentationDataset
from dataset.layouts.base import Layout
from dataset.reader import find_data, read_image, read_label
from utils.lab import LabError


def write_noise(root: Path, count: int, split: str = "train", size: tuple[int, int] = (37, 71), first: int = 0) -> Path:
    """Pairs of an odd size, every one different."""
    for index in range(first, first + count):
        rng = np.random.default_rng(index)
        write_pair(root, split, f"x_{index:06}_000019",
                   Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)),
                   Image.fromarray(rng.integers(0, 34, size, dtype=np.uint8)))
    return root


@pytest.fixture(autouse=True)
def _own_places(tmp_path, monkeypatch):
    monkeypatch.delenv("LAB_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))


@pytest.fixture
def root(tmp_path) -> Path:
    return write_noise(tmp_path / "data", 5)


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    return write_noise(tmp_path_factory.mktemp("many"), 40)


def assert_right(arrays: Arrays, root: Path, split: str = "train") -> None:
    """The cache holds the files' pixels, as the reader decodes them without a cache."""
    pairs = find_data(root).pairs(split)
    assert len(arrays.images) == len(arrays.targets) == len(pairs)
    for index, pair in enumerate(pairs):
        np.testing.assert_array_equal(arrays.images[index], read_image(pair.image))
        np.testing.assert_array_equal(arrays.targets[index], read_label(pair.label))


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- what is in it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drawn", [True, False], ids=["sample", "odd sizes"])
def test_items_and_arrays_are_bit_equal_to_the_uncached_ones(root, sample, drawn):
    data = sample if drawn else root
    cached, plain = SegmentationDataset(data, "train"), SegmentationDataset(data, "train", cache=False)
    assert cached.cached and not plain.cached
    assert len(cached) == len(plain) == len(cached.arrays[0])
    for index in range(len(plain)):
        for ours, expected in zip(cached.read(index), plain.read(index), strict=True):
            np.testing.assert_array_equal(ours, expected)
        assert all(map(torch.equal, cached[index], plain[index]))
    for ours, expected in zip(cached.arrays, plain.arrays, strict=True):
        np.testing.assert_array_equal(ours, expected)
    assert_right(cached.cached, data)


def test_arrays_are_mapped_and_cannot_be_written(root):
    arrays = open_cache(root, "train")
    for part in arrays.images, arrays.targets:
        assert isinstance(part, np.memmap) and part.dtype == np.uint8 and not part.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            part[0] = 0


def test_an_item_is_the_readers_own_to_write_on(root):
    dataset = SegmentationDataset(root, "train")
    for part in dataset.read(0):
        part[:] = 0
    assert_right(dataset.cached, root)


def test_manifest_names_every_source_and_has_a_checksum_a_pair(root):
    arrays = open_cache(root, "train")
    manifest = json.loads((arrays.folder / "manifest.json").read_text(encoding="utf-8"))
    files = [path for pair in find_data(root).pairs("train") for path in (pair.image, pair.label)]
    assert manifest["sources"] == [[path.relative_to(root).as_posix(), path.stat().st_size, path.stat().st_mtime_ns]
                                   for path in files]
    assert manifest["checksums"] == [
        hashlib.sha256(read_image(image).tobytes() + read_label(label).tobytes()).hexdigest()[:16]
        for image, label in zip(files[::2], files[1::2], strict=True)]
    assert manifest["version"] == cache.VERSION


def test_second_opening_reads_no_source(root, monkeypatch, capsys):
    first = open_cache(root, "train")
    assert "cache of train: 5 pairs" in capsys.readouterr().err
    monkeypatch.setattr(cache, "read_image", lambda path, layout: pytest.fail(f"read {path}"))
    again = open_cache(root, "train")
    assert again.folder == first.folder and capsys.readouterr().err == ""


# --- when it is built again ----------------------------------------------------------------------------------------


def source(root: Path, number: int) -> Path:
    return find_data(root).pairs("train")[number].image


def change(root: Path, folder: Path) -> None:
    Image.new("RGB", (20, 10), (1, 2, 3)).save(source(root, 2))


def touch(root: Path, folder: Path) -> None:
    status = source(root, 2).stat()
    os.utime(source(root, 2), ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))


def remove(root: Path, folder: Path) -> None:
    pair = find_data(root).pairs("train")[1]
    pair.image.unlink()
    pair.label.unlink()


@pytest.mark.parametrize("spoil", [
    pytest.param(change, id="source changed"),
    pytest.param(touch, id="same size, new time"),
    pytest.param(lambda root, folder: write_noise(root, 1, first=9), id="source added"),
    pytest.param(remove, id="source removed"),
    pytest.param(lambda root, folder: os.truncate(folder / "images.npy", 300_000), id="images cut short"),
    pytest.param(lambda root, folder: os.truncate(folder / "labels.npy", 0), id="labels empty"),
    pytest.param(lambda root, folder: (folder / "labels.npy").unlink(), id="labels gone"),
    pytest.param(lambda root, folder: (folder / "manifest.json").write_text("{nonsense"), id="manifest is no JSON"),
    pytest.param(lambda root, folder: (folder / "manifest.json").write_text("[]"), id="manifest of another kind"),
    pytest.param(lambda root, folder: (folder / "manifest.json").unlink(), id="manifest gone"),
])
def test_a_cache_that_does_not_fit_is_built_again_and_the_old_one_deleted(root, spoil, capsys):
    old = open_cache(root, "train")
    capsys.readouterr()
    spoil(root, old.folder)
    new = open_cache(root, "train")
    assert_right(new, root)
    assert capsys.readouterr().err.count("building it again\n") == 1
    assert names_in(root / "lab-cache") == [".train.lock", new.folder.name]


def test_another_version_of_the_resize_is_built_again(root, monkeypatch, capsys):
    old = open_cache(root, "train")
    capsys.readouterr()
    monkeypatch.setattr(cache, "VERSION", cache.VERSION + 1)
    new = open_cache(root, "train")
    assert new.folder != old.folder and capsys.readouterr().err.count("building it again\n") == 1
    assert names_in(root / "lab-cache") == [".train.lock", new.folder.name]


def test_splits_do_not_disturb_each_other(root):
    write_noise(root, 2, "val", first=20)
    train, val = open_cache(root, "train"), open_cache(root, "val")
    assert_right(train, root)
    assert_right(val, root, "val")
    assert names_in(root / "lab-cache") == [".train.lock", ".val.lock", train.folder.name, val.folder.name]


# --- where it lies ------------------------------------------------------------------------------------------------


def test_it_lies_in_lab_cache_where_that_is_set(root, tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_CACHE", str(tmp_path / "fast"))
    assert (tmp_path / "fast") in open_cache(root, "train").folder.parents
    assert not (root / "lab-cache").exists()


def test_two_data_sets_share_one_lab_cache(root, tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_CACHE", str(tmp_path / "fast"))
    other = write_noise(tmp_path / "other" / "data", 3, first=5)  # a folder of the same name
    ours, theirs = open_cache(root, "train"), open_cache(other, "train")
    assert_right(ours, root)
    assert_right(theirs, other)
    assert_right(open_cache(root, "train"), root)


def test_it_lies_beside_the_data(root):
    assert open_cache(root, "train").folder.parent == root / "lab-cache"


def test_it_lies_in_the_users_cache_where_the_data_cannot_be_written(root, tmp_path):
    (root / "lab-cache").write_text("in the way")
    arrays = open_cache(root, "train")
    assert (tmp_path / "home" / "segmentation-lab") in arrays.folder.parents
    assert_right(arrays, root)


def test_one_that_a_ta_built_beside_the_data_is_used_without_the_right_to_write(root, monkeypatch, capsys):
    built = open_cache(root, "train")
    capsys.readouterr()
    monkeypatch.setattr(cache, "_writable", lambda place: False)
    assert open_cache(root, "train").folder == built.folder and capsys.readouterr().err == ""


def test_an_outdated_one_that_cannot_be_written_is_left_alone(root, tmp_path, monkeypatch):
    built = open_cache(root, "train")
    change(root, built.folder)
    writable = cache._writable
    monkeypatch.setattr(cache, "_writable", lambda place: place != root / "lab-cache" and writable(place))
    new = open_cache(root, "train")
    assert tmp_path / "home" in new.folder.parents and built.folder.is_dir()
    assert_right(new, root)


def test_a_user_without_a_home_has_a_cache_beside_the_data_all_the_same(root, monkeypatch):
    def homeless(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    assert open_cache(root, "train").folder.parent == root / "lab-cache"


def test_nowhere_to_write_is_a_note_and_the_lab_goes_on(root, monkeypatch, capsys):
    monkeypatch.setattr(cache, "_writable", lambda place: False)
    dataset = SegmentationDataset(root, "train")
    note, = capsys.readouterr().err.splitlines()
    assert note.startswith("note: no cache of train: no folder to write it to") and "LAB_CACHE=" in note
    assert dataset.cached is None
    np.testing.assert_array_equal(dataset.read(3)[0], read_image(source(root, 3)))


# --- no room ------------------------------------------------------------------------------------------------------

NO_ROOM = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000)); "  # 5 images: 2 MB


def test_no_room_is_one_line_and_the_lab_goes_on_with_the_right_pixels(root):
    program = NO_ROOM + ("import hashlib, sys; from dataset.dataset import SegmentationDataset; "
                         "data = SegmentationDataset(sys.argv[1], 'train'); "
                         "print(hashlib.sha256(b''.join(p.tobytes() for p in data.arrays)).hexdigest())")
    result = run_command("-c", program, root)
    pairs = find_data(root).pairs("train")
    pixels = b"".join([read_image(pair.image).tobytes() for pair in pairs]
                      + [read_label(pair.label).tobytes() for pair in pairs])
    assert (result.status, result.stdout) == (0, hashlib.sha256(pixels).hexdigest() + "\n")
    lines = [line for line in result.stderr.splitlines() if line.strip() and "reading train" not in line]
    assert len(lines) == 1 and lines[0].startswith("note: no cache of train: File too large"), result.stderr
    assert names_in(root / "lab-cache") == [".train.lock"]


def test_no_room_is_an_error_for_who_asks_for_the_cache_alone(root):
    program = NO_ROOM + "import runpy; runpy.run_module('dataset.cache', run_name='__main__')"
    assert_one_line_error(run_command("-c", program, root), "place for the cache of train", "LAB_CACHE")
    assert names_in(root / "lab-cache") == [".train.lock"]


def test_a_disk_that_fills_while_building_leaves_nothing_behind(root, monkeypatch, capsys):
    count = itertools.count(1)

    def full(image: np.ndarray, label: np.ndarray) -> str:
        if next(count) == 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return ""

    monkeypatch.setattr(cache, "checksum", full)
    assert open_cache(root, "train") is None
    assert "note: no cache of train: No space left on device while writing" in capsys.readouterr().err
    assert names_in(root / "lab-cache") == [".train.lock"]


def test_a_file_system_that_cannot_reserve_room_is_written_all_the_same(root, monkeypatch):
    def unsupported(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", unsupported, raising=False)
    assert_right(open_cache(root, "train"), root)


# --- several processes, kills, Ctrl-C -----------------------------------------------------------------------------


def start(*arguments: object, **environment: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, cwd=ROOT, env={**os.environ, **environment})


# The command, with 20 ms an image on top, on any number of cores: time enough to be disturbed.
SLOW = """
import threading, time
from dataset import cache, commands
from utils.terminal import run_main

turn, read = threading.Lock(), cache.read_image
def slow(path, layout):
    with turn:
        time.sleep(0.02)
    return read(path, layout)
cache.read_image = slow
"""


def test_processes_started_together_build_it_once(many, tmp_path):
    together = [start("-c", SLOW + "run_main(commands.build_cache)", many, "--split", "train", "--verify",
                      LAB_CACHE=str(tmp_path / "fast")) for _ in range(3)]
    ended = [process.communicate(timeout=300) for process in together]
    assert [process.returncode for process in together] == [0, 0, 0], ended
    assert len({stdout for stdout, _ in ended}) == 1 and "every row agrees" in ended[0][0]
    assert sum("built in" in stderr for _, stderr in ended) == 1


def test_one_that_comes_later_waits_and_says_so(root, monkeypatch, capsys):
    go, results, said = threading.Event(), [], ""

    def read(path: Path, layout: Layout) -> np.ndarray:
        assert go.wait(120)
        return read_image(path, layout)

    monkeypatch.setattr(cache, "read_image", read)
    threads = [threading.Thread(target=lambda: results.append(open_cache(root, "train"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 120
    while "waiting for it" not in said and time.monotonic() < end:
        said += capsys.readouterr().err
        time.sleep(0.01)
    go.set()
    for thread in threads:
        thread.join(120)
    said += capsys.readouterr().err
    assert said.count("another process is building the cache of train") == said.count("built in") == 1
    for arrays in results:
        assert_right(arrays, root)


def test_three_kills_leave_nothing_but_the_finished_cache_with_the_same_bytes(many, tmp_path, monkeypatch):
    for kills in (0, 3):
        place = tmp_path / f"after {kills} kills"
        program = SLOW + f"""
import os, signal
for delay in {np.random.default_rng(0).uniform(0.05, 0.4, kills).tolist()}:
    child = os.fork()
    if not child:
        run_main(commands.build_cache)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    print(os.waitpid(child, 0)[1])
run_main(commands.build_cache)
"""
        done = run_command("-c", program, many, "--split", "train", "--verify", LAB_CACHE=str(place))
        assert done.status == 0 and done.stdout.split()[:kills] == [str(int(signal.SIGKILL))] * kills, done.stderr
        own, = place.iterdir()
        folder, = (path for path in own.iterdir() if path.is_dir())
        assert names_in(own) == [".train.lock", folder.name]
        assert names_in(folder) == ["images.npy", "labels.npy", "manifest.json"]
    for name in ("images.npy", "labels.npy"):
        first, second = (path.read_bytes() for path in tmp_path.glob(f"after*/*/train-*/{name}"))
        assert first == second


@pytest.mark.parametrize("moment", [
    # the checksum of the third pair; before the manifest; before an old folder is deleted; before the rename
    "checksum = cache.checksum; cache.checksum = lambda *pair: next(count) == 3 and die() or checksum(*pair)",
    "cache.json.dump = lambda *_: die()",
    "cache.shutil.rmtree = lambda *_, **__: die()",
    "cache.Path.rename = lambda *_: die()",
], ids=["while decoding", "before the manifest", "before the old one is deleted", "before the rename"])
def test_a_kill_at_the_worst_moments_leaves_nothing_wrong(root, moment):
    old = open_cache(root, "train")
    change(root, old.folder)
    program = ("import itertools, os, signal; from dataset import cache, commands; count = itertools.count(1); "
               f"die = lambda: os.kill(os.getpid(), signal.SIGKILL); {moment}; commands.build_cache()")
    assert run_command("-c", program, root).status == -signal.SIGKILL
    arrays = open_cache(root, "train")
    assert_right(arrays, root)
    commands.verify(arrays)
    assert names_in(root / "lab-cache") == [".train.lock", arrays.folder.name]


def test_what_an_older_version_left_half_done_is_removed(root):
    part = root / "lab-cache" / ".train.part"
    part.mkdir(parents=True)
    for name in ("images.npy", "labels.npy", "done.txt"):
        (part / name).write_bytes(b"0 1234 5678")
    arrays = open_cache(root, "train")
    assert_right(arrays, root)
    assert names_in(root / "lab-cache") == [".train.lock", arrays.folder.name]


def test_ctrl_c_is_one_line_and_leaves_nothing_behind(many, tmp_path):
    process = start("-c", SLOW + "run_main(commands.build_cache)", many, LAB_CACHE=str(tmp_path / "fast"))
    end = time.monotonic() + 120
    while not list(tmp_path.glob("fast/*/.train.part/images.npy")):
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=120)
    assert (process.returncode, stdout) == (130, "")
    assert stderr.splitlines()[-1] == "stopped by Ctrl-C" and "Traceback" not in stderr
    own, = (tmp_path / "fast").iterdir()
    assert names_in(own) == [".train.lock"]


# --- sources that go wrong ----------------------------------------------------------------------------------------


def test_a_source_that_vanishes_between_epochs_matters_only_without_a_cache(root):
    batches, plain = Batches(SegmentationDataset(root, "train"), 2), SegmentationDataset(root, "train", cache=False)
    before = list(batches)
    gone = source(root, 1)
    gone.unlink()
    for ours, expected in zip(batches, before, strict=True):
        assert all(map(torch.equal, ours, expected))
    with pytest.raises(LabError, match=gone.name):
        plain[1]
    with pytest.raises(LabError, match=gone.name):
        Batches(plain, 2)


@pytest.mark.parametrize("which", ["image", "label"])
def test_a_dangling_link_is_one_error_that_names_it(root, which):
    path = getattr(find_data(root).pairs("train")[1], which)
    path.unlink()
    path.symlink_to(root / "nowhere.png")
    with pytest.raises(LabError, match=path.name):
        SegmentationDataset(root, "train")


def test_a_damaged_file_is_named_and_nothing_is_left_behind(root, here):
    bad = source(root, 3)
    whole = bad.read_bytes()
    bad.write_bytes(whole[:-40])
    assert_one_line_error(here(commands.build_cache, root), bad.name, "copy it again")
    assert names_in(root / "lab-cache") == [".train.lock"]
    bad.write_bytes(whole)
    assert_right(open_cache(root, "train"), root)


# --- worker processes ---------------------------------------------------------------------------------------------


def test_a_worker_gets_the_place_of_the_cache_not_its_pixels(root):
    dataset = SegmentationDataset(root, "train")
    assert dataset.arrays[0].nbytes > 1_000_000
    sent = pickle.dumps(dataset)
    assert len(sent) < 100_000
    for index, (image, target) in enumerate(map(pickle.loads(sent).__getitem__, range(5))):
        assert torch.equal(image, dataset[index][0]) and torch.equal(target, dataset[index][1])


def test_uncached_pixels_are_not_sent_either(root):
    dataset = SegmentationDataset(root, "train", cache=False)
    assert dataset.arrays[0].nbytes > 1_000_000
    sent = pickle.dumps(dataset)
    assert len(sent) < 100_000
    np.testing.assert_array_equal(pickle.loads(sent).arrays[0], dataset.arrays[0])


def test_spawned_workers_give_the_same_items(root):
    dataset = SegmentationDataset(root, "train")
    loaded = list(DataLoader(dataset, batch_size=None, num_workers=1, multiprocessing_context="spawn"))
    assert len(loaded) == 5
    for index, item in enumerate(loaded):
        assert all(map(torch.equal, item, dataset[index]))


def test_a_cache_deleted_meanwhile_is_an_error_in_the_worker(root):
    dataset = SegmentationDataset(root, "train")
    sent = pickle.dumps(dataset)
    shutil.rmtree(dataset.cached.folder)
    with pytest.raises(LabError, match="expected the cache that this process started with"):
        pickle.loads(sent)
    assert_right(dataset.cached, root)  # who has it mapped keeps it


# --- the command --------------------------------------------------------------------------------------------------


def test_command_prints_one_line_a_split(root):
    write_noise(root, 2, "val", first=20)
    result = run_command("-m", "dataset.cache", root)
    assert result.status == 0
    train, val = result.stdout.splitlines()
    assert train.startswith("train: 5 pairs, 0.00 GB in ") and val.startswith("val: 2 pairs, ")
    assert (root / "lab-cache") == Path(train.split(" in ")[1]).parent


@pytest.mark.parametrize("arguments, splits", [([], ["test"]), (["--split", "test"], ["test"])])
def test_command_builds_the_splits_there_are(tmp_path, monkeypatch, capsys, arguments, splits):
    root = write_noise(tmp_path / "reserved", 2, "test")
    monkeypatch.setattr(sys, "argv", ["cache", str(root), *arguments])
    commands.build_cache()
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == splits


def test_verify_finds_a_flipped_bit_and_names_its_source(root, here):
    folder = open_cache(root, "train").folder
    assert here(commands.build_cache, root, "--verify").stdout.endswith("every row agrees with its checksum\n")
    np.load(folder / "labels.npy", mmap_mode="r+")[3, 100, 100] ^= 1
    result = here(commands.build_cache, root, "--verify")
    assert_one_line_error(result, source(root, 3).name, str(folder), "delete", stdout=result.stdout)
    assert len(result.stdout.splitlines()) == 1


def test_wrong_data_folder_and_split_are_one_line(root, tmp_path, here):
    assert_one_line_error(here(commands.build_cache, tmp_path / "nowhere"), "nowhere")
    assert_one_line_error(here(commands.build_cache, root, "--split", "val"), "val", "train")
