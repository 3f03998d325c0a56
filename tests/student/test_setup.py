"""Whether the lab itself works on this machine: the metric and the label table."""
import numpy as np
import pytest
import torch

from utils.labels_cat import CATEGORIES, id2label, ids_to_categories
from utils.metric import ConfusionMatrix


def test_the_metric_against_a_matrix_worked_out_by_hand():
    #   target      flat flat flat sky sky human    and one pixel that is ignored
    #   prediction  flat flat sky  sky sky flat
    metric = ConfusionMatrix()
    metric.update(torch.tensor([[1, 1, 1, 5, 5, 6, 255]]), torch.tensor([[1, 1, 5, 5, 5, 1, 0]]))
    expected = np.zeros((8, 8), int)
    expected[1, 1], expected[1, 5], expected[5, 5], expected[6, 1] = 2, 1, 2, 1  # rows: target
    assert metric.counts.tolist() == expected.tolist()
    # flat: TP 2, FP 1, FN 1; sky: TP 2, FP 1, FN 0; human: TP 0, FN 1; the other five occur nowhere
    assert metric.miou() == pytest.approx((2 / 4 + 2 / 3 + 0 / 1) / 3)


def test_the_label_table_has_34_ids_in_8_categories():
    assert [label for label in sorted(id2label) if label >= 0] == list(range(34))
    categories = ids_to_categories(np.arange(34, dtype=np.uint8), "all ids")
    assert np.bincount(categories).tolist() == [7, 4, 6, 4, 2, 1, 2, 8]
    assert [CATEGORIES[index] for index in categories[[0, 7, 11, 17, 21, 23, 24, 26]]] == list(CATEGORIES)
