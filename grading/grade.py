"""Grades a class: every submission in a sandbox, several at a time, a record for each student as soon as it is known.

    python -m grading grade SUBMISSIONS --data DATA --out REPORT

A second run does only what has changed since; an interrupted one loses only the students at work.
"""
import argparse
import contextlib
import secrets
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from grading.console import progress, say
from grading.course import read_course
from grading.settings import GradeSettings, add_arguments, from_arguments
from utils.lab import LabError

# What loads torch is imported where it is needed: `python -m grading --help` is asked more often than it is graded.
if TYPE_CHECKING:
    from grading.class_run import ClassRun
    from grading.intake.students import Student
    from grading.intake.submissions import Submission


@dataclass
class Summary:
    """What a run did: students in all (of this shard), graded now, kept from before, and the states of each task.

    absent: students on the roster without a submission. unwritten: why records could not be written, a line each.
    failed: students whom the grader failed, by no fault of theirs, with the reason; the next run tries them again.
    """

    students: int = 0
    graded: int = 0
    kept: int = 0
    absent: int = 0
    states: dict[str, Counter] = field(default_factory=dict)
    unwritten: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        absent = f" ({self.absent} of them handed in nothing)" if self.absent else ""
        lines = [f"{self.students} students{absent}: {self.graded} graded now, {self.kept} as before"]
        lines += [f"task {task}: " + ", ".join(f"{count} {state}" for state, count in states.most_common())
                  for task, states in self.states.items()]
        if self.failed:
            lines.append(f"{len(self.failed)} were failed by the grader itself, so grade again, which tries them once "
                         f"more: {self.failed[0]}")
        return "\n".join(lines)


def grade(settings: GradeSettings) -> Summary:
    """Grades the submissions into the folder `settings.out`: records, images, overrides.csv.

    Raises LabError for input that nothing can be made of, at once, and at the end for records that could not be
    written; what is wrong with single submissions stands in their records.
    """
    from grading.class_run import prepare
    from grading.lock import report_lock, table_lock
    from grading.records import digest, read_records
    from grading.report.history import keep_history
    from grading.report.overrides import read_overrides
    from grading.report.points import points
    from grading.report.receipts import make_contents
    from grading.trial.sandbox.leftovers import sweep, temporary_folder
    from grading.trial.scoring import stage_images

    out, shard = settings.out, settings.shard
    _make_report(out)
    read_overrides(out)  # what cannot be understood is told before the work
    with report_lock(out, shard), temporary_folder("lab-grading-") as scratch:
        sweep(out)
        gpus = gpus_for(settings.device)
        workers = count_workers(settings, gpus)
        students = _enroll(settings, scratch, workers)
        run = prepare(settings, scratch, gpus, workers)
        mine = [student for student in students if int(digest(student.slug), 16) % shard[1] == shard[0]]
        work = [student for student in mine if not run.stands(student)]
        summary = Summary(len(mine), len(work), len(mine) - len(work),
                          sum(not student.submission.places for student in mine))
        if work:
            if settings.trial is None:
                run.staged = stage_images(run.images, scratch, secrets.token_bytes(32))
            summary.unwritten = _mark_all(work, run, gpus or [None] * workers)
        with table_lock(out):
            _tidy(out, students)
            records = read_records(out, lambda text: say(f"note: {text}"))
            _count(summary, records, {student.slug for student in mine})
            if not summary.unwritten:
                everybody = points(out, run.course, records, lambda text: say(f"note: {text}"))
                keep_history(out, make_contents(records, run.course, everybody, read_overrides(out)))
    if summary.unwritten:
        raise LabError(f"expected to write every record, found {len(summary.unwritten)} of {len(work)} that could not "
                       f"be ({summary.unwritten[0]}); the others are kept: grade again")
    return summary


def dry_run(settings: GradeSettings) -> list[str]:
    """The lines with which `grade` begins: who was found where, and what was passed over. Nothing is written."""
    from grading.trial.sandbox.leftovers import temporary_folder

    lines: list[str] = []
    with temporary_folder("lab-grading-") as scratch:
        _enroll(settings, scratch, count_workers(settings, []), lines.append)
    return lines


def _make_report(out: Path) -> None:
    try:
        (out / "records").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out / "records"):
            pass
    except OSError as error:
        raise LabError(f"expected a folder for the report that can be written, found {error.strerror} at {out}: choose "
                       "another --out") from None


def gpus_for(device: str) -> list[int]:
    """The GPUs to grade on; none for the CPU."""
    if device == "cpu":
        return []
    import torch

    gpus = list(range(torch.cuda.device_count() if torch.cuda.is_available() else 0))
    if device == "cuda" and not gpus:
        raise LabError("expected a GPU for --device cuda, found none: see nvidia-smi, or pass --device cpu")
    return gpus


def count_workers(settings: GradeSettings, gpus: list[int]) -> int:
    """How many students are graded at a time."""
    from utils.machine import available_cores

    return min(settings.jobs or len(gpus), len(gpus)) if gpus else settings.jobs or available_cores()


def _enroll(settings: GradeSettings, scratch: Path, workers: int, tell=say) -> "list[Student]":
    """The class, each submission opened once; says who was found where."""
    from grading.class_run import OTHER_WORK
    from grading.intake.opening import look_into
    from grading.intake.roster import read_roster
    from grading.intake.students import Owners, enroll, overview
    from grading.intake.submissions import find_submissions
    from grading.workers import work_through

    course = settings.course or read_course()
    owners = Owners(course.number, read_roster(settings.roster) if settings.roster else None)
    zone = course.deadline.tzinfo if course.deadline else None
    submissions, passed_over = find_submissions(settings.submissions, owners, zone)
    notes = [f"note: {text}" for text in passed_over]

    def look(some: "Iterable[Submission]") -> None:
        some = list(some)
        if not some:
            return
        done = work_through(some, lambda one, _: look_into(one, scratch, course.number), [lambda: None] * workers,
                            OTHER_WORK)
        with contextlib.closing(done), progress(len(some), "opening", "submission") as bar:
            for one, result in done:
                if isinstance(result, Exception):  # it took too long
                    one.error, one.ours = f"the grader failed: {result}", True
                bar.step()

    students = enroll(submissions, owners, look, lambda text: notes.append(f"note: {text}"))
    for line in overview(students, notes, owners):
        tell(line)
    return students


def _mark_all(students: "list[Student]", run: "ClassRun", gpus: list[int | None]) -> list[str]:
    """Marks the students and writes their records; the reasons why some could not be written."""
    from grading.marking import Worker, failed_record, mark
    from grading.records import write_record
    from grading.trial import sandbox
    from grading.workers import work_through

    every: list[Worker] = []

    def make_worker(gpu: int | None) -> Worker:
        every.append(Worker(gpu))
        return every[-1]

    def end() -> None:
        if run.staged is not None:
            sandbox.stop()
        for worker in every:
            worker.judge.close()

    unwritten: list[str] = []
    done = work_through(students, lambda student, worker: mark(student, run, worker),
                        [lambda gpu=gpu: make_worker(gpu) for gpu in gpus], run.patience, end)
    try:
        with contextlib.closing(done), progress(len(students), "grading", "student") as bar:
            for student, result in done:
                record = failed_record(student, run, result) if isinstance(result, Exception) else result
                try:
                    write_record(run.out, student.slug, record)
                except LabError as error:
                    unwritten.append(str(error))
                bar.step(_line(record))
    finally:
        for worker in every:
            worker.judge.close()
    return unwritten


def _line(record: dict) -> str:
    tasks = [f"task {number} {task['state']}" + ("" if task.get("miou") is None else f" {task['miou']:.4f}")
             for number, task in record["tasks"].items()]
    return f"{record['student']}: {', '.join(tasks)} ({record['seconds']:.0f} s)"


def _count(summary: Summary, records: list[dict], slugs: set[str]) -> None:
    """Adds up the states of this run's students."""
    mine = [record for record in records if record["slug"] in slugs]
    summary.states = {number: Counter(record["tasks"][number]["state"] for record in mine) for number in ("1", "2")}
    summary.failed = [f"{record['student']}: {record['faults'][0]}" for record in mine if record.get("faults")]


def _tidy(out: Path, students: "list[Student]") -> None:
    """Removes records of submissions that have another name now; what was decided under the old name goes with them.

    Says which records belong to no submission of this run.
    """
    from grading.records import read_records, record_path
    from grading.report.history import history_path
    from grading.report.overrides import rename

    slugs = {student.slug for student in students}
    folders = {student.facts()["folder"]: student.slug for student in students}
    renamed, others = {}, []
    for record in read_records(out, lambda text: None):
        if record["slug"] in slugs:
            continue
        now = folders.get(record.get("folder"))
        if now is not None and record_path(out, now).exists():
            renamed[record["slug"]] = now
        else:
            others.append(record["slug"])
    if renamed:
        rename(out, renamed)
        for old, new in renamed.items():
            if history_path(out, old).exists() and not history_path(out, new).exists():
                history_path(out, old).rename(history_path(out, new))
    for slug in renamed:  # last, so that the next run makes up for one that is stopped in between
        record_path(out, slug).unlink(missing_ok=True)
    if others:
        more = "" if len(others) <= 5 else f" and {len(others) - 5} more"
        say(f"note: {out} has records of others than these submissions ({', '.join(others[:5])}{more}): they count as "
            f"well; delete their files in {out / 'records'} if they should not")


def add_command(commands: argparse._SubParsersAction) -> None:
    """Adds the command `grade`."""
    parser = commands.add_parser("grade", help="grade a class", description="Grades a class: every network runs in a "
                                 "sandbox. A second run does only what has changed.")
    add_arguments(parser)
    parser.set_defaults(run=run_grade)


def run_grade(args: argparse.Namespace) -> None:
    """The command: grades, then says on stdout what was done."""
    settings = from_arguments(args)
    if args.dry_run:
        print("\n".join(dry_run(settings)))
        return
    print(grade(settings))
    print(f"records, images and overrides.csv: {settings.out}; python -m grading report {settings.out} makes the "
          "tables and pages")
