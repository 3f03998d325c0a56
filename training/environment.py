"""What a run rests on besides its settings: the random generators, the machine, the versions."""
import platform
import random
import subprocess
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from training.distributed import shard
from utils.lab import ROOT
from utils.machine import available_cores, cpu_name


def random_states() -> list[dict]:
    """The random states of all processes, in their order, in types that weights_only=True loads."""
    kind, keys, *rest = np.random.get_state()
    own = {"torch": torch.get_rng_state(), "numpy": [kind, keys.tolist(), *rest], "python": random.getstate(),
           # not "available": asking would take memory on every GPU from a run that uses none
           "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []}
    states = [own] * shard()[1]
    if dist.is_initialized():
        dist.all_gather_object(states, own)
    return states


def set_random_state(state: dict) -> None:
    """Puts this process's generators into a state of `random_states`; another number of GPUs is no error."""
    torch.set_rng_state(state["torch"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, np.uint32), *rest))
    random.setstate(state["python"])
    if torch.cuda.is_available():
        for device, content in zip(range(torch.cuda.device_count()), state["cuda"], strict=False):
            torch.cuda.set_rng_state(content, device)


def describe_machine(network: nn.Module) -> dict:
    """What the network is computed on: the GPU or CPU's name, torch's threads, the platform."""
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    processes = f"{shard()[1]} x " if shard()[1] > 1 else ""
    if device.type == "cuda":
        name = processes + torch.cuda.get_device_name(device)
    else:
        name = f"{cpu_name()}, {available_cores()} cores"
    return {"name": name, "torch_threads": torch.get_num_threads(), "platform": platform.platform()}


def describe_versions() -> dict:
    """Python's, torch's, numpy's, and the commit the lab stands at (None where it is no git checkout)."""
    try:
        done = subprocess.run(["git", "rev-parse", "--show-toplevel", "HEAD"], cwd=ROOT, capture_output=True,
                              encoding="utf-8", timeout=10, check=False)
        top, _, commit = done.stdout.strip().partition("\n")
        lab = commit if done.returncode == 0 and Path(top) == ROOT else None  # not of a folder around the lab
    except (OSError, subprocess.TimeoutExpired):
        lab = None
    return {"python": platform.python_version(), "torch": str(torch.__version__), "numpy": np.__version__, "lab": lab}
