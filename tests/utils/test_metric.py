"""The metric against matrices worked out by hand, scikit-learn, torchmetrics and cityscapesscripts; scoring.

There may be no GPU to test on. What must not wait for one is run on the device "meta", whose tensors have no values:
whatever would read one raises there.
"""
import math
from types import SimpleNamespace

import numpy as np
import pytest
import sklearn.metrics
import torch
import torchmetrics.functional.classification as tm
from PIL import Image
from torch import nn

from utils import evaluation
from utils.evaluation import evaluate, evaluate_images, predict
from utils.lab import LabError
from utils.metric import AverageMeter, ConfusionMatrix, count_without_waiting


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


def by_scikit_learn(target: np.ndarray, pred: np.ndarray, classes: int = 8) -> np.ndarray:
    known = target != 255
    return sklearn.metrics.confusion_matrix(target[known], pred[known], labels=range(classes))


CONVERSIONS = {
    "numpy int64": lambda x: x,
    "numpy int32": lambda x: x.astype(np.int32),
    "numpy uint16": lambda x: x.astype(np.uint16),
    "numpy uint8": lambda x: x.astype(np.uint8),
    "numpy uint8 transposed": lambda x: np.asfortranarray(x.astype(np.uint8)),
    "numpy uint8 flipped": lambda x: x.astype(np.uint8)[:, ::-1].copy()[:, ::-1],
    "int64": lambda x: torch.from_numpy(x),
    "int32": lambda x: torch.from_numpy(x).int(),
    "int16": lambda x: torch.from_numpy(x).short(),
    "uint8": lambda x: torch.from_numpy(x).byte(),
    "uint8 every second": lambda x: torch.from_numpy(x).byte().repeat_interleave(2, 2)[:, :, ::2],
    "int64 transposed": lambda x: torch.from_numpy(x).mT.contiguous().mT,
}


@pytest.mark.parametrize("shape", [(3, 40, 60), (3, 41, 59), (1, 1, 1), (2, 256, 512)])
@pytest.mark.parametrize("of_target", CONVERSIONS)
def test_every_type_and_layout_gives_the_same_matrix(shape, of_target):
    target, pred = random_labels(2, shape)
    target.flat[0] = 3  # scikit-learn refuses an image without a known pixel
    expected = by_scikit_learn(target, pred)
    for of_pred in CONVERSIONS:
        metric = ConfusionMatrix()
        metric.update(CONVERSIONS[of_target](target), CONVERSIONS[of_pred](pred))
        assert metric.counts.dtype == np.int64
        np.testing.assert_array_equal(metric.counts, expected, of_pred)


def test_int8_which_cannot_hold_255():
    target, pred = random_labels(2, ignored=0)
    metric = ConfusionMatrix()
    metric.update(target.astype(np.int8), pred.astype(np.int8))
    np.testing.assert_array_equal(metric.counts, by_scikit_learn(target, pred))


@pytest.mark.parametrize("classes", [2, 7, 8, 9, 10, 11, 19])
def test_any_number_of_classes(classes):
    target, pred = random_labels(4, (31, 33), classes=classes)
    known = target != 255
    expected = sklearn.metrics.confusion_matrix(target[known], pred[known], labels=range(classes))
    metric = ConfusionMatrix(classes)
    metric.update(target, pred)
    np.testing.assert_array_equal(metric.counts, expected)
    if classes <= 10:
        queued = count_without_waiting(torch.from_numpy(target), torch.from_numpy(pred).byte(), classes)
        assert queued.tolist() == [*expected.flatten(), 0]


def test_ignored_pixels_count_as_if_they_were_not_there():
    target, pred = (x.astype(np.uint8) for x in random_labels(5, (50, 70), ignored=0.4))
    with_ignored, without, nothing = ConfusionMatrix(), ConfusionMatrix(), ConfusionMatrix()
    with_ignored.update(target, pred)
    without.update(target[target != 255], pred[target != 255])
    np.testing.assert_array_equal(with_ignored.counts, without.counts)
    for ignored in (np.full(64, 255, np.uint8), np.full(64, 255)):
        nothing.update(ignored, np.arange(64) % 8)
    assert nothing.counts.sum() == 0


def test_counts_do_not_overflow():
    metric, start = ConfusionMatrix(), 2**62 + 1
    metric.counts[:] = start
    n = 3 * 2**20 + 5
    target, pred = torch.full((n,), 7, dtype=torch.uint8), torch.full((n,), 2, dtype=torch.uint8)
    metric.update(target, pred)
    metric.update(target, pred)
    assert int(metric.counts[7, 2]) == start + 2 * n
    metric.counts[7, 2] -= 2 * n
    assert (metric.counts == start).all()
    assert count_without_waiting(target, pred)[8 * 7 + 2] == n  # parts of any length, and no carry between lanes


# --- counting that waits for no device -----------------------------------------------------------------------------


@pytest.mark.parametrize("part", [1024, 4096, 2**22])
def test_queued_counts_are_those_of_scikit_learn(part):
    target, pred = random_labels(6, (3, 41, 59))
    expected = [*by_scikit_learn(target, pred).flatten(), 0]
    for of_target in (np.int64, np.int32, np.uint8):
        for of_pred in (np.int64, np.int8, np.uint8):
            tensors = torch.from_numpy(target.astype(of_target)), torch.from_numpy(pred.astype(of_pred))
            counts = count_without_waiting(*tensors, part=part)
            assert counts.dtype == torch.int64
            assert counts.tolist() == expected


def test_queued_counts_by_hand():
    target = torch.tensor([0, 0, 1, 7, 255, 8, 254, 3, 255, -1, 255 + 256, 2**40, 8, 2, 0, 1])
    pred = torch.tensor([0, 0, 2, 7, 3, 0, 1, 8, 255, 0, 0, 0, 8, 256, -1, -253])
    counts = count_without_waiting(target, pred)
    assert counts[:64].nonzero().flatten().tolist() == [0, 1 * 8 + 2, 7 * 8 + 7]
    assert counts[[0, 10, 63, 64]].tolist() == [2, 1, 1, 11]  # the fifth is ignored, all after it are out of range


def test_queued_counts_of_all_pairs_of_bytes():
    target, pred = torch.meshgrid(torch.arange(256), torch.arange(256), indexing="ij")
    counts = count_without_waiting(target.byte(), pred.byte())
    assert counts.tolist() == [1] * 64 + [256 * 256 - 9 * 8]  # 8 x 8 known pairs, 8 ignored ones


def test_what_was_queued_is_fetched_when_the_counts_are_read():
    target, pred = random_labels(7)
    metric, other = ConfusionMatrix(), ConfusionMatrix()
    metric.update(target, pred)
    for _ in range(2):
        metric._queue(count_without_waiting(torch.from_numpy(target), torch.from_numpy(pred)))
    other.merge(metric)
    for matrix in (metric, other, metric + ConfusionMatrix()):
        np.testing.assert_array_equal(matrix.counts, 3 * by_scikit_learn(target, pred))
    metric._queue(count_without_waiting(torch.tensor([0, 8, 9]), torch.tensor([0, 0, 0])))
    for _ in range(2):
        with pytest.raises(ValueError, match=r"targets in 0\.\.7 or 255 .*, got 2 pixels outside"):
            metric.miou()
    metric.reset()
    assert metric.counts.sum() == 0


def test_update_reads_nothing_back_from_a_device():
    metric = ConfusionMatrix()
    labels = torch.zeros(2, 256, 512, dtype=torch.uint8)
    for target, pred in ((labels, labels), (labels.long(), labels), (labels.int(), labels.long())):
        metric.update(target, pred.to("meta"))
        metric.update(target.to("meta"), pred.to("meta"))
    with pytest.raises(RuntimeError, match="meta"):
        _ = metric.counts


def test_counts_of_two_devices_are_added():
    metric, labels = ConfusionMatrix(), torch.zeros(10, dtype=torch.uint8)
    metric._queue(count_without_waiting(labels, labels))
    metric._queue(torch.zeros(65, dtype=torch.int64, device="meta"))
    metric._pending = None  # a tensor without values cannot be fetched
    assert metric.counts[0, 0] == 10


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu():
    target, pred = random_labels(8, (4, 256, 512))
    on_gpu = torch.from_numpy(target).byte().cuda(), torch.from_numpy(pred).byte().cuda()
    metric, meter = ConfusionMatrix(), AverageMeter()
    loss = torch.tensor(2.0, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        metric.update(*on_gpu)
        meter.update(loss, 4)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    metric.update(target, on_gpu[1])
    metric.update(on_gpu[0], pred)
    np.testing.assert_array_equal(metric.counts, 3 * by_scikit_learn(target, pred))
    assert meter.avg == 2


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
    (np.array([0, -1]), np.zeros(2, int), "targets in 0..7 .*got -1..0"),
    (np.array([0, -1], np.int8), np.zeros(2, np.uint8), "targets in 0..7"),
    (np.zeros(2, np.uint8), np.array([0, -1], np.int8), "predictions in 0..7, got -1..0"),
    (np.zeros(2, bool), np.zeros(2, int), "target as integer class indices"),
    (np.zeros(2, int), np.zeros(2, bool), "pred as integer class indices"),
    (np.zeros(2, int), np.zeros(2), "integer class indices"),
])
def test_bad_input_is_refused_and_adds_nothing(target, pred, message):
    metric = ConfusionMatrix()
    with pytest.raises(ValueError, match=message):
        metric.update(target, pred)
    assert metric.counts.sum() == 0


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int64])
def test_no_value_wraps_into_the_range(kind):
    # 32 and 64 are 0 and 8, shifted by a class, in a byte; 256 + 3 and 2**32 + 3 are 3 in one
    values = [*range(8, 256)] + ([-1, -248, -253, 256, 256 + 3, 511] if kind != np.uint8 else [])
    values += [2**32 + 3, 2**40, -2**63, 2**63 - 1] if kind == np.int64 else []
    metric, fine = ConfusionMatrix(), np.full(5, 3, np.uint8)
    for value in values:
        bad = np.array([0, 1, value, 7, 255], kind)
        if value != 255:
            with pytest.raises(ValueError, match=r"targets in 0\.\.7 or 255"):
                metric.update(bad, fine)
        for target in (fine, np.full(5, 255, np.uint8)):
            with pytest.raises(ValueError, match=r"predictions in 0\.\.7"):
                metric.update(target[:4], bad[:4])
    assert metric.counts.sum() == 0


def test_average_meter():
    meter = AverageMeter()
    assert np.isnan(meter.avg)
    meter.update(1.0, 3)
    meter.update(5.0)
    assert meter.avg == pytest.approx(2.0)
    meter.reset()
    assert meter.count == 0


def test_average_meter_of_tensors():
    values = [0.1, 1 / 3, 7.0, 1e-8]
    meter = AverageMeter()
    weight = torch.ones((), requires_grad=True)
    with torch.inference_mode():
        meter.update(torch.tensor(values[0]), 2)
    meter.update(torch.tensor(values[1]) * weight, 3)
    meter.update(torch.tensor(values[2], dtype=torch.bfloat16))
    meter.update(values[3], 4)  # a number among tensors
    assert isinstance(meter.sum, torch.Tensor) and meter.sum.dtype == torch.float64 and not meter.sum.requires_grad
    expected = math.fsum(np.float32(values[:2]).astype(float) * [2, 3]) + values[2] + 4 * values[3]
    assert isinstance(meter.avg, float)
    assert meter.avg == pytest.approx(expected / 10, rel=1e-15)
    meter.sum, meter.count = 6.0, 4.0  # as the sum over several processes is put in
    assert meter.avg == 1.5
    meter.reset()
    assert np.isnan(meter.avg)


def test_average_meter_reads_nothing_back_from_a_device():
    meter = AverageMeter()
    meter.update(1.0)
    for _ in range(2):
        meter.update(torch.ones((), device="meta", requires_grad=True), 8)
    assert meter.count == 17
    with pytest.raises(RuntimeError, match="meta"):
        _ = meter.avg


# --- scoring -------------------------------------------------------------------------------------------------------


class Echo(nn.Module):
    """A network whose logits are ten times its input's first channel, one-hot: it predicts what the image says."""

    def __init__(self, classes: int = 8):
        super().__init__()
        self.classes = classes

    def forward(self, x):
        return 10 * (x[:, :1] == torch.arange(self.classes, device=x.device)[:, None, None]).float()


class Given(nn.Module):
    """A network that answers with these logits."""

    def __init__(self, logits: torch.Tensor):
        super().__init__()
        self.logits = logits

    def forward(self, x):
        return self.logits


def as_image(labels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(labels).float()[:, None].expand(-1, 3, -1, -1)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_ties_go_to_the_first_class(kind):
    logits = torch.randint(-2, 3, (2, 8, 40, 60), generator=torch.Generator().manual_seed(0)).to(kind)
    assert (logits.sort(1, descending=True).values.diff(dim=1)[:, 0] == 0).float().mean() > 0.3  # many ties at the top
    pred = predict(Given(logits), torch.zeros(2, 3, 40, 60))
    assert pred.dtype == torch.uint8
    for layout in (torch.contiguous_format, torch.channels_last):
        pred = predict(Given(logits.to(memory_format=layout)), torch.zeros(2, 3, 40, 60))
        np.testing.assert_array_equal(pred, logits.double().numpy().argmax(1))


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_only_logits_that_are_finite_are_taken(kind):
    data, largest = torch.zeros(1, 3, 8, 9), torch.finfo(kind).max
    for value in (largest, -largest):  # the sum is infinite
        assert predict(Given(torch.full((1, 8, 8, 9), value, dtype=kind)), data).shape == (1, 8, 9)
    for value in (np.nan, np.inf, -np.inf):
        for index in (0, 100, -1):
            logits = torch.randn(1, 8, 8, 9).to(kind)
            logits.view(-1)[index] = value
            with pytest.raises(LabError, match="expected finite logits, found NaN or infinity from here"):
                predict(Given(logits), data, "here")
            with pytest.raises(LabError, match="expected finite logits, found NaN or infinity from there"):
                evaluate_images(Given(logits), [(data, torch.zeros(1, 8, 9))], "there")


@pytest.mark.parametrize("batch", [1, 3, 7])
def test_scoring_gives_a_matrix_a_image_and_their_sum(batch):
    target, pred = random_labels(9, (7, 24, 33))
    loader = [(as_image(pred[i:i + batch]), torch.from_numpy(target[i:i + batch])) for i in range(0, 7, batch)]
    matrices = evaluate_images(Echo(), loader)
    assert len(matrices) == 7
    for matrix, one_target, one_pred in zip(matrices, target, pred, strict=True):
        np.testing.assert_array_equal(matrix.counts, by_scikit_learn(one_target, one_pred))
    np.testing.assert_array_equal(evaluate(Echo(), loader).counts, by_scikit_learn(target, pred))


def test_scoring_of_other_classes_than_the_labs():
    target, pred = random_labels(4, (3, 20, 30), classes=21)
    loader = [(as_image(pred), torch.from_numpy(target))]
    expected = by_scikit_learn(target, pred, 21)
    np.testing.assert_array_equal(evaluate(Echo(21), loader, num_classes=21).counts, expected)
    np.testing.assert_array_equal(sum(evaluate_images(Echo(21), loader, num_classes=21), ConfusionMatrix(21)).counts,
                                  expected)
    np.testing.assert_array_equal(predict(Echo(21), loader[0][0], num_classes=21), pred)
    for network, classes in ((Echo(21), 8), (Echo(), 21)):
        with pytest.raises(LabError, match=rf"expected logits \(3, {classes}, 20, 30\).*one channel a class"):
            predict(network, loader[0][0], num_classes=classes)


def test_scoring_without_labeled_pixels_is_refused():
    for loader in ([], [(torch.zeros(1, 3, 8, 8), torch.full((1, 8, 8), 255))]):
        with pytest.raises(LabError, match="expected labeled pixels to score the drawing on"):
            evaluate(Echo(), loader, "the drawing")


def test_scoring_waits_for_a_device_only_after_the_last_batch():
    taken = []

    def loader():
        for number in range(3):
            yield torch.zeros(2, 3, 64, 64, device="meta"), torch.zeros(2, 64, 64, dtype=torch.uint8, device="meta")
            taken.append(number)

    with pytest.raises(RuntimeError, match="meta"):
        evaluate_images(Echo(), loader())
    assert taken == [0, 1, 2]


def test_an_infinite_batch_is_not_forgotten_until_the_end(monkeypatch):
    class OnGpu(torch.Tensor):
        device = torch.device("cuda")

    flags = iter([True, False, True])
    monkeypatch.setattr(evaluation, "_classify", lambda model, data, where, num_classes: (
        torch.zeros(1, 8, 8, dtype=torch.uint8), torch.tensor(next(flags)).as_subclass(OnGpu), None))
    with pytest.raises(LabError, match="found NaN or infinity from here"):
        evaluate_images(Echo(), [(torch.zeros(1, 3, 8, 8), torch.zeros(1, 8, 8, dtype=torch.uint8))] * 3, "here")
    assert next(flags, "all taken") == "all taken"
