"""torchvision's joint transforms (v2) on an image and its mask, for SegmentationDataset(..., transforms=...).

Follows torchvision's "Getting started with transforms v2": the image is a tv_tensors.Image, the mask a tv_tensors.Mask,
so one random flip or crop moves both, and the mask is resampled by nearest.
"""
import random
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from dataset.augment import normalize
from utils.lab import IGNORE, INPUT_SIZE, MEAN, STD, LabError

TRIALS = 12   # pairs that new transforms are tried on
BLOCK = 32    # pixels a side of the pattern that they are tried on
SEEN = 171    # marks pixels that come from the image: a value that nobody fills in
ADVICE = "pass v2.Compose([...]) of torchvision.transforms, or a function of (image, mask) that returns both"


class JointTransforms:
    """Applies the transforms to a stored pair and leaves a network's input and target, whatever they leave.

    Pixels that a transform invents (the corners of a rotation, padding) are IGNORE in the target. An image that no
    v2.Normalize of the transforms has normalized is normalized at the end, as it is for scoring.

    Raises LabError, here where it can be found out by trying, for transforms that fail, move the image alone, leave
    several sizes or mix classes.
    """

    def __init__(self, transforms: Callable, num_classes: int) -> None:
        if not callable(transforms):
            raise LabError(f"expected transforms that can be called, found {type(transforms).__name__}: {ADVICE}")
        self.steps, self.num_classes = list(_steps(transforms)), num_classes
        norms = [step for step in _inside(transforms) if isinstance(step, v2.Normalize)]
        for step in norms:
            if not np.allclose([step.mean, step.std], [MEAN, STD], atol=1e-3):
                raise LabError(f"expected v2.Normalize of {MEAN} and {STD}, as for scoring, found {step.mean} and "
                               f"{step.std} in the transforms: leave it out, items are normalized at the end")
        self.normalized = bool(norms)
        self._try()

    def __call__(self, image: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (256, 512, 3) and (256, 512) to float32 (3, H, W), normalized, and int64 (H, W), 0..K-1 or IGNORE."""
        image, mask = self._apply(image.permute(2, 0, 1), target)
        if mask.is_floating_point() and not torch.equal(mask, mask.round()):
            raise LabError("expected classes in the mask, found fractions: the transforms must resample it by nearest")
        target = mask.as_subclass(Tensor).long()
        strange = target[(target < 0) | (target >= self.num_classes) & (target != IGNORE)]
        if len(strange):
            raise LabError(f"expected classes 0 to {self.num_classes - 1} or {IGNORE} in the mask, found "
                           f"{int(strange[0])} after the transforms: let them move the mask and not change it")
        return self._finish(image.as_subclass(Tensor)), target

    def _apply(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Image (3, H, W) and mask (H, W) as the steps leave them, pixels that the image does not have as IGNORE."""
        for step in self.steps:
            # Wrapped again before each step: a function's result is often a plain tensor, which v2 takes for no mask.
            pair = [tv_tensors.Image(image), tv_tensors.Mask(mask)]
            ours = isinstance(step, v2.Transform) and type(step).forward.__module__.startswith("torchvision.")
            seen = tv_tensors.Mask(torch.full_like(pair[1], SEEN, dtype=torch.uint8))
            try:
                image, mask, seen = step(*pair, seen) if ours else (*step(*pair), None)
                image = v2.functional.to_image(image)
            except Exception as error:
                raise LabError(f"expected transforms of an image and its mask, found {_name(step)}, which fails on a "
                               f"pair ({type(error).__name__}: {str(error).partition(chr(10))[0]}): {ADVICE}") from None
            mask = torch.as_tensor(mask).squeeze()
            if image.shape != (3, *mask.shape):
                raise LabError(f"expected an RGB image and a mask of its size, found {tuple(image.shape)} and "
                               f"{tuple(mask.shape)} after {_name(step)} of the transforms: {ADVICE}")
            if ours:
                mask = torch.where(seen == SEEN, mask, torch.full_like(mask, IGNORE))
        return image, mask

    def _finish(self, image: Tensor) -> Tensor:
        if image.dtype == torch.uint8:
            return normalize(image.permute(1, 2, 0)[None])[0]
        image = v2.functional.to_dtype(image, torch.float32, scale=True)
        if image.abs().max() > 10:  # normalized values reach 2.7
            raise LabError(f"expected values of 0..1 (or normalized) in the image, found {image.abs().max():.0f} after "
                           "the transforms: v2.ToDtype(torch.float32, scale=True) makes them")
        return image if self.normalized else v2.functional.normalize(image, MEAN, STD)

    def _try(self) -> None:
        """Raises LabError unless image and mask stay together on a pattern of two classes, a random one of blocks."""
        before = torch.get_rng_state(), random.getstate(), np.random.get_state()
        for seed in (torch.default_generator.manual_seed, random.seed, np.random.seed):
            seed(0)
        try:
            height, width = INPUT_SIZE
            blocks = torch.rand(height // BLOCK, width // BLOCK) < 0.5
            pattern = blocks.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1).long()
            image = torch.tensor([[40, 90, 60], [230, 140, 200]], dtype=torch.uint8)[pattern]
            classes = torch.tensor([0, self.num_classes - 1], dtype=torch.uint8)
            results = [self(image, classes[pattern]) for _ in range(TRIALS)]
        finally:  # a run draws as if nothing had been tried
            for restore, state in zip((torch.set_rng_state, random.setstate, np.random.set_state), before, strict=True):
                restore(state)
        mixed = {value for _, target in results for value in target.unique().tolist()} - {*classes.tolist(), IGNORE}
        if mixed:
            raise LabError(f"expected a made-up mask's classes {classes.tolist()}, found {sorted(mixed)} after the "
                           "transforms: resample the mask by nearest")
        if any(_explained(data, target) < 0.2 for data, target in results):
            raise LabError("expected image and mask to move together, found transforms that move the image alone, or "
                           f"each in its own way: {ADVICE}")
        sizes = sorted({tuple(target.shape) for _, target in results})
        if len(sizes) > 1:
            raise LabError(f"expected one size of all items, found {sizes[0]} and {sizes[1]} after the transforms: end "
                           f"them with v2.RandomCrop or v2.Resize to {INPUT_SIZE}")


def _explained(image: Tensor, target: Tensor) -> float:
    """The share of the image's variance that the target's classes explain; 1 where there is nothing to explain."""
    parts = [image[:, target == value].double() for value in target.unique() if value != IGNORE]
    pixels = torch.cat([image[:, :0].flatten(1).double(), *parts], 1)
    if len(parts) < 2 or pixels.var(1).sum() < 1e-6:
        return 1.0
    within = sum(part.var(1, correction=0).sum() * part.shape[1] for part in parts) / pixels.shape[1]
    return 1 - float(within / pixels.var(1, correction=0).sum())


def _steps(transforms: Callable) -> Iterator[Callable]:
    """The transforms one by one, out of v2.Compose."""
    if isinstance(transforms, v2.Compose):
        for step in transforms.transforms:
            yield from _steps(step)
    else:
        yield transforms


def _inside(transforms: Callable) -> Iterator[Callable]:
    """A transform and all in it, those of containers such as v2.RandomApply too."""
    yield transforms
    for step in getattr(transforms, "transforms", ()):
        yield from _inside(step)


def _name(step: Callable) -> str:
    return getattr(step, "__name__", type(step).__name__)
