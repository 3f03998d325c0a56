"""Average precision against scikit-learn, the boundary F-score against distances between all pairs of pixels."""
import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, average_precision_score

from utils.further_metrics import AveragePrecision, BoundaryFScore
from utils.lab import LabError
from utils.metric import ConfusionMatrix


def scored(seed=0, shape=(3, 24, 40), noise=1.0, sharpness=2.0):
    """A target without class 7, a tenth of it ignored, and logits that are right most of the time."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(0, 7, shape, generator=generator)
    logits = torch.nn.functional.one_hot(target, 8).movedim(-1, 1) + noise * torch.randn(
        len(target), 8, *shape[1:], generator=generator)
    return target.masked_fill(torch.rand(shape, generator=generator) < 0.1, 255), sharpness * logits


def by_scikit_learn(target, probabilities):
    known = (target != 255).numpy()
    return np.array([average_precision_score(target.numpy()[known] == k, probabilities[:, k].numpy()[known])
                     for k in range(7)] + [np.nan])


# --- average precision --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bins", [64, 1024, 16384])
@pytest.mark.parametrize(("noise", "sharpness"), [(1.0, 2.0), (0.3, 8.0), (0.4, 40.0), (5.0, 0.1)])
def test_average_precision_is_scikit_learns_within_its_error(bins, noise, sharpness):
    target, logits = scored(noise=noise, sharpness=sharpness)
    metric = AveragePrecision(bins)
    metric.update(target, logits)
    found, expected, error = metric.average_precision(), by_scikit_learn(target, logits.softmax(1)), metric.error()
    assert (np.abs(found - expected)[:7] <= error[:7] + 1e-9).all()
    assert np.isnan(found[7]) and np.isnan(error[7])
    assert bins < 16384 or sharpness != 2 or (error[:7] < 0.003).all()  # and it is of use
    assert metric.mean() == pytest.approx(found[:7].mean())


def test_scores_in_bins_of_their_own_give_the_exact_figure():
    # log-odds of whole numbers, 0.5 off the edges of bins of width 1; equal scores are ties, as for scikit-learn
    generator = torch.Generator().manual_seed(1)
    p = (torch.randint(-9, 9, (2, 8, 10, 12), generator=generator) + 0.5).sigmoid()
    target = torch.randint(0, 7, (2, 10, 12), generator=generator)
    metric = AveragePrecision(bins=32, logits=False)
    metric.update(target, p)
    np.testing.assert_allclose(metric.average_precision(), by_scikit_learn(target, p), rtol=1e-12)


def test_by_hand():
    # class 1 from the highest score: hit, miss, hit (1/3 apart in recall), a last hit tied with a miss, 255 left out
    p = torch.zeros(1, 8, 1, 6)
    p[0, 1, 0] = torch.tensor([0.9, 0.8, 0.7, 0.1, 0.1, 0.99])
    metric = AveragePrecision(logits=False)
    metric.update(torch.tensor([[[1, 0, 1, 1, 0, 255]]]), p)
    found = metric.average_precision()
    assert found[1] == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)
    assert found[0] == pytest.approx(2 / 5)  # all scores equal: the share of the class
    assert np.isnan(found[2:]).all()


def test_the_error_covers_every_order_within_a_bin():
    """Two bins' worth of pixels, in many of the orders, with ties, that the bins cannot tell apart."""
    hits = [np.array(row) for row in ([1, 0, 1, 1, 0, 0, 1], [0, 0, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0, 0])]
    rng = np.random.RandomState(0)
    for hit in hits:
        odds = np.array([3.5] * 4 + [-2.5] * 3)
        p = torch.zeros(1, 8, 1, 7)
        p[0, 1, 0] = torch.from_numpy(odds).sigmoid()
        metric = AveragePrecision(bins=32, logits=False)
        metric.update(torch.from_numpy(hit)[None, None], p)
        found, error = metric.average_precision()[1], metric.error()[1]
        exact = [average_precision_score(hit, odds + rng.rand(7).round(1) * 0.4) for _ in range(60)]
        assert max(exact) <= found + error + 1e-12 and min(exact) >= found - error - 1e-12
        assert error <= 1.5 * max(found - min(exact), max(exact) - found) + 0.1  # and not much wider than needed


def test_batches_layouts_and_types_do_not_matter():
    target, logits = scored(2)
    whole, parts, probabilities = AveragePrecision(), AveragePrecision(), AveragePrecision(logits=False)
    whole.update(target, logits)
    for i in range(3):
        parts.update(target[i:i + 1].byte(), logits[i:i + 1].to(memory_format=torch.channels_last).requires_grad_())
    probabilities.update(target.int(), logits.softmax(1))
    for other in (parts, probabilities):
        np.testing.assert_allclose(other.average_precision(), whole.average_precision(), rtol=1e-4)
    half, rounded = AveragePrecision(), AveragePrecision()
    half.update(target, logits.bfloat16())
    rounded.update(target, logits.bfloat16().float())
    np.testing.assert_array_equal(half.average_precision(), rounded.average_precision())


def test_scores_out_of_range_are_told_when_a_figure_is_read():
    target, logits = scored()
    for k, (bad, probabilities) in enumerate([(np.nan, False), (np.inf, False), (1.5, True), (-0.1, True)]):
        scores = logits.softmax(1) if probabilities else logits.clone()
        metric = AveragePrecision(logits=not probabilities)
        scores[0, k][target[0] != 255] = bad
        metric.update(target, scores)
        with pytest.raises(ValueError, match="finite logits or probabilities"):
            metric.average_precision()
    metric, scores = AveragePrecision(logits=False), logits.softmax(1)
    scores[0, 0][target[0] == 255] = 2.0  # nobody asks there
    metric.update(target, scores)
    assert metric.mean() > 0


# --- boundary F-score ---------------------------------------------------------------------------------------------


def by_brute_force(target, pred, tolerance, classes=8):
    """(precision, recall, F) of each class, (3, C): loops over pixels, and the distance of every pair of them."""
    figures = np.full((len(target), 3, classes), np.nan)
    for n, (true, claimed) in enumerate(zip(target, pred, strict=True)):
        for k in range(classes):
            points = []
            for labels in (claimed, true):
                points.append([])
                for y, x in zip(*np.nonzero((labels == k) & (true != 255)), strict=True):
                    around = [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
                    if any(0 <= v < len(true) and 0 <= u < len(true[0]) and true[v, u] != 255 and labels[v, u] != k
                           for v, u in around):
                        points[-1].append((y, x))
            if not points[0] and not points[1]:
                continue
            p, t = (np.array(some, float).reshape(-1, 1, 2) for some in points)
            close = np.sqrt(((p - t.swapaxes(0, 1)) ** 2).sum(2)) <= tolerance
            precision = close.any(1).mean() if len(p) else np.nan
            recall = close.any(0).mean() if len(t) else np.nan
            both = np.nansum([precision, recall])
            figures[n, :, k] = precision, recall, 2 * precision * recall / both if both and len(p) and len(t) else 0
    counted = (~np.isnan(figures)).sum(0)
    return np.where(counted, np.nansum(figures, 0) / np.maximum(counted, 1), np.nan)


def scenes(seed, ignored, classes=8):
    """Blocks of all classes but the last, the same moved by up to 3 pixels as the prediction, some of it wrong."""
    rng = np.random.RandomState(seed)
    target = rng.randint(0, classes - 1, (2, 5, 6)).repeat(5, 1).repeat(4, 2)
    pred = np.roll(target, rng.randint(-3, 4, 2), (1, 2))
    pred[:, 3:7, 5:9] = rng.randint(0, classes)
    if ignored:
        target[:, 10:14, :9] = 255
        target[rng.rand(*target.shape) < 0.05] = 255
    return target, pred


@pytest.mark.parametrize("tolerance", [0, 1, 1.5, 2, 3])
@pytest.mark.parametrize("ignored", [False, True])
def test_boundary_f_score_against_all_pairs(tolerance, ignored):
    target, pred = scenes(7 + ignored, ignored)
    metric = BoundaryFScore(tolerance)
    metric.update(torch.from_numpy(target), torch.from_numpy(pred).byte())
    found = [metric.precision(), metric.recall(), metric.f_score()]
    np.testing.assert_allclose(found, by_brute_force(target, pred, tolerance), rtol=1e-12)
    assert metric.mean() == pytest.approx(np.nanmean(found[2]))


def test_boundaries_by_hand():
    # Class 1 begins in column 4; predicted in column 6. Boundary columns: 3 and 4, predicted 5 and 6.
    target, pred = torch.zeros(1, 3, 10, dtype=torch.long), torch.zeros(1, 3, 10, dtype=torch.long)
    target[..., 4:], pred[..., 6:] = 1, 1
    for tolerance, worth in ((1.9, 0), (2, 1)):
        metric = BoundaryFScore(tolerance)
        metric.update(target, pred)
        np.testing.assert_array_equal(metric.f_score(), [worth, worth] + [np.nan] * 6)
    # a second image without a boundary in the prediction: an F of 0, a recall of 0, no precision
    metric.update(target, torch.zeros_like(pred))
    np.testing.assert_array_equal([figure[1] for figure in (metric.precision(), metric.recall(), metric.f_score())],
                                  [1, 0.5, 0.5])
    # a third without any boundary counts nowhere
    metric.update(torch.zeros_like(target), torch.zeros_like(target))
    assert metric.f_score()[1] == 0.5 and np.isnan(metric.f_score()[2:]).all()


def test_neither_the_image_s_edge_nor_unknown_pixels_are_boundaries():
    target = torch.full((1, 6, 6), 3)
    target[0, 2:4] = 255
    pred = torch.full((1, 6, 6), 3)
    pred[0, 2:4] = 5
    metric = BoundaryFScore()
    metric.update(target, pred)
    assert np.isnan(metric.f_score()).all() and np.isnan(metric.mean())


def test_images_in_batches_or_one_by_one():
    target, pred = map(torch.from_numpy, scenes(3, True))
    whole, parts = BoundaryFScore(), BoundaryFScore()
    whole.update(target, pred)
    for i in range(2):
        parts.update(target[i:i + 1].byte(), pred[i:i + 1].int())
    np.testing.assert_allclose(parts.f_score(), whole.f_score(), rtol=1e-12)


# --- both ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [8, -1, 254, 2**32])
def test_classes_out_of_range_are_told_when_a_figure_is_read(value):
    fine = torch.zeros(1, 4, 4, dtype=torch.long)
    bad = fine.clone()
    bad[0, 2, 1] = value
    for metric, batch, read in [(AveragePrecision(), (bad, torch.zeros(1, 8, 4, 4)), "average_precision"),
                                (BoundaryFScore(), (bad, fine), "f_score"), (BoundaryFScore(), (fine, bad), "recall")]:
        metric.update(*batch)
        with pytest.raises(ValueError, match=r"expected classes 0\.\.7, .*got 1 values outside"):
            getattr(metric, read)()


def test_255_is_no_prediction():
    metric = BoundaryFScore()
    metric.update(torch.full((1, 2, 2), 255), torch.full((1, 2, 2), 255))
    with pytest.raises(ValueError, match="got 4 values outside"):
        metric.f_score()


def test_shapes_and_types_are_refused_at_once():
    labels, scores = torch.zeros(2, 4, 5, dtype=torch.long), torch.zeros(2, 8, 4, 5)
    for target, other in [(labels, scores[:1]), (labels, scores[:, :7]), (labels[:, :3], scores),
                          (labels.float(), scores), (labels, scores.long()), (labels[..., None], scores[..., None])]:
        with pytest.raises(ValueError, match="expected"):
            AveragePrecision().update(target, other)
    for target, other in [(labels, scores), (labels, labels[:1]), (labels, labels.float()), (labels.bool(), labels),
                          (labels[0], labels[0])]:
        with pytest.raises(ValueError, match="expected"):
            BoundaryFScore().update(target, other)


def test_settings_out_of_range_and_nothing_seen():
    for build in (lambda: AveragePrecision(1), lambda: AveragePrecision(10.0), lambda: AveragePrecision(True),
                  lambda: BoundaryFScore(-1), lambda: BoundaryFScore(np.nan), lambda: BoundaryFScore(1000)):
        with pytest.raises(LabError, match=r"^expected .*, found .* in the settings$"):
            build()
    for figures in (AveragePrecision().average_precision(), AveragePrecision().error(), BoundaryFScore().f_score()):
        assert np.isnan(figures).all() and len(figures) == 8
    assert np.isnan(AveragePrecision().mean()) and np.isnan(BoundaryFScore().mean())


def test_nothing_waits_for_a_device():
    # tensors on "meta" have no values: whatever would read one raises there
    target, scores = torch.zeros(2, 4, 5, dtype=torch.uint8, device="meta"), torch.zeros(2, 8, 4, 5, device="meta")
    for metric, batch in ((AveragePrecision(), (target, scores)), (BoundaryFScore(), (target, target.long()))):
        for _ in range(2):
            metric.update(*batch)
        with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
            metric.mean()


def test_on_a_gpu_the_figures_are_the_same_and_nothing_waits():
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    target, logits = scored()
    pred = logits.max(1).indices
    for build, other in ((AveragePrecision, logits), (BoundaryFScore, pred)):
        here, there = build(), build()
        here.update(target, other)
        batch = target.cuda(), other.cuda()
        there.update(*batch)
        torch.cuda.set_sync_debug_mode("error")
        try:
            there.update(*batch)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert there.mean() == pytest.approx(here.mean(), rel=1e-4)


def test_accuracy_without_void():
    metric = ConfusionMatrix(3)
    metric.update(np.array([0, 0, 1, 1, 1, 2, 255]), np.array([0, 1, 1, 0, 1, 2, 1]))
    assert metric.accuracy_without_void() == pytest.approx(3 / 4)  # 1 1 1 2 as 1 0 1 2
    assert metric.accuracy() == pytest.approx(4 / 6)
    target, logits = scored(5)
    pred = logits.max(1).indices
    metric = ConfusionMatrix()
    assert np.isnan(metric.accuracy_without_void())
    metric.update(target, pred)
    kept = (target != 0) & (target != 255)
    assert metric.accuracy_without_void() == pytest.approx(accuracy_score(target[kept], pred[kept]))
    metric.counts[1:] = 0
    assert np.isnan(metric.accuracy_without_void())  # nothing but void


# --- classes that are not the lab's 8 -----------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [3, 21])
def test_average_precision_of_other_classes(classes):
    generator = torch.Generator().manual_seed(2)
    target = torch.randint(0, classes, (2, 20, 30), generator=generator)
    logits = 2 * torch.randn(2, classes, 20, 30, generator=generator)
    target[0, :5] = 255
    metric = AveragePrecision(num_classes=classes)
    metric.update(target, logits)
    known, p = (target != 255).numpy(), logits.softmax(1)
    expected = [average_precision_score(target.numpy()[known] == k, p[:, k].numpy()[known]) for k in range(classes)]
    assert (np.abs(metric.average_precision() - expected) <= metric.error() + 1e-9).all()
    with pytest.raises(ValueError, match=rf"\(N, {classes}, H, W\)"):
        metric.update(target, logits[:, 1:])


@pytest.mark.parametrize("classes", [3, 9, 21, 63])
def test_boundary_f_score_of_other_classes(classes):
    target, pred = scenes(classes, True, classes)
    target[0, :2, :2] = pred[0, :2, :2] = classes - 1  # the highest bit
    metric = BoundaryFScore(2, classes)
    metric.update(torch.from_numpy(target), torch.from_numpy(pred))
    found = [metric.precision(), metric.recall(), metric.f_score()]
    np.testing.assert_allclose(found, by_brute_force(target, pred, 2, classes), rtol=1e-12)
    assert not np.isnan(found[2][classes - 1])
    metric.update(torch.full((1, 4, 4), classes), torch.zeros(1, 4, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match=rf"classes 0..{classes - 1}"):
        metric.mean()
    with pytest.raises(LabError, match="1 to 63 classes"):
        BoundaryFScore(num_classes=64)
