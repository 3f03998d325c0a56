"""The report's folder: an interruption leaves it as it was, and the student's own files in it are never touched."""
import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from utils.files import write_json
from utils.lab import LabError

LIST = "made.json"  # in the folder: the files that the command wrote, each with its checksum


def check_folder(out: Path) -> None:
    """Raises LabError unless `out` may be written: not there, empty, or made by this command before."""
    near = next(folder for folder in (out.resolve(), *out.resolve().parents) if folder.exists())
    if not near.is_dir() or not os.access(near, os.W_OK | os.X_OK):
        found = "one that may not be written" if near.is_dir() else "a file"
        raise LabError(f"expected a folder to write {out} in, found {found} at {near}: pass another --out")
    _listed(out)


@contextlib.contextmanager
def renewing(out: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yields a temporary folder and a list; when the block ends well, the folder's files move into `out`.

    They replace what the command wrote before; what it does not write any more is removed. A file that the student
    added or changed is kept and its name added to the list; a new file of that name gets "-new" at the end of its own.
    """
    out = Path(out).resolve()
    kept: list[str] = []
    try:
        check_folder(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", suffix=".part", dir=out.parent) as temporary:
            yield Path(temporary), kept
            kept += _move(Path(temporary), out)
    except OSError as error:
        raise LabError(f"expected to write {out}, found: {error.strerror}; your own files in it are untouched: free "
                       "some space or choose another place with --out") from None


def _move(temporary: Path, out: Path) -> list[str]:
    """Moves the files of `temporary` into `out`; the names of the student's own files there."""
    made, there, new = _listed(out), _checksums(out), _checksums(temporary)
    own = [name for name, checksum in there.items() if checksum not in (made.get(name), new.get(name)) and name != LIST]
    written = {}
    try:
        for name, checksum in new.items():
            place = out / name
            if name in own:
                place = place.with_name(f"{place.stem}-new{place.suffix}")
            place.parent.mkdir(parents=True, exist_ok=True)
            (temporary / name).replace(place)
            written[place.relative_to(out).as_posix()] = checksum
        for name in made.keys() - {*written, *own}:
            (out / name).unlink(missing_ok=True)
    finally:
        write_json(out / LIST, made | written)
    return own


def _listed(out: Path) -> dict[str, str]:
    """The files that the command wrote into `out`, none if it is empty. Raises LabError for another's folder."""
    if not out.exists() or not any(out.iterdir()):
        return {}
    try:
        listed = json.loads((out / LIST).read_text(encoding="utf-8"))
        return {str(name): str(checksum) for name, checksum in listed.items()}
    except (OSError, ValueError, AttributeError):
        found = ", ".join(sorted(path.name for path in out.iterdir())[:3])
        raise LabError(f"expected an empty folder, or one that python -m figures.report made, found {found} in {out}: "
                       "pass another --out") from None


def _checksums(folder: Path) -> dict[str, str]:
    """The files in `folder`, by their paths below it."""
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*")) if path.is_file()}
