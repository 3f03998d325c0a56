"""Augmentation: image and mask move together, invented pixels are ignored, every sample has its own numbers."""
import math

import pytest
import torch

from dataset.augment import Augment, normalize
from utils.lab import IGNORE, MEAN, STD, LabError


def still(**options) -> Augment:
    """Nothing happens but what the options ask for."""
    return Augment(**{"flip": 0, "crop": 0, "scale": (1, 1), "rotate": 0, "color": 0, **options})


def batch(n: int = 6, h: int = 32, w: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """Images whose red value is 30 times the target, in 4 x 4 blocks, so that both can be compared after a map."""
    g = torch.Generator().manual_seed(0)
    targets = torch.randint(0, 8, (n, h // 8, w // 8), generator=g).repeat_interleave(8, 1).repeat_interleave(8, 2)
    images = (targets * 30)[..., None].expand(-1, -1, -1, 3)
    return images.byte().contiguous(), targets.byte()


def draw(n: int, seed: int) -> torch.Tensor:
    """The random numbers of n samples."""
    return torch.rand(n, Augment.DRAWS, generator=torch.Generator().manual_seed(seed))


def red(data: torch.Tensor) -> torch.Tensor:
    return (data[:, 0] * STD[0] + MEAN[0]) * 255 / 30


def test_normalize_follows_torchvision():
    from torchvision.transforms.v2 import functional as tv

    images = torch.randint(0, 256, (2, 5, 7, 3), dtype=torch.uint8)
    expected = tv.normalize(tv.to_dtype(images.permute(0, 3, 1, 2), torch.float32, scale=True), MEAN, STD)
    torch.testing.assert_close(normalize(images), expected, atol=1e-5, rtol=1e-5)


def test_nothing_asked_for_changes_nothing():
    images, targets = batch()
    data, moved = still()(images, targets)
    torch.testing.assert_close(data, normalize(images))
    assert torch.equal(moved, targets)


def test_flip_mirrors_both():
    images, targets = batch()
    data, moved = still(flip=1)(images, targets)
    torch.testing.assert_close(data, normalize(images).flip(3))
    assert torch.equal(moved, targets.flip(2))


def test_image_and_mask_go_through_the_same_map():
    images, targets = batch(20)
    data, moved = still(flip=0.5, crop=1, scale=(0.6, 2.0), rotate=20)(images, targets, draw(20, 1))
    known = moved != IGNORE
    off = (red(data) - moved.float()).abs()[known]
    assert (off < 0.05).float().mean() > 0.6  # away from the blocks' edges, where the bilinear filter blends
    assert moved[known].max() <= 7


def test_zooming_out_invents_ignored_pixels_and_nothing_else():
    images, targets = batch()
    targets = targets.clamp(min=1)  # no void in the labels: void after the map would be invented
    _, moved = still(crop=1, scale=(0.5, 0.5))(images, targets)
    assert (moved == IGNORE).float().mean() == pytest.approx(0.75, abs=0.02)
    assert not (moved == 0).any()
    assert not (still(crop=1, scale=(1.0, 3.0))(images, targets)[1] == IGNORE).any()


def test_enlarging_by_two_shows_a_quarter_of_the_image():
    images, targets = batch(1, 64, 128)
    targets = torch.arange(64 * 128).remainder(251).byte().reshape(1, 64, 128)
    _, moved = still(crop=1, scale=(2, 2))(images, targets, draw(1, 3))
    assert moved.shape == targets.shape
    values = moved[0, ::2, ::2]  # every source pixel appears twice
    assert any(torch.equal(values, targets[0, y:y + 32, x:x + 64]) or torch.equal(moved[0, 1::2, 1::2],
               targets[0, y:y + 32, x:x + 64]) for y in range(33) for x in range(65))


def test_every_sample_draws_its_own_numbers():
    images, targets = (part[:1].expand(16, *part.shape[1:]).contiguous() for part in batch())
    data, _ = Augment(flip=0.5, crop=0.5, color=0.3)(images, targets, draw(16, 0))
    assert len({tuple(sample.flatten()[::97].tolist()) for sample in data}) == 16


def test_color_keeps_the_range_and_leaves_the_target():
    images, targets = batch()
    data, moved = still(color=0.9)(images, targets, draw(6, 0))
    pixels = red(data) * 30
    assert pixels.min() >= -0.01 and pixels.max() <= 255.01
    assert torch.equal(moved, targets)
    assert not torch.allclose(data, normalize(images))


def test_the_share_of_whole_images_is_kept():
    images, targets = batch(200)
    _, moved = still(crop=0.3, scale=(1.5, 1.5))(images, targets, draw(200, 0))
    whole = (moved == targets).flatten(1).all(1).float().mean()
    assert whole == pytest.approx(0.7, abs=0.08)


def test_a_samples_numbers_decide_alone_whatever_the_batch():
    images, targets = batch(8)
    rows = draw(8, 7)
    data, moved = Augment()(images, targets, rows)
    halves = [Augment()(images[part], targets[part], rows[part]) for part in (slice(0, 3), slice(3, 8))]
    torch.testing.assert_close(torch.cat([half[0] for half in halves]), data)
    assert torch.equal(torch.cat([half[1] for half in halves]), moved)


def test_what_it_is_given_stays_as_it_was():
    images, targets = batch()
    before = images.clone(), targets.clone()
    Augment(flip=1, crop=1)(images, targets)
    assert torch.equal(images, before[0]) and torch.equal(targets, before[1])


def test_color_follows_torchvision_where_nothing_is_clipped():
    from torchvision.transforms.v2 import functional as tv

    g = torch.Generator().manual_seed(0)
    images = torch.randint(110, 140, (1, 32, 64, 3), generator=g, dtype=torch.uint8)
    images[..., 1:] = images[..., :1]  # gray, so that all ways of weighing channels agree
    color = 0.2
    rows = draw(1, 4)
    brightness, contrast, saturation = (1 + color * (2 * rows[0, 6:] - 1)).tolist()
    expected = images.permute(0, 3, 1, 2).float() / 255
    expected = tv.adjust_saturation(expected, saturation)
    expected = tv.adjust_contrast(expected, contrast)
    expected = tv.adjust_brightness(expected, brightness)
    data, _ = still(color=color)(images, torch.zeros(1, 32, 64, dtype=torch.uint8), rows)
    got = data * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
    torch.testing.assert_close(got, expected, atol=0.01, rtol=0)  # its contrast is about the mean of every pixel


def test_saturation_mixes_with_each_pixels_gray_by_hand():
    images = torch.tensor([30, 60, 150], dtype=torch.uint8).expand(1, 8, 8, 3).contiguous()
    rows = torch.full((1, Augment.DRAWS), 0.5)
    rows[0, 8] = 0.0  # saturation 1 - 0.5
    data, _ = still(color=0.5)(images, torch.zeros(1, 8, 8, dtype=torch.uint8), rows)
    pixel = (data[0, :, 3, 3] * torch.tensor(STD) + torch.tensor(MEAN)) * 255
    assert pixel.tolist() == pytest.approx([55, 70, 115], abs=1e-3)  # half way to the gray, 80


def test_rotation_by_hand():
    """A quarter turn about the center of a square image: torch.rot90, up to its direction."""
    targets = torch.arange(16 * 16).remainder(251).byte().reshape(1, 16, 16)
    images = targets[..., None].expand(-1, -1, -1, 3).contiguous()
    rows = torch.full((1, Augment.DRAWS), 0.5)
    rows[0, 5] = 1.0  # the largest angle
    data, moved = still(crop=1, rotate=90)(images, targets, rows)
    turned = [torch.rot90(targets, k, (1, 2)) for k in (1, -1)]
    assert any(torch.equal(moved, one) for one in turned)
    assert any(torch.allclose(data, normalize(one[..., None].expand(-1, -1, -1, 3)), atol=1e-3) for one in turned)


def test_a_small_angle_keeps_shapes_and_ignores_the_corners():
    """In an image twice as wide as high a turned straight edge stays straight and at its angle, in pixels."""
    targets = (torch.arange(128)[None, :] >= 64).byte().expand(1, 64, 128).contiguous() + 1
    images = targets[..., None].expand(-1, -1, -1, 3).contiguous()
    rows = torch.full((1, Augment.DRAWS), 0.5)
    rows[0, 5] = 1.0
    _, moved = still(crop=1, rotate=10)(images, targets, rows)
    edges = [(row == 2).nonzero().min().item() for row in moved[0, 8:56]]
    slope = abs(edges[-1] - edges[0]) / (len(edges) - 1)
    assert slope == pytest.approx(math.tan(math.radians(10)), abs=0.03)
    assert 0 < (moved == IGNORE).float().mean() < 0.15 and not (moved == 0).any()


@pytest.mark.parametrize("options", [{"flip": 1.5}, {"crop": -0.1}, {"scale": (0, 1)}, {"scale": (2, 1)}, {"color": 1},
                                     {"rotate": -1}])
def test_impossible_settings_are_refused(options):
    with pytest.raises(LabError, match="settings of Augment"):
        Augment(**options)
