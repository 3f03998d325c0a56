"""The network of a notebook: another one by its name, "gallery.fcn:FCN32s(width=16)"; whether it can be handed in."""
import ast
import importlib
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import torch
from torch import nn

from training.distributed import is_main
from utils.evaluation import deterministic, load_model
from utils.lab import INPUT_SIZE, LabError


class NetworkFile(NamedTuple):
    """What a network file offers: the network itself, made; its load_model; where it stands."""

    network: nn.Module
    load_model: Callable[[str], nn.Module]
    path: Path


def named_network(name: str, **options: object) -> NetworkFile:
    """The network that "package.module:Class" names, made with `options` and those in the name, "...:Class(width=16)".

    Raises LabError for another form, no such module or class, one without load_model, options it does not take, and a
    network without weights to train.
    """
    module_name, class_name, own = parse_name(name)
    module = import_module(module_name, name)
    for attribute in (class_name, "load_model"):
        if not callable(getattr(module, attribute, None)):
            raise LabError(f"expected {attribute} in {module_name}, found none: check NETWORK = {name!r}")
    if own.keys() & options.keys():
        raise LabError(f"expected NETWORK without {', '.join(own.keys() & options.keys())}, which follows from the "
                       f"data, found {name!r}")
    options |= own
    try:
        network = getattr(module, class_name)(**options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise LabError(f"expected a network that can be made of {options or 'nothing'}, found that {name} cannot "
                       f"({error})") from None
    if not isinstance(network, nn.Module):
        raise LabError(f"expected a network, found {type(network).__name__} in NETWORK = {name!r}")
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise LabError(f"expected a network with weights to train, found none in NETWORK = {name!r}: "
                       "python -m gallery train scores it without training")
    return NetworkFile(network, module.load_model, Path(module.__file__))


def import_module(module: str, name: str) -> ModuleType:
    """The module of NETWORK = `name`. Raises LabError if there is none, or if it cannot be imported."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise LabError(f"expected a module for NETWORK = {name!r}, found none called {error.name!r}: "
                       "check the spelling, and that its file is there") from None
    except Exception as error:  # whatever the file does
        raise LabError(f"expected a module for NETWORK = {name!r}, found that {module} cannot be imported "
                       f"({type(error).__name__}: {error}): mend it there") from None


def parse_name(name: str) -> tuple[str, str, dict]:
    """Module, class and options of a name such as "gallery.fcn:FCN32s(width=16)". Raises LabError for another form."""
    match = re.fullmatch(r"([\w.]+):(\w+)(?:\((.*)\))?", name) if isinstance(name, str) else None
    try:
        module, network, arguments = match.groups()
        call = ast.parse(f"f({arguments or ''})", mode="eval").body
        if call.args or not all(keyword.arg for keyword in call.keywords):
            raise ValueError(arguments)
        return module, network, {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (AttributeError, SyntaxError, ValueError):
        raise LabError("expected a network as module:Class or module:Class(name=value), such as "
                       f"gallery.fcn:FCN32s(width=16), found {name!r} in NETWORK") from None


def check_saving(network: nn.Module, network_file: Path) -> None:
    """Saves the weights and reads them back by the file's `load_model`, as the test script will after the training.

    network: as it will be saved (folded, stored), trained or not. Raises LabError if load_model cannot read the
    weights, or makes of them a network with other logits: found out now, it costs no training.
    """
    if not is_main():
        return
    device, mode = next(network.parameters()).device, network.training
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "untrained.pth"
        torch.save(network.state_dict(), path)
        with torch.random.fork_rng(devices=[]):  # its first weights are drawn; the training goes on as without this
            loaded = load_model(network_file, path).to(device)
    data = torch.randn(1, 3, *INPUT_SIZE, generator=torch.Generator().manual_seed(0)).to(device)
    with deterministic(), torch.inference_mode():
        expected, found = network.eval()(data), loaded(data)
    network.train(mode)
    # They lie differently in memory, so a GPU adds up in another order: a small logit may be off by much of itself.
    if expected.shape != found.shape or not (expected - found).abs().max() <= 1e-2 * expected.abs().max():
        raise LabError(f"expected load_model in {network_file} to give back the network that was saved, found one with "
                       "other logits: build the same network there and load all its weights; if you changed the file "
                       "since it was imported, restart the kernel")
