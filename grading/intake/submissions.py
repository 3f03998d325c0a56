"""Finds the submissions of a class: a folder or zip a student, loose files, or the one zip that Moodle makes.

    Name Surname_12345_assignsubmission_file_/...      Moodle, with folders
    Name Surname_12345_assignsubmission_file_x.py      Moodle, without
    31355555/   31355555.zip   31355555 (1).zip        anything else that has one entry a student
    Lab05_task1_31355555.ipynb, network_task1.py, ...  one submission alone

Only names are looked at here; grading.intake.opening opens them, each by itself, so that a bad one spoils no other.
"""
import itertools
import re
import time
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from handin.names import KINDS, PARTS, STUDENT_ID, exact, is_junk, plain
from handin.unpack import DAMAGED, member_name
from utils.lab import LabError

MOODLE = re.compile(r"(?P<owner>.+_\d+)_assignsubmission_(?P<kind>[a-z]+)_?(?P<rest>.*)", re.DOTALL)
ARCHIVES = {".zip", ".rar", ".7z", ".tar", ".tgz", ".gz", ".bz2", ".xz"}
OWN_WORDS = re.compile(r"task|model|network|weight|report|notebook|code|lab_?0?5")  # of folders within a submission
LATEST = 4e9  # seconds since 1970, in 2096: what lies beyond is no time that anything was handed in
DEPTH = 8  # folders deep that files of a submission are looked for
ALONE = 4  # of the seven files, lying beside each other: then the folder is one submission


@dataclass(frozen=True)
class Source:
    """Where files of a submission come from: a folder, a file, or what lies below `within` in a zip.

    name: under which a single file is to be taken, where its own has something of Moodle's before it.
    """

    path: Path
    within: str | None = None
    name: str = ""


@dataclass(frozen=True)
class Submission:
    """What one student handed in, as it was found.

    folder: its name in the class's folder; owner: Moodle's name and number of the student, "" without Moodle;
    time: seconds since 1970 of its latest file.
    """

    folder: str
    sources: tuple[Source, ...]
    owner: str = ""
    time: float = 0.0


@dataclass
class _Entry:
    """One name at the top of the class's folder, or in a zip's top level."""

    name: str
    is_folder: bool
    source: Source
    time: float

    @property
    def is_archive(self) -> bool:
        return not self.is_folder and Path(self.name.casefold()).suffix in ARCHIVES


@dataclass
class _Class:
    entries: list[_Entry] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_submissions(path: Path) -> tuple[list[Submission], list[str]]:
    """The submissions in `path`, sorted by name, and notes, a line each, on what was passed over.

    Raises LabError if there is nothing at `path`, nothing in it, or a file that is no zip.
    """
    path = Path(path)
    if not path.exists():
        raise LabError(f"expected the class's submissions, found nothing at {path}: check the path")
    found = _list(Source(path))
    for _ in range(2):  # a folder or zip that holds nothing but the class
        inner = _class_within(found.entries)
        if inner is None:
            break
        found = inner
    submissions, notes = _group(found.entries, Path(path.name).stem if path.is_file() else path.resolve().name)
    if not submissions:
        raise LabError(f"expected a folder or zip a student, or Moodle's zip of all, found none in {path}: "
                       "check the path")
    return sorted(submissions, key=lambda submission: natural(submission.folder)), found.notes + notes


def natural(name: str) -> list[str]:
    """A key that sorts `x (2)` before `x (10)`."""
    return [piece.zfill(20) if piece.isdecimal() else piece for piece in re.split(r"(\d+)", name)]


def _list(place: Source) -> _Class:
    """The entries of a folder, or of a zip (below `within`)."""
    return _list_folder(place.path) if place.path.is_dir() else _list_zip(place)


def _list_folder(folder: Path) -> _Class:
    found = _Class()
    try:
        for path in sorted(folder.iterdir()):
            if is_junk(path.name):
                if path.name.startswith(".") and path.is_dir():  # .git, say; or a student of an odd name
                    found.notes.append(f"passed over {path.name}: hidden")
                continue
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                found.notes.append(f"passed over {path.name}: a link, or no file")
                continue
            found.entries.append(_Entry(path.name, path.is_dir(), Source(path), _latest(path)))
    except OSError as error:
        raise LabError(f"expected a folder that can be read, found {error.strerror} at {error.filename}: "
                       "check its permissions") from None
    return found


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


def _latest(path: Path) -> float:
    """The time of the latest file in a folder, or of the file; 0 where it cannot be looked at, or is no time."""
    try:
        files = itertools.islice(files_below(path), 10_000) if path.is_dir() else [path]
        times = [file.lstat().st_mtime for file in files] or [path.stat().st_mtime]
        return max((moment for moment in times if 0 <= moment < LATEST), default=0.0)
    except OSError:  # opening it will tell why
        return 0.0


def _list_zip(place: Source) -> _Class:
    above = PurePosixPath(place.within or "").parts
    entries: dict[str, _Entry] = {}
    found = _Class()
    try:
        with zipfile.ZipFile(place.path) as archive:
            members = archive.infolist()
    except (*DAMAGED, OSError) as error:
        raise LabError(f"expected a folder, or a zip of submissions, found another or a damaged file at {place.path} "
                       f"({error}): download it again") from None
    for member in members:
        name = member_name(member)
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
            entry = entries.setdefault(top, _Entry(top, is_folder, Source(place.path, within), 0.0))
            entry.is_folder |= is_folder
            entry.time = max(entry.time, _member_time(member))
    found.entries = list(entries.values())
    return found


def _member_time(member: zipfile.ZipInfo) -> float:
    """A member's time, which zips keep in local time; 0 for none."""
    try:
        return time.mktime((*member.date_time, 0, 0, -1))
    except (OverflowError, ValueError):
        return 0.0


def _class_within(entries: list[_Entry]) -> _Class | None:
    """The class in the only entry of its folder or zip; None where that may as well be a student's own folder."""
    if len(entries) != 1 or not (entries[0].is_folder or entries[0].name.casefold().endswith(".zip")):
        return None
    source = entries[0].source
    if source.within is not None and not entries[0].is_folder:
        return None  # a zip in a zip: a student's, which is opened when its turn comes
    try:
        inner = _list(source)
    except LabError:
        return None
    if any(MOODLE.fullmatch(entry.name) for entry in inner.entries):
        return inner
    students = [entry for entry in inner.entries if entry.is_folder or entry.is_archive]
    loose = [entry for entry in inner.entries if entry not in students and Path(plain(entry.name)).suffix in KINDS]
    if len(students) > 1 and not loose and not any(OWN_WORDS.search(plain(entry.name)) for entry in students):
        return inner
    return None


def _group(entries: list[_Entry], place: str) -> tuple[list[Submission], list[str]]:
    """The entries by student: `place` is the name of the whole, where it turns out to be one submission."""
    whole, loose, flat, texts = [], [], defaultdict(list), defaultdict(list)
    for entry in entries:
        moodle = MOODLE.fullmatch(entry.name)
        if moodle and moodle["kind"] != "file":
            texts[moodle["owner"]].append(entry)
        elif moodle and not entry.is_folder:
            flat[moodle["owner"]].append((moodle["rest"] or entry.name, entry))
        elif entry.is_folder or entry.is_archive:
            whole.append(Submission(entry.name, (entry.source,), moodle["owner"] if moodle else "", entry.time))
        else:
            loose.append(entry)
    if not flat and len(whole) <= 2 and _is_one(loose):
        latest = max(entry.time for entry in entries)
        return [Submission(place, tuple(entry.source for entry in entries), "", latest)], []
    for owner, files in flat.items():
        sources = tuple(Source(entry.source.path, entry.source.within, name) for name, entry in files)
        whole.append(Submission(f"{owner}_assignsubmission_file", sources, owner, max(e.time for _, e in files)))
    owners = {submission.owner for submission in whole}
    for owner, files in texts.items():  # who wrote into Moodle's text field alone has handed in nothing, and is listed
        if owner not in owners:
            whole.append(Submission(files[0].name, tuple(e.source for e in files), owner, max(e.time for e in files)))
    singles, notes = _by_number(loose)
    return whole + singles, notes


def _is_one(loose: list[_Entry]) -> bool:
    """Whether files beside each other are one student's: most of the seven, of one number."""
    patterns = [re.compile(exact(part), re.IGNORECASE) for part in PARTS]
    right = sum(any(pattern.fullmatch(entry.name) for entry in loose) for pattern in patterns)
    return right >= ALONE and len(set(_numbers(loose))) <= 1


def _numbers(loose: Iterable[_Entry]) -> list[str]:
    return [number for entry in loose if (number := _number(entry.name))]


def _number(name: str) -> str:
    """The student's number in the name of a notebook or report, "" in others."""
    found = re.fullmatch(rf"(?:lab05_task[12]|report)_({STUDENT_ID})\.\w+", plain(name))
    return found[1].upper() if found else ""


def _by_number(loose: list[_Entry]) -> tuple[list[Submission], list[str]]:
    groups, notes = defaultdict(list), []
    for entry in loose:
        number = _number(entry.name)
        if number:
            groups[number].append(entry)
        elif Path(plain(entry.name)).suffix in KINDS:
            notes.append(f"passed over {entry.name}: beside the submissions, and its name does not say whose it is")
    return [Submission(number, tuple(entry.source for entry in files), "", max(entry.time for entry in files))
            for number, files in groups.items()], notes
