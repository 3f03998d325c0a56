"""Grading a class: `python -m grading grade` beside the two test scripts, and what the sandbox costs a trial."""
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks.data import Data, link
from benchmarks.measure import NotMeasuredError, Table, Timed, require
from grading.records import read_records
from grading.trial.sandbox import Level, Limits, unavailable
from grading.trial.scoring import stage_images, try_task
from utils.lab import HANDIN_FILES, ROOT, TASKS
from utils.machine import available_cores

TINY = '''"""A 1x1 convolution: what is measured is everything but the network."""
import torch
from torch import nn


def load_model(MODEL_PATH):
    model = nn.Conv2d(3, 8, 1)
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    return nn.Sequential(model)
'''
FIRST = "31355000"


def classroom(data: Data) -> Iterator[Table]:
    """A class graded, and what the sandbox itself costs a hand-in."""
    if why := unavailable(Level.BUBBLEWRAP):
        raise NotMeasuredError(f"no bubblewrap: {why}")
    sizes, folder, scores, number = data.sizes, data.folder / "classroom", {}, itertools.count()
    root = link(data.pairs, folder / "data", "val", sizes.scored)
    students = make_class(folder / "class", sizes.students)
    first = students / FIRST

    def graded() -> None:
        out = folder / f"report{next(number)}"
        # A cache of its own, so that the images are decoded as on the first day.
        _python(["-m", "grading", "grade", students, "--data", root, "--out", out, "--device", "cpu"],
                out.with_suffix(".cache"))
        scores["grade"] = next(record["tasks"]["2"]["miou"] for record in read_records(out)
                               if record["student"] == FIRST)

    def scripts() -> None:
        for number, task in TASKS.items():
            stdout = _python([f"test_task{number}.py", first / task.model_file, root, "--network",
                              first / f"network_task{number}.py", "--device", "cpu"], Path(os.devnull))
            scores["script"] = float(stdout.split("Final IoU = ")[1].split()[0])

    yield Table(f"grading on {sizes.scored} images of 1024 x 2048, a tiny network for each task", "a hand-in", [
        Timed(f"python -m grading grade, {sizes.students} hand-ins, sandboxed", graded, sizes.students),
        Timed("test_task1.py and test_task2.py, one after another, uncached", scripts, at_least=5)],
        "wall", available_cores(), warm=False)
    require(abs(scores["grade"] - scores["script"]) < 1e-5, "the grader's mIoU to be the script's", str(scores))

    rows = np.arange(sizes.scored) % len(data.decoded)
    images, targets = (np.stack(part)[rows] for part in zip(*data.decoded, strict=True))
    stage = stage_images(images, folder, b"a secret")
    names, masks = [str(index) for index in range(len(images))], {}

    def trial(level: Level) -> None:
        record, masks[level], _ = try_task(TASKS[2], first / "network_task2.py", first / "model_task2.pth", stage,
                                           targets, names, level, Limits())
        require(record["state"] == "OK", "the tiny network to be scored", record["why"])

    yield Table(f"one trial of task 2 on {sizes.scored} images", "a trial", [
        Timed("floor: the same child without a sandbox", lambda: trial(Level.NONE)),
        Timed("in bubblewrap", lambda: trial(Level.BUBBLEWRAP), at_most=1.10)], "wall", available_cores())
    require(np.array_equal(masks[Level.NONE], masks[Level.BUBBLEWRAP]), "the same masks in and out of the sandbox")


def make_class(folder: Path, students: int) -> Path:
    """`students` hand-ins of the tiny network for both tasks, each with weights of its own."""
    for student in range(students):
        place = folder / str(int(FIRST) + student)
        place.mkdir(parents=True)
        for template in HANDIN_FILES:
            path = place / template.format(id=place.name)
            if path.suffix == ".pth":
                torch.manual_seed(student)
                torch.save(torch.nn.Conv2d(3, 8, 1).state_dict(), path)
            elif path.suffix == ".py":
                path.write_text(TINY, encoding="utf-8")
    return folder


def _python(arguments: list, cache: Path) -> str:
    return subprocess.run([sys.executable, *map(str, arguments)], cwd=ROOT, check=True, capture_output=True, text=True,
                          encoding="utf-8", env={**os.environ, "LAB_CACHE": str(cache)}).stdout
