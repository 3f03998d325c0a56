"""The training step at the machine's speed: number format, memory, compilation; the loss and the optimizer's groups."""
import contextlib
import gc
import importlib.util
import itertools
import os
import shutil
import traceback
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import AveragedModel

from training.contents import check
from training.distributed import balance, parallel, shard
from utils.lab import IGNORE, INPUT_SIZE, LabError
from utils.machine import keep_memory

PRECISIONS = ("auto", "float32", "bfloat16")


def precision_of(name: str, device: torch.device) -> torch.dtype:
    """The number format of a network's products while it trains (Micikevicius et al., "Mixed precision", 2018).

    "auto" is bfloat16 on a GPU that has it (from Ampere on), float32 elsewhere. Weights, logits and loss stay float32.
    float16 is not offered: in its small range gradients vanish, unless every training loop scales the loss.
    """
    if name not in PRECISIONS:
        raise LabError(f"expected PRECISION to be one of {', '.join(PRECISIONS)}, found {name!r} in the settings")
    if name == "auto":
        name = "bfloat16" if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0) else "float32"
    return getattr(torch, name)


def speed_up(device: torch.device) -> None:
    """Lets this process train as fast as the machine can; grading asks for exactness instead (utils.evaluation).

    On a GPU: TF32 for what stays float32, and cuDNN's choice of its algorithms by timing. On a CPU: freed memory is
    kept (utils.machine.keep_memory).
    """
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    if device.type == "cpu":
        keep_memory()


class InBfloat16(nn.Module):
    """The same network; in training mode its products are computed in bfloat16. The logits are float32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, data: Tensor) -> Tensor:
        with torch.autocast(data.device.type, torch.bfloat16, enabled=self.training):
            return self.network(data).float()


def prepare(network: nn.Module, device: torch.device, precision: str = "auto", compile: bool = False) -> nn.Module:
    """The network as the training loop calls it; what is saved, resumed and scored is `network` itself.

    `network` is moved to `device`, its weights in channels_last memory, the layout of the images and the faster one.
    Under torchrun the gradients are averaged over the processes. With `compile`, torch.compile turns the network into
    fused kernels, which takes a minute or more at the first step; raises LabError where there is no compiler.
    """
    network.to(device, memory_format=torch.channels_last)
    model = parallel(network)
    if precision_of(precision, device) == torch.bfloat16:
        model = InBfloat16(model)
    if not compile:
        return model
    on_gpu = device.type == "cuda"
    compiler = os.environ.get("CXX") or next(filter(shutil.which, ("g++", "clang++", "cl")), None)
    if not compiler or (on_gpu and not importlib.util.find_spec("triton")):
        raise LabError(f"expected {'Triton and ' if on_gpu else ''}a C++ compiler for COMPILE = True, found none: "
                       "install it (apt install g++), or set COMPILE = False")
    return torch.compile(model)


class Criterion(nn.Module):
    """A loss as the loops call it: logits float (N, C, h, w) and target int64 (N, h, w) to a scalar.

    loss: any callable of that kind, such as nn.CrossEntropyLoss; weights: the class weights (C,), if it has any.
    Under torchrun the training loss is balanced over the processes (training.distributed.balance). Raises LabError for
    a loss that does not ignore 255, and for logits and a target that do not fit.
    """

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor], weights: Tensor | None = None) -> None:
        super().__init__()
        modules = list(loss.modules()) if isinstance(loss, nn.Module) else []
        weighs = any(getattr(module, "weight", None) is not None for module in modules)
        self.loss, self.weights = loss, weights if weighs else None
        for module in modules:
            ignored = getattr(module, "ignore_index", IGNORE)
            if ignored != IGNORE:
                raise LabError(f"expected a criterion that leaves out the pixels without a label, found ignore_index "
                               f"{ignored}: make it with ignore_index=IGNORE, which is {IGNORE}")

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        if not isinstance(logits, Tensor) or logits.ndim != 4 or target.ndim != 3 or len(logits) != len(target):
            found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise LabError(f"expected logits (N, C, h, w) and a target (N, h, w), found {found} and "
                           f"{tuple(target.shape)}: pass output and target to criterion, not pred")
        if logits.shape[2:] != target.shape[1:]:
            raise LabError(f"expected logits and target of one size, found {tuple(logits.shape[2:])} and "
                           f"{tuple(target.shape[1:])}: the network's logits are coarser while it trains, so thin the "
                           "target as well (losses.thin), or set LOSS_STRIDE = 1")
        try:
            loss = self.loss(logits, target)
        except IndexError as error:  # torch's words for a target that is no class
            raise LabError(f"expected targets from 0 to {logits.shape[1] - 1}, found others ({error}): a pixel without "
                           f"a label is {IGNORE}, so pass ignore_index={IGNORE} to the loss") from None
        return balance(loss, target, self.weights) if loss.requires_grad else loss


def decay_groups(network: nn.Module, weight_decay: float) -> list[dict]:
    """The network's parameters in the two groups that an optimizer takes: with weight decay, and without.

    The vectors (factors and shifts of norms, biases) get none: pulling them to 0 fits nothing (He et al., "Bag of
    tricks", 2019).
    """
    matrices = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


def rate_groups(network: nn.Module, learning_rate: float, backbone_rate: float = 1.0) -> list[dict]:
    """The network's parameters in groups with learning rates of their own: `network.backbone`'s, if any, and the rest.

    The backbone's is `backbone_rate` x `learning_rate`. DeepLab's authors train what was pretrained at a tenth of the
    rate of what was not (Chen et al., "DeepLab", 2017, section 4.1); from scratch, as here, there is less reason to.
    """
    backbone = list(network.backbone.parameters()) if hasattr(network, "backbone") else []
    own = {id(parameter) for parameter in backbone}
    rest = [parameter for parameter in network.parameters() if id(parameter) not in own]
    groups = [{"params": rest, "lr": learning_rate}, {"params": backbone, "lr": learning_rate * backbone_rate}]
    return [group for group in groups if group["params"]]


def one_cycle(optimizer: Optimizer, steps: int, warm_up: float = 0.1) -> OneCycleLR:
    """Half a cosine up in the first share `warm_up` of the steps, then half a cosine to nothing; step it every step.

    steps: EPOCHS * len(train_batches). Smith and Topin, "Super-convergence" (2018), as torch has it: the rate starts at
    a 25th of the optimizer's, and the momentum (of Adam, its first beta) falls from 0.95 to 0.85 while the rate rises,
    and comes back with it. A step that is the only one is made at half the rate. Raises LabError for other values.
    """
    check(type(steps) is int and steps >= 1, "a whole number of steps, 1 or more", repr(steps))
    check(0 <= warm_up < 1, "a share of the steps to warm up in, from 0 to below 1", warm_up)
    rates = [group["lr"] for group in optimizer.param_groups]
    # with a single step of warm-up torch divides by zero; of a single step it makes the last one, whose rate is nothing
    share = 0.0 if steps == 1 or round(warm_up * steps, 6) == 1 else float(warm_up)
    return OneCycleLR(optimizer, rates, total_steps=max(steps, 2), pct_start=share)


class Average(AveragedModel):
    """See average_weights. In torch's own update the CPU waits for the GPU, once for every tensor of the network."""

    def __init__(self, network: nn.Module, reach: float) -> None:
        super().__init__(network, use_buffers=True)  # the number of steps, n_averaged, stays on the CPU
        self.reach = reach

    @torch.no_grad()
    def update_parameters(self, network: nn.Module) -> None:
        share = 1 / min(1 + self.n_averaged.item() / 4, self.reach)  # of the newest one
        pairs = zip(itertools.chain(self.module.parameters(), self.module.buffers()),
                    itertools.chain(network.parameters(), network.buffers()), strict=True)
        for average, current in pairs:
            if average.is_floating_point():
                average.lerp_(current, share)
            else:
                average.copy_(current)  # a batch norm's count
        self.n_averaged += 1


def average_weights(network: nn.Module, reach: float) -> Average:
    """A copy of `network` that holds the mean of its weights and statistics over about the last `reach` steps.

    Its `update_parameters(network)` is to be called after every step, as Run.training does. It is an exponential moving
    average (Polyak and Juditsky, 1992), whose reach at first grows with the steps, a quarter of those made, so that the
    beginning is soon forgotten. With a reach of 1 it is the network as it is.
    """
    check(reach >= 1, "an average over at least 1 step", reach)
    return Average(network, reach)


@contextlib.contextmanager
def memory_advice(model: nn.Module, device: torch.device, batch_size: int, width: int | None = None) -> Iterator[None]:
    """Turns running out of memory into a LabError that names `batch_size`, `width` and a batch size that fits.

    Of several processes (training.distributed) it asks for a smaller one without naming it.
    """
    try:
        yield
    except (torch.cuda.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not isinstance(error, torch.cuda.OutOfMemoryError) \
                and "can't allocate memory" not in str(error):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold the batch and all that was computed of it
    else:
        return
    settings = f"BATCH_SIZE {batch_size}" + (f" at WIDTH {width}" if width else "")
    if shard()[1] > 1:  # a step of this process alone would wait for the others for ever
        advice = "lower BATCH_SIZE"
    elif fits := _fitting_batch(model, device, batch_size):
        advice = f"BATCH_SIZE {fits} fits"
    else:
        advice = "not even one image fits: free it, or take a smaller network"
    where = "memory"
    if device.type == "cuda":
        where = f"the {torch.cuda.get_device_properties(device).total_memory / 1e9:.0f} GB of {device}"
    raise LabError(f"expected {settings} to fit in {where}, found it full: {advice}"
                   f"{', or lower WIDTH' if width else ''}; RESUME = True needs unchanged settings") from None


def _fitting_batch(model: nn.Module, device: torch.device, batch_size: int) -> int:
    """The largest of batch_size / 2, / 4, ... for which a step goes through, 0 if none does."""
    model.train()
    while batch_size := batch_size // 2:
        model.zero_grad(set_to_none=True)
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            model(torch.zeros(batch_size, 3, *INPUT_SIZE, device=device)).square().mean().backward()
        except (torch.cuda.OutOfMemoryError, MemoryError, RuntimeError) as error:
            traceback.clear_frames(error.__traceback__)
            continue
        finally:
            model.zero_grad(set_to_none=True)
        return batch_size
    return 0
