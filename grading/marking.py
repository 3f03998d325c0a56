"""Marks one student: opens the submission, judges its files, tries both networks, and makes the record."""
import datetime
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from grading.intake.opening import MachineError, Opened, open_submission
from grading.intake.roster import Student
from grading.judge import Judge
from grading.panels import write_panels
from grading.records import SCHEMA, clean, digest, empty_task, print_path, source_path, versions
from handin.names import PARTS
from utils.files import replacing, write_json
from utils.lab import TASKS, LabError, Task

if TYPE_CHECKING:
    from grading.sandbox import Level, Limits

Trial = Callable[..., "tuple[dict, np.ndarray | None]"]  # grading.trials.try_task, or one like it


@dataclass
class Slot:
    """What one worker has to itself: a GPU, if there are any, and a process that judges files."""

    gpu: int | None = None
    judge: Judge = field(default_factory=Judge)


@dataclass
class Bench:
    """What all students of a run share.

    images uint8 (N, 256, 512, 3), targets uint8 (N, 256, 512) and the pictures' names in the split's order; stage: the
    pictures as the children see them; data: the digest of all that; device: cpu, or the GPU's name; scratch: a folder
    for copies, which ends with the run.
    """

    out: Path
    scratch: Path
    images: np.ndarray
    targets: np.ndarray
    names: Sequence[str]
    data: str
    split: str
    device: str
    threads: int
    trial: Trial
    level: "Level | None" = None
    limits: "Limits | None" = None
    stage: Any = None
    late: Callable[[str | None], int | None] = lambda submitted: None

    @property
    def level_name(self) -> str:
        return getattr(self.level, "value", str(self.level))

    def key(self, student: Student) -> str:
        """The digest of all that the student's record is made from: files, names, data, limits, grader and level."""
        facts = {name: value for name, value in student.facts().items() if name not in ("folder", "submitted")}
        # the limit on CPU time follows from the others and the machine's cores
        limits = {name: value for name, value in asdict(self.limits).items() if name != "cpu"}
        return digest([SCHEMA, facts, self.data, self.split, limits, self.level_name, self.device, versions()])

    def known(self, student: Student) -> dict:
        """The record's entries that cost nothing to know, and are brought up to date in a record that stands."""
        facts = student.facts()
        return clean({**{name: facts[name] for name in ("folder", "submitted")}, "late": self.late(facts["submitted"])})


def mark(student: Student, bench: Bench, slot: Slot) -> dict:
    """The student's record. A fault of ours becomes the state CRASH, in a record without a key, which does not stand.
    """
    begin = time.monotonic()
    record = {"schema": SCHEMA, "slug": student.slug, **student.facts(), "key": bench.key(student)}
    faults: list[str] = []
    prints: dict[int, dict] = {}
    tasks: dict[int, dict] = {}
    kept: list[Path] = []
    if student.look.ours:
        faults.append(student.look.error)
    elif not student.look.error:
        try:
            with tempfile.TemporaryDirectory(dir=bench.scratch, ignore_cleanup_errors=True) as temporary:
                opened = _open(student, Path(temporary))
                for part, path in opened.handin.files.items():
                    findings, mark_ = slot.judge.judge(part.subject, path)
                    record["findings"] += [asdict(finding) for finding in findings]
                    if mark_ is not None:
                        prints[part.task] = mark_
                for number, task in TASKS.items():
                    tasks[number] = _try(task, opened, bench, slot, student.slug, faults)
                    kept += [bench.out / picture["file"] for picture in tasks[number]["pictures"]]
                kept += _keep(opened, prints, student.slug, bench)
        except Exception as error:  # a fault of ours in one submission stops no other
            faults.append(_describe(error))
    for number in TASKS:
        state = "CRASH" if faults else "MISSING_FILE"
        tasks.setdefault(number, empty_task(state, faults[-1] if faults else student.look.error))
    _drop(bench.out, student.slug, kept)
    if faults:
        record["key"] = ""
    return record | bench.known(student) | {
        "tasks": {str(number): task for number, task in tasks.items()}, "faults": faults, "graded": now(),
        "versions": versions(), "level": bench.level_name, "device": bench.device,
        "seconds": round(time.monotonic() - begin, 3)}


def _open(student: Student, scratch: Path) -> Opened:
    folder = scratch / "in"
    folder.mkdir()
    opened = open_submission(student.look.submission, folder)
    if opened.digests != {subject: entry["sha256"] for subject, entry in student.look.files.items()}:
        raise MachineError(f"expected the files of a moment ago, found others in {student.look.submission.folder}: "
                           "grade again when nobody writes there")
    return opened


def _try(task: Task, opened: Opened, bench: Bench, slot: Slot, slug: str, faults: list[str]) -> dict:
    """The record of a task; what goes wrong with our own doing is added to `faults`."""
    files = {part.kind: path for part, path in opened.handin.files.items() if part.task == task.number}
    absent = [part.template for part in PARTS if part.task == task.number and part.kind in ("network", "weights")
              and part.kind not in files]
    if absent:
        return empty_task("MISSING_FILE", f"expected {' and '.join(absent)}, found no such file: nothing to score")
    try:
        record, masks = bench.trial(task, files["network"], files["weights"], bench.stage, bench.targets, bench.names,
                                    bench.level, bench.limits, gpu=slot.gpu, threads=bench.threads)
    except Exception as error:
        faults.append(f"task {task.number}: {_describe(error)}")
        return empty_task("CRASH", f"the grader failed: {_describe(error)}")
    try:
        if masks is not None:
            record["pictures"] = write_panels(record.get("pictures") or [], bench.images, bench.targets, masks,
                                              bench.names, bench.out, f"pictures/{slug}", task.number)
    except LabError as error:  # the score stands without them
        faults.append(str(error))
        record["pictures"] = []
    return record


def _keep(opened: Opened, prints: dict[int, dict], slug: str, bench: Bench) -> list[Path]:
    """Keeps the network files and the fingerprints of the weights, for the comparison of the class; where they lie."""
    kept = []
    for part, path in opened.handin.files.items():
        if part.kind == "network":
            kept.append(source_path(bench.out, slug, part.task))
            with replacing(kept[-1]) as temporary:
                shutil.copyfile(path, temporary)
    for number, found in prints.items():
        kept.append(print_path(bench.out, slug, number))
        write_json(kept[-1], clean(found))
    return kept


def _drop(out: Path, slug: str, kept: Sequence[Path]) -> None:
    """Takes away what an earlier grading of this student left, and this one has not written anew."""
    for folder in (out / "pictures" / slug, source_path(out, slug, 1).parent):
        for path in folder.iterdir() if folder.is_dir() else ():
            if path not in kept:
                path.unlink(missing_ok=True)


def now() -> str:
    """This moment in UTC, ISO 8601."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _describe(error: BaseException) -> str:
    return str(error) if isinstance(error, LabError) else f"{type(error).__name__}: {error}"[:500]
