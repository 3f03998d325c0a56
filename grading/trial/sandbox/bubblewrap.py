"""The strongest level: bubblewrap's arguments, which alone decide what a program sees."""
import functools
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from grading.trial.sandbox.visible import gpu_nodes, lab_code, python_paths, system_links, system_paths

HOME = Path("/box/tmp")  # the only place that can be written; cwd, HOME and TMPDIR
INPUTS = Path("/box/in")
PROC_FOLDERS = ("sys", "irq", "bus", "fs", "acpi", "scsi", "driver")


def command(program: Path, inputs: Mapping[str, Path], scratch: int, info: int, gpu: bool) -> list[str]:
    """The start of the command line, to which the program's own follows; the environment is passed on as it is.

    inputs: name -> file of the host, seen as INPUTS/name; scratch: bytes that fit into HOME; info: the descriptor on
    which bubblewrap tells the process id; gpu: pass NVIDIA's devices in.
    """
    # --unshare-user, as --unshare-all is content without a user namespace where root calls it.
    words = [shutil.which("bwrap") or "bwrap", "--unshare-user", "--unshare-all", "--die-with-parent", "--new-session",
             "--cap-drop", "ALL", "--hostname", "box", "--info-fd", info]
    for link, target in system_links().items():
        words += ["--symlink", target, link]
    for path in (*system_paths(), *python_paths(), *lab_code(), program):
        words += ["--ro-bind", path, path]
    words += ["--proc", "/proc", "--dev", "/dev"]
    for path in proc_settings():
        words += ["--ro-bind", path, path]
    if gpu:  # after --dev; CUDA finds the cards by /sys. Not tried on a GPU yet
        words += ["--ro-bind", "/sys", "/sys"]
        for node in gpu_nodes():
            words += ["--dev-bind", node, node]
    # Memory files do not count as anybody's resident memory, so nothing may be written where no size is set. An
    # older bubblewrap (Ubuntu 22.04's) cannot set one: there HOME is empty and read-only.
    sized = can_size()
    words += [*(("--size", scratch) if sized else ()), "--tmpfs", HOME]
    for name, path in inputs.items():
        words += ["--ro-bind", Path(path).resolve(), INPUTS / name]
    for place in ("/dev", "/", *(() if sized else (HOME,))):
        words += ["--remount-ro", place]
    return [str(word) for word in (*words, "--chdir", HOME, "--")]


def proc_settings() -> list[Path]:
    """What of /proc changes the whole machine when it is written.

    A process of real root is the owner of these even in a user namespace without any capability; bubblewrap looks
    whether it could write the folder /proc/sys, not whether it could write what is in it, and leaves it open.
    """
    found = [path for path in Path("/proc").iterdir() if not path.name.isdigit() and not path.is_symlink()]
    return [path for path in found if path.name in PROC_FOLDERS or (path.is_file() and path.stat().st_mode & 0o222)]


@functools.cache
def can_size() -> bool:
    done = subprocess.run(["bwrap", "--help"], capture_output=True, text=True, check=False)
    return "--size" in done.stdout + done.stderr


def installed() -> bool:
    return shutil.which("bwrap") is not None
