"""The reader against pixels worked out by hand, and every kind of bad file."""
import hashlib
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import assert_one_line_error, run_command, write_pair
from PIL import Image
from torch.nn import functional as F
from torch.utils.data import DataLoader

from dataset.augment import Augment
from dataset.batches import Batches
from dataset.cache import open_cache
from dataset.dataset import SegmentationDataset
from dataset.reader import find_data, read_image, read_label
from utils.lab import MEAN, STD, LabError
from utils.labels_cat import id2label, labels


def full_size(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.RandomState(seed)
    return (rng.randint(0, 256, (1024, 2048, 3)).astype(np.uint8), rng.randint(0, 34, (1024, 2048)).astype(np.uint8))


def test_image_of_cityscapes_size_becomes_the_exact_mean_of_4_x_4(tmp_path):
    image, _ = full_size()
    Image.fromarray(image).save(tmp_path / "x_leftImg8bit.png")
    blocks = image.reshape(256, 4, 512, 4, 3).astype(np.int64).sum((1, 3))
    np.testing.assert_array_equal(read_image(tmp_path / "x_leftImg8bit.png"), (blocks + 8) // 16)


def test_label_of_cityscapes_size_is_every_fourth_pixel_from_the_second(tmp_path):
    _, ids = full_size()
    Image.fromarray(ids).save(tmp_path / "x_gtFine_labelIds.png")
    expected = np.vectorize(lambda i: id2label[i].catId)(ids[2::4, 2::4])
    np.testing.assert_array_equal(read_label(tmp_path / "x_gtFine_labelIds.png"), expected)


@pytest.mark.parametrize("size", [(37, 71), (512, 1024), (240, 480), (256, 512), (1000, 2000), (333, 100)])
def test_label_of_any_size_is_nearest_at_pixel_centers(tmp_path, size):
    ids = np.random.RandomState(1).randint(0, 34, size).astype(np.uint8)
    Image.fromarray(ids).save(tmp_path / "x_gtFine_labelIds.png")
    # torch calls it nearest-exact; its plain "nearest" picks other pixels
    nearest = F.interpolate(torch.from_numpy(ids)[None, None].float(), (256, 512), mode="nearest-exact")
    expected = np.vectorize(lambda i: id2label[int(i)].catId)(nearest[0, 0].numpy())
    different = (read_label(tmp_path / "x_gtFine_labelIds.png") != expected).mean()
    assert different < 0.001 if size == (1000, 2000) else different == 0  # float rounding where a center meets an edge


def test_canonical_resize_is_pinned(tmp_path):
    """The pixels that the whole class trains and is graded on: they may never change."""
    image, ids = full_size(5)
    Image.fromarray(image[:, ::-1][:600, :1100]).save(tmp_path / "x_leftImg8bit.png")
    Image.fromarray(ids[:600, :1100]).save(tmp_path / "x_gtFine_labelIds.png")
    digests = [hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()[:16] for pixels in (
        read_image(tmp_path / "x_leftImg8bit.png"), read_label(tmp_path / "x_gtFine_labelIds.png"))]
    assert digests == ["4dede16749a07470", "7522431ed9e848da"]


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_color_label_is_read_where_there_are_no_label_ids(tmp_path, tiny_pair, mode):
    image, ids = tiny_pair
    colors = np.array([id2label[i].color for i in range(34)], np.uint8)[np.asarray(ids)]
    write_pair(tmp_path / "a", "val", "x_000000_000019", image, ids)
    write_pair(tmp_path / "b", "val", "x_000000_000019", image, Image.fromarray(colors).convert(mode),
               "_gtFine_color.png")
    by_ids, by_colors = SegmentationDataset(tmp_path / "a", "val"), SegmentationDataset(tmp_path / "b", "val")
    assert by_colors.pairs[0].label.name.endswith("_gtFine_color.png")
    assert torch.equal(by_ids[0][1], by_colors[0][1])


def test_label_ids_come_first_where_both_exist(tmp_path, tiny_pair):
    write_pair(tmp_path, "val", "x_000000_000019", *tiny_pair)
    write_pair(tmp_path, "val", "x_000000_000019", tiny_pair[0], tiny_pair[0], "_gtFine_color.png")  # noise
    assert SegmentationDataset(tmp_path, "val")[0][1].max() <= 7


def test_items_are_normalized_images_and_int64_targets(sample):
    dataset = SegmentationDataset(sample, "train")
    assert len(dataset) == 4
    image, target = dataset[0]
    assert (image.shape, image.dtype) == ((3, 256, 512), torch.float32)
    assert (target.shape, target.dtype) == ((256, 512), torch.int64)
    assert set(target.unique().tolist()) <= set(range(8))
    pixels, _ = dataset.read(0)
    expected = (pixels.astype(np.float64) / 255 - MEAN) / STD
    np.testing.assert_allclose(image.permute(1, 2, 0), expected, atol=1e-5)


def test_paths_that_are_not_utf_8_are_read_cached_and_told_apart(tmp_path, tiny_pair):
    try:
        folder = tmp_path / os.fsdecode(b"caf\xe9")
        folder.mkdir()
    except OSError:
        pytest.skip("a file system of UTF-8 names alone")
    city = os.fsdecode(b"k\xf6ln")
    write_pair(folder, "val", f"{city}_000000_000019", *tiny_pair)
    write_pair(tmp_path / "plain", "val", "ulm_000000_000019", *tiny_pair)
    built = run_command("-m", "dataset.cache", folder, "--verify")
    assert built.status == 0 and built.stdout.startswith("val: 1 pairs"), built.stderr
    assert_one_line_error(run_command("-m", "dataset.cache", folder / "gtFine"), "pass ", "caf\\udce9")
    dataset, plain = SegmentationDataset(folder, "val"), SegmentationDataset(tmp_path / "plain", "val")
    assert dataset.cached and all(map(torch.equal, dataset[0], plain[0])) and dataset.fingerprint != plain.fingerprint
    assert open_cache(folder, "val").folder == pickle.loads(pickle.dumps(dataset)).cached.folder


@pytest.mark.parametrize("cache", [True, False])
def test_two_parts_are_the_whole_split_and_share_nothing(sample, cache):
    whole = SegmentationDataset(sample, "train", cache=cache)
    first, last = (SegmentationDataset(sample, "train", cache=cache, part=part) for part in ((0, 0.75), (0.75, 1)))
    assert (len(first), len(last)) == (3, 1) and first.pairs + last.pairs == whole.pairs
    for k in range(2):
        assert np.array_equal(np.concatenate([first.arrays[k], last.arrays[k]]), whole.arrays[k])
    assert torch.equal(last[0][0], whole[3][0]) and torch.equal(last[0][1], whole[3][1])
    assert first.fingerprint != whole.fingerprint
    with pytest.raises(LabError, match="expected a part of the 4 images of train, found none"):
        SegmentationDataset(sample, "train", part=(0.99, 1))


def test_dataset_works_in_a_dataloader_with_workers(sample):
    data, target = next(iter(DataLoader(SegmentationDataset(sample, "train", Augment()), batch_size=4, num_workers=2)))
    assert data.shape == (4, 3, 256, 512) and target.shape == (4, 256, 512)


def test_default_data_is_the_sample_and_says_so(tmp_path, monkeypatch, capsys, sample):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dataset.reader.SAMPLE_DATA", sample)
    monkeypatch.setattr("sample.draw.draw_sample", lambda root: root)
    assert find_data(None).root == sample == find_data("./data").root
    assert "no Cityscapes in ./data" in capsys.readouterr().err
    (tmp_path / "data" / "kitti" / "training" / "image_2").mkdir(parents=True)
    (tmp_path / "data" / "kitti" / "training" / "semantic").mkdir()
    assert find_data(None).root == find_data("./data").root == Path("data/kitti")
    assert f"using the KITTI in {Path('data/kitti')}" in capsys.readouterr().err
    (tmp_path / "data" / "city" / "leftImg8bit").mkdir(parents=True)
    with expect("expected one data set, found 2 in data: pass data.city or data.kitti"):
        find_data(None)
    (tmp_path / "data" / "leftImg8bit").mkdir(parents=True)
    assert find_data(None).root.resolve() == (tmp_path / "data").resolve()


# --- bad input: each names the file -----------------------------------------------------------------------------


def expect(message: str):
    return pytest.raises(LabError, match=message)


def test_no_such_folder_or_no_layout(tmp_path):
    with expect("found none at .*nowhere"):
        find_data(tmp_path / "nowhere")
    with expect("found nothing in"):
        find_data(tmp_path)
    (tmp_path / "city" / "leftImg8bit").mkdir(parents=True)
    with expect("pass .*city$"):
        find_data(tmp_path)
    with expect("pass .*city$"):
        find_data(tmp_path / "city" / "leftImg8bit")


def test_empty_split_names_the_others(tmp_path, tiny_pair):
    write_pair(tmp_path, "train", "x_000000_000019", *tiny_pair)
    with expect("expected images of val .*found none in .*: the splits with images are train"):
        find_data(tmp_path).pairs("val")
    with expect("found 'valid'"):
        find_data(tmp_path).pairs("valid")


def test_image_without_label(tmp_path, tiny_pair):
    write_pair(tmp_path, "val", "x_000000_000019", tiny_pair[0], None)
    with expect("x_000000_000019_gtFine_labelIds.png .*found neither"):
        find_data(tmp_path).pairs("val")


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"not an image" * 50])
def test_damaged_file(tmp_path, tiny_pair, which, damage):
    paths = write_pair(tmp_path, "val", "x_000000_000019", *tiny_pair)
    paths[which].write_bytes(damage(paths[which].read_bytes()))
    with expect(f"whole PNG.*{paths[which].name}"):
        SegmentationDataset(tmp_path, "val")[0]


@pytest.mark.parametrize("convert", [
    lambda ids: Image.fromarray(np.asarray(ids).astype(np.uint16) * 1000), lambda ids: ids.convert("P"),
    lambda ids: ids.convert("RGB"), lambda ids: ids.convert("1")], ids=["16-bit", "paletted", "RGB", "1-bit"])
def test_label_ids_of_another_kind(tmp_path, tiny_pair, convert):
    write_pair(tmp_path, "val", "x_000000_000019", tiny_pair[0], convert(tiny_pair[1]))
    with expect("expected 8-bit gray label ids, found mode .*x_000000_000019_gtFine_labelIds.png"):
        SegmentationDataset(tmp_path, "val")[0]


def test_paletted_color_label(tmp_path, tiny_pair):
    write_pair(tmp_path, "val", "x_000000_000019", tiny_pair[0], tiny_pair[1].convert("P"), "_gtFine_color.png")
    with expect("RGB or RGBA, found mode P"):
        SegmentationDataset(tmp_path, "val")[0]


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "I;16"])
def test_image_of_another_kind(tmp_path, tiny_pair, mode):
    image = Image.fromarray(np.zeros((9, 9), np.uint16)) if mode == "I;16" else tiny_pair[0].convert(mode)
    write_pair(tmp_path, "val", "x_000000_000019", image, tiny_pair[1])
    with expect("8-bit RGB image, found mode .*x_000000_000019_leftImg8bit.png"):
        SegmentationDataset(tmp_path, "val")[0]


def test_one_unknown_id_or_color_anywhere_in_the_file(tmp_path):
    ids = np.full((1024, 2048), 7, np.uint8)
    ids[1, 1] = 77  # a pixel that the resize leaves out
    image = Image.new("RGB", (2048, 1024))
    write_pair(tmp_path / "ids", "val", "x_000000_000019", image, Image.fromarray(ids))
    with expect(r"found \[77\] in .*x_000000_000019_gtFine_labelIds.png"):
        SegmentationDataset(tmp_path / "ids", "val")[0]
    colors = np.full((1024, 2048, 3), labels[7].color, np.uint8)
    colors[1, 1] = 1, 2, 3
    write_pair(tmp_path / "colors", "val", "x_000000_000019", image, Image.fromarray(colors), "_gtFine_color.png")
    with expect(r"found \(1, 2, 3\) in .*x_000000_000019_gtFine_color.png"):
        SegmentationDataset(tmp_path / "colors", "val")[0]


@pytest.mark.parametrize("cache", [True, False])
def test_one_bad_file_among_many_stops_the_reading_with_its_name(sample, tmp_path, cache):
    copy = tmp_path / "copy"
    shutil.copytree(sample, copy, ignore=shutil.ignore_patterns("lab-cache"))
    bad = sorted((copy / "gtFine/train").glob("*/*labelIds.png"))[2]
    bad.write_bytes(bad.read_bytes()[:100])
    with expect(bad.name):
        Batches(SegmentationDataset(copy, "train", cache=cache), 2)
