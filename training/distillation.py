"""Learning from a teacher: its answers made small enough to keep on disk, and the loss that follows them.

Follows Hinton et al., "Distilling the Knowledge in a Neural Network" (2015). N images, C classes, H x W pixels of the
student's logits, h x w cells of the teacher's answer, H / h and W / w whole.
"""
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from dataset.augment import normalize
from dataset.dataset import SegmentationDataset
from training.contents import check
from training.distributed import balance_soft
from training.losses import full_precision, ratio
from utils.evaluation import load_model
from utils.files import full_path
from utils.lab import INPUT_SIZE, TASKS, LabError
from utils.terminal import bar_stream

CELL = 4  # pixels of the image, each way, that share one answer


def pool(logits: Tensor, cells: tuple[int, int]) -> Tensor:
    """The mean of the logits over each cell: (N, C, H, W) to (N, C, h, w), in float32."""
    size = tuple(logits.shape[-2:])
    if any(cell < 1 or pixels % cell for pixels, cell in zip(size, cells, strict=True)):
        raise LabError(f"expected cells that divide logits of {size[0]} x {size[1]}, found {cells[0]} x {cells[1]}")
    return F.avg_pool2d(full_precision(logits), (size[0] // cells[0], size[1] // cells[1]))


@torch.no_grad()
def soften(logits: Tensor, temperature: float, cells: tuple[int, int]) -> Tensor:
    """A teacher's answer, as Distillation takes it: uint8 (N, C, h, w), softmax(logits / temperature) * 255.

    logits: (N, C, H, W); cells: (h, w). A cell that does not fit raises LabError.
    """
    check(0 < temperature < math.inf, "a temperature above 0", temperature)
    return ((pool(logits, cells) / temperature).softmax(1) * 255).round().to(torch.uint8)


class Distillation(nn.Module):
    """temperature^2 * KL(teacher || student), the mean over the cells that have an answer; the factor is Hinton's.

    Called with the student's logits (N, C, H, W) and `soft`, the teacher's answer as soften gives it, uint8
    (N, C, h, w), made at this very temperature. A cell of zeros only has no answer (its image was cropped, say) and
    takes no part; without any answer the loss is 0, with gradients of 0. The scalar is float32 and, but for rounding,
    never below 0.
    """

    def __init__(self, temperature: float = 3.0):
        super().__init__()
        check(0 < temperature < math.inf, "a temperature above 0", temperature)
        self.temperature = temperature

    def forward(self, logits: Tensor, soft: Tensor) -> Tensor:
        if soft.dtype != torch.uint8 or soft.dim() != 4 or soft.shape[:2] != logits.shape[:2]:
            raise LabError(f"expected a teacher's answers as uint8 ({logits.shape[0]}, {logits.shape[1]}, h, w), found "
                           f"{str(soft.dtype).removeprefix('torch.')} {tuple(soft.shape)}")
        student = (pool(logits, soft.shape[-2:]) / self.temperature).log_softmax(1)  # (N, C, h, w)
        soft = soft.to(student.dtype)
        total = soft.sum(1, keepdim=True)
        divergence = F.kl_div(student, ratio(soft, total), reduction="none").sum()
        return self.temperature ** 2 * ratio(divergence, (total > 0).sum())


class Teaching:
    """The teacher's part of a training loss: `weight` x Distillation over the answers that a batch brings along."""

    def __init__(self, weight: float, temperature: float) -> None:
        self.weight, self.distillation = weight, Distillation(temperature)

    def __call__(self, logits: Tensor, soft: Sequence[Tensor]) -> Tensor | float:
        """The scalar for logits (N, C, H, W); `soft` holds the answers, or nothing, which is worth 0."""
        return sum(self.weight * balance_soft(self.distillation(logits, part), part) for part in soft)


@torch.inference_mode()
def ask_teacher(teacher: nn.Module | Callable[[Tensor], Tensor] | str | Path, dataset: SegmentationDataset,
                temperature: float, device: torch.device | str = "cpu", batch_size: int = 8) -> np.ndarray:
    """Its class probabilities at `temperature`, times 255, for each whole image: uint8 (N, C, 64, 128).

    teacher: images float32 (N, 3, 256, 512) to logits (N, C, 256, 512) of the data set's classes; or the weights of
    task 1's network. It is put on `device`, in eval mode. Raises LabError for missing weights and for other classes.

    The images do not change and neither does the teacher, so it is asked once, before the training, and its answers
    are kept as bytes at a quarter of the resolution: 65 KB an image, where asking again would cost several times the
    step of the small network that learns from it. The answers to an image and to its mirror image, turned back, are
    averaged as logits: they fit both.
    """
    if isinstance(teacher, (str, Path)):
        if not Path(teacher).is_file():
            raise LabError(f"expected a teacher's weights, found none at {full_path(teacher)}: run the notebook of "
                           "task 1 first, or set TEACHER = None")
        teacher = load_model(TASKS[1].network_file, Path(teacher))
    if isinstance(teacher, nn.Module):
        teacher = teacher.to(device, memory_format=torch.channels_last).eval()
    h, w = (side // CELL for side in INPUT_SIZE)
    classes = len(dataset.classes)
    answers = np.empty((len(dataset), classes, h, w), np.uint8)
    images = dataset.arrays[0]
    with tqdm(total=len(images), desc="asking the teacher", unit="image", file=bar_stream(), leave=False) as bar:
        for start in range(0, len(images), batch_size):
            data = normalize(torch.from_numpy(np.array(images[start:start + batch_size])).to(device))
            logits = teacher(data) + teacher(data.flip(3)).flip(3)
            if logits.shape[1] != classes:
                raise LabError(f"expected a teacher of the data set's {classes} classes, found one of "
                               f"{logits.shape[1]}: train task 1 on this data, or set TEACHER = None")
            answers[start:start + batch_size] = soften(logits / 2, temperature, (h, w)).cpu().numpy()
            bar.update(len(data))
    return answers
