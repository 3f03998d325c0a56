"""Grading a class: scheduling, keys, shards and interruptions with a trial that only pretends, then the real thing."""
import ast
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from classroom import attack
from conftest import ROOT, assert_one_line_error
from made_handins import seven
from PIL import Image

from grading.__main__ import main
from grading.grade import grade
from grading.judge import Judge
from grading.records import SOURCES, empty_task, grader_version, read_records
from grading.settings import GradeSettings
from grading.workers import work_through
from utils.lab import TASKS, LabError

LEVEL = "no sandbox"


class Trial:
    """Pretends to try networks: does what the text in a network file says, and remembers what it was asked."""

    def __init__(self, together=1):
        """together: how many calls wait for each other before any of them answers."""
        self.calls, self.lock, self.together = [], threading.Lock(), threading.Barrier(together, timeout=60)

    def __call__(self, task, network, weights, staged, targets, names, level, limits, gpu=None, threads=1):
        says = network.read_text(encoding="utf-8")
        with self.lock:
            self.calls.append((says, task.number, gpu, threads))
        self.together.wait()
        if "fault" in says:
            raise RuntimeError("a fault of ours")
        if "no sandbox" in says:
            raise LabError("expected the sandbox to start, found nothing")
        state = next((state for state in ("TIMEOUT", "CRASH", "FLAGGED") if state in says), "OK")
        if state in ("TIMEOUT", "CRASH"):
            return empty_task(state, "why"), None, None
        images = [{"name": name, "miou": 0.5, "file": ""} for name in names[:2]]
        return empty_task(state, "") | {"miou": 0.73, "fom": 1e20, "images": images}, np.array(targets), None

    @property
    def students(self):
        return sorted({says for says, *_ in self.calls})


@pytest.fixture
def no_judge(monkeypatch):
    """The static judgement has tests of its own."""
    monkeypatch.setattr(Judge, "judge", lambda self, subject, path: ([], None))


@pytest.fixture
def room(tmp_path):
    """A class of four; the text in their files is their number."""
    for student in ("31355501", "31355502", "31355503", "31355504"):
        seven(tmp_path / "class" / student, student)
    return tmp_path / "class"


def run(room, sample, trial=None, **settings):
    trial = trial or Trial()
    summary = grade(GradeSettings(room, sample, room.parent / "report", level=LEVEL, trial=trial,
                                  **{"device": "cpu", **settings}))
    return summary, trial


def records(room):
    return {record["student"]: record for record in read_records(room.parent / "report")}


def say(room, student, text, task=1):
    (room / student / f"network_task{task}.py").write_text(text)


def test_everybody_gets_a_record_and_what_belongs_to_it(room, sample, no_judge, capsys):
    summary, trial = run(room, sample, Trial(together=2), jobs=2)  # one at a time, the first would wait in vain
    assert (summary.students, summary.graded, summary.kept) == (4, 4, 0)
    assert summary.states["1"] == {"OK": 4} and len(trial.calls) == 8
    record = records(room)["31355501"]
    assert {"schema", "student", "folder", "key", "files", "missing", "naming", "extra", "findings", "tasks", "graded",
            "versions", "seconds", "late", "submitted", "level", "device", "slug"} <= set(record)
    assert record["files"]["network 1"] == {"path": "network_task1.py", "bytes": 8,
                                            "sha256": hashlib.sha256(b"31355501").hexdigest()}
    image = room.parent / "report" / record["tasks"]["2"]["images"][1]["file"]
    assert image.name == "task2_1.png" and Image.open(image).size == (3 * 256 + 8, 128)
    assert (room.parent / "report" / "sources" / "31355501" / "network_task2.py").read_text() == "31355501"
    assert (room.parent / "report" / "overrides.csv").is_file()
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in lines if "task 1 OK" in line] == ["1/4", "2/4", "3/4", "4/4"]
    assert all(re.search(r"about \d+ s left$", line) for line in lines if "task 1 OK" in line)


def test_a_second_run_does_only_what_changed(room, sample, no_judge, monkeypatch):
    run(room, sample)
    before = {path: path.read_bytes() for path in (room.parent / "report").rglob("*") if path.is_file()}
    summary, trial = run(room, sample)
    assert (summary.graded, summary.kept, trial.calls) == (0, 4, [])
    assert {path: path.read_bytes() for path in (room.parent / "report").rglob("*") if path.is_file()} == before
    say(room, "31355502", "31355502 again")
    seven(room / "31355505", "31355505")
    (room / "31355503" / "report_31355503.pdf").rename(room / "31355503" / "Report.pdf")
    summary, trial = run(room, sample)
    assert (summary.graded, summary.kept) == (3, 2)
    assert trial.students == ["31355502", "31355502 again", "31355503", "31355505"]
    assert records(room)["31355503"]["naming"] == ["expected report_31355503.pdf, found Report.pdf: rename it"]
    assert run(room, sample, wall=5.0)[0].graded == 5  # other limits
    assert run(room, sample, wall=5.0, jobs=1)[0].graded == 0  # the number of workers is none of a record's business
    assert run(room, sample, split="train", wall=5.0)[0].graded == 5
    monkeypatch.setattr("grading.records.grader_version", lambda: "another")
    assert run(room, sample, split="train", wall=5.0)[0].graded == 5


def test_other_data_under_the_same_names_is_graded_anew(room, sample, no_judge, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(sample, data, ignore=shutil.ignore_patterns("lab-cache"))
    run(room, data)
    label = next((data / "gtFine" / "val").rglob("*_labelIds.png"))
    pixels = np.array(Image.open(label))
    pixels[:8] = 11
    Image.fromarray(pixels).save(label)
    assert run(room, data)[0].graded == 4 and run(room, data)[0].graded == 0


def test_the_version_of_the_grader_follows_its_sources(tmp_path):
    for name in ("grading/trial/scoring.py", "grading/report/pages/page.py", "utils/metric.py", "training/losses.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("a = 1\n")

    def version():
        return grader_version.__wrapped__(tmp_path)

    first = version()
    for name in ("grading/report/pages/page.py", "training/losses.py"):  # no record rests on them
        (tmp_path / name).write_text("a = 2\n")
    assert version() == first
    for name in ("grading/trial/scoring.py", "utils/metric.py"):
        (tmp_path / name).write_text("a = 2\n")
        assert version() != first
        first = version()


def imported(path):
    """The files of this repository's that a source imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, path
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    files = {name.replace(".", "/") + end for name in found for end in (".py", "/__init__.py")}
    return {name for name in files if (ROOT / name).is_file()}


def test_the_sources_are_all_that_a_record_is_made_of():
    """What marking, judging and trying import, and what these import, stands in SOURCES, and pages do not."""
    found, waiting = set(), {"grading/marking.py", "grading/judge.py", "grading/trial/inside.py",
                             "grading/intake/students.py"}
    while waiting:
        found |= waiting
        waiting = {name for source in waiting for name in imported(ROOT / source)} - found
    # What a TA chooses is in the key or changes no record; packages' own files hold nothing.
    free = {"grading/settings.py", "grading/course.py", "grading/console.py"}
    left = {name for name in found - free if not name.startswith((*SOURCES, "sample/"))  # the data is in the key
            and (ROOT / name).stat().st_size > 200}
    assert not left and "grading/trial/scoring.py" in found
    assert not [name for name in ("grading/report/points.py", "grading/kit/release.py") if name.startswith(SOURCES)]


def test_bad_ones_stop_nobody(room, sample, no_judge):
    for student, text in (("31355501", "fault"), ("31355502", "TIMEOUT"), ("31355503", "no sandbox")):
        say(room, student, text)
    (room / "31355504" / "model_task2.pth").unlink()
    (room / "broken.zip").write_bytes(b"no zip")
    (room / "empty").mkdir()
    summary, _ = run(room, sample, jobs=3)
    found = records(room)
    assert {student: [task["state"] for task in record["tasks"].values()] for student, record in found.items()} == {
        "31355501": ["CRASH", "OK"], "31355502": ["TIMEOUT", "OK"], "31355503": ["CRASH", "OK"],
        "31355504": ["OK", "MISSING_FILE"], "broken.zip": ["MISSING_FILE"] * 2, "empty": ["MISSING_FILE"] * 2}
    assert found["31355501"]["tasks"]["1"]["why"] == "the grader failed: RuntimeError: a fault of ours"
    assert "expected model_task2.pth, found no such file" in found["31355504"]["tasks"]["2"]["why"]
    assert "a damaged one" in found["broken.zip"]["tasks"]["1"]["why"]
    assert "expected the sandbox to start" in found["31355503"]["tasks"]["1"]["why"]
    assert summary.states["2"] == {"OK": 3, "MISSING_FILE": 3}
    assert summary.failed[0] == "31355501: task 1: RuntimeError: a fault of ours" and len(summary.failed) == 2
    assert "2 were failed by the grader itself" in str(summary)
    summary, trial = run(room, sample)  # what we failed at is tried again; a student's own fault stands
    assert summary.graded == 2 and {says for says, task, *_ in trial.calls if task == 1} == {"fault", "no sandbox"}


def test_a_fault_outside_the_trial_stops_nobody(room, sample, no_judge, monkeypatch):
    from grading import marking

    monkeypatch.setattr(marking, "write_panels", lambda *_: [][1])
    summary, _ = run(room, sample)
    assert summary.states["1"] == {"CRASH": 4}
    assert all("IndexError" in record["tasks"]["1"]["why"] for record in records(room).values())


def test_a_trial_that_never_ends_is_given_up(room, sample, no_judge, monkeypatch):
    release, trial, passed = threading.Event(), Trial(), [0]

    def hang(task, network, *rest, **more):
        if "hang" in network.read_text():
            passed[0] = 10_000  # seconds, for this one alone: what begins later begins later
            release.wait(60)
            raise RuntimeError("too late")
        return trial(task, network, *rest, **more)

    now = time.monotonic
    monkeypatch.setattr("grading.workers.time", SimpleNamespace(monotonic=lambda: now() + passed[0]))
    say(room, "31355501", "hang")
    summary, _ = run(room, sample, hang, jobs=1)
    release.set()
    assert summary.states["1"] == {"OK": 3, "CRASH": 1}
    assert "TimeoutError" in records(room)["31355501"]["tasks"]["1"]["why"]


def test_opening_has_the_patience_of_marking(room, sample, no_judge, monkeypatch, capsys):
    from grading.intake import opening

    release, look_into, passed = threading.Event(), opening.look_into, [0]

    def hang(submission, *more):
        if submission.name == "31355502":
            passed[0] = 10_000  # seconds, for this one alone
            release.wait(60)
        look_into(submission, *more)

    now = time.monotonic
    monkeypatch.setattr("grading.workers.time", SimpleNamespace(monotonic=lambda: now() + passed[0]))
    monkeypatch.setattr(opening, "look_into", hang)
    summary, _ = run(room, sample, jobs=1)
    release.set()
    assert summary.states["1"] == {"OK": 3, "CRASH": 1} and len(summary.failed) == 1
    assert "31355502: the grader failed: no end after" in summary.failed[0]
    assert "31355502: 0 of 7 files; the grader failed: no end after" in capsys.readouterr().err
    monkeypatch.undo()


def test_a_dry_run_says_who_was_found_where_and_writes_nothing(room, sample, no_judge, tmp_path, command, capsys):
    (room / "31355502").rename(room / "Ada")
    (room / "report_31355509.pdf").write_text("")
    (tmp_path / "roster.csv").write_text("number,name\n31355501,Bob\n31355503,Eve\n31355504,Kim\n31355508,Zoe\n")
    before = sorted(tmp_path.rglob("*"))
    done = command("grade", room, "--dry-run", "--roster", tmp_path / "roster.csv")
    assert done.status == 0 and sorted(tmp_path.rglob("*")) == before
    lines = done.stdout.splitlines()
    assert lines == [
        "31355501: 7 of 7 files", "31355503: 7 of 7 files", "31355504: 7 of 7 files",
        "31355502 in Ada: 7 of 7 files; not on the roster", "31355508: on the roster, handed in nothing",
        "note: passed over report_31355509.pdf: a file's name alone does not make a student; put it into a folder "
        "31355509, or name 31355509 on the roster",
        "4 students with a submission, 1 of the 4 on the roster without one, 1 notes on what was passed over"]
    capsys.readouterr()
    summary, _ = run(room, sample, roster=tmp_path / "roster.csv")
    assert capsys.readouterr().err.splitlines()[:len(lines)] == lines  # a run begins with the same lines
    assert (summary.students, summary.absent) == (5, 1) and "5 students (1 of them handed in nothing)" in str(summary)
    assert records(room)["31355508"]["tasks"]["1"]["state"] == "MISSING_FILE"
    assert_one_line_error(command("grade", room, "--out", tmp_path / "r"), "expected --data FOLDER and --out REPORT")


def test_shards_share_one_report_and_leave_nobody_out(room, sample, no_judge):
    for k in range(5, 13):
        seven(room / f"313555{k:02}", f"313555{k:02}")
    parts = [run(room, sample, shard=(k, 3)) for k in range(3)]
    assert sum(summary.students for summary, _ in parts) == 12
    graded = [student for _, trial in parts for student in trial.students]
    assert len(graded) == len(set(graded)) == len(records(room)) == 12
    assert all(summary.students for summary, _ in parts)
    assert run(room, sample)[0].graded == 0  # nor does anything remain for one that takes all


def test_a_damaged_record_is_made_anew_and_it_is_said(room, sample, no_judge, capsys):
    run(room, sample)
    path = room.parent / "report" / "records" / "31355502.json"
    path.write_text("{half")
    capsys.readouterr()
    assert run(room, sample)[0].graded == 1
    assert "expected a record, found damaged JSON" in capsys.readouterr().err
    assert json.loads(path.read_text(encoding="utf-8"))["student"] == "31355502"


def test_a_record_that_cannot_be_written_costs_nobody_else(room, sample, no_judge, monkeypatch):
    from grading import records as module

    write = module.write_record

    def full(out, slug, record):
        if slug == "31355502":
            raise LabError("expected to write it, found: No space left on device")
        write(out, slug, record)

    monkeypatch.setattr(module, "write_record", full)
    with pytest.raises(LabError, match=r"found 1 of 4 that could not be .*No space left"):
        run(room, sample)
    assert set(records(room)) == {"31355501", "31355503", "31355504"}
    monkeypatch.undo()
    assert run(room, sample)[0].graded == 1


def test_what_is_left_of_an_earlier_grading_goes_and_foreign_records_stay(room, sample, no_judge, capsys):
    run(room, sample)
    say(room, "31355501", "TIMEOUT")
    (room / "31355501" / "network_task2.py").unlink()
    shutil.rmtree(room / "31355504")
    capsys.readouterr()
    run(room, sample)
    report = room.parent / "report"
    assert not list((report / "images" / "31355501").iterdir())
    assert [path.name for path in (report / "sources" / "31355501").iterdir()] == ["network_task1.py"]
    assert (report / "records" / "31355504.json").is_file()
    assert "records of others than these submissions (31355504)" in capsys.readouterr().err


def test_a_number_that_turns_out_to_be_shared_leaves_no_old_record(room, sample, no_judge):
    (room / "31355501").rename(room / "ada")
    run(room, sample)
    table = room.parent / "report" / "overrides.csv"
    table.write_text(table.read_text(encoding="utf-8-sig").replace("31355501,report,to be read by a person,,,",
                                                                   "31355501,report,to be read by a person,,18,"))
    seven(room / "zoe", "31355501")
    run(room, sample)
    decided = [line for line in table.read_text(encoding="utf-8-sig").splitlines() if ",18," in line]
    assert len(decided) == 1 and decided[0].split(",")[0] == next(
        record["slug"] for record in read_records(room.parent / "report") if record["folder"] == "ada")
    assert len(list((room.parent / "report" / "records").glob("31355501*.json"))) == 2
    assert not (room.parent / "report" / "records" / "31355501.json").exists()
    history = room.parent / "report" / "history" / f"{decided[0].split(',')[0]}.json"
    assert "decision on report" in history.read_text() and not history.with_name("31355501.json").exists()


def test_lateness_is_brought_up_to_date_without_grading(room, sample, no_judge, tmp_path):
    from grading.course import read_course

    for path in (room / "31355501").iterdir():
        os.utime(path, (1_800_000_000, 1_800_000_000))
    run(room, sample)
    assert records(room)["31355501"]["late"] is None
    (tmp_path / "course.toml").write_text("[deadline]\nat = 2027-01-10T00:00:00Z\n")  # 1,800,000,000 is the 15th, 8:00
    summary, _ = run(room, sample, course=read_course(tmp_path / "course.toml"))
    assert summary.graded == 0 and records(room)["31355501"]["late"] == 6 and records(room)["31355502"]["late"] == 0


@pytest.mark.parametrize(("settings", "words"), [
    ({"jobs": 0}, "expected --jobs of at least 1"), ({"shard": (3, 3)}, "found 4/3"), ({"shard": (0, 0)}, "--shard"),
    ({"shard": (-1, 4)}, "found 0/4"), ({"device": "tpu"}, "--device"), ({"split": "vall"}, "expected a split")])
def test_settings_that_make_no_sense(room, sample, settings, words):
    with pytest.raises(LabError, match=words):
        run(room, sample, **settings)


def test_places_that_make_no_sense(room, sample, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    for submissions, data, out, words in (
            (room, sample, room, "outside the submissions"),
            (room, sample, room / "a" / "b", "outside the submissions"),
            (room, sample, tmp_path / "file", "can be written"),
            (tmp_path / "none", sample, tmp_path / "r", "nothing at"),
            (tmp_path / "empty", sample, tmp_path / "r", "found none in"),
            (tmp_path / "file", sample, tmp_path / "r", "damaged file"),
            (room, tmp_path, tmp_path / "r", "leftImg8bit")):
        with pytest.raises(LabError, match=words):
            grade(GradeSettings(submissions, data, out, level=LEVEL, trial=Trial(), device="cpu"))
    assert not (room / "a").exists()
    (tmp_path / "r" / "overrides.csv").write_text("nonsense")
    trial = Trial()
    with pytest.raises(LabError, match="expected the columns"):
        grade(GradeSettings(room, sample, tmp_path / "r", level=LEVEL, trial=trial, device="cpu"))
    assert not trial.calls, "what a person has to mend is told before the work"


def test_gpus_are_shared_out_one_worker_each(room, sample, no_judge, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "a GPU")
    trial = Trial(together=2)
    run(room, sample, trial, jobs=7, device="auto")
    assert {gpu for *_, gpu, _ in trial.calls} == {0, 1}
    assert records(room)["31355501"]["device"] == "a GPU"


def test_hostile_names_of_folders(tmp_path, sample, no_judge, capfd):
    room = tmp_path / "class"
    names = ["CON", "王小明", "王小强", "a" * 200, "a" * 199 + "b", "<b>x", ".x", "x\x1b[2Jy\nz", "\udcff"]
    for name in names:
        folder = seven(room / name)
        for path in folder.iterdir():
            path.rename(folder / path.name.replace("_31355555", ""))
    run(room, sample)
    found = read_records(room.parent / "report")
    assert len({record["slug"].casefold() for record in found}) == len(names) - 1
    assert all(re.fullmatch(r"[A-Za-z0-9-]{1,48}", record["slug"]) for record in found)
    told = capfd.readouterr().err
    assert "\x1b" not in told and "note: passed over .x: hidden" in told


# -- workers ---------------------------------------------------------------------------------------------------------

TOOLS = [lambda: None] * 3


def test_workers_hand_over_results_and_exceptions_as_they_come():
    before, come = {3: 1, 20: 3}, {item: threading.Event() for item in (1, 3, 20)}

    def work(item, _):
        if item in before:
            assert come[before[item]].wait(20)
        if item == 3:
            raise ValueError("three")
        return item * 2

    found = []
    for item, result in work_through([20, 1, 3], work, TOOLS):
        found.append((item, result))
        come[item].set()
    assert [item for item, _ in found] == [1, 3, 20]
    assert found[0][1] == 2 and str(found[1][1]) == "three" and list(work_through([], work, TOOLS)) == []


def test_workers_stop_where_the_loop_over_them_ends():
    begun, stopped = [], threading.Event()

    def work(item, _):
        begun.append(item)
        if item:
            stopped.wait(20)

    done = work_through(range(100), work, TOOLS[:2], stop=stopped.set)
    next(done)
    done.close()
    assert stopped.is_set() and len(begun) <= 4


# -- the judge -------------------------------------------------------------------------------------------------------

def test_the_judge_says_what_handin_says(tmp_path, weights):
    with Judge() as judge:
        network = shutil.copy(TASKS[1].network_file, tmp_path / "network_task1.py")
        assert [finding.level for finding in judge.judge("network 1", Path(network))[0]] == ["OK"]
        Path(network).write_text("import timm\n")
        assert "found timm in line 1" in judge.judge("network 1", Path(network))[0][0].text
        findings, mark = judge.judge("weights 1", weights[1])
        assert findings[0].level == "OK" and mark["storages"]
        (tmp_path / "report.pdf").write_bytes(b"PK\x03\x04")
        assert "found a Word" in judge.judge("report", tmp_path / "report.pdf")[0][0].text
        (tmp_path / "a.ipynb").write_text("[]")
        assert [finding.level for finding in judge.judge("notebook 1", tmp_path / "a.ipynb")[0]] == ["FAIL"]


def test_files_that_break_a_parser_break_the_judge_alone(tmp_path, monkeypatch):
    deep = tmp_path / "deep.py"
    deep.write_text("x = " + "-" * 200_000 + "1\n")
    nested = tmp_path / "nested.ipynb"
    nested.write_text("[" * 1_000_000)
    good = tmp_path / "good.py"
    good.write_text("import torch\n")
    with Judge(seconds=300) as judge:
        for subject, path in (("network 1", deep), ("notebook 1", nested)):
            assert [finding.level for finding in judge.judge(subject, path)[0]] != ["OK"]
            assert judge.judge("network 1", good)[0][0].level == "OK"
    slow = Judge(seconds=0.0)
    assert "no end after 0 s over good.py: look at it by hand" in slow.judge("network 1", good)[0][0].text
    assert slow._process is None


# -- the real thing --------------------------------------------------------------------------------------------------

def start(*arguments, **environment):
    """`python -m grading ARGUMENTS` in a process of its own."""
    return subprocess.Popen([sys.executable, "-m", "grading", *map(str, arguments)], cwd=ROOT, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
                            env={**os.environ, **environment})


def processes_of(mark):
    """The processes that have `mark` in their environment or command line."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes():
                found.append(folder.name)
        except OSError:
            continue
    return found


def real_student(folder, number, weights):
    seven(folder, number)
    for task in TASKS.values():
        shutil.copy(task.network_file, folder / f"network_task{task.number}.py")
        shutil.copy(weights[task.number], folder / task.model_file)
    return folder


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a sandbox")
def test_a_real_class_is_interrupted_and_goes_on(tmp_path, sample, weights):
    real_student(tmp_path / "class" / "31355501", "31355501", weights)
    attack("endless_loop")(real_student(tmp_path / "class" / "31355502", "31355502", weights))
    mark, temporary = uuid.uuid4().hex, tmp_path / "tmp"
    temporary.mkdir()
    arguments = ("grade", tmp_path / "class", "--data", sample, "--out", tmp_path / "report", "--device", "cpu",
                 "--jobs", "2", "--insecure")
    process = start(*arguments, LAB_TEST_MARK=mark, TMPDIR=str(temporary))
    for line in process.stderr:
        if line.startswith("1/2 31355501: task 1 OK"):
            break
    else:
        pytest.fail(f"nobody was graded: {process.communicate()}")
    assert processes_of(mark.encode())
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130 and "stopped by Ctrl-C" in err and "Traceback" not in err and not out
    assert not processes_of(mark.encode()) and not processes_of(os.fsencode(temporary))
    assert not list(temporary.iterdir())
    assert [record["student"] for record in read_records(tmp_path / "report")] == ["31355501"]

    real_student(tmp_path / "class" / "31355502", "31355502", weights)
    process = start(*arguments, TMPDIR=str(temporary))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "2 students: 1 graded now, 1 as before" in out and "task 2: 2 OK" in out
    assert not list(temporary.iterdir())
    first, second = read_records(tmp_path / "report")
    assert first["tasks"]["1"]["confusion"] == second["tasks"]["1"]["confusion"]  # the same network, shuffled anew
    assert np.sum(first["tasks"]["1"]["confusion"]) == 2 * 256 * 512
    assert second["tasks"]["2"]["fom"] is None and second["tasks"]["2"]["flops"] > 1e6
    assert (tmp_path / "report" / first["tasks"]["1"]["images"][0]["file"]).is_file()
    assert json.loads((tmp_path / "report" / "sources" / "31355501" / "model_task1.json").read_text())["storages"]


@pytest.fixture
def command(here, monkeypatch):
    """`python -m grading ARGUMENTS` in this process, whose own way to end stays as it is."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    return lambda *arguments: here(main, *arguments)


def test_the_command_tells_bad_input_in_one_line(tmp_path, sample, command):
    for extra, words in ((["--shard", "0/4"], "expected --shard 1/N"), (["--shard", "x"], "expected --shard I/N"),
                         (["--jobs", "0"], "--jobs"), (["--course", "none.toml"], "check --course"),
                         (["--memory", "nan"], "--memory"), (["--wall", "-1"], "--wall")):
        done = command("grade", tmp_path / "class", "--data", sample, "--out", tmp_path / "report", *extra)
        assert_one_line_error(done, words)
        assert done.stderr.count("\n") == 1
    assert not (tmp_path / "report").exists()


def test_the_command_hands_its_options_over(tmp_path, command, monkeypatch):
    given = []
    monkeypatch.setattr("grading.grade.grade", given.append)
    done = command("grade", tmp_path / "class", "--data", "data", "--out", "out", "--shard", "2/3", "--memory", "4.5",
                   "--wall", "30", "--jobs", "2", "--device", "cpu", "--split", "test", "--insecure", "--roster", "r")
    assert done.status == 0, done.stderr
    assert given[0].course.thresholds == {number: task.miou for number, task in TASKS.items()}
    assert replace(given[0], course=None) == GradeSettings(
        tmp_path / "class", Path("data"), Path("out"), Path("r"), 2, (1, 3), "cpu", "test", 30.0,
        4_831_838_208, True)  # 4.5 x 2^30 bytes
    assert command("grade", "class", "--data", "data", "--out", "out").status == 0
    assert replace(given[1], course=None) == GradeSettings(Path("class"), Path("data"), Path("out"))


def test_a_zip_of_the_class_is_graded_as_its_folder(room, sample, no_judge, tmp_path):
    run(room, sample)
    archive = tmp_path / "class.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(room.rglob("*")):
            file.write(path, f"Somebody_{path.relative_to(room).parts[0]}_assignsubmission_file_/"
                             f"{'/'.join(path.relative_to(room).parts[1:])}")
    summary = grade(GradeSettings(archive, sample, tmp_path / "report", level=LEVEL, trial=Trial(), device="cpu"))
    assert (summary.students, summary.graded) == (4, 0)  # the same files: nothing to do
