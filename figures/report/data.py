"""The data pages: pictures beside their labels, how often each class occurs, augmentations before and after."""
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from dataset.augment import Augment, to_batch
from dataset.batches import Batches
from figures.pictures import add_legend, denormalise
from figures.plots import draw_bars
from utils.classes import LAB_CLASSES
from utils.lab import NUM_CLASSES
from utils.labels_cat import CATEGORIES, CATEGORY_COLORS
from utils.terminal import bar_stream

PAGE = 20       # pictures on the data page
COLUMNS = 4     # of pictures, each beside its label
VISIBLE = 0.01  # share of a picture from which a class is seen in it


def count_classes(targets: np.ndarray) -> np.ndarray:
    """The share of each class among the labelled pixels of each picture: (N, H, W) in 0..7 or 255 to float64 (N, 8)."""
    counts = np.array([np.bincount(target.ravel(), minlength=256)[:NUM_CLASSES] for target in
                       tqdm(targets, "counting classes", unit="picture", file=bar_stream(), leave=False)])
    return counts / np.maximum(counts.sum(1, keepdims=True), 1)


def choose_pictures(shares: np.ndarray, number: int = PAGE) -> list[int]:
    """Up to `number` (8 or more) pictures, sorted, that together show every class that occurs: (N, 8) shares.

    For each class, the rarest first, that is not to be seen yet, the picture with most of it; then others, spread
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
    """The chosen pictures, numbered, each beside its label in display colors."""
    images, targets = (part.numpy() for part in batches.stored(chosen))
    rows = -(-len(chosen) // COLUMNS)
    figure = Figure(figsize=(9.5, 0.72 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, 2 * COLUMNS, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for number, (image, target) in enumerate(zip(images, targets, strict=True)):
        picture, label = axes[number // COLUMNS, 2 * (number % COLUMNS):][:2]
        picture.imshow(image[::2, ::2])
        label.imshow(LAB_CLASSES.colorize(target[::2, ::2]), interpolation="nearest")
        picture.set_title(str(number + 1), fontsize=7, pad=1.5, loc="left")
    add_legend(figure)
    return figure


def plot_frequencies(shares: np.ndarray) -> Figure:
    """How much of all pixels each class has, and in how many of the pictures it occurs: (N, 8) shares."""
    figure = Figure(figsize=(9, 2.9), layout="constrained")
    axes = figure.subplots(1, 2)
    for ax, values, title in zip(axes, (shares.mean(0), (shares > 0).mean(0)),
                                 ("share of the training pixels", "share of the pictures that show it"), strict=True):
        draw_bars(ax, values, "{:.1%}")
        ax.set_title(title)
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    return figure


def plot_shares(shares: np.ndarray, chosen: Sequence[int]) -> Figure:
    """Each class's share of a picture: over all pictures, and in those of the data page, under their numbers."""
    figure = Figure(figsize=(9.5, 3.7), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.3))
    boxes = left.boxplot(list(shares.T), patch_artist=True, widths=0.6, medianprops={"linewidth": 1.5},
                         flierprops={"marker": ".", "markersize": 3, "markeredgecolor": "0.4"})
    for box, median, color in zip(boxes["boxes"], boxes["medians"], CATEGORY_COLORS / 255, strict=True):
        box.set(facecolor=color, edgecolor="0.3")
        median.set_color("black" if color.mean() > 0.45 else "white")
    left.set_xticks(range(1, NUM_CLASSES + 1), CATEGORIES, rotation=35, ha="right", rotation_mode="anchor")
    left.set_title(f"a class's share of a picture, {len(shares)} pictures")
    bottom = np.zeros(len(chosen))
    for k, color in enumerate(CATEGORY_COLORS / 255):
        right.bar(range(1, len(chosen) + 1), shares[list(chosen), k], bottom=bottom, color=color, edgecolor="white",
                  linewidth=0.5, label=CATEGORIES[k])
        bottom += shares[list(chosen), k]
    right.set_xticks(range(1, len(chosen) + 1))
    right.set(title="what the pictures of the data page show", xlim=(0.4, len(chosen) + 0.6), ylim=(0, 1))
    for ax in (left, right):
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        ax.spines[["top", "right"]].set_visible(False)
    add_legend(figure)
    return figure


def augmentations(options: dict) -> dict[str, Augment | None]:
    """What a run's settings say of the augmentation, each kind alone and certain, and all of it, by what to call it."""
    given = {key.lower(): options[key] for key in ("FLIP", "CROP", "SCALE", "ROTATE", "COLOR") if key in options}
    if "scale" in given:
        given["scale"] = tuple(given["scale"])
    whole = Augment(**given)
    none = {"flip": 0.0, "crop": 0.0, "scale": (1.0, 1.0), "rotate": 0.0, "color": 0.0}
    low, high = whole.scale
    kinds: dict[str, Augment | None] = {"as stored": None}
    if whole.flip:
        kinds[f"mirrored\n({whole.flip:.0%} of pictures)"] = Augment(**none | {"flip": 1.0})
    if whole.crop and (low, high) != (1, 1):
        kinds[f"zoom {low:g} to {high:g}\n({whole.crop:.0%} of pictures)"] = Augment(
            **none | {"crop": 1.0, "scale": whole.scale})
    if whole.crop and whole.rotate:
        kinds[f"rotated up to {whole.rotate:g} degrees\n({whole.crop:.0%} of pictures)"] = Augment(
            **none | {"crop": 1.0, "rotate": whole.rotate})
    if whole.color:
        kinds[f"colors changed\nup to {whole.color:.0%}"] = Augment(**none | {"color": whole.color})
    if len(kinds) > 1:
        cropped = float(whole.crop > 0)
        kinds["all of them\nin one picture"] = Augment(whole.flip, cropped, whole.scale, whole.rotate, whole.color)
    return kinds


def plot_augmentations(images: Tensor, targets: Tensor, options: dict) -> Figure:
    """Some pictures before and after each kind of augmentation: uint8 (N, H, W, 3) and (N, H, W), two rows a picture.

    The random numbers are chosen, not drawn: far from the middle, so that one sees what each kind does.
    """
    kinds = augmentations(options)
    numbers = torch.tensor([[0.0, 0.0, 0.75, 0.7, 0.3, 0.95, 0.1, 0.9, 0.95],
                            [0.0, 0.0, 0.05, 0.3, 0.8, 0.05, 0.95, 0.2, 0.05]])
    numbers = numbers.repeat(-(-len(images) // 2), 1)[:len(images)]
    n, h, w = targets.shape
    figure = Figure(figsize=(1.7 * len(kinds), 1.7 * h / w * 2 * n + 0.8), layout="constrained")
    axes = figure.subplots(2 * n, len(kinds), squeeze=False)
    for column, (title, augment) in enumerate(kinds.items()):
        data, labels = to_batch(images, targets, augment, numbers)
        for row, (picture, label) in enumerate(zip(denormalise(data), labels.numpy().astype(np.uint8), strict=True)):
            axes[2 * row, column].imshow(picture[::2, ::2])
            axes[2 * row + 1, column].imshow(LAB_CLASSES.colorize(label[::2, ::2]), interpolation="nearest")
        axes[0, column].set_title(title, fontsize=8)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_color("0.7")
    add_legend(figure)
    return figure
