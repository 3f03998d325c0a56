"""Lists what lies in a folder or zip, by names and times alone: nothing is unpacked here."""
import datetime
import functools
import io
import itertools
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from handin.names import is_junk
from handin.unpack import DAMAGED, member_name, open_zip
from utils.lab import LabError

ARCHIVES = {".zip", ".rar", ".7z", ".tar", ".tgz", ".gz", ".bz2", ".xz"}
LATEST = 4e9      # seconds since 1970, in 2096: what is later is no time of a hand-in
DEPTH = 8         # folders deep that files of a hand-in are looked for
MOST_NAMES = 10_000
NESTED = 64 << 20  # bytes of a zip within a zip that is looked into for its names
NO_TIME = (1980, 1, 1, 0, 0, 0)  # a zip's field of a time that nobody filled in


class Moment(NamedTuple):
    """Seconds since 1970, 0 for unknown; assumed: the zip told a local time, and its zone was assumed."""

    seconds: float = 0.0
    assumed: bool = False


UNKNOWN = Moment()


@dataclass(frozen=True)
class Place:
    """Where files are: a folder, a file, or what lies below the name `within` in a zip.

    name: what a single file is to be called, where a platform put something before its own name.
    """

    path: Path
    within: str | None = None
    name: str = ""


@dataclass
class Item:
    """One name in a folder or zip."""

    name: str
    is_folder: bool
    place: Place
    moment: Moment

    @property
    def is_archive(self) -> bool:
        return not self.is_folder and Path(self.name.casefold()).suffix in ARCHIVES

    @property
    def is_container(self) -> bool:
        return self.is_folder or self.is_archive

    def can_be_listed(self) -> bool:
        """Not a zip within a zip: that one is unpacked first, when its turn comes."""
        return self.is_folder or (self.place.within is None and self.name.casefold().endswith(".zip"))


@dataclass
class Listing:
    items: list[Item] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def list_place(place: Place, zone: datetime.tzinfo | None = None) -> Listing:
    """The items of a folder or zip; zone: of the local times in a zip, by default this machine's. Raises LabError."""
    return _list_folder(place.path) if place.path.is_dir() else _list_zip(place, zone)


def files_below(folder: Path, depth: int = DEPTH) -> Iterator[Path]:
    """All names below a folder that are no folders, to a depth, sorted, without junk; links are not followed."""
    for path in sorted(folder.iterdir()):
        if is_junk(path.name):
            continue
        if path.is_dir() and not path.is_symlink():
            if depth > 1:
                yield from files_below(path, depth - 1)
        else:
            yield path


def names_below(item: Item) -> list[str]:
    """The paths of the files in a folder or zip, with `/`; none where it cannot be looked into."""
    path, within = item.place.path, item.place.within
    try:
        if within is None and item.is_folder:
            return [file.relative_to(path).as_posix() for file in itertools.islice(files_below(path), MOST_NAMES)]
        if within is None:
            with open_zip(path) as archive:
                return [member_name(member) for member in archive.infolist()]
        if item.is_folder:
            start = within + "/"
            return [name.removeprefix(start) for name, _ in _members(*_version(path)) if name.startswith(start)]
        with zipfile.ZipFile(path) as outer:
            member = next(member for member in outer.infolist() if member_name(member) == within)
            if member.file_size > NESTED:
                return []
            with zipfile.ZipFile(io.BytesIO(outer.read(member))) as archive:
                return [member_name(inner) for inner in archive.infolist()[:MOST_NAMES]]
    except (*DAMAGED, OSError, StopIteration, NotImplementedError):  # opening it will tell
        return []


def read_text(place: Place, name: str) -> str:
    """The beginning of a text file in a folder, on disk or in a zip; "" where there is none."""
    try:
        if place.within is None:
            with (place.path / name).open("rb") as file:
                return file.read(4096).decode("utf-8", "replace")
        with zipfile.ZipFile(place.path) as archive, archive.open(f"{place.within}/{name}") as file:
            return file.read(4096).decode("utf-8", "replace")
    except (*DAMAGED, OSError, KeyError, NotImplementedError):
        return ""


def _list_folder(folder: Path) -> Listing:
    found = Listing()
    try:
        for path in sorted(folder.iterdir()):
            if is_junk(path.name):
                if path.name.startswith(".") and path.is_dir():  # .git; or a student with an odd name
                    found.notes.append(f"passed over {path.name}: hidden")
            elif path.is_symlink() or not (path.is_dir() or path.is_file()):
                found.notes.append(f"passed over {path.name}: a link, or no file")
            else:
                found.items.append(Item(path.name, path.is_dir(), Place(path), _latest(path)))
    except OSError as error:
        raise LabError(f"expected a folder that can be read, found {error.strerror} at {error.filename}: "
                       "check its permissions") from None
    return found


def _latest(path: Path) -> Moment:
    """The time of the latest file in a folder, or of the file."""
    try:
        files = itertools.islice(files_below(path), MOST_NAMES) if path.is_dir() else [path]
        times = [file.lstat().st_mtime for file in files] or [path.stat().st_mtime]
        return Moment(max((seconds for seconds in times if 0 <= seconds < LATEST), default=0.0))
    except OSError:  # opening it will tell why
        return UNKNOWN


def _list_zip(place: Place, zone: datetime.tzinfo | None) -> Listing:
    above = PurePosixPath(place.within or "").parts
    items: dict[str, Item] = {}
    found = Listing()
    try:
        members = _members(*_version(place.path))
    except (*DAMAGED, OSError) as error:
        raise LabError(f"expected a folder, or a zip of submissions, found another or a damaged file at {place.path} "
                       f"({error}): download it again") from None
    for name, member in members:
        parts = PurePosixPath(name).parts
        if parts[:len(above)] != above or len(parts) == len(above):
            continue
        top = parts[len(above)]
        if top.startswith("/") or top == ".." or "\0" in top:
            found.notes.append(f"passed over {name}: it leads out of the zip")
        elif is_junk(top):
            if top.startswith(".") and len(parts) == len(above) + 2:
                found.notes.append(f"passed over {name}: hidden")
        else:
            is_folder = name.endswith("/") or len(parts) > len(above) + 1
            within = PurePosixPath(*above, top).as_posix()
            item = items.setdefault(top, Item(top, is_folder, Place(place.path, within), UNKNOWN))
            item.is_folder |= is_folder
            item.moment = max(item.moment, member_moment(member, zone))
    found.items = list(items.values())
    return found


def _version(path: Path) -> tuple[Path, int, int]:
    status = path.stat()
    return path, status.st_mtime_ns, status.st_size


@functools.lru_cache(maxsize=4)
def _members(path: Path, _time: int, _size: int) -> list[tuple[str, zipfile.ZipInfo]]:
    with zipfile.ZipFile(path) as archive:
        return [(member_name(member), member) for member in archive.infolist()]


def member_moment(member: zipfile.ZipInfo, zone: datetime.tzinfo | None = None) -> Moment:
    """A zip member's time: its UTC stamp where there is one, otherwise its local time, read in `zone`."""
    seconds = _utc_stamp(member.extra)
    if seconds is not None:
        return Moment(seconds)
    if member.date_time == NO_TIME:
        return UNKNOWN
    try:
        local = datetime.datetime(*member.date_time, tzinfo=zone)
        return Moment(local.timestamp(), True)
    except (OverflowError, ValueError):
        return UNKNOWN


def _utc_stamp(extra: bytes) -> float | None:
    """The time of change in a member's extra fields: 0x5455 (Info-ZIP), or 0x000a (NTFS, as 7-Zip writes it)."""
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        content, extra = extra[4:4 + size], extra[4 + size:]
        if kind == 0x5455 and len(content) >= 5 and content[0] & 1:
            return float(struct.unpack_from("<I", content, 1)[0])
        if kind == 0x000A and len(content) >= 16 and content[4:8] == b"\x01\x00\x18\x00":
            ticks = struct.unpack_from("<Q", content, 8)[0]  # of 100 ns, since 1601
            seconds = ticks / 1e7 - 11_644_473_600
            return seconds if 0 <= seconds < LATEST else None
    return None
