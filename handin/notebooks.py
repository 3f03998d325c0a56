"""Notebooks as they are handed in: valid, and run in order, to the end, without an error. Nothing is executed."""
import json
import warnings
from itertools import pairwise
from pathlib import Path

import nbformat

from handin.findings import DoubtError
from utils.lab import LabError

RUN_ALL = "choose Restart Kernel and Run All Cells (with RESUME = True a finished run is not trained again), then save"


def read_notebook(path: Path) -> nbformat.NotebookNode:
    """The notebook in `path`, converted to nbformat 4. Raises LabError if it is not UTF-8, not JSON or no notebook."""
    again = "save it again in Jupyter (File, Save Notebook)"
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise LabError(f"expected a notebook in UTF-8, found byte {error.object[error.start]:#x} at {error.start} in "
                       f"{path.name}: {again}") from None
    except OSError as error:
        raise LabError(f"expected a notebook that can be read, found {error.strerror} at {path.name}") from None
    try:
        content = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        raise LabError(f"expected a notebook, found no JSON from line {line} of {path.name} on: {again}") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cells without ids, which older Jupyters leave out
        try:
            book = nbformat.reads(text, as_version=4) if isinstance(content, dict) else None
            nbformat.validate(book, relax_add_props=True)  # cells with ids in nbformat 4.4: Jupyter opens them
        except (nbformat.ValidationError, nbformat.reader.NotJSONError, AttributeError, KeyError, TypeError,
                ValueError):
            raise LabError(f"expected a notebook, found other JSON in {path.name}: {again}") from None
    return book


def code_cells(book: nbformat.NotebookNode) -> list[tuple[int, nbformat.NotebookNode]]:
    """The code cells that are not empty, each with its place among all cells, counted from 1."""
    return [(place, cell) for place, cell in enumerate(book.cells, 1)
            if cell.cell_type == "code" and cell.source.strip()]


def check_notebook(path: Path) -> str:
    """A line about the notebook in `path`. Raises LabError unless all of it was run, in order, without an error."""
    cells, name = code_cells(read_notebook(path)), path.name
    if not cells:
        raise LabError(f"expected code cells, found none in {name}: is it the right file?")
    counts = [cell.execution_count for _, cell in cells]
    if not any(counts):
        raise LabError(f"expected a notebook that was run, found none of its {len(cells)} code cells executed in "
                       f"{name}: {RUN_ALL}")
    for place, cell in cells:
        failed = [output for output in cell.outputs if output.output_type == "error"]
        if failed:
            raise LabError(f"expected a run without errors, found {failed[0].ename} in cell {place} of {name}: "
                           f"mend it, then {RUN_ALL}")
    left_out = [place for place, cell in cells if not cell.execution_count]
    if left_out:
        raise LabError(f"expected every code cell to be run, found cell {left_out[0]} of {name} left out "
                       f"({len(left_out)} of {len(cells)}): {RUN_ALL}")
    for (_, before), (place, cell) in pairwise(cells):
        if cell.execution_count <= before.execution_count:
            raise LabError(f"expected cells run from top to bottom, found cell {place} of {name} run as "
                           f"[{cell.execution_count}] after [{before.execution_count}]: {RUN_ALL}")
    if counts[-1] != len(counts):
        raise DoubtError(f"expected cells counted from 1 to {len(counts)}, as a fresh run does, found {counts[0]} to "
                         f"{counts[-1]} in {name}: to be sure, {RUN_ALL}")
    return f"{name}: {len(cells)} code cells, run in order"
