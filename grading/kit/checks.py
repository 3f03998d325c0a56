"""What must hold for a staged kit besides that its solutions are gone (leaks.py, which is called here as well)."""
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
from IPython.core.inputtransformer2 import TransformerManager

from grading.kit.leaks import Text, find_leaks
from grading.kit.strip import LIKE_A_MARKER, Block, place
from utils.lab import LabError

TEACHERS = ("grading", "gallery", "benchmarks", "runs", ".ci", ".git", ".venv")
SUFFIXES = (".py", ".ipynb", ".md", ".txt", ".toml", ".json", ".png")  # weights, arrays and archives are none of these
PLAIN = ("Makefile", "LICENSE", ".gitignore")
A_MACHINES_PATH = re.compile(r"(?<![\w.])/(?:root|home|Users|work)/")


def check_kit(kit: Path, names: list[str], blocks: list[Block], root: Path) -> None:
    """Raises LabError for the first thing in the kit staged in the folder `kit` that must not be handed out.

    names: all its files; blocks: what was stripped; root: the repository's folder, which no file may name.
    """
    for name in names:
        _check_name(name)
    messages = {}
    for block in filter(lambda block: block.task, blocks):
        other = messages.setdefault(block.message, block)
        if other is not block:
            raise LabError(f"expected another name for each part of {block.file}, found {block.name!r} twice in "
                           f"{other.place()} and {block.place()}: rename one")
    texts = list(read_texts(kit, names))
    for text in texts:
        _check_text(text, root)
    leaks = find_leaks(blocks, texts)
    if leaks:
        more = f" (and {len(leaks) - 1} more)" if len(leaks) > 1 else ""
        raise LabError(f"expected no line of a solution in the kit, found one: {leaks[0]}{more}: say it in other "
                       "words, or put markers around it")


def read_texts(kit: Path, names: list[str]) -> Iterator[Text]:
    """The kit's texts: each file but pictures, of a notebook each cell. Raises LabError if one is not UTF-8."""
    for name in names:
        if name.endswith(".png"):
            continue
        try:
            text = (kit / name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise LabError(f"expected UTF-8, found another encoding in {name}: save it as UTF-8") from None
        if not name.endswith(".ipynb"):
            yield Text(name, 0, text)
            continue
        for number, cell in enumerate(nbformat.reads(text, as_version=4).cells, 1):
            yield Text(name, number, cell.source)
            if cell.cell_type == "code":
                if cell.outputs or cell.execution_count is not None:
                    raise LabError(f"expected no outputs, found some in {name}, cell {number}: clear them")
                _compile(TransformerManager().transform_cell(cell.source), name, number)


def _check_name(name: str) -> None:
    parts = name.split("/")
    if parts[0] in TEACHERS or (parts[0] == "tests" and parts[1] != "student"):
        raise LabError(f"expected nothing of the teacher's in the kit, found {name}: take it out of "
                       "grading/kit/contents.py")
    if not name.endswith(SUFFIXES) and name not in PLAIN:
        raise LabError(f"expected sources only, found {name}, which may be weights, data or an archive: take it out of "
                       "grading/kit/contents.py")


def _check_text(text: Text, root: Path) -> None:
    here = [str(folder) for folder in (root.resolve(), Path.home()) if len(folder.parts) > 1]
    for number, line in enumerate(text.text.split("\n"), 1):
        if LIKE_A_MARKER.search(line):
            raise LabError(f"expected no marker in the kit, found {line.strip()!r} in "
                           f"{place(text.file, text.cell, number)}: say it in other words")
        if A_MACHINES_PATH.search(line) or any(f"{folder}/" in line for folder in here):
            raise LabError(f"expected no path of a machine in the kit, found one in "
                           f"{place(text.file, text.cell, number)}: make it relative")
    if text.file.endswith(".py"):
        _compile(text.text, text.file)


def _compile(code: str, file: str, cell: int = 0) -> None:
    try:
        compile(code, file, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        where = place(file, cell, getattr(error, "lineno", None) or 1)
        raise LabError(f"expected Python in the kit, found {error} in {where}: put the markers around whole "
                       "statements") from None
