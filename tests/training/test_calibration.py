"""Shifting the classes' logits for the best mean IoU."""
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from training import calibration
from training.calibration import best_shifts, calibrate, spread
from utils.lab import IGNORE, LabError


def mean_iou(logits: torch.Tensor, target: torch.Tensor) -> float:
    """By the definition, class by class; a class that occurs nowhere is left out."""
    pred, target = logits.numpy().argmax(1), target.numpy()
    values = [np.sum((pred == k) & (target == k)) / np.sum((pred == k) | (target == k))
              for k in range(logits.shape[1]) if np.any((pred == k) | (target == k))]
    return float(np.mean(values))


def made(classes: int, seed: int, pixels: int = 4000) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that know the target, but for a class that is claimed too rarely."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(0, classes, (pixels,), generator=generator)
    logits = torch.randn(pixels, classes, generator=generator)
    logits[torch.arange(pixels), target] += 1.5
    logits[:, 1] -= 1
    return logits, target


@pytest.mark.parametrize("seed", range(3))
def test_two_classes_come_close_to_the_best_of_all_cuts(seed):
    logits, target = made(2, seed)
    best = max(mean_iou(logits + torch.tensor([0, cut]), target) for cut in np.linspace(-4, 4, 801, dtype=np.float32))
    found = mean_iou(logits + best_shifts(logits, target), target)
    assert best - 2e-3 < found <= best + 1e-6
    assert mean_iou(logits, target) < best - 0.02


def test_no_grid_of_shifts_of_three_classes_is_much_better():
    logits, target = made(3, 5)
    grid = np.linspace(-2, 2, 17, dtype=np.float32)
    best = max(mean_iou(logits + torch.tensor([0, a, b]), target) for a, b in itertools.product(grid, grid))
    assert mean_iou(logits + best_shifts(logits, target), target) > best - 5e-3


def test_the_shifts_never_lower_the_mean_iou_they_are_chosen_by():
    for seed in range(5):
        logits, target = made(8, seed, 1000)
        shifts = best_shifts(logits, target)
        assert shifts.shape == (8,) and abs(float(shifts.mean())) < 1e-6
        assert mean_iou(logits + shifts, target) >= mean_iou(logits, target)


class Fixed(nn.Module):
    """A network whose logits are the image's three channels and five that never win."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 8, 1)
        self.head.weight.data = torch.cat([torch.eye(3), torch.zeros(5, 3)])[:, :, None, None]
        self.head.bias.data = torch.tensor([0.0, 0, 0, *[-99] * 5])

    def forward(self, x):
        return self.head(x)


def test_a_networks_bias_takes_the_shifts_and_ignored_pixels_do_not_count():
    network = Fixed().train()
    logits, target = made(3, 1, 32 * 64)
    data = logits.T.reshape(1, 3, 32, 64)
    labels = target.reshape(1, 32, 64)
    half = labels.clone()
    half[..., :32] = IGNORE
    other = data.clone()
    other[..., :32] = -data[..., :32]  # nonsense where nothing is labeled
    shifts = calibrate(network, [(data, labels)])
    network.head.bias.data += shifts
    with torch.no_grad():
        after = network(data)[0].flatten(1).T
    assert mean_iou(after, target) > mean_iou(logits, target) + 0.02
    torch.testing.assert_close(calibrate(Fixed(), [(other, half)]), calibrate(Fixed(), [(data, half)]))


@pytest.mark.parametrize(("n", "expected"), [(3, [0, 1, 2]), (11, [0, 2, 5, 8, 10])])
def test_the_images_are_spread_over_the_split(monkeypatch, n, expected):
    monkeypatch.setattr(calibration, "MOST", 5)
    taken = []
    batches = SimpleNamespace(dataset=range(n), batch_size=2, take=lambda chosen: taken.append(chosen.tolist()))
    assert len(list(spread(batches))) == len(taken) == -(-len(expected) // 2)
    assert list(itertools.chain.from_iterable(taken)) == expected


def test_nothing_to_calibrate_on():
    with pytest.raises(LabError, match="expected labeled pixels to calibrate on, found none"):
        calibrate(Fixed(), [(torch.zeros(1, 3, 8, 8), torch.full((1, 8, 8), IGNORE))])
