"""The pages: links, commands, options, settings, paths and numbers in them exist."""
import contextlib
import functools
import importlib.util
import io
import re
import runpy
import shlex
import sys
from pathlib import Path

import nbformat
import papermill
import pytest
from conftest import ROOT, load_file

from grading.course import read_course
from utils.lab import FOM_OFFSET, TASKS

KIT = ROOT / "grading" / "kit"
NOTEBOOKS = [ROOT / task.notebook for task in TASKS.values()]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md")),
         ROOT / "data/README.md", ROOT / "gallery/README.md", *sorted(KIT.glob("*.md")), *NOTEBOOKS]
LAB = {path.name for path in ROOT.iterdir() if (path / "__init__.py").is_file()}
ELSEWHERE = ("runs", "report", "data", "REPORT")  # what a person's own work makes
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]


@functools.cache
def text_of(page: Path) -> str:
    if page.suffix == ".md":
        return page.read_text(encoding="utf-8")
    return "\n\n".join(cell.source for cell in nbformat.read(page, as_version=4).cells if cell.cell_type == "markdown")


def place(page: Path, target: str) -> Path:
    """Where a link or path of a page leads; the kit's pages lie at the top of the kit."""
    if KIT not in page.parents:
        return page.parent / target
    return KIT / target if (KIT / target).is_file() else ROOT / target


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^    .*$", "", text_of(path), flags=re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = place(page, name) if name else page
        assert path.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(path), f"{page.name} links to {target}, of {sorted(anchors(path))}"


# --- commands -----------------------------------------------------------------------------------------------------


def commands(page: Path) -> list[list[str]]:
    """The words behind `python` of each command, in code blocks and between backticks."""
    text = text_of(page).replace("\\\n", " ")
    code = re.findall(r"^    (.*)$", text, re.MULTILINE)
    prose = re.sub(r"^    .*$", "", text, flags=re.MULTILINE)
    code += [span.replace("\n", " ") for span in re.findall(r"`([^`]+)`", prose)]
    found = [re.search(r"(?:python |torchrun .*?(?=-m ))((?:-m )?[\w./-]+(?: .*)?)$", line.split(" # ")[0].rstrip())
             for line in code]
    return [shlex.split(match[1]) for match in found if match]


@functools.cache
def help_of(*words: str) -> str:
    """What `python WORDS --help` prints."""
    module = words[0] == "-m"
    name, *rest = words[1:] if module else words
    before, shown = sys.argv, io.TextIOWrapper(io.BytesIO(), "utf-8")  # which commands reconfigure
    sys.argv = [name, *rest, "--help"]
    try:
        with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
            (runpy.run_module if module else runpy.run_path)(name, run_name="__main__")
    finally:
        sys.argv = before
    shown.flush()
    return shown.buffer.getvalue().decode()


def helps(words: list[str]) -> str:
    """The help of a lab command, of its subcommand where it has one; nothing for a command of another package."""
    base, rest = (words[:2], words[2:]) if words[0] == "-m" else (words[:1], words[1:])
    if words[0] == "-m" and words[1].split(".")[0] not in LAB:
        return ""
    shown = help_of(*base)
    return help_of(*base, rest[0]) if rest and re.search(rf"^    {rest[0]}\b", shown, re.MULTILINE) else shown


def knows(shown: str, option: str) -> bool:
    return re.search(rf"(?<![\w-]){option}(?![\w-])", shown) is not None


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_exist_and_know_their_options(page):
    of_the_page = ""
    for words in commands(page):
        name = words[words[0] == "-m"]
        found = importlib.util.find_spec(name) if words[0] == "-m" else (ROOT / name).is_file()
        assert found, f"{page.name}: python {' '.join(words)}"
        shown = helps(words)
        of_the_page += shown
        for option in [word for word in words[1:] if shown and re.fullmatch(r"--?[a-z][\w-]*", word)]:
            assert knows(shown, option) or option == "-m", f"{page.name}: {' '.join(words)}: {option}"
    for option in re.findall(r"`(--[a-z][\w-]*)", text_of(page)):
        assert knows(of_the_page, option), f"{page.name}: {option} is known by no command of the page"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_settings_of_notebooks_exist(page):
    for words in commands(page):
        given = [words[index + 1] for index, word in enumerate(words[:-1]) if word == "-p"]
        books = [ROOT / word for word in words if word.endswith(".ipynb")] or NOTEBOOKS[1:]
        known = {name for book in books for name in settings_of(book)}
        assert set(given) <= known, f"{page.name}: {' '.join(words)}"


def settings_of(notebook: Path) -> set[str]:
    """Read apart from the lab's own reading: of the settings cell by papermill, of the recipe by its words."""
    recipe = re.search(r'"recipe = dict\((.*?)\)"', notebook.read_text(encoding="utf-8"), re.DOTALL)
    return {*papermill.inspect_notebook(notebook), *re.findall(r"\b([A-Z][A-Z_]+) ?=", recipe[1] if recipe else "")}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_make_targets_exist(page):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for target in re.findall(r"(?:^    |`)make ([a-z-]+)", text_of(page), re.MULTILINE):
        assert target in targets, f"{page.name}: make {target}"


# --- paths and numbers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_paths_exist_and_hold_what_is_named(page):
    """`room/file.py` exists, and `room/file.py: name` is defined there."""
    for span in re.findall(r"`([\w.*-]+/[\w.*/-]*(?:: \w+)?)`", text_of(page)):
        path, _, name = span.partition(": ")
        room = path.split("/")[0]
        if room in ELSEWHERE or "NAME" in path or (page.parent.name, room) == ("data", "training"):
            continue
        if not ((ROOT / room).exists() or re.search(r"\.(py|md|toml|ipynb)$", path)):
            continue
        found = [file for file in (*ROOT.glob(path), place(page, path)) if file.exists()]
        assert found, f"{page.name} names {path}"
        if name:
            assert re.search(rf"^(?:class|def) {name}\b|^    def {name}\b|^{name}\b.*=", found[0].read_text("utf-8"),
                             re.MULTILINE), f"{page.name} names {span}"


def test_the_readmes_numbers_are_the_labs():
    """README.md is the only page that has them as text; the kit's pages are filled."""
    readme, points = text_of(ROOT / "README.md"), read_course().points
    for line in (f"| mIoU to reach | {TASKS[1].miou:g} | {TASKS[2].miou:g} |",
                 f"FLOPs² x size² / (mIoU - {FOM_OFFSET:g})",
                 f"| points | {points['task1']:g} | {points['task2']:g} for the mIoU, up to {points['rank']:g} for",
                 f"The report gives up to {points['report']:g} points"):
        assert line in readme, "renew The two tasks in README.md"


def test_the_architecture_shows_the_imports_that_are_allowed():
    """Its arrows are those of MAY_IMPORT that no way through other rooms replaces."""
    allowed = load_file(ROOT / "tests/docs/test_structure.py").MAY_IMPORT
    diagram = text_of(ROOT / "docs/architecture.md").split("```mermaid")[1].split("```")[0]
    shown = {(room, other) for room, others in re.findall(r"^ *(\w+) --> ([\w &]+)$", diagram, re.MULTILINE)
             for other in others.split(" & ")}

    def reach(room: str) -> set[str]:
        return set().union(*({other} | reach(other) for other in allowed.get(room, ())))

    assert shown == {(room, other) for room, others in allowed.items() for other in others
                     if not any(other in reach(between) for between in others)}


@pytest.mark.parametrize(("page", "most"), [(ROOT / "README.md", 130), (KIT / "README.md", 110)])
def test_a_page_stays_short(page, most):
    assert len(text_of(page).splitlines()) <= most
