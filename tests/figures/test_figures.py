"""Figures: that they show what they are given, and render with no display."""
import io
import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from dataset.augment import normalize
from dataset.layouts.voc import PascalVOC
from figures.images import denormalize, show_panels
from figures.layers import plot_layers
from figures.plots import plot_class_shares, plot_confusion, plot_history, plot_iou
from utils.labels_cat import CATEGORIES, CATEGORY_COLORS
from utils.layer_table import Layer
from utils.metric import ConfusionMatrix


def render(figure) -> np.ndarray:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return np.asarray(Image.open(buffer).convert("RGB"))


def metric() -> ConfusionMatrix:
    filled = ConfusionMatrix()
    filled.counts[:7, :7] = np.random.RandomState(0).randint(1, 100, (7, 7)) + 300 * np.eye(7, dtype=int)
    return filled


def test_denormalize_undoes_normalize():
    images = torch.randint(0, 256, (2, 6, 8, 3), dtype=torch.uint8)
    np.testing.assert_array_equal(denormalize(normalize(images)), images.numpy())


def test_panels_show_every_display_color():
    label = torch.arange(8).repeat_interleave(32).expand(1, 128, 256)
    figure = show_panels(torch.zeros(1, 3, 128, 256), label, label, captions=["mIoU 1.000"])
    assert [ax.get_title() for ax in figure.axes] == ["image", "label", "prediction"]
    assert figure.axes[0].get_ylabel() == "mIoU 1.000"
    colors = {tuple(color) for color in render(figure).reshape(-1, 3).tolist()}
    assert {tuple(color) for color in CATEGORY_COLORS.tolist()} <= colors


def test_history_has_both_curves_and_the_threshold():
    history = [{"epoch": e, "loss": 1 / e, "miou": e / 10, "train_loss": 2 / e, "train_miou": e / 20}
               for e in (1, 2, 3)]
    figure = plot_history(history, 0.72)
    loss, miou = figure.axes
    assert [line.get_ydata()[-1] for line in loss.lines] == [2 / 3, 1 / 3]
    assert 0.72 in [line.get_ydata()[0] for line in miou.lines]
    render(figure)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_few_epochs_can_be_seen(number):
    history = [{"epoch": e, "loss": 1 / e, "miou": e / 10, "train_loss": 2 / e, "train_miou": e / 20}
               for e in range(1, number + 1)]
    figure = plot_history(history)
    render(figure)
    for ax in figure.axes:
        assert all((line.get_marker() == "o") == (number == 1) for line in ax.lines)
        ticks = [tick for tick in ax.get_xticks() if ax.get_xlim()[0] <= tick <= ax.get_xlim()[1]]
        assert ticks == list(range(1, number + 1))


def test_bars_are_the_figures():
    shares = np.array([0.1, 0.3, 0.2, 0.05, 0.15, 0.1, 0.02, 0.08])
    left, right = plot_class_shares(shares, 1 / shares).axes
    assert [bar.get_height() for bar in left.patches] == shares.tolist()
    assert [bar.get_height() for bar in right.patches] == (1 / shares).tolist()
    figure = plot_iou(metric())
    assert [text.get_text() for text in figure.axes[0].texts][-1] == "absent"  # no vehicle anywhere
    assert f"{metric().miou():.4f}" in figure.axes[0].get_title()
    render(figure)


def test_confusion_matrix_rows_are_shares():
    figure = plot_confusion(metric())
    shown = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(shown.sum(1), [1] * 7 + [0])
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == list(CATEGORIES)
    render(figure)


def test_figures_of_other_classes(tmp_path):
    classes = PascalVOC.classes
    label = torch.arange(21).repeat_interleave(12)[:240].expand(1, 120, 240)
    figure = show_panels(torch.zeros(1, 3, 120, 240), label, classes=classes)
    colors = {tuple(color) for color in render(figure).reshape(-1, 3).tolist()}
    assert {tuple(color) for color in classes.colors[:20].tolist()} <= colors
    legend, = figure.legends
    assert [text.get_text() for text in legend.get_texts()][:4] == ["background", "car", "motorbike", "aeroplane"]
    filled = ConfusionMatrix(21)
    filled.counts[:20, :20] = np.random.RandomState(0).randint(1, 100, (20, 20)) + 900 * np.eye(20, dtype=int)
    shares = np.linspace(0, 0.1, 21)
    for figure in (plot_iou(filled, classes), plot_class_shares(shares, None, classes),
                   plot_class_shares(shares, shares, classes)):
        figure.draw_without_rendering()
        for ax in figure.axes:
            assert [tick.get_text() for tick in ax.get_xticklabels()] == list(classes.names)
            assert_apart([text for text in ax.texts if text.get_text()])
    figure = plot_confusion(filled, classes)
    figure.draw_without_rendering()
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == list(classes.names)
    assert_apart(figure.axes[0].texts)
    for plot in (plot_iou, plot_confusion):
        with pytest.raises(ValueError, match="expected figures of 8 classes, got 21"):
            plot(filled)
    with pytest.raises(ValueError, match="expected figures of 21 classes, got 8"):
        plot_class_shares(shares[:8], classes=classes)


def assert_apart(texts) -> None:
    boxes = [text.get_window_extent() for text in texts]
    assert not [pair for pair in itertools.combinations(boxes, 2) if pair[0].overlaps(pair[1])]


def layer(name: str, parameters: int, macs: int, activations: int) -> Layer:
    return Layer(name, "Conv2d", (1, 1, 1, 1), parameters, macs, activations, 0.0)


def shown(figure) -> list[dict[str, float]]:
    names = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    panels = [[bar.get_width() for bar in ax.containers[0]] for ax in figure.axes]
    return [dict(zip(names, np.round(widths, 6).tolist(), strict=True)) for widths in panels]


def test_layers_are_drawn_as_shares_in_the_order_of_the_network():
    rows = [layer("stem", 10, 600, 50), layer("up.a", 30, 200, 30), layer("up.b", 60, 200, 20)]
    times = {"(network)": 40.0, "stem": 20.0, "up": 20.0, "up.a": 9.0, "up.act": 1.0, "up.b": 10.0}
    figure = plot_layers(rows, times)
    # The modules themselves and up.act belong to no row.
    assert shown(figure) == [
        {"stem": 0.6, "up.a": 0.2, "up.b": 0.2, "outside these layers": 0},
        {"stem": 0.1, "up.a": 0.3, "up.b": 0.6, "outside these layers": 0},
        {"stem": 0.5, "up.a": 0.3, "up.b": 0.2, "outside these layers": 0},
        {"stem": 0.2, "up.a": 0.09, "up.b": 0.1, "outside these layers": 0.61}]
    assert [ax.get_title() for ax in figure.axes] == [
        "MACs: 1.0k", "parameters: 100", "activation memory: 0.1 KB", "CPU time: 100.0 ms"]
    rows.append(layer("(network)", 0, 0, 100))  # an output of its own, such as a resize
    assert shown(plot_layers(rows))[2] == {"stem": 0.25, "up.a": 0.15, "up.b": 0.1, "outside these layers": 0.5}
    rows.pop()
    render(figure)
    assert len(plot_layers(rows).axes) == 3 and list(shown(plot_layers(rows))[0]) == ["stem", "up.a", "up.b"]


def test_many_layers_share_the_bar_of_the_module_around_them():
    rows = [layer(f"stage{s}.blocks.{b}.conv", 1, 10 * s, 1) for s in (1, 2) for b in range(s + 1)]
    rows.append(layer("head", 5, 20, 5))
    assert list(shown(plot_layers(rows, most=6))[0]) == ["stage1.blocks", "stage2.blocks", "head"]
    assert list(shown(plot_layers(rows, most=7))[0])[:2] == ["stage1.blocks.0.conv", "stage1.blocks.1.conv"]
    times = {row.name: 1.0 for row in rows} | {"stage2.blocks": 5.0}
    assert shown(plot_layers(rows, times, most=6))[3]["stage2.blocks"] == round(8 / 11, 6)
    for most in (2, 3, 4, 5, 6, 20):
        macs, parameters, memory = (list(panel.values()) for panel in shown(plot_layers(rows, most=most)))
        assert len(macs) <= most
        np.testing.assert_allclose([sum(macs), sum(parameters), sum(memory)], 1, atol=1e-5)
    flat = plot_layers([layer(str(index), 1, index, 1) for index in range(30)], most=20)
    assert list(shown(flat)[0])[-1] == "12 others" and len(shown(flat)[0]) == 19
    render(flat)
