"""Runs one untrusted Python program: what it may see and use is decided here, what it answers is bytes of bounded size.

The program is a student's network file in the end, so nothing that it sends is believed, parsed or unpickled here.
Three levels of strength (README, "Grading a class"); `python -m grading doctor` shows which one a machine has.
"""
import functools
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from grading.trial.sandbox import bubblewrap, landlock, seccomp
from grading.trial.sandbox.child import Child
from grading.trial.sandbox.levels import Level, Limits, Outcome
from grading.trial.sandbox.pipes import Pipes
from grading.trial.sandbox.startup import starting
from utils.lab import LabError

__all__ = ["Level", "Limits", "Outcome", "find_level", "run", "stop", "unavailable"]
REPORT_SIZE = 64 << 10
POLL = 0.05      # seconds between two looks at what a program uses


_stopping = threading.Event()


def stop() -> None:
    """Kills all children, whichever thread waits for them: those calls of `run` raise KeyboardInterrupt, now and later.

    For Ctrl-C, which only the main thread hears of.
    """
    _stopping.set()


def find_level(insecure: bool = False) -> Level:
    """The strongest level that works on this machine, found by trying.

    Raises LabError where only NONE does and `insecure` does not allow it.
    """
    reasons = []
    for level in (Level.BUBBLEWRAP, Level.NAMESPACES):
        reason = unavailable(level)
        if not reason:
            return level
        reasons.append(f"{level.value}: {reason}")
    if insecure:
        return Level.NONE
    raise LabError(f"expected a sandbox for the students' programs, found none that works here ({'; '.join(reasons)}): "
                   "install one (apt install bubblewrap) and see python -m grading doctor, or accept with --insecure "
                   "that any submission may read and change what you may")


@functools.cache
def unavailable(level: Level) -> str:
    """Why a level does not hold here, "" if it does: a program in it must be refused a secret file and a connection."""
    from grading.trial.sandbox.probes import first_failure

    if level is Level.NONE:
        return ""
    if not seccomp.supported():
        return "expected an x86_64 or aarch64 machine"
    if level is Level.BUBBLEWRAP and not bubblewrap.installed():
        return "bwrap is not installed: apt install bubblewrap"
    if level is Level.NAMESPACES and not landlock.version():
        return "the kernel has no Landlock (Linux 5.13 and newer, where it is not switched off)"
    try:
        return first_failure(level)
    except LabError as error:
        # Ubuntu 23.10 and newer let only programs with an AppArmor profile make namespaces; these are bwrap's words.
        hint = any(word in str(error) for word in ("uid map", "RTM_NEWADDR", "new namespace"))
        return f"{error}{' (an administrator can allow bwrap by an AppArmor profile of its own)' if hint else ''}"


def run(level: Level, program: Path, arguments: Sequence[str], inputs: Mapping[str, Path], limits: Limits,
        answer_size: int, gpu: int | None = None, threads: int = 1) -> Outcome:
    """Runs `python program arguments` at a level, and leaves nothing of it behind.

    It finds `inputs` (name -> file) read-only in the folder LAB_INPUTS, an empty folder as HOME and cwd, which it may
    write where the size can be limited (not so at every level), stdin empty, and the descriptors LAB_ANSWER_FD and
    LAB_REPORT_FD to write to. Its folder is not on sys.path; utils and dataset can be imported. gpu: which of
    the GPUs that this process sees, None for none; threads: for torch. Raises LabError where the sandbox could not be
    set up, which is no fault of the program's; KeyboardInterrupt kills the program first.
    """
    program, begin = Path(program).absolute(), time.monotonic()
    with Pipes(answer_size, REPORT_SIZE, limits.log) as pipes, starting(
            level, program, arguments, inputs, limits, pipes, gpu, threads) as (command, environment):
        # In the thread that waits: the child is to die when its parent thread does. Its first process has the same
        # environment, and can be looked at from inside.
        passed = [pipes.answer.sink, pipes.report.sink, pipes.ready.sink]
        if level is Level.BUBBLEWRAP:  # which closes it; a program that could write to it would choose whom we kill
            passed.append(pipes.info.sink)
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=pipes.log.sink,
                                   stderr=pipes.log.sink, pass_fds=passed, start_new_session=True)
        child = Child(process, pipes)
        try:
            pipes.close_sinks()
            reason = _wait(child, limits)
        finally:
            child.kill()
            pipes.drain()
    log = pipes.log.text()
    if not pipes.ready.data and not reason:
        raise LabError(f"expected the sandbox ({level.value}) to start a program, found: "
                       f"{' '.join(log.split())[-400:] or f'status {process.returncode}'}: "
                       "see python -m grading doctor")
    status = _status(process.returncode)
    if not reason:  # what the kernel ended in between two looks, and what was still in the pipes
        reason = "cpu time" if status == -signal.SIGXCPU else "output" if pipes.flooded() else ""
    return Outcome(None if reason else status, reason, pipes.answer.data, pipes.answer.left_out > 0,
                   pipes.report.data, log, time.monotonic() - begin)


def _wait(child: Child, limits: Limits) -> str:
    # Until the program ends, "", or a limit is reached, its name.
    now = look = time.monotonic()
    end = now + limits.wall
    while child.process.poll() is None:
        if _stopping.is_set():
            raise KeyboardInterrupt
        child.pipes.pump(POLL)
        if child.pipes.flooded():
            return "output"
        now = time.monotonic()
        if now > end:
            return "wall time"
        if now > look:
            look = now + POLL
            used = child.usage()
            for reason, over in (("cpu time", used.cpu > limits.cpu), ("memory", used.memory > limits.memory),
                                 ("processes", used.threads > limits.processes + 1)):  # 1: a namespace's first process
                if over:
                    return reason
    return ""


def _status(code: int) -> int:
    return 128 - code if 128 < code <= 128 + 64 else code
