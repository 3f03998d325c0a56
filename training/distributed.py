"""Several processes that train one network: what torchrun starts, and what a single process does without noticing.

torchrun starts one process a GPU and tells each its place in the variables RANK, LOCAL_RANK and WORLD_SIZE. Each takes
every world-th image of the same permutation (dataset.batches), computes the gradients of its share, and
DistributedDataParallel (DDP; Li et al., "PyTorch Distributed", 2020) averages them. In a process of its own every
function here does nothing, so that a notebook is written once.
"""
import os

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from utils.lab import IGNORE, LabError
from utils.machine import pick_device
from utils.metric import AverageMeter, ConfusionMatrix


def start(device: str = "auto") -> torch.device:
    """The device of this process; under torchrun it also joins the others.

    Under torchrun "auto" is this process's own GPU, or the CPU where there is none. Raises LabError for a device that
    the machine does not have, and for a GPU named by its number under torchrun, which all processes would share.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return pick_device(device)
    chosen = pick_device("cuda" if device == "auto" and torch.cuda.is_available() else device)
    if chosen.type == "cuda":
        if chosen.index is not None:
            raise LabError(f"expected DEVICE 'auto' or 'cuda' under torchrun, where each process takes a GPU of its "
                           f"own, found {device!r} in the settings")
        local, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= gpus:
            raise LabError(f"expected at most one process a GPU, found process {local + 1} on a machine with {gpus} "
                           f"GPUs: torchrun --nproc-per-node={gpus}")
        chosen = torch.device("cuda", local)
        torch.cuda.set_device(chosen)
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    return chosen


def finish() -> None:
    """Waits for the other processes and leaves them; from here on this one is on its own."""
    if distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()


def shard() -> tuple[int, int]:
    """(rank, world): which share of the images is this process's, 0 <= rank < world."""
    if distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def is_main() -> bool:
    """Whether this is the process that prints and writes files."""
    return shard()[0] == 0


def parallel(network: nn.Module) -> nn.Module:
    """`network` so that its gradients are averaged over all processes. Train with the result, save `network` itself.

    On GPUs batch norm then takes its statistics over the whole batch, not over one process's share of it.
    """
    if not distributed.is_initialized():
        return network
    device = next(network.parameters()).device
    if device.type == "cuda":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # in place, unless it is itself a batch norm
    return DistributedDataParallel(network, device_ids=[device.index] if device.type == "cuda" else None)


def balance(loss: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Scales a mean loss so that the average over the processes is the mean over all their pixels.

    loss: a mean over the valid pixels of `target`, integers (N, H, W), weighted by the class weights (C,) if given.
    DDP averages the processes' gradients as if each had equally many valid pixels, which after a crop they have not.
    """
    if not distributed.is_initialized():
        return loss
    table = torch.zeros(256, dtype=torch.float64, device=target.device)
    if weights is None:
        table[:] = 1
        table[IGNORE] = 0
    else:
        table[: len(weights)] = weights.double()
    own = table.index_select(0, target.flatten().int()).sum()
    total = own.clone()
    distributed.all_reduce(total)
    # without a valid pixel the mean is 0 / 0; this process then adds nothing
    share = own * distributed.get_world_size() / total.clamp(min=1e-12)
    return torch.where(own > 0, loss, 0) * share.to(loss.dtype)


def balance_soft(loss: Tensor, soft: Tensor) -> Tensor:
    """The same for a mean over the samples of `soft`, uint8 (N, C, h, w), that are not all 0 (a teacher's answers)."""
    answered = soft.flatten(1).amax(1, keepdim=True) > 0  # (N, 1)
    return balance(loss, torch.where(answered, 0, IGNORE)[:, :, None])


def sum_meters(meters: dict[str, ConfusionMatrix | AverageMeter]) -> dict[str, ConfusionMatrix | AverageMeter]:
    """Adds up each meter over the processes, in place; counts stay int64, so the order of adding changes nothing."""
    if distributed.is_initialized():
        device = torch.device("cuda") if distributed.get_backend() == "nccl" else torch.device("cpu")
        for meter in meters.values():
            if isinstance(meter, ConfusionMatrix):
                counts = torch.from_numpy(meter.counts).to(device)
                distributed.all_reduce(counts)
                meter.counts[:] = counts.cpu().numpy()
            else:
                both = torch.tensor([float(meter.sum), float(meter.count)], dtype=torch.float64, device=device)
                distributed.all_reduce(both)
                meter.sum, meter.count = both.tolist()
    return meters


def share_buffers(network: nn.Module) -> None:
    """Gives every process the first one's buffers (batch norm's running statistics), which is what is saved."""
    if distributed.is_initialized():
        for buffer in network.buffers():
            distributed.broadcast(buffer, 0)
