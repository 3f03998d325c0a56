"""The metric against matrices worked out by hand, scikit-learn, torchmetrics and cityscapesscripts."""
from types import SimpleNamespace

import numpy as np
import pytest
import sklearn.metrics
import torch
import torchmetrics.functional.classification as tm
from PIL import Image

from utils.metric import AverageMeter, ConfusionMatrix


def random_labels(seed: int = 0, shape: tuple[int, ...] = (3, 40, 60), ignored: float = 0.1, classes: int = 8):
    rng = np.random.RandomState(seed)
    target = rng.randint(0, classes, shape)
    pred = np.where(rng.rand(*shape) < 0.6, target, rng.randint(0, classes, shape))
    target[rng.rand(*shape) < ignored] = 255
    return target, pred


def test_by_hand():
    #   target 0 0 0 1 1 2, prediction 0 0 1 1 1 0, one pixel ignored
    metric = ConfusionMatrix(4)
    metric.update(np.array([0, 0, 0, 1, 1, 2, 255]), np.array([0, 0, 1, 1, 1, 0, 3]))
    assert metric.counts.tolist() == [[2, 1, 0, 0], [0, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    # class 0: TP 2, FP 1, FN 1; class 1: TP 2, FP 1, FN 0; class 2: TP 0, FN 1; class 3: nowhere
    np.testing.assert_allclose(metric.iou(), [2 / 4, 2 / 3, 0, np.nan])
    assert metric.miou() == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)
    assert metric.miou_without_void() == pytest.approx((2 / 3 + 0) / 2)
    assert metric.accuracy() == pytest.approx(4 / 6)
    np.testing.assert_allclose(metric.class_accuracy(), [2 / 3, 1, 0, np.nan])
    assert metric.mean_accuracy() == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert metric.frequency_weighted_iou() == pytest.approx(3 / 6 * 1 / 2 + 2 / 6 * 2 / 3 + 1 / 6 * 0)


def test_class_only_predicted_counts_as_zero():
    metric = ConfusionMatrix(3)
    metric.update(np.array([0, 0]), np.array([0, 2]))
    np.testing.assert_allclose(metric.iou(), [0.5, np.nan, 0])
    assert metric.miou() == pytest.approx(0.25)


def test_nothing_counted_is_nan():
    metric = ConfusionMatrix()
    metric.update(np.full((2, 2), 255), np.zeros((2, 2), int))
    assert np.isnan([metric.miou(), metric.accuracy(), metric.mean_accuracy(), metric.frequency_weighted_iou()]).all()


def test_against_scikit_learn():
    target, pred = random_labels()
    metric = ConfusionMatrix()
    metric.update(target, pred)
    known = target != 255
    expected = sklearn.metrics.confusion_matrix(target[known], pred[known], labels=range(8))
    np.testing.assert_array_equal(metric.counts, expected)
    np.testing.assert_allclose(metric.iou(), sklearn.metrics.jaccard_score(target[known], pred[known], average=None))
    assert metric.accuracy() == pytest.approx(sklearn.metrics.accuracy_score(target[known], pred[known]))
    assert metric.mean_accuracy() == pytest.approx(
        sklearn.metrics.balanced_accuracy_score(target[known], pred[known]))
    assert metric.frequency_weighted_iou() == pytest.approx(
        sklearn.metrics.jaccard_score(target[known], pred[known], average="weighted"))


def test_against_torchmetrics():
    target, pred = map(torch.from_numpy, random_labels(1))
    metric = ConfusionMatrix()
    metric.update(target, pred)
    expected = tm.multiclass_jaccard_index(pred, target, num_classes=8, ignore_index=255, average="none")
    np.testing.assert_allclose(metric.iou(), expected, rtol=1e-6)
    matrix = tm.multiclass_confusion_matrix(pred, target, num_classes=8, ignore_index=255)
    np.testing.assert_array_equal(metric.counts, matrix)


def test_against_cityscapesscripts(tmp_path):
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official  # noqa: N813

    args = SimpleNamespace(evalInstLevelScore=False, evalPixelAccuracy=False)
    matrix = official.generateMatrix(args)
    metric = ConfusionMatrix()
    for seed in range(2):
        target, pred = random_labels(seed, (30, 50), ignored=0)
        files = tmp_path / f"pred{seed}.png", tmp_path / f"target{seed}.png"
        for path, values in zip(files, (pred, target), strict=True):
            Image.fromarray(values.astype(np.uint8)).save(path)
        official.evaluatePair(str(files[0]), str(files[1]), matrix, {}, {}, args)
        metric.update(target, pred)
    np.testing.assert_array_equal(metric.counts, matrix[:8, :8])


def test_arrays_and_tensors_of_any_type_give_the_same_matrix():
    target, pred = random_labels(2)
    matrices = []
    for convert in (lambda x: x, lambda x: x.astype(np.uint8), torch.from_numpy,
                    lambda x: torch.from_numpy(x.astype(np.uint8)), lambda x: torch.from_numpy(x).int()):
        metric = ConfusionMatrix()
        metric.update(convert(target), convert(pred))
        matrices.append(metric.counts.tolist())
    assert all(matrix == matrices[0] for matrix in matrices)


def test_batches_and_merging_do_not_change_the_matrix():
    target, pred = random_labels(3, (7, 20, 30))
    whole, left, right = ConfusionMatrix(), ConfusionMatrix(), ConfusionMatrix()
    whole.update(target, pred)
    for i in range(7):
        (left if i < 3 else right).update(target[i], pred[i])
    np.testing.assert_array_equal((left + right).counts, whole.counts)
    assert left.counts.sum() < whole.counts.sum()  # + leaves its operands alone
    np.testing.assert_array_equal(left.merge(right).counts, whole.counts)
    with pytest.raises(ValueError, match="8 classes"):
        left.merge(ConfusionMatrix(19))


@pytest.mark.parametrize(("target", "pred", "message"), [
    (np.zeros((2, 4, 4), int), np.zeros((2, 4, 5), int), "one shape"),
    (np.zeros((1, 4, 4), int), np.zeros((4, 4), int), "one shape"),
    (np.zeros(4, int), np.array([0, 1, 2, 8]), "predictions in 0..7"),
    (np.zeros(4, int), np.array([0, 1, 2, -1]), "predictions in 0..7"),
    (np.full(4, 255), np.full(4, 255), "predictions in 0..7"),
    (np.array([0, 8]), np.zeros(2, int), "targets in 0..7"),
    (np.array([0, -1]), np.zeros(2, int), "targets in 0..7"),
    (np.zeros(2, int), np.zeros(2), "integer class indices"),
])
def test_bad_input_is_refused_and_adds_nothing(target, pred, message):
    metric = ConfusionMatrix()
    with pytest.raises(ValueError, match=message):
        metric.update(target, pred)
    assert metric.counts.sum() == 0


def test_average_meter():
    meter = AverageMeter()
    assert np.isnan(meter.avg)
    meter.update(1.0, 3)
    meter.update(5.0)
    assert meter.avg == pytest.approx(2.0)
    meter.reset()
    assert meter.count == 0
