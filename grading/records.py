"""The record of a student: one JSON file, written when all of it is known, from which points and report are made.

    REPORT/records/<slug>.json      the slug is the student's number, or what can be made of the folder's name
    REPORT/images/<slug>/           the worst images of each task, task1_0.png and so on
    REPORT/sources/<slug>/          for similarity: network_task1.py as it was handed in, model_task1.json the
                                    fingerprint of the weights (grading.intake.fingerprint), both for each task
                                    where there is one; errors_task1.npz: where its masks err (grading.errors)
    REPORT/networks/<slug>/         task1.json and task1.safetensors: the network as it was exported, data and
                                    no code, which `python -m grading replay` scores again

A record's key says what it was made from (the files, the data, the grader, the limits); while that stays the same, the
record stands. What a submission says of itself has been through a sandbox before it gets here, and is text.
"""
import difflib
import functools
import hashlib
import importlib.metadata
import json
import math
import platform
import re
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path

from utils.files import write_json
from utils.lab import ROOT, TASKS, LabError

SCHEMA = 1
STATES = ("OK", "MISSING_FILE", "IMPORT_ERROR", "LOAD_ERROR", "SHAPE_ERROR", "TIMEOUT", "OUT_OF_MEMORY", "CRASH",
          "FLAGGED", "COST_UNVERIFIED")
SLUG_LENGTH = 48
# Names that Windows keeps for itself, whatever the ending.
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)", re.IGNORECASE)

# What a record rests on: files and folders. What only reads records, or makes the kit, is in none of them.
SOURCES = ("grading/intake", "grading/trial", "grading/class_run.py", "grading/errors.py", "grading/judge.py",
           "grading/marking.py", "grading/panels.py", "grading/part.py", "grading/records.py",
           "handin", "utils", "dataset")


def empty_task(state: str, why: str) -> dict:
    """The record of a task without a score: `state`, one of STATES, and the reason for it."""
    return {"state": state, "why": why, "miou": None, "iou": [], "confusion": None, "accuracy": None, "flops": None,
            "size_kb": None, "fom": None, "costs": None, "flags": [], "layers": [], "parameters": None, "images": [],
            "log": "", "seconds": 0.0, "level": "", "device": ""}


def record_path(out: Path, slug: str) -> Path:
    return Path(out) / "records" / f"{slug}.json"


def source_path(out: Path, slug: str, task: int) -> Path:
    """Where the network file of a task is kept, if there is one."""
    return Path(out) / "sources" / slug / f"network_task{task}.py"


def proof_paths(out: Path, slug: str, task: int) -> tuple[Path, Path]:
    """Where the exported network of a task is kept, if it could be exported: its graph and its tensors."""
    folder = Path(out) / "networks" / slug
    return folder / f"task{task}.json", folder / f"task{task}.safetensors"


def print_path(out: Path, slug: str, task: int) -> Path:
    """Where the fingerprint of a task's weights is kept, if there is one."""
    return Path(out) / "sources" / slug / f"model_task{task}.json"


def write_record(out: Path, slug: str, record: dict) -> None:
    """Writes a record in its place, atomically. Raises LabError where it cannot be written."""
    write_json(record_path(out, slug), clean(record))


def read_record(path: Path) -> dict:
    """The record in `path`, its slug among its entries. Raises LabError for a file that is none, or of another schema.
    """
    again = "grade again, which makes it anew"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "damaged JSON"
        raise LabError(f"expected a record, found {reason} in {path}: {again}") from None
    tasks = record.get("tasks") if isinstance(record, dict) else None
    if not isinstance(tasks, dict) or record.get("schema") != SCHEMA:
        schema = record.get("schema") if isinstance(record, dict) else None
        raise LabError(f"expected a record of schema {SCHEMA}, found {schema!r} in {path}: {again}")
    for number in TASKS:
        task = tasks.get(str(number))
        if not isinstance(task, dict) or task.get("state") not in STATES or not isinstance(record.get("student"), str):
            raise LabError(f"expected a whole record, found one without task {number} or student in {path}: {again}")
    return record | {"slug": path.stem}


def read_records(out: Path, note: Callable[[str], object] | None = None) -> list[dict]:
    """All records in the report folder `out`, of all shards, sorted by slug.

    An unreadable one goes to `note` as a line, or, without `note`, is raised as LabError; so is a folder without any.
    """
    folder = Path(out) / "records"
    records = []
    for path in sorted(folder.glob("*.json")):
        if path.name.startswith("."):
            continue
        try:
            records.append(read_record(path))
        except LabError as error:
            if note is None:
                raise
            note(str(error))
    if not records and note is None:
        raise LabError(f"expected the records of a graded class, found none in {folder}: "
                       "python -m grading grade SUBMISSIONS --out REPORT makes them")
    return records


def slug_of(name: str, *, alone: bool = True) -> str:
    """A file name for `name`, whatever is in it: ASCII letters, digits and `-`, at most 48 characters.

    Where anything had to be changed, or the name does not stand for one student `alone`, eight digits of its hash keep
    it apart from others.
    """
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^A-Za-z0-9]+", "-", ascii_name).strip("-")
    if slug == name and alone and 0 < len(slug) <= SLUG_LENGTH and not RESERVED.fullmatch(slug):
        return slug
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"{slug[:SLUG_LENGTH - 9].strip('-') or 'student'}-{digest}"


def clean(value: object) -> object:
    """`value` with JSON's types and nothing else: NaN and infinity become null, halves of characters become `?`."""
    if isinstance(value, dict):
        return {clean(str(key)): clean(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(entry) for entry in value]
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, (bool, int)) or value is None:
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if hasattr(value, "tolist"):  # numpy's numbers and arrays
        return clean(value.tolist())
    return clean(str(value))


def digest(content: object) -> str:
    """SHA-256 in hexadecimal of a value of JSON's types."""
    return hashlib.sha256(json.dumps(clean(content), sort_keys=True).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 in hexadecimal of a file's bytes."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            found.update(part)
    return found.hexdigest()


def arrays_digest(arrays: Iterable) -> str:
    """SHA-256 in hexadecimal of numpy arrays: their shapes, types and values."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(repr((array.shape, str(array.dtype))).encode())
        for part in array:  # an image at a time: a mapped file is not read into memory whole
            found.update(part.tobytes())
    return found.hexdigest()


@functools.cache
def grader_version(root: Path = ROOT) -> str:
    """The lab's version with a digest of the sources that a record rests on, which changes when they do."""
    names = sorted(path.relative_to(root).as_posix() for source in SOURCES
                   for path in (root.glob(source) if source.endswith(".py") else (root / source).rglob("*.py")))
    sources = hashlib.sha256(repr([(name, file_digest(root / name)) for name in names]).encode())
    return f"1.0+{sources.hexdigest()[:12]}"


def versions() -> dict[str, str]:
    """What a figure may depend on: the versions of Python, torch, thop and the lab's own grader."""
    found = {"python": platform.python_version()}
    for package in ("torch", "thop"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "missing"
    return found | {"lab": grader_version()}


def find_record(out: Path, student: str) -> dict:
    """The record of the student with this number or slug. Raises LabError where there is none, or more than one."""
    records = read_records(out, lambda text: None)
    found = [record for record in records if record["slug"] == student] or [
        record for record in records if record["student"] == student]
    if len(found) != 1:
        near = difflib.get_close_matches(student, [record["slug"] for record in records], 3)
        others = ", ".join([record["slug"] for record in found] or near) or f"{len(records)} records"
        raise LabError(f"expected one record of {student!r} in {Path(out) / 'records'}, found {len(found)}: write the "
                       f"name of its file ({others})")
    return found[0]


def shown(name: str | Path) -> str:
    """A name from a file system as text that can be written anywhere: bytes that are no UTF-8 become U+FFFD."""
    return str(name).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
