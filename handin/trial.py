"""Tries a network file and its weights in a process of their own (handin.probe): imported in an empty folder, loaded,
run, counted and scored, with a limit on the time each of these may take.

That process is no sandbox. It keeps accidents away from the check (a crash, an endless loop, files left about), and is
meant for the student's own code on the student's own machine.
"""
import contextlib
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

# Seconds until the next stage must have been told; the first holds torch's own import, from a cold disk perhaps.
LIMITS = {"torch": 180, "import": 20, "load": 60, "output": 60, "costs": 120, "score": 120}
WORDS = {"torch": "import torch", "import": "importing the network file", "load": "loading the weights",
         "output": "a forward pass", "costs": "counting the costs", "score": "scoring a picture"}


def try_network(task: Task, network_file: Path, weights: Path | None, data: Path | None = None,
                seconds: float = 15.0) -> Iterator[Finding]:
    """Yields the findings on a task's network, in the order of the stages, as they come; the first FAIL ends them.

    Without `weights` only the import is tried; without `data` nothing is scored. `seconds` is the time that scoring may
    take, infinite for all pictures.
    """
    with tempfile.TemporaryDirectory(prefix="handin-") as folder:
        place = Path(folder, "empty")
        place.mkdir()
        copy = Path(shutil.copyfile(network_file, place / network_file.name))
        arguments = [copy, *([weights.resolve(), data.resolve() if data else "", seconds] if weights else [])]
        stages = _stages(arguments, place, Path(folder, "log"))
        shown = {str(copy): network_file.name, str(weights and weights.resolve()): weights.name if weights else ""}
        for finding in _judge(task, stages, network_file, weights, data):
            text = finding.text
            for path, name in shown.items():
                text = text.replace(path, name)
            yield Finding(finding.level, finding.subject, text)


def _judge(task: Task, stages: Iterator[dict], network_file: Path, weights: Path | None, data: Path | None
           ) -> Iterator[Finding]:
    network, weighed = f"network {task.number}", f"weights {task.number}"
    name = network_file.name
    with contextlib.closing(stages):
        try:
            _next(stages)  # torch
            done = next(stages)
            if done["error"]:
                raise LabError(f"expected an import in an empty folder with nothing but torch, found {done['error']} "
                               f"({name})")
            printed = done["printed"].strip()[:60]
            if printed:
                raise LabError(f"expected an import that prints nothing, found {printed!r} from {name}: take the "
                               "print() out, the test scripts' lines stand alone")
            if done["left"]:
                raise LabError(f"expected an import that writes nothing, found {done['left'][0]} left by {name}: "
                               "take it out")
            yield Finding("OK", network, f"{name}: imports in an empty folder with nothing but torch")
        except LabError as error:
            yield Finding("FAIL", network, str(error))
            return
        if weights is None:
            return
        try:
            done = _next(stages)
            if done["types"]:
                stored, held, n, total = done["types"]
                raise LabError(f"expected weights in the network's own type, found {stored} in the file and {held} in "
                               f"the network for {n} of {total} tensors in {weights.name}: what is measured is the "
                               f"network, save its state_dict as it is, or let load_model keep {stored}")
            _next(stages)
            yield Finding("OK", weighed, "load strictly; a picture (3, 256, 512) gives logits (8, 256, 512)")
            yield from _judge_figures(task, stages, name, data)
        except LabError as error:
            yield Finding("FAIL", weighed, _explain(str(error)))


def _judge_figures(task: Task, stages: Iterator[dict], name: str, data: Path | None) -> Iterator[Finding]:
    costs = _next(stages)
    text = f"{costs['flops']:,} multiply-accumulates, {costs['size_kb']:,.3f} KB"
    if costs["unseen"]:
        layers = ", ".join(layer or "the network itself" for layer in costs["unseen"])
        yield Finding("WARN", f"costs {task.number}", f"{text}: thop sees {costs['thop']:,}, not {layers} of {name}; "
                                                      "the larger count is the one that is graded")
    else:
        yield Finding("OK", f"costs {task.number}", text)
    subject = f"mIoU {task.number}"
    if data is None:
        return
    score = _next(stages)
    where = "the drawn sample, which tells nothing about Cityscapes" if score["sample"] else str(data)
    some = "" if score["pictures"] == score["total"] else f"{score['pictures']} of "
    text = f"{score['miou']:.6f} on {some}{score['total']} validation pictures of {where}"
    if task.number == 2:
        from utils.complexity import figure_of_merit  # torch and thop take seconds, and the first rows need neither

        fom = figure_of_merit(costs["flops"], costs["size_kb"], score["miou"])
        text += f"; FoM {'unranked' if fom is None else f'{fom:.6e}'}"
    if score["miou"] < task.miou:
        yield Finding("WARN", subject, f"expected at least {task.miou}, found {text}: "
                                       + ("score them all with --all" if some else
                                          "pass --data, if you have Cityscapes" if score["sample"] else
                                          "train longer, or on more"))
    else:
        yield Finding("OK", subject, text)


def _next(stages: Iterator[dict]) -> dict:
    done = next(stages)
    if "error" in done:
        raise LabError(done["error"])
    return done


def _explain(text: str) -> str:
    """The error with what it means, where torch's own words are about CUDA."""
    if "cuda" in text.lower() or "nvidia" in text.lower():
        return (f"{text.rpartition(': ')[0] or text}: load with map_location=\"cpu\" and build the network on the CPU, "
                "it is graded on machines without a GPU")
    return text


def _stages(arguments: list[object], place: Path, log: Path) -> Iterator[dict]:
    """Runs the probe in `place` and yields what it tells of each stage. Closing the iterator kills the process.

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
        bar = None
        try:
            for stage, limit in LIMITS.items():
                while True:
                    try:
                        line = lines.get(timeout=limit)
                    except queue.Empty:
                        raise LabError(f"expected {WORDS[stage]} to take seconds, found more than {limit} s: what "
                                       "trains or works for long belongs in the notebook") from None
                    if not line:
                        process.wait()
                        raise LabError(f"expected {WORDS[stage]} to end well, found the process gone with status "
                                       f"{process.returncode} ({_last_line(log)}): look in {arguments[0].name} for "
                                       "what ends it")
                    told = json.loads(line)
                    if told["stage"] != "scored":
                        break
                    bar = bar or tqdm(total=told["total"], desc="scoring", unit="picture", leave=False,
                                      file=bar_stream(), disable=None)
                    bar.update(told["done"] - bar.n)
                yield told
        finally:
            if bar is not None:
                bar.close()
            process.kill()


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "without a message"
