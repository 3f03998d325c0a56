"""The kit's fixed files: a manifest of their checksums travels with the kit and shows which of them were changed.

The grader uses its own copies of these files, so a change in them gains nothing. But with changed files a student may
measure other figures than the grader.
"""
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from utils.files import write_json
from utils.lab import ROOT, TASKS, LabError

MANIFEST = Path("handin", "manifest.json")  # in a released kit only
STUDENTS = {task.network_file.relative_to(ROOT).as_posix() for task in TASKS.values()}


def is_fixed(name: str) -> bool:
    """Whether a file of the kit, by its path in it (with /), is code that is not the student's: all but two files."""
    return name.endswith(".py") and name not in STUDENTS and not name.startswith("tests/")


def checksum(path: Path) -> str:
    """SHA-256 in hexadecimal of a text file, the same for LF and CR LF line ends."""
    return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def write_manifest(root: Path, names: Iterable[str], version: str) -> None:
    """Writes the manifest of the kit in `root`: the checksums of the files `names`, the fixed ones for themselves."""
    sums = {name: checksum(root / name) for name in sorted(names)}
    write_json(root / MANIFEST, {"version": version,
                                 "files": {name: known for name, known in sums.items() if is_fixed(name)},
                                 "others": {name: known for name, known in sums.items() if not is_fixed(name)}})


def read_manifest(root: Path) -> dict:
    """Of the kit in `root`: "version"; "files", the checksums of the fixed files; "checksums", those of all.

    Raises LabError where there is no manifest, or a damaged one.
    """
    path = root / MANIFEST
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        files = dict(read["files"])
        return {"version": str(read["version"]), "files": files, "checksums": {**read.get("others", {}), **files}}
    except FileNotFoundError:
        raise LabError(f"expected the folder of a kit, found no {MANIFEST.as_posix()} in {root}: take the kit that "
                       "your course handed out") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise LabError(f"expected the kit's checksums, found a damaged file at {path}: "
                       "take it from the hand-out again") from None


def changed_files(root: Path = ROOT) -> list[str] | None:
    """What differs from the manifest, each as "NAME was changed" or "NAME is missing"; None where there is no manifest.

    Raises LabError for a manifest that cannot be read.
    """
    if not (root / MANIFEST).is_file():
        return None
    fixed = read_manifest(root)["files"]
    states = {name: "is missing" if not (root / name).is_file()
              else "was changed" if checksum(root / name) != expected else "" for name, expected in fixed.items()}
    return [f"{name} {state}" for name, state in states.items() if state]
