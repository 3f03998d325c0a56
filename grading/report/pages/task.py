"""A task of a record as the pages of a student show it, in the report and on the board."""
from pathlib import Path, PurePosixPath

from grading.report.pages.page import dicts, number
from utils.lab import NUM_CLASSES
from utils.labels_cat import CATEGORIES


def shown_task(found: dict, out: Path) -> dict:
    """A task's record with its confusion matrix as shares, and with what can be shown of layers and images."""
    images = [image | {"parts": parts} for image in dicts(found.get("images")) if (parts := _parts(image, out))]
    costs = found.get("costs") if isinstance(found.get("costs"), dict) else {}
    return found | {"shares": _shares(found.get("confusion")), "layers": dicts(found.get("layers")), "images": images,
                    "costs": costs}


def _shares(matrix: object) -> list[tuple[str, list[tuple[str, float, float]]]]:
    """(category, [(category, count, share of the row)]) of each row; none for what is no matrix of the 8 classes."""
    if not isinstance(matrix, list) or len(matrix) != NUM_CLASSES or any(
            not isinstance(row, list) or len(row) != NUM_CLASSES for row in matrix):
        return []
    found = []
    for category, row in zip(CATEGORIES, matrix, strict=True):
        counts = [number(value) or 0 for value in row]
        total = sum(counts) or 1
        found.append((category, [(other, count, count / total)
                                 for other, count in zip(CATEGORIES, counts, strict=True)]))
    return found


def _parts(image: dict, out: Path) -> tuple[str, ...]:
    """The parts of an image's path if it is one of ours, below REPORT/images."""
    file = image.get("file")
    parts = PurePosixPath(file).parts if isinstance(file, str) else ()
    ours = len(parts) > 1 and parts[0] == "images" and ".." not in parts and Path(out, *parts).is_file()
    return parts if ours else ()
