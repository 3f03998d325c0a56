"""How the lab's commands end: a result, or one clear line on stderr and a status."""
import sys
from collections.abc import Callable

import torch

from utils.lab import LabError


def run_main(main: Callable[[], int | None]) -> None:
    """Runs a command's `main` and ends the process with its status (None is 0).

    Bad input (LabError) becomes one line on stderr and status 2, like argparse's own errors; Ctrl-C one line and
    status 130, the shell's habit. Any other exception is a fault of the lab and keeps its traceback.
    """
    try:
        status = main()
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("\nstopped by Ctrl-C", file=sys.stderr)
        status = 130
    sys.exit(status)


def pick_device(name: str = "auto") -> torch.device:
    """The device called `name` ("cpu", "cuda", "cuda:1"); "auto" is the first GPU, or the CPU where there is none."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise LabError(f"expected a device that this machine has, found {name!r} "
                       f"({str(error).splitlines()[0]}): use cpu or auto") from None
    return device
