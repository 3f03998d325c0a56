"""A zip with nearly as many files as may be in one: few of them are read, each once, and everybody else is graded."""
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from made_handins import pack, seven

from grading import workers
from grading.grade import grade
from grading.judge import Judge
from grading.records import empty_task, read_records
from grading.settings import GradeSettings
from handin.names import MOST_READ
from handin.unpack import MOST_FILES

MANY = 990
pytestmark = pytest.mark.long


def pretend(task, network, weights, staged, targets, names, level, limits, gpu=None, threads=1):
    return empty_task("OK", "") | {"miou": 0.73, "fom": 1e20, "images": []}, np.array(targets), None


@pytest.fixture
def watched(monkeypatch):
    """How often each file's content is opened to be read, what was judged, and the patience of each round of work."""
    read, judged, patience = Counter(), [], []
    opened, work_through = Path.open, workers.work_through

    def open_and_count(self, mode="r", *arguments, **options):
        if "r" in mode and self.parent.name != "class":
            read[self.name] += 1
        return opened(self, mode, *arguments, **options)

    def work(items, do, make_tools, seconds=float("inf"), *arguments):
        patience.append(seconds)
        return work_through(items, do, make_tools, seconds, *arguments)

    monkeypatch.setattr(Path, "open", open_and_count)
    monkeypatch.setattr(workers, "work_through", work)
    monkeypatch.setattr(Judge, "judge", lambda self, subject, path: judged.append(path.name) or ([], None))
    return read, judged, patience


@pytest.mark.parametrize("name", ["block_{}.py", "exercises/week{}/net.py", "try {}.ipynb", "sweep_{}.pth"])
def test_a_zip_of_many_files_costs_nobody_else(tmp_path, sample, watched, name):
    room = tmp_path / "class"
    for number in ("31355501", "31355503"):
        seven(room / number, number)
    archive = pack(room / "31355502.zip", seven(tmp_path / "many", "31355502"))
    with zipfile.ZipFile(archive, "a") as file:
        for index in range(MANY):
            file.writestr(name.format(index), "x = 1\n" * 100)
    summary = grade(GradeSettings(room, sample, tmp_path / "report", level="none", trial=pretend, device="cpu"))
    read, judged, patience = watched
    records = {record["student"]: record for record in read_records(tmp_path / "report")}
    assert not summary.failed and {tuple(task["state"] for task in record["tasks"].values())
                                   for record in records.values()} == {("OK", "OK")}
    assert len(records["31355502"]["files"]) == 7 and len(records["31355502"]["extra"]) == MANY
    assert len(judged) == 3 * 7
    right = {path.name for path in (tmp_path / "many").iterdir()}
    others = [count for one, count in read.items() if Path(one).suffix == Path(name).suffix and one not in right]
    assert sum(others) <= 2 * MOST_READ  # when the class is enrolled, and when it is marked
    assert len(patience) == 2 and all(np.isfinite(patience)) and patience[0] <= patience[1]


@pytest.mark.parametrize("name", ["part_{}.py", "notes {}.ipynb"])
def test_of_many_files_without_a_right_name_few_are_read(tmp_path, sample, watched, name):
    room = tmp_path / "class"
    seven(room / "31355501", "31355501")
    with zipfile.ZipFile(room / "31355502.zip", "w") as file:
        for index in range(MANY):
            file.writestr(name.format(index), "x = 1\n")
    grade(GradeSettings(room, sample, tmp_path / "report", level="none", trial=pretend, device="cpu"))
    read, judged, _ = watched
    ours = [count for one, count in read.items() if one.startswith(name.partition("{")[0])]
    assert 0 < len(ours) <= MOST_READ and max(ours) <= 3  # as handed in, under the zip's number, and to be marked
    assert len(judged) == 7  # nothing says which of them are the parts
    record = {record["student"]: record for record in read_records(tmp_path / "report")}["31355502"]
    assert {task["state"] for task in record["tasks"].values()} == {"MISSING_FILE"}


def test_more_than_may_be_in_a_zip_is_told(tmp_path, sample, watched):
    room = tmp_path / "class"
    seven(room / "31355501", "31355501")
    with zipfile.ZipFile(room / "31355502.zip", "w") as file:
        for index in range(MOST_FILES + 1):
            file.writestr(f"part_{index}.py", "x = 1\n")
    grade(GradeSettings(room, sample, tmp_path / "report", level="none", trial=pretend, device="cpu"))
    record = {record["student"]: record for record in read_records(tmp_path / "report")}["31355502"]
    assert "found 1,001 files" in record["tasks"]["1"]["why"]
