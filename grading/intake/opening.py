"""Opens one submission: regular files alone are copied into a folder of ours, zips unpacked, and the parts found.

Nothing is believed here: links, pipes and devices are passed over, sizes and numbers of files are bounded, zips in
zips are opened to a depth. Which file is which, and whether its name is right, is handin.names' to say.
"""
import errno
import os
import re
import shutil
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from grading.intake.submissions import ARCHIVES, Source, Submission, files_below
from grading.records import file_digest, shown
from handin.findings import Finding
from handin.names import DEPTH as NAMES_DEPTH
from handin.names import KINDS, STUDENT_ID, Handin, is_junk, is_packed, plain, read_folder
from handin.unpack import MOST_FILES, unpack
from utils.lab import LabError

LARGEST = 2 << 30  # bytes of one submission, unpacked
ZIP_DEPTH, MOST_ZIPS = 3, 10
# Troubles of this machine, not of the submission: a record that rests on one is made anew the next time.
OURS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EROFS, errno.ESTALE,
        errno.EACCES, errno.EPERM}


class MachineError(LabError):
    """A submission could not be opened for a reason that lies in this machine."""


@dataclass
class Opened:
    """A submission in a folder of ours: its parts, the digests of their contents, and what was odd on the way."""

    handin: Handin
    folder: Path
    notes: list[Finding] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)

    def relative(self, path: Path) -> str:
        """A file's path within the submission, with /; what was unpacked has its zip's name among the folders."""
        return shown(path.relative_to(self.folder).as_posix())


def open_submission(submission: Submission, folder: Path) -> Opened:
    """Copies a submission into `folder`, which exists and is empty, and finds its parts.

    Raises LabError where it cannot be opened or holds no file, MachineError where that lies in this machine.
    """
    notes: list[Finding] = []
    try:
        for source in submission.sources:
            _copy(source, folder, notes)
        unpacked = _expand(folder, notes)
        root = _descend(folder, unpacked, from_zip=any(_is_zip(source) for source in submission.sources))
        for path in files_below(root):
            if Path(path.name.casefold()).suffix in ARCHIVES - {".zip"}:
                notes.append(Finding("FAIL", "files", f"expected files, or a zip of them, found {path.name}: unpack it "
                                                      "by hand and grade again"))
        handin = _read(root)
        if handin.student_id is None:
            number = Path(plain(submission.folder)).stem.upper()
            handin = _read(root, number) if re.fullmatch(STUDENT_ID, number) else handin
        digests = {part.subject: file_digest(path) for part, path in handin.files.items()}
    except OSError as error:
        raise _told(error, submission) from None
    except LabError as error:
        text = str(error).replace(f"{folder}/", "").replace(str(folder), submission.folder)
        if _is_ours(error.__context__):
            raise MachineError(text) from None
        raise LabError("; ".join([text, *(note.text for note in notes)])) from None
    return Opened(handin, folder, notes, digests)


def _read(root: Path, number: str | None = None) -> Handin:
    """handin.names' findings on what lies in `root`, and deeper than it looks where there is but one way down."""
    below = root
    while len(inside := [path for path in below.iterdir() if not is_junk(path.name)]) == 1 and inside[0].is_dir():
        below = inside[0]
    way = below.relative_to(root)
    if len(way.parts) < NAMES_DEPTH:
        return read_folder(root, number)
    handin = read_folder(below, number)
    handin.problems.insert(0, f"expected the seven files at the top, found them in {way.as_posix()}/: move them up")
    return handin


def _told(error: OSError, submission: Submission) -> LabError:
    kind = MachineError if _is_ours(error) else LabError
    return kind(f"expected to open {submission.folder}, found: {error.strerror or error}: look at it by hand")


def _is_ours(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno in OURS


def _is_zip(source: Source) -> bool:
    """Whether a source is a zip on disk, which is unpacked where it belongs at once."""
    return source.within is None and not source.name and source.path.name.casefold().endswith(".zip") and \
        source.path.is_file()


def _copy(source: Source, folder: Path, notes: list[Finding]) -> None:
    path = source.path
    if source.within is not None:
        _unpack_member(source, folder)
    elif path.is_dir():
        _copy_folder(path, folder, notes)
    elif _is_zip(source):
        unpack(path, folder, largest=LARGEST)
    else:
        _copy_file(path, folder / (source.name or path.name), LARGEST)


def _unpack_member(source: Source, folder: Path) -> None:
    """What lies below a name in the class's zip, or the file of that name under the one that it shall have."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        inner = Path(scratch, "in")
        inner.mkdir()
        unpack(source.path, inner, source.within, LARGEST)
        for path in list(inner.iterdir()):
            path.rename(folder / (source.name or path.name))


def _copy_folder(source: Path, target: Path, notes: list[Finding]) -> None:
    """The regular files of a folder. Of what can be no part of a hand-in the name alone is copied."""
    room = LARGEST
    for count, path in enumerate(files_below(source)):
        if count == MOST_FILES:
            raise LabError(f"expected a hand-in of seven files, found more than {MOST_FILES:,} in {source.name}: "
                           "leave the others out")
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        if not stat.S_ISREG(path.lstat().st_mode):
            notes.append(Finding("WARN", "files", f"expected files, found a link or device, {path.name}: passed over"))
        elif Path(plain(path.name)).suffix in KINDS or path.name.casefold().endswith(".zip"):
            room -= _copy_file(path, place, room)
        else:
            place.touch()


def _copy_file(path: Path, place: Path, room: int) -> int:
    """Copies a regular file, and no other, of at most `room` bytes; the number of its bytes."""
    # Between looking and opening it may have become a link or a pipe: what was opened is asked.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(handle, "rb") as source:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise LabError(f"expected a file, found none at {path.name}: look at it by hand")
        if status.st_size > room:
            raise LabError(f"expected at most {LARGEST >> 30} GB in a hand-in, found more with {path.name}: leave out "
                           "what is none of the seven")
        with place.open("xb") as target:
            shutil.copyfileobj(source, target)
    return status.st_size


def _expand(folder: Path, notes: list[Finding]) -> set[Path]:
    """Unpacks the zips in `folder`, and those in them, each into a folder of its own name; where they were."""
    unpacked: set[Path] = set()
    room = LARGEST - sum(path.stat().st_size for path in files_below(folder))
    for _ in range(ZIP_DEPTH):
        zips = [path for path in files_below(folder) if path.name.casefold().endswith(".zip")]
        for path in [path for path in zips if path not in unpacked]:
            if len(unpacked) == MOST_ZIPS:
                notes.append(Finding("WARN", "files", f"expected one zip, found more than {MOST_ZIPS}: the others are "
                                                      "left as they are"))
                return unpacked
            unpacked.add(path)
            inner = Path(tempfile.mkdtemp(dir=folder.parent))
            try:
                unpack(path, inner, largest=room)
            except LabError as error:
                shutil.rmtree(inner)
                if _is_ours(error.__context__):
                    raise
                notes.append(Finding("FAIL", "files", str(error)))
                continue
            room -= sum(file.stat().st_size for file in inner.rglob("*") if file.is_file())
            path.unlink()
            inner.rename(path)
    return unpacked


def _descend(folder: Path, unpacked: set[Path], from_zip: bool) -> Path:
    """Where the seven files are to lie: below what the student had no say in, or handin.pack itself makes.

    That is the one zip in a folder of Moodle's, and a folder Lab05_ID that is alone.
    """
    while True:
        inside = [path for path in folder.iterdir() if not is_junk(path.name)]
        if len(inside) != 1 or not inside[0].is_dir():
            return folder
        own_zip = inside[0] in unpacked and not from_zip
        if not own_zip and not is_packed(inside[0]):
            return folder
        folder, from_zip = inside[0], from_zip or own_zip
