"""A network file as the notebooks use it: what it must have, and what it may offer.

    load_model(MODEL_PATH) -> network           the only one that a file must have
    deploy(network, store=...) -> network       optional: the copy that is saved and handed in; without it the network
    shift_logits(network, shifts) -> None       optional: adds shifts (C,) to the logits, for the calibration
    network.train_stride, network.backbone      optional attributes of the network, see the notebooks
"""
import ast
import contextlib
import copy
import importlib
import inspect
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from training.distributed import is_main
from training.settings import Settings
from training.step import prepare
from utils.complexity import count_flops, count_size
from utils.evaluation import RESTART, deterministic, load_model, student_code
from utils.lab import INPUT_SIZE, ROOT, LabError
from utils.layer_table import format_layer_table, layer_table


class NetworkFile:
    """An imported network file. Raises LabError, here as in its methods, for what the file does wrong."""

    def __init__(self, module: ModuleType) -> None:
        self.module, self.path = module, Path(module.__file__)
        if not callable(getattr(module, "load_model", None)):
            raise LabError(f"expected load_model in {module.__name__}, found none: keep the one of the hand-out")

    def load(self, weights: str | Path) -> nn.Module:
        """The network that `load_model` makes of the weights, in eval mode on the CPU, as the test script loads it.

        The file is read again from the disk.
        """
        try:
            return load_model(self.path, Path(weights))
        except LabError as error:
            more = "" if "still to be written" in str(error) else f"; {RESTART}"
            raise LabError(f"{error}{more}") from None

    def deploy(self, network: nn.Module, store: str = "float32") -> nn.Module:
        """The copy of `network` that is saved and handed in, in eval mode; without a deploy in the file the network.

        store: how the file's `deploy` shall hold the weights. A line says so where the file does not offer that.
        """
        hook = getattr(self.module, "deploy", None)
        takes_store = hook is not None and "store" in inspect.signature(hook).parameters
        if store != "float32" and not takes_store:
            print(f'STORE = "{store}" does not apply: {self.path.name} has no deploy(network, store)')
        if hook is None:
            return network.eval()
        with student_code(f"deploy to make the copy that is saved, {self.path}"):
            deployed = hook(copy.deepcopy(network).eval(), **({"store": store} if takes_store else {}))
        if not isinstance(deployed, nn.Module):
            raise LabError(f"expected deploy to return a torch.nn.Module, found {type(deployed).__name__} in "
                           f"{self.path}")
        return deployed.eval()

    def shift_logits(self, network: nn.Module, shifts: Tensor) -> None:
        """Adds `shifts`, float32 (C,), to the logits of `network`, in place."""
        with student_code(f"shift_logits to add a number to each class's logits, {self.path}"):
            self.module.shift_logits(network, shifts)

    @property
    def can_shift(self) -> bool:
        """Whether the file has shift_logits; a line says so where it has not."""
        has = callable(getattr(self.module, "shift_logits", None))
        if not has:
            print(f"CALIBRATE does not apply: {self.path.name} has no shift_logits(network, shifts)")
        return has

    def check(self, network: nn.Module, store: str = "float32") -> nn.Module:
        """Saves what will be saved after the training and reads it back; returns that copy.

        network: trained or not. Raises LabError if load_model cannot read the weights, or makes of them a network with
        other logits: found out now, it costs no training.
        """
        was_training = network.training
        deployed = self.deploy(network, store)
        if not is_main():
            return deployed
        device = next(deployed.parameters()).device
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "untrained.pth"
            torch.save(deployed.state_dict(), path)
            with torch.random.fork_rng(devices=[]):  # its first weights are drawn; training goes on as without this
                loaded = self.load(path).to(device)
        data = torch.randn(1, 3, *INPUT_SIZE, generator=torch.Generator().manual_seed(0)).to(device)
        with deterministic(), torch.inference_mode(), student_code(f"a forward pass, {self.path}"):
            expected, found = deployed(data), loaded(data)
        network.train(was_training)
        # They lie differently in memory, so a GPU adds up in another order: a small logit may be off by much of itself.
        if expected.shape != found.shape or not (expected - found).abs().max() <= 1e-2 * expected.abs().max():
            raise LabError(f"expected load_model in {self.path} to give back the network that was saved, found one "
                           f"with other logits: build the same network there and load all its weights; {RESTART}")
        return deployed


def choose_network(network: nn.Module, settings: Settings, device: torch.device, num_classes: int
                   ) -> tuple[nn.Module, nn.Module, NetworkFile]:
    """The network to train, the same as the training loop calls it (training.step.prepare), and its file.

    That is `network`, from the task's own file, unless NETWORK names another one in the settings.
    """
    if name := settings.get("NETWORK"):
        network, file = named_network(name, num_classes=num_classes)
    else:
        own = settings.task.network_file.relative_to(ROOT).with_suffix("")
        file = NetworkFile(importlib.import_module(".".join(own.parts)))
    if hasattr(network, "train_stride"):
        network.train_stride = settings.get("LOSS_STRIDE", 1)
    elif settings.get("LOSS_STRIDE", 1) > 1:
        print(f"LOSS_STRIDE does not apply: {type(network).__name__} has no train_stride, the loss sees every pixel")
    settings.network = network
    return network, prepare(network, device, settings.get("PRECISION", "auto"), settings.get("COMPILE", False)), file


class Named(NamedTuple):
    """A network that was made by its name, and its file."""

    network: nn.Module
    file: NetworkFile


def named_network(name: str, **options: object) -> Named:
    """The network that "package.module:Class" names, and its file.

    It is made with those of `options` that it takes, and those in the name, "...:Class(width=16)". Raises LabError for
    another form, no such module or class, one without load_model, options it does not take, and a network without
    weights to train.
    """
    module_name, class_name, own = parse_name(name)
    module = import_module(module_name, name)
    make = getattr(module, class_name, None)
    if not callable(make):
        raise LabError(f"expected {class_name} in {module_name}, found none: check NETWORK = {name!r}")
    file = NetworkFile(module)
    if own.keys() & options.keys():
        raise LabError(f"expected NETWORK without {', '.join(own.keys() & options.keys())}, which follows from the "
                       f"data, found {name!r}")
    taken = inspect.signature(make).parameters
    options = {key: value for key, value in options.items() if key in taken} | own
    with building("NETWORK", name):
        network = make(**options)
    if not isinstance(network, nn.Module):
        raise LabError(f"expected a network, found {type(network).__name__} in NETWORK = {name!r}")
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise LabError(f"expected a network with weights to train, found none in NETWORK = {name!r}: "
                       "python -m gallery train scores it without training")
    return Named(network, file)


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


@contextlib.contextmanager
def building(setting: str, value: object, known: Iterable[str] = ()) -> Iterator[None]:
    """Turns what goes wrong while a network is built into a LabError about the setting that says which.

    known: the names that the setting may have, if it is a name.
    """
    try:
        yield
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        if isinstance(error, NotImplementedError):  # a part that is still to be written
            raise
        names = f" ({', '.join(known)}, or a row of that table)" if known else ""
        raise LabError(f"expected a network that can be built of {setting}{names}, found {value!r} "
                       f"({type(error).__name__}: {error}): check the setting") from None


def show_shapes(network: nn.Module, data: Tensor) -> None:
    """Prints the output's shape of each part of `network`, in the order in which data (N, 3, H, W) meets them."""
    def tell(name: str, output: object) -> None:
        print(f"{name:12} {tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__}")

    tell("images", data)
    hooks = [part.register_forward_hook(lambda _part, _args, output, name=name: tell(name, output))
             for name, part in network.named_children()]
    was_training = network.training
    try:
        with torch.inference_mode():
            tell("logits", network.eval()(data))
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()


def show_costs(network: nn.Module) -> None:
    """Prints the network's layers with what each costs, then the costs of the whole."""
    print(format_layer_table(layer_table(network)))
    print(f"{count_flops(network):,} multiply-accumulates an image, {count_size(network):,.1f} KB")
