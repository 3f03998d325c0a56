"""Grades a class: every submission in a sandbox, several at a time, a record a student as soon as it is known.

    python -m grading grade SUBMISSIONS --data DATA --out REPORT

A second run does only what has changed since; what is interrupted loses only those at work.
"""
import argparse
import contextlib
import re
import secrets
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from utils.lab import LabError
from utils.terminal import bar_stream

# What loads torch is imported where it is needed: `python -m grading --help` is asked more often than it is graded.
if TYPE_CHECKING:
    from grading.course import Course
    from grading.intake.roster import Student
    from grading.marking import Bench, Trial
    from grading.sandbox import Level, Limits

A_PICTURE = 2.0  # seconds of wall time that a picture may take, where no limit is given
LEAST_MEMORY = 3  # GB
BESIDES = 900.0  # seconds that anything but the two trials may take of a student, before the student is given up


@dataclass
class Summary:
    """What a run did: students in all (of this shard), graded now, kept from before, and the states of each task.

    unwritten: why records could not be written, a line each; failed: students whom the grader failed, by no fault of
    theirs (the next run tries them again), each with the reason.
    """

    students: int = 0
    graded: int = 0
    kept: int = 0
    states: dict[str, Counter] = field(default_factory=dict)
    unwritten: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{self.students} students: {self.graded} graded now, {self.kept} as before"]
        lines += [f"task {task}: " + ", ".join(f"{count} {state}" for state, count in states.most_common())
                  for task, states in self.states.items()]
        if self.failed:
            lines.append(f"{len(self.failed)} were failed by the grader itself, so grade again, which tries them anew: "
                         f"{self.failed[0]}")
        return "\n".join(lines)


def grade(submissions: Path, data: Path | None, out: Path, *, jobs: int | None = None, shard: tuple[int, int] = (0, 1),
          level: "Level | None" = None, insecure: bool = False, device: str = "auto", split: str | None = None,
          wall: float | None = None, memory: int | None = None, limits: "Limits | None" = None,
          course: "Course | None" = None, trial: "Trial | None" = None) -> Summary:
    """Grades the submissions in a folder or zip into the folder `out`: records, pictures, overrides.csv.

    jobs: students at a time, one a core or GPU by default. shard: (index from 0, number of shards). level: the
    sandbox's, by default the strongest that works here (`insecure` allows none). device: cpu, cuda or auto. split: val,
    or test where only that has pictures. wall: seconds for a network, by default 600 or, if that is more, 2 a picture;
    memory: bytes for it; limits: all of them. trial: instead of grading.trials.try_task.

    Raises LabError for input that nothing can be made of, at once, and at the end for records that could not be
    written; what is wrong with single submissions stands in their records.
    """
    from grading.course import read_course
    from grading.intake.submissions import find_submissions
    from grading.overrides import read_overrides
    from grading.points import points
    from grading.records import digest, read_records
    from grading.sandbox import find_level

    submissions, out = Path(submissions), Path(out)
    _check(submissions, out, jobs, shard, device)
    course = course or read_course()
    read_overrides(out)  # what cannot be understood is told before the work
    found, notes = find_submissions(submissions)
    for note in notes:
        _say(f"note: {note}")
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lab-grading-",
                                                                       ignore_cleanup_errors=True)))
        gpus = _gpus(device)
        workers = min(jobs or len(gpus), len(gpus)) if gpus else jobs or _cores()
        students = _enroll(found, scratch, workers)
        bench = _bench(data, split, out, scratch, gpus, workers)
        bench.level = find_level(insecure) if level is None else level
        bench.limits = limits or _limits(wall, memory, len(bench.names), bench.threads)
        bench.trial = trial or bench.trial
        if course.deadline is not None:
            bench.late = course.days_late
        mine = [student for student in students if int(digest(student.slug), 16) % shard[1] == shard[0]]
        work = [student for student in mine if not _stands(student, bench)]
        summary = Summary(len(mine), len(work), len(mine) - len(work))
        if work:
            if trial is None:
                from grading.trials import stage_pictures

                bench.stage = stage_pictures(bench.images, scratch, secrets.token_bytes(32))
            summary.unwritten = _work_off(work, bench, gpus or [None] * workers, stop=trial is None)
    _tidy(out, students)
    records = read_records(out, lambda text: _say(f"note: {text}"))
    slugs = {student.slug for student in mine}
    for number in ("1", "2"):
        summary.states[number] = Counter(record["tasks"][number]["state"] for record in records
                                         if record["slug"] in slugs)
    summary.failed = [f"{record['student']}: {record['faults'][0]}" for record in records
                      if record["slug"] in slugs and record.get("faults")]
    if summary.unwritten:
        raise LabError(f"expected to write every record, found {len(summary.unwritten)} of {len(work)} that could not "
                       f"be ({summary.unwritten[0]}); the others are kept: grade again")
    points(out, course, records, lambda text: _say(f"note: {text}"))
    return summary


def _check(submissions: Path, out: Path, jobs: int | None, shard: tuple[int, int], device: str) -> None:
    """Raises LabError for settings that make no sense, and for a place that cannot be written."""
    if jobs is not None and jobs < 1:
        raise LabError(f"expected --jobs of at least 1, found {jobs}: leave it out for one a core")
    if not 0 <= shard[0] < shard[1]:
        raise LabError(f"expected --shard 1/N to N/N, found {shard[0] + 1}/{shard[1]}: count from 1")
    if device not in ("auto", "cpu", "cuda"):
        raise LabError(f"expected --device cpu, cuda or auto, found {device!r}")
    place, class_ = out.resolve(), submissions.resolve()
    if place == class_ or class_ in place.parents:
        raise LabError(f"expected a report outside the submissions, found {out} in {submissions}: it would be taken "
                       "for one of them; choose another --out")
    try:
        (out / "records").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out / "records"):
            pass
    except OSError as error:
        raise LabError(f"expected a folder for the report that can be written, found {error.strerror} at {out}: choose "
                       "another --out") from None


def _gpus(device: str) -> list[int]:
    """The GPUs to grade on; none for the CPU."""
    if device == "cpu":
        return []
    import torch

    gpus = list(range(torch.cuda.device_count() if torch.cuda.is_available() else 0))
    if device == "cuda" and not gpus:
        raise LabError("expected a GPU for --device cuda, found none: see nvidia-smi, or pass --device cpu")
    return gpus


def _cores() -> int:
    from utils.machine import available_cores

    return available_cores()


def _enroll(found: list, scratch: Path, workers: int) -> "list[Student]":
    """The class, each submission looked into once."""
    from grading.intake.roster import enroll, look_into
    from grading.workers import work_off

    looks = {}
    with contextlib.closing(work_off(found, lambda submission: look_into(submission, scratch), workers)) as done:
        for submission, look in done:
            if isinstance(look, Exception):  # the scratch folder, say
                raise LabError(f"expected to open the submissions, found: {look}: free some space in {scratch.parent}, "
                               "or set TMPDIR")
            looks[submission] = look
    return enroll([looks[submission] for submission in found])


def _bench(data: Path | None, split: str | None, out: Path, scratch: Path, gpus: list[int], workers: int) -> "Bench":
    """What the students of this run share, the pictures above all."""
    from dataset.dataset import SegmentationDataset
    from dataset.reader import find_data, require_lab_classes, scored_split
    from grading.marking import Bench
    from grading.records import arrays_digest, digest
    from grading.trials import try_task

    root = find_data(data)
    require_lab_classes(root)
    split = split or scored_split(root)
    dataset = SegmentationDataset(root, split)
    images, targets = dataset.arrays
    names = [pair.name for pair in dataset.pairs]
    device = "cpu"
    if gpus:
        import torch

        device = torch.cuda.get_device_name(gpus[0])
    return Bench(out, scratch, images, targets, names, digest([names, arrays_digest([images, targets])]), split, device,
                 max(1, _cores() // workers), try_task)


def _limits(wall: float | None, memory: int | None, pictures: int, threads: int) -> "Limits":
    from grading.sandbox import Limits

    given = {"wall": wall or max(Limits.wall, A_PICTURE * pictures), "memory": memory or Limits.memory}
    return Limits(**given, cpu=max(Limits.cpu, 2 * given["wall"] * threads))


def _stands(student: "Student", bench: "Bench") -> bool:
    """Whether the student's record of an earlier run stands; what costs nothing is brought up to date in it."""
    from grading.records import read_record, record_path, write_record

    path = record_path(bench.out, student.slug)
    if not path.exists():
        return False
    try:
        record = read_record(path)
    except LabError as error:
        _say(f"note: {error}")
        return False
    if record.get("key") != bench.key(student):
        return False
    known = bench.known(student)
    if any(record.get(name) != value for name, value in known.items()):
        write_record(bench.out, student.slug, record | known)
    return True


def _work_off(students: "list[Student]", bench: "Bench", gpus: list[int | None], stop: bool) -> list[str]:
    """Marks the students and writes their records; the reasons why some could not be written."""
    from tqdm import tqdm

    from grading.marking import Slot, mark
    from grading.records import write_record
    from grading.workers import work_off

    slots: SimpleQueue[Slot] = SimpleQueue()
    every = [Slot(gpu) for gpu in gpus]
    held: dict[int, Slot] = {}  # by the student's id()
    for slot in every:
        slots.put(slot)

    def work(student: "Student") -> dict:
        slot = held[id(student)] = slots.get()
        try:
            return mark(student, bench, slot)
        finally:
            if held.pop(id(student), None) is not None:
                slots.put(slot)

    def end() -> None:
        if stop:
            from grading import sandbox

            sandbox.stop()
        for slot in every:
            slot.judge.close()

    faults: list[str] = []
    begin = time.monotonic()
    patience = 2 * bench.limits.wall + BESIDES
    bar = tqdm(total=len(students), desc="grading", unit="student", file=bar_stream(), disable=None)
    try:
        with contextlib.closing(work_off(students, work, len(every), patience, end)) as done, bar:
            for count, (student, result) in enumerate(done, 1):
                if isinstance(result, TimeoutError) and (lost := held.pop(id(student), None)) is not None:
                    every.append(Slot(lost.gpu))  # its own is in the hands of a thread that does not come back
                    slots.put(every[-1])
                record = _failed(student, bench, result) if isinstance(result, Exception) else result
                try:
                    write_record(bench.out, student.slug, record)
                except LabError as error:
                    faults.append(str(error))
                bar.update()
                left = (time.monotonic() - begin) / count * (len(students) - count)
                line = f"{count}/{len(students)} {_line(record)}"
                _say(line if not bar.disable else f"{line}, about {_minutes(left)} left", bar)
    finally:
        for slot in every:
            slot.judge.close()
    return faults


def _failed(student: "Student", bench: "Bench", error: Exception) -> dict:
    """The record of a student whom we could not grade, and no fault of the submission's: it does not stand."""
    from grading.marking import now
    from grading.records import SCHEMA, empty_task, versions

    why = f"the grader failed: {type(error).__name__}: {error}"[:500]
    return {"schema": SCHEMA, "slug": student.slug, **student.facts(), "key": "", **bench.known(student),
            "tasks": {number: empty_task("CRASH", why) for number in ("1", "2")}, "faults": [why], "graded": now(),
            "versions": versions(), "level": bench.level_name, "device": bench.device, "seconds": 0.0}


def _tidy(out: Path, students: "list[Student]") -> None:
    """Takes away records of submissions that have another name now, which gets what was decided under the old one.

    Says which records belong to no submission of this run.
    """
    from grading.overrides import rename
    from grading.records import read_records, record_path

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
    for slug in renamed:  # last, so that a run that is stopped in between is made up for by the next
        record_path(out, slug).unlink(missing_ok=True)
    if others:
        more = "" if len(others) <= 5 else f" and {len(others) - 5} more"
        _say(f"note: {out} has records of others than these submissions ({', '.join(others[:5])}{more}): they count as "
             f"well; delete their files in {out / 'records'} if they shall not")


def _line(record: dict) -> str:
    tasks = []
    for number, task in record["tasks"].items():
        score = "" if task.get("miou") is None else f" {task['miou']:.4f}"
        tasks.append(f"task {number} {task['state']}{score}")
    return f"{record['student']}: {', '.join(tasks)} ({record['seconds']:.0f} s)"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _say(line: str, bar: object = None) -> None:
    """A line on stderr, above the bar if there is one; what a student's name has in it moves no cursor."""
    line = "".join(char if char.isprintable() else "\ufffd" for char in line)
    encoding = getattr(bar_stream(), "encoding", None) or "utf-8"
    line = line.encode(encoding, "backslashreplace").decode(encoding)
    if bar is None:
        print(line, file=bar_stream(), flush=True)
    else:
        bar.write(line, file=bar_stream())


def add_arguments(commands: argparse._SubParsersAction) -> None:
    """Adds the command `grade` with its options."""
    parser = commands.add_parser("grade", help="grade a class", description="Grades a class: every network runs in a "
                                 "sandbox. A second run does only what has changed.")
    parser.add_argument("submissions", type=Path, metavar="SUBMISSIONS",
                        help="a folder with a folder or zip a student, or the one zip that Moodle makes of all")
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="the data set to score on")
    parser.add_argument("--out", type=Path, required=True, metavar="REPORT", help="the report's folder")
    parser.add_argument("--jobs", type=int, metavar="N", help="students at a time (default: one a core, or GPU)")
    parser.add_argument("--shard", default="1/1", metavar="I/N",
                        help="the I-th of N parts of the class, for N machines with one REPORT (1/4 to 4/4)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto",
                        help="where the networks run (default: auto, the GPUs if there are any)")
    parser.add_argument("--split", metavar="SPLIT", help="the split to score on (default: val, or test)")
    parser.add_argument("--course", type=Path, metavar="FILE",
                        help="the course's own points, thresholds and deadline (default: grading/course.toml)")
    parser.add_argument("--insecure", action="store_true",
                        help="where no sandbox works: grade all the same, with your rights in every submission's hands")
    parser.add_argument("--wall", type=float, metavar="SECONDS",
                        help="time for each network (default: 600, or 2 a picture if that is more)")
    parser.add_argument("--memory", type=float, metavar="GB", help="memory for each network (default: 4)")
    parser.set_defaults(run=run_grade)


def run_grade(args: argparse.Namespace) -> None:
    """The command: grades, then says on stdout what was done."""
    from grading.course import read_course

    shard = re.fullmatch(r"(\d{1,6})/(\d{1,6})", args.shard)
    if shard is None:
        raise LabError(f"expected --shard I/N, such as 1/4, found {args.shard!r}")
    if args.wall is not None and not 0 < args.wall < 1e7:
        raise LabError(f"expected --wall in seconds, more than 0, found {args.wall:g}")
    if args.memory is not None and not LEAST_MEMORY <= args.memory < 1e5:
        raise LabError(f"expected --memory of at least {LEAST_MEMORY} GB, of which torch alone maps two, found "
                       f"{args.memory:g}")
    memory = None if args.memory is None else int(args.memory * (1 << 30))
    summary = grade(args.submissions, args.data, args.out, jobs=args.jobs, shard=(int(shard[1]) - 1, int(shard[2])),
                    insecure=args.insecure, device=args.device, split=args.split, wall=args.wall,
                    memory=memory, course=read_course(args.course))
    print(summary)
    print(f"records, pictures and overrides.csv: {args.out}; python -m grading report {args.out} makes the tables and "
          "pages")
