"""Every kind of wrong file in each layout: one line that names it."""
from pathlib import Path

import numpy as np
import pytest
from made_layouts import WRITERS, expect, save
from PIL import Image

from dataset.dataset import SegmentationDataset
from dataset.layouts import LAYOUTS
from dataset.layouts.voc import PascalVOC
from dataset.reader import layout_of, list_split


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
    ("indexed", "trainannot/0001TP_000001.png", "SegNet"),
    ("colored", "train_labels/0001TP_000001_L.png", "unpack"),
    ("stills", "LabeledApproved_full/0006R0_f00930_L.png", "LabeledApproved_full.zip"),
    ("VOC", "SegmentationClass/2007_000001.png", "VOCtrainval")])
def test_a_picture_without_its_label(copied, kind, label, advice):
    root = copied(kind)
    (root / label).unlink()
    image = layout_of(root).images(root, "train")[1]
    with expect(f"expected a label {Path(label).name}, found none in {(root / label).parent}", image, advice):
        SegmentationDataset(root, "train")


def test_a_list_that_names_no_picture(copied):
    root = copied("VOC")
    lists = root / "ImageSets/Segmentation"
    (lists / "train.txt").write_text("2007_000001\n2007_777777\n", encoding="ascii")
    with expect("2007_777777.jpg", lists / "train.txt", root / "JPEGImages"):
        list_split(root, "train")
    (lists / "train.txt").write_text("", encoding="ascii")
    with expect("found none in", "the splits with pictures are val"):
        list_split(root, "train")
    (lists / "train.txt").write_bytes(b"\xff\xd8\xff")
    with expect("expected a list of pictures", lists / "train.txt"):
        list_split(root, "train")


@pytest.mark.parametrize("kind, value, told", [
    ("KITTI", 34, "expected label ids 0 to 33 (or 255, license plate), found [34]"),
    ("KITTI", 254, "found [254]"), ("indexed", 12, "expected class indices 0 to 11, found [12]"),
    ("indexed", 255, "found [255]"), ("VOC", 254, "found [254]"),
    ("VOC", 21, "expected class indices 0 to 20 (or 255, an object's border), found [21]")])
def test_a_single_pixel_of_an_unknown_code(copied, kind, value, told):
    root = copied(kind)
    pair = list_split(root, "train")[1]
    codes = np.array(Image.open(pair.label))
    codes[0, 1] = value  # of CamVid that row is cropped: the whole file is looked at
    save(pair.label, codes)
    for cached in (True, False):
        with expect(told, pair.label):
            SegmentationDataset(root, "train", cache=cached)[1]


@pytest.mark.parametrize("kind", ["colored", "stills"])
def test_a_single_pixel_of_an_unknown_color(copied, kind):
    root = copied(kind)
    pair = list_split(root, "train")[1]
    colors = np.array(Image.open(pair.label))
    colors[0, 1] = 60, 40, 222  # SegNet's pavement, which is none of the 32
    save(pair.label, colors)
    with expect("expected a color of CamVid's 32 classes", "found (60, 40, 222)", pair.label):
        SegmentationDataset(root, "train")


@pytest.mark.parametrize("kind, mode, told", [
    ("KITTI", "RGB", "8-bit grey label ids, found mode RGB"), ("KITTI", "P", "found mode P"),
    ("indexed", "RGB", "8-bit grey or paletted, found mode RGB"), ("VOC", "RGB", "grey or paletted, found mode RGB"),
    ("VOC", "I;16", "found mode I;16"), ("colored", "P", "RGB or RGBA, found mode P"),
    ("stills", "L", "RGB or RGBA, found mode L")])
def test_labels_of_another_kind(copied, kind, mode, told):
    root = copied(kind)
    pair = list_split(root, "train")[1]
    image = Image.open(pair.label)
    sixteen = Image.fromarray(np.zeros((9, 9), np.uint16))
    save(pair.label, sixteen if mode == "I;16" else image.convert("RGB").convert(mode))
    with expect(told, pair.label):
        SegmentationDataset(root, "train")


def test_a_damaged_jpeg_and_a_grey_one(copied):
    root = copied("VOC")
    image = list_split(root, "train")[1].image
    whole = image.read_bytes()
    image.write_bytes(whole[:len(whole) // 2])
    with expect("expected a whole JPEG", image, "copy it again"):
        SegmentationDataset(root, "train")
    save(image, Image.new("L", (50, 38)))
    with expect("8-bit RGB picture, found mode L", image):
        SegmentationDataset(root, "train")


def test_every_layout_says_where_a_split_would_be():
    for layout in LAYOUTS:
        for split in ("train", "val", "test"):
            assert layout.images(Path("nowhere"), split) == [] and layout.where(split)
    assert PascalVOC().where("val") == "JPEGImages/*.jpg named in ImageSets/Segmentation/val.txt"
