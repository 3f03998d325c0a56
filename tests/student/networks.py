"""The two network files as the tests use them: whatever class is in one, load_model must read its weights back."""
import copy
import functools
import importlib
import inspect
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from utils.lab import ROOT, TASKS

FILES = {number: task.network_file for number, task in TASKS.items()}


def load(number: int) -> ModuleType:
    """The task's network file as a module, imported when it is needed, so that a fault in one fails only its tests."""
    return importlib.import_module(".".join(FILES[number].relative_to(ROOT).with_suffix("").parts))


def build(number: int) -> nn.Module:
    """A new network of the task: of a class that needs no arguments and that load_model reads back, or the trained one.

    Fails the test where load_model reads none of the classes back, and skips it where every class needs arguments.
    """
    return copy.deepcopy(_find(number))


@functools.cache
def _find(number: int) -> nn.Module:
    module, file, problem = load(number), FILES[number].relative_to(ROOT), ""
    torch.manual_seed(0)
    for kind in reversed(list(vars(module).values())):  # a file's network comes after the layers that it is made of
        if not (inspect.isclass(kind) and issubclass(kind, nn.Module) and kind.__module__ == module.__name__):
            continue
        given = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        if any(parameter.default is parameter.empty and parameter.kind not in given
               for parameter in inspect.signature(kind).parameters.values()):
            continue
        network = kind()
        try:
            _read_back(module, network)
            return network
        except NotImplementedError:
            raise  # a stub
        except Exception as error:
            problem = problem or f"load_model of {file} does not read {kind.__name__}'s weights back: {error}"
    weights = ROOT / TASKS[number].model_file
    if weights.is_file():
        return module.load_model(str(weights))
    if problem:
        pytest.fail(problem)
    pytest.skip(f"expected a class in {file} that is built without arguments, or trained weights in {weights.name}, "
                "found neither: train first")


def _read_back(module: ModuleType, network: nn.Module) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.pth")
        torch.save(deploy(module, network).state_dict(), path)
        module.load_model(str(path))


def deploy(module: ModuleType, network: nn.Module) -> nn.Module:
    """The network as its weights are saved, in eval mode: what the file's `deploy` makes of it, where it has one."""
    network.eval()
    deployed = module.deploy(network) if hasattr(module, "deploy") else network
    deployed.eval()
    return deployed


def standard_or_torch(name: str) -> bool:
    """Whether a network file, which is handed in alone, may import this module."""
    return name.split(".")[0] in {"torch", *sys.stdlib_module_names}
