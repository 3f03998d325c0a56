"""How the lab's commands speak: progress while they work, then a result, or one clear line and a status."""
import sys
from collections.abc import Callable
from typing import TextIO

from utils.lab import LabError


def run_main(main: Callable[[], int | None]) -> None:
    """Runs a command's `main` and ends the process with its status (None is 0).

    Bad input (LabError) becomes one line on stderr and status 2, like argparse's own errors; Ctrl-C one line and
    status 130, the shell's habit. Any other exception is a fault of the lab and keeps its traceback. What stdout's
    encoding lacks (a bar's blocks in ASCII) is printed as a question mark.
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # stderr never fails: it escapes what it lacks
    try:
        status = main()
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("\nstopped by Ctrl-C", file=sys.stderr)
        status = 130
    sys.exit(status)


def bar_stream() -> TextIO:
    """Where progress bars go: stderr, so that stdout holds results alone; in a notebook stdout, which is not red."""
    in_notebook = type(sys.stdout).__module__.startswith("ipykernel")
    return sys.stdout if in_notebook else sys.stderr
