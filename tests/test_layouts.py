"""Each layout against data drawn in it: what is found, how it is split, what is read."""
import pickle
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from cityscapesscripts.helpers.labels import id2label, name2label
from conftest import ROOT, assert_one_line_error, load_file, write_pair
from made_layouts import WRITERS, expect, save, write_voc
from PIL import Image
from torch import nn
from torch.nn import functional as F

from dataset import cache
from dataset import dataset as command
from dataset.augment import Augment
from dataset.batches import Batches, open_evaluation
from dataset.cache import open_cache
from dataset.dataset import SegmentationDataset
from dataset.layouts import CITYSCAPES, LAYOUTS
from dataset.layouts.camvid import COLORED, split_of
from dataset.reader import find_data, layout_of, list_split, read_image, read_label, require_lab_classes, scored_split
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
# The colored classes by category, written down anew.
CAMVID_GROUPS = {
    "void": "Void Animal CartLuggagePram",
    "flat": "Road RoadShoulder LaneMkgsDriv LaneMkgsNonDriv Sidewalk ParkingBlock",
    "construction": "Building Wall Fence Bridge Tunnel Archway",
    "object": "Column_Pole SignSymbol TrafficLight TrafficCone Misc_Text",
    "nature": "Tree VegetationMisc", "sky": "Sky", "human": "Pedestrian Child Bicyclist",
    "vehicle": "Car SUVPickupTruck Truck_Bus Train MotorcycleScooter OtherMoving"}
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

FOUND = {  # name, classes, pictures of train, val, test
    "KITTI": ("KITTI", 8, 3, 2, 0), "indexed": ("CamVid", 8, 3, 1, 1), "colored": ("CamVid", 8, 3, 1, 1),
    "stills": ("CamVid", 8, 3, 1, 2), "VOC": ("Pascal VOC 2012", 21, 3, 1, 0)}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_folder_tells_its_layout(written, kind):
    root = written[kind]
    name, classes, *counts = FOUND[kind]
    assert find_data(root) == find_data(str(root)) == root
    assert (layout_of(root).name, len(layout_of(root).classes)) == (name, classes)
    assert [layout.fits(root) for layout in LAYOUTS].count(True) == 1
    for split, count in zip(("train", "val", "test"), counts, strict=True):
        assert count == 0 or len(list_split(root, split)) == count
    dataset = SegmentationDataset(root, "train", cache=False)
    assert dataset.classes is dataset.layout.classes and dataset.layout.name == name and scored_split(root) == "val"


@pytest.mark.parametrize("kind, inside", [
    ("KITTI", "data_semantics"), ("VOC", "VOC2012"), ("VOC", "VOCdevkit/VOC2012")])
def test_the_folder_around_does_as_well(written, tmp_path, kind, inside):
    (tmp_path / "data" / inside).parent.mkdir(parents=True)
    (tmp_path / "data" / inside).symlink_to(written[kind])
    assert find_data(tmp_path / "data") == tmp_path / "data" / inside
    (tmp_path / "data/other/leftImg8bit").mkdir(parents=True)
    with expect("expected one data set, found 2 in", f"pass {tmp_path / 'data' / inside} or {tmp_path / 'data/other'}"):
        find_data(tmp_path / "data")


def test_a_folder_without_data_is_told_what_was_expected_and_where_some_is(written, tmp_path):
    (tmp_path / "notes").mkdir()
    every = ["leftImg8bit/ and gtFine/ (Cityscapes)", "training/image_2/ and training/semantic/ (KITTI)",
             "train/ and trainannot/ (CamVid)", "train/ and train_labels/ (CamVid)",
             "701_StillsRaw_full/ and LabeledApproved_full/ (CamVid)",
             "JPEGImages/, SegmentationClass/ and ImageSets/Segmentation/ (Pascal VOC 2012)"]
    with expect(*every, "found notes in", "pass the folder that holds them"):
        find_data(tmp_path)
    with expect(*every, "found none at"):
        find_data(tmp_path / "nowhere")
    for kind, below in (("KITTI", "training/image_2"), ("stills", "LabeledApproved_full"), ("VOC", "ImageSets")):
        with expect(f"pass {written[kind]}"):
            find_data(written[kind] / below)
        with expect(f"pass {written[kind]}"):
            find_data(written[kind].parent)
    with expect("(Pascal VOC 2012), found notes in"):
        layout_of(tmp_path)


def test_a_folder_beside_the_data_that_may_not_be_read_is_no_obstacle(written, tmp_path, monkeypatch):
    (tmp_path / "VOC2012").symlink_to(written["VOC"])
    (tmp_path / "secret").mkdir()
    is_dir = Path.is_dir

    def guarded(path: Path) -> bool:
        if "secret" in path.parent.parts:
            raise PermissionError(13, "Permission denied")
        return is_dir(path)

    monkeypatch.setattr(Path, "is_dir", guarded)
    assert find_data(tmp_path) == tmp_path / "VOC2012"


# --- how it is split ----------------------------------------------------------------------------------------------


def names(root: Path, split: str) -> list[str]:
    return [pair.name for pair in list_split(root, split)]


def test_the_last_fifth_of_kitti_is_val(written, tmp_path):
    assert names(written["KITTI"], "train") == ["000000_10", "000001_10", "000159_10"]
    assert names(written["KITTI"], "val") == ["000160_10", "000199_10"]
    for number in range(200):
        for part in ("image_2", "semantic"):
            path = tmp_path / "training" / part / f"{number:06}_10.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    assert [len(list_split(tmp_path, split)) for split in ("train", "val")] == [160, 40]
    with expect("expected pictures of test", "testing/ has no labels", "the splits with pictures are train, val"):
        list_split(tmp_path, "test")


def test_stills_are_split_as_segnet_has_them(written):
    assert names(written["stills"], "train") == ["0001TP_006690", "0006R0_f00930", "0016E5_00390"]
    assert names(written["stills"], "val") == ["0016E5_07959"]
    assert names(written["stills"], "test") == ["0001TP_008550", "Seq05VD_f00000"]
    stills = [f"0001TP_{frame:06}" for frame in range(6690, 10381, 30)]
    stills += [f"0006R0_f{frame:05}" for frame in range(930, 3931, 30)]
    stills += [f"Seq05VD_f{frame:05}" for frame in range(0, 5101, 30)]
    stills += [f"0016E5_{frame:05}" for frame in [
        *range(390, 871, 30), 901, *range(930, 2401, 30), *range(4350, 7921, 30), *range(7959, 8160, 2),
        *range(8190, 8641, 30)]]
    assert len(stills) == 701
    assert Counter(map(split_of, stills)) == {"train": 367, "val": 101, "test": 233}


def test_voc_is_what_the_lists_name(written):
    assert names(written["VOC"], "train") == ["2007_000000", "2007_000001", "2007_000002"]
    assert names(written["VOC"], "val") == ["2007_000003"]
    with expect("ImageSets/Segmentation/test.txt", "the splits with pictures are train, val"):
        list_split(written["VOC"], "test")


# --- what is read -------------------------------------------------------------------------------------------------


def nearest(label: np.ndarray) -> np.ndarray:
    """At the lab's size, by torch's "nearest-exact"."""
    return F.interpolate(torch.tensor(label)[None, None].float(), INPUT_SIZE, mode="nearest-exact")[0, 0].numpy()


def read_all(root: Path) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Of each training pair the picture and the label as they are on disk, and both as they are read."""
    dataset = SegmentationDataset(root, "train", cache=False)
    return [(np.asarray(Image.open(pair.image)), np.asarray(Image.open(pair.label)), *dataset.read(index))
            for index, pair in enumerate(dataset.pairs)]


def assert_resized(found: np.ndarray, picture: np.ndarray, tmp_path: Path) -> None:
    """`found` is what the reader makes of the same pixels in Cityscapes' layout."""
    np.testing.assert_array_equal(found, read_image(save(tmp_path / "x_leftImg8bit.png", picture)))


def test_kitti_in_categories(written, tmp_path):
    for picture, ids, found, label in read_all(written["KITTI"]):
        categories = np.array([id2label[i].categoryId for i in range(34)])
        np.testing.assert_array_equal(label, nearest(categories[ids]))
        assert set(np.unique(label)) == set(range(8))
        assert_resized(found, picture, tmp_path)
    plate = save(tmp_path / "semantic.png", np.full((9, 9), 255, np.uint8))
    assert (read_label(plate, layout_of(written["KITTI"])) == 0).all()


def test_camvids_indices_in_categories(written, tmp_path):
    categories = np.array([name2label[name].categoryId for name in SEGNET])
    for picture, codes, found, label in read_all(written["indexed"]):
        assert picture.shape == (36, 48, 3)
        np.testing.assert_array_equal(label, nearest(categories[codes[6:30]]))  # 24 of 36 rows, so 2:1
        assert_resized(found, picture[6:30], tmp_path)


@pytest.mark.parametrize("kind", ["colored", "stills"])
def test_camvids_colors_in_categories(written, tmp_path, kind):
    group = {name: CATEGORIES.index(category) for category, names in CAMVID_GROUPS.items() for name in names.split()}
    by_color = {row.color: group.pop(row.name) for row in COLORED}
    assert len(by_color) == 32 and not group
    for picture, colors, found, label in read_all(written[kind]):
        categories = np.array([[by_color[tuple(color)] for color in line] for line in colors[12:60].tolist()])
        np.testing.assert_array_equal(label, nearest(categories))
        assert_resized(found, picture[12:60], tmp_path)


@pytest.mark.parametrize("size, kept", [((360, 480), (60, 300)), ((720, 960), (120, 600)), ((240, 480), (0, 240)),
                                        ((100, 480), (0, 100)), ((361, 480), (60, 300))])
def test_the_central_rows_of_camvid_are_kept(size, kept):
    for layout in LAYOUTS:
        rows = layout.rows(*size)
        assert (rows.start, rows.stop) == (kept if layout.name == "CamVid" else (0, size[0]))


def test_voc_in_its_own_classes(written):
    for picture, codes, found, label in read_all(written["VOC"]):
        np.testing.assert_array_equal(label, nearest(codes))
        assert set(np.unique(label)) == {*range(21), 255} and found.shape == (*INPUT_SIZE, 3)
        whole = Image.fromarray(picture).resize(INPUT_SIZE[::-1], Image.Resampling.BILINEAR, reducing_gap=1.0)
        np.testing.assert_array_equal(found, np.asarray(whole))
    classes = layout_of(written["VOC"]).classes
    assert dict(zip(classes.names, map(tuple, classes.colors.tolist()), strict=True)) == VOC_COLORS
    shown = classes.colorize(np.array([[15, 255]], np.uint8))
    assert shown.tolist() == [[[192, 128, 128], [255, 255, 255]]]


def test_grey_indices_are_read_like_paletted_ones(written, tmp_path):
    for kind in ("VOC", "indexed"):
        pair, layout = list_split(written[kind], "train")[0], layout_of(written[kind])
        codes = np.asarray(Image.open(pair.label))
        grey, paletted = Image.fromarray(codes), Image.fromarray(codes)
        paletted.putpalette(list(range(256)) * 3)
        for mode, image in (("L", grey), ("P", paletted)):
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
    cache.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("train: 3 pairs") and lines[2].startswith("val: 1 pairs") and len(lines) == 4
    assert {path.name.partition("-")[0] for path in (root / "lab-cache").iterdir() if path.is_dir()} == {"train", "val"}


def test_caches_of_cityscapes_from_before_there_were_layouts_stay_valid():
    sources = [["leftImg8bit/val/a/a_000000_000019_leftImg8bit.png", 1234, 1700000000000000000],
               ["gtFine/val/a/a_000000_000019_gtFine_labelIds.png", 56, 1700000000000000001]]
    assert cache._fingerprint(sources, CITYSCAPES) == "21431e0c0d60"  # as it was computed then
    assert len({cache._fingerprint(sources, layout) for layout in LAYOUTS}) == 5  # two of CamVid's share the colors


@pytest.mark.parametrize("name, change", [
    ("name", lambda layout: "another"), ("class_of_code", lambda layout: np.roll(layout.class_of_code, 1)),
    ("key", lambda layout: [*layout.key[:-1], "other rows"])], ids=["name", "table", "crop"])
def test_what_a_layout_makes_of_the_files_is_in_the_fingerprint(written, monkeypatch, name, change):
    root = written["colored"]
    layout = layout_of(root)
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
    pictures = [(label[None, None].clamp(max=20).float().expand(-1, 3, -1, -1), label[None]) for label in target]
    metric = evaluate(Echo(), pictures, num_classes=len(dataset.classes))
    assert metric.counts.shape == (21, 21) and metric.miou() == 1
    assert metric.counts.sum() == (target != 255).sum()


def test_the_command_says_what_a_folder_holds(written, here, tmp_path):
    for kind, told in (("VOC", "laid out as Pascal VOC 2012, 21 classes, pairs: 3 of train, 1 of val"),
                       ("KITTI", "laid out as KITTI, 8 classes, pairs: 3 of train, 2 of val")):
        assert here(command.main, written[kind]).stdout == f"{written[kind]}: {told}\n"
    (tmp_path / "leftImg8bit").mkdir()
    assert_one_line_error(here(command.main, tmp_path), "expected pictures of train", str(tmp_path))


def test_the_command_takes_a_reserved_set_of_one_split(here, tmp_path, tiny_pair):
    for split in ("val", "test"):
        write_pair(tmp_path / split, split, "ulm_000000_000019", *tiny_pair)
        told = f"laid out as Cityscapes, 8 classes, pairs: 1 of {split}"
        assert here(command.main, tmp_path / split).stdout == f"{tmp_path / split}: {told}\n"
    write_pair(tmp_path / "val", "test", "bonn_000000_000019", tiny_pair[0], None)  # which need no labels beside val
    assert here(command.main, tmp_path / "val").stdout.endswith("pairs: 1 of val\n")


# --- graded figures are of the lab's categories alone -------------------------------------------------------------


def test_only_the_labs_categories_are_graded(written, tmp_path, weights, here):
    told = f"expected the lab's 8 categories, found Pascal VOC 2012 with 21 classes in {written['VOC']}"
    with expect(told):
        require_lab_classes(written["VOC"])
    with expect(told):
        open_evaluation(written["VOC"], None, torch.device("cpu"))
    script = load_file(ROOT / "test_task1.py")
    assert_one_line_error(here(script.main, weights[1], written["VOC"]), told)
    from grading.grade import _bench

    with expect(told):
        _bench(written["VOC"], None, tmp_path, tmp_path, [], 1)
    for kind in ("KITTI", "indexed", "colored", "stills"):
        require_lab_classes(written[kind])
    batches, text = open_evaluation(written["indexed"], None, torch.device("cpu"))
    assert batches.dataset.classes == LAB_CLASSES and text.endswith("(laid out as CamVid), 1 pictures")
