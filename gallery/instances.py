"""Instances with a U-Net: which pixels are things, how deep each lies within its own, and a watershed of both.

After Bai and Urtasun, "Deep Watershed Transform for Instance Segmentation" (2017): a network that predicts each pixel's
distance to the boundary of its instance, in a few levels of energy. Two people who touch are one region of things, but
between them the energy falls to its lowest level. Here one network does both; theirs has a second one for the
direction to the boundary, and takes the semantic labels from elsewhere.
"""
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from dataset.augment import normalize
from dataset.layouts.base import open_file
from dataset.reader import DataFolder, read_image, resize_label
from gallery.unet import UNetBilinear
from utils.lab import LabError
from utils.machine import in_threads
from utils.terminal import bar_stream

DISTANCES = (2.0, 3.0, 5.0, 8.0, 12.0)  # pixels to the boundary at which the next level of energy begins
LEVELS = len(DISTANCES) + 1
SEED_LEVEL = 1                          # a region of at least this energy is the core of one instance
SMALLEST = 12                           # pixels of an instance: what is smaller is left out, in labels and results
IGNORED = -100                          # of the energy: pixels of no instance


class Found(NamedTuple):
    """The instances of an image: masks bool (K, H, W), and a score from 0 to 1 for each, float64 (K,)."""

    masks: np.ndarray
    scores: np.ndarray


class InstanceSet:
    """The images of a split and what belongs to whom, at the lab's size.

    images: uint8 (N, 256, 512, 3); instances: int32 (N, 256, 512), 0 where nothing is that can be counted. Raises
    LabError for data without instances.
    """

    def __init__(self, data: DataFolder, split: str, most: int | None = None) -> None:
        pairs = data.pairs(split)[:most]
        read = tqdm(in_threads(lambda pair: _read(data, split, pair.image), pairs), desc=f"reading {split}",
                    total=len(pairs), unit="image", file=bar_stream(), leave=False, disable=None)
        images, instances = zip(*read, strict=True)
        self.images, self.instances = np.stack(images), np.stack(instances)

    def __len__(self) -> int:
        return len(self.images)


def _read(data: DataFolder, split: str, image: object) -> tuple[np.ndarray, np.ndarray]:
    ids = np.asarray(open_file(data.layout.instances(data.root, split, image)))
    if ids.ndim != 2:
        raise LabError(f"expected instance ids, one number a pixel, found {ids.shape} for {image}: use the data set's "
                       "own files")
    ids = resize_label(ids).astype(np.int32)
    return read_image(image, data.layout), np.where(ids >= data.layout.first_instance, ids, 0)


def energy_of(instances: np.ndarray) -> np.ndarray:
    """The level of each pixel's distance to the boundary of its instance: (H, W) to int64 (H, W), IGNORED where 0.

    The edge of the image is no boundary: what leaves the image is deep there.
    """
    energy = np.full(instances.shape, IGNORED, np.int64)
    for which, window in _windows(instances):
        mask = instances[window] == which
        distance = ndimage.distance_transform_edt(mask)
        energy[window][mask] = np.searchsorted(DISTANCES, distance[mask], side="right")
    return energy


def _windows(instances: np.ndarray) -> list[tuple[int, tuple[slice, slice]]]:
    """Each instance's id, and the rows and columns that hold it with a pixel of its surroundings."""
    ids, numbers = np.unique(instances, return_inverse=True)
    boxes = ndimage.find_objects(numbers.reshape(instances.shape) + (ids[0] != 0))
    return [(which, tuple(slice(max(0, side.start - 1), side.stop + 1) for side in box))
            for which, box in zip(ids[ids != 0], boxes, strict=True)]


class WatershedUNet(nn.Module):
    """Images (N, 3, H, W) to logits (N, 2 + LEVELS, H, W): nothing or thing, then the levels of energy.

    Two heads, each one 1x1 convolution, on the last features of a U-Net. H and W divide by 16.
    """

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.body = UNetBilinear(width, num_classes=width)
        self.things = nn.Conv2d(width, 2, 1)
        self.energy = nn.Conv2d(width, LEVELS, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = F.relu(self.body(x))
        return torch.cat([self.things(features), self.energy(features)], 1)


def watershed_loss(logits: Tensor, energy: Tensor) -> Tensor:
    """Cross-entropy of things against nothing, and that of the energy within things, added up.

    logits: float32 (N, 2 + LEVELS, H, W); energy: int64 (N, H, W), IGNORED outside of things. Levels are weighted by
    the inverse square root of how often they are, as the deep ones are rare and part the instances.
    """
    things = F.cross_entropy(logits[:, :2], (energy != IGNORED).long())
    counts = torch.bincount(energy[energy != IGNORED], minlength=LEVELS).float()
    if not counts.any():
        return things
    weights = (counts.sum() / counts.clamp(min=1) / LEVELS).sqrt()
    return things + F.cross_entropy(logits[:, 2:], energy, weights, ignore_index=IGNORED)


def find_instances(logits: Tensor) -> Found:
    """The instances of one image: logits (2 + LEVELS, H, W).

    Cores are regions that reach SEED_LEVEL. The watershed lets each grow down to lower energy within the things, so
    that two meet where the energy is lowest. A region of things without a core is an instance of its own.
    """
    chances = logits[:2].softmax(0)[1].numpy().astype(np.float64)
    levels = logits[2:].softmax(0)
    expected = torch.tensordot(torch.arange(LEVELS, dtype=levels.dtype), levels, 1).numpy()
    things = chances > 0.5
    cores, count = ndimage.label(things & (expected >= SEED_LEVEL))
    regions, _ = ndimage.label(things)
    bare = np.setdiff1d(np.unique(regions[things]), regions[cores > 0])
    for number, region in enumerate(bare, count + 1):
        cores[regions == region] = number
    # A step between levels is lower than the step out of things, so that nothing grows in from outside.
    depth = 150 * (1 - expected / (LEVELS - 1))
    grown = ndimage.watershed_ift(np.where(things, depth, 255).astype(np.uint8), np.where(things, cores, -1))
    found = [grown == number for number in range(1, count + len(bare) + 1)]
    found = [mask for mask in found if mask.sum() >= SMALLEST]
    masks = np.stack(found) if found else np.zeros((0, *things.shape), bool)
    return Found(masks, np.array([chances[mask].mean() for mask in masks]))


def find_regions(logits: Tensor) -> Found:
    """The same without energy, to compare with: each region of things is one instance."""
    flat = logits.clone()
    flat[2:] = 0
    flat[2] = 100.0  # the lowest level everywhere: no cores
    return find_instances(flat)


def train_watershed(network: nn.Module, data: InstanceSet, epochs: int, batch_size: int = 4, rate: float = 5e-3,
                    seed: int = 1) -> list[float]:
    """Trains by AdamW and one cycle of the rate, half of the batches mirrored; each epoch's mean loss."""
    random = torch.Generator().manual_seed(seed)
    energies = torch.from_numpy(np.stack([energy_of(instances).astype(np.int8) for instances in data.instances]))
    images = torch.from_numpy(data.images)
    optimizer = torch.optim.AdamW(network.parameters(), rate)
    steps = -(-len(data) // batch_size)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * steps + 1, pct_start=0.1)
    network.train()
    history = []
    for _ in tqdm(range(epochs), desc="training", unit="epoch", file=bar_stream(), leave=False, disable=None):
        total = 0.0
        for chosen in torch.randperm(len(data), generator=random).split(batch_size):
            image, energy = images[chosen], energies[chosen].long()
            if torch.rand((), generator=random) < 0.5:
                image, energy = image.flip(2), energy.flip(2)
            loss = watershed_loss(network(normalize(image)), energy)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.item() * len(chosen)
        history.append(total / len(data))
    return history


@torch.inference_mode()
def predict_logits(network: nn.Module, data: InstanceSet) -> Tensor:
    """The logits of each image: float32 (N, 2 + LEVELS, H, W)."""
    network.eval()
    return torch.cat([network(normalize(torch.from_numpy(image[None]))) for image in data.images])


def true_masks(instances: np.ndarray) -> np.ndarray:
    """The instances of a label, (H, W), as masks bool (K, H, W), without those below SMALLEST pixels."""
    masks = [instances == which for which in np.unique(instances[instances != 0])]
    masks = [mask for mask in masks if mask.sum() >= SMALLEST]
    return np.stack(masks) if masks else np.zeros((0, *instances.shape), bool)


def colors_of(masks: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Masks as an image, uint8 (H, W, 3): a color each, neighbors in number far apart; nothing is black."""
    image = np.zeros((*shape, 3), np.uint8)
    for number, mask in enumerate(masks):
        hue = number * 0.618034 % 1 * 6  # the golden ratio's steps never meet again
        image[mask] = [int(255 * min(max(abs((hue + shift) % 6 - 3) - 1, 0), 1) * 0.8 + 51) for shift in (0, 4, 2)]
    return image
