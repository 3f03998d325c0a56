"""The teacher's stored answers and the loss that follows them, against torch.distributions."""
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Categorical, kl_divergence

from dataset.dataset import SegmentationDataset
from training import distributed
from training.distillation import Distillation, ask_teacher, soften
from utils.classes import Classes
from utils.lab import MEAN, STD, LabError


def draw(dtype=torch.float32):
    """Student's logits, with a gradient to come, and a teacher's, 4 classes, for 3 images of 8 x 12."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = 3 * torch.randn(2, 3, 4, 8, 12, generator=generator, dtype=dtype)
    return student.clone().requires_grad_(), teacher


def means(logits, h, w):
    """The mean over each of h x w cells, by reshaping."""
    n, c, height, width = logits.shape
    return logits.reshape(n, c, h, height // h, w, width // w).mean((3, 5))


def test_soften_is_the_pooled_softmax_times_255():
    _, teacher = draw()
    soft = soften(teacher, 3.0, (2, 6))
    exp = np.exp(means(teacher.double(), 2, 6).numpy() / 3)
    assert soft.dtype == torch.uint8
    assert np.array_equal(soft.numpy(), np.rint(255 * exp / exp.sum(1, keepdims=True)))
    assert torch.equal(soft, soften(teacher.double(), 3.0, (2, 6)))


@pytest.mark.parametrize("cells", [(2, 6), (8, 12), (1, 1)])
def test_distillation_is_the_divergence_of_the_images_with_an_answer(cells):
    student, teacher = draw()
    soft = soften(teacher, 3.0, cells)
    soft[1] = 0
    p, q = (Categorical(probs=soft[[0, 2]].double().movedim(1, -1)),
            Categorical(logits=means(student[[0, 2]].double(), *cells).movedim(1, -1) / 3))
    loss = Distillation(3.0)(student, soft)
    assert loss.item() == pytest.approx(9 * kl_divergence(p, q).mean().item(), rel=1e-5, abs=2e-6)
    loss.backward()
    assert student.grad[0].any() and student.grad[2].any() and not student.grad[1].any()


def test_an_answer_of_a_single_class_is_a_cross_entropy():
    student, _ = draw()
    target = torch.arange(8 * 12 * 3).view(3, 8, 12) % 4
    soft = 255 * F.one_hot(target, 4).movedim(-1, 1).to(torch.uint8)
    torch.testing.assert_close(Distillation(1.0)(student, soft), F.cross_entropy(student, target))


def test_the_teacher_itself_is_all_but_right():
    _, teacher = draw()
    loss = Distillation(3.0)(teacher, soften(teacher, 3.0, (4, 4)))
    assert -1e-6 < loss.item() < 1e-3
    assert Distillation(3.0)(teacher.flip(1), soften(teacher, 3.0, (4, 4))).item() > 0.1


def test_without_answers_the_loss_is_0():
    student, _ = draw()
    loss = Distillation()(student, torch.zeros(3, 4, 2, 3, dtype=torch.uint8))
    assert loss.item() == 0
    loss.backward()
    assert torch.equal(student.grad, torch.zeros_like(student))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(dtype):
    student, teacher = draw()
    student = (5 * student.detach()).to(dtype).requires_grad_()
    soft = soften(teacher.to(dtype), 3.0, (2, 6))
    assert torch.equal(soft, soften(teacher.to(dtype).float(), 3.0, (2, 6)))
    with torch.autocast("cpu", torch.bfloat16):
        loss = Distillation(3.0)(student, soft)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, Distillation(3.0)(student.detach().float(), soft), rtol=1e-6, atol=0)
    loss.backward()
    assert student.grad.dtype == dtype and torch.isfinite(student.grad).all() and student.grad.any()


def test_gradients_are_those_of_finite_differences():
    student, teacher = draw(torch.float64)
    soft = soften(teacher, 2.0, (2, 2))
    soft[2] = 0
    assert torch.autograd.gradcheck(lambda x: Distillation(2.0)(x, soft), student)


def test_what_does_not_fit_is_refused():
    student, teacher = draw()
    soft = soften(teacher, 3.0, (2, 6))
    for temperature in (0, -1.0, float("inf")):
        with pytest.raises(LabError, match=f"above 0, found {temperature} in the settings"):
            Distillation(temperature)
        with pytest.raises(LabError, match=f"above 0, found {temperature} in the settings"):
            soften(teacher, temperature, (2, 6))
    for cells in ((3, 6), (16, 12), (0, 6)):
        with pytest.raises(LabError, match=f"divide logits of 8 x 12, found {cells[0]} x {cells[1]}"):
            soften(teacher, 3.0, cells)
    with pytest.raises(LabError, match=r"divide logits of 8 x 10, found 2 x 6"):
        Distillation()(student[..., :10], soft)
    for wrong in (soft.float(), soft[:2], soft[:, :3], soft[0]):
        with pytest.raises(LabError, match=r"uint8 \(3, 4, h, w\), found"):
            Distillation()(student, wrong)


# --- asking the teacher -------------------------------------------------------------------------------------------


class Bright(nn.Module):
    """A teacher for whom class 1 is what is bright, and class 2 what stands left."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, data: torch.Tensor) -> torch.Tensor:
        assert not self.training
        logits = torch.zeros(len(data), 8, *data.shape[2:])
        logits[:, 1] = data.mean(1) * self.weight
        logits[:, 2, :, :256] = 3
        return logits


def test_a_teachers_answer_fits_the_image_and_its_mirror_image(sample):
    dataset = SegmentationDataset(sample, "train")
    answers = ask_teacher(Bright().train(), dataset, 2.0, batch_size=3)
    assert answers.shape == (4, 8, 64, 128) and answers.dtype == np.uint8
    for number in range(4):
        pixels = dataset.read(number)[0].astype(np.float64)
        bright = ((pixels / 255 - MEAN) / STD).mean(2).reshape(64, 4, 128, 4).mean((1, 3))
        logits = np.zeros((8, 64, 128))
        logits[1], logits[2] = bright, 1.5  # what stands left stands right in the mirror image: 3 / 2 everywhere
        expected = np.exp(logits / 2) / np.exp(logits / 2).sum(0) * 255
        assert np.abs(answers[number] - expected).max() <= 0.51


def test_a_teacher_answers_in_the_data_sets_classes():
    classes = Classes(tuple("abc"), np.zeros((3, 3)))
    images = np.random.default_rng(0).integers(0, 256, (3, 256, 512, 3), dtype=np.uint8)
    dataset = Stub(classes, (images, images[..., 0]))
    answers = ask_teacher(lambda data: torch.cat([data[:, :2], 0 * data[:, :1]], 1), dataset, 1.0, batch_size=2)
    assert answers.shape == (3, 3, 64, 128) and (answers.sum(1, dtype=int) > 250).all()
    with pytest.raises(LabError, match="a teacher of the data set's 3 classes, found one of 2"):
        ask_teacher(lambda data: data[:, :2], dataset, 1.0)


class Stub(NamedTuple):
    """A data set as a teacher sees it."""

    classes: Classes
    arrays: tuple[np.ndarray, np.ndarray]

    def __len__(self) -> int:
        return len(self.arrays[0])


def test_in_several_processes_each_counts_by_its_answered_images(monkeypatch):
    """Two processes, of 3 and 1 answered images: the mean of their losses is the mean over the 4."""
    losses = {3: torch.tensor(2.0), 1: torch.tensor(6.0)}
    parts = {}
    for own, others in ((3, 1), (1, 3)):
        soft = torch.zeros(4, 2, 3, 3, dtype=torch.uint8)
        soft[:own, 1, 2, 2] = 9
        fake = SimpleNamespace(is_initialized=lambda: True, get_world_size=lambda: 2,
                               all_reduce=lambda total, others=others: total.add_(others))
        monkeypatch.setattr(distributed, "distributed", fake)
        parts[own] = distributed.balance_soft(losses[own], soft)
    torch.testing.assert_close((parts[3] + parts[1]) / 2, torch.tensor((3 * 2.0 + 1 * 6.0) / 4))
