"""torchvision's joint transforms on the dataset's pairs, with torchvision itself as the oracle."""
import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torchvision import transforms as v1
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from dataset.augment import Augment
from dataset.batches import Batches
from dataset.dataset import SegmentationDataset
from utils.lab import IGNORE, MEAN, STD, LabError

MASK = {tv_tensors.Mask: IGNORE, "others": 0}  # how torchvision is told what invented pixels are


@pytest.fixture(scope="module")
def stored(sample):
    """An image uint8 (3, 256, 512) and its classes uint8 (256, 512)."""
    image, target = SegmentationDataset(sample, "train").read(1)
    return torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(target)


def items(sample, transforms, seed: int = 3, **options):
    """What torchvision makes of the pair 1, normalized by torchvision, beside the dataset's item."""
    dataset = SegmentationDataset(sample, "train", transforms=transforms, **options)
    torch.manual_seed(seed)
    return dataset[1]


def by_torchvision(stored, transforms, seed: int = 3):
    torch.manual_seed(seed)
    image, mask = transforms(tv_tensors.Image(stored[0]), tv_tensors.Mask(stored[1]))
    return tv.normalize(tv.to_dtype(image, torch.float32, scale=True), MEAN, STD), mask.long()


JOINT = {
    "flip": lambda fill: v2.RandomHorizontalFlip(1),
    "crop": lambda fill: v2.RandomCrop((128, 256)),
    "resized crop": lambda fill: v2.RandomResizedCrop((256, 512), scale=(0.3, 1)),
    "padded crop": lambda fill: v2.RandomCrop((256, 512), padding=40, fill=fill),
    "rotation": lambda fill: v2.RandomRotation(20, fill=fill),
    "affine": lambda fill: v2.RandomAffine(5, (0.1, 0.1), (0.8, 1.2), fill=fill),
    "perspective": lambda fill: v2.RandomPerspective(0.4, 1, fill=fill),
    "zoom out": lambda fill: v2.Compose([v2.RandomZoomOut(fill, (1.5, 1.5), 1), v2.Resize((256, 512))]),
    "scale jitter": lambda fill: v2.Compose([v2.ScaleJitter((256, 512)),
                                            v2.RandomCrop((256, 512), pad_if_needed=True, fill=fill)]),
    "colors": lambda fill: v2.ColorJitter(0.3, 0.3, 0.3, 0.1),
    "a container": lambda fill: v2.RandomApply([v2.RandomRotation((30, 30), fill=fill)], 1),
    "several": lambda fill: v2.Compose([v2.RandomVerticalFlip(1), v2.Compose([v2.GaussianBlur(3)])]),
}


@pytest.mark.parametrize("name", JOINT)
def test_items_are_what_torchvision_makes_of_image_and_mask_with_255_where_pixels_are_invented(sample, stored, name):
    """The dataset is told nothing of 255: torchvision's own default for a mask is 0, void."""
    for seed in (3, 4):
        image, target = items(sample, JOINT[name](0), seed)
        expected, mask = by_torchvision(stored, JOINT[name](MASK), seed)
        assert (image.dtype, target.dtype, type(image), type(target)) == (
            torch.float32, torch.int64, torch.Tensor, torch.Tensor)
        torch.testing.assert_close(image, expected.as_subclass(torch.Tensor), atol=1e-5, rtol=1e-5)
        assert torch.equal(target, mask.as_subclass(torch.Tensor))
    if name in ("rotation", "padded crop", "zoom out"):
        assert (target == IGNORE).any()
    assert set(target.unique().tolist()) <= {*stored[1].unique().tolist(), IGNORE}


@pytest.mark.parametrize("fill", [1, 128, {tv_tensors.Image: (124, 116, 104), tv_tensors.Mask: 3}])
def test_invented_pixels_are_255_whatever_they_are_filled_with(sample, stored, fill):
    _, target = items(sample, v2.RandomRotation((20, 20), fill=fill))
    _, mask = by_torchvision(stored, v2.RandomRotation((20, 20), fill=MASK))
    assert torch.equal(target, mask.as_subclass(torch.Tensor))


@pytest.mark.parametrize("steps", [
    [v2.Identity()], [v2.ToDtype(torch.float32, scale=True)], [v2.ToPILImage()],
    [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)],
    [v2.ToDtype({tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64, "others": None}, scale=True),
     v2.Normalize(MEAN, STD), v2.ToPureTensor()], [v2.ToDtype(torch.float64, scale=True)],
    [lambda image, mask: (np.asarray(image.permute(1, 2, 0)), np.asarray(mask))]],
    ids=["stored", "0..1", "PIL", "normalized", "all of torchvision's advice", "double", "numpy"])
def test_the_end_is_a_normalized_image_whatever_the_transforms_leave(sample, steps):
    plain = SegmentationDataset(sample, "train")[1]
    for part, expected in zip(items(sample, v2.Compose(steps)), plain, strict=True):
        assert part.dtype == expected.dtype
        torch.testing.assert_close(part, expected, atol=1e-5, rtol=1e-5)


def test_ones_own_functions_of_image_and_mask_see_tv_tensors_and_classes(sample, stored):
    seen = []

    def mirror(image, mask):
        seen.append((type(image), image.dtype, tuple(image.shape), type(mask), tuple(mask.shape)))
        return image.flip(-1), mask.flip(-1)  # plain tensors: the step after it must not take the mask for none

    _, target = items(sample, v2.Compose([mirror, v2.RandomHorizontalFlip(1), mirror, v2.RandomVerticalFlip(1)]))
    assert set(seen) == {(tv_tensors.Image, torch.uint8, (3, 256, 512), tv_tensors.Mask, (256, 512))}
    assert torch.equal(target, stored[1].flip(-1).flip(0).long())

    class Mirror(v2.Transform):
        def forward(self, image, mask):
            return tv.horizontal_flip(image), tv.horizontal_flip(mask)

    for own in (Mirror(), v2.Compose([Mirror()])):
        assert torch.equal(items(sample, own)[1], stored[1].flip(-1).long())


@pytest.mark.parametrize("workers", [0, 2])
def test_a_plain_dataloader_gives_batches_with_other_draws_for_each_item(sample, workers):
    transforms = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomResizedCrop((256, 512), scale=(0.3, 0.6))])
    dataset = SegmentationDataset(sample, "train", transforms=transforms)
    loader = DataLoader(dataset, batch_size=4, num_workers=workers, shuffle=True)
    torch.manual_seed(0)
    data, target = next(iter(loader))
    assert (data.shape, data.dtype, target.shape, target.dtype) == (
        (4, 3, 256, 512), torch.float32, (4, 256, 512), torch.int64)
    torch.manual_seed(0)
    again, _ = next(iter(loader))
    other, _ = next(iter(loader))
    assert torch.equal(data, again) and not torch.equal(data, other)


def test_a_part_without_a_cache_is_transformed_too(sample, stored):
    dataset = SegmentationDataset(sample, "train", transforms=v2.RandomVerticalFlip(1), part=(0.25, 0.5), cache=False)
    assert len(dataset) == 1 and torch.equal(dataset[0][1], stored[1].flip(0).long())


# --- what is refused, when the dataset is made ----------------------------------------------------------------------


class Apart:
    """Crops image and mask with random numbers of their own."""

    def __call__(self, image, mask):
        crop = v2.RandomCrop((128, 256))
        return crop(image), crop(mask)


def half_the_time(image, mask):
    return (image.flip(-1), mask) if random.random() < 0.5 else (image, mask)


def shrink(image, mask):
    half = torch.nn.functional.interpolate(mask[None, None].float(), (128, 256), mode="bilinear", antialias=True)
    return tv.resize(image, (128, 256)), half.round()[0, 0].byte()


@pytest.mark.parametrize("transforms, told", [
    (lambda image, mask: (image.flip(-1), mask), "found transforms that move the image alone"),
    (lambda image, mask: (image, mask.flip(0)), "found transforms that move the image alone"),
    (half_the_time, "found transforms that move the image alone"), (Apart(), "found transforms that move the image"),
    (v2.Lambda(tv.horizontal_flip, tv_tensors.Image), "found transforms that move the image alone"),
    (lambda image: image.flip(-1), "found <lambda>, which fails on a pair"),
    (v1.RandomHorizontalFlip(), "found RandomHorizontalFlip, which fails on a pair"),
    (v1.Compose([v1.ColorJitter()]), "found Compose, which fails on a pair"),
    (v2.RandAugment(), "found RandAugment, which fails on a pair (TypeError: Inputs of type Mask"),
    (v2.RandomCrop((300, 600)), "found RandomCrop, which fails on a pair (ValueError: Required crop size"),
    (lambda image, mask: image, "fails on a pair"), (lambda image, mask: {"image": image}, "fails on a pair"),
    (lambda image, mask: (tv.resize(image, (128, 256)), mask), "mask of its size, found (3, 128, 256) and (256, 512)"),
    (v2.Grayscale(), "found (1, 256, 512) and (256, 512) after Grayscale"),
    (v2.RandomResize(100, 200), "expected one size of all items"),
    (shrink, "resample the mask by nearest"),
    (lambda image, mask: (image, mask * 0.5), "found fractions"),
    (lambda image, mask: (image, mask + 9), "found 16 after"),
    (v2.ToDtype(torch.float32), "expected values of 0..1"),
    (v2.Normalize([0.5] * 3, [0.5] * 3), "found [0.5, 0.5, 0.5] and [0.5, 0.5, 0.5]"),
    ([v2.RandomHorizontalFlip()], "expected transforms that can be called, found list")])
def test_transforms_that_do_not_fit_are_one_line(sample, transforms, told):
    with pytest.raises(LabError) as caught:
        SegmentationDataset(sample, "train", transforms=transforms)
    assert told in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("transforms", [
    v2.RandomErasing(1), v2.GaussianBlur(23, (4.0, 5.0)), v2.RandomSolarize(128, 1), v2.RandomPosterize(2, 1),
    v2.RandomPhotometricDistort(p=1), v2.RandomGrayscale(1), v2.RandomInvert(1), v2.RandomEqualize(1),
    lambda image, mask: (image / 255 + 0.2 * torch.randn(image.shape), mask),
    v2.RandomRotation(180), v2.RandomResizedCrop((256, 256), scale=(0.02, 0.1)), v2.ColorJitter(1, 1, 1, 0.5),
    lambda image, mask: (image, torch.where(mask == 0, IGNORE, mask))])
@pytest.mark.filterwarnings("ignore:RandomErasing")
def test_usual_transforms_are_not_taken_for_one_sided_ones(sample, transforms):
    SegmentationDataset(sample, "train", transforms=transforms)


def test_trying_transforms_draws_none_of_the_runs_random_numbers(sample):
    def draws():
        return torch.rand(1).item(), random.random(), np.random.random()

    for seed in (torch.manual_seed, random.seed, np.random.seed):
        seed(1)
    expected = draws()
    for seed in (torch.manual_seed, random.seed, np.random.seed):
        seed(1)
    SegmentationDataset(sample, "train", transforms=lambda *pair: (random.random(), np.random.random(), pair)[2])
    assert draws() == expected


def test_batches_and_augment_say_that_they_do_not_go_with_transforms(sample):
    dataset = SegmentationDataset(sample, "train", transforms=v2.RandomHorizontalFlip())
    with pytest.raises(LabError, match="found one with transforms=, which need a DataLoader"):
        Batches(dataset, 2)
    with pytest.raises(LabError, match="expected augment or transforms, found both"):
        SegmentationDataset(sample, "train", Augment(), transforms=v2.RandomHorizontalFlip())
