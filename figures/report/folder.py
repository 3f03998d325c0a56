"""A folder of results that is there as a whole or not at all, and that never costs a student their own writing."""
import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from utils.lab import LabError

LIST = "made.json"  # in the folder: the files that the command wrote, each with its digest


def check_folder(out: Path) -> None:
    """Raises LabError unless `out` may be written: not there, empty, or made by this command before."""
    near = next((folder for folder in Path(out).resolve().parents if folder.exists()), Path("/"))
    if not near.is_dir() or not os.access(near, os.W_OK | os.X_OK):
        found = "one that may not be written" if near.is_dir() else "a file"
        raise LabError(f"expected a folder to write {out} in, found {found} at {near}: pass another --out")
    if out.exists() and not out.is_dir():
        raise LabError(f"expected a folder to write to, found a file at {out}: pass another --out")
    if out.is_dir() and any(out.iterdir()):
        _listed(out)


@contextlib.contextmanager
def renewing(out: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yields a temporary folder beside `out` and a list; when the block ends well the folder takes the place of `out`.

    Files of the old folder that the command did not write, or that were changed since, are kept; where a new one has
    the same name, the new one gets "-new" at the end of its own. Their names are added to the list. If the block fails
    or is interrupted, `out` stays as it was.
    """
    out = Path(out).resolve()
    temporary = out.with_name(f".{out.name}.{os.getpid()}.part")
    kept: list[str] = []
    try:
        check_folder(out)
        temporary.mkdir(parents=True)
        yield temporary, kept
        own = _keep_own(out, temporary) if out.is_dir() else []
        made = {path.relative_to(temporary).as_posix(): _digest(path) for path in _files(temporary)}
        made = {name: digest for name, digest in made.items() if name not in own}
        (temporary / LIST).write_text(json.dumps(made, indent=1, ensure_ascii=False), encoding="utf-8")
        _swap(temporary, out)
        kept += own
    except OSError as error:
        raise LabError(f"expected to write {out}, found: {error.strerror}; what was there before is untouched: free "
                       "some space or choose another place with --out") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _keep_own(out: Path, temporary: Path) -> list[str]:
    """Copies what is the student's own in `out` into the new folder; its names."""
    listed, own = _listed(out) if any(out.iterdir()) else {}, []
    for path in _files(out):
        name = path.relative_to(out).as_posix()
        if name == LIST or listed.get(name) == _digest(path):
            continue
        place = temporary / name
        if place.exists():
            if _digest(place) == _digest(path):
                continue
            place.replace(place.with_name(f"{place.stem}-new{place.suffix}"))
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, place)
        own.append(name)
    return own


def _swap(temporary: Path, out: Path) -> None:
    """`temporary` takes the place of `out`, which is put back if that fails half-way."""
    aside = temporary.with_name(temporary.name.removesuffix(".part") + ".old.part")
    if not out.exists():
        temporary.replace(out)
        return
    out.replace(aside)
    try:
        temporary.replace(out)
    except BaseException:
        aside.replace(out)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _listed(out: Path) -> dict[str, str]:
    """The files that the command wrote into `out`. Raises LabError for a folder that it did not make."""
    try:
        listed = json.loads((out / LIST).read_text(encoding="utf-8"))
        return {str(name): str(digest) for name, digest in listed.items()}
    except (OSError, ValueError, AttributeError):
        found = ", ".join(sorted(path.name for path in out.iterdir())[:3])
        raise LabError(f"expected an empty folder, or one that python -m figures.report made, found {found} in {out}: "
                       "pass another --out") from None


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
