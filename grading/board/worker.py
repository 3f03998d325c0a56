"""The process that scores: python -m grading.board.worker SETTINGS, where SETTINGS is the JSON of WorkerSettings.

It takes one hand-in after the other from the queue, for each of its jobs, and marks it as `grade` does. The server
starts it and it ends with the server; killed at any moment it loses nothing, as the next one tries again what ran.
"""
import contextlib
import json
import os
import secrets
import shutil
import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from filelock import FileLock

from grading.board.queue import claim, finish, give_back, give_back_all
from grading.board.store import BusyError, Store
from grading.course import read_course
from grading.intake.listing import Moment, Place
from grading.intake.submissions import Submission
from grading.part import read_part
from grading.settings import GradeSettings
from utils.lab import LabError
from utils.terminal import run_main

LOCK = ".worker.lock"
POLL = 0.5          # seconds between two looks into an empty queue
NICE = 10           # behind the server, whose answers are waited for
LEAST_FREE = 1 << 30  # bytes of disk, below which nothing is begun
PAUSE = (5.0, 30.0)   # seconds after a failure of the grader, and after more of them


@dataclass(frozen=True)
class WorkerSettings:
    """What the server tells its worker. split: of the images, None for the part that the board's secret chooses."""

    board: str
    data: str | None
    split: str | None
    jobs: int | None
    device: str
    wall: float | None
    memory: int | None
    insecure: bool
    course: str | None
    trial: str = ""     # a test's: module:function in place of the sandboxed trial
    parent: int = 0

    def dump(self) -> str:
        return json.dumps(asdict(self) | {"parent": os.getpid()})


def home(board: Path, handin: str) -> Path:
    """The folder of a hand-in: in/ has its files, report/ what `grade` would write of it. `handin` is one of our ids.
    """
    return Path(board) / "handins" / handin


def free(board: Path) -> bool:
    """Whether there is disk enough to accept and to score."""
    return shutil.disk_usage(board).free > LEAST_FREE


def main() -> None:
    settings = WorkerSettings(**json.loads(sys.argv[1]))
    if settings.parent:
        from grading.trial.sandbox import confine

        confine.die_with_parent(settings.parent)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server hears Ctrl-C, and ends this
    with contextlib.suppress(OSError):
        os.nice(NICE)
    store = Store(Path(settings.board))
    with FileLock(store.board / LOCK, mode=0o600):  # waits for one that is still ending
        work(store, settings)


def work(store: Store, settings: WorkerSettings) -> None:
    """Scores what the queue has, without end. Raises LabError for data that cannot be scored on."""
    from grading.class_run import prepare
    from grading.grade import count_workers, gpus_for
    from grading.marking import Worker
    from grading.trial.sandbox.leftovers import sweep, temporary_folder
    from grading.trial.scoring import stage_images

    patiently(lambda: give_back_all(store))
    grade = GradeSettings(
        store.board / "handins", Path(settings.data) if settings.data else None, store.board / "report",
        jobs=settings.jobs, device=settings.device, split=settings.split, wall=settings.wall, memory=settings.memory,
        insecure=settings.insecure, course=read_course(Path(settings.course) if settings.course else None),
        trial=_load(settings.trial), part=None if settings.split else read_part(store.board))
    with temporary_folder("lab-grading-") as scratch:
        sweep(store.board)
        gpus = gpus_for(grade.device)
        jobs = count_workers(grade, gpus)
        run = prepare(grade, scratch, gpus, jobs)
        _same_data(store, run.data)
        if grade.trial is None:
            run.staged = stage_images(run.images, scratch, secrets.token_bytes(32))
        begun: dict[int, float] = {}

        def loop(number: int, worker: Worker) -> None:
            while True:
                row = patiently(lambda: None if store.get("paused") or not free(store.board) else claim(store))
                if row is None:
                    time.sleep(POLL)
                    continue
                begun[number] = time.monotonic()
                score(store, run, worker, row)
                begun.pop(number, None)

        for number in range(jobs):
            worker = Worker(gpus[number % len(gpus)] if gpus else None)
            threading.Thread(target=loop, args=(number, worker), daemon=True).start()
        while True:
            beat(store, jobs)
            time.sleep(2)
            if any(time.monotonic() - at > run.patience for at in list(begun.values())):
                os._exit(1)  # a thread hangs: the next worker begins anew


def score(store: Store, run: object, worker: object, row: dict) -> None:
    """Scores one hand-in; whatever goes wrong here is the grader's fault, and the hand-in goes back."""
    from grading.intake.opening import look_into
    from grading.intake.students import Student
    from grading.marking import mark
    from grading.records import slug_of, write_record

    folder, number = home(store.board, row["id"]), row["student"]
    submission = submission_of(store.board, row["id"], number, row["accepted"])
    try:
        look_into(submission, run.scratch)
        record = mark(Student(submission, slug_of(number), number), replace(run, out=folder / "report"), worker)
        if not record["faults"]:
            write_record(folder / "report", record["slug"], record)
        why = "; ".join(record["faults"])
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
    if not why:
        patiently(lambda: finish(store, row["id"], record))
        return
    time.sleep(PAUSE[min(row["faults"], 1)])
    patiently(lambda: give_back(store, row["id"], why))


def submission_of(board: Path, handin: str, student: str, accepted: float) -> Submission:
    """A hand-in's files as the grader's intake takes them."""
    files = home(board, handin) / "in"
    archive = files / "handin.zip"
    return Submission(student, (Place(archive if archive.exists() else files),), number=student,
                      moment=Moment(accepted))


def patiently(do: object) -> object:
    """What `do` returns, tried until the state can be changed: a result is not lost to a lock or a full disk."""
    while True:
        try:
            return do()
        except BusyError:
            time.sleep(POLL)


def beat(store: Store, jobs: int) -> None:
    """Says that the worker lives, in a file, so that no transaction is needed."""
    with contextlib.suppress(OSError):
        (store.board / "worker.json").write_text(json.dumps({"at": time.time(), "jobs": jobs}), encoding="ascii")


def _same_data(store: Store, data: str) -> None:
    known = store.get("data")
    if known and known != data:
        raise LabError("expected the images that the board began with, found others: scores on different images do not "
                       "compare; pass the same --data, or begin another BOARD")
    if not known:
        patiently(lambda: store.put(data=data))


def _load(name: str) -> object:
    if not name:
        return None
    import importlib

    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


if __name__ == "__main__":
    run_main(main)
