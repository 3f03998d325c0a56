"""Marks one student: opens the submission, judges its files, tries both networks, and makes the record."""
import datetime
import hashlib
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from grading.class_run import ClassRun
from grading.errors import error_map, errors_path, save_errors
from grading.intake.opening import MachineError, open_submission
from grading.intake.students import Student
from grading.judge import Judge
from grading.panels import write_panels
from grading.records import SCHEMA, clean, empty_task, file_digest, print_path, proof_paths, source_path, versions
from handin.names import PARTS, Handin
from utils.files import replacing, write_json
from utils.lab import TASKS, LabError, Task


@dataclass
class Worker:
    """What one thread of the grader has to itself: a GPU, if there are any, and a process that judges files."""

    gpu: int | None = None
    judge: Judge = field(default_factory=Judge)


def mark(student: Student, run: ClassRun, worker: Worker) -> dict:
    """The student's record. A fault of ours becomes the state CRASH, in a record without a key, which does not stand.
    """
    begin = time.monotonic()
    submission, slug = student.submission, student.slug
    faults: list[str] = []
    findings, prints, tasks, kept = [], {}, {}, []
    if submission.ours:
        faults.append(submission.error)
    elif not submission.error:
        try:
            with tempfile.TemporaryDirectory(dir=run.scratch, ignore_cleanup_errors=True) as temporary:
                handin = _open(student, Path(temporary), run.course.number)
                for part, path in handin.files.items():
                    found, weight_print = worker.judge.judge(part.subject, path)
                    findings += [asdict(finding) for finding in found]
                    if weight_print is not None:
                        prints[part.task] = weight_print
                for number, task in TASKS.items():
                    tasks[number] = _try(task, handin, run, worker, slug, faults)
                    kept += [run.out / image["file"] for image in tasks[number]["images"]]
                    kept += [errors_path(run.out, slug, number)] if tasks[number].get("masks") else []
                    kept += proof_paths(run.out, slug, number) if tasks[number].get("proof") else []
                flag_rules(tasks, findings)
                kept += _keep(handin, prints, slug, run.out)
        except Exception as error:  # a fault of ours in one submission stops no other
            faults.append(_describe(error))
    state, why = ("CRASH", faults[-1]) if faults else ("MISSING_FILE", submission.error)
    _drop(run.out, slug, kept)
    record = make_record(student, run, {number: tasks.get(number) or empty_task(state, why) for number in TASKS},
                         faults, time.monotonic() - begin)
    record["findings"] += findings
    return record


def flag_rules(tasks: dict[int, dict], findings: Sequence[dict]) -> None:
    """Flags a scored task whose network file breaks the lab's rules, as far as reading it shows."""
    for number, task in tasks.items():
        broken = [finding["text"] for finding in findings
                  if finding["level"] == "FAIL" and finding["subject"] == f"network {number}"]
        if broken and task["state"] in ("OK", "FLAGGED", "COST_UNVERIFIED"):
            task["flags"] = [*task["flags"], {"code": "RULES", "text": "; ".join(broken)[:1000]}]
            task["state"] = "FLAGGED" if task["state"] == "OK" else task["state"]


def make_record(student: Student, run: ClassRun, tasks: dict[int, dict], faults: list[str], seconds: float) -> dict:
    """The record of a student. With `faults`, which are the grader's, it has no key, and the next run makes it again.
    """
    return {"schema": SCHEMA, "slug": student.slug, **student.facts(), "key": "" if faults else run.key(student),
            **run.changing(student), "tasks": {str(number): task for number, task in tasks.items()}, "faults": faults,
            "graded": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "versions": versions(), "level": run.level_name, "device": run.device,
            "data": run.data, "split": run.split, "data_folder": run.folder, "threads": run.threads,
            "limits": run.limited, "seconds": round(seconds, 3)}


def failed_record(student: Student, run: ClassRun, error: Exception) -> dict:
    """The record of a student whom the grader could not grade, by no fault of the submission."""
    why = f"the grader failed: {type(error).__name__}: {error}"[:500]
    return make_record(student, run, {number: empty_task("CRASH", why) for number in TASKS}, [why], 0.0)


def _open(student: Student, scratch: Path, form: str) -> Handin:
    folder = scratch / "in"
    folder.mkdir()
    handin, _ = open_submission(student.submission, folder, form)
    digests = {part.subject: file_digest(path) for part, path in handin.files.items()}
    if digests != {subject: entry["sha256"] for subject, entry in student.submission.files.items()}:
        raise MachineError(f"expected the files of a moment ago, found others in {student.submission.name}: grade "
                           "again when nobody writes there")
    return handin


def _try(task: Task, handin: Handin, run: ClassRun, worker: Worker, slug: str, faults: list[str]) -> dict:
    """The record of a task; what the grader itself does wrong is added to `faults`."""
    files = {part.kind: path for part, path in handin.files.items() if part.task == task.number}
    absent = [part.template for part in PARTS if part.task == task.number and part.kind in ("network", "weights")
              and part.kind not in files]
    if absent:
        return empty_task("MISSING_FILE", f"expected {' and '.join(absent)}, found no such file: nothing to score")
    try:
        record, masks, proof = run.trial(task, files["network"], files["weights"], run.staged, run.targets, run.names,
                                         run.level, run.limits, gpu=worker.gpu, threads=run.threads)
    except Exception as error:
        faults.append(f"task {task.number}: {_describe(error)}")
        return empty_task("CRASH", f"the grader failed: {_describe(error)}")
    try:
        if masks is not None:
            record["masks"] = masks_digest(masks)
            save_errors(errors_path(run.out, slug, task.number), error_map(masks, run.targets), run.data)
        if proof is not None:
            proof.save(*proof_paths(run.out, slug, task.number))
        if masks is not None:
            record["images"] = write_panels(record.get("images") or [], run.images, run.targets, masks, run.names,
                                            run.out, f"images/{slug}", task.number)
    except LabError as error:  # the score stands without them
        faults.append(str(error))
        record["images"] = []
    return record


def masks_digest(masks: np.ndarray) -> str:
    """SHA-256 in hexadecimal of masks, uint8 (N, H, W)."""
    return hashlib.sha256(np.ascontiguousarray(masks).data).hexdigest()


def _keep(handin: Handin, prints: dict[int, dict], slug: str, out: Path) -> list[Path]:
    """Keeps the network files and the fingerprints of the weights, to compare the class; returns where they are."""
    kept = []
    for part, path in handin.files.items():
        if part.kind == "network":
            kept.append(source_path(out, slug, part.task))
            with replacing(kept[-1]) as temporary:
                shutil.copyfile(path, temporary)
    for number, found in prints.items():
        kept.append(print_path(out, slug, number))
        write_json(kept[-1], clean(found))
    return kept


def _drop(out: Path, slug: str, kept: Sequence[Path]) -> None:
    """Removes what an earlier grading of this student left, and this one has not written again."""
    for folder in (out / "images" / slug, source_path(out, slug, 1).parent, proof_paths(out, slug, 1)[0].parent):
        for path in folder.iterdir() if folder.is_dir() else ():
            if path not in kept:
                path.unlink(missing_ok=True)


def _describe(error: BaseException) -> str:
    return str(error) if isinstance(error, LabError) else f"{type(error).__name__}: {error}"[:500]
