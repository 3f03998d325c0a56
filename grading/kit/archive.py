"""Writes and unpacks archives. The same files give the same bytes: one fixed time, no owner."""
import gzip
import shutil
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from utils.lab import LabError

FORMATS = {".tar": "tar", ".tar.gz": "gztar", ".tgz": "gztar", ".zip": "zip"}  # suffix -> shutil's name for it
TIME = 315_619_200  # 1980-01-02 in seconds; a zip knows no earlier year
MODE = 0o644


def split_suffix(out: Path) -> tuple[str, str]:
    """An archive's name without its suffix, and shutil's name of its format. Raises LabError for another suffix."""
    for suffix, kind in FORMATS.items():
        if out.name.endswith(suffix) and out.name != suffix:
            return out.name.removesuffix(suffix), kind
    raise LabError(f"expected an archive's name ending in {', '.join(FORMATS)}, found {str(out)!r}: "
                   "choose one, DL_Lab5.tar say")


def write_archive(target: Path, kind: str, top: str, files: Iterable[tuple[str, Path]]) -> None:
    """Writes `files`, (name, path) in this order, below one folder `top`; follows links.

    Raises LabError for a file that cannot be read, and OSError where the archive cannot be written.
    """
    if kind == "zip":
        with zipfile.ZipFile(target, "w") as archive:
            for name, path in files:
                with _reading(path) as source:
                    info = zipfile.ZipInfo(f"{top}/{name}", (1980, 1, 2, 0, 0, 0))
                    info.external_attr, info.create_system, info.file_size = MODE << 16, 3, source.left
                    info.compress_type = zipfile.ZIP_STORED if name.endswith(".png") else zipfile.ZIP_DEFLATED
                    with archive.open(info, "w") as member:
                        shutil.copyfileobj(source, member, 1 << 20)
        return
    with target.open("wb") as raw, _compressed(raw, kind) as stream, \
            tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, path in files:
            with _reading(path) as source:
                info = tarfile.TarInfo(f"{top}/{name}")
                info.size, info.mtime, info.mode = source.left, TIME, MODE
                archive.addfile(info, source)


def unpack_archive(path: Path, kind: str, folder: Path) -> None:
    """Unpacks an archive of our own into `folder`."""
    safe = {"filter": "data"} if kind != "zip" and hasattr(tarfile, "data_filter") else {}
    shutil.unpack_archive(path, folder, kind, **safe)


@contextmanager
def _compressed(raw: BinaryIO, kind: str) -> Iterator[BinaryIO]:
    if kind == "tar":
        yield raw
    else:
        with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=raw, mtime=TIME) as stream:
            yield stream


class _Source:
    """A file, read up to the size it had when it was opened; raises LabError where that fails."""

    def __init__(self, path: Path, file: BinaryIO, size: int) -> None:
        self.path, self.file, self.left = path, file, size

    def read(self, size: int = -1) -> bytes:
        wanted = self.left if size < 0 else min(size, self.left)
        try:
            data = self.file.read(wanted)
        except OSError as error:
            raise _unreadable(self.path, error.strerror) from None
        if len(data) < wanted:
            raise _unreadable(self.path, "that it became shorter")
        self.left -= len(data)
        return data


@contextmanager
def _reading(path: Path) -> Iterator[_Source]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise _unreadable(path, error.strerror) from None
    with file:
        yield _Source(path, file, path.stat().st_size)


def _unreadable(path: Path, reason: str) -> LabError:
    return LabError(f"expected to read {path}, found: {reason}: make it readable, and try again")
