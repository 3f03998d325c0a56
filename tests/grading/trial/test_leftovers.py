"""What a killed grader leaves behind, what sweeps it, and the one lock of a report."""
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT, run_command

from grading.grade import grade
from grading.lock import report_lock
from grading.settings import GradeSettings
from grading.trial import scoring
from grading.trial.sandbox import Level, Limits, leftovers, orphans, unavailable
from grading.trial.sandbox.leftovers import sweep, temporary_folder
from grading.trial.sandbox.watchdog import started
from utils.lab import LabError


def start(code: str, *arguments: object, **environment: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True,
                            env={**os.environ, "PYTHONPATH": str(ROOT), **environment})


def end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()
    process.stdout.close()


HOLDS = """
import sys, time
from pathlib import Path
from grading.trial.sandbox.leftovers import temporary_folder
with temporary_folder(sys.argv[1], Path(sys.argv[2])) as folder:
    (folder / "file").write_text("")
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize(("prefix", "home"), [("lab-grading-", False), ("lab-replay-", False), ("lab-box-", False),
                                            (".lab-scene-", True)])
def test_folders_of_dead_graders_are_swept_and_those_of_others_stay(tmp_path, monkeypatch, prefix, home):
    places = {"home": tmp_path / "home", "temporary": tmp_path / "tmp"}
    for path in places.values():
        path.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(places["temporary"]))
    monkeypatch.setenv("HOME", str(places["home"]))
    place = places["home" if home else "temporary"]
    dead, alive = (start(HOLDS, prefix, place) for _ in range(2))
    folders = [Path(process.stdout.readline().strip()) for process in (dead, alive)]
    (place / "lab-grading-of-mine.txt").write_text("")  # no folder
    (place / "laboratory").mkdir()
    try:
        end(dead)
        (folders[0] / "locked").mkdir(mode=0)
        with temporary_folder(prefix, place) as own:
            sweep()
            assert not folders[0].exists() and folders[1].exists() and own.exists()
        assert sorted(path.name for path in place.iterdir()) == sorted(
            ["lab-grading-of-mine.txt", "laboratory", folders[1].name])
    finally:
        end(alive)


def test_the_folder_of_a_replay_is_kept_while_it_runs(tmp_path, monkeypatch):
    seen = []

    def on_images(_, files, *__):
        sweep()  # of another grader: a lock holds against every other handle, also of one process
        seen.extend(files.values())
        assert all(path.is_file() for path in seen) and seen[0].parent.name.startswith(leftovers.PREFIXES)
        raise InterruptedError

    proof = SimpleNamespace(save=lambda *paths: [path.write_text("") for path in paths])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(scoring, "_on_images", on_images)
    with pytest.raises(InterruptedError):
        scoring.replay(None, proof, None, None, [], Level.BUBBLEWRAP, Limits())
    assert len(seen) == 2 and not list(tmp_path.iterdir())


def test_processes_of_dead_graders_are_ended_and_those_of_others_stay():
    namespace = Path("/proc/self/ns/pid").stat().st_ino
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    own = f"lab-grader-{namespace}-{os.getpid()}-{started(os.getpid())}"
    marks = {"dead": f"lab-grader-{namespace}-{gone.pid}-1.", "alive": f"{own}.",
             "elsewhere": f"lab-grader-{namespace + 1}-{gone.pid}-1.", "another of this number": f"{own[:-1]}."}
    processes = {name: start("import time; time.sleep(60)", mark) for name, mark in marks.items()}
    try:
        while not all(orphans.marked(mark) for mark in marks.values()):
            time.sleep(0.01)  # until each is what its command line says
        sweep()
        for name in ("dead", "another of this number"):
            assert processes[name].wait(30) == -signal.SIGKILL, name
        assert processes["alive"].poll() is None and processes["elsewhere"].poll() is None
    finally:
        for process in processes.values():
            end(process)


def test_half_written_files_of_a_report_go_when_they_are_old(tmp_path):
    (tmp_path / "records").mkdir()
    old, new, whole = (tmp_path / "records" / name for name in (".a.json.x.part", ".b.json.y.part", "c.json"))
    for path in (old, new, whole):
        path.write_text("")
    os.utime(old, (1, 1))
    os.utime(whole, (1, 1))
    sweep(tmp_path)
    assert not old.exists() and new.exists() and whole.exists()


SANDBOX = """
import sys, subprocess
from pathlib import Path
from grading.trial.sandbox import Level, Limits, leftovers, run
leftovers.mark()
popen = subprocess.Popen.__init__
def starting(*arguments, **options):
    print("starting", flush=True)
    popen(*arguments, **options)
subprocess.Popen.__init__ = starting
run(Level.BUBBLEWRAP, Path(sys.argv[1]), [sys.argv[2]], {}, Limits(), 10)
"""


@pytest.mark.parametrize("times", [5, pytest.param(150, marks=pytest.mark.long)])
def test_a_grader_killed_while_a_sandbox_starts_leaves_none(tmp_path, times):
    if reason := unavailable(Level.BUBBLEWRAP):
        pytest.skip(reason)
    sleeper = tmp_path / "sleeper.py"
    sleeper.write_text("import time; time.sleep(600)")
    rng, mark = random.Random(0), f"lab-test-killed-{os.getpid()}"
    for _ in range(times):
        grader = start(SANDBOX, sleeper, mark, TMPDIR=str(tmp_path))
        assert grader.stdout.readline() == "starting\n"
        time.sleep(rng.random() * 0.015)
        end(grader)
    limit = time.monotonic() + 60
    while orphans.marked(mark) and time.monotonic() < limit:
        time.sleep(0.05)
    assert not orphans.marked(mark)


def test_the_watcher_ends_with_its_grader():
    code = "from grading.trial.sandbox import leftovers; print(leftovers.mark())"
    done = run_command("-c", code)
    assert done.status == 0 and not done.stderr
    assert not orphans.marked(done.stdout.strip())
    assert leftovers.MARK.fullmatch(done.stdout.strip().encode())


# -- the lock --------------------------------------------------------------------------------------------------------

def test_a_report_is_for_one_run_and_shards_share_it(tmp_path):
    with report_lock(tmp_path, (0, 1)):
        for shard in ((0, 1), (0, 4), (3, 4)):
            with pytest.raises(LabError, match=rf"found another that grades into it \(host .+, process {os.getpid()}, "
                               "since .+: wait for it"), report_lock(tmp_path, shard):
                pass
    with report_lock(tmp_path, (0, 2)), report_lock(tmp_path, (1, 2)):
        for shard in ((0, 1), (1, 2), (0, 4), (1, 4), (2, 3)):
            with pytest.raises(LabError, match="only different shards of one class"), report_lock(tmp_path, shard):
                pass
    with report_lock(tmp_path, (0, 2)), report_lock(tmp_path, (1, 4)), report_lock(tmp_path, (3, 4)):
        pass
    assert {path.suffix for path in tmp_path.iterdir()} == {".lock"}


LOCKS = """
import sys, time
from pathlib import Path
from grading.grade import grade
from grading.lock import report_lock
from grading.settings import GradeSettings
with report_lock(Path(sys.argv[1]), (0, 1)):
    print("locked", flush=True)
    time.sleep(600)
"""


def test_a_second_grade_on_a_report_is_refused_until_the_first_is_dead(tmp_path, sample):
    room, report = tmp_path / "class", tmp_path / "report"
    (room / "31355501").mkdir(parents=True)
    (room / "31355501" / "read me.txt").write_text("")
    (report / "records").mkdir(parents=True)
    settings = GradeSettings(room, sample, report, device="cpu", level="none is needed", trial=lambda *_, **__: None)
    first = start(LOCKS, report)
    try:
        assert first.stdout.readline() == "locked\n"
        with pytest.raises(LabError, match=f"for this run alone, .*process {first.pid}, since"):
            grade(settings)
        assert not list((report / "records").iterdir())
    finally:
        end(first)
    assert grade(settings).graded == 1
    assert json.loads((report / "records" / "31355501.json").read_text(encoding="utf-8"))["student"] == "31355501"
