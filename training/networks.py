"""Another network in place of the notebook's own, by its name: "gallery.sinet:SINet"."""
import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from torch import nn

from utils.lab import LabError


class NetworkFile(NamedTuple):
    """What a network file offers: the network itself, made; its load_model; where it stands."""

    network: nn.Module
    load_model: Callable[[str], nn.Module]
    path: Path


def named_network(name: str, **options: object) -> NetworkFile:
    """The network that "package.module:Class" names, made with `options`.

    Raises LabError for another form, no such module or class, one without load_model, and options it does not take.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[\w.]+:\w+", name):
        raise LabError(f"expected a network as module:Class, such as gallery.sinet:SINet, found {name!r} in NETWORK")
    module_name, class_name = name.split(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise LabError(f"expected a module for NETWORK = {name!r}, found none called {error.name!r}: "
                       "check the spelling, and that its file is there") from None
    for attribute in (class_name, "load_model"):
        if not callable(getattr(module, attribute, None)):
            raise LabError(f"expected {attribute} in {module_name}, found none: check NETWORK = {name!r}")
    try:
        network = getattr(module, class_name)(**options)
    except TypeError as error:
        raise LabError(f"expected a network that can be made of {options or 'nothing'}, found that {name} cannot "
                       f"({error})") from None
    if not isinstance(network, nn.Module):
        raise LabError(f"expected a network, found {type(network).__name__} in NETWORK = {name!r}")
    return NetworkFile(network, module.load_model, Path(module.__file__))
