"""Precision, compilation, and running out of memory, which here a network pretends to do."""
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from dataset.augment import Augment
from dataset.batches import Batches
from dataset.dataset import SegmentationDataset
from network2.network import LowComplexityNet
from training import step
from training.step import Precision, average_weights, decay_groups, memory_advice, prepare, speed_up
from utils.lab import LabError
from utils.metric import AverageMeter, ConfusionMatrix

CPU = torch.device("cpu")


class Hungry(nn.Module):
    """Fits up to `room` pictures."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room, self.seen, self.weight = room, [], nn.Parameter(torch.ones(1))

    def forward(self, data: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(data))
        if len(data) > self.room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return data[:, :, :1, :1] * self.weight


def test_auto_is_float32_on_a_cpu_and_16_bits_on_a_gpu(monkeypatch):
    assert str(Precision("auto", CPU)) == "float32"
    for capability, name, scaled in (((9, 0), "bfloat16", False), ((8, 0), "bfloat16", False),
                                     ((7, 5), "float16", True)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, capability=capability: capability)
        asked = []
        monkeypatch.setattr(torch.amp, "GradScaler", lambda kind, enabled, asked=asked: asked.append((kind, enabled)))
        assert str(Precision("auto", torch.device("cuda"))) == name
        assert asked == [("cuda", scaled)]


def test_autocast_computes_products_in_the_format_and_weights_stay_float32():
    layer, data = nn.Conv2d(3, 8, 1), torch.randn(1, 3, 4, 4)
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        with Precision(name, CPU).autocast():
            assert layer(data).dtype == dtype
        assert layer.weight.dtype == torch.float32


def test_the_scaler_changes_nothing_where_it_is_not_needed():
    weights = []
    for scaler in (None, Precision("auto", CPU).scaler):
        torch.manual_seed(0)
        layer = nn.Linear(4, 2)
        optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, fused=True)
        loss = layer(torch.ones(3, 4)).square().mean()
        if scaler is None:
            loss.backward()
            optimizer.step()
        else:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        weights.append(layer.weight.detach().clone())
    assert torch.equal(*weights)


@pytest.mark.parametrize("name", ["half", "float64", None, 16])
def test_an_unknown_precision_is_refused(name):
    with pytest.raises(LabError, match="expected PRECISION to be one of auto, float32, bfloat16, float16, found"):
        Precision(name, CPU)


def test_float16_on_a_cpu_is_refused():
    with pytest.raises(LabError, match="'float32' or 'bfloat16' on a CPU"):
        Precision("float16", CPU)


def test_preparing_without_compilation_is_the_network_itself():
    network = nn.Conv2d(3, 8, 1)
    assert prepare(network) is network


def test_compilation_without_a_compiler_is_one_clear_error(monkeypatch):
    monkeypatch.setattr(step.shutil, "which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(LabError, match=r"expected a C\+\+ compiler for COMPILE = True, found none"):
        prepare(nn.Conv2d(3, 8, 1), compile=True)


def test_a_compiled_network_shares_the_weights_that_are_saved(monkeypatch):
    monkeypatch.setattr(step.shutil, "which", lambda name: name)
    network = nn.Conv2d(3, 8, 1)
    model = prepare(network, compile=True)
    assert model is not network
    assert next(model.parameters()) is network.weight and list(network.state_dict()) == ["weight", "bias"]


@pytest.mark.parametrize(("room", "fits"), [
    (7, "BATCH_SIZE 4 fits"), (4, "BATCH_SIZE 4 fits"), (1, "BATCH_SIZE 1 fits"), (0, "not even one picture fits")])
def test_out_of_memory_names_batch_width_and_what_fits(room, fits):
    network = Hungry(room)
    with (pytest.raises(LabError, match=f"expected BATCH_SIZE 16 at WIDTH 32 to fit in memory, found it full: {fits}"),
          memory_advice(network, Precision("auto", CPU), 16, 32)):
        network(torch.zeros(16, 3, 256, 512))
    assert network.seen[:2] == [16, 8]
    assert network.weight.grad is None


def test_of_several_processes_none_tries_a_step_that_the_others_do_not_make(monkeypatch):
    monkeypatch.setattr(step, "shard", lambda: (1, 2))
    network = Hungry(1)
    with (pytest.raises(LabError, match="found it full: lower BATCH_SIZE; RESUME"),
          memory_advice(network, Precision("auto", CPU), 16)):
        network(torch.zeros(8, 3, 256, 512))
    assert network.seen == [8]


def test_without_a_width_none_is_named():
    network = Hungry(2)
    with (pytest.raises(LabError) as caught, memory_advice(network, Precision("auto", CPU), 4)):
        network(torch.zeros(4, 3, 256, 512))
    assert "WIDTH" not in str(caught.value) and "BATCH_SIZE 2 fits" in str(caught.value)


def test_other_errors_pass_and_so_does_success():
    with pytest.raises(RuntimeError, match="size mismatch"), memory_advice(Hungry(1), Precision("auto", CPU), 4):
        raise RuntimeError("size mismatch")
    with pytest.raises(KeyboardInterrupt), memory_advice(Hungry(1), Precision("auto", CPU), 4):
        raise KeyboardInterrupt
    with memory_advice(Hungry(4), Precision("auto", CPU), 4):
        pass


def test_what_the_failed_step_held_is_let_go():
    import gc
    import weakref

    network, held = Hungry(2), []

    def train() -> None:
        activations = torch.zeros(1000)
        held.append(weakref.ref(activations))
        network(torch.zeros(4, 3, 256, 512))

    with pytest.raises(LabError), memory_advice(network, Precision("auto", CPU), 4):
        train()
    gc.collect()
    assert held[0]() is None


def test_speeding_up_changes_no_result():
    layer, data = nn.Conv2d(3, 8, 3), torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    before = layer(data)
    speed_up(CPU)
    assert torch.equal(before, layer(data))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("tier", ["gpu", "ring"])
def test_nothing_in_an_epoch_waits_for_the_gpu(sample, tier):
    device = torch.device("cuda")
    precision = Precision("auto", device)
    network = LowComplexityNet().to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    criterion = nn.CrossEntropyLoss(ignore_index=255)
    average = average_weights(network, 3)
    batches = Batches(SegmentationDataset(sample, "train", Augment()), 2, device, shuffle=True, tier=tier)
    metric, losses = ConfusionMatrix(), AverageMeter()
    for strict in (False, True):  # the first epoch may set things up
        torch.cuda.set_sync_debug_mode("error" if strict else "default")
        try:
            for data, target in batches:
                optimizer.zero_grad(set_to_none=True)
                with precision.autocast():
                    output = network(data)
                    loss = criterion(output, target)
                precision.scaler.scale(loss).backward()
                precision.scaler.step(optimizer)
                precision.scaler.update()
                average.update_parameters(network)
                metric.update(target, output.max(1).indices.to(torch.uint8))
                losses.update(loss, len(data))
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert metric.counts.sum() > 0 and losses.avg > 0


# --- the optimizer's parameters, and their average ----------------------------------------------------------------


def test_decay_is_for_matrices_alone_and_every_parameter_is_in_one_group():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, bias=False))
    with_decay, without = decay_groups(network, 0.1)
    assert [p.shape for p in with_decay["params"]] == [(4, 3, 1, 1), (4, 4, 3, 3)]
    assert (with_decay["weight_decay"], without["weight_decay"], len(without["params"])) == (0.1, 0, 3)
    torch.optim.AdamW([with_decay, without])


@pytest.mark.parametrize("reach", [1, 3, 50])
def test_the_average_of_the_weights_by_hand(reach):
    network = nn.BatchNorm2d(1)
    average = average_weights(network, reach)
    expected = None
    for step_number in range(20):
        value = float(step_number**2)
        network.weight.data.fill_(value)
        network.running_mean.fill_(-value)
        average.update_parameters(network)
        share = 1 / min(1 + step_number / 4, reach)  # of the newest one
        expected = value if expected is None else expected + share * (value - expected)
    torch.testing.assert_close(average.module.weight.item(), expected)
    torch.testing.assert_close(average.module.running_mean.item(), -expected)
    assert network.weight.item() == 361


def test_averaging_moves_nothing_between_the_cpu_and_where_the_network_is():
    network = nn.BatchNorm2d(1).to("meta")  # as on a GPU: not the CPU
    average, places = average_weights(network, 3), []

    class Places(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            tensors = [each.device.type for each in args if isinstance(each, torch.Tensor)]
            to = (kwargs or {}).get("device")
            places.append({*tensors, *([torch.device(to).type] if to is not None else [])})
            return function(*args, **(kwargs or {}))

    with Places():
        for _ in range(2):
            average.update_parameters(network)
    assert {"meta"} in places and all(len(of_one) <= 1 for of_one in places)
    assert average.n_averaged == 2


def test_an_average_over_nothing_is_refused():
    with pytest.raises(LabError, match="at least 1 step, found 0"):
        average_weights(nn.BatchNorm2d(1), 0)
