"""Trains many runs: each is a notebook in its own process, several at once, under one progress bar.

A run that is finished with the same settings is not trained again; an interrupted one goes on from its checkpoint.
"""
import argparse
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from training import headless
from training.folder import FREE_SETTINGS
from utils.files import move_aside, write_json
from utils.lab import ROOT, LabError, Task
from utils.machine import available_cores
from utils.run_records import read_run
from utils.terminal import bar_stream

POLL = 0.5      # seconds between two looks at the runs
PATIENCE = 10   # seconds that a run gets to end when it is stopped


@dataclass(frozen=True)
class Job:
    """One run of a task's notebook.

    settings: what the notebook gets, besides RESUME. asked: JSON values that identify the run; a result with the same
    ones is this run's. about: further entries for its result.json. network_file: with it the test script scores the
    weights; None: the mIoU of the run is that of its best epoch.
    """

    name: str
    task: Task
    folder: Path
    settings: dict
    asked: dict
    epochs: int
    about: dict
    network_file: Path | None

    @property
    def notebook(self) -> Path:
        return ROOT / self.task.notebook

    @property
    def model(self) -> Path:
        return self.folder / self.task.model_file


def all_settings(notebook: Path, given: dict, needed: Sequence[str], barred: Sequence[str]) -> dict:
    """The notebook's settings, changed by those `given`.

    Raises LabError if the notebook lacks one of `needed`, and for a given one that it lacks or that is `barred`.
    """
    settings = headless.notebook_settings(notebook)
    lacking = [name for name in needed if name not in settings]
    if lacking:
        raise LabError(f"expected the setting {lacking[0]} in {notebook}, found none: keep the hand-out's settings")
    free = [name for name in settings if name not in barred]
    for name in given:
        if name not in free:
            raise LabError(f"expected settings of {notebook.name} that may be changed here ({', '.join(free)}), "
                           f"found {name}: check -p")
    return {**settings, **given}


def given_settings(options: argparse.Namespace) -> dict:
    """The settings on a command line, as frontier.options reads them."""
    given = {name: headless.literal(text) for name, text in options.settings}
    return given | {name: value for name, value in (("EPOCHS", options.epochs), ("DATA", options.data))
                    if value is not None}


def make_job(name: str, task: Task, folder: Path, own: dict, recipe: dict, asked: dict, about: dict,
             network_file: Path | None = None) -> Job:
    """The job of a run in `folder`, identified by its settings (its `own` and the `recipe`'s) and by `asked`."""
    own = {**own, "RUN": str(folder), "MODEL": str(folder / task.model_file)}
    recipe, own = json.loads(json.dumps([{**recipe, **own}, own]))  # lists for tuples
    settings = {name: value for name, value in recipe.items() if name not in (*FREE_SETTINGS, "RUN")}
    return Job(name, task, folder, own, {"settings": settings, **asked}, recipe["EPOCHS"], about, network_file)


def notebook_command(job: Job, settings: dict) -> list[str]:
    """The command that trains with these settings and leaves the executed notebook in the job's folder."""
    given = [part for name, value in settings.items() for part in ("-p", name, repr(value))]
    return [sys.executable, "-m", "training.headless", str(job.notebook), "-o", str(job.folder / job.notebook.name),
            *given]


def score_command(job: Job, figures: Path) -> list[str]:
    """The command that writes the graded figures of the run's weights to `figures`."""
    return [sys.executable, str(ROOT / f"test_task{job.task.number}.py"), str(job.model), job.settings["DATA"],
            "--network", str(job.network_file), "--json", str(figures),
            "--device", str(job.settings.get("DEVICE", "auto"))]


def run_job(job: Job, threads: int, live: list[subprocess.Popen], stop: threading.Event) -> str:
    """Runs the notebook, then the test script, and writes result.json; returns "", or why it failed.

    It goes on from a checkpoint of the same settings. A run of other settings in the folder moves to
    `<folder>.previous`. live: holds the process while it runs. stop: is set when it shall end.
    """
    folder = job.folder
    resume = _read(folder / "asked.json") == job.asked and (folder / "checkpoint.pth").exists()
    if not resume and any((folder / name).exists() for name in ("checkpoint.pth", "history.json", "result.json")):
        _keep_older(folder)
    (folder / "result.json").unlink(missing_ok=True)
    write_json(folder / "asked.json", job.asked)
    commands = [notebook_command(job, {**job.settings, "RESUME": resume})]
    commands += [score_command(job, folder / "figures.json")] if job.network_file else []
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with (folder / "log.txt").open("ab" if resume else "wb") as log:
        for command in commands:
            # In a session of its own: Ctrl-C reaches only this program, which then ends all of them.
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log,
                                       stderr=subprocess.STDOUT, start_new_session=True)
            live.append(process)
            if stop.is_set():
                process.terminate()
            status = process.wait()
            live.remove(process)
            if status:
                lines = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
                return lines[-1].removeprefix("error: ").strip() if lines else f"ended with status {status}"
    try:
        _write_result(job)
    except LabError as error:
        return str(error)
    return ""


def _write_result(job: Job) -> None:
    history = read_run(job.folder).history
    if not history:
        raise LabError(f"expected an epoch's record in {job.folder / 'history.json'}, found none: give Run its RUN")
    write_json(job.folder / "result.json", {
        **job.about, "miou": max(record["miou"] for record in history),
        **(_read(job.folder / "figures.json") if job.network_file else {}),
        "last_miou": history[-1]["miou"], "epochs": len(history),
        "training_seconds": round(sum(record["seconds"] for record in history), 1), **job.asked})


def train(jobs: Sequence[Job], slots: int) -> int:
    """Trains the `jobs` that are not finished, `slots` at once, a line each on stderr; returns how many failed."""
    waiting = [job for job in jobs if not _is_finished(job)]
    if len(waiting) < len(jobs):
        print(f"{len(jobs) - len(waiting)} of {len(jobs)} runs are finished already", file=sys.stderr)
    threads, failed = max(1, available_cores() // slots), 0
    live, stop = [], threading.Event()
    with (ThreadPoolExecutor(slots) as pool,
          tqdm(total=sum(job.epochs for job in waiting), initial=sum(map(_epochs, waiting)), unit="epoch",
               file=bar_stream(), dynamic_ncols=True, disable=not waiting) as bar):
        pending = {pool.submit(run_job, job, threads, live, stop): job for job in waiting}
        try:
            while pending:
                finished = wait(pending, POLL, FIRST_COMPLETED).done
                for job, reason in [(pending.pop(future), future.result()) for future in finished]:
                    bar.write(_outcome(job, reason), file=sys.stderr)
                    failed += bool(reason)
                    if reason:
                        bar.total -= job.epochs - _epochs(job)
                bar.set_description(", ".join(job.name for future, job in pending.items() if future.running())[:60],
                                    refresh=False)
                done = sum(map(_epochs, waiting))
                if bar.fp.isatty() or bar.n != done:  # in a file every refresh would stay
                    bar.n = done
                    bar.refresh()
        except BaseException:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C would leave processes behind
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(live):
                process.terminate()
            wait([future for future in pending if future.running()], PATIENCE)
            for process in list(live):
                process.kill()  # a notebook's kernel ends when its parent is gone
            raise
    return failed


def carry_out(jobs: Sequence[Job], slots: int, folder: Path, show: Callable[[], object]) -> int:
    """`train` as a command: calls `show` at the end, returns the exit status; raises LabError if a run failed."""
    # When a server's queue ends this program, its runs end too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    headless.check_folder(folder, "choose another --folder")
    try:
        failed = train(jobs, slots)
    except KeyboardInterrupt:
        print("\nstopped by Ctrl-C: the same command goes on from the last finished epochs", file=sys.stderr)
        return 130
    if failed < len(jobs) or not jobs:
        show()
    if failed:
        raise LabError(f"expected {len(jobs)} runs to finish, found {failed} that failed, in {folder}: see the lines "
                       "above and their logs, then call the same command again")
    return 0


def _is_finished(job: Job) -> bool:
    result = read_result(job.folder)
    return bool(result) and all(result.get(key) == value for key, value in job.asked.items())


def _outcome(job: Job, reason: str) -> str:
    if reason:
        return f"{job.name} failed: {reason} (log: {job.folder / 'log.txt'})"
    result = read_result(job.folder)
    return (f"{job.name}: mIoU {result['miou']:.4f}, in the last epoch {result['last_miou']:.4f}, "
            f"{result['epochs']} epochs in {result['training_seconds'] / 60:.1f} min")


def _keep_older(folder: Path) -> None:
    previous = folder.with_name(f"{folder.name}.previous")
    if (previous / "result.json").is_file():
        raise LabError(f"expected to move the older run in {folder} to {previous}, found a finished one there too: "
                       "check --data, --epochs and -p, move it away, or choose another --folder")
    move_aside(folder, "choose another --folder")
    print(f"{folder} held a run of other settings, now in {previous.name}", file=sys.stderr)


def _epochs(job: Job) -> int:
    """The epochs that the run has finished so far."""
    if _read(job.folder / "asked.json") != job.asked:
        return 0
    try:
        return min(len(json.loads((job.folder / "history.json").read_text(encoding="utf-8"))), job.epochs)
    except (OSError, ValueError):
        return 0


def read_result(folder: Path) -> dict:
    """The result.json of a finished run; empty where there is none."""
    return _read(folder / "result.json")


def _read(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
