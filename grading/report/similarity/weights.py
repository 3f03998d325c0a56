"""How alike weights files are, from their fingerprints (grading.intake.fingerprint) alone."""
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Likeness(NamedTuple):
    """How alike n weights files are, each array (n, n) and symmetric.

    equal: how many storages agree in every byte; equal_share: how much of the smaller file they are, by elements.
    cosine: the mean over storages of equal length, paired in order, weighted by length; paired_share: how much of the
    smaller file these are.
    """

    equal: np.ndarray
    equal_share: np.ndarray
    cosine: np.ndarray
    paired_share: np.ndarray


def compare(prints: Sequence[dict]) -> Likeness:
    """Compares every fingerprint with every other; where one is empty all is 0."""
    n = len(prints)
    totals = np.array([sum(entry["count"] for entry in one["storages"]) for one in prints], np.float64)
    owners: dict[str, dict[int, int]] = defaultdict(dict)  # hash -> the files that hold it -> its elements
    lanes: dict[tuple[int, int], dict[int, list[float]]] = defaultdict(dict)  # (length, how many before) -> files
    for index, one in enumerate(prints):
        places: dict[int, int] = defaultdict(int)
        for entry in one["storages"]:
            owners[entry["sha256"]][index] = entry["count"]
            lanes[entry["count"], places[entry["count"]]][index] = entry["projection"]
            places[entry["count"]] += 1
    equal, equal_elements, dots, paired = (np.zeros((n, n)) for _ in range(4))
    for files in owners.values():
        if len(files) > 1:
            cells = np.ix_(list(files), list(files))
            equal[cells] += 1
            equal_elements[cells] += min(files.values())
    for (count, _), files in lanes.items():
        if len(files) > 1:
            cells = np.ix_(list(files), list(files))
            rows = np.array(list(files.values()))
            rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)
            dots[cells] += count * (rows @ rows.T)
            paired[cells] += count
    smaller = np.maximum(np.minimum(totals[:, None], totals), 1)
    return Likeness(equal.astype(int), np.minimum(equal_elements / smaller, 1), dots / np.maximum(paired, 1),
                    np.minimum(paired / smaller, 1))
