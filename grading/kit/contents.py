"""What the starter kit consists of, by rule: the students' files, whole rooms, their pages, and what these link to.

Rooms and files at the top are named, so that nothing new slips in; within a room every source travels. The students'
pages are grading/kit/*.md. They are filled with the course's numbers, and lie at the top of the kit, where their links
lead from.
"""
import json
import posixpath
import re
import subprocess
from pathlib import Path

import jinja2

from grading.course import Course
from utils.lab import FOM_OFFSET, ROOT, TASKS, LabError

PAGES = "grading/kit"
CONSTANTS = "utils/lab.py"
ROOMS = ("utils", "sample", "dataset", "training", "frontier", "figures", "handin", "tests/student")
SUFFIX = ".py"  # of all files in ROOMS
TOP = ("Makefile", "tasks.py", "requirements.lock", "requirements-torch.lock", "requirements.txt",
       "requirements-dev.txt", "pyproject.toml", "LICENSE", ".gitignore")
# A file that students write in -> the task its solutions belong to.
STUDENTS = {**{task.network_file.relative_to(ROOT).as_posix(): number for number, task in TASKS.items()},
            **{task.notebook: number for number, task in TASKS.items()}}
LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)")  # to a file; neither to the web nor within the page


def kit_files(root: Path) -> dict[str, Path]:
    """The kit's files by their names in it (with /), sorted, each with the file of the repository it is made from.

    Raises LabError for a file that is missing, for one in ROOMS that does not end in .py, and for a link to nothing.
    """
    networks = [posixpath.dirname(name) for name in STUDENTS if name.endswith(SUFFIX)]
    names = [*STUDENTS, *TOP, *(f"{folder}/__init__.py" for folder in networks),
             *(f"test_task{number}.py" for number in TASKS)]
    files = {name: root / name for name in names} | {"README.md": root / PAGES / "README.md"}
    files |= {path.name: path for path in (root / PAGES).glob("*.md")}
    for name, path in files.items():
        if not path.is_file():
            raise LabError(f"expected {name} of the kit, found none at {path}: restore it, or take it out of "
                           "grading/kit/contents.py")
    for name in _committed_or_not_ignored(root):
        if name.startswith(tuple(f"{room}/" for room in ROOMS)):
            if not name.endswith(SUFFIX):
                raise LabError(f"expected only {SUFFIX} files in the kit's rooms, found {root / name}: remove it, or "
                               "let git ignore it")
            files[name] = root / name
    _add_linked(files, root)
    return dict(sorted(files.items()))


def _add_linked(files: dict[str, Path], root: Path) -> None:
    """Adds the files that the pages link to, and those that these link to in their turn."""
    pages = [name for name in files if name.endswith(".md")]
    for page in pages:  # which grows
        for link in LINK.findall(read_text(files[page])):
            name = posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
            if name in files or any(file.startswith(f"{name}/") for file in files):
                continue
            if name.startswith(("..", "/")) or not (root / name).is_file():
                raise LabError(f"expected a file of the kit behind the link {link}, found none at {root / name}, in "
                               f"{files[page]}: restore it, or remove the link")
            files[name] = root / name
            pages += [name] if name.endswith(".md") else []


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LabError(f"expected a text in UTF-8, found: {error} in {path}: correct it") from None


def course_numbers(course: Course) -> dict[str, str]:
    """What the students' pages may name, as {{ name }}: thresholds, points (deductions as what they cost), deadline."""
    numbers = {f"task{number}_miou": f"{miou:g}" for number, miou in course.thresholds.items()}
    numbers |= {f"points_{key}": f"{abs(points):g}" for key, points in course.points.items()}
    at = course.deadline
    deadline = f"{at:%Y-%m-%d %H:%M} ({at.tzname()})" if at else "your teacher will tell you"
    return numbers | {"fom_offset": f"{FOM_OFFSET:g}", "deadline": deadline}


def fill_page(text: str, file: str, numbers: dict[str, str]) -> str:
    """A page with the course's numbers in it. Raises LabError for a number that there is none of."""
    try:
        environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
        return environment.from_string(text).render(numbers)
    except jinja2.TemplateError as error:
        raise LabError(f"expected only {', '.join(numbers)} between double braces, found: {error} in {file}: correct "
                       "it there") from None


def fill_number(text: str, file: str, course: Course) -> str:
    """The lab's constants with the course's form of a student's number, by which the students' check goes."""
    for name, value in (("STUDENT_NUMBER", course.number), ("STUDENT_NUMBER_FORM", course.number_words)):
        lines = re.findall(rf"^{name} = .*\n", text, re.MULTILINE)
        if len(lines) != 1:
            raise LabError(f"expected one line {name} = ..., found {len(lines)} in {file}: correct it there")
        text = text.replace(lines[0], f"{name} = {json.dumps(value, ensure_ascii=False)}\n")
    return text


def fill_address(notebook: str, file: str, address: str) -> str:
    """A notebook's text with the kit's address in its first cell. Raises LabError where that cell lacks the place."""
    place = json.dumps('kit = ""')[1:-1]
    if notebook.count(place) != 1:
        raise LabError(f'expected kit = "" once in {file}, found it {notebook.count(place)} times: restore the cell')
    return notebook.replace(place, json.dumps(f'kit = "{address}"')[1:-1])


def version(root: Path, files: dict[str, Path]) -> str:
    """The commit that the kit is made from, "-dirty" where one of its files differs from it; or "unversioned"."""
    commit = _git(root, "rev-parse", "--short", "HEAD") if _is_checkout(root) else ""
    changed = commit and _git(root, "status", "--porcelain", "--", *map(str, files.values()))
    return commit.strip() + ("-dirty" if changed else "") or "unversioned"


def _committed_or_not_ignored(root: Path) -> list[str]:
    """Names below `root`, of files that git tracks or would track; without git, of all but caches and hidden ones."""
    if _is_checkout(root):
        listed = _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
        return sorted(name for name in listed if name and (root / name).is_file())
    found = (path.relative_to(root) for room in ROOMS for path in (root / room).rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in found
                  if not any(part.startswith(".") or part == "__pycache__" for part in path.parts))


def _is_checkout(root: Path) -> bool:
    """Whether `root` itself is a git checkout, not merely a folder in one."""
    top = _git(root, "rev-parse", "--show-toplevel").strip()
    return bool(top) and Path(top).resolve() == root.resolve()


def _git(root: Path, *arguments: str) -> str:
    """What git answers; nothing where there is no git, or no checkout."""
    try:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, encoding="utf-8",
                              check=False).stdout
    except FileNotFoundError:
        return ""
