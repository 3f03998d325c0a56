"""The reference networks: what they promise beyond what tests/student asks of any."""
import pytest
import torch
from conftest import ROOT, load_file

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


@pytest.mark.parametrize(("number", "options"), [
    (1, {"width": 6}), (2, {"widths": (8, 12, 16)})])
def test_load_model_reads_the_width_back_and_gives_the_same_logits(number, options, tmp_path):
    network = build(number, **options).eval()
    torch.save(network.state_dict(), tmp_path / "m.pth")
    loaded = load_file(FILES[number]).load_model(str(tmp_path / "m.pth")).eval()
    data = torch.randn(1, 3, 32, 64)
    with torch.no_grad():
        assert torch.equal(loaded(data), network(data))


def test_unet_uses_its_skips_and_sees_the_whole_level():
    network = build(1).eval()
    data = torch.randn(1, 3, 64, 64, requires_grad=True)
    network(data)[0, 0, 32, 32].backward()
    reach = data.grad[0].abs().sum(0) > 0
    assert reach[32, 32] and reach.float().mean() > 0.9  # both the pixel itself and far context


def test_task2_is_within_its_budget():
    network = build(2).eval()
    assert count_flops(network) <= 100e6
    assert count_size(network) <= 200
