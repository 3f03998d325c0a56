"""How the lab's commands speak: progress while they work, then a result, or one clear line and a status.

It imports nothing that has to be installed, and Python 3.7 reads it, so that a wrong Python ends in a line as well.
"""
from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from typing import TextIO

from utils.lab import ROOT, LabError

OLDEST_PYTHON = (3, 10)


def run_main(main: Callable[[], int | None]) -> None:
    """Runs a command's `main` and ends the process with its status (None is 0).

    Bad input (LabError), a Python that is too old or lacks a package become one line on stderr and status 2, as
    argparse's own errors do; Ctrl-C one line and status 130, the shell's habit. Any other exception is a fault of the
    lab and keeps its traceback. What stdout's encoding lacks (a bar's blocks in ASCII) is printed as a question mark.
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # stderr never fails: it escapes what it lacks
    try:
        if sys.version_info < OLDEST_PYTHON:
            raise wrong_python("an older one")
        status = main()
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    except ModuleNotFoundError as error:
        package = (error.name or "lab").partition(".")[0]
        if (ROOT / package).exists() or (ROOT / f"{package}.py").exists():
            raise  # one of the lab's own
        print(f"error: {wrong_python(f'no {package}')}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("\nstopped by Ctrl-C", file=sys.stderr)
        status = 130
    sys.exit(status)


def wrong_python(found: str) -> LabError:
    """What to say where this Python does not have what the lab needs, with the one that does, where there is one."""
    version, own = ".".join(map(str, OLDEST_PYTHON)), ROOT / ".venv" / "bin" / "python"
    advice = f"use {own}" if own.exists() else "run `make setup`, then use .venv/bin/python"
    return LabError(f"expected Python {version} or newer with the packages of requirements.txt, found {found} "
                    f"({sys.executable}): {advice}, in a notebook as its kernel")


def bar_stream() -> TextIO:
    """Where progress bars go: stderr, so that stdout holds results alone; in a notebook stdout, which is not red."""
    in_notebook = type(sys.stdout).__module__.startswith("ipykernel")
    return sys.stdout if in_notebook else sys.stderr


def renamed(old: str, new: str) -> None:
    """Runs the command `python -m new` under its former name `python -m old`, and says so."""
    print(f"note: python -m {old} is python -m {new} now", file=sys.stderr)
    runpy.run_module(new, run_name="__main__", alter_sys=True)
