"""Makes the starter kit: stages it without solutions, checks it, tests it, and writes the archive in one step."""
import itertools
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from dataset.layouts.cityscapes import CITYSCAPES
from dataset.reader import find_data
from grading.course import Course, read_course
from grading.kit.archive import split_suffix, unpack_archive, write_archive
from grading.kit.checks import check_kit
from grading.kit.contents import (
    CONSTANTS,
    PAGES,
    STUDENTS,
    course_numbers,
    fill_address,
    fill_number,
    fill_page,
    kit_files,
    read_text,
    version,
)
from grading.kit.strip import StrippedBlock, strip_notebook, strip_python, strip_text
from grading.kit.student_tests import run_student_tests
from grading.records import file_digest
from handin.fixed import MANIFEST, write_manifest
from utils.files import replacing
from utils.lab import DEFAULT_DATA, SAMPLE_DATA, TASKS, LabError
from utils.terminal import bar_stream

SPLITS = ("train", "val")  # a test split may be a class's reserved set: its labels never travel


class Release(NamedTuple):
    """What was made: the archive, its bytes, files and SHA-256, what was stripped, and the counts of its tests."""

    out: Path
    version: str
    size: int
    files: int
    sha256: str
    blocks: list[StrippedBlock]
    tests: str


def release(root: Path, out: Path, data: Path | None = None, trial: bool = True, course: Course | None = None
            ) -> Release:
    """Writes the starter kit of the repository in `root` to `out`, an archive whose suffix says which.

    data: a data set whose train and val images go along; trial: whether the students' tests run in the unpacked kit;
    course: the numbers that its pages are filled with.

    Raises LabError for a marker that is not as agreed, for a leak, for anything else that must not be handed out, and
    for bad arguments; what was at `out` before is then untouched.
    """
    top, kind = split_suffix(out)
    _check_place(out)
    course = course or read_course()
    ours = {number: task.miou for number, task in TASKS.items()}
    if course.thresholds != ours:
        raise LabError(f"expected the thresholds of utils/lab.py, {ours}, found {course.thresholds} in the course's "
                       "file: the kit's check goes by utils/lab.py, so change them there")
    images = data_files(data) if data else []
    with _scratch() as scratch:
        kit, packed, unpacked = (scratch / name for name in ("kit", "packed", "unpacked"))
        names, blocks, made_from = stage(root, kit, course)
        check_kit(kit, names, blocks, root)
        files = [(name, kit / name) for name in names]
        write_archive(packed, kind, top, files)
        unpack_archive(packed, kind, unpacked)
        _check_same(kit, unpacked / top, names)
        if trial:
            print("running the students' tests in the unpacked kit", file=sys.stderr)
        tested = run_student_tests(unpacked / top) if trial else ""
        with replacing(out) as temporary:
            bar = tqdm(images, desc="packing the data", unit="file", file=bar_stream(), disable=not images)
            write_archive(temporary, kind, top, itertools.chain(files, bar))
    if images:
        print("reading the archive for its checksum", file=sys.stderr)
    return Release(out, made_from, out.stat().st_size, len(files) + len(images), file_digest(out), blocks, tested)


def stage(root: Path, kit: Path, course: Course) -> tuple[list[str], list[StrippedBlock], str]:
    """Writes the kit's files into the folder `kit`; their names, what was stripped, and the version they are made from.

    The manifest of the files that a student must not change (handin.fixed) is among them.
    """
    sources, blocks, numbers = kit_files(root), [], course_numbers(course)
    for name, source in sources.items():
        target = kit / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".png"):
            target.write_bytes(source.read_bytes())
            continue
        file, task = source.relative_to(root).as_posix(), STUDENTS.get(name, 0)
        text = read_text(source)
        if source.parent == root / PAGES:
            text = fill_page(text, file, numbers)
        elif name == CONSTANTS:
            text = fill_number(text, file, course)
        elif name.endswith(".ipynb"):
            text = fill_address(text, file, course.address)
        strip = strip_notebook if name.endswith(".ipynb") else strip_python if name.endswith(".py") else strip_text
        stripped, taken = strip(text, file, task)
        target.write_bytes(stripped.encode())
        blocks += taken
    made_from = version(root, sources)
    write_manifest(kit, sources, made_from)
    return sorted([*sources, MANIFEST.as_posix()]), blocks, made_from


def data_files(folder: Path) -> list[tuple[str, Path]]:
    """The images of train and val, and of their labels the files that the lab reads, by their names in the kit.

    Raises LabError where the folder holds no data set, a split has no images, or an image has no label.
    """
    if not (folder / "leftImg8bit").is_dir() and folder.resolve() in (Path(DEFAULT_DATA).resolve(), SAMPLE_DATA):
        raise LabError(f"expected leftImg8bit/ and gtFine/, found no data set in {folder}: name its folder")
    data = find_data(folder)
    if data.layout is not CITYSCAPES:
        raise LabError(f"expected Cityscapes' layout, found {data.layout.name} in {data}: hand that data out as it "
                       "is, and say which DATA to pass")
    paths = [path for split in SPLITS for pair in data.pairs(split) for path in (pair.image, pair.label)]
    return sorted((f"data/{path.relative_to(data.root).as_posix()}", path) for path in paths)


def summary(made: Release) -> str:
    """The release as a table: what was taken out of each file, and the archive."""
    lines = []
    for file in dict.fromkeys(block.file for block in made.blocks):
        blocks = [block for block in made.blocks if block.file == file]
        count = sum(block.solution.count("\n") + 1 for block in blocks)
        lines.append(f"{file}: {len(blocks)} block{'s' * (len(blocks) != 1)}, {count} lines")
        for block in blocks:
            where = f"{f'cell {block.cell}, ' if block.cell else ''}lines {block.first}-{block.last}"
            lines.append(f"    {where:24} {f'task {block.task}: {block.name}' if block.task else 'hidden'}")
    facts = {"archive": made.out, "version": made.version, "size": f"{made.size:,} bytes", "files": f"{made.files:,}",
             "SHA-256": made.sha256, "tests": made.tests or "not run (--no-trial)"}
    return "\n".join([*lines, "", *(f"{name:8} {value}" for name, value in facts.items())])


@contextmanager
def _scratch() -> Iterator[Path]:
    """A temporary folder that is removed whatever happens; LabError where it cannot be written."""
    try:
        with tempfile.TemporaryDirectory(prefix="lab-kit-") as folder:
            yield Path(folder)
    except OSError as error:
        raise LabError(f"expected to stage the kit in {tempfile.gettempdir()}, found: {error}: free some space there, "
                       "or set TMPDIR") from None


def _check_place(out: Path) -> None:
    """Raises LabError where no archive can be written: now, not after the work."""
    if out.is_dir():
        raise LabError(f"expected a file's name for the archive, found a folder at {out}: add a name, "
                       f"{out}/DL_Lab5.tar say")
    above = next(path for path in out.absolute().parents if path.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise LabError(f"expected a folder that can be written, found {above}: choose another place for {out.name}")


def _check_same(kit: Path, unpacked: Path, names: list[str]) -> None:
    found = sorted(path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file())
    different = [name for name in set(names) & set(found)
                 if (kit / name).read_bytes() != (unpacked / name).read_bytes()]
    if found != names or different:
        strange = (different + sorted(set(found) ^ set(names)))[0]
        raise LabError(f"expected the archive to unpack to what was packed, found another {strange}: report this fault")
