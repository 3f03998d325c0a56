"""The data pages: images beside their labels, how often each class occurs, augmentations before and after."""
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from dataset.augment import Augment, to_batch
from dataset.batches import Batches
from figures.images import add_legend, colorize_all, denormalize, image_grid
from figures.plots import draw_bars
from utils.lab import NUM_CLASSES
from utils.labels_cat import CATEGORIES, CATEGORY_COLORS
from utils.terminal import bar_stream

PAGE = 20       # images on the data page
COLUMNS = 4     # of images, each beside its label
VISIBLE = 0.01  # share of an image from which a class is seen in it

NOTHING = {"flip": 0.0, "crop": 0.0, "scale": (1.0, 1.0), "rotate": 0.0, "color": 0.0}
# The random numbers of two augmented images, see Augment: chosen, so that each kind of augmentation shows.
NUMBERS = ((0.0, 0.0, 0.75, 0.7, 0.3, 0.95, 0.1, 0.9, 0.95), (0.0, 0.0, 0.05, 0.3, 0.8, 0.05, 0.95, 0.2, 0.05))


def count_classes(targets: np.ndarray) -> np.ndarray:
    """The share of each class among the labeled pixels of each image: (N, H, W) in 0..7 or 255 to float64 (N, 8)."""
    counts = np.array([np.bincount(target.ravel(), minlength=256)[:NUM_CLASSES] for target in
                       tqdm(targets, "counting classes", unit="image", file=bar_stream(), leave=False)])
    return counts / np.maximum(counts.sum(1, keepdims=True), 1)


def choose_images(shares: np.ndarray, number: int = PAGE) -> list[int]:
    """Up to `number` (8 or more) images, sorted, that together show every class that occurs: (N, 8) shares.

    For each class that is not shown yet, the rarest first, it takes the image with most of it; then others, spread
    evenly over the split.
    """
    chosen: list[int] = []
    for k in np.argsort(shares.mean(0)):
        most = shares[:, k].max(initial=0)
        if most > 0 and not any(shares[index, k] >= min(VISIBLE, most) for index in chosen):
            chosen.append(int(shares[:, k].argmax()))
    spread = np.linspace(0, len(shares) - 1, min(number, len(shares))).round().astype(int).tolist()
    others = [index for index in [*spread, *range(len(shares))] if index not in chosen]
    return sorted([*chosen, *dict.fromkeys(others)][:number])


def plot_page(batches: Batches, chosen: Sequence[int]) -> Figure:
    """The chosen images, numbered, each beside its label in display colors."""
    images, targets = batches.stored(chosen)
    pairs = list(zip(images.numpy()[:, ::2, ::2], colorize_all(targets[:, ::2, ::2]), strict=True))
    pairs += [(None, None)] * (-len(pairs) % COLUMNS)
    rows = [sum(pairs[start:start + COLUMNS], ()) for start in range(0, len(pairs), COLUMNS)]
    figure, axes = image_grid(rows, width=9.5, more=0.5 + 0.13 * len(rows))
    for number, ax in enumerate(axes[:, ::2].flat[:len(chosen)], 1):
        ax.set_title(str(number), fontsize=7, pad=1.5, loc="left")
    add_legend(figure)
    return figure


def plot_frequencies(shares: np.ndarray) -> Figure:
    """The share of all pixels that each class has, and of the images it occurs in: (N, 8) shares."""
    figure = Figure(figsize=(9, 2.9), layout="constrained")
    axes = figure.subplots(1, 2)
    for ax, values, title in zip(axes, (shares.mean(0), (shares > 0).mean(0)),
                                 ("share of the training pixels", "share of the images that show it"), strict=True):
        draw_bars(ax, values, "{:.1%}")
        ax.set_title(title)
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    return figure


def plot_shares(shares: np.ndarray, chosen: Sequence[int]) -> Figure:
    """Each class's share of an image: over all images, and in those of the data page, under their numbers."""
    figure = Figure(figsize=(9.5, 3.7), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.3))
    boxes = left.boxplot(list(shares.T), patch_artist=True, widths=0.6, medianprops={"linewidth": 1.5},
                         flierprops={"marker": ".", "markersize": 3, "markeredgecolor": "0.4"})
    for box, median, color in zip(boxes["boxes"], boxes["medians"], CATEGORY_COLORS / 255, strict=True):
        box.set(facecolor=color, edgecolor="0.3")
        median.set_color("black" if color.mean() > 0.45 else "white")
    left.set_xticks(range(1, NUM_CLASSES + 1), CATEGORIES, rotation=35, ha="right", rotation_mode="anchor")
    left.set_title(f"a class's share of an image, {len(shares)} images")
    numbers = range(1, len(chosen) + 1)
    bottom = np.zeros(len(chosen))
    for values, color in zip(shares[list(chosen)].T, CATEGORY_COLORS / 255, strict=True):
        right.bar(numbers, values, bottom=bottom, color=color, edgecolor="white", linewidth=0.5)
        bottom += values
    right.set_xticks(numbers)
    right.set(title="what the images of the data page show", xlim=(0.4, len(chosen) + 0.6), ylim=(0, 1))
    for ax in (left, right):
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        ax.spines[["top", "right"]].set_visible(False)
    add_legend(figure)
    return figure


def augmentations(options: dict) -> dict[str, Augment | None]:
    """The augmentation in a run's settings, by title: each kind alone and in every image, then all together."""
    given = {key.lower(): options[key] for key in ("FLIP", "CROP", "SCALE", "ROTATE", "COLOR") if key in options}
    if "scale" in given:
        given["scale"] = tuple(given["scale"])
    whole = Augment(**given)
    low, high = whole.scale
    cropped = f"\n({whole.crop:.0%} of images)"
    alone = (
        (whole.flip, f"mirrored\n({whole.flip:.0%} of images)", {"flip": 1.0}),
        (whole.crop and (low, high) != (1, 1), f"zoom {low:g} to {high:g}{cropped}",
         {"crop": 1.0, "scale": whole.scale}),
        (whole.crop and whole.rotate, f"rotated up to {whole.rotate:g} degrees{cropped}",
         {"crop": 1.0, "rotate": whole.rotate}),
        (whole.color, f"colors changed\nup to {whole.color:.0%}", {"color": whole.color}),
    )
    kinds: dict[str, Augment | None] = {"as stored": None}
    kinds |= {title: Augment(**NOTHING | one) for used, title, one in alone if used}
    if len(kinds) > 1:
        kinds["all of them\nin one image"] = Augment(whole.flip, float(whole.crop > 0), whole.scale, whole.rotate,
                                                     whole.color)
    return kinds


def plot_augmentations(images: Tensor, targets: Tensor, options: dict) -> Figure:
    """Up to two images before and after each kind of augmentation, each above its label.

    images: uint8 (N, H, W, 3), targets: uint8 (N, H, W).
    """
    kinds = augmentations(options)
    columns = []
    for augment in kinds.values():
        data, labels = to_batch(images, targets, augment, torch.tensor(NUMBERS)[:len(images)])
        pairs = zip(denormalize(data)[:, ::2, ::2], colorize_all(labels[:, ::2, ::2]), strict=True)
        columns.append([image for pair in pairs for image in pair])
    figure, axes = image_grid(list(zip(*columns, strict=True)), list(kinds), width=1.7 * len(kinds), more=0.8)
    for ax in axes.flat:
        ax.title.set_fontsize(8)
        ax.spines[:].set(visible=True, color="0.7")
    add_legend(figure)
    return figure
