"""Opens one submission: copies its regular files into a folder of ours, unpacks zips, and finds the seven parts.

Nothing is believed here: links, pipes and devices are passed over, sizes and numbers of files are bounded, zips in
zips are opened to a depth. Which file is which, and whether its name is right, handin.names decides.
"""
import errno
import os
import shutil
import stat
import tempfile
from pathlib import Path

from grading.intake.file_names import number_in_file
from grading.intake.listing import ARCHIVES, Place, files_below
from grading.intake.submissions import Submission
from grading.records import file_digest, shown
from handin.findings import Finding
from handin.names import DEPTH as NAMES_DEPTH
from handin.names import KINDS, Handin, is_junk, is_packed, plain, read_folder
from handin.unpack import MOST_FILES, unpack
from handin.weights import is_weights, repack
from utils.lab import STUDENT_NUMBER, LabError

LARGEST = 2 << 30  # bytes of one submission, unpacked
ZIP_DEPTH, MOST_ZIPS = 3, 10
# Troubles of this machine, not of the submission: a record that rests on one is made again the next time.
OURS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EROFS, errno.ESTALE,
        errno.EACCES, errno.EPERM}
PICKLE = "data.pkl"  # the member, or file, by which torch's zip or a folder of its content is told


class MachineError(LabError):
    """A submission could not be opened for a reason that lies in this machine."""


def look_into(submission: Submission, scratch: Path, form: str = STUDENT_NUMBER) -> None:
    """Opens a submission below `scratch`, writes down in it what is there, and removes the copy. Raises nothing.

    form: of a student's number.
    """
    submission.findings, submission.error, submission.ours = [], "", False
    try:
        with tempfile.TemporaryDirectory(dir=scratch) as temporary:
            folder = Path(temporary, "in")
            folder.mkdir()
            handin, submission.findings = open_submission(submission, folder, form)
            submission.files = {part.subject: {"path": relative(path, folder), "sha256": file_digest(path),
                                               "bytes": path.stat().st_size} for part, path in handin.files.items()}
            submission.missing = [part.subject for part in handin.missing]
            submission.naming = [shown(problem) for problem in handin.problems]
            submission.extra = [relative(path, folder) for path in handin.extra]
            if not submission.number:
                submission.claimed = handin.student_id or ""
    except LabError as error:
        submission.error, submission.ours = str(error), isinstance(error, MachineError)
    except Exception as error:  # a fault of ours in one submission stops no other
        submission.error, submission.ours = f"{type(error).__name__}: {error}", True
    if submission.error:
        submission.findings.append(Finding("FAIL", "files", submission.error))


def relative(path: Path, folder: Path) -> str:
    """A file's path within the submission, with /; what was unpacked has its zip's name among the folders."""
    return shown(path.relative_to(folder).as_posix())


def open_submission(submission: Submission, folder: Path, form: str = STUDENT_NUMBER) -> tuple[Handin, list[Finding]]:
    """Copies a submission into `folder`, which exists and is empty: its parts, and what was odd on the way.

    Raises LabError where it cannot be opened or holds no file, MachineError where that lies in this machine.
    """
    notes: list[Finding] = []
    try:
        if not submission.places:
            raise LabError(submission.error)
        for place in submission.places:
            _copy(place, folder, notes)
        unpacked = _expand(folder, notes)
        _pack_weights(folder, notes)
        root = _descend(folder, unpacked, form, from_zip=any(_is_zip(place) for place in submission.places))
        for path in files_below(root):
            if Path(path.name.casefold()).suffix in ARCHIVES - {".zip"} and Path(plain(path.name)).suffix not in KINDS:
                notes.append(Finding("FAIL", "files", f"expected files, or a zip of them, found {path.name}: unpack it "
                                                      "by hand and grade again"))
        handin = _read(root, submission.number or None, form)
        _note_numbers(handin, notes)
    except OSError as error:
        kind = MachineError if error.errno in OURS else LabError
        raise kind(f"expected to open {submission.name}, found: {error.strerror or error}: look at it by hand"
                   ) from None
    except LabError as error:
        text = str(error).replace(f"{folder}/", "").replace(str(folder), submission.name)
        if _is_ours(error.__context__):
            raise MachineError(text) from None
        raise LabError("; ".join([text, *(note.text for note in notes)])) from None
    return handin, notes


def _read(root: Path, number: str | None, form: str) -> Handin:
    """handin.names' findings on what lies in `root`, and deeper than it looks where there is only one folder to enter.
    """
    below = root
    while len(inside := [path for path in below.iterdir() if not is_junk(path.name)]) == 1 and inside[0].is_dir():
        below = inside[0]
    way = below.relative_to(root)
    if len(way.parts) < NAMES_DEPTH:
        return read_folder(root, number, form)
    handin = read_folder(below, number, form)
    handin.problems.insert(0, f"expected the seven files at the top, found them in {way.as_posix()}/: move them up")
    return handin


def _note_numbers(handin: Handin, notes: list[Finding]) -> None:
    """A note on further files that carry another number: they are nobody's but this submission's."""
    others = {number: path.name for path in handin.extra
              if (number := number_in_file(path.name, handin.form)) and number != (handin.student_id or "").upper()}
    if others:
        notes.append(Finding("WARN", "submission", f"expected files of one student, found {', '.join(others.values())} "
                                                   "as well: it counts for nobody; look whose it is"))


def _is_ours(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno in OURS


def _is_zip(place: Place) -> bool:
    """Whether a place is a student's zip on disk, which is unpacked at once."""
    return place.within is None and not place.name and place.path.name.casefold().endswith(".zip") and \
        place.path.is_file()


def _copy(place: Place, folder: Path, notes: list[Finding]) -> None:
    path = place.path
    try:
        name = os.fsencode(place.name) and place.name
    except UnicodeEncodeError:  # a machine whose file names are ASCII
        name = place.name.encode("ascii", "replace").decode()
    if place.within is not None:
        _unpack_member(place, name, folder, notes)
    elif path.is_dir():
        _copy_folder(path, folder, notes)
    elif _is_zip(place):
        notes += _warnings(unpack(path, folder, largest=LARGEST))
    else:
        _copy_file(path, folder / (name or path.name), LARGEST)


def _warnings(texts: list[str]) -> list[Finding]:
    return [Finding("WARN", "files", text) for text in texts]


def _unpack_member(place: Place, name: str, folder: Path, notes: list[Finding]) -> None:
    """What lies below a name in the class's zip, or the file of that name under the one that it shall have."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        inner = Path(scratch, "in")
        inner.mkdir()
        notes += _warnings(unpack(place.path, inner, place.within, LARGEST))
        for path in list(inner.iterdir()):
            path.rename(folder / (name or path.name))


def _copy_folder(source: Path, target: Path, notes: list[Finding]) -> None:
    """The regular files of a folder. Of what can be no part of a hand-in only the name is copied."""
    room = LARGEST
    for count, path in enumerate(files_below(source)):
        if count == MOST_FILES:
            raise LabError(f"expected a hand-in of seven files, found more than {MOST_FILES:,} in {source.name}: "
                           "leave the others out")
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if not stat.S_ISREG(path.lstat().st_mode):
            notes.append(Finding("WARN", "files", f"expected files, found a link or device, {path.name}: passed over"))
        elif Path(plain(path.name)).suffix in KINDS or path.name.casefold().endswith(".zip") or any(
                (parent / PICKLE).exists() for parent in (path.parent, path.parent.parent)):
            room -= _copy_file(path, copy, room)
        else:
            copy.touch()


def _copy_file(path: Path, copy: Path, room: int) -> int:
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
        with copy.open("xb") as target:
            shutil.copyfileobj(source, target)
    return status.st_size


def _expand(folder: Path, notes: list[Finding]) -> set[Path]:
    """Unpacks the zips in `folder`, and those in them, each into a folder of its own name; returns these folders.

    A zip that torch wrote is weights under another name, and stays.
    """
    unpacked: set[Path] = set()
    room = LARGEST - sum(path.stat().st_size for path in files_below(folder))
    for _ in range(ZIP_DEPTH):
        zips = [path for path in files_below(folder) if path.name.casefold().endswith(".zip")]
        for path in [path for path in zips if path not in unpacked and not is_weights(path)]:
            if len(unpacked) == MOST_ZIPS:
                notes.append(Finding("WARN", "files", f"expected one zip, found more than {MOST_ZIPS}: the others are "
                                                      "left as they are"))
                return unpacked
            unpacked.add(path)
            inner = Path(tempfile.mkdtemp(dir=folder.parent))
            try:
                notes += _warnings(unpack(path, inner, largest=room))
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


def _pack_weights(folder: Path, notes: list[Finding]) -> None:
    """Packs weights again that a browser has unpacked to a folder: into FOLDER.zip, which is a wrong name."""
    for pickle in [path for path in files_below(folder) if path.name == PICKLE]:
        place = pickle.parent
        if place.parent != folder and len(list(place.parent.iterdir())) == 1:  # model_task1/archive/data.pkl
            place = place.parent
        copy = place.with_name(f"{place.name}.zip")
        if place != folder and is_weights(place) and not copy.exists():
            repack(place, copy)
            shutil.rmtree(place)
            notes.append(Finding("WARN", "files", f"expected weights as a file, found them unpacked to {place.name}/: "
                                                  f"read as {copy.name}"))


def _descend(folder: Path, unpacked: set[Path], form: str, from_zip: bool) -> Path:
    """Where the seven files should lie: below what the student did not choose, or what handin.pack makes.

    That is the one zip in a folder of Moodle's, and a folder Lab05_ID that is alone.
    """
    while True:
        inside = [path for path in folder.iterdir() if not is_junk(path.name)]
        if len(inside) != 1 or not inside[0].is_dir():
            return folder
        own_zip = inside[0] in unpacked and not from_zip
        if not own_zip and not is_packed(inside[0], form):
            return folder
        folder, from_zip = inside[0], from_zip or own_zip
