"""The doctor and the choice of a level: every probe holds here, each can fail, and what is said when none does."""
import subprocess
import sys
import tempfile
from types import SimpleNamespace

import pytest
from conftest import ROOT

from grading.trial import sandbox
from grading.trial.sandbox import Level, Outcome, bubblewrap, find_level, probes, unavailable
from grading.trial.sandbox.doctor import doctor, table
from grading.trial.sandbox.scene import make_scene
from utils.lab import LabError

CONFINED = (Level.BUBBLEWRAP, Level.NAMESPACES)


@pytest.fixture(params=CONFINED, ids=lambda level: level.name.lower())
def level(request):
    if reason := unavailable(request.param):
        pytest.skip(f"{request.param.value}: {reason}")
    return request.param


@pytest.fixture
def bwrap():
    if reason := unavailable(Level.BUBBLEWRAP):
        pytest.skip(f"bubblewrap: {reason}")


@pytest.fixture(autouse=True)
def nothing_left(monkeypatch, tmp_path_factory):
    """After each test none of the scenes' and sandboxes' files lies about."""
    folder = tmp_path_factory.mktemp("t")  # short, for the path of a unix socket
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    assert not list(folder.iterdir())


def test_every_proof_holds(level):
    with make_scene() as scene:
        rows = [probes.try_probe(probe, level, scene) for probe in probes.PROBES]
    assert all(row.ok for row in rows), "\n".join(table(rows))
    assert len(rows) == 12


def test_probes_fail_without_a_sandbox():
    # But still with limits and without processes of its own.
    with make_scene() as scene:
        failed = {probe.title for probe in probes.PROBES[1:] if not probes.try_probe(probe, Level.NONE, scene).ok}
    wanted = {"reads a secret in the home and in the temporary folder", "reads another process's command line",
              "lists the lab's folder, its data and its history", "writes elsewhere", "fills the disk"}
    assert wanted <= failed


def outcome(answer="", status=0, reason="", report="", log=""):
    return Outcome(status, reason, answer.encode(), False, report.encode(), log, 1.0)


def scene(heard=0, killed=None, files=(), processes=()):
    """A scene after an attack: what the listeners heard, the bystander's end, files and processes that are left."""
    return SimpleNamespace(secret="5ec2e7", heard=lambda: heard, bystander=SimpleNamespace(poll=lambda: killed),
                           left_files=lambda: list(files), processes=lambda: list(processes))


# Each probe's title: how it ends where the sandbox holds, then ends that must not pass.
LEAKS = [(outcome("5ec2e7"), scene()), (outcome("refused", report="5ec2e7"), scene()),
         (outcome("refused", log="a 5ec2e7"), scene()), (outcome("refused", status=1), scene())]
ENDS = {
    "imports torch and multiplies": (outcome("computed with torch"), [
        (outcome("computed", status=1), scene()), (outcome(), scene())]),
    "reads a secret in the home and in the temporary folder": (outcome("refused:"), LEAKS),
    "lists the lab's folder, its data and its history": (outcome("nothing of it"), [
        *LEAKS, (outcome("refused:; found data"), scene())]),
    "reads another process's command line": (outcome("sees 2 processes"), LEAKS),
    "kills another process": (outcome("refused:"), [(outcome("refused:"), scene(killed=-9)),
                                                    (outcome(status=1), scene())]),
    "connects by TCP and by unix socket": (outcome("TCP refused:; unix refused:"), [
        (outcome("TCP refused:; unix refused:"), scene(heard=1)), (outcome(status=1), scene())]),
    "forks and starts a program": (outcome("fork refused:; start refused:; exec refused:"), [
        (outcome("fork done None; start refused:; exec refused:"), scene()), (outcome(), scene()),
        (outcome("fork refused:", status=None, reason="wall time"), scene())]),
    "eats memory": (outcome("16; 512; ", 1), [(outcome("16; 528; ", 1), scene()), (outcome(), scene())]),
    "fills the disk": (outcome("1; 64; ", 1), [(outcome("1; 65; ", 1), scene()), (outcome(), scene())]),
    "writes elsewhere": (outcome("refused:"), [
        (outcome("refused:"), scene(files=["/dev/shm/x"])), (outcome("settings done 3"), scene()),
        (outcome(status=1), scene())]),
    "never ends": (outcome(status=None, reason="wall time"), [
        (outcome(), scene()), (outcome(status=None, reason="cpu time"), scene()),
        (outcome(status=None, reason="wall time"), scene(processes=[7]))]),
    "leaves a process behind": (outcome(), [(outcome(), scene(processes=[7]))])}


@pytest.mark.parametrize("probe", probes.PROBES, ids=lambda probe: probe.title.replace(" ", "-"))
def test_each_proof_can_fail(probe):
    good, bad = ENDS[probe.title]
    assert probe.judge(good, scene())[0]
    for ended, after in bad:
        assert not probe.judge(ended, after)[0], (ended, after)


def test_the_level_that_is_found(monkeypatch):
    assert find_level() in CONFINED and find_level(insecure=True) == find_level()
    reasons = {Level.BUBBLEWRAP: "bwrap is not installed", Level.NAMESPACES: ""}
    monkeypatch.setattr(sandbox, "unavailable", reasons.get)
    assert find_level() is Level.NAMESPACES
    reasons[Level.NAMESPACES] = "no Landlock"
    with pytest.raises(LabError, match=r"bwrap is not installed.*no Landlock.*apt install bubblewrap.*--insecure"):
        find_level()
    assert find_level(insecure=True) is Level.NONE


def test_a_level_that_lets_a_secret_out_does_not_hold(monkeypatch, bwrap):
    # As if bubblewrap were told to bind everything: what is found must be the leak, not the configuration.
    command = bubblewrap.command
    monkeypatch.setattr(bubblewrap, "command", lambda *args: [
        word for word in command(*args)[:-3]] + ["--ro-bind", tempfile.gettempdir(), tempfile.gettempdir(), "--chdir",
                                                 str(bubblewrap.HOME), "--"])
    assert "it was read" in unavailable.__wrapped__(Level.BUBBLEWRAP)


def test_the_doctor_says_what_holds(monkeypatch):
    # Two quick probes: all of them are tried above.
    monkeypatch.setattr("grading.trial.sandbox.doctor.PROBES", (probes.SECRET, probes.CONNECT))
    lines = []
    assert doctor(lines.append)
    text = "\n".join(lines)
    assert lines[-1] == f"grading will use: {find_level().value}"
    assert "a program ..." in text and "connects by TCP" in text and "FAIL" not in text
    broken = probes.SECRET._replace(source="tell(open(scene['files'][0]))")
    monkeypatch.setattr("grading.trial.sandbox.doctor.PROBES", (broken,))
    assert not doctor(lines.append)
    assert "FAIL" in "\n".join(lines) and lines[-1].endswith("not every probe holds")


WITHOUT_NAMESPACES = """
from grading.trial.sandbox import confine, probes
from grading.trial.sandbox import Level
from grading.trial.sandbox.scene import make_scene
with make_scene() as scene:
    rows = [probes.try_probe(probe, Level.NAMESPACES, scene) for probe in probes.PROBES[1:]]
print(confine.own_namespaces(None, 0))
for row in rows:
    print(row.ok, row)
"""


def test_landlock_alone_holds_where_namespaces_may_not_be_made(bwrap, tmp_path):
    if reason := unavailable(Level.NAMESPACES):
        pytest.skip(reason)
    if "--disable-userns" not in subprocess.run(["bwrap", "--help"], capture_output=True, text=True).stdout:
        pytest.skip("this bubblewrap cannot forbid namespaces")
    done = subprocess.run(["bwrap", "--unshare-user", "--disable-userns", "--die-with-parent", "--dev-bind", "/", "/",
                           sys.executable, "-c", WITHOUT_NAMESPACES], cwd=ROOT, capture_output=True, text=True,
                          timeout=60, check=False)
    namespaces, *rows = done.stdout.splitlines()
    assert namespaces == "[]", done.stdout + done.stderr  # else this test shows nothing
    assert len(rows) == 11 and all(row.startswith("True") for row in rows), done.stdout
    assert any("fills the disk" in row and "found='1 MB, then" in row for row in rows)  # no tmpfs, so nothing at all
