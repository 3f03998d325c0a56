"""Costs against arithmetic by hand: multiply-accumulates, bytes, the figure of merit."""
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.flop_counter import FlopCounterMode

from utils import timing
from utils.complexity import count_flops, count_size, figure_of_merit, profile_model
from utils.lab import FOM_OFFSET, TASKS, LabError
from utils.layer_table import format_layer_table, layer_table

SIZE = (8, 16)
CONV_MACS = 8 * 16 * 4 * 3 * 9  # a 3x3 convolution 3 -> 4 over 8 x 16 pixels


def conv(**options) -> nn.Conv2d:
    return nn.Conv2d(3, 4, 3, padding=1, **options)


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, 3, 3, 3))

    def forward(self, x):
        return F.conv2d(x, self.weight, padding=1)


class MyConv(nn.Conv2d):
    pass


class ByHand(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = conv()

    def forward(self, x):
        return self.hidden.forward(x)


def test_flops_are_multiply_accumulates(capsys):
    assert count_flops(nn.Sequential(conv()), SIZE) == CONV_MACS
    assert count_flops(nn.Sequential(conv(bias=False, stride=2)), SIZE) == CONV_MACS // 4
    assert count_flops(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1, groups=3)), SIZE) == 8 * 16 * 3 * 9
    assert capsys.readouterr().err == ""


def test_thop_counts_more_than_the_dispatcher_and_wins_quietly(capsys):
    with_norm = nn.Sequential(conv(), nn.BatchNorm2d(4))
    assert count_flops(with_norm, SIZE) == CONV_MACS + 4 * (4 * 8 * 16)  # thop: 4 an element of an affine batch norm
    assert capsys.readouterr().err == ""


def counts_parametrized() -> bool:
    """Whether torch's own counter goes through a parametrized layer; in 2.4 it does not."""
    try:
        with FlopCounterMode(display=False):
            nn.Sequential(weight_norm(conv()))(torch.zeros(1, 3, *SIZE))
    except Exception:
        return False
    return True


@pytest.mark.parametrize(("network", "layer"), [
    (nn.Sequential(Functional()), "0 (Functional)"),
    (nn.Sequential(MyConv(3, 4, 3, padding=1)), "0 (MyConv)"),
    pytest.param(nn.Sequential(weight_norm(conv())), "0 (ParametrizedConv2d)", marks=pytest.mark.skipif(
        not counts_parametrized(), reason="this torch's own counter fails on a parametrized layer")),
    (ByHand(), "the network itself (ByHand)"),
    (Functional(), "the network itself (Functional)"),
], ids=["functional", "subclass", "parametrized", "called by hand", "root"])
def test_work_that_thop_cannot_see_is_counted_and_named(network, layer, capsys):
    assert count_flops(network, SIZE) == CONV_MACS
    warning = capsys.readouterr().err
    assert warning.startswith("warning: thop counts 0 MACs") and layer in warning


def test_only_the_hidden_layers_are_named():
    profile = profile_model(nn.Sequential(conv(), MyConv(4, 4, 1)), SIZE)
    assert profile.unseen == ["1"]
    assert profile.flops == CONV_MACS + 8 * 16 * 4 * 4


def test_counting_leaves_the_model_as_it_was():
    network = nn.Sequential(conv(), nn.BatchNorm2d(4)).train()
    keys = list(network.state_dict())
    count_flops(network, SIZE)
    assert list(network.state_dict()) == keys and network.training


def test_size_of_parameters_and_buffers():
    network = nn.Sequential(conv(), nn.BatchNorm2d(4))
    # 4*3*9 + 4 weights, 4 x 4 floats of the batch norm, one int64 counter
    assert count_size(network) == pytest.approx((4 * (108 + 4 + 16) + 8) / 1024)


def test_a_network_that_computes_in_half_precision_is_counted_as_it_is():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = conv().half()

        def forward(self, x):
            return self.conv(x.half()).float()

    assert count_flops(Half()) == count_flops(nn.Sequential(conv()))
    assert count_size(Half()) == count_size(conv()) / 2


def test_size_follows_the_element_type_and_counts_a_shared_storage_once():
    assert count_size(conv().half()) == pytest.approx(2 * 112 / 1024)
    first, second = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
    second.weight = first.weight
    assert count_size(nn.Sequential(first, second)) == pytest.approx(4 * 64 / 1024)


TABLE = torch.zeros(256)


def make_hidden():
    kept = torch.zeros(256)
    return lambda: kept


hidden = make_hidden()


class Shelf:
    BOARD = torch.zeros(256)

    @staticmethod
    def read():
        return Shelf.BOARD


class Hoarder(nn.Module):
    CLASS_LEVEL = torch.zeros(256)

    def __init__(self):
        super().__init__()
        self.register_buffer("saved", torch.zeros(256))
        self.register_buffer("unsaved", torch.zeros(256), persistent=False)
        self.attribute = torch.zeros(256)
        self.listed = [{"deep": (torch.zeros(256),)}]
        captured = torch.zeros(256)
        self.closure = lambda x: x + captured
        self.view = torch.zeros(1024)[:1]

    def forward(self, x):
        return self.closure(x) + TABLE.sum() + hidden() + Shelf.read()


def test_size_counts_every_tensor_that_is_held_wherever_it_hides():
    # 9 times 256 floats, and a view of one number that keeps 1024 alive
    assert count_size(Hoarder()) == pytest.approx((9 * 256 + 1024) * 4 / 1024)


class Holder(nn.Module):
    def __init__(self, *held):
        super().__init__()
        self.held = held


@pytest.mark.filterwarnings("ignore:Sparse")
def test_size_counts_the_memory_that_arrays_and_sparse_tensors_keep_alive():
    big = np.zeros(2048, np.float32)
    assert count_size(Holder(big[:1])) == count_size(Holder(big[512:][:1], big[1:])) == 8
    assert count_size(Holder(big, torch.from_numpy(big))) == count_size(Holder(torch.from_numpy(big)[:9], big)) == 8
    assert count_size(Holder(big[:1], torch.from_numpy(big[:1]))) == 8
    # 256 floats and their places, in int64: 257 and 256, or 2 times 256
    for make in (torch.sparse_csr_tensor, torch.sparse_csc_tensor):
        assert count_size(Holder(make(torch.arange(257), torch.arange(256), torch.ones(256)))) == 5 + 8 / 1024
    assert count_size(Holder(torch.eye(256).to_sparse())) == 5


class Products(nn.Module):
    """Matrix products that torch's counter does not know, 8 x 16 x 3 x 4 multiply-accumulates each."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x):
        rows = x.flatten(2).transpose(1, 2)  # (1, 8 * 16, 3)
        weight, bias = torch.ones(3, 4), torch.zeros(8 * 16, 4)
        return {"addbmm": lambda: torch.addbmm(bias, rows, weight[None]),
                "addmm_": lambda: bias.addmm_(rows[0], weight),
                "_addmm_activation": lambda: torch._addmm_activation(bias[0], rows[0], weight),
                "_int_mm": lambda: torch._int_mm(rows[0].to(torch.int8), weight.to(torch.int8)),
                "conv_tbc": lambda: torch.conv_tbc(rows.transpose(0, 1), weight[None], bias[0])}[self.name]()


@pytest.mark.parametrize("name", ["addbmm", "addmm_", "_addmm_activation", "_int_mm", "conv_tbc"])
def test_products_of_other_names_are_counted(name):
    assert count_flops(Products(name), SIZE) == 8 * 16 * 3 * 4


@pytest.fixture
def integers():
    """Skips where torch has lost its 8-bit tensors, as it has announced."""
    pytest.importorskip("torch.ao.nn.quantized")
    if not hasattr(torch, "quantize_per_channel"):
        pytest.skip("this torch has no quantized tensors")


class Packed(nn.Module):
    """A convolution in torch's 8-bit integers, its weights packed for the processor: as a layer, or a bare object."""

    def __init__(self, layer: bool):
        super().__init__()
        steps, zeros = torch.full((4,), 0.01, dtype=torch.float64), torch.zeros(4, dtype=torch.int64)
        weight = torch.quantize_per_channel(torch.zeros(4, 3, 3, 3), steps, zeros, 0, torch.qint8)
        if layer:
            self.layer = torch.ao.nn.quantized.Conv2d(3, 4, 3, padding=1)
            self.layer.set_weight_bias(weight, torch.zeros(4))
        else:
            self.packed = [torch.ops.quantized.conv2d_prepack(weight, torch.zeros(4), [1, 1], [1, 1], [1, 1], 1)]

    def forward(self, x):
        x = torch.quantize_per_tensor(x, 0.1, 0, torch.quint8)
        y = self.layer(x) if hasattr(self, "layer") else torch.ops.quantized.conv2d_relu(x, self.packed[0], 0.1, 0)
        return y.dequantize()


@pytest.mark.parametrize(("layer", "own"), [(True, 4 + 8), (False, 0)])  # a layer knows its output's step and zero
@pytest.mark.usefixtures("integers")
@pytest.mark.filterwarnings("ignore:.*quantize")
def test_packed_weights_and_integer_convolutions_are_counted(layer, own, capsys):
    network = Packed(layer)
    # 108 weights of a byte, for each of 4 filters a float64 step, an int64 zero point and a float32 bias
    assert count_size(network) * 1024 == 108 + 4 * (8 + 8 + 4) + own
    assert count_flops(network, SIZE) == CONV_MACS
    assert capsys.readouterr().err.startswith("warning: thop counts 0 MACs")


@pytest.mark.usefixtures("integers")
@pytest.mark.filterwarnings("ignore:.*quantize")
def test_a_quantized_linear_layer_is_counted():
    layer = torch.ao.nn.quantized.Linear(16, 4)
    layer.set_weight_bias(torch.quantize_per_tensor(torch.zeros(4, 16), 0.01, 0, torch.qint8), torch.zeros(4))
    quantized = torch.ao.nn.quantized
    network = nn.Sequential(quantized.Quantize(0.1, 0, torch.quint8), layer, quantized.DeQuantize())
    assert count_flops(network, SIZE) == 3 * 8 * 16 * 4  # one image's 3 x 8 rows of 16 numbers
    assert count_size(network) * 1024 == 64 + 4 * 4 + 2 * (4 + 8)


def test_figure_of_merit():
    # the hand-out's example: 1,953,431,552 FLOPs, 1522.402 KB, mIoU 0.678319
    assert figure_of_merit(1_953_431_552, 1522.402, 0.678319) == pytest.approx(
        1_953_431_552**2 * 1522.402**2 / (0.678319 - FOM_OFFSET), rel=1e-9)
    least = TASKS[2].miou
    assert figure_of_merit(10, 2.0, least) == pytest.approx(400 / (least - FOM_OFFSET))
    assert figure_of_merit(5, 2.0, least) == pytest.approx(figure_of_merit(10, 2.0, least) / 4)


@pytest.mark.parametrize("miou", [TASKS[2].miou - 1e-6, FOM_OFFSET, FOM_OFFSET - 0.01, 0.0, math.nan])
def test_below_the_threshold_there_is_no_rank(miou):
    assert figure_of_merit(10, 2.0, miou) is None


@pytest.mark.parametrize(("flops", "size"), [(0, 1.0), (1, 0.0), (-1, 1.0)])
def test_a_network_without_costs_is_refused(flops, size):
    with pytest.raises(LabError, match="costs something"):
        figure_of_merit(flops, size, 0.7)


def test_layer_table_adds_up():
    network = nn.Sequential(nn.Sequential(conv(), nn.BatchNorm2d(4), nn.ReLU()), nn.Conv2d(4, 8, 1))
    rows = layer_table(network, SIZE)
    assert [(row.name, row.type, row.output_shape, row.parameters, row.macs) for row in rows] == [
        ("0.0", "Conv2d", (1, 4, 8, 16), 112, CONV_MACS),
        ("0.1", "BatchNorm2d", (1, 4, 8, 16), 8, 4 * 4 * 8 * 16),
        ("1", "Conv2d", (1, 8, 8, 16), 40, 8 * 16 * 4 * 8)]
    assert sum(row.macs for row in rows) == count_flops(network, SIZE)
    assert sum(row.share for row in rows) == pytest.approx(1)
    assert f"{CONV_MACS:,}" in format_layer_table(rows)


def test_layer_table_shows_the_work_of_hidden_layers():
    rows = layer_table(nn.Sequential(Functional()), SIZE)
    assert [(row.name, row.macs) for row in rows] == [("0", CONV_MACS)]


class Resized(nn.Sequential):
    def forward(self, x):
        return F.interpolate(super().forward(x), scale_factor=2)


def test_activations_are_the_bytes_that_a_layer_writes():
    network = nn.Sequential(conv(), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 8, 1, stride=2))
    rows = layer_table(network, SIZE)
    written = [4 * 4 * 8 * 16, 4 * 4 * 8 * 16, 4 * 8 * 4 * 8]  # 4 bytes x C x H x W
    assert [row.activations for row in rows] == written
    assert [line.split()[-5] for line in format_layer_table(rows).splitlines()[1:4]] == ["40.0%", "40.0%", "20.0%"]
    assert layer_table(conv(), SIZE)[0].activations == written[0]
    shared = conv()
    assert layer_table(nn.Sequential(shared, nn.Conv2d(4, 3, 1), shared), SIZE)[0].activations == 2 * written[0]


def test_the_network_has_a_row_for_an_output_of_its_own():
    rows = layer_table(Resized(conv()), SIZE)
    assert [(row.name, row.output_shape, row.parameters, row.macs, row.activations) for row in rows] == [
        ("(network)", (1, 4, 16, 32), 0, 0, 4 * 4 * 16 * 32), ("0", (1, 4, 8, 16), 112, CONV_MACS, 4 * 4 * 8 * 16)]


SECONDS = [0.0]  # what the clock shows; a list, of which copies of a network share the one


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still, but where somebody adds to SECONDS."""
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: SECONDS[0]))


class Takes(nn.Module):
    def __init__(self, seconds: float, *children: nn.Module) -> None:
        super().__init__()
        self.seconds, self.inner = seconds, nn.Sequential(*children)

    def forward(self, x):
        SECONDS[0] += self.seconds
        x = self.inner(x)
        SECONDS[0] += self.seconds
        return x


@pytest.mark.usefixtures("clock")
def test_each_module_has_the_time_that_it_takes_itself():
    network = Takes(0.25, conv(), Takes(1.0, Takes(4.0)), nn.Identity()).train()
    times = timing.time_layers(network, SIZE, repeats=1)
    assert times == {"(network)": 500, "inner": 0, "inner.0": 0, "inner.1": 2000, "inner.1.inner": 0,
                     "inner.1.inner.0": 8000, "inner.1.inner.0.inner": 0, "inner.2": 0}
    assert network.training and not network._forward_hooks and not network._forward_pre_hooks


@pytest.mark.usefixtures("clock")
def test_times_are_medians_and_leave_the_threads_as_they_were():
    threads, passes = torch.get_num_threads(), []

    class Uneven(nn.Module):
        def forward(self, x):
            passes.append((torch.get_num_threads(), self.training, torch.is_grad_enabled(), tuple(x.shape)))
            SECONDS[0] += [32, 16, 0.5, 8, 0.25][len(passes) - 1]
            return x

    assert timing.time_layers(Uneven(), SIZE, repeats=3) == {"(network)": 500}
    assert passes == [(1, False, False, (1, 3, *SIZE))] * 5
    assert torch.get_num_threads() == threads
    with pytest.raises(LabError, match="at least 1 repeat"):
        timing.time_layers(Uneven(), SIZE, repeats=0)


def test_the_table_shows_the_time_of_all_that_has_no_row():
    network = nn.Sequential(conv(), nn.MaxPool2d(2))
    rows = layer_table(network, SIZE)
    lines = format_layer_table(rows, {"(network)": 0.25, "0": 1.5, "1": 0.5}).splitlines()
    assert [line.split()[-1] for line in lines] == ["ms", "1.50", "0.75", "2.25"]
    assert lines[2].startswith("outside these layers")
