"""Each loss against torch's own, torchvision's, or its paper's formula in numpy; and what all of them promise."""
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import sigmoid_focal_loss

from training.losses import (
    OHEM,
    CrossEntropy,
    Dice,
    Focal,
    LovaszSoftmax,
    WeightedSum,
    class_weights,
    named_loss,
    thin,
)
from utils.lab import LabError

WEIGHT = torch.tensor([0.5, 2.0, 1.0, 0.25])
LOSSES = {  # built anew for each test; `more` is ignore_index, where it is not 255
    "cross-entropy": lambda **more: CrossEntropy(**more),
    "smoothed": lambda **more: CrossEntropy(WEIGHT, label_smoothing=0.1, **more),
    "focal": lambda **more: Focal(weight=WEIGHT, **more),
    "focal, gamma below 1": lambda **more: Focal(gamma=0.5, **more),
    "ohem": lambda **more: OHEM(0.3, WEIGHT, **more),
    "dice": lambda **more: Dice(**more),
    "dice, not smoothed": lambda **more: Dice(smooth=0.0, **more),
    "lovasz": lambda **more: LovaszSoftmax(**more),
    "sum": lambda **more: WeightedSum((CrossEntropy(**more), 1.0), (LovaszSoftmax(**more), 0.5)),
}
every_loss = pytest.mark.parametrize("build", LOSSES.values(), ids=LOSSES)


def draw(classes=4, size=(6, 7), ignored=True, dtype=torch.float32, seed=0):
    """Two images' logits, with a gradient to come, and a target: the last class is missing, 10 pixels are ignored."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, classes, *size, generator=generator, dtype=dtype)
    target = torch.randint(0, classes - 1, (2, *size), generator=generator)
    if ignored:
        target.view(-1)[torch.randperm(target.numel(), generator=generator)[:10]] = 255
    return logits.requires_grad_(), target


def as_rows(logits, target):
    """Softmax (P, C) and target (P,) of the labeled pixels, for numpy."""
    logits = logits.detach().double().movedim(1, -1).reshape(-1, logits.shape[1]).numpy()
    target = target.flatten().numpy()
    exp = np.exp(logits - logits.max(1, keepdims=True))
    return (exp / exp.sum(1, keepdims=True))[target != 255], target[target != 255]


# --- each loss's value --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_is_torchs(weight, smoothing):
    logits, target = draw()
    loss = CrossEntropy(weight, smoothing)(logits, target)
    torch.testing.assert_close(loss, F.cross_entropy(logits, target, weight, ignore_index=255,
                                                     label_smoothing=smoothing))


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_of_two_classes_is_torchvisions(gamma):
    logits, target = draw(classes=2)
    target = torch.where(target == 255, 255, (target + torch.arange(7)) % 2)
    labeled = target != 255
    difference = (logits[:, 1] - logits[:, 0])[labeled]  # softmax over (a, b) is the sigmoid of b - a
    truth = target[labeled].float()
    loss = Focal(gamma)(logits, target)
    torch.testing.assert_close(loss, sigmoid_focal_loss(difference, truth, -1, gamma, reduction="mean"))
    loss = Focal(gamma, torch.tensor([0.75, 0.25]))(logits, target)
    total = sigmoid_focal_loss(difference, truth, 0.25, gamma, reduction="sum")
    torch.testing.assert_close(loss, total / (0.75 * (truth == 0).sum() + 0.25 * (truth == 1).sum()))


def test_focal_of_four_classes():
    logits, target = draw()
    p, truth = as_rows(logits, target)
    p = p[np.arange(len(truth)), truth]
    weights = WEIGHT.numpy()[truth]
    expected = (weights * (1 - p) ** 2 * -np.log(p)).sum() / weights.sum()
    assert Focal(2.0, WEIGHT)(logits, target).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("gamma", [0, 0.5, 1, 2])
def test_focal_of_a_certain_pixel_has_a_finite_gradient(gamma):
    logits = torch.tensor([200.0, 0.0]).view(1, 2, 1, 1).requires_grad_()
    loss = Focal(gamma)(logits, torch.zeros(1, 1, 1, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0 and not logits.grad.any()  # NaN is any


@pytest.mark.parametrize("keep", [0.25, 0.5, 1.0])
def test_ohem_is_the_mean_of_the_hardest(keep):
    logits, target = draw()
    p, truth = as_rows(logits, target)
    weights = WEIGHT.numpy()[truth]
    losses = weights * -np.log(p[np.arange(len(truth)), truth])
    hardest = np.argsort(losses)[::-1][:int(np.ceil(keep * len(truth)))]
    assert len(hardest) == {0.25: 19, 0.5: 37, 1.0: 74}[keep]
    expected = losses[hardest].sum() / weights[hardest].sum()
    assert OHEM(keep, WEIGHT)(logits, target).item() == pytest.approx(expected, rel=1e-5)


def test_ohem_keeps_pixels_of_no_loss_rather_than_ignored_ones():
    target = torch.tensor([[[0] * 4 + [255] * 40 + [0] * 4]])
    logits = torch.zeros(1, 2, 1, 48)
    logits[:, 0] = 200
    logits[..., 0] = 0  # 1 pixel of 8 has a loss, ln 2
    assert OHEM(1.0)(logits, target).item() == pytest.approx(np.log(2) / 8)


@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_dice(smooth):
    logits, target = draw()
    p, truth = as_rows(logits, target)
    dices = []
    for c in np.unique(truth):
        t = (truth == c).astype(float)
        dices.append((2 * (p[:, c] * t).sum() + smooth) / (p[:, c].sum() + t.sum() + smooth))
    assert len(dices) == 3
    assert Dice(smooth)(logits, target).item() == pytest.approx(1 - np.mean(dices), rel=1e-5)


def lovasz(p, truth):
    """The Lovasz extension as an integral over t in 0..1 of the Jaccard loss of the pixels with errors of t or more.

    This is its definition as a Choquet integral: no sorting by pixel, no slopes.
    """
    values = []
    for c in np.unique(truth):
        own = np.sort(1 - p[truth == c, c])
        other = np.sort(p[truth != c, c])
        levels = np.unique(np.concatenate([[0], own, other]))
        missed = len(own) - np.searchsorted(own, levels[1:])
        added = len(other) - np.searchsorted(other, levels[1:])
        jaccard_loss = 1 - (len(own) - missed) / (len(own) + added)
        values.append((np.diff(levels) * jaccard_loss).sum())
    return np.mean(values)


@pytest.mark.parametrize("size", [(1, 3), (6, 7), (150, 120)])  # the last is large enough for torch's radix sort
def test_lovasz_is_the_integral_of_the_jaccard_loss(size):
    logits, target = draw(size=size, ignored=size != (1, 3))
    assert LovaszSoftmax()(logits, target).item() == pytest.approx(lovasz(*as_rows(logits, target)), rel=1e-5)


def test_lovasz_of_certain_answers_is_one_minus_the_iou():
    _, target = draw(size=(30, 30))
    pred = torch.where(torch.rand(target.shape, generator=torch.Generator().manual_seed(1)) < 0.7, target, 2)
    pred[pred == 255] = 0
    logits = 200 * F.one_hot(pred, 4).movedim(-1, 1).float()
    labeled = target != 255
    ious = [((pred == c) & (target == c)).sum() / (((pred == c) | (target == c)) & labeled).sum() for c in range(3)]
    assert LovaszSoftmax()(logits, target).item() == pytest.approx(1 - np.mean(ious), rel=1e-5)


def test_lovasz_with_a_stride_looks_at_every_third_pixel():
    logits, target = draw()
    loss = LovaszSoftmax(stride=3)(logits, target)
    assert loss == LovaszSoftmax()(logits[:, :, [1, 4]][..., [1, 4]], target[:, [1, 4]][..., [1, 4]])
    loss.backward()
    seen = logits.grad.abs().sum((0, 1)).nonzero()
    assert len(seen) and (seen % 3 == 1).all()
    with pytest.raises(LabError, match="leaves a pixel"):
        LovaszSoftmax(stride=12)(logits, target)


@pytest.mark.parametrize("loss", [Dice(), Dice(0.0), LovaszSoftmax()])
def test_a_perfect_answer_costs_nothing_and_a_wrong_one_everything(loss):
    target = torch.arange(3).repeat(2, 4, 5)
    right = 50 * F.one_hot(target, 3).movedim(-1, 1).float()
    assert 0 <= loss(right, target).item() < 1e-6
    assert loss(right.roll(1, 1), target).item() > 0.95


# --- losses of losses ---------------------------------------------------------------------------------------------


class Refuses(nn.Module):
    def forward(self, logits, target):
        pytest.fail("a loss of weight 0 was computed")


def test_a_sum_weighs_its_losses_and_leaves_out_those_of_weight_0():
    logits, target = draw()
    loss = WeightedSum((CrossEntropy(WEIGHT), 0.5), (Refuses(), 0), (Dice(), 2.0))(logits, target)
    torch.testing.assert_close(loss, 0.5 * F.cross_entropy(logits, target, WEIGHT, ignore_index=255)
                               + 2 * Dice()(logits, target))
    assert [name for name, _ in WeightedSum((CrossEntropy(WEIGHT), 1.0)).named_buffers()] == ["losses.0.weight"]


# --- what every loss promises -------------------------------------------------------------------------------------


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_batch_of_ignored_pixels_is_worth_0(build, dtype):
    target = torch.full((2, 6, 7), 255)
    logits = draw()[0].detach().to(dtype).requires_grad_()
    value = build()(logits, target)
    assert value.item() == 0
    value.backward()
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@every_loss
def test_ignored_pixels_have_no_gradient_and_change_nothing(build):
    loss = build()
    logits, target = draw()
    ignored = target == 255
    value = loss(logits, target)
    value.backward()
    gradient = logits.grad.movedim(1, -1)
    assert not gradient[ignored].any() and gradient[~ignored].any()
    assert torch.isfinite(gradient).all()
    other = torch.where(ignored[:, None], 7 * torch.randn_like(logits), logits)
    torch.testing.assert_close(loss(other, target), value)


@every_loss
@pytest.mark.parametrize("index", [0, -100])
def test_any_index_can_be_the_ignored_one(build, index):
    logits, target = draw()
    moved = target.masked_fill(target == 255, index)
    expected = build()(logits, target.masked_fill(moved == index, 255))
    torch.testing.assert_close(build(ignore_index=index)(logits, moved), expected)


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(build, dtype):
    loss = build()
    logits, target = draw(size=(150, 150))  # more pixels than float16 can count
    logits = (5 * logits.detach()).to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(logits, target)
    assert value.dtype == torch.float32 and value.item() > 0
    torch.testing.assert_close(value, loss(logits.detach().float(), target), rtol=1e-6, atol=0)
    value.backward()
    assert logits.grad.dtype == dtype and torch.isfinite(logits.grad).all() and logits.grad.any()


@every_loss
def test_gradients_are_those_of_finite_differences(build):
    # OHEM and Lovasz are smooth but where two pixels' errors tie, and random ones do not.
    logits, target = draw(size=(2, 3), ignored=False, dtype=torch.float64)
    target[0, 0, 0] = 255
    loss = build().double()
    assert torch.autograd.gradcheck(lambda x: loss(x, target), logits)


@every_loss
def test_targets_that_are_no_class_are_refused(build):
    logits, target = draw()
    target[0, 0, 0] = 200
    with pytest.raises((IndexError, RuntimeError), match="out of"):
        build()(logits, target)


# --- settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build, found", [
    (lambda: class_weights(torch.ones(8) / 8, c=0.5), "0.5"),
    (lambda: CrossEntropy(label_smoothing=1.5), "1.5"),
    (lambda: CrossEntropy(torch.tensor([1.0, -2.0])), r"\[1.0, -2.0\]"),
    (lambda: Focal(weight=torch.zeros(2)), r"\[0.0, 0.0\]"),
    (lambda: Focal(gamma=-1), "-1"),
    (lambda: OHEM(keep=0), "0"),
    (lambda: OHEM(keep=1.1, weight=torch.ones(2)), "1.1"),
    (lambda: OHEM(weight=torch.tensor([1.0, torch.nan])), r"\[1.0, nan\]"),
    (lambda: Dice(smooth=-1.0), "-1.0"),
    (lambda: LovaszSoftmax(stride=0), "0"),
    (lambda: LovaszSoftmax(stride=1.5), "1.5"),
    (lambda: WeightedSum((Dice(), -0.5), (CrossEntropy(), 1)), r"\[-0.5, 1\]"),
    (lambda: WeightedSum((Dice(), 0)), r"\[0\]"),
    (lambda: WeightedSum(), r"\[\]"),
])
def test_settings_out_of_range(build, found):
    with pytest.raises(LabError, match=rf"^expected .*, found {found}.* in the settings$"):
        build()


# --- fewer pixels -------------------------------------------------------------------------------------------------


def test_a_thinned_target_shows_every_pixel_in_its_turn_and_no_other():
    target = torch.arange(2 * 4 * 8).reshape(2, 4, 8)
    assert thin(target, (4, 8)) is target
    seen = set()
    for _ in range(60):
        thinned = thin(target, (2, 4))
        assert thinned.shape == (2, 2, 4) and (thinned[:, 1] - thinned[:, 0] == 16).all()
        assert (thinned[..., 1:] - thinned[..., :-1] == 2).all()
        seen |= set(thinned.flatten().tolist())
    assert seen == set(range(64))


@pytest.mark.parametrize("size", [(3, 6), (4, 4), (8, 16)])
def test_logits_that_do_not_divide_the_target_are_refused(size):
    with pytest.raises(LabError, match="divides the target's"):
        thin(torch.zeros(1, 4, 8), size)


def test_losses_by_name_are_the_sum_of_their_shares():
    generator = torch.Generator().manual_seed(0)
    logits, target = torch.randn(2, 8, 8, 8, generator=generator), torch.randint(0, 8, (2, 8, 8), generator=generator)
    weight = torch.arange(1.0, 9)
    expected = 0.7 * F.cross_entropy(logits, target, weight) \
        + 0.3 * F.cross_entropy(logits, target, weight, label_smoothing=0.1)
    torch.testing.assert_close(named_loss({"cross-entropy": 0.7, "smoothed": 0.3}, weight)(logits, target), expected)
    kinds = {type(loss).__name__ for loss in named_loss({"focal": 1, "ohem": 1, "dice": 1, "lovasz": 1}).losses}
    assert kinds == {"Focal", "OHEM", "Dice", "LovaszSoftmax"}


@pytest.mark.parametrize("shares", [{}, {"lovas": 1}, "dice", {"dice": -1}, {"dice": 0}])
def test_other_names_and_shares_are_refused(shares):
    with pytest.raises(LabError, match="in the settings"):
        named_loss(shares)
