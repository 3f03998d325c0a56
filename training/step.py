"""The training step at the machine's speed: precision, memory, compilation, and what to say when memory runs out."""
import contextlib
import gc
import importlib.util
import itertools
import os
import shutil
import traceback
from collections.abc import Iterator

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from training.distributed import parallel, shard
from utils.lab import INPUT_SIZE, LabError
from utils.machine import keep_memory

PRECISIONS = ("auto", "float32", "bfloat16", "float16")


class Precision:
    """In which number format the network's products are computed (Micikevicius et al., "Mixed precision", 2018).

    "auto" takes bfloat16 on a GPU that has it, float16 on an older one, and float32 on a CPU. The weights and the loss
    stay float32 in each. float16 has so small a range that gradients vanish in it: `scaler` enlarges the loss and
    shrinks the gradients again; with the other formats it does nothing.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        if name not in PRECISIONS:
            raise LabError(f"expected PRECISION to be one of {', '.join(PRECISIONS)}, found {name!r} in the settings")
        if name == "auto":
            name = "float32"
            if device.type == "cuda":
                # from Ampere on; older ones only emulate it
                name = "bfloat16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float16"
        if name == "float16" and device.type == "cpu":
            raise LabError("expected PRECISION 'float32' or 'bfloat16' on a CPU, found 'float16' in the settings")
        self.name, self.device = name, device
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "float16")

    def autocast(self) -> torch.autocast:
        """The context for the forward pass and the loss."""
        return torch.autocast(self.device.type, getattr(torch, self.name), enabled=self.name != "float32")

    def __str__(self) -> str:
        return self.name


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


def prepare(network: nn.Module, compile: bool = False) -> nn.Module:
    """The network as the training loop calls it; what is saved, resumed and scored is `network` itself.

    Under torchrun its gradients are averaged over the processes. With `compile`, torch.compile turns it into fused
    kernels, which takes a minute or more at the first step. Raises LabError where there is no compiler for that.
    """
    model = parallel(network)
    if not compile:
        return model
    on_gpu = next(network.parameters()).is_cuda
    compiler = os.environ.get("CXX") or next(filter(shutil.which, ("g++", "clang++", "cl")), None)
    if not compiler or (on_gpu and not importlib.util.find_spec("triton")):
        raise LabError(f"expected {'Triton and ' if on_gpu else ''}a C++ compiler for COMPILE = True, found none: "
                       "install it (apt install g++), or set COMPILE = False")
    return torch.compile(model)


def decay_groups(network: nn.Module, weight_decay: float) -> list[dict]:
    """The network's parameters in the two groups that an optimizer takes: with weight decay, and without.

    Norms' factors, shifts and biases, the vectors, get none: pulling them to 0 fits nothing (He et al., "Bag of
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

    Call its `update_parameters(network)` after every step. It is an exponential moving average (Polyak and Juditsky,
    1992), whose reach at first grows with the steps, a quarter of those made, so that the beginning is soon forgotten.
    With a reach of 1 it is the network as it is.
    """
    if not reach >= 1:
        raise LabError(f"expected an average over at least 1 step, found {reach} in the settings")
    return Average(network, reach)


@contextlib.contextmanager
def memory_advice(network: nn.Module, precision: Precision, batch_size: int, width: int | None = None
                  ) -> Iterator[None]:
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
    elif fits := _fitting_batch(network, precision, batch_size):
        advice = f"BATCH_SIZE {fits} fits"
    else:
        advice = "not even one picture fits: free it, or take a smaller network"
    raise LabError(f"expected {settings} to fit in {_memory(precision.device)}, found it full: {advice}"
                   f"{', or lower WIDTH' if width else ''}; RESUME = True needs unchanged settings") from None


def _fitting_batch(network: nn.Module, precision: Precision, batch_size: int) -> int:
    """The largest of batch_size / 2, / 4, ... for which a step goes through, 0 if none does."""
    network.train()
    while batch_size := batch_size // 2:
        network.zero_grad(set_to_none=True)
        gc.collect()
        if precision.device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            with precision.autocast():
                output = network(torch.zeros(batch_size, 3, *INPUT_SIZE, device=precision.device))
                loss = output.float().square().mean()
            loss.backward()
        except (torch.cuda.OutOfMemoryError, MemoryError, RuntimeError) as error:
            traceback.clear_frames(error.__traceback__)
            continue
        finally:
            output = loss = None
            network.zero_grad(set_to_none=True)
        return batch_size
    return 0


def _memory(device: torch.device) -> str:
    if device.type != "cuda":
        return "memory"
    return f"the {torch.cuda.get_device_properties(device).total_memory / 1e9:.0f} GB of {device}"
