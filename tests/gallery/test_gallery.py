"""The gallery: each network keeps the lab's interface, trains, and costs what its authors published."""
import importlib

import pytest
import torch
from torch.nn import functional as F

from gallery.catalog import CATALOG, FREQUENCY, shrink
from training.networks import named_network, parse_name
from utils.complexity import profile_model

# Narrow ones where a width can be chosen: the interface is the same.
NETWORKS = {name: shrink(entry.network, 8) for name, entry in CATALOG.items() if name != FREQUENCY}


def build(name: str, **options):
    return named_network(NETWORKS[name], **options).network


def parameters(network) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_have_the_input_s_size(name):
    network = build(name).eval()
    for height, width in ((network.STRIDE, 2 * network.STRIDE), (5 * network.STRIDE, 3 * network.STRIDE)):
        with torch.no_grad():
            logits = network(torch.randn(2, 3, height, width))
        assert logits.shape == (2, 8, height, width)
        assert logits.isfinite().all()


@pytest.mark.parametrize("name", NETWORKS)
def test_other_inputs_are_refused_in_words(name):
    network = build(name)
    side, odd = 4 * network.STRIDE, 4 * network.STRIDE + network.STRIDE // 2
    for shape in ((1, 3, odd, side), (1, 3, side, odd), (1, 1, side, side), (3, side, side)):
        with pytest.raises(ValueError, match=f"divisible by {network.STRIDE}, got"):
            network(torch.zeros(shape))


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_reach_every_parameter(name):
    torch.manual_seed(0)
    network = build(name).train()
    target = torch.randint(0, 8, (2, 128, 256))
    F.cross_entropy(network(torch.randn(2, 3, 128, 256)), target).backward()
    without = [key for key, parameter in network.named_parameters()
               if parameter.grad is None or not parameter.grad.isfinite().all() or not parameter.grad.any()]
    assert without == []


@pytest.mark.parametrize("name", NETWORKS)
def test_one_image_a_step_trains_or_is_refused_in_words(name):
    network = build(name).train()
    data = torch.randn(1, 3, 2 * network.STRIDE, 4 * network.STRIDE)
    if name.startswith(("deeplab", "pspnet", "fast-scnn", "sinet")):  # whose batch norms see one value a channel
        with pytest.raises(ValueError, match=r"at least 2 images .* got 1: choose a BATCH_SIZE"):
            network(data)
    else:
        network(data).sum().backward()


@pytest.mark.parametrize("name", NETWORKS)
def test_each_image_is_judged_by_itself(name):
    network = build(name).double().eval()  # float32's last digits differ with the size of the batch
    data = torch.randn(2, 3, 64, 128).double()
    with torch.no_grad():
        torch.testing.assert_close(network(data)[1:], network(data[1:]), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", NETWORKS)
def test_load_model_gives_the_same_logits(name, tmp_path):
    network = build(name, num_classes=5).train()
    data = torch.randn(2, 3, 64, 128)
    network(data)  # moves the batch norms' statistics away from where a new network has them
    torch.save(network.eval().state_dict(), tmp_path / "m.pth")
    module = importlib.import_module(parse_name(NETWORKS[name])[0])
    loaded = module.load_model(str(tmp_path / "m.pth")).eval()
    with torch.no_grad():
        assert torch.equal(loaded(data), network(data))


def test_sinet_costs_what_its_authors_published():
    # The counts of the authors' own class (models/SINet.py, setting/SINet.json: p = 3, q = 10, chnn = 4), run once with
    # 8 and with 19 classes; the latter is the 0.12 M of their table.
    assert parameters(build("sinet")) == 114_754
    assert parameters(build("sinet", num_classes=19)) == 119_418
    # Their table says 1.22 G for 1024 x 2048 pixels, sixteen times ours. Their counter knows nn.Conv2d alone, so their
    # last layer, a transposed convolution, is not in it; 3 % for what else it rounds or leaves out.
    profile = profile_model(build("sinet", num_classes=19))
    assert 16 * (profile.dispatched - profile.dispatched_by_module["head"]) == pytest.approx(1.22e9, rel=0.03)
    assert profile.dispatched == 86_812_473  # torch's counter on the authors' class, at 256 x 512
    assert profile.unseen == []


def test_sinet_blocks_where_the_coarse_logits_are_sure():
    from gallery.sinet import unsure

    logits = torch.tensor([[0., 0., 0., 0.], [100., 0., 0., 0.], [1., 1., -100., -100.]]).T[None, :, None]
    # four classes alike: 1 - 1/4; one class for certain: 0; two alike, the others out of the race: 1 - 1/2
    torch.testing.assert_close(unsure(logits), torch.tensor([[[[0.75, 0., 0.5]]]]))


def test_espnetv2_costs_what_its_authors_published():
    # 80,342 parameters of the authors' own class with Cityscapes' 20 classes, run once, are the 0.08 M of their table;
    # 112 of them are the PReLUs that never run.
    assert parameters(build("espnetv2", num_classes=20)) == 80_342 - 112
    assert parameters(build("espnetv2")) == 75_002 - 112
    # Their table says 149.40 M for 256 x 512 pixels; their counter takes the addition of a bias for half of a
    # multiply-accumulate, which torch's does not count. The tolerance is their rounding.
    profile = profile_model(build("espnetv2", num_classes=20))
    assert profile.dispatched + 20 * 128 * 256 / 2 == pytest.approx(149.40e6, abs=0.005e6)
    assert profile.unseen == []


def test_espnetv2_s_units_look_as_far_as_their_dilations():
    network = build("espnetv2").eval()
    # A 3x3 filter of dilation d reads 8 pixels at the distance d around its own: 4 dilations, and 3 different ones.
    for level, width, pixels in ((1, 64, 1 + 4 * 8), (2, 128, 1 + 3 * 8)):
        data = torch.randn(1, width, 15, 15, requires_grad=True)
        network.plain[level][0].branches(data)[0, :, 7, 7].sum().backward()
        assert int((data.grad[0].abs().sum(0) > 0).sum()) == pixels
