"""Every kind of wrong file in each layout: one line that names it."""
import shutil
from pathlib import Path

import numpy as np
import pytest
from cityscapesscripts.helpers.labels import labels as official
from conftest import write_pair
from made_layouts import WRITERS, expect, save
from PIL import Image

from dataset.dataset import SegmentationDataset
from dataset.layouts import layouts
from dataset.layouts.voc import PascalVOC
from dataset.reader import find_data


@pytest.fixture(autouse=True)
def _own_place(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def copied(tmp_path):
    def copy(kind: str) -> Path:
        return WRITERS[kind](tmp_path / kind)
    return copy


@pytest.mark.parametrize("kind, label, advice", [
    ("KITTI", "training/semantic/000001_10.png", "data_semantics.zip"),
    ("CamVid", "trainannot/0001TP_000001.png", "SegNet"),
    ("VOC", "SegmentationClass/2007_000001.png", "VOCtrainval")])
def test_a_image_without_its_label(copied, kind, label, advice):
    root = copied(kind)
    (root / label).unlink()
    image = find_data(root).layout.images(root, "train")[1]
    with expect(f"expected a label {Path(label).name}, found none in {(root / label).parent}", image, advice):
        SegmentationDataset(root, "train")


def test_a_list_that_names_no_image(copied):
    root = copied("VOC")
    lists = root / "ImageSets/Segmentation"
    (lists / "train.txt").write_text("2007_000001\n2007_777777\n", encoding="ascii")
    with expect("2007_777777.jpg", lists / "train.txt", root / "JPEGImages"):
        find_data(root).pairs("train")
    (lists / "train.txt").write_text("", encoding="ascii")
    with expect("found none in", "the splits with images are val"):
        find_data(root).pairs("train")
    (lists / "train.txt").write_bytes(b"\xff\xd8\xff")
    with expect("expected a list of images", lists / "train.txt"):
        find_data(root).pairs("train")


@pytest.mark.parametrize("kind, value, told", [
    ("KITTI", 34, "expected label ids 0 to 33 (or 255, license plate), found [34]"),
    ("KITTI", 254, "found [254]"), ("CamVid", 12, "expected class indices 0 to 11, found [12]"),
    ("CamVid", 255, "found [255]"), ("VOC", 254, "found [254]"),
    ("VOC", 21, "expected class indices 0 to 20 (or 255, an object's border), found [21]")])
def test_a_single_pixel_of_an_unknown_code(copied, kind, value, told):
    root = copied(kind)
    pair = find_data(root).pairs("train")[1]
    codes = np.array(Image.open(pair.label))
    codes[0, 1] = value  # of CamVid that row is cropped: the whole file is looked at
    save(pair.label, codes)
    for cached in (True, False):
        with expect(told, pair.label):
            SegmentationDataset(root, "train", cache=cached)[1]


@pytest.mark.parametrize("kind, mode, told", [
    ("KITTI", "RGB", "8-bit gray label ids, found mode RGB"), ("KITTI", "P", "found mode P"),
    ("CamVid", "RGB", "8-bit gray or paletted, found mode RGB"), ("VOC", "RGB", "gray or paletted, found mode RGB"),
    ("VOC", "I;16", "found mode I;16")])
def test_labels_of_another_kind(copied, kind, mode, told):
    root = copied(kind)
    pair = find_data(root).pairs("train")[1]
    image = Image.open(pair.label)
    sixteen = Image.fromarray(np.zeros((9, 9), np.uint16))
    save(pair.label, sixteen if mode == "I;16" else image.convert("RGB").convert(mode))
    with expect(told, pair.label):
        SegmentationDataset(root, "train")


def test_a_damaged_jpeg_and_a_gray_one(copied):
    root = copied("VOC")
    image = find_data(root).pairs("train")[1].image
    whole = image.read_bytes()
    image.write_bytes(whole[:len(whole) // 2])
    with expect("expected a whole JPEG", image, "copy it again"):
        SegmentationDataset(root, "train")
    save(image, Image.new("L", (50, 38)))
    with expect("8-bit RGB image, found mode L", image):
        SegmentationDataset(root, "train")


def test_a_pair_of_pix2pix_that_is_none(copied):
    root = copied("pix2pix")
    path = find_data(root).pairs("train")[1].image
    for damage, told in (
            (lambda pair: pair.transpose(Image.Transpose.FLIP_LEFT_RIGHT), "expected label colors in the right half"),
            (lambda pair: pair.crop((0, 0, 256, 256)), "expected two square halves, found 256 x 256"),
            (lambda pair: pair.convert("L"), "8-bit RGB image, found mode L")):
        whole = path.read_bytes()
        damage(Image.open(path)).save(path)
        with expect(told, path):
            SegmentationDataset(root, "train")
        path.write_bytes(whole)
    path.write_bytes(whole[:len(whole) // 2])
    with expect("expected a whole JPEG", path):
        SegmentationDataset(root, "train")


def test_train_ids_under_the_name_of_label_ids_are_refused(sample, tmp_path):
    train_ids = np.full(256, 255, np.uint8)
    for label in official:
        train_ids[label.id % 256] = label.trainId % 256
    root = tmp_path / "data"
    shutil.copytree(sample, root, ignore=shutil.ignore_patterns("lab-cache"))
    paths = sorted(root.glob("gtFine/train/*/*_labelIds.png"))
    SegmentationDataset(root, "train")  # label ids as they should be
    for count, path in enumerate(paths, 1):
        save(path, train_ids[np.asarray(Image.open(path))])
        for cache in (True, False):
            if count < len(paths):  # one label id above 18 in the split, and it is left to whoever reads it
                SegmentationDataset(root, "train", cache=cache)
            else:
                with expect("expected label ids, found what looks like trainIds", paths[0], "_labelIds.png as it is"):
                    SegmentationDataset(root, "train", cache=cache)


def test_a_few_license_plates_and_scenes_without_cars_are_no_train_ids(tmp_path, tiny_pair):
    ids = np.full((100, 200), 7, np.uint8)
    write_pair(tmp_path, "val", "x_000000_000019", tiny_pair[0], Image.fromarray(ids))
    ids[:1] = 255  # 1 %
    write_pair(tmp_path, "val", "x_000001_000019", tiny_pair[0], Image.fromarray(ids))
    assert len(SegmentationDataset(tmp_path, "val")) == 2


def test_every_layout_says_where_a_split_would_be():
    for layout in layouts():
        for split in ("train", "val", "test"):
            assert layout.images(Path("nowhere"), split) == [] and layout.pattern.format(split=split)
    assert PascalVOC.pattern.format(split="val") == "JPEGImages/*.jpg named in ImageSets/Segmentation/val.txt"
