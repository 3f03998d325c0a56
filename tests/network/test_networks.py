"""The reference networks: what they promise beyond what tests/student asks of any."""
import copy

import pytest
import torch
from conftest import ROOT, load_file
from torch import nn

from utils.complexity import count_flops, count_size

FILES = {1: ROOT / "network/network.py", 2: ROOT / "network2/network.py"}


def build(number: int, **options):
    module = load_file(FILES[number])
    return module.UNet(**{"width": 4, **options}) if number == 1 else module.LowComplexityNet(**options)


@pytest.mark.parametrize("number", FILES)
@pytest.mark.parametrize("size", [(64, 96), (16, 32)])
def test_any_multiple_of_16_will_do(number, size):
    network = build(number).eval()
    with torch.no_grad():
        logits = network(torch.randn(2, 3, *size))
    assert logits.shape == (2, 8, *size)
    assert logits.isfinite().all()


@pytest.mark.parametrize("number", FILES)
@pytest.mark.parametrize("shape", [(1, 3, 40, 64), (1, 3, 64, 40), (1, 1, 64, 64), (3, 64, 64)])
def test_other_inputs_are_refused_in_words(number, shape):
    with pytest.raises(ValueError, match="divisible by 16"):
        build(number)(torch.zeros(shape))


def test_load_model_reads_the_width_back_and_gives_the_same_logits(tmp_path):
    network = build(1, width=6).eval()
    torch.save(network.state_dict(), tmp_path / "m.pth")
    loaded = load_file(FILES[1]).load_model(str(tmp_path / "m.pth")).eval()
    data = torch.randn(1, 3, 32, 64)
    with torch.no_grad():
        assert torch.equal(loaded(data), network(data))


def test_unet_uses_its_skips_and_sees_the_whole_level():
    network = build(1).eval()
    for parameter in network.parameters():
        parameter.data.abs_()  # no ReLU is dead, so what a logit depends on is a matter of structure alone
    data = torch.rand(1, 3, 64, 64, requires_grad=True)
    network(data)[0, 0, 32, 32].backward()
    reach = data.grad[0].abs().sum(0) > 0
    assert reach[32, 32] and reach.float().mean() > 0.9  # both the pixel itself and far context


# --- task 2 -------------------------------------------------------------------------------------------------------

TASK2 = load_file(FILES[2])
ROWS = [*TASK2.rungs().values(), TASK2.Rung((7, 18, 30), (2, 0, 5), 2), TASK2.Rung((12, 12, 12), (0, 0, 1), 0, False)]


def settled(network: nn.Module) -> nn.Module:
    """`network` in eval mode as after a training: no batch norm of it is the identity any more."""
    generator = torch.Generator().manual_seed(3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in ((module.running_mean, -0.5, 0.5), (module.running_var, 0.5, 2),
                                      (module.weight, 0.5, 1.5), (module.bias, -0.5, 0.5)):
                tensor.data.uniform_(low, high, generator=generator)
    return network.eval()


@pytest.mark.parametrize("branches", [0, 2])
@pytest.mark.parametrize("rung", ROWS, ids=str)
def test_the_deployed_network_computes_the_same_and_is_read_back_from_its_file(rung, branches, tmp_path):
    network = settled(TASK2.LowComplexityNet(rung, branches))
    before = copy.deepcopy(network.state_dict())
    folded = TASK2.deploy(network)
    data = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        expected, found = network(data), folded(data)
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()
    assert not any(isinstance(module, (nn.BatchNorm2d, TASK2.ConvNorm)) for module in folded.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())  # left as it was

    torch.save(folded.state_dict(), tmp_path / "m.pth")
    loaded = TASK2.load_model(str(tmp_path / "m.pth")).eval()
    assert loaded.rung == rung
    with torch.no_grad():
        assert torch.equal(loaded(data), found)


@pytest.mark.parametrize("store", ["float32", "float16", "int8"])
def test_what_was_deployed_may_be_deployed_again(store):
    deployed = TASK2.deploy(settled(TASK2.LowComplexityNet(ROWS[3])))
    once, twice = TASK2.deploy(deployed, store=store), TASK2.deploy(TASK2.deploy(deployed), store=store)
    assert once is not deployed and list(once.state_dict()) == list(twice.state_dict())
    assert all(torch.equal(one, two) for one, two in zip(once.state_dict().values(), twice.state_dict().values(),
                                                         strict=True))


@pytest.mark.parametrize("folded", [False, True])
def test_shifts_are_added_to_the_logits(folded):
    network = settled(TASK2.LowComplexityNet(ROWS[3]))
    network = TASK2.deploy(network) if folded else network
    data, shifts = torch.randn(2, 3, 64, 96), torch.linspace(-1, 1, 8)
    with torch.no_grad():
        expected = network(data) + shifts.reshape(8, 1, 1)
        TASK2.shift_logits(network, shifts)
        assert (network(data) - expected).abs().max() <= 1e-4


def test_folding_stays_where_the_network_is():
    network = nn.Sequential(TASK2.ConvNorm(4, 4, 3)).to("meta")  # as on a GPU: not the CPU
    network[0].add_branches(1)
    folded = TASK2.deploy(network.to("meta"))
    assert {parameter.device.type for parameter in folded.parameters()} == {"meta"}


@pytest.mark.parametrize(("name", "macs", "parameters"), [
    ("safe", 20_591_360, 18_472), ("target", 12_159_408, 10_292), ("lean", 9_947_520, 8_164),
    ("stretch", 6_791_168, 4_012)])
def test_a_rung_costs_what_its_layers_add_up_to(name, macs, parameters):
    """The figures are sums by hand: k^2 C_in C_out / groups x pixels of each convolution, one bias a channel."""
    network = TASK2.deploy(TASK2.LowComplexityNet(TASK2.rungs()[name]))
    assert count_flops(network) == macs
    assert count_size(network) == parameters * 4 / 1024


def test_folding_nearly_halves_the_figure_of_merit():
    network = TASK2.LowComplexityNet(TASK2.rungs()["target"])
    folded = TASK2.deploy(network)
    gain = (count_flops(network) * count_size(network) / (count_flops(folded) * count_size(folded))) ** 2
    assert 1.6 < gain < 2.4


def test_task2_sees_the_whole_image():
    network = build(2).eval()
    data = torch.randn(1, 3, 64, 128, requires_grad=True)
    network(data)[0, 0, 32, 64].backward()
    assert (data.grad[0].abs().sum(0) > 0).float().mean() > 0.9


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_task2s_logits_are_coarser_in_training_alone(stride):
    network = build(2).train()
    network.train_stride = stride
    data = torch.randn(2, 3, 64, 128)
    assert network(data).shape == (2, 8, 64 // stride, 128 // stride)
    assert network.eval()(data).shape == (2, 8, 64, 128)
