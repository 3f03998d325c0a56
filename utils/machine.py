"""What of the machine this process may use. torch is loaded only where it is needed: drawing the sample is not."""
from __future__ import annotations

import os
from typing import TYPE_CHECKING

from utils.lab import LabError

if TYPE_CHECKING:
    import torch


def available_cores() -> int:
    """Cores that this process may use, which on a shared server are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pick_device(name: str = "auto") -> torch.device:
    """The device called `name` ("cpu", "cuda", "cuda:1"); "auto" is the first GPU, or the CPU where there is none."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise LabError(f"expected a device that this machine has, found {name!r} "
                       f"({str(error).splitlines()[0]}): use cpu or auto") from None
    return device
