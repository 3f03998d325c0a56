"""Weights in fewer bits: errors against the step size, bytes by hand, and integer inference counted as it is."""
import sys

import pytest
import torch
from conftest import ROOT, assert_one_line_error, load_file
from torch import nn

from frontier.quantize import integer_inference, load_stores, main
from utils.complexity import count_flops, count_size, profile_model
from utils.lab import LabError

FILE = ROOT / "network2/network.py"
network2 = load_file(FILE)
RUNG = network2.Rung((4, 8, 12), (0, 1, 1), 0, True)


@pytest.fixture(scope="module")
def folded() -> nn.Module:
    """A small folded network whose weights look trained: every filter has a size of its own."""
    torch.manual_seed(0)
    network = network2.LowComplexityNet(RUNG)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.2, 2)
            nn.init.normal_(module.bias)
    return network2.deploy(network)


@pytest.fixture(scope="module")
def saved(folded, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "model.pth"
    torch.save(folded.state_dict(), path)
    return path


def test_a_filter_by_hand():
    conv = nn.Conv2d(1, 3, (1, 4))
    conv.weight.data = torch.tensor([[1.27, -0.634, 0.0, 0.014], [127.0, -64.4, 0.6, -0.4], [0.0, 0.0, 0.0, 0.0]]
                                    ).reshape(3, 1, 1, 4)
    conv.bias.data = torch.tensor([0.1, 1.0, -2.0])
    stored = network2.Stored(conv)
    # steps 0.01 (in float16 0.0100021), 1 and the smallest there is
    assert stored.stored.weight.flatten(1).tolist() == [[127, -63, 0, 1], [127, -64, 1, 0], [0, 0, 0, 0]]
    assert stored.step.flatten().tolist() == pytest.approx([0.01, 1, 0], rel=1e-3, abs=1e-7)
    assert stored.stored.bias.dtype == torch.float16
    ones = stored(torch.ones(1, 1, 1, 4)).flatten()
    assert ones.tolist() == pytest.approx([0.65 + 0.1, 64 + 1, -2], rel=1e-3)


@pytest.mark.parametrize("size", [1e-7, 1e-5, 3e-4, 1.0, 3e4])
def test_no_weight_is_further_off_than_half_a_step(size):
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 50, 3, bias=False)
    conv.weight.data = torch.randn_like(conv.weight) * size
    stored = network2.Stored(conv)
    back = stored.stored.weight.double() * stored.step.double()
    largest = conv.weight.detach().double().abs().amax((1, 2, 3), keepdim=True)
    step = largest / 127 * (1 + 2**-10) + 2**-24  # one float16 above what would do
    assert (stored.step <= step).all()
    assert ((back - conv.weight.detach().double()).abs() <= step * 0.501).all()
    assert stored.stored.weight.abs().amax() <= 127


def test_a_convolutions_output_is_off_by_what_its_weights_are():
    torch.manual_seed(0)
    conv, data = nn.Conv2d(5, 7, 3, padding=1), torch.rand(2, 5, 9, 9)
    with torch.no_grad():
        error = (network2.Stored(conv)(data) - conv(data)).abs()
        step = conv.weight.abs().amax((1, 2, 3), keepdim=True) / 127 * (1 + 2**-10)
        reach = nn.functional.conv2d(data, torch.ones_like(conv.weight), padding=1)  # all that a filter sees, summed
        bound = reach * step.reshape(1, -1, 1, 1) / 2 + conv.bias.abs().max() * 2**-11
    assert (error <= bound * 1.001 + 1e-6).all()
    assert error.max() > 0


def test_sizes_by_hand(folded):
    convs = [module for module in folded.modules() if isinstance(module, nn.Conv2d)]
    weights, filters = sum(conv.weight.numel() for conv in convs), sum(conv.out_channels for conv in convs)
    sizes = {dtype: count_size(network2.deploy(folded, dtype)) * 1024 for dtype in ("float32", "float16", "int8")}
    assert sizes == {"float32": 4 * (weights + filters), "float16": 2 * (weights + filters),
                     "int8": weights + 2 * filters + 2 * filters}  # a step and a bias for each filter


@pytest.mark.parametrize(("dtype", "bound"), [("float16", 0.01), ("int8", 0.1)])
def test_a_stored_network_comes_back_from_its_file_and_counts_as_before(folded, dtype, bound, tmp_path, capsys):
    stored = network2.deploy(folded, dtype)
    torch.save(stored.state_dict(), tmp_path / "m.pth")
    loaded = network2.load_model(str(tmp_path / "m.pth"))
    data = torch.randn(2, 3, 64, 128)
    before = count_size(loaded)
    with torch.inference_mode():
        logits, exact = loaded(data), folded(data)
        assert torch.equal(logits, stored(data))
    assert logits.dtype == torch.float32
    assert 0 < (logits - exact).abs().max() < bound * exact.std()
    assert count_size(loaded) == before == count_size(stored)  # no float copy stays behind
    assert {tensor.dtype for tensor in loaded.state_dict().values()} == {
        torch.float16, *([torch.int8] if dtype == "int8" else [])}
    profile = profile_model(loaded)
    assert profile.thop == profile.dispatched == count_flops(folded) and profile.unseen == []
    assert capsys.readouterr().err == ""
    assert loaded.rung == RUNG


def test_a_forward_pass_that_fails_leaves_the_integers_in_place(folded):
    stored = network2.deploy(folded, "int8")
    with pytest.raises(RuntimeError):
        stored.head(torch.zeros(1, 3, 4, 4))
    assert stored.head.stored.weight.dtype == torch.int8


def test_other_types_are_refused_and_the_network_stays_as_it_is(folded):
    with pytest.raises(ValueError, match="int4"):
        network2.deploy(folded, "int4")
    network2.deploy(folded, "int8")
    assert all(tensor.dtype == torch.float32 for tensor in folded.state_dict().values())


@pytest.fixture(scope="module")
def integer(folded) -> nn.Module:
    torch.manual_seed(1)
    try:
        return integer_inference(folded, [torch.randn(1, 3, 256, 512) for _ in range(2)])
    except LabError as error:
        pytest.skip(str(error))


def test_integer_inference_says_much_the_same(folded, integer):
    torch.manual_seed(1)
    data = torch.randn(1, 3, 256, 512)
    with torch.inference_mode():
        logits, exact = integer(data), folded(data)
    assert logits.shape == exact.shape and logits.dtype == torch.float32
    assert (logits - exact).square().mean().sqrt() < 0.3 * exact.std()


def test_integer_inference_is_counted_as_it_is(folded, integer):
    convs = [module for module in folded.modules() if isinstance(module, nn.Conv2d)]
    weights, filters = sum(conv.weight.numel() for conv in convs), sum(conv.out_channels for conv in convs)
    # torch keeps a float64 step and an int64 zero point for each filter, and float32 biases; then the ranges
    least = weights + filters * (8 + 8 + 4)
    assert least < count_size(integer) * 1024 < least + 12 * 4 * len(convs)
    profile = profile_model(integer)
    assert profile.thop == 0 and profile.flops == profile.dispatched == count_flops(folded)


def test_the_command_writes_what_load_model_reads(saved, tmp_path, capsys, here):
    stores = load_stores(FILE, saved)
    assert list(stores) == ["float32", "float16", "int8"]
    out = tmp_path / "out.pth"
    main([str(saved), "--to", "int8", "--out", str(out)])
    printed = capsys.readouterr().out
    factor = (count_size(stores["int8"]) / count_size(stores["float32"])) ** 2
    assert f"{count_size(stores['int8']):.3f} KB" in printed and f"FoM is {factor:.4f} of what it was" in printed
    assert count_size(network2.load_model(str(out))) == count_size(stores["int8"])
    again = here(main, out)
    assert_one_line_error(again, "expected float32 weights", "int8", str(out))


@pytest.mark.usefixtures("integer")
def test_all_kinds_in_one_table(saved, sample, capsys):
    main([str(saved), "--compare", str(sample)])
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith(("float", "int8"))]
    assert [line[:2] for line in lines] == [["float32", "float32"], ["float16", "float16"], ["int8", "float32"],
                                            ["int8", "int8"]]
    assert len({line[4] for line in lines}) == 1  # the same work
    assert [float(line[3]) for line in lines[:3]] == sorted((float(line[3]) for line in lines[:3]), reverse=True)


def test_without_integer_kernels_the_rest_is_compared_and_one_line_says_why(saved, sample, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.ao.quantization", None)  # as on a torch that has none
    main([str(saved), "--compare", str(sample)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("no integer inference here: expected torch.ao.quantization")
    assert [line.split()[0] for line in lines[2:-1]] == ["float32", "float16", "int8"]


@pytest.mark.parametrize(("new", "words"), [
    ("def keep(", "net.py, found none: add one"), ("def deploy(network):\n    return network\n\n\ndef keep(",
                                                       "found TypeError: .*deploy.. got an unexpected keyword")])
def test_a_network_file_that_cannot_store_is_told_so(saved, tmp_path, new, words):
    other = tmp_path / "net.py"
    source = FILE.read_text(encoding="utf-8")
    other.write_text(source.replace("= deploy(", "= keep(").replace("def deploy(", new), encoding="utf-8")
    with pytest.raises(LabError, match=rf"^expected a function deploy\(network, store\) .*{words}"):
        load_stores(other, saved)
