"""From stored pictures to a network's input: normalisation, and the training set's augmentation.

Both work on whole batches on the device that the batch is on. Every sample of a batch draws its own random numbers,
from a generator on the CPU, so that a seed gives the same augmentation on every device.
"""
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from utils.lab import IGNORE, MEAN, STD, LabError


def normalise(images: Tensor) -> Tensor:
    """uint8 pictures (N, H, W, 3) in 0..255 to float32 (N, 3, H, W), each channel (x / 255 - MEAN) / STD.

    The result is in channels_last memory, the layout the pictures came in and the faster one for convolutions.
    """
    scale = torch.tensor([1 / (255 * s) for s in STD], device=images.device)
    shift = torch.tensor([-m / s for m, s in zip(MEAN, STD, strict=True)], device=images.device)
    return torch.addcmul(shift, images.float(), scale).permute(0, 3, 1, 2)


def to_batch(images: Tensor, targets: Tensor, augment: Callable | None = None,
             generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """uint8 pictures (N, H, W, 3) and targets (N, H, W) to a network's float32 input and int64 target."""
    if augment:
        data, targets = augment(images, targets, generator)
    else:
        data = normalise(images)
    return data, targets.long()


class Augment:
    """Flip, scale and crop, and color jitter, on pictures and targets together.

    flip: probability of a mirror image.
    crop: share of the samples that are scaled and cropped; the others stay whole, because void is positional (the
        car's hood, the picture's border) and a crop destroys that cue.
    scale: range of the zoom of a cropped sample; above 1 it is a crop of the enlarged picture, below 1 the picture is
        shrunk and what lies outside it is IGNORE in the target: it was never seen, so it is no class, not even void.
    color: largest relative change of brightness, contrast and saturation; 0 leaves the colors alone.
    """

    def __init__(self, flip: float = 0.5, crop: float = 0.5, scale: tuple[float, float] = (0.75, 1.75),
                 color: float = 0.3) -> None:
        if not (0 <= flip <= 1 and 0 <= crop <= 1 and 0 < scale[0] <= scale[1] and 0 <= color < 1):
            raise LabError(f"expected flip and crop in 0..1, 0 < scale[0] <= scale[1] and color in 0..1, "
                           f"found flip={flip}, crop={crop}, scale={scale}, color={color} in the settings of Augment")
        self.flip, self.crop, self.scale, self.color = flip, crop, scale, color

    def __call__(self, images: Tensor, targets: Tensor, generator: torch.Generator | None = None
                 ) -> tuple[Tensor, Tensor]:
        """uint8 pictures (N, H, W, 3) and uint8 targets (N, H, W) to float32 (N, 3, H, W) and uint8 (N, H, W)."""
        images = self._jitter(images, generator)
        return self._warp(normalise(images), targets, generator)

    def _jitter(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        """Brightness, contrast about the picture's mean, saturation about each pixel's grey; stays in 0..255."""
        if not self.color:
            return images
        factors = 1 + self.color * (2 * torch.rand(3, len(images), 1, 1, 1, generator=generator) - 1)
        brightness, contrast, saturation = factors.to(images.device)
        images = images.float()
        grey = images.mean(dim=3, keepdim=True)
        mean = grey.mean(dim=(1, 2), keepdim=True)
        # saturation, then contrast, then brightness, folded into one weight for each of the three terms
        images = images * (brightness * contrast * saturation)
        images += grey * (brightness * contrast * (1 - saturation)) + mean * (brightness * (1 - contrast))
        return images.clamp_(0, 255)

    def _warp(self, images: Tensor, targets: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """One affine map a sample for mirror, zoom and shift: bilinear for the picture, nearest for the target."""
        n, _, h, w = images.shape
        mirror = torch.rand(n, generator=generator) < self.flip
        cropped = torch.rand(n, generator=generator) < self.crop
        low, high = self.scale
        zoom = torch.where(cropped, low + (high - low) * torch.rand(n, generator=generator), 1.0)
        # Where the window's centre may lie so that the window stays in the picture (or the picture in the window).
        room = (1 - 1 / zoom).abs()
        shift_x, shift_y = (room * (2 * torch.rand(n, generator=generator) - 1) for _ in range(2))

        whole = (~cropped).nonzero().flatten()
        flipped = mirror[whole].to(images.device)[:, None, None, None]
        out_images = torch.empty_like(images)
        out_targets = torch.empty_like(targets)
        index = whole.to(images.device)
        out_images[index] = torch.where(flipped, images[index].flip(3), images[index])
        out_targets[index] = torch.where(flipped[:, 0], targets[index].flip(2), targets[index])

        moved = cropped.nonzero().flatten()
        if len(moved):
            theta = torch.zeros(len(moved), 2, 3)
            theta[:, 0, 0] = torch.where(mirror[moved], -1.0, 1.0) / zoom[moved]
            theta[:, 1, 1] = 1 / zoom[moved]
            theta[:, 0, 2], theta[:, 1, 2] = shift_x[moved], shift_y[moved]
            index = moved.to(images.device)
            grid = F.affine_grid(theta.to(images.device), (len(moved), 1, h, w), align_corners=False)
            out_images[index] = F.grid_sample(images[index], grid, mode="bilinear", align_corners=False)
            # Outside the picture grid_sample gives 0; the offset makes that IGNORE.
            known = targets[index].float()[:, None] - IGNORE
            known = F.grid_sample(known, grid, mode="nearest", align_corners=False)
            out_targets[index] = (known[:, 0] + IGNORE).to(targets.dtype)
        return out_images, out_targets
