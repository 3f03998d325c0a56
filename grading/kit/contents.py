"""What the starter kit consists of: a list of what goes in, so that a new room of the repository never slips in."""
import re
import subprocess
from pathlib import Path

from utils.lab import ROOT, TASKS, LabError

README = "grading/kit/README.md"  # the students' README.md
SUFFIX = ".py"  # of all files in FOLDERS
STUDENTS = {**{task.network_file.relative_to(ROOT).as_posix(): number for number, task in TASKS.items()},
            **{task.notebook: number for number, task in TASKS.items()}}  # file -> the task its solutions belong to
FILES = (*STUDENTS, "network/__init__.py", "network2/__init__.py", "test_task1.py", "test_task2.py", "Makefile",
         "requirements.txt", "requirements-dev.txt", "pyproject.toml", "LICENSE", ".gitignore", "data/README.md")
FOLDERS = ("utils", "dataset", "training", "figures", "handin", "tests/student")


def kit_files(root: Path) -> dict[str, Path]:
    """The kit's files by their names in it (with /), sorted, each with the file of the repository it is made from.

    Raises LabError for a file that is missing, and for one in FOLDERS that does not end in .py.
    """
    files = {name: root / name for name in FILES} | {"README.md": root / README}
    for name, path in files.items():
        if not path.is_file():
            raise LabError(f"expected {name} of the kit, found none at {path}: restore it, or take it out of "
                           "grading/kit/contents.py")
    for name in _committed_or_not_ignored(root):
        if name.startswith(tuple(f"{folder}/" for folder in FOLDERS)):
            if not name.endswith(SUFFIX):
                raise LabError(f"expected only {SUFFIX} files in the kit's folders, found {root / name}: remove it, or "
                               "let git ignore it")
            files[name] = root / name
    for name in re.findall(r"\bdocs/[\w./-]+\.png\b", files["README.md"].read_text(encoding="utf-8")):
        if not (root / name).is_file():
            raise LabError(f"expected the picture {name} that {README} shows, found none at {root / name}: restore it")
        files[name] = root / name
    return dict(sorted(files.items()))


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
    found = (path.relative_to(root) for folder in FOLDERS for path in (root / folder).rglob("*") if path.is_file())
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
