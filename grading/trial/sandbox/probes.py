"""What a sandbox must refuse, tried: small programs that attack it, and the host's own view of what became of that.

Where it can be, an attack is judged by what happened outside (a secret came back, a listener heard somebody, a file is
there), and what the program says of itself only fills the table. Each is bounded: one that succeeds does no harm.
"""
import json
from collections.abc import Callable
from typing import NamedTuple

from grading.trial.sandbox import Level, Limits, Outcome, run
from grading.trial.sandbox.leftovers import temporary_folder
from grading.trial.sandbox.scene import Scene, make_scene

MB = 1 << 20
LIMITS = Limits(wall=20, cpu=20, memory=512 * MB, file_size=32 * MB, scratch=64 * MB)

# What every program begins with: `scene` tells it where to aim, tell(...) answers, attempt(f) answers what f did.
HEAD = """
import json, os, sys, threading, time
scene = json.load(open(os.path.join(os.environ["LAB_INPUTS"], "scene")))
def tell(*words):
    os.write(int(os.environ["LAB_ANSWER_FD"]), (" ".join(map(str, words)) + "; ").encode())
def attempt(name, action):
    try:
        tell(name, "done", str(action())[:200])
    except BaseException as error:
        tell(name, "refused:", getattr(error, "strerror", None) or type(error).__name__)
"""


class Probe(NamedTuple):
    """A program, what should become of it, and the judge: (outcome, scene) -> whether it did, and what was found."""

    title: str
    expected: str
    source: str
    judge: Callable[[Outcome, Scene], tuple[bool, str]]
    limits: Limits = LIMITS
    gpu: int | None = None


class ProbeResult(NamedTuple):
    probe: str
    expected: str
    found: str
    ok: bool


def _said(outcome: Outcome) -> str:
    words = outcome.answer.decode("utf-8", errors="replace").strip("; ")
    return words or outcome.reason or f"status {outcome.status}: {outcome.log.strip()[-100:]}"


def _works(outcome: Outcome, _: Scene) -> tuple[bool, str]:
    return outcome.status == 0 and b"computed" in outcome.answer, f"{_said(outcome)}, {outcome.seconds:.1f} s"


def _keeps_secret(outcome: Outcome, scene: Scene) -> tuple[bool, str]:
    told = outcome.answer + outcome.report + outcome.log.encode()
    leaked = scene.secret.encode() in told or b"found" in outcome.answer
    return outcome.status == 0 and not leaked, "it was read" if leaked else _said(outcome)


def _unheard(outcome: Outcome, scene: Scene) -> tuple[bool, str]:
    heard = scene.heard()
    return outcome.status == 0 and not heard, f"{heard} connections came" if heard else _said(outcome)


def _refused(outcome: Outcome, _: Scene) -> tuple[bool, str]:
    return outcome.status == 0 and b"refused" in outcome.answer and b"done" not in outcome.answer, _said(outcome)


def _unharmed(outcome: Outcome, scene: Scene) -> tuple[bool, str]:
    alive = scene.bystander.poll() is None
    return outcome.status == 0 and alive, _said(outcome) if alive else "the other process was killed"


def _bounded(limit: int) -> Callable[[Outcome, Scene], tuple[bool, str]]:
    def judge(outcome: Outcome, _: Scene) -> tuple[bool, str]:
        reached = max((int(word) for word in outcome.answer.split(b";") if word.strip().isdigit()), default=0)
        ended = outcome.reason or "an error of its own"
        return 0 < reached <= limit // MB, f"{reached} MB, then {ended}"
    return judge


def _wrote_nothing(outcome: Outcome, scene: Scene) -> tuple[bool, str]:
    left = scene.left_files()
    settings = b"settings done" in outcome.answer
    found = f"wrote {', '.join(map(str, left))}" if left else "may change the kernel's settings" if settings else ""
    return outcome.status == 0 and not found, found or "nothing was written"


def _nothing_left(outcome: Outcome, scene: Scene) -> tuple[bool, str]:
    left = scene.processes()
    return not left, f"{len(left)} processes left" if left else "no process left"


def _killed(outcome: Outcome, scene: Scene) -> tuple[bool, str]:
    ok, left = _nothing_left(outcome, scene)
    return ok and outcome.reason == "wall time", f"{outcome.reason or _said(outcome)}, {left}"


GPU = Probe("computes on the first GPU", "works", """
import torch
assert torch.ones(1000, device="cuda").sum().item() == 1000
tell("computed with", torch.cuda.get_device_name())
""", _works, Limits(wall=120, memory=16 << 30), gpu=0)
SECRET = Probe("reads a secret in the home and in the temporary folder", "refused", """
for file in scene["files"]:
    attempt("", lambda: open(file).read())
""", _keeps_secret)
CONNECT = Probe("connects by TCP and by unix socket", "refused", """
import socket
attempt("TCP", lambda: socket.create_connection(("127.0.0.1", scene["port"]), 2))
attempt("unix", lambda: socket.socket(socket.AF_UNIX).connect(scene["path"]))
""", _unheard)

PROBES = (
    Probe("imports torch and multiplies", "works", """
import torch
a = torch.arange(9.0).reshape(3, 3)
assert (a @ torch.eye(3) == a).all()
tell("computed with torch", torch.__version__)
""", _works, Limits(wall=120, memory=4 << 30)),
    SECRET,
    Probe("lists the lab's folder, its data and its history", "refused", """
import pathlib
allowed = {"grading", "dataset", "utils", os.path.basename(sys.prefix)}
for folder in scene["folders"]:
    try:
        names = set(os.listdir(folder)) - allowed
    except OSError as error:
        tell("refused:", error.strerror)
    else:
        tell("found" if names else "nothing of it", *sorted(names)[:3])
""", _keeps_secret),
    Probe("reads another process's command line", "refused", """
pids = [scene["bystander"]]
try:
    pids += [int(name) for name in os.listdir("/proc") if name.isdigit()]
    tell("sees", len(pids) - 1, "processes, all its own")
except OSError as error:
    tell("refused:", error.strerror)
for pid in pids:
    try:
        print(open(f"/proc/{pid}/cmdline").read())
    except OSError:
        pass
""", _keeps_secret),
    Probe("kills another process", "refused", """
import signal
attempt("", lambda: os.kill(scene["bystander"], signal.SIGKILL))
""", _unharmed),
    CONNECT,
    Probe("forks and starts a program", "refused", """
def fork():
    if os.fork() == 0:
        time.sleep(5)
        os._exit(0)
import subprocess
attempt("fork", fork)
attempt("start", lambda: subprocess.run([sys.executable, "-c", "pass"], timeout=5))
attempt("exec", lambda: os.execv(sys.executable, [sys.executable, "-c", "pass"]))
""", _refused),
    Probe("eats memory", "at most 512 MB", """
held = []
while len(held) < 128:
    held.append(b"x" * (1 << 24))
    tell(16 * len(held))
""", _bounded(512 * MB)),
    Probe("fills the disk", "at most 64 MB", """
total = 0
tell(1)
for number in range(8):
    with open(f"file{number}", "wb", buffering=0) as file:
        for _ in range(31):
            total += file.write(b"x" * (1 << 20)) >> 20
            tell(total)
""", _bounded(64 * MB)),
    Probe("writes elsewhere", "refused", """
for place in scene["places"]:
    attempt("", lambda: os.close(os.open(os.path.join(place, scene["name"]), os.O_CREAT | os.O_WRONLY)))
attempt("settings", lambda: os.close(os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY)))
""", _wrote_nothing),
    Probe("never ends", "killed at the limit", "while True: pass", _killed, Limits(wall=2)),
    Probe("leaves a process behind", "none is left", """
def linger():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(20)
        os._exit(0)
attempt("", linger)
threading.Thread(target=time.sleep, args=(20,)).start()
os._exit(0)
""", _nothing_left),
)


def try_probe(probe: Probe, level: Level, scene: Scene) -> ProbeResult:
    """Runs one probe; LabError where the sandbox could not be set up."""
    with temporary_folder("lab-probe-") as folder:
        program, aims = folder / "program.py", folder / "scene.json"
        program.write_text(HEAD + probe.source, encoding="utf-8")
        aims.write_text(json.dumps(scene.aims()), encoding="utf-8")
        outcome = run(level, program, [scene.mark], {"scene": aims}, probe.limits, answer_size=1 << 16,
                      gpu=probe.gpu)
    ok, found = probe.judge(outcome, scene)
    return ProbeResult(probe.title, probe.expected, " ".join(found.split()), ok)


def first_failure(level: Level) -> str:
    """What a level does not refuse though no level may allow it, "" if all is well: a secret file, a connection."""
    with make_scene() as scene:
        for probe in (SECRET, CONNECT):
            row = try_probe(probe, level, scene)
            if not row.ok:
                return f"a program {row.probe}: {row.found}"
    return ""
