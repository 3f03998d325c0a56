"""The kit's fixed files: a manifest of their checksums travels with the kit and tells which of them were changed.

A graded figure is read with the lab's own copies of these files, so a change in them is worth nothing; but what a
student measured with changed ones may not be what the grader will read.
"""
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from utils.files import write_json
from utils.lab import ROOT, LabError

MANIFEST = Path("handin", "manifest.json")  # in a released kit only
FIXED = ("test_task1.py", "test_task2.py", "utils/", "dataset/", "training/", "handin/")  # files, or whole folders


def is_fixed(name: str) -> bool:
    """Whether a file of the kit, by its path within it (with /), is one that a student must not change."""
    return name.startswith(FIXED) and name.endswith(".py")


def checksum(path: Path) -> str:
    """SHA-256 in hexadecimal of a text file, whichever way its lines end."""
    return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def write_manifest(root: Path, names: Iterable[str], version: str) -> None:
    """Writes the manifest of a kit in the folder `root`: the checksums of those of its files that are fixed."""
    fixed = {name: checksum(root / name) for name in sorted(names) if is_fixed(name)}
    write_json(root / MANIFEST, {"version": version, "files": fixed})


def changed_files(root: Path = ROOT) -> list[str] | None:
    """What differs from the manifest, each as "NAME was changed" or "NAME is missing"; None where there is no manifest.

    Raises LabError for a manifest that cannot be read.
    """
    path = root / MANIFEST
    if not path.is_file():
        return None
    try:
        fixed = dict(json.loads(path.read_text(encoding="utf-8"))["files"])
    except (ValueError, KeyError, TypeError):
        raise LabError(f"expected the kit's checksums, found a damaged file at {path}: "
                       "take it from the hand-out again") from None
    states = {name: "is missing" if not (root / name).is_file()
              else "was changed" if checksum(root / name) != expected else "" for name, expected in fixed.items()}
    return [f"{name} {state}" for name, state in states.items() if state]
