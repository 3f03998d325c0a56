"""Checks a staged kit: names, texts, code, machine paths, and (by leaks.py) that its solutions are gone."""
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import nbformat
from IPython.core.inputtransformer2 import TransformerManager

from grading.kit.leaks import Text, find_leaks
from grading.kit.strip import LIKE_A_MARKER, StrippedBlock, place
from utils.lab import LabError

TEACHERS = ("grading", "gallery", "benchmarks", "runs", ".ci", ".git", ".venv")
SUFFIXES = (".py", ".ipynb", ".md", ".txt", ".lock", ".toml", ".json", ".png")  # no weights, arrays, archives
PLAIN = ("Makefile", "LICENSE", ".gitignore")
IMPORT = re.compile(r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import\b|import[ \t]+([\w., \t]+))", re.MULTILINE)
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:root|home|Users|work)/")


def check_kit(kit: Path, names: list[str], blocks: list[StrippedBlock], root: Path) -> None:
    """Raises LabError for the first thing in the folder `kit` that must not be handed out.

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
    paths = [PurePosixPath(name) for name in names if name.endswith(".py")]
    modules = {".".join(path.with_suffix("").parts) for path in paths}
    modules |= {".".join(folder.parts) for path in paths for folder in path.parents}
    for text in texts:
        _check_text(text, root)
        if text.file.endswith((".py", ".ipynb")):
            _check_imports(text, modules)
    leaks = find_leaks(blocks, texts)
    if leaks:
        more = f" (and {len(leaks) - 1} more)" if len(leaks) > 1 else ""
        raise LabError(f"expected no line of a solution in the kit, found one: {leaks[0]}{more}: say it in other "
                       "words, or put markers around it")


def read_texts(kit: Path, names: list[str]) -> Iterator[Text]:
    """The kit's texts: each file but images, of a notebook each cell. Raises LabError for a cell with outputs."""
    for name in names:
        if name.endswith(".png"):
            continue
        text = (kit / name).read_text(encoding="utf-8")
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
                       "grading/kit/contents.py, or remove the link to it")
    if not name.endswith(SUFFIXES) and name not in PLAIN:
        raise LabError(f"expected sources only, found {name}, which may be weights, data or an archive: take it out of "
                       "grading/kit/contents.py, or remove the link to it")


def _check_text(text: Text, root: Path) -> None:
    here = [str(folder) for folder in (root.resolve(), Path.home()) if len(folder.parts) > 1]
    for number, line in enumerate(text.text.split("\n"), 1):
        if LIKE_A_MARKER.search(line):
            raise LabError(f"expected no marker in the kit, found {line.strip()!r} in "
                           f"{place(text.file, text.cell, number)}: say it in other words")
        if MACHINE_PATH.search(line) or any(f"{folder}/" in line for folder in here):
            raise LabError(f"expected no path of a machine in the kit, found one in "
                           f"{place(text.file, text.cell, number)}: write a relative path")
    if text.file.endswith(".py"):
        _compile(text.text, text.file)


def _check_imports(text: Text, modules: set[str]) -> None:
    """Raises LabError where a file or a cell imports a module of the repository that is not in the kit."""
    rooms = {module.split(".")[0] for module in modules if module} | set(TEACHERS)
    for found in IMPORT.finditer(text.text):
        for name in (found[1] or found[2]).split(","):
            name = name.split()[0] if name.split() else ""
            if name.split(".")[0] in rooms and name not in modules:
                line = text.text.count("\n", 0, found.end()) + 1
                raise LabError(f"expected the kit's own modules alone, found {name} imported in "
                               f"{place(text.file, text.cell, line)}: let it travel (grading/kit/contents.py), or "
                               "remove the import")


def _compile(code: str, file: str, cell: int = 0) -> None:
    try:
        compile(code, file, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        where = place(file, cell, getattr(error, "lineno", None) or 1)
        raise LabError(f"expected Python in the kit, found {error} in {where}: put the markers around whole "
                       "statements") from None
