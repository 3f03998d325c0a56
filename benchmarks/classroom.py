"""Grading a class: all hand-ins by `python -m grading grade`, against the two test scripts one after another."""
import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import Goal, Road, Table, measure, require
from benchmarks.setup import Setup, cache_in
from grading.grade import grade
from grading.records import read_records
from grading.sandbox import Level, Limits, unavailable
from grading.trials import stage_pictures, try_task
from utils.lab import HANDIN_FILES, ROOT, TASKS

TINY = '''"""A 1x1 convolution: what is measured is everything but the network."""
import torch
from torch import nn


def load_model(MODEL_PATH):
    model = nn.Conv2d(3, 8, 1)
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    return nn.Sequential(model)
'''


def make_class(folder: Path, students: int) -> Path:
    """`students` hand-ins of the tiny network for both tasks, each with weights of its own."""
    for student in range(students):
        place = folder / f"{31355000 + student}"
        place.mkdir(parents=True)
        for template in HANDIN_FILES:
            path = place / template.format(id=place.name)
            if path.suffix == ".pth":
                torch.manual_seed(student)
                torch.save(torch.nn.Conv2d(3, 8, 1).state_dict(), path)
            elif path.suffix == ".py":
                path.write_text(TINY, encoding="utf-8")
    return folder


def make_split(pairs: Path, root: Path, count: int) -> Path:
    """A validation split of `count` pictures that are links to the benchmark's pairs, each pair many times."""
    sources = sorted((pairs / "leftImg8bit").rglob("*.png"))
    for index in range(count):
        image = sources[index % len(sources)]
        stem = image.name.removesuffix("_leftImg8bit.png")
        label = next((pairs / "gtFine").rglob(f"{stem}_gtFine_labelIds.png"))
        for kind, source, suffix in (("leftImg8bit", image, "_leftImg8bit.png"),
                                     ("gtFine", label, "_gtFine_labelIds.png")):
            link = root / kind / "val" / "copies" / f"copies_{index:06d}_000000{suffix}"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(source)
    return root


def classroom(setup: Setup) -> list[Table]:
    """A class graded, and what the sandbox itself costs a hand-in."""
    sizes, folder = setup.sizes, setup.folder / "classroom"
    data = make_split(setup.data.root, folder / "data", sizes.scored)
    students = make_class(folder / "class", sizes.students)
    first = students / "31355000"
    missing = "" if unavailable(Level.BUBBLEWRAP) == "" else f"no bubblewrap: {unavailable(Level.BUBBLEWRAP)}"
    return [_whole_class(setup, data, students, first, missing), _sandbox(setup, folder, first, missing)]


def _whole_class(setup: Setup, data: Path, students: Path, first: Path, missing: str) -> Table:
    sizes, reports = setup.sizes, setup.folder / "classroom" / "reports"
    told: dict[str, float] = {}

    def graded() -> None:
        out = reports / str(len(list(reports.glob("*"))))
        # decoded anew, as on the first day; and stderr gets a line for each hand-in
        with cache_in(out.with_suffix(".cache")), contextlib.redirect_stderr(io.StringIO()):
            grade(students, data, out, device="cpu", level=Level.BUBBLEWRAP)
        told["grade"] = next(record["tasks"]["2"]["miou"] for record in read_records(out)
                             if record["student"] == first.name)

    def scripts() -> None:
        for number in TASKS:
            done = subprocess.run(
                [sys.executable, str(ROOT / f"test_task{number}.py"), str(first / f"model_task{number}.pth"), str(data),
                 "--network", str(first / f"network_task{number}.py"), "--device", "cpu"], cwd=ROOT, check=True,
                capture_output=True, text=True, encoding="utf-8", env={**os.environ, "LAB_CACHE": os.devnull})
            told["script"] = float(done.stdout.split("Final IoU = ")[1].split()[0])

    reports.mkdir(parents=True)
    roads = [Road(f"python -m grading grade, {sizes.students} hand-ins, sandboxed", graded, sizes.students,
                  missing=missing),
             Road("test_task1.py and test_task2.py, one after another, uncached", scripts, 1,
                  Goal(at_least=5, by="wall"))]
    if not missing and sizes.rounds > 1:
        for road in roads:
            road.run()
    table = measure("classroom", f"grading on {sizes.scored} pictures of 1024 x 2048, a tiny network for each task, "
                    f"{setup.all}, wall time", "a hand-in", roads, max(1, sizes.rounds // 3))
    require(bool(missing) or abs(told["grade"] - told["script"]) < 1e-5, "the grader's mIoU to be the script's",
            f"{told.get('grade')} and {told.get('script')}")
    return table


def _sandbox(setup: Setup, folder: Path, first: Path, missing: str) -> Table:
    sizes = setup.sizes
    images, targets = (np.stack(part) for part in zip(*setup.data.decoded, strict=True))
    repeat = -(-sizes.scored // len(images))
    images, targets = (np.concatenate([part] * repeat)[:sizes.scored] for part in (images, targets))
    (folder / "staged").mkdir()
    stage = stage_pictures(images, folder / "staged", b"a secret")
    names, masks = [str(index) for index in range(len(images))], {}

    def trial(level: Level) -> None:
        record, masks[level] = try_task(TASKS[2], first / "network_task2.py", first / "model_task2.pth", stage, targets,
                                        names, level, Limits())
        require(record["state"] == "OK", "the tiny network to be scored", record["why"])

    roads = [Road(level.value, lambda level=level: trial(level), 1, goal, missing=missing) for level, goal in (
        (Level.NONE, None), (Level.BUBBLEWRAP, Goal(at_most=1.10, by="wall")))]
    if not missing and sizes.rounds > 1:
        for road in roads:
            road.run()
    table = measure("classroom", f"one trial of task 2 on {sizes.scored} pictures, wall time", "a trial", roads,
                    2 * sizes.rounds if sizes.rounds > 1 else 1)
    require(bool(missing) or np.array_equal(masks[Level.NONE], masks[Level.BUBBLEWRAP]),
            "the same masks in and out of the sandbox")
    return table
