"""From stored images to a network's input: normalization, and the training set's augmentation.

Both work on whole batches on the device that the batch is on. Every sample of a batch has its own random numbers, a row
of a table drawn on the CPU, so that a seed gives the same augmentation on every device, for every batch size and for
every number of processes.
"""
import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from utils.lab import IGNORE, MEAN, STD, LabError


def normalize(images: Tensor) -> Tensor:
    """uint8 images (N, H, W, 3) in 0..255 to float32 (N, 3, H, W), each channel (x / 255 - MEAN) / STD.

    The result is in channels_last memory, the layout the images came in and the faster one for convolutions.
    """
    n, h, w, _ = images.shape
    scale, shift = _scale_and_shift(images.device)
    # Whole rows of 3 W values: over an innermost dimension of 3 a CPU takes more than twice as long.
    rows = torch.addcmul(shift.repeat(w), images.reshape(n, h, 3 * w).float(), scale.repeat(w))
    return rows.view(n, h, w, 3).permute(0, 3, 1, 2)


def to_batch(images: Tensor, targets: Tensor, augment: Callable | None = None, numbers: Tensor | None = None
             ) -> tuple[Tensor, Tensor]:
    """uint8 images (N, H, W, 3) and targets (N, H, W) to a network's float32 input and int64 target."""
    if augment:
        data, targets = augment(images, targets, numbers)
    else:
        data = normalize(images)
    return data, targets.long()


class Augment:
    """Flip, zoom and crop, a little rotation, and color jitter, on images and targets together.

    flip: probability of a mirror image.
    crop: share of the samples that are zoomed, cropped and rotated; the others stay whole, because void depends on the
        place (the car's hood, the image's border) and a crop destroys that cue.
    scale: range of the zoom of a cropped sample; above 1 it is a crop of the enlarged image, below 1 the image is
        shrunk. What lies outside the image is IGNORE in the target: nobody saw it, so it has no class, not even void.
    rotate: largest angle of a cropped sample, in degrees, either way.
    color: largest relative change of brightness, contrast and saturation; 0 leaves the colors alone.
    """

    DRAWS = 9  # random numbers a sample: flip, crop, zoom, two of shift, angle, three of color

    def __init__(self, flip: float = 0.5, crop: float = 0.5, scale: tuple[float, float] = (0.75, 1.75),
                 rotate: float = 3.0, color: float = 0.3) -> None:
        if not (0 <= flip <= 1 and 0 <= crop <= 1 and 0 < scale[0] <= scale[1] and 0 <= rotate <= 180
                and 0 <= color < 1):
            raise LabError(f"expected flip and crop in 0..1, 0 < scale[0] <= scale[1], rotate in 0..180 and color in "
                           f"0..1, found flip={flip}, crop={crop}, scale={scale}, rotate={rotate}, color={color} in "
                           "the settings of Augment")
        self.flip, self.crop, self.scale, self.rotate, self.color = flip, crop, scale, rotate, color

    def __call__(self, images: Tensor, targets: Tensor, numbers: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """uint8 images (N, H, W, 3) and targets (N, H, W) to float32 (N, 3, H, W) and uint8 (N, H, W).

        `numbers`, float32 (N, DRAWS) in 0..1 on the CPU, are the samples' random numbers; without them they come from
        torch's global generator.
        """
        if numbers is None:
            numbers = torch.rand(len(images), self.DRAWS)
        place = numbers.T[2:6]
        mirrored, cropped = self._chosen(numbers)
        images = _change(images, mirrored, lambda some: some.flip(2))
        targets = _change(targets, mirrored, lambda some: some.flip(2))
        data = self._color(images, numbers[:, 6:]) if self.color else normalize(images)
        if len(cropped):
            h, w = targets.shape[1:]
            theta = self._affine(*(values[cropped] for values in place), aspect=h / w)
            grid = _grid(theta.to(data.device, non_blocking=True), h, w)
            data = _change(data.permute(0, 2, 3, 1), cropped, lambda some: _warp(some, grid)).permute(0, 3, 1, 2)
            targets = _change(targets, cropped, lambda some: _warp_target(some, grid))
        return data, targets

    def follow(self, soft: Tensor, numbers: Tensor) -> Tensor:
        """Moves second targets of the same samples, uint8 (N, C, h, w): mirrored with the images, zeros if cropped."""
        mirrored, cropped = self._chosen(numbers)
        soft = _change(soft, mirrored, lambda some: some.flip(3))
        return _change(soft, cropped, torch.zeros_like)

    def _chosen(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Indices of the mirrored and of the cropped samples, on the CPU, so that nothing is fetched from a GPU."""
        return (numbers[:, 0] < self.flip).nonzero().flatten(), (numbers[:, 1] < self.crop).nonzero().flatten()

    def _color(self, images: Tensor, numbers: Tensor) -> Tensor:
        """Saturation about each pixel's gray, contrast about the image's, then brightness; and normalizes.

        All are linear in a pixel's three values, so they are one 3 x 3 matrix and one offset a sample. The result
        stays in the range of an image's values 0..255.
        """
        n, h, w, _ = images.shape
        device = images.device
        factors = 1 + self.color * (2 * numbers - 1)
        brightness, contrast, saturation = factors.to(device, non_blocking=True).T.reshape(3, n, 1, 1)
        gray = images[:, ::4, ::4].float().mean(dim=(1, 2, 3)).reshape(n, 1, 1)
        own = torch.eye(3, device=device) * saturation + (1 - saturation) / 3
        scale, shift = _scale_and_shift(device)
        matrix = own * (brightness * contrast) * scale                       # (N, 3, 3), a column for each result
        offset = gray * (brightness * (1 - contrast)) * scale + shift        # (N, 1, 3)
        # Four pixels a row: a CPU multiplies by the four-fold matrix 4 times faster than by one of 3 x 3.
        many = 4 if w % 4 == 0 else 1
        matrix = torch.einsum("ij,nkl->nikjl", torch.eye(many, device=device), matrix).reshape(n, 3 * many, 3 * many)
        rows = torch.bmm(images.reshape(n, -1, 3 * many).float(), matrix).view(n, h, 3 * w)
        rows += offset.repeat(1, 1, w)
        torch.clamp(rows, shift.repeat(w), (255 * scale + shift).repeat(w), out=rows)
        return rows.view(n, h, w, 3).permute(0, 3, 1, 2)

    def _affine(self, zoom: Tensor, shift_x: Tensor, shift_y: Tensor, angle: Tensor, aspect: float) -> Tensor:
        """The maps of the cropped samples as F.affine_grid takes them, (N, 2, 3); `aspect` is height / width."""
        low, high = self.scale
        zoom = low + (high - low) * zoom
        angle = math.radians(self.rotate) * (2 * angle - 1)
        # Where the window's center may lie so that the window stays in the image (or the image in the window).
        room = (1 - 1 / zoom).abs()
        cos, sin = angle.cos() / zoom, angle.sin() / zoom
        return torch.stack([torch.stack([cos, -sin * aspect, room * (2 * shift_x - 1)], 1),
                            torch.stack([sin / aspect, cos, room * (2 * shift_y - 1)], 1)], 1)


@functools.cache  # a GPU is waited for when it gets numbers from the CPU: once, not for every batch
@torch.inference_mode(False)
def _scale_and_shift(device: torch.device) -> tuple[Tensor, Tensor]:
    """(3,) each: x * scale + shift is the normalized value of a stored x in 0..255."""
    return (torch.tensor([1 / (255 * s) for s in STD], device=device),
            torch.tensor([-m / s for m, s in zip(MEAN, STD, strict=True)], device=device))


def _change(batch: Tensor, chosen: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """`batch` with the samples `chosen`, indices on the CPU, put through `change`."""
    if not len(chosen):
        return batch
    n = len(batch)
    source = torch.arange(n)
    source[chosen] = n + torch.arange(len(chosen))
    changed = change(batch.index_select(0, chosen.to(batch.device, non_blocking=True)))
    # One after the other, then picked sample by sample: on a CPU much faster than writing into `batch` by index.
    return torch.cat([batch, changed]).index_select(0, source.to(batch.device, non_blocking=True))


def _grid(theta: Tensor, h: int, w: int) -> Tensor:
    """F.affine_grid(theta, (N, 1, H, W), align_corners=False), (N, H, W, 2), in a fraction of its time on a CPU."""
    x = (2 * torch.arange(w, device=theta.device) + 1) / w - 1
    y = ((2 * torch.arange(h, device=theta.device) + 1) / h - 1)[:, None]
    grid = torch.empty(len(theta), h, w, 2, device=theta.device)
    for axis in range(2):
        by_x, by_y, shift = theta[:, axis].T.reshape(3, -1, 1, 1)
        torch.add(by_x * x, by_y * y + shift, out=grid[..., axis])
    return grid


def _warp(images: Tensor, grid: Tensor) -> Tensor:
    """Normalized images (N, H, W, 3) through the grid, bilinear."""
    warped = F.grid_sample(images.permute(0, 3, 1, 2), grid, mode="bilinear", align_corners=False)
    return warped.permute(0, 2, 3, 1)


def _warp_target(targets: Tensor, grid: Tensor) -> Tensor:
    """Targets (N, H, W) through the same grid, nearest; IGNORE outside."""
    # Outside the image grid_sample gives 0; the offset makes that IGNORE.
    known = F.grid_sample(targets.float()[:, None] - IGNORE, grid, mode="nearest", align_corners=False)
    return (known[:, 0] + IGNORE).to(targets.dtype)
