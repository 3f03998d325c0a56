"""The sandbox: its channels, its limits, what it hides and refuses at each level, and that nothing is left behind."""
import inspect
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from conftest import ROOT, run_command

from grading.trial.sandbox import Level, Limits, bubblewrap, run, seccomp, unavailable, visible
from utils.lab import LabError

MB = 1 << 20
LIMITS = Limits(wall=20, cpu=20, memory=512 * MB, file_size=4 * MB, scratch=8 * MB)
MARK = f"lab-test-{os.getpid()}"  # on every child's command line
TELL = """
import json, os, sys, threading, time
def tell(data):
    data = data if isinstance(data, bytes) else json.dumps(data).encode()
    while data:
        data = data[os.write(int(os.environ["LAB_ANSWER_FD"]), data):]
"""
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


@pytest.fixture(params=Level, ids=lambda level: level.name.lower())
def any_level(request):
    if reason := unavailable(request.param):
        pytest.skip(f"{request.param.value}: {reason}")
    return request.param


@pytest.fixture(autouse=True)
def nothing_left(monkeypatch, tmp_path_factory):
    """After each test no process of its sandboxes runs, and no file of theirs lies about."""
    folder = tmp_path_factory.mktemp("t")  # short, for the path of a unix socket
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    assert not marked_processes()
    assert not list(folder.iterdir())


@pytest.fixture
def box(tmp_path):
    """Runs a program's source at a level; its answer, where it is JSON, can be read with json.loads."""
    def start(level, source, inputs=None, limits=LIMITS, answer_size=1 << 16, **options):
        program = tmp_path / "programs" / "program.py"
        program.parent.mkdir(exist_ok=True)
        program.write_text(TELL + inspect.cleandoc(source), encoding="utf-8")
        return run(level, program, [MARK, "2"], inputs or {}, limits, answer_size, **options)
    return start


def marked_processes(mark: str = MARK) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if mark.encode() in words:
            found.append(f"{path.parent.name}: {words}")
    return found


def test_what_a_program_is_given_and_what_comes_back(any_level, box, tmp_path, monkeypatch):
    source = tmp_path / "Übung (1).txt"
    source.write_bytes(b"an image\0\xff")
    monkeypatch.setenv("SECRET_TOKEN", "do not tell")
    with source.open("rb") as file:
        os.set_inheritable(file.fileno(), True)  # what a careless library in the parent leaves open
        outcome = box(any_level, """
            place = os.environ["LAB_INPUTS"]
            data = open(os.path.join(place, "images"), "rb").read()
            os.write(int(os.environ["LAB_REPORT_FD"]), b"a report")
            tell({"arguments": sys.argv[1:], "data": data.hex(), "inputs": os.listdir(place), "name": __name__,
                  "environment": dict(os.environ), "stdin": sys.stdin.read(), "home": os.listdir(),
                  "places": [os.path.realpath(os.environ[name]) for name in ("HOME", "TMPDIR")] + [os.getcwd()],
                  "path": [os.path.realpath(path) for path in sys.path], "session": os.getsid(0) == os.getpgid(0),
                  "files": sorted(n for n in range(100) if os.path.exists(f"/proc/self/fd/{n}"))})
            print("out"); print("ümlaut", file=sys.stderr)
            import utils.lab, dataset
            """, {"images": source}, threads=3)
    told = json.loads(outcome.answer)
    assert (outcome.status, outcome.reason, outcome.overflow, outcome.report) == (0, "", False, b"a report")
    assert sorted(outcome.log.split()) == ["out", "ümlaut"]
    assert told["arguments"] == [MARK, "2"] and told["name"] == "__main__" and told["session"]
    assert bytes.fromhex(told["data"]) == source.read_bytes() and told["inputs"] == ["images"]
    assert told["stdin"] == "" and told["home"] == [] and len(set(told["places"])) == 1
    environment = told["environment"]
    assert set(environment) - {"PWD"} == {
        "PATH", "HOME", "TMPDIR", "LANG", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "OMP_NUM_THREADS", "MKL_NUM_THREADS",
        "GOMP_SPINCOUNT", "LAB_INPUTS", "LAB_ANSWER_FD", "LAB_REPORT_FD", "CUDA_VISIBLE_DEVICES"}
    assert environment["OMP_NUM_THREADS"] == environment["MKL_NUM_THREADS"] == "3"
    assert told["files"] == sorted([0, 1, 2, int(environment["LAB_ANSWER_FD"]), int(environment["LAB_REPORT_FD"])])
    for folder in (tmp_path / "programs", ROOT / "grading"):
        assert str(folder) not in told["path"]


@pytest.mark.parametrize(("ending", "status"), [
    ("sys.exit(3)", 3), ("os._exit(0)", 0), ("raise ValueError('no such layer')", 1), ("os.abort()", -signal.SIGABRT),
    ("os.kill(os.getpid(), 9)", -signal.SIGKILL),
])
def test_how_a_program_ends(any_level, box, ending, status):
    outcome = box(any_level, ending)
    assert (outcome.status, outcome.reason) == (status, "")
    assert "no such layer" in outcome.log or status != 1


def test_an_answer_of_many_chunks_arrives_whole(level, box):
    outcome = box(level, "tell(bytes(range(256)) * 32768)", answer_size=8 * MB)
    assert (outcome.status, outcome.overflow) == (0, False)
    assert outcome.answer == bytes(range(256)) * 32768


@pytest.mark.parametrize("size", [11, 10_000_000])
def test_an_answer_that_is_too_long_is_cut_and_ends_the_program(level, box, size):
    outcome = box(level, f"tell(b'x' * {size}); time.sleep(600)", answer_size=10)
    assert (outcome.status, outcome.reason, outcome.overflow, outcome.answer) == (None, "output", True, b"x" * 10)


def test_a_long_report_is_cut(level, box):
    outcome = box(level, "os.write(int(os.environ['LAB_REPORT_FD']), b'x' * 60000)\n" * 2)
    assert (outcome.status, len(outcome.report)) == (0, 64 << 10)


def test_a_long_log_keeps_its_beginning_and_its_end(level, box):
    outcome = box(level, r"print('first', flush=True); sys.stdout.buffer.write(b'\xff' * 3000000); print('last')",
                  limits=Limits(log=1000))
    first, middle, last = outcome.log.split("\n[", 1)[0], outcome.log.count("bytes left out"), outcome.log[-20:]
    assert outcome.status == 0 and first.startswith("first") and last.endswith("last\n") and middle == 1
    assert len(outcome.log) < 1100


def test_a_flood_of_output_is_stopped(level, box):
    outcome = box(level, "while True: sys.stderr.write('x' * 100000)")
    assert (outcome.status, outcome.reason) == (None, "output") and len(outcome.log) < 70000


@pytest.mark.parametrize(("source", "limits", "reason"), [
    ("time.sleep(60)", Limits(wall=0.5), "wall time"),
    ("os.closerange(0, 100); time.sleep(60)", Limits(wall=0.5), "wall time"),
    ("import signal\nfor n in set(signal.Signals) - {9, 19}: signal.signal(n, signal.SIG_IGN)\nwhile True: pass",
     Limits(wall=0.5), "wall time"),
    ("os.kill(os.getpid(), 19)", Limits(wall=0.5), "wall time"),  # SIGSTOP
    ("while True: pass", Limits(wall=20, cpu=0.5), "cpu time"),
    ("for n in range(200): threading.Thread(target=time.sleep, args=(20,)).start()", Limits(processes=20), "processes"),
])
def test_limits_of_time_and_threads(any_level, box, source, limits, reason):
    outcome = box(any_level, source, limits=limits)
    assert (outcome.status, outcome.reason) == (None, reason)
    assert outcome.seconds < 20  # the shortest of them, left to itself


EAT = "held = []\nfor _ in range(120):\n    held.append(b'x' * (1 << 24)); time.sleep(0.005)\ntell(1)"  # 2 GB


def test_memory_ends_in_an_error_of_the_programs_own(level, box):
    outcome = box(level, EAT)
    assert (outcome.status, outcome.reason, outcome.answer) == (1, "", b"") and "MemoryError" in outcome.log


def test_memory_is_watched_where_the_address_space_is_not_limited(bwrap, box):
    outcome = box(Level.BUBBLEWRAP, EAT, gpu=0)
    assert (outcome.status, outcome.reason, outcome.answer) == (None, "memory", b"")


def test_files_are_bounded_each_and_together(level, box):
    outcome = box(level, """
        def fill(name):
            total = 0
            try:
                with open(name, "wb", buffering=0) as file:
                    for _ in range(64):
                        total += file.write(b"x" * (1 << 20))
            except OSError as error:
                return total, error.errno
        tell([fill(name) for name in "abc"])
        """)
    errors = {"file too large": 27, "no space": 28}
    (first, one), (_, two), (last, three) = json.loads(outcome.answer)
    assert (first, one, two, three) == (4 * MB, errors["file too large"], errors["file too large"], errors["no space"])
    assert last < MB


def test_only_the_python_installation_and_the_code_are_there(bwrap, box):
    """Every folder on the way to what is bound holds nothing else, whichever home or repository it lies in."""
    outcome = box(Level.BUBBLEWRAP, """
        seen = {}
        for place, folders, files in os.walk("/"):
            seen[place] = folders + files
            folders[:] = [name for name in folders if name not in ("bin", "lib", "lib64", "proc", "sys", "dev")]
        tell(seen)
        """, {"weights": ROOT / "README.md"}, answer_size=MB)
    seen = {Path(place): set(names) for place, names in json.loads(outcome.answer).items()}
    code = {"utils", "dataset", "grading"}
    venv = {Path(sys.prefix).relative_to(ROOT).parts[0]} if Path(sys.prefix).is_relative_to(ROOT) else set()
    assert seen[ROOT] == code | venv
    assert seen[ROOT / "grading" / "trial" / "sandbox"] == {"launch.py", "seccomp.py", "landlock.py", "confine.py"}
    assert seen[Path("/etc")] <= {"ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "localtime",
                                  "nsswitch.conf"}
    assert seen[Path("/box")] == {"tmp", "in"} and seen[Path("/box/tmp")] == set()
    programs = {part for path in (ROOT, Path(sys.prefix), Path(sys.base_prefix), Path(tempfile.gettempdir()))
                for part in path.parts[1:2]}
    system = {"bin", "sbin", "lib", "lib32", "lib64", "usr", "etc", "sys", "proc", "dev", "box"}
    assert seen[Path("/")] <= system | programs
    if not Path(sys.base_prefix).is_relative_to("/usr"):
        assert seen[Path(sys.base_prefix)] <= {"bin", "lib", "lib64"}
        assert seen[Path(sys.base_prefix).parent] == {Path(sys.base_prefix).name}


@pytest.mark.parametrize("name", ["README.md", ".git/HEAD", "data", "tests/conftest.py", "pyproject.toml"])
def test_the_repository_cannot_be_read(level, box, name):
    if not (ROOT / name).exists():
        pytest.skip(f"{name} is not there")
    outcome = box(level, f"""
        for look in (os.listdir, open, os.readlink):
            try:
                look({str(ROOT / name)!r})
                tell("seen")
            except OSError as error:
                tell(type(error).__name__)
        """)
    assert outcome.status == 0 and outcome.answer.count(b"Error") == 3 and b"seen" not in outcome.answer


def test_a_virtual_environment_in_the_repository_itself_does_not_open_it(monkeypatch, tmp_path):
    for name in ("bin", "lib", "data", ".git"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(sys, "exec_prefix", str(tmp_path))
    paths = visible.python_paths()
    assert {tmp_path / "bin", tmp_path / "lib"} <= set(paths)
    assert not {tmp_path, tmp_path / "data", tmp_path / ".git"} & set(paths)


def test_a_program_cannot_point_the_parent_at_another_process(any_level, box):
    # bubblewrap tells the parent which process is the first, and that one is killed in the end.
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        outcome = box(any_level, f"""
            for fd in range(3, 256):
                try: os.write(fd, b'{{"child-pid": {bystander.pid}}}')
                except OSError: pass
            """)
        assert outcome.status == 0 and b"child-pid" in outcome.answer and b"child-pid" in outcome.report
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_every_denied_call_is_denied(level, box):
    column = seccomp.MACHINES[os.uname().machine][0]
    numbers = {name: pair[column] for name, pair in seccomp.DENIED.items() if pair[column] is not None}
    outcome = box(level, f"""
        import ctypes, signal
        libc = ctypes.CDLL(None, use_errno=True)
        libc.syscall.argtypes = [ctypes.c_long] * 7
        answers = {{}}
        for name, number in {numbers}.items():
            result = libc.syscall(number, -1, -1, -1, -1, -1, -1)
            answers[name] = ctypes.get_errno() if result == -1 else 0
        allowed = []
        thread = threading.Thread(target=allowed.append, args=("thread",)); thread.start(); thread.join()
        os.kill(os.getpid(), 0); signal.raise_signal(signal.SIGCHLD); allowed.append("own signals")
        import socket, resource
        socket.socketpair()[0].close(); resource.getrlimit(resource.RLIMIT_AS); allowed.append("pairs")
        tell([answers, allowed])
        """)
    answers, allowed = json.loads(outcome.answer)
    assert set(answers) == set(numbers) and set(answers.values()) == {1}, answers  # EPERM
    assert allowed == ["thread", "own signals", "pairs"]


def test_ctrl_c_kills_the_program_and_passes_on(any_level, box):
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        box(any_level, "time.sleep(6000)")


PARENT = """
import sys, threading, time
from pathlib import Path
from grading.trial import sandbox
children = []
class Child(sandbox.Child):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        children.append(self)
sandbox.Child = Child
def one():
    try:
        print(sandbox.run(sandbox.Level[sys.argv[1]], Path(sys.argv[2]), [sys.argv[3]], {}, sandbox.Limits(), 10))
    except KeyboardInterrupt:
        print("interrupted")
threads = [threading.Thread(target=one) for _ in range(2)]
for thread in threads:
    thread.start()
while len(children) < 2 or not all(child.pipes.ready.data for child in children):
    time.sleep(0.01)
if sys.argv[4] == "stop":
    sandbox.stop()
print("waiting", flush=True)
"""


def test_stop_ends_the_children_of_all_threads(any_level, tmp_path):
    sleeper = tmp_path / "sleeper.py"
    sleeper.write_text("import time; time.sleep(6000)", encoding="utf-8")
    done = run_command("-c", PARENT, any_level.name, sleeper, MARK + "s", "stop")
    assert done.status == 0 and done.stdout.count("interrupted") == 2, done.stderr
    assert not marked_processes(MARK + "s")


def test_a_killed_parent_takes_its_children_along(any_level, tmp_path):
    sleeper = tmp_path / "sleeper.py"
    sleeper.write_text("import time; time.sleep(6000)", encoding="utf-8")
    mark = MARK + "k"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, any_level.name, str(sleeper), mark, "wait"],
                              stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT),
                                                           "TMPDIR": str(tmp_path)})
    try:
        assert parent.stdout.readline() == b"waiting\n"
        assert len(marked_processes(mark)) > 2
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    end = time.monotonic() + 60
    while marked_processes(mark) and time.monotonic() < end:
        time.sleep(0.05)
    assert not marked_processes(mark)


def test_a_sandbox_that_cannot_be_set_up_is_no_fault_of_the_program(bwrap, box, tmp_path):
    with pytest.raises(LabError, match="to start a program, found: bwrap: Can't find source path"):
        box(Level.BUBBLEWRAP, "tell(1)", {"weights": tmp_path / "absent"})


def test_an_older_bubblewrap_leaves_nothing_to_write_to(bwrap, box, monkeypatch):
    monkeypatch.setattr(bubblewrap, "can_size", lambda: False)
    outcome = box(Level.BUBBLEWRAP, "tell(os.getcwd())\nopen('file', 'w')")
    assert outcome.answer == b'"/box/tmp"' and "Read-only file system" in outcome.log


@pytest.mark.parametrize(("gpu", "given", "expected"), [
    (None, "2,3", ""), (1, "2,3", "3"), (1, None, "1"), (0, "GPU-5a, GPU-6b", "GPU-5a")])
def test_which_gpu_a_program_sees(bwrap, box, monkeypatch, gpu, given, expected):
    if given is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    outcome = box(Level.BUBBLEWRAP, """
        import resource
        tell([os.environ["CUDA_VISIBLE_DEVICES"], resource.getrlimit(resource.RLIMIT_AS)[0]])
        """, gpu=gpu)
    assert json.loads(outcome.answer) == [expected, 512 * MB if gpu is None else -1]


def test_device_nodes_come_after_the_new_dev(monkeypatch):
    # A stand-in for a GPU machine's nodes: whether CUDA runs with them can only be seen there.
    monkeypatch.setattr(bubblewrap, "gpu_nodes", lambda: [Path("/dev/nvidia0"), Path("/dev/nvidiactl")])
    words = bubblewrap.command(Path("program.py"), {}, MB, 9, gpu=True)
    text = " ".join(words)
    assert words.index("--dev") < words.index("--dev-bind") < words.index("--")
    assert "--dev-bind /dev/nvidia0 /dev/nvidia0 --dev-bind /dev/nvidiactl /dev/nvidiactl" in text
    assert "--ro-bind /sys /sys" in text
    assert "--dev-bind" not in bubblewrap.command(Path("program.py"), {}, MB, 9, gpu=False)


def test_capabilities_and_privileges_are_gone(level, box):
    outcome = box(level, "tell(open('/proc/self/status').read())")
    status = dict(line.split(":\t", 1) for line in json.loads(outcome.answer).splitlines() if ":\t" in line)
    assert [int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")] == [0, 0, 0, 0]
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
