"""What the Makefile runs, for where there is no make (Windows): python tasks.py lab DATA=/path/to/cityscapes

Only Python's standard library is used, since this file makes the environment.
"""
from __future__ import annotations  # an old Python must get as far as being told so

import os
import shutil
import subprocess
import sys
from pathlib import Path

OLDEST_PYTHON = (3, 10)
SETTINGS = {"DATA": "./data", "EPOCHS": "", "RESUME": "", "PYTHON": sys.executable, "VENV": ".venv", "VENV_FLAGS": "",
            "LOCKED": "", "ROOM": ""}
LOCK, TORCH_LOCK = "requirements.lock", "requirements-torch.lock"  # pinned, with hashes: LOCKED=1 installs them


def main(arguments: list[str]) -> None:
    task, *pairs = arguments or ["help"]
    given = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    unknown = [pair for pair in pairs if pair.partition("=")[0] not in SETTINGS or "=" not in pair]
    if task not in TASKS or unknown:
        stop(f"expected {' or '.join(TASKS)}, and settings such as DATA=/path ({', '.join(SETTINGS)}), found "
             f"{' '.join(unknown) or task!r}")
    settings = {name: given.get(name) or os.environ.get(name) or value for name, value in SETTINGS.items()}
    TASKS[task](settings)


def show_help(settings: dict[str, str]) -> None:
    """this list"""
    for name, task in TASKS.items():
        print(f"python tasks.py {name:10} {task.__doc__}")


def setup(settings: dict[str, str]) -> None:
    """make .venv with the packages (LOCKED=1: those of the lock)"""
    if settings["LOCKED"]:
        install_locked(settings)
    else:
        install(settings, "requirements.txt", ".installed")


def lab(settings: dict[str, str]) -> None:
    """train both networks and score them (DATA=/path EPOCHS=200 RESUME=True)"""
    setup(settings)
    data = settings["DATA"]
    own = ["-p", "DATA", data]
    for name in ("EPOCHS", "RESUME"):
        own += ["-p", name, settings[name]] if settings[name] else []
    run(settings, "-m", "dataset.dataset", data)
    for number in (1, 2):
        run(settings, "-m", "training.headless", f"Lab05_segmentation_task{number}.ipynb", *own)
    for number in (1, 2):
        run(settings, f"test_task{number}.py", f"model_task{number}.pth", data)


def test(settings: dict[str, str]) -> None:
    """run the tests"""
    install_for_tests(settings)
    arguments = ["tests/" + settings["ROOM"]] if settings["ROOM"] else []
    ### BEGIN HIDDEN
    run(settings, "-m", "ruff", "check", ".")
    # Two test files at a time suit two cores.
    arguments += ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder", "--durations=10"]
    ### END HIDDEN
    run(settings, "-m", "pytest", *arguments)


### BEGIN HIDDEN
def lock(settings: dict[str, str]) -> None:
    """pin what requirements.txt installs today, with hashes (needs uv)"""
    if not shutil.which("uv"):
        stop("expected uv to resolve for every system at once, found none: pip install uv")
    own = ("--universal", "--python-version", ".".join(map(str, OLDEST_PYTHON)), "--generate-hashes", "--no-annotate",
           "--no-emit-index-url", "--no-emit-find-links", "--no-header", "--quiet")
    whole = Path("requirements.lock.part")
    if call("uv", "pip", "compile", "requirements.txt", *own, "-o", str(whole)):
        stop("expected uv to resolve requirements.txt, found the error above")
    parts = {LOCK: [], TORCH_LOCK: []}
    for package in whole.read_text(encoding="utf-8").replace("\n    ", "\0").splitlines():
        parts[TORCH_LOCK if package.startswith(TORCHS) else LOCK].append(package.replace("\0", "\n    ") + "\n")
    for name, packages in parts.items():
        Path(name).write_text("".join(packages), encoding="utf-8")
    whole.unlink()


def test_long(settings: dict[str, str]) -> None:
    """run the tests that take minutes each"""
    install_for_tests(settings)
    run(settings, "-m", "pytest", "-m", "long")


def bench(settings: dict[str, str]) -> None:
    """measure speed side by side (DATA=/path for real images)"""
    install_for_tests(settings)
    run(settings, "-m", "benchmarks", *(["--data", settings["DATA"]] if settings["DATA"] != "./data" else []))


def kit(settings: dict[str, str]) -> None:
    """make the students' kit, DL_Lab5.tar"""
    install_for_tests(settings)
    run(settings, "-m", "grading", "release", "--out", "DL_Lab5.tar")


### END HIDDEN
def clean(settings: dict[str, str]) -> None:
    """remove runs, the drawn sample and both trained networks"""
    for folder in ("runs", "data/sample"):
        shutil.rmtree(folder, ignore_errors=True)
    for number in (1, 2):
        Path(f"model_task{number}.pth").unlink(missing_ok=True)


TASKS = {"help": show_help, "setup": setup, "lab": lab, "test": test, "clean": clean}
### BEGIN HIDDEN
TASKS.update({"lock": lock, "test-long": test_long, "bench": bench, "kit": kit})
### END HIDDEN


# What comes with a torch: packages whose names begin so stand in a lock of their own.
TORCHS = ("torch==", "torchvision==", "triton==", "nvidia-", "cuda-")


def install_for_tests(settings: dict[str, str]) -> None:
    setup(settings)
    install(settings, "requirements-dev.txt", ".installed-dev")


def install(settings: dict[str, str], requirements: str, stamp: str) -> None:
    """Installs a list of packages into the environment, unless that was done since the list was changed."""
    venv = Path(settings["VENV"])
    done = venv / stamp
    if done.exists() and done.stat().st_mtime >= Path(requirements).stat().st_mtime:
        return
    make_environment(settings)
    run(settings, "-m", "pip", "install", "--disable-pip-version-check", "-r", requirements)
    done.touch()  # last, so that an interrupted installation is done again


def install_locked(settings: dict[str, str]) -> None:
    """Installs the locks, by uv where it is there; a torch that is there already and new enough stays."""
    venv = Path(settings["VENV"])
    done = venv / ".installed"
    if done.exists() and done.stat().st_mtime >= Path(LOCK).stat().st_mtime:
        return
    make_environment(settings)
    own = call(str(python_of(venv)), "-c", "import torch; v = torch.__version__.split('.'); "
                                           "raise SystemExit((int(v[0]), int(v[1])) < (2, 4))") == 0
    for name in (LOCK,) if own else (TORCH_LOCK, LOCK):
        command = ("-m", "pip", "install", "--disable-pip-version-check", "--no-deps", "--require-hashes", "-r", name)
        if shutil.which("uv"):
            status = call("uv", "pip", "install", "--python", str(python_of(venv)), *command[4:])
            if status:
                sys.exit(status)
        else:
            run(settings, *command)
    done.touch()


def make_environment(settings: dict[str, str]) -> None:
    venv = Path(settings["VENV"])
    if not python_of(venv).exists():
        oldest = ".".join(map(str, OLDEST_PYTHON))
        check = f"import sys; sys.exit(sys.version_info < {OLDEST_PYTHON})"
        if call(settings["PYTHON"], "-c", check):
            stop(f"expected Python {oldest} or newer, found an older one, or none, at {settings['PYTHON']}: "
                 "pass PYTHON=python3.12, say")
        if call(settings["PYTHON"], "-m", "venv", *settings["VENV_FLAGS"].split(), str(venv)):
            stop(f"expected to make {venv}, found the error above: on Debian and Ubuntu, "
                 "`sudo apt install python3-venv`")


def python_of(venv: Path) -> Path:
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def run(settings: dict[str, str], *arguments: str) -> None:
    """Runs the environment's Python, and ends with its status where that is not 0."""
    status = call(str(python_of(Path(settings["VENV"]))), *arguments)
    if status:
        sys.exit(status)


def call(*command: str) -> int:
    """The status of a command; a Ctrl-C ends it first, then this program."""
    try:
        process = subprocess.Popen(command)
    except OSError:
        return 127
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue  # the command got it too, and says what it says


def stop(reason: str) -> None:
    print(f"error: {reason}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parent)
    main(sys.argv[1:])
