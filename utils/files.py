"""Files are written beside their place and renamed into it, so that nobody ever sees half of one."""
import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from utils.lab import LabError


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
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise LabError(f"expected to write {path}, found: {error.strerror}; what was there before is untouched: "
                       "free some space or choose another place") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_json(path: Path | str, content: object) -> None:
    """Writes `content` as UTF-8 JSON, atomically."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
