"""The label table against cityscapesscripts' own, and the look-ups against the table."""
import pickle

import numpy as np
import pytest
from cityscapesscripts.helpers.labels import id2label as official

from utils.classes import LAB_CLASSES, Classes
from utils.lab import LabError
from utils.labels_cat import (
    CATEGORIES,
    CATEGORY_COLORS,
    ID_TO_CATEGORY,
    LABEL_COLORS,
    id2label,
    ids_to_categories,
    labels,
)


def test_rows_are_cityscapes_own_but_for_the_labs_choices():
    assert sorted(id2label) == [-1, *range(34)]
    for label in labels:
        theirs = official[label.id]
        assert (label.name, label.color, label.ignoreInEval) == (theirs.name, theirs.color, theirs.ignoreInEval)
        if label.id == -1:  # the lab's: a license plate is void
            assert (label.category, label.catId) == ("void", 0)
        else:
            assert (label.category, label.catId) == (theirs.category, theirs.categoryId)
        assert label.trainId == label.catId
        assert CATEGORIES[label.catId] == label.category
        assert label.outColor == tuple(CATEGORY_COLORS[label.catId])


def test_void_covers_ids_0_to_6_and_instances_start_at_the_humans():
    assert [label.id for label in labels if label.category == "void"] == [0, 1, 2, 3, 4, 5, 6, -1]
    assert [label.id for label in labels if label.hasInstances] == list(range(24, 34))


def test_display_colors():
    assert dict(zip(CATEGORIES, CATEGORY_COLORS.tolist(), strict=True)) == {
        "void": [0, 0, 0], "flat": [244, 35, 232], "construction": [70, 70, 70], "object": [153, 153, 153],
        "nature": [107, 142, 35], "sky": [70, 130, 180], "human": [220, 20, 60], "vehicle": [0, 0, 142]}


def test_ids_to_categories():
    ids = np.array([[0, 6, 7, 10], [11, 16, 17, 20], [21, 23, 25, 33], [18, 255, 24, 26]], np.uint8)
    assert ids_to_categories(ids, "x").tolist() == [[0, 0, 1, 1], [2, 2, 3, 3], [4, 5, 6, 7], [3, 0, 6, 7]]
    assert (ID_TO_CATEGORY != 255).sum() == 35


def test_colors_follow_every_row():
    for label in labels:
        color = np.array([[label.color]], np.uint8)
        expected = 7 if label.id == -1 else label.catId  # a plate has a car's color
        assert ID_TO_CATEGORY[LABEL_COLORS.look_up(color, "x")].tolist() == [[expected]], label.name


@pytest.mark.parametrize("value", [34, 100, 254])
def test_unknown_id_names_file_and_value(value):
    with pytest.raises(LabError, match=rf"{value}.*a/b\.png"):
        ids_to_categories(np.array([[7, value]], np.uint8), "a/b.png")


@pytest.mark.parametrize("color", [(1, 2, 3), (255, 255, 255), (0, 0, 143), (244, 35, 231)])
def test_unknown_color_names_file_and_value(color):
    with pytest.raises(LabError, match=r"a/b\.png") as caught:
        LABEL_COLORS.look_up(np.array([[(128, 64, 128), color]], np.uint8), "a/b.png")
    assert str(color) in str(caught.value)


def test_colorize_shows_ignored_white():
    assert LAB_CLASSES.colorize(np.array([[1, 255]], np.uint8)).tolist() == [[[244, 35, 232], [255, 255, 255]]]


def test_classes_are_names_with_a_color_each():
    pair = Classes(("sea", "land"), [(0, 0, 9), (0, 9, 0)])
    assert (len(pair), pair.names, pair.colors.dtype) == (2, ("sea", "land"), np.uint8)
    assert pair == Classes(("sea", "land"), [(0, 0, 9), (0, 9, 0)]) == pickle.loads(pickle.dumps(pair))
    assert pair != Classes(("sea", "sky"), [(0, 0, 9), (0, 9, 0)]) and pair != LAB_CLASSES and len({pair, pair}) == 1
    assert LAB_CLASSES.names == CATEGORIES and LAB_CLASSES.colors.tolist() == CATEGORY_COLORS.tolist()
    with pytest.raises(ValueError, match="read-only"):
        pair.colors[0] = 1
    for names, colors in (("a", pair.colors), ("", np.zeros((0, 3))), ("ab" * 128, np.zeros((256, 3)))):
        with pytest.raises(ValueError, match="a color"):
            Classes(tuple(names), colors)
