"""The first program inside a sandbox: it takes rights away from itself, then becomes the program that it was given.

    python launch.py SETTINGS PROGRAM [ARGUMENTS]

SETTINGS is JSON from grading.trial.sandbox. This file runs before anything of a student's, so it is trusted; what it
sets cannot be undone. When all is in place it says so on the descriptor `ready`: so a sandbox that could not be built
is not taken for a program that failed.
"""
import sys

del sys.path[0]  # this file's folder: what lies beside it must not be importable by its bare name
import json  # noqa: E402
import os  # noqa: E402
import resource  # noqa: E402
import types  # noqa: E402
from pathlib import Path  # noqa: E402

from grading.trial.sandbox import confine, landlock, seccomp  # noqa: E402


def main() -> None:
    settings, program, arguments = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3:]
    confine.no_new_privileges()
    Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")  # where memory ends, this goes first
    own = confine_files(settings) if settings["confine"] else settings["own namespace"]
    os.chdir(settings["scratch"])  # after the namespaces: a tmpfs may lie on it now
    if settings["parent"]:  # after the namespaces: a change of credentials would undo it
        confine.die_with_parent(settings["parent"])
    set_limits(settings["limits"], own)
    confine.drop_capabilities()
    if seccomp.supported():
        seccomp.install()
    elif settings["strict"]:
        raise OSError(f"seccomp: expected one of {', '.join(seccomp.MACHINES)}, found another machine")
    os.write(settings["ready"], b"1")
    os.close(settings["ready"])
    become(program, arguments)


def confine_files(settings: dict) -> bool:
    """The level without mounts of its own: namespaces where they may be had, and Landlock, which must be had."""
    scratch = Path(settings["scratch"])
    had = confine.own_namespaces(scratch, settings["limits"]["scratch"])
    # Of /proc its own part and what torch asks of the machine: other processes stay unseen.
    read = [*settings["read"], scratch, f"/proc/{os.getpid()}", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat",
            "/proc/sys/vm/overcommit_memory", "/dev/zero", "/dev/urandom", "/dev/random"]
    write = ["/dev/null", *([scratch] if "scratch" in had else [])]
    if settings["write"]:  # a GPU's devices; CUDA names its threads in /proc
        write += [*settings["write"], f"/proc/{os.getpid()}"]
    landlock.restrict(read, write)
    return bool(had)


def set_limits(limits: dict, own: bool) -> None:
    """own: this process is in a user namespace of its own, whose processes the kernel counts for themselves."""
    wanted = {resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: limits["file_size"], resource.RLIMIT_NOFILE: 256,
              resource.RLIMIT_CPU: int(limits["cpu"]) + 2}  # the watchdog, which counts together, comes first
    if limits["address_space"]:
        wanted[resource.RLIMIT_AS] = limits["address_space"]
    if own and _kernel() >= (5, 14):  # older ones count all that the user runs anywhere
        wanted[resource.RLIMIT_NPROC] = limits["processes"] + 32
    for which, value in wanted.items():
        hard = resource.getrlimit(which)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        # For CPU time a signal that tells the reason first: SIGXCPU at the soft limit, SIGKILL at the hard one.
        resource.setrlimit(which, (value, value + 2 if which == resource.RLIMIT_CPU and value < hard else value))


def become(program: str, arguments: list[str]) -> None:
    """Runs the file as Python itself would, but without its folder on sys.path."""
    module = types.ModuleType("__main__")
    module.__file__ = program
    sys.modules["__main__"] = module
    sys.argv = [program, *arguments]
    exec(compile(Path(program).read_bytes(), program, "exec"), vars(module))


def _kernel() -> tuple[int, ...]:
    numbers = os.uname().release.split("-")[0].split(".")[:2]
    return tuple(int(number) for number in numbers if number.isdigit())


if __name__ == "__main__":
    main()
