"""Tries a network file and its weights in a process of their own (handin.probe), which has a time limit for each stage.

That process is no sandbox. It keeps accidents away from the check (a crash, an endless loop, files left about), and is
meant for the student's own code on the student's own machine.
"""
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from handin import probe
from handin.findings import Finding
from utils.lab import LabError, Task
from utils.terminal import bar_stream

# What each stage does, and the seconds until its next line; the first is torch's own import, from a cold disk perhaps.
STAGES = {"torch": ("import torch", 180), "import": ("importing the network file", 20),
          "load": ("loading the weights", 60), "output": ("a forward pass", 60),
          "costs": ("counting the costs", 120), "export": ("exporting the network", 120),
          "score": ("scoring an image", 120)}


def try_network(task: Task, network_file: Path, weights: Path | None, data: Path | None = None,
                seconds: float = 15.0) -> Iterator[Finding]:
    """Yields the findings on a task's network as they come; the first FAIL ends them.

    Without `weights` only the import is tried; without `data` nothing is scored. `seconds` is the time that scoring may
    take, infinite for all images.
    """
    with tempfile.TemporaryDirectory(prefix="handin-") as folder:
        place = Path(folder, "empty")
        place.mkdir()
        shutil.copyfile(network_file, place / network_file.name)
        arguments = [task.number, network_file.name]
        if weights:
            arguments += [weights.resolve(), data.resolve() if data else "", seconds]
        stage, bar = "torch", None
        try:
            for line in _lines(arguments, place, Path(folder, "log")):
                if "stage" in line:
                    stage = line["stage"]
                elif "done" in line:
                    bar = bar or tqdm(total=line["total"], desc="scoring", unit="image", leave=False,
                                      file=bar_stream(), disable=None)
                    bar.update(line["done"] - bar.n)
                else:
                    yield Finding(**line)
        except LabError as error:
            kind = "network" if stage in ("torch", "import") else "weights"
            yield Finding("FAIL", f"{kind} {task.number}", str(error))
        finally:
            if bar is not None:
                bar.close()


def _lines(arguments: list[object], place: Path, log: Path) -> Iterator[dict]:
    """Runs the probe in `place` and yields its lines. Closing the iterator kills the process.

    Raises LabError for a stage that takes too long or in which the process ends.
    """
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONDONTWRITEBYTECODE": "1"}
    with log.open("wb") as errors, subprocess.Popen(
            [sys.executable, probe.__file__, *map(str, arguments)], cwd=place, stdout=subprocess.PIPE, stderr=errors,
            stdin=subprocess.DEVNULL, env=environment, encoding="utf-8") as process:
        lines: queue.Queue[str] = queue.Queue()

        def read() -> None:
            for line in process.stdout:
                lines.put(line)
            lines.put("")

        threading.Thread(target=read, daemon=True).start()
        stage = "torch"
        try:
            while stage != "end":
                doing, limit = STAGES[stage]
                try:
                    line = lines.get(timeout=limit)
                except queue.Empty:
                    raise LabError(f"expected {doing} to take seconds, found more than {limit} s with {arguments[1]}: "
                                   "what trains or works for long belongs in the notebook") from None
                if not line:
                    process.wait()
                    raise LabError(f"expected {doing} to end well, found the process gone with status "
                                   f"{process.returncode} ({_last_line(log)}): look in {arguments[1]} for what ends it")
                told = json.loads(line)
                stage = told.get("stage", stage)
                yield told
        finally:
            process.kill()


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "without a message"
