"""Hand-ins as files: seven under their right names, packed into zips, and what the intake makes of a class of them."""
import zipfile
from pathlib import Path

from grading.intake.opening import look_into
from grading.intake.roster import read_roster
from grading.intake.students import Owners, enroll
from grading.intake.submissions import find_submissions
from utils.lab import HANDIN_FILES
from utils.lab import STUDENT_NUMBER as NUMBER


def seven(folder: Path, student: str = "31355555", text: str = "") -> Path:
    """Seven files under their right names; what is in them plays no part here."""
    folder.mkdir(parents=True, exist_ok=True)
    for template in HANDIN_FILES:
        (folder / template.format(id=student)).write_text(text or student)
    return folder


def pack(archive: Path, folder: Path, within: str = "") -> Path:
    """A zip of what lies in `folder`, each name with `within` before it."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive, "a") as file:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                file.write(path, within + path.relative_to(folder).as_posix())
    return archive


def class_of(path: Path, scratch: Path, roster: Path | None = None, zone=None, form: str = NUMBER) -> list:
    """The students in `path`, as the grader makes them out."""
    scratch.mkdir(exist_ok=True)
    owners = Owners(form, read_roster(roster) if roster else None)
    students = enroll(find_submissions(path, owners, zone)[0], owners,
                      lambda some: [look_into(one, scratch, form) for one in some], lambda text: None)
    assert not list(scratch.iterdir()), "nothing may be left of a look"
    return students


def found_in(path: Path) -> tuple[list, list[str]]:
    return find_submissions(path, Owners(NUMBER))


def facts(path: Path, scratch: Path, roster: Path | None = None) -> dict[str, tuple]:
    """Student -> number of files found, problems with names."""
    return {student.name: (len(student.submission.files), student.submission.naming)
            for student in class_of(path, scratch, roster)}


def member(name: str, mode: int = 0, compression: int = zipfile.ZIP_STORED) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr, info.compress_type = mode << 16, compression
    return info


def zip_with(*members: zipfile.ZipInfo):
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as file:
            for info in members:
                file.writestr(info, b"x")
    return write
