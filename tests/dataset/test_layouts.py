"""Each layout against data drawn in it: what is found, how it is split, what is read."""
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from cityscapesscripts.helpers.labels import id2label, name2label
from conftest import ROOT, assert_one_line_error, load_file, write_pair
from made_layouts import WRITERS, expect, noise, save, write_pix2pix, write_voc
from PIL import Image
from sklearn.metrics import jaccard_score
from torch import nn
from torch.nn import functional as F

from dataset import cache, commands
from dataset.augment import Augment
from dataset.batches import Batches, open_evaluation
from dataset.cache import open_cache
from dataset.dataset import SegmentationDataset
from dataset.layouts import layouts
from dataset.layouts.camvid import central_rows
from dataset.layouts.cityscapes import CITYSCAPES
from dataset.reader import find_data, read_image, read_label
from utils.classes import LAB_CLASSES
from utils.evaluation import evaluate
from utils.lab import INPUT_SIZE
from utils.labels_cat import CATEGORIES

VOC_COLORS = {  # as the development kit's documents show them
    "background": (0, 0, 0), "aeroplane": (128, 0, 0), "bicycle": (0, 128, 0), "bird": (128, 128, 0),
    "boat": (0, 0, 128), "bottle": (128, 0, 128), "bus": (0, 128, 128), "car": (128, 128, 128), "cat": (64, 0, 0),
    "chair": (192, 0, 0), "cow": (64, 128, 0), "diningtable": (192, 128, 0), "dog": (64, 0, 128),
    "horse": (192, 0, 128), "motorbike": (64, 128, 128), "person": (192, 128, 128), "pottedplant": (0, 64, 0),
    "sheep": (128, 64, 0), "sofa": (0, 192, 0), "train": (128, 192, 0), "tvmonitor": (0, 64, 128)}
# SegNet's indices, in their order, as labels of Cityscapes.
SEGNET = ("sky", "building", "pole", "road", "sidewalk", "vegetation", "traffic sign", "fence", "car", "person",
          "rider", "unlabeled")


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict[str, Path]:
    """A data set in each layout, to be read only."""
    return {name: write(tmp_path_factory.mktemp(name) / "data") for name, write in WRITERS.items()}


@pytest.fixture(autouse=True)
def _own_place(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_CACHE", str(tmp_path / "cache"))


# --- what is found ------------------------------------------------------------------------------------------------

FOUND = {  # name, classes, images of train, val, test
    "KITTI": ("KITTI", 8, 3, 2, 0), "CamVid": ("CamVid", 8, 3, 1, 1), "VOC": ("Pascal VOC 2012", 21, 3, 1, 0),
    "pix2pix": ("Cityscapes at 256 x 256, labels read back from JPEG colors", 8, 3, 1, 0)}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_folder_tells_its_layout(written, kind):
    root = written[kind]
    name, classes, *counts = FOUND[kind]
    folder = find_data(root)
    assert folder == find_data(str(root)) == find_data(folder) and folder.root == root
    assert (folder.layout.name, len(folder.classes)) == (name, classes)
    assert [layout.fits(root) for layout in layouts()].count(True) == 1
    for split, count in zip(("train", "val", "test"), counts, strict=True):
        assert count == 0 or len(find_data(root).pairs(split)) == count
    dataset = SegmentationDataset(root, "train", cache=False)
    assert dataset.classes is folder.classes and dataset.folder == folder and folder.scored_split == "val"


@pytest.mark.parametrize("kind, inside", [
    ("KITTI", "data_semantics"), ("VOC", "VOC2012"), ("VOC", "VOCdevkit/VOC2012")])
def test_the_folder_around_does_as_well(written, tmp_path, kind, inside):
    (tmp_path / "data" / inside).parent.mkdir(parents=True)
    (tmp_path / "data" / inside).symlink_to(written[kind])
    assert find_data(tmp_path / "data").root == tmp_path / "data" / inside
    (tmp_path / "data/other/leftImg8bit").mkdir(parents=True)
    with expect("expected one data set, found 2 in", f"pass {tmp_path / 'data' / inside} or {tmp_path / 'data/other'}"):
        find_data(tmp_path / "data")


def test_a_folder_without_data_is_told_what_was_expected_and_where_some_is(written, tmp_path):
    (tmp_path / "notes").mkdir()
    every = ["leftImg8bit/ and gtFine/ (Cityscapes)", "training/image_2/ and training/semantic/ (KITTI)",
             "train/ and trainannot/ (CamVid)", "train/1.jpg and val/1.jpg",
             "JPEGImages/, SegmentationClass/ and ImageSets/Segmentation/ (Pascal VOC 2012)",
             "PNGImages/ and PedMasks/ (Penn-Fudan)"]
    with expect(*every, "found notes in", "pass the folder that holds them"):
        find_data(tmp_path)
    with expect(*every, "found none at"):
        find_data(tmp_path / "nowhere")
    for kind, below in (("KITTI", "training/image_2"), ("CamVid", "trainannot"), ("VOC", "ImageSets")):
        with expect(f"pass {written[kind]}"):
            find_data(written[kind] / below)
        with expect(f"pass {written[kind]}"):
            find_data(written[kind].parent)
    with expect("(Penn-Fudan), found notes in"):
        find_data(tmp_path)


def test_a_folder_beside_the_data_that_may_not_be_read_is_no_obstacle(written, tmp_path, monkeypatch):
    (tmp_path / "VOC2012").symlink_to(written["VOC"])
    (tmp_path / "secret").mkdir()
    is_dir = Path.is_dir

    def guarded(path: Path) -> bool:
        if "secret" in path.parent.parts:
            raise PermissionError(13, "Permission denied")
        return is_dir(path)

    monkeypatch.setattr(Path, "is_dir", guarded)
    assert find_data(tmp_path).root == tmp_path / "VOC2012"


@pytest.mark.parametrize("kind", [*WRITERS, "Cityscapes"])
def test_hidden_files_are_never_data(written, tmp_path, tiny_pair, kind):
    root = tmp_path / "data"
    if kind == "Cityscapes":
        write_pair(root, "train", "ulm_000000_000019", *tiny_pair)
    else:
        shutil.copytree(written[kind], root)
    before = find_data(root).pairs("train")
    for path in [path for path in root.rglob("*") if path.is_file()]:
        (path.parent / f"._{path.name}").write_bytes(b"\0\5\x16\7 of macOS")
        for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
            (path.parent / name).write_bytes(b"of a system")
    for folder in [path for path in root.rglob("*") if path.is_dir()]:
        shutil.copytree(root, folder / "__MACOSX", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__MACOSX"))
    (tmp_path / "__MACOSX").symlink_to(root)
    assert find_data(root).pairs("train") == before and len(SegmentationDataset(root, "train")) == len(before)
    with expect(f"data in {tmp_path}: pass {root}"):
        find_data(tmp_path)


# --- how it is split ----------------------------------------------------------------------------------------------


def names(root: Path, split: str) -> list[str]:
    return [pair.name for pair in find_data(root).pairs(split)]


def test_the_last_fifth_of_kitti_is_val(written, tmp_path):
    assert names(written["KITTI"], "train") == ["000000_10", "000001_10", "000159_10"]
    assert names(written["KITTI"], "val") == ["000160_10", "000199_10"]
    for number in range(200):
        for part in ("image_2", "semantic"):
            path = tmp_path / "training" / part / f"{number:06}_10.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    assert [len(find_data(tmp_path).pairs(split)) for split in ("train", "val")] == [160, 40]
    with expect("expected images of test", "testing/ has no labels", "the splits with images are train, val"):
        find_data(tmp_path).pairs("test")


def test_voc_is_what_the_lists_name(written):
    assert names(written["VOC"], "train") == ["2007_000000", "2007_000001", "2007_000002"]
    assert names(written["VOC"], "val") == ["2007_000003"]
    with expect("ImageSets/Segmentation/test.txt", "the splits with images are train, val"):
        find_data(written["VOC"]).pairs("test")


# --- what is read -------------------------------------------------------------------------------------------------


def nearest(label: np.ndarray) -> np.ndarray:
    """At the lab's size, by torch's "nearest-exact"."""
    return F.interpolate(torch.tensor(label)[None, None].float(), INPUT_SIZE, mode="nearest-exact")[0, 0].numpy()


def read_all(root: Path) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Of each training pair the image and the label as they are on disk, and both as they are read."""
    dataset = SegmentationDataset(root, "train", cache=False)
    return [(np.asarray(Image.open(pair.image)), np.asarray(Image.open(pair.label)), *dataset.read(index))
            for index, pair in enumerate(dataset.pairs)]


def assert_resized(found: np.ndarray, image: np.ndarray, tmp_path: Path) -> None:
    """`found` is what the reader makes of the same pixels in Cityscapes' layout."""
    np.testing.assert_array_equal(found, read_image(save(tmp_path / "x_leftImg8bit.png", image)))


def test_kitti_in_categories(written, tmp_path):
    for image, ids, found, label in read_all(written["KITTI"]):
        categories = np.array([id2label[i].categoryId for i in range(34)])
        np.testing.assert_array_equal(label, nearest(categories[ids]))
        assert set(np.unique(label)) == set(range(8))
        assert_resized(found, image, tmp_path)
    plate = save(tmp_path / "semantic.png", np.full((9, 9), 255, np.uint8))
    assert (read_label(plate, find_data(written["KITTI"]).layout) == 0).all()


def test_camvids_indices_in_categories(written, tmp_path):
    categories = np.array([name2label[name].categoryId for name in SEGNET])
    for image, codes, found, label in read_all(written["CamVid"]):
        assert image.shape == (36, 48, 3)
        np.testing.assert_array_equal(label, nearest(categories[codes[6:30]]))  # 24 of 36 rows, so 2:1
        assert_resized(found, image[6:30], tmp_path)


@pytest.mark.parametrize("size, kept", [((360, 480), (60, 300)), ((720, 960), (120, 600)), ((240, 480), (0, 240)),
                                        ((100, 480), (0, 100)), ((361, 480), (60, 300))])
def test_the_central_rows_of_camvid_are_kept(size, kept):
    assert central_rows(*size) == slice(*kept)


def test_pix2pixs_smeared_colors_in_categories(written):
    """Thin poles and people included, at the lab's size, against the exact labels."""
    root = written["pix2pix"]
    categories = np.array([id2label[i].categoryId for i in range(34)])
    truth, found = [], []
    for split in ("train", "val"):
        dataset = SegmentationDataset(root, split, cache=False)
        for index, pair in enumerate(dataset.pairs):
            exact = np.asarray(Image.open(root.parent / "truth" / split / f"{pair.name}.png"))
            truth.append(nearest(categories[exact]))
            image, label = dataset.read(index)
            found.append(label)
            half = Image.open(pair.image).crop((0, 0, 256, 256)).resize((512, 256), Image.Resampling.BILINEAR)
            np.testing.assert_array_equal(image, np.asarray(half))
    truth, found = np.ravel(truth), np.ravel(found)
    ious = dict(zip(CATEGORIES, jaccard_score(truth, found, average=None), strict=True))
    assert (truth == found).mean() >= 0.955 and ious["object"] >= 0.60 and ious["human"] >= 0.60, ious


def test_the_order_of_pix2pixs_halves_is_found_out_and_said(written, tmp_path, capsys):
    other = write_pix2pix(tmp_path / "cityscapes_data", photo_left=False)
    (other / "train" / "3.jpg").write_bytes(b"damaged")  # the first file; the next one tells
    left, right = find_data(written["pix2pix"]), find_data(tmp_path)  # Kaggle's folder around it
    said = capsys.readouterr().err.splitlines()
    assert [line.partition("; ")[2] for line in said] == [
        "photo left, label right in each file", "photo right, label left in each file"]
    assert right.root == other and left.layout.name == right.layout.name
    pairs = right.pairs("val") + right.pairs("train")[1:]
    for ours, theirs in zip(pairs, left.pairs("val") + left.pairs("train"), strict=True):
        assert (read_label(ours.label, right.layout) == read_label(theirs.label, left.layout)).mean() > 0.998
        difference = read_image(ours.image, right.layout).astype(int) - read_image(theirs.image, left.layout)
        assert np.abs(difference[:, 8:-8]).max() <= 1  # JPEG mixes chroma across the seam
    assert find_data(other).pairs("train")[0].name == "3"


def test_pix2pixs_pairs_are_sorted_by_number_and_its_other_data_sets_are_not_taken(written, tmp_path):
    assert names(written["pix2pix"], "train") == ["7", "14", "21"]
    save(tmp_path / "facades/train/1.jpg", noise(0, (256, 512), 2)[0])
    with expect("found train in"):
        find_data(tmp_path / "facades")


def test_voc_in_its_own_classes(written):
    for image, codes, found, label in read_all(written["VOC"]):
        np.testing.assert_array_equal(label, nearest(codes))
        assert set(np.unique(label)) == {*range(21), 255} and found.shape == (*INPUT_SIZE, 3)
        whole = Image.fromarray(image).resize(INPUT_SIZE[::-1], Image.Resampling.BILINEAR, reducing_gap=1.0)
        np.testing.assert_array_equal(found, np.asarray(whole))
    classes = find_data(written["VOC"]).layout.classes
    assert dict(zip(classes.names, map(tuple, classes.colors.tolist()), strict=True)) == VOC_COLORS
    shown = classes.colorize(np.array([[15, 255]], np.uint8))
    assert shown.tolist() == [[[192, 128, 128], [255, 255, 255]]]


def test_gray_indices_are_read_like_paletted_ones(written, tmp_path):
    for kind in ("VOC", "CamVid"):
        pair, layout = find_data(written[kind]).pairs("train")[0], find_data(written[kind]).layout
        codes = np.asarray(Image.open(pair.label))
        gray, paletted = Image.fromarray(codes), Image.fromarray(codes)
        paletted.putpalette(list(range(256)) * 3)
        for mode, image in (("L", gray), ("P", paletted)):
            path = save(tmp_path / f"{mode}.png", image)
            assert Image.open(path).mode == mode
            np.testing.assert_array_equal(read_label(path, layout), read_label(pair.label, layout))


# --- the dataset and its cache ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WRITERS)
def test_cached_items_parts_and_copies_are_the_files(written, kind):
    root = written[kind]
    plain, cached = SegmentationDataset(root, "train", cache=False), SegmentationDataset(root, "train")
    assert cached.cached and not plain.cached
    for ours, expected in zip(cached.arrays, plain.arrays, strict=True):
        np.testing.assert_array_equal(ours, expected)
    again, copy = open_cache(root, "train"), pickle.loads(pickle.dumps(cached))
    assert again.folder == cached.cached.folder and copy.classes == cached.classes
    assert all(map(torch.equal, copy[1], plain[1]))
    last = SegmentationDataset(root, "train", part=(2 / 3, 1))
    assert len(last) == 1 and all(map(torch.equal, last[0], plain[2]))
    moved = shutil.copytree(root, root.parent / f"moved-{kind}", dirs_exist_ok=True)
    assert SegmentationDataset(moved, "train", cache=False).fingerprint == cached.fingerprint != last.fingerprint


def test_the_cache_lies_beside_the_data_and_its_command_builds_both_splits(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("LAB_CACHE")
    root = write_voc(tmp_path / "VOCdevkit/VOC2012")
    monkeypatch.setattr(sys, "argv", ["cache", str(tmp_path), "--verify"])
    commands.build_cache()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("train: 3 pairs") and lines[2].startswith("val: 1 pairs") and len(lines) == 4
    assert {path.name.partition("-")[0] for path in (root / "lab-cache").iterdir() if path.is_dir()} == {"train", "val"}


def test_caches_of_cityscapes_from_before_there_were_layouts_stay_valid():
    sources = [["leftImg8bit/val/a/a_000000_000019_leftImg8bit.png", 1234, 1700000000000000000],
               ["gtFine/val/a/a_000000_000019_gtFine_labelIds.png", 56, 1700000000000000001]]
    assert cache._fingerprint(sources, CITYSCAPES) == "21431e0c0d60"  # as it was computed then
    assert len({cache._fingerprint(sources, layout) for layout in layouts()}) == 7  # pix2pix has two orders


@pytest.mark.parametrize("name, change", [
    ("name", lambda layout: "another"), ("class_of_code", lambda layout: np.roll(layout.class_of_code, 1)),
    ("key", lambda layout: [*layout.key[:-1], "other rows"])], ids=["name", "table", "crop"])
def test_what_a_layout_makes_of_the_files_is_in_the_fingerprint(written, monkeypatch, name, change):
    root = written["CamVid"]
    layout = find_data(root).layout
    before = open_cache(root, "val").folder.name
    monkeypatch.setattr(type(layout), name, change(layout))
    assert open_cache(root, "val").folder.name != before


class Echo(nn.Module):
    """Predicts the class that the first channel names, and a logit for each of 21."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x[:, :1] == torch.arange(21)[:, None, None]).float()


def test_a_batch_of_voc_is_augmented_and_scored_in_21_classes(written):
    dataset = SegmentationDataset(written["VOC"], "train", Augment(crop=1))
    data, target = next(iter(Batches(dataset, 3)))
    assert data.shape == (3, 3, *INPUT_SIZE) and data.dtype == torch.float32
    assert set(target.unique().tolist()) <= {*range(21), 255} and target.max() == 255
    images = [(label[None, None].clamp(max=20).float().expand(-1, 3, -1, -1), label[None]) for label in target]
    metric = evaluate(Echo(), images, num_classes=len(dataset.classes))
    assert metric.counts.shape == (21, 21) and metric.miou() == 1
    assert metric.counts.sum() == (target != 255).sum()


def test_the_command_says_what_a_folder_holds(written, here, tmp_path):
    for kind, told in (("VOC", "laid out as Pascal VOC 2012, 21 classes, pairs: 3 of train, 1 of val"),
                       ("KITTI", "laid out as KITTI, 8 classes, pairs: 3 of train, 2 of val")):
        assert here(commands.describe, written[kind]).stdout == f"{written[kind]}: {told}\n"
    (tmp_path / "leftImg8bit").mkdir()
    assert_one_line_error(here(commands.describe, tmp_path), "expected images of train", str(tmp_path))


def test_the_command_takes_a_reserved_set_of_one_split(here, tmp_path, tiny_pair):
    for split in ("val", "test"):
        write_pair(tmp_path / split, split, "ulm_000000_000019", *tiny_pair)
        told = f"laid out as Cityscapes, 8 classes, pairs: 1 of {split}"
        assert here(commands.describe, tmp_path / split).stdout == f"{tmp_path / split}: {told}\n"
    write_pair(tmp_path / "val", "test", "bonn_000000_000019", tiny_pair[0], None)  # which need no labels beside val
    assert here(commands.describe, tmp_path / "val").stdout.endswith("pairs: 1 of val\n")


# --- graded figures are of the lab's categories alone -------------------------------------------------------------


def test_only_the_labs_categories_are_graded(written, tmp_path, weights, here):
    told = f"expected the lab's 8 categories, found Pascal VOC 2012 with 21 classes in {written['VOC']}"
    with expect(told):
        find_data(written["VOC"]).require_lab_classes()
    with expect(told):
        open_evaluation(written["VOC"], None, torch.device("cpu"))
    script = load_file(ROOT / "test_task1.py")
    assert_one_line_error(here(script.main, weights[1], written["VOC"]), told)
    from grading.class_run import prepare
    from grading.settings import GradeSettings

    with expect(told):
        prepare(GradeSettings(tmp_path / "class", written["VOC"], tmp_path), tmp_path, [], 1)
    for kind in ("KITTI", "CamVid", "pix2pix"):
        find_data(written[kind]).require_lab_classes()
    batches, text = open_evaluation(written["CamVid"], None, torch.device("cpu"))
    assert batches.dataset.classes == LAB_CLASSES and text.endswith("(laid out as CamVid), 1 images")
