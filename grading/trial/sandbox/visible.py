"""What a sandboxed program may read of the host: the system, the Python installation, the lab's code; nothing else."""
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from utils.lab import ROOT

# Of /etc only what the loader and the C library look up; no names of users, no keys, no mounts.
ETC = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "localtime", "nsswitch.conf")
# Of a Python prefix only these: a virtual environment may have been made in the repository itself or in a home.
OF_PREFIX = ("bin", "lib", "lib64", "pyvenv.cfg")
TOP = ("bin", "sbin", "lib", "lib32", "lib64")  # folders, or links into /usr where the two are merged
# The libraries alone: no program but Python is ever started, and a data set may lie somewhere under /usr too.
LIBRARIES = ("lib*", "usr/lib*", "usr/local/lib*", "usr/local/cuda*")
ROOMS = ("utils", "dataset")
STARTER = tuple(ROOT / "grading" / "trial" / "sandbox" / name
                for name in ("launch.py", "seccomp.py", "landlock.py", "confine.py"))
CPUS = Path("/sys/devices/system/cpu")  # torch asks which processors there are


def system_links() -> dict[str, str]:
    """The links of the root folder that lead into /usr: their path and what they hold."""
    return {str(path): str(path.readlink()) for name in TOP if (path := Path("/", name)).is_symlink()}


def system_paths() -> list[Path]:
    """The folders of the system's libraries, and the files that the loader reads."""
    libraries = [path for pattern in LIBRARIES for path in sorted(Path("/").glob(pattern))]
    return [path for path in libraries if path.is_dir() and (not path.is_symlink() or path.parent != Path("/"))
            ] + [path for path in (*(Path("/etc", name) for name in ETC), CPUS) if path.exists()]


def gpu_nodes() -> list[Path]:
    """NVIDIA's device nodes, whatever there are: nvidia0, nvidiactl, nvidia-uvm, nvidia-caps/ for MIG."""
    return sorted(Path("/dev").glob("nvidia*"))


def lab_code() -> list[Path]:
    """The rooms that a program may import, and what starts it."""
    return [*(ROOT / room for room in ROOMS), *STARTER]


def python_paths() -> list[Path]:
    """The installation of the running Python and of its packages, by their own and their real paths."""
    prefixes = {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix}
    found = {Path(prefix, name) for prefix in prefixes for name in OF_PREFIX}
    found |= {Path(path) for path in sys.path if Path(path).name in ("site-packages", "dist-packages")}
    found |= set(_hops(Path(sys.executable)))
    paths = sorted({path for each in found if each.exists() for path in (each, each.resolve())})
    outer = []  # sorted: a folder stands before what lies in it
    for path in paths:
        if not any(path.is_relative_to(folder) for folder in outer):
            outer.append(path)
    return outer


def _hops(path: Path) -> Iterator[Path]:
    # A virtual environment's python is a link to a link ...; the kernel follows each of them inside the sandbox too.
    yield path
    while path.is_symlink():
        path = path.parent / path.readlink()
        yield Path(os.path.normpath(path))
