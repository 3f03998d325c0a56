"""Trains: each run a notebook in a process of its own, several at once, one bar over all, never the same twice."""
import argparse
import ast
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import nbformat
from tqdm import tqdm

from training import headless
from training.runs import FREE_SETTINGS
from utils.files import move_aside, write_json
from utils.lab import ROOT, LabError, Task
from utils.machine import available_cores
from utils.past import read_run
from utils.terminal import bar_stream

POLL = 0.5      # seconds between two looks at the runs
PATIENCE = 10   # seconds that a run gets to end by itself when it is stopped


@dataclass(frozen=True)
class Job:
    """One run of a task's notebook: its folder, the settings it gets, and by what it is known again."""

    name: str
    task: Task
    folder: Path
    settings: dict   # as given to the notebook, RESUME apart; RUN and MODEL lie in `folder`
    asked: dict      # what must be the same for a run to be taken as this one: JSON values
    epochs: int
    about: dict = field(default_factory=dict)   # what else its result.json shall say
    scored: bool = True   # by the task's test script afterwards; otherwise its mIoU is the best epoch's

    @property
    def notebook(self) -> Path:
        return ROOT / self.task.notebook

    @property
    def model(self) -> Path:
        return self.folder / self.task.model_file


def notebook_settings(notebook: Path) -> dict:
    """The settings cell of a notebook, by name: values of Python literals, the source of anything else."""
    book = nbformat.read(notebook, as_version=4)
    source = "\n".join(cell.source for cell in book.cells if "parameters" in cell.metadata.get("tags", []))
    settings = {}
    for node in ast.parse(source).body:
        for target in node.targets if isinstance(node, ast.Assign) else []:
            several = isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple)  # A, B = 1, 2
            names, values = (target.elts, node.value.elts) if several else ([target], [node.value])
            settings |= {name.id: headless.literal(ast.unparse(value))
                         for name, value in zip(names, values, strict=True)}
    return settings


def all_settings(notebook: Path, given: dict, needed: Sequence[str], barred: Sequence[str]) -> dict:
    """The notebook's settings with those `given` in their place.

    Raises LabError if it lacks one of `needed`, and for a given one that it does not have or that is `barred`.
    """
    settings = notebook_settings(notebook)
    lacking = [name for name in needed if name not in settings]
    if lacking:
        raise LabError(f"expected the setting {lacking[0]} in the settings cell of {notebook}, found none: keep the "
                       "hand-out's")
    free = [name for name in settings if name not in barred]
    for name in given:
        if name not in free:
            raise LabError(f"expected settings that may differ from {notebook.name}'s ({', '.join(free)}), "
                           f"found {name}: check -p")
    return {**settings, **given}


def given_settings(options: argparse.Namespace) -> dict:
    """The settings of a command line, as training.options asks for them."""
    given = {name: headless.literal(text) for name, text in options.settings}
    return given | {name: value for name, value in (("EPOCHS", options.epochs), ("DATA", options.data))
                    if value is not None}


def make_job(name: str, task: Task, folder: Path, own: dict, recipe: dict, asked: dict, about: dict,
             scored: bool = True) -> Job:
    """The job of a run in `folder`: its `own` settings, known again by these within the `recipe`'s and by `asked`."""
    # RUN is taken as it is where it is a whole path.
    own = _as_json({**own, "RUN": str(folder), "MODEL": str(folder / task.model_file)})
    whole = {**_as_json(recipe), **own}
    settings = {name: value for name, value in whole.items() if name not in (*FREE_SETTINGS, "RUN")}
    return Job(name, task, folder, own, {"settings": settings, **asked}, whole["EPOCHS"], about, scored)


def _as_json(settings: dict) -> dict:
    """Lists for tuples, as a tuple reaches a notebook as text."""
    return json.loads(json.dumps(settings))


def notebook_command(job: Job, settings: dict) -> list[str]:
    """The command that trains, with these settings, and leaves the executed notebook in the job's folder."""
    given = [part for name, value in settings.items() for part in ("-p", name, repr(value))]
    return [sys.executable, "-m", "training.headless", str(job.notebook), "-o", str(job.folder / job.notebook.name),
            *given]


def score_command(job: Job, figures: Path) -> list[str]:
    """The command that writes the graded figures of the run's weights to `figures`."""
    return [sys.executable, str(ROOT / f"test_task{job.task.number}.py"), str(job.model), job.settings["DATA"],
            "--json", str(figures), "--device", str(job.settings.get("DEVICE", "auto"))]


def is_finished(job: Job) -> bool:
    """Whether the run has been trained to its end with just these settings."""
    result = read_result(job.folder)
    return bool(result) and all(result.get(key) == value for key, value in job.asked.items())


class Running:
    """A run that goes on: the notebook, then the test script, then result.json. Its files lie in the job's folder.

    A checkpoint of the same settings is gone on from; what other settings left there becomes `<folder>.previous`.
    """

    def __init__(self, job: Job, threads: int) -> None:
        self.job, self.started = job, time.perf_counter()
        folder = job.folder
        resume = _read(folder / "asked.json") == job.asked and (folder / "checkpoint.pth").exists()
        if not resume and any((folder / name).exists() for name in ("checkpoint.pth", "history.json", "result.json")):
            _keep_older(folder)
        (folder / "result.json").unlink(missing_ok=True)
        write_json(folder / "asked.json", job.asked)
        self.commands = [notebook_command(job, {**job.settings, "RESUME": resume})]
        if job.scored:
            self.commands.append(score_command(job, folder / "figures.json"))
        self.environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        self.log = (folder / "log.txt").open("ab" if resume else "wb")
        self.process = self._next(self.log)

    def poll(self) -> str | None:
        """None while it goes on; "" when it has ended well, and result.json is written; else why it failed."""
        status = self.process.poll()
        if status is None:
            return None
        if status:
            return self._last_words() or f"ended with status {status}"
        if self.commands:
            self.process = self._next(self.log)
            return None
        return self._finish()

    def _finish(self) -> str:
        job = self.job
        try:
            history = read_run(job.folder).history
        except LabError as error:
            return str(error)
        if not history:
            return f"expected an epoch's record in {job.folder / 'history.json'}, found none: give Run its name, RUN"
        write_json(job.folder / "result.json", {
            **job.about, "miou": max(record["miou"] for record in history),
            **(_read(job.folder / "figures.json") if job.scored else {}),
            "last_miou": history[-1]["miou"], "epochs": len(history),
            "training_seconds": round(sum(record["seconds"] for record in history), 1), **job.asked})
        return ""

    def end(self) -> None:
        """Asks the run's processes to end."""
        self._signal(signal.SIGTERM)

    def close(self, patience: float = 0) -> None:
        """Waits `patience` seconds at most for them to be gone, then makes them go."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(patience)
        if hasattr(signal, "SIGKILL"):
            self._signal(signal.SIGKILL)
        self.process.wait()
        self.log.close()

    def _next(self, log: IO[bytes]) -> subprocess.Popen:
        # A session of its own: Ctrl-C reaches this program alone, which then ends them all.
        return subprocess.Popen(self.commands.pop(0), cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL,
                                stdout=log, stderr=subprocess.STDOUT, start_new_session=True)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(self.process.pid, number)
            else:
                self.process.terminate()

    def _last_words(self) -> str:
        self.log.flush()
        lines = (self.job.folder / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1].removeprefix("error: ").strip() if lines else ""


def train(jobs: Sequence[Job], slots: int) -> int:
    """Trains all `jobs` that are not finished, `slots` at once, a line each on stderr; returns how many failed."""
    waiting = [job for job in jobs if not is_finished(job)]
    if len(waiting) < len(jobs):
        print(f"{len(jobs) - len(waiting)} of {len(jobs)} runs are finished already", file=sys.stderr)
    if not waiting:
        return 0
    threads = max(1, available_cores() // slots)
    total, failed, running = sum(job.epochs for job in waiting), 0, []
    done = {job.name: _epochs(job) for job in waiting}
    with tqdm(total=total, initial=sum(done.values()), unit="epoch", file=bar_stream(), dynamic_ncols=True) as bar:
        try:
            while waiting or running:
                while waiting and len(running) < slots:
                    running.append(Running(waiting.pop(0), threads))
                time.sleep(POLL)
                for run in list(running):
                    done[run.job.name] = _epochs(run.job)
                    if (reason := run.poll()) is None:
                        continue
                    running.remove(run)
                    run.close()
                    failed += bool(reason)
                    bar.write(_ended(run, reason), file=sys.stderr)
                    if reason:  # its epochs are not waited for any more
                        bar.total -= run.job.epochs - done[run.job.name]
                bar.set_description(", ".join(run.job.name for run in running)[:60], refresh=False)
                if bar.fp.isatty() or bar.n != sum(done.values()):  # in a file each look would stay
                    bar.n = sum(done.values())
                    bar.refresh()
        finally:
            with _undisturbed():
                for run in running:
                    run.end()
                for run in running:
                    run.close(PATIENCE)
    return failed


def carry_out(jobs: Sequence[Job], slots: int, folder: Path, show: Callable[[], object]) -> int:
    """`train` as a command: shows what came of it, and returns its status; raises LabError if a run failed."""
    # Whoever ends this program so, as a server's queue does, shall not leave its runs behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
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


def _ended(run: Running, reason: str) -> str:
    if reason:
        return f"{run.job.name} failed: {reason} (log: {run.job.folder / 'log.txt'})"
    result = read_result(run.job.folder)
    return (f"{run.job.name}: mIoU {result['miou']:.4f}, in the last epoch {result['last_miou']:.4f}, "
            f"{result['epochs']} epochs in {result['training_seconds'] / 60:.1f} min")


def _keep_older(folder: Path) -> None:
    previous = folder.with_name(f"{folder.name}.previous")
    if (previous / "result.json").is_file():
        raise LabError(f"expected to move the older run in {folder} to {previous}, found a finished one there too: "
                       "check --data, --epochs and -p, move it away, or choose another --folder")
    move_aside(folder, "choose another --folder")
    print(f"{folder} held a run of other settings, now in {previous.name}", file=sys.stderr)


def _epochs(job: Job) -> int:
    """Epochs that the run has done by now, of those that it is to do."""
    if _read(job.folder / "asked.json") != job.asked:
        return 0
    try:
        return min(len(json.loads((job.folder / "history.json").read_text(encoding="utf-8"))), job.epochs)
    except (OSError, ValueError):
        return 0


def read_result(folder: Path) -> dict:
    """The result.json of a run that has ended well; empty where there is none."""
    return _read(folder / "result.json")


def _read(path: Path) -> dict:
    """The JSON object in `path`; an empty one where there is none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C does not leave half of the processes behind."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def check_folder(folder: Path) -> None:
    """Raises LabError unless runs can be written in `folder`."""
    headless.check_folder(folder, "choose another --folder")
