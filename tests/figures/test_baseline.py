"""The baseline without learning, against counting pixel by pixel."""
import math

import numpy as np
import pytest
import torch

from figures.report.baseline import PART, ClassFrequency, load_model


def count(targets: np.ndarray, num_classes: int) -> np.ndarray:
    """How many images have each class at each position: (K, h, w), one pixel after the other."""
    counts = np.zeros((num_classes, *targets.shape[1:]), int)
    for image, row, column in np.ndindex(targets.shape):
        label = targets[image, row, column]
        if label != 255:
            counts[label, row, column] += 1
    return counts


def make_targets(images: int, height: int = 6, width: int = 10, classes: int = 8) -> np.ndarray:
    targets = np.random.default_rng(0).integers(0, classes + 1, (images, height, width), dtype=np.uint8)
    targets[targets == classes] = 255
    targets[:, 2, 3] = 255  # a position that no image labels
    return targets


@pytest.mark.parametrize("images", [5, 2 * PART + 3])
def test_shares_are_those_of_counting(images):
    targets = make_targets(images)
    counts = count(targets, 8)
    model = ClassFrequency.from_targets(targets)
    assert model.shares.dtype == torch.float32
    assert model.shares.shape == (1, 8, 6, 10)
    for row, column in np.ndindex(6, 10):
        here = counts[:, row, column] if (row, column) != (2, 3) else counts.sum((1, 2))
        np.testing.assert_allclose(model.shares[0, :, row, column], here / here.sum(), rtol=1e-6)


def test_logits_are_the_shares_logarithms_for_every_image():
    targets = make_targets(5)
    model = ClassFrequency.from_targets(targets).eval()
    logits = model(torch.randn(3, 3, 6, 10))
    assert logits.shape == (3, 8, 6, 10)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()
    assert torch.equal(logits[0], logits[2])
    torch.testing.assert_close(logits[1].exp(), model.shares[0], rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(logits[1].softmax(0), model.shares[0], rtol=1e-5, atol=1e-7)


def test_the_most_frequent_class_wins_and_ties_stay_ties():
    targets = make_targets(4, height=20, width=30, classes=3)  # few images, few classes: many ties
    counts = count(targets, 3)
    logits = ClassFrequency.from_targets(targets, num_classes=3)(torch.zeros(1, 3, 20, 30))[0].numpy()
    labeled = counts.sum(0) > 0
    most = (counts == counts.max(0))[:, labeled]
    assert (most.sum(0) > 1).sum() > 50
    np.testing.assert_array_equal((logits == logits.max(0))[:, labeled], most)
    np.testing.assert_array_equal(logits.argmax(0)[labeled], counts.argmax(0)[labeled])


def test_one_image_in_three_thousand_decides():
    # 1488 images against 1487: their shares differ in the fourth digit, and their logarithms must as well
    targets = np.ones((2975, 1, 1), np.uint8)
    targets[:1488] = 2
    assert ClassFrequency.from_targets(targets)(torch.zeros(1, 3, 1, 1)).argmax() == 2
    targets[:1488] = 0
    logits = ClassFrequency.from_targets(targets)(torch.zeros(1, 3, 1, 1)).flatten()
    assert logits.argmax() == 0
    assert logits[1].item() == pytest.approx(math.log(1487 / 2975), rel=1e-6)


def test_another_input_size_mixes_the_shares():
    targets = np.array([[[0, 1]]], np.uint8)  # left: class 0; right: class 1
    logits = ClassFrequency.from_targets(targets, num_classes=2)(torch.zeros(1, 3, 1, 4))
    # Four pixels' centers lie at 1/8, 3/8, 5/8 and 7/8 of the width, the two positions' at 1/4 and 3/4.
    torch.testing.assert_close(logits[0, :, 0].exp(), torch.tensor([[1, 0.75, 0.25, 0], [0, 0.25, 0.75, 1]]))


def test_a_memory_map_is_read_and_left_alone(tmp_path):
    targets = make_targets(PART + 1)
    np.save(tmp_path / "t.npy", targets)
    mapped = np.load(tmp_path / "t.npy", mmap_mode="r")
    assert torch.equal(ClassFrequency.from_targets(mapped).shares, ClassFrequency.from_targets(targets).shares)
    np.testing.assert_array_equal(np.load(tmp_path / "t.npy"), targets)


@pytest.mark.parametrize("targets, message", [
    (np.zeros((2, 3), np.uint8), "expected targets"),
    (np.zeros((2, 3, 3), np.int64), "got .* int64"),
    (np.full((2, 3, 3), 8, np.uint8), "0 to 7 or 255, got 8"),
    (np.full((2, 3, 3), 255, np.uint8), "labeled pixels, got none in 2"),
    (np.zeros((0, 3, 3), np.uint8), "labeled pixels, got none in 0")])
def test_other_targets_are_refused(targets, message):
    with pytest.raises(ValueError, match=message):
        ClassFrequency.from_targets(targets)


def test_a_new_one_knows_nothing_and_has_no_parameters():
    model = ClassFrequency()
    assert list(model.parameters()) == []
    assert model.shares.shape == (1, 8, 256, 512)
    assert (model.shares == 1 / 8).all()


def test_load_model_reads_the_shares_back(tmp_path):
    model = ClassFrequency.from_targets(make_targets(5, classes=4), num_classes=4)
    torch.save(model.state_dict(), tmp_path / "m.pth")
    loaded = load_model(str(tmp_path / "m.pth"))
    assert torch.equal(loaded.shares, model.shares)
