"""The drawn sample: the same pixels everywhere, Cityscapes' files, and hard enough to need a network."""
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, assert_one_line_error, run_command
from PIL import Image
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import jaccard_score

from dataset.dataset import SegmentationDataset
from sample import draw
from sample.draw import draw_sample, is_sample
from utils.lab import LabError
from utils.labels_cat import ID_TO_CATEGORY, LABEL_COLORS, id2label


def digest(path: Path) -> str:
    pixels = np.asarray(Image.open(path))
    return hashlib.sha256(str((pixels.shape, pixels.dtype)).encode() + pixels.tobytes()).hexdigest()[:16]


def files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def test_pixels_are_pinned(sample):
    """The sample is the same on every machine; a change of the drawing must change this line knowingly."""
    first = sorted((sample / "leftImg8bit/train").glob("*/*.png"))[0]
    label = next((sample / "gtFine/train").glob(f"*/{first.name.replace('leftImg8bit', 'gtFine_labelIds')}"))
    assert [digest(first), digest(label)] == ["76fd03884b5ee32d", "96dcfa3f29f432f6"]


def test_files_are_cityscapes_own(sample):
    for split, count in (("train", 4), ("val", 2)):
        paths = sorted((sample / "leftImg8bit" / split).glob("*/*_leftImg8bit.png"))
        assert len(paths) == count
        for path in paths:
            stem = path.name.removesuffix("_leftImg8bit.png")
            city, sequence, frame = stem.split("_")
            assert city == path.parent.name and len(sequence) == len(frame) == 6
            labels = sample / "gtFine" / split / city
            image, ids, color, instances = (Image.open(path) for path in (
                path, *(labels / f"{stem}_gtFine_{kind}.png" for kind in ("labelIds", "color", "instanceIds"))))
            assert (image.mode, ids.mode, color.mode) == ("RGB", "L", "RGBA")
            assert image.size == ids.size == color.size == instances.size == (1024, 512)
            assert np.asarray(instances).dtype.itemsize >= 2


def test_the_three_labels_agree(sample):
    for path in sorted((sample / "gtFine").glob("*/*/*_labelIds.png")):
        ids = np.asarray(Image.open(path))
        colors = np.asarray(Image.open(str(path).replace("labelIds", "color")))[..., :3]
        instances = np.asarray(Image.open(str(path).replace("labelIds", "instanceIds"))).astype(int)
        np.testing.assert_array_equal(ID_TO_CATEGORY[LABEL_COLORS.look_up(colors, "color")], ID_TO_CATEGORY[ids])
        with_instances = np.isin(ids, [i for i in range(34) if id2label[i].hasInstances])
        np.testing.assert_array_equal(np.where(with_instances, instances // 1000, instances), ids)


def test_another_seed_draws_other_images_and_the_same_seed_the_same(tmp_path, sample):
    again = draw_sample(tmp_path / "again", train=1, val=1)
    other = draw_sample(tmp_path / "other", train=1, val=1, seed=6)
    for path in (path for path in files(again) if path.suffix == ".png"):
        assert digest(path) == digest(sample / path.relative_to(again))
    names = [[digest(path) for path in files(root / "leftImg8bit")] for root in (again, other)]
    assert not set(names[0]) & set(names[1])


def test_a_finished_sample_is_left_alone_and_another_one_replaces_it(tmp_path):
    root = draw_sample(tmp_path / "s", train=1, val=1)
    before = {path: path.stat().st_mtime_ns for path in files(root)}
    assert is_sample(root) and not is_sample(tmp_path)
    draw_sample(root, train=1, val=1)
    assert {path: path.stat().st_mtime_ns for path in files(root)} == before
    draw_sample(root, train=2, val=1)
    assert len(list((root / "leftImg8bit/train").glob("*/*.png"))) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s"]


def test_somebodys_data_is_never_replaced(tmp_path):
    (tmp_path / "mine" / "leftImg8bit").mkdir(parents=True)
    (tmp_path / "mine" / "leftImg8bit" / "x.png").write_text("precious", encoding="utf-8")
    with pytest.raises(LabError, match="mine"):
        draw_sample(tmp_path / "mine", train=1, val=1)
    assert (tmp_path / "mine" / "leftImg8bit" / "x.png").read_text(encoding="utf-8") == "precious"


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_drawing_leaves_no_half_sample(tmp_path, sent):
    process = subprocess.Popen([sys.executable, "-m", "sample", tmp_path / "s", "--train", "40"], cwd=ROOT,
                               stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 60
    while not any(tmp_path.rglob("*_leftImg8bit.png")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(process.pid, sent)
    stderr = process.communicate(timeout=60)[1]
    assert not (tmp_path / "s").exists()
    if sent == signal.SIGINT:
        assert process.returncode == 130 and "Traceback" not in stderr
        assert list(tmp_path.iterdir()) == []
    assert run_command("-m", "sample", tmp_path / "s", "--train", 1, "--val", 1).status == 0
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_the_module_it_was_in_before_is_an_alias(tmp_path):
    done = run_command("-m", "dataset.sample", tmp_path / "s", "--train", 1, "--val", 1)
    assert done.status == 0 and "python -m dataset.sample is python -m sample now" in done.stderr
    assert is_sample(tmp_path / "s")


@pytest.mark.parametrize("start, found", [
    ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "found: a process that draws was killed"),
    ("import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (99, 99)); {start}", "found: File too large")])
def test_a_worker_that_fails_is_one_error_and_leaves_nothing(tmp_path, monkeypatch, start, found):
    monkeypatch.setattr(draw, "available_cores", lambda: 2)
    monkeypatch.setattr(draw, "START_WORKER", start.format(start=draw.START_WORKER))
    with pytest.raises(LabError, match=f"expected to write the sample to .*{found}"):
        draw_sample(tmp_path / "s", train=20, val=1)
    assert list(tmp_path.iterdir()) == []


def test_command_line_says_what_is_wrong(tmp_path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    assert_one_line_error(run_command("-m", "sample", tmp_path / "file"), "file")
    assert_one_line_error(run_command("-m", "sample", "/proc/none/s", "--train", 1), "/proc/none/s")
    for wrong in (["--train", "0"], ["--seed", "x"], ["--fast"]):
        assert run_command("-m", "sample", tmp_path / "s", *wrong).status == 2
    assert not (tmp_path / "s").exists()


@pytest.fixture(scope="module")
def larger(tmp_path_factory):
    """Pixels of 32 training and 12 validation images at the lab's size: uint8 images and categories."""
    root = draw_sample(tmp_path_factory.mktemp("larger") / "sample", train=32, val=12)
    assert json.loads((root / "sample.json").read_text(encoding="utf-8"))["train"] == 32
    return [SegmentationDataset(root, split).arrays for split in ("train", "val")]


def test_every_category_is_there(larger):
    for _, targets in larger:
        shares = np.bincount(targets.ravel(), minlength=8) / targets.size
        assert shares.shape == (8,) and shares.min() > 0.01
        assert (np.array([(targets == c).any((1, 2)).mean() for c in range(8)]) > 0.5).all()


def test_position_alone_does_not_tell_the_class(larger):
    (_, targets), (_, truth) = larger
    counts = np.stack([(targets == c).sum(0) for c in range(8)])
    pred = np.broadcast_to(counts.argmax(0), truth.shape)
    assert jaccard_score(truth.ravel(), pred.ravel(), average="macro") < 0.35


@pytest.mark.parametrize("weight", [None, "balanced"])
def test_color_alone_does_not_tell_the_class(larger, weight):
    rng = np.random.RandomState(0)
    (images, targets), (paths, truth) = ([part.reshape(-1, *part.shape[3:]) for part in split] for split in larger)
    train, val = rng.randint(0, len(targets), 60_000), rng.randint(0, len(truth), 200_000)
    model = HistGradientBoostingClassifier(max_iter=50, class_weight=weight, random_state=0)
    model.fit(images[train], targets[train])
    assert jaccard_score(truth[val], model.predict(paths[val]), average="macro") < 0.50
