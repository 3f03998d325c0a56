"""Files are written beside their place and renamed into it, so that nobody ever sees half of one; and hidden files."""
import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from utils.lab import LabError

# Read once: it can be read only by setting it, which between threads would let files out that all may write.
UMASK = os.umask(0o077)
os.umask(UMASK)

# What systems and editors leave behind; nobody means to hand it in, and it is never data.
JUNK = {"__macosx", "__pycache__", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin",
        "system volume information"}


def is_junk(name: str) -> bool:
    """Whether a file or folder name is of those that systems and editors leave behind."""
    return name.startswith((".", "~$")) or name.casefold() in JUNK


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yields a temporary path in `path`'s folder; when the block ends well it is flushed and renamed to `path`.

    If the block fails or is interrupted, the temporary file is removed and what was at `path` stays as it was. A
    full disk or a folder that cannot be written becomes a LabError.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~UMASK)
        temporary.replace(path)
    except OSError as error:
        raise LabError(f"expected to write {path}, found: {error.strerror}; what was there before is untouched: "
                       "free some space or choose another place") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_json(path: Path | str, content: object) -> None:
    """Writes `content` as UTF-8 JSON, atomically; bytes of a path that are not UTF-8 become escapes."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def full_path(path: Path | str) -> str:
    """An absolute path for a message about a file that is not there, with a word on a \\ in it."""
    hint = " (with \\ in its name: folders are parted by /)" if os.sep == "/" and "\\" in str(path) else ""
    return f"{Path(path).absolute()}{hint}"


def move_aside(folder: Path, advice: str) -> None:
    """Renames a run's folder to `<folder>.previous`, which replaces an earlier one. A LabError ends in `advice`."""
    previous = folder.with_name(f"{folder.name}.previous")
    try:
        if previous.exists():
            shutil.rmtree(previous)
        folder.rename(previous)
    except OSError as error:
        raise LabError(f"expected to move the older run in {folder} to {previous}, found: {error.strerror}: move it "
                       f"away, or {advice}") from None
