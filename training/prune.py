"""Structured pruning: takes whole channels out of a trained network, which then is a narrower one of the same kind.

    python -m training.prune model_task2.pth --to 14/20/36 --out pruned.pth
    python -m training.headless Lab05_segmentation_task2.ipynb -p START pruned.pth -p EPOCHS 60

What a channel is worth is the L2 norm of all weights that make it or use it, as in Fang et al., "DepGraph: towards any
structural pruning" (2023); Li et al., "Pruning filters for efficient ConvNets" (2017), take the L1 norm of the filter
that makes it alone. Sums and depthwise convolutions tie layers together: a channel leaves all of a stage's layers or
none (torch-pruning, the library of Fang et al., finds these groups). So
that the result is a row of the network's own table again, its layers get exactly the shapes that a network of the new
widths has, and `load_model` builds it from the file.

A pruned network has lost a part of what it knew, and is trained further: `start` puts a folded network's weights back
into one with batch norms.
"""
import argparse
import copy
import warnings
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from training.contents import require_float
from training.runs import save_weights
from utils.complexity import count_size, profile_model
from utils.evaluation import build_model, check_weights, load_network, student_code
from utils.lab import INPUT_SIZE, TASKS, LabError
from utils.terminal import run_main


def prune(network: ModuleType, model: nn.Module, widths: tuple[int, ...]) -> nn.Module:
    """A folded network of `widths` (w4, w8, w16), made of the channels of `model` that weigh most.

    network: the network file's module, with `fold`; model: what its `load_model` makes of float32 weights. It stays as
    it is. Raises LabError for widths that are no narrower, for weights that were stored in fewer bits, and for
    blocks whose channels cannot be taken out one by one (a grouped convolution's).
    """
    rung = _rung(network, model)
    pairs = list(zip(widths, rung.widths, strict=False))
    if not len(widths) == len(rung.widths) == sum(0 < new <= old for new, old in pairs) or widths == rung.widths:
        raise LabError(f"expected {len(rung.widths)} widths, some of them below {_text(rung.widths)}, found "
                       f"{_text(widths)}: check --to")
    require_float(model.state_dict(), "to be pruned")
    with student_code("a network of the new widths"):
        target = network.fold(type(model)(rung._replace(widths=tuple(widths)), num_classes=len(model.head.bias))).eval()
    pruned = copy.deepcopy(model).requires_grad_(True)
    try:
        _take_out(pruned, target)
        target.load_state_dict(pruned.state_dict(), strict=True)
        data = torch.randn(1, 3, 64, 128, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            same = torch.allclose(target(data), pruned(data), rtol=1e-3, atol=1e-4)
    except (RuntimeError, IndexError, AttributeError, ValueError) as error:
        same, reason = False, f" ({type(error).__name__})"
    else:
        reason = ""
    if not same:
        raise LabError(f"expected blocks whose channels can be taken out one by one (separable, chain, plain, squeeze, "
                       f"attention, dense), found {rung.block!r}{reason}: train that one at the widths wanted")
    return target


def _rung(network: ModuleType, model: nn.Module) -> tuple:
    rung = getattr(model, "rung", None)
    if rung is None or not callable(getattr(network, "fold", None)):
        raise LabError("expected a network with a `rung` and a function fold(network), found one without: prune "
                       "networks that are built from the table")
    return rung


def _take_out(pruned: nn.Module, target: nn.Module) -> None:
    """Takes channels out of `pruned` until its convolutions have the shapes of `target`'s, the lightest ones first."""
    try:
        import torch_pruning
    except ImportError:
        raise LabError("expected torch-pruning, found it missing: pip install -r requirements.txt") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = torch_pruning.DependencyGraph().build_dependency(pruned, torch.zeros(1, 3, *INPUT_SIZE))
    weigh = torch_pruning.importance.GroupMagnitudeImportance(p=2, group_reduction="mean", normalizer=None)
    for name, wanted in target.named_modules():
        layer = pruned.get_submodule(name)
        if not isinstance(wanted, nn.Conv2d) or layer.groups > 1 or layer.out_channels == wanted.out_channels:
            continue  # a depthwise convolution loses the channels that its input loses
        ways = (layer, torch_pruning.prune_conv_out_channels)
        weights = weigh(graph.get_pruning_group(*ways, list(range(layer.out_channels))))
        lightest = weights.argsort(stable=True)[:layer.out_channels - wanted.out_channels]
        graph.get_pruning_group(*ways, sorted(lightest.tolist())).prune()


def start(network: nn.Module, folded: nn.Module, pictures: Iterable[Tensor]) -> None:
    """Gives `network`, which has batch norms, the weights of `folded`, which has none: the same output in eval mode.

    network: a new one of `folded`'s rung, with branches or without, on any device. folded: from `load_model`, float32
    or float16. pictures: a few training batches (N, 3, H, W), normalised: in training a batch norm divides by what it
    sees, so each one is set to the mean and the deviation that its convolution has over them, and to undo just that.
    Branches begin with no say. Raises LabError unless the two are of the same shape.
    """
    require_float(folded.state_dict(), "to start from", torch.float16)
    weights = {name: tensor.float() for name, tensor in folded.state_dict().items()}
    names = list(dict.fromkeys(name.rpartition(".")[0] for name in weights))
    inside = dict(network.named_modules())
    others = [name for name, module in inside.items() if isinstance(module, nn.Conv2d)
              and not any(name == known or name.startswith(f"{known}.") for known in names)]
    if others:
        raise _other_shape(others[0], f"{tuple(inside[others[0]].weight.shape)}", "nothing")
    norms = []
    for name in names:
        module = inside.get(name, nn.Identity())
        layers = [module, *module.children()]
        conv = next((layer for layer in layers if isinstance(layer, nn.Conv2d)), None)
        norm = next((layer for layer in layers if isinstance(layer, nn.BatchNorm2d)), None)
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        if conv is None or conv.weight.shape != weight.shape or (conv.bias is None) == (norm is None):
            raise _other_shape(name, "nothing" if conv is None else f"{tuple(conv.weight.shape)}",
                               f"{tuple(weight.shape)}")
        conv.weight.data.copy_(weight)
        if norm is None:
            conv.bias.data.copy_(bias)
            continue
        norms.append(norm)
        _pass_through(norm, bias.to(norm.bias.device))
        for branch in module.modules():
            if isinstance(branch, nn.BatchNorm2d) and branch is not norm:
                nn.init.zeros_(branch.weight)
                nn.init.zeros_(branch.bias)
    _measure(network, norms, pictures)


def _pass_through(norm: nn.BatchNorm2d, bias: Tensor) -> None:
    """Sets a batch norm to y = x + bias, for eval mode, whatever its mean and variance stand at."""
    deviation = (norm.running_var + norm.eps).sqrt()
    norm.weight.data.copy_(deviation)
    norm.bias.data.copy_(bias + norm.running_mean)


def _measure(network: nn.Module, norms: list[nn.BatchNorm2d], pictures: Iterable[Tensor]) -> None:
    """Sets each batch norm's mean and variance to those of what reaches it over `pictures`; no output changes."""
    sums = {norm: torch.zeros(3, norm.num_features, dtype=torch.float64) for norm in norms}

    def note(norm: nn.Module, args: tuple[Tensor, ...]) -> None:
        x = args[0].detach().double()
        pixels = torch.full((norm.num_features,), x.numel() / norm.num_features)
        sums[norm] += torch.stack([pixels, x.sum((0, 2, 3)).cpu(), x.square().sum((0, 2, 3)).cpu()])

    was_training = network.training
    hooks = [norm.register_forward_pre_hook(note) for norm in norms]
    try:
        with torch.no_grad():
            network.eval()
            for data in pictures:
                network(data)
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    for norm, (count, total, squares) in sums.items():
        if not count.any():
            raise LabError("expected training pictures to set the batch norms by, found none: pass some batches")
        bias = norm.bias.data - norm.running_mean  # weights and variance cancel out
        mean = total / count
        norm.running_mean.copy_(mean)
        norm.running_var.copy_((squares / count - mean.square()).clamp(min=0))
        _pass_through(norm, bias)


def _other_shape(name: str, found: str, stored: str) -> LabError:
    return LabError(f"expected a network of the same rung as the weights in START, found {found} for {stored} at "
                    f"{name}: build it with the rung of what load_model(START) returns")


def _text(widths: Iterable[int]) -> str:
    return "/".join(map(str, widths))


def _widths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split("/"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected widths such as 14/20/36, found {text!r}") from None


def _ratio(text: str) -> float:
    try:
        ratio = float(text)
    except ValueError:
        ratio = 0.0
    if not 0 < ratio < 1:
        raise argparse.ArgumentTypeError(f"expected a share between 0 and 1, found {text!r}")
    return ratio


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m training.prune",
                                     description="Takes the lightest channels out of a trained network.")
    parser.add_argument("start", type=Path, metavar="START", help="weights that were trained, float32")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--to", type=_widths, metavar="W4/W8/W16", help="widths that are left at strides 4, 8 and 16")
    how.add_argument("--ratio", type=_ratio, metavar="SHARE", help="share of each stage's channels that is taken out")
    parser.add_argument("--out", type=Path, default=Path("pruned.pth"), metavar="FILE", help="default: pruned.pth")
    parser.add_argument("--network", type=Path, default=TASKS[2].network_file, metavar="FILE",
                        help="network file with load_model and fold (default: this lab's)")
    options = parser.parse_args(arguments)
    check_weights(options.start)
    network = load_network(options.network)
    model = build_model(network, options.network, options.start).eval()
    before = _rung(network, model).widths
    widths = options.to or tuple(max(1, round(width * (1 - options.ratio))) for width in before)
    pruned = prune(network, model, widths)
    save_weights(pruned, options.out)
    for name, one in ((_text(before), model), (_text(widths), pruned)):
        print(f"{name:12} {count_size(one):9.3f} KB {profile_model(one).flops:13,} multiply-accumulates")
    print(f"written to {options.out}: train it further with START")


if __name__ == "__main__":
    run_main(main)
