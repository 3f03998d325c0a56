"""Structured pruning: takes whole channels out of a trained network, which leaves a narrower network of the table.

    python -m frontier.prune model_task2.pth --to 14/20/36 --out pruned.pth
    python -m training.headless Lab05_segmentation_task2.ipynb -p START pruned.pth -p EPOCHS 60

A channel's importance is the L2 norm of all weights that make it or use it (Fang et al., "DepGraph: towards any
structural pruning", 2023). Sums and depthwise convolutions tie layers together: a channel leaves all of these layers or
none; torch-pruning, the library of that paper, finds them. The layers get exactly the shapes of a network of the new
widths, so `load_model` reads the file. Then train it further: `start` puts its weights into a network with batch norms.
"""
import argparse
import copy
import warnings
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from frontier.ladder import numbers as widths
from training.contents import require_float
from training.runs import save_weights
from utils.complexity import count_size, profile_model
from utils.evaluation import build_model, check_weights, load_network, student_code
from utils.lab import INPUT_SIZE, TASKS, LabError
from utils.terminal import run_main


def prune(network: ModuleType, model: nn.Module, widths: tuple[int, ...]) -> nn.Module:
    """A deployed network of `widths` (w4, w8, w16), made of the most important channels of `model`.

    network: the network file, with `deploy`; model: a float32 network from its `load_model`, which stays as it is.
    Raises LabError for widths that are not narrower, for weights in fewer bits, and for blocks whose channels cannot
    leave one by one (a grouped convolution's).
    """
    rung = _rung(network, model)
    pairs = list(zip(widths, rung.widths, strict=False))
    if not len(widths) == len(rung.widths) == sum(0 < new <= old for new, old in pairs) or widths == rung.widths:
        raise LabError(f"expected {len(rung.widths)} widths, some of them below {_text(rung.widths)}, found "
                       f"{_text(widths)}: check --to")
    require_float(model.state_dict(), "to be pruned")
    with student_code("a network of the new widths"):
        target = type(model)(rung._replace(widths=tuple(widths)), num_classes=len(model.head.bias))
        target = network.deploy(target)
    pruned = copy.deepcopy(model).requires_grad_(True)
    try:
        _remove_channels(pruned, target)
        target.load_state_dict(pruned.state_dict(), strict=True)
        data = torch.randn(1, 3, 64, 128, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            problem = "" if torch.allclose(target(data), pruned(data), rtol=1e-3, atol=1e-4) else "other logits"
    except (RuntimeError, IndexError, AttributeError, ValueError) as error:
        problem = type(error).__name__
    if problem:
        raise LabError("expected blocks whose channels can leave one by one (separable, chain, plain, squeeze, "
                       f"attention, dense), found {rung.block!r} ({problem}): train it at the widths wanted")
    return target


def _rung(network: ModuleType, model: nn.Module) -> tuple:
    rung = getattr(model, "rung", None)
    if rung is None or not callable(getattr(network, "deploy", None)):
        raise LabError("expected a network with a `rung` and a function deploy(network), found one without: only "
                       "networks that are built from the table can be pruned")
    return rung


def _remove_channels(pruned: nn.Module, target: nn.Module) -> None:
    """Takes the least important channels out of `pruned` until its convolutions have the shapes of `target`'s."""
    try:
        import torch_pruning
    except ImportError:
        raise LabError("expected torch-pruning, found it missing: pip install -r requirements.txt") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = torch_pruning.DependencyGraph().build_dependency(pruned, torch.zeros(1, 3, *INPUT_SIZE))
    importance = torch_pruning.importance.GroupMagnitudeImportance(p=2, group_reduction="mean", normalizer=None)
    for name, wanted in target.named_modules():
        layer = pruned.get_submodule(name)
        if not isinstance(wanted, nn.Conv2d) or layer.groups > 1 or layer.out_channels == wanted.out_channels:
            continue  # a depthwise convolution loses the channels that its input loses
        outputs = (layer, torch_pruning.prune_conv_out_channels)
        order = importance(graph.get_pruning_group(*outputs, list(range(layer.out_channels)))).argsort(stable=True)
        removed = sorted(order[:layer.out_channels - wanted.out_channels].tolist())
        graph.get_pruning_group(*outputs, removed).prune()


def start(network: nn.Module, folded: nn.Module, images: Iterable[Tensor]) -> None:
    """Gives `network`, which has batch norms, the weights of `folded`, which has none: the same output in eval mode.

    network: a new one of the same rung, with or without branches, on any device. folded: from `load_model`, float32 or
    float16. images: a few training batches (N, 3, H, W), normalized. In training a batch norm divides by the deviation
    that it sees, so each gets the mean and deviation over these images, and a gain and shift that undo them. Branches
    start at zero. Raises LabError unless both networks have the same shapes.
    """
    require_float(folded.state_dict(), "to start from", torch.float16)
    weights = {name: tensor.float() for name, tensor in folded.state_dict().items()}
    names = list(dict.fromkeys(name.rpartition(".")[0] for name in weights))
    modules = dict(network.named_modules())
    for name, module in modules.items():
        if isinstance(module, nn.Conv2d) and not any(f"{name}.".startswith(f"{known}.") for known in names):
            raise _other_shape(name, f"{tuple(module.weight.shape)}", "nothing")
    norms = []
    for name in names:
        module = modules.get(name, nn.Identity())
        layers = [module, *module.children()]
        conv = next((layer for layer in layers if isinstance(layer, nn.Conv2d)), None)
        norm = next((layer for layer in layers if isinstance(layer, nn.BatchNorm2d)), None)
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        if conv is None or conv.weight.shape != weight.shape or (conv.bias is None) == (norm is None):
            raise _other_shape(name, f"{tuple(conv.weight.shape)}" if conv else "nothing", f"{tuple(weight.shape)}")
        conv.weight.data.copy_(weight)
        if norm is None:
            conv.bias.data.copy_(bias)
            continue
        for branch in module.modules():
            if isinstance(branch, nn.BatchNorm2d) and branch is not norm:
                nn.init.zeros_(branch.weight)
                nn.init.zeros_(branch.bias)
        _only_add(norm, bias.to(norm.bias.device))
        norms.append(norm)
    _set_statistics(network, norms, images)


def _only_add(norm: nn.BatchNorm2d, bias: Tensor) -> None:
    """Sets a batch norm's gain and shift so that it computes x + bias in eval mode, with its statistics as they are."""
    norm.weight.data.copy_((norm.running_var + norm.eps).sqrt())
    norm.bias.data.copy_(bias + norm.running_mean)


def _set_statistics(network: nn.Module, norms: list[nn.BatchNorm2d], images: Iterable[Tensor]) -> None:
    """Sets each batch norm's mean and variance to those of its input over `images`; no output changes."""
    sums = {norm: torch.zeros(3, norm.num_features, dtype=torch.float64) for norm in norms}

    def add(norm: nn.Module, args: tuple[Tensor, ...]) -> None:
        x = args[0].detach().double()
        pixels = torch.full((norm.num_features,), x.numel() / norm.num_features)
        sums[norm] += torch.stack([pixels, x.sum((0, 2, 3)).cpu(), x.square().sum((0, 2, 3)).cpu()])

    was_training = network.training
    hooks = [norm.register_forward_pre_hook(add) for norm in norms]
    try:
        with torch.no_grad():
            network.eval()
            for data in images:
                network(data)
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    for norm, (count, total, squares) in sums.items():
        if not count.any():
            raise LabError("expected training images to set the batch norms by, found none: pass some batches")
        bias, mean = norm.bias.data - norm.running_mean, total / count
        norm.running_mean.copy_(mean)
        norm.running_var.copy_((squares / count - mean.square()).clamp(min=0))
        _only_add(norm, bias)


def _other_shape(name: str, found: str, stored: str) -> LabError:
    return LabError(f"expected a network of the same rung as the weights in START, found {found} for {stored} at "
                    f"{name}: build it with the rung of what load_model(START) returns")


def _text(widths: Iterable[int]) -> str:
    return "/".join(map(str, widths))


def share(text: str) -> float:
    """An argparse type. Raises ValueError unless `text` is a number between 0 and 1."""
    if not 0 < float(text) < 1:
        raise ValueError(text)
    return float(text)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m frontier.prune",
                                     description="Takes the least important channels out of a trained network.")
    parser.add_argument("start", type=Path, metavar="START", help="trained weights, float32")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--to", type=widths, metavar="W4/W8/W16", help="the widths that are left at strides 4, 8 and 16")
    how.add_argument("--ratio", type=share, metavar="SHARE", help="share of each stage's channels that is taken out")
    parser.add_argument("--out", type=Path, default=Path("pruned.pth"), metavar="FILE", help="default: pruned.pth")
    parser.add_argument("--network", type=Path, default=TASKS[2].network_file, metavar="FILE",
                        help="network file with load_model and deploy (default: this lab's; for the weights of another "
                        "block frontier/blocks.py)")
    options = parser.parse_args(arguments)
    check_weights(options.start)
    network = load_network(options.network)
    model = build_model(network, options.network, options.start).eval()
    before = _rung(network, model).widths
    after = options.to or tuple(max(1, round(width * (1 - options.ratio))) for width in before)
    pruned = prune(network, model, after)
    save_weights(pruned, options.out)
    for name, one in ((_text(before), model), (_text(after), pruned)):
        print(f"{name:12} {count_size(one):9.3f} KB {profile_model(one).flops:13,} MACs")
    print(f"written to {options.out}: train it further with START")


if __name__ == "__main__":
    run_main(main)
