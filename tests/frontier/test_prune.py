"""Structured pruning: which channels go, that the rest is a network of the table again, and that it can train on."""
import pytest
import torch
from conftest import ROOT, assert_one_line_error, load_file
from torch import nn

from frontier import blocks
from frontier.prune import main, prune, start
from utils.complexity import count_flops, count_size
from utils.lab import LabError

network2 = blocks.network   # knows the other blocks, too
Rung = network2.Rung
WIDE = Rung((6, 8, 12), (1, 1, 2), 1, True)
BLOCKS = ("separable", "chain", "plain", "squeeze", "attention", "dense")
DATA = torch.randn(2, 3, 64, 128, generator=torch.Generator().manual_seed(3))


def folded(rung: Rung = WIDE) -> nn.Module:
    torch.manual_seed(0)
    return network2.deploy(network2.LowComplexityNet(rung))


def make_worthless(model: nn.Module, stage: str, channels: list[int]) -> None:
    """Takes all say from channels of one stage: whatever makes, turns over or uses them is zero there."""
    parts = dict(model.named_modules())
    for name, layer in parts.items():
        if isinstance(layer, nn.Conv2d) and name.startswith(stage) and name != f"{stage}.conv_dw":
            layer.weight.data[channels] = 0  # pointwise and depthwise: (C_out, ...)
            layer.bias.data[channels] = 0
            if layer.groups == 1 and name != f"{stage}.conv_pw":
                layer.weight.data[:, channels] = 0
    for name in {"stage16": ("lateral16", "context"), "stage8": ("lateral8", "stage16.conv_pw")}[stage]:
        parts[name].weight.data[:, channels] = 0
    if stage == "stage8":
        for tensor in (parts["stage16.conv_dw"].weight, parts["stage16.conv_dw"].bias):
            tensor.data[channels] = 0


@pytest.mark.parametrize("block", BLOCKS)
def test_the_result_is_a_network_of_the_table_again(block, tmp_path):
    model = folded(WIDE._replace(block=block, widths=(8, 12, 16)))
    pruned = prune(network2, model, (6, 8, 12))
    wanted = WIDE._replace(block=block)
    assert pruned.rung == wanted
    assert {name: tensor.shape for name, tensor in pruned.state_dict().items()} == {
        name: tensor.shape for name, tensor in folded(wanted).state_dict().items()}
    assert count_flops(pruned) == count_flops(folded(wanted)) and count_size(pruned) == count_size(folded(wanted))
    torch.save(pruned.state_dict(), tmp_path / "p.pth")
    with torch.no_grad():
        loaded = network2.load_model(str(tmp_path / "p.pth"))
        assert loaded.rung == wanted and torch.equal(loaded(DATA), pruned(DATA))
    assert model.rung.widths == (8, 12, 16) and model.head.in_channels == 8  # what it was made from stays


@pytest.mark.parametrize(("stage", "channels", "widths"), [
    ("stage16", [0, 3, 4, 11], (6, 8, 8)), ("stage8", [2, 7], (6, 6, 12))])
def test_channels_of_no_weight_go_and_nothing_changes(stage, channels, widths):
    model = folded()
    make_worthless(model, stage, channels)
    pruned = prune(network2, model, widths)
    with torch.no_grad():
        torch.testing.assert_close(pruned(DATA), model(DATA))
    left = [channel for channel in range(model.rung.widths[2 if stage == "stage16" else 1]) if channel not in channels]
    lateral = stage.replace("stage", "lateral")
    assert torch.equal(pruned.get_submodule(lateral).weight, model.get_submodule(lateral).weight[:, left])


def test_the_channels_of_the_largest_norm_stay():
    model = folded()
    sizes = torch.tensor([5.0, 1, 4, 2, 6, 3])  # of the decoder's channels, the same in each of their layers
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.data.fill_(0.01)
            if name.startswith(("stage4.conv_pw", "stage4.blocks", "lateral", "context", "refine")):
                layer.weight.data *= sizes.reshape(6, 1, 1, 1)
    model.head.weight.data = torch.arange(6.0).reshape(1, 6, 1, 1).repeat(8, 1, 1, 1) * 1e-3  # tells who is who
    pruned = prune(network2, model, (3, 8, 12))
    assert (pruned.head.weight[0].flatten() * 1e3).tolist() == pytest.approx([0, 2, 4])


@pytest.mark.parametrize(("rung", "widths", "words"), [
    (WIDE, (8, 8, 12), "below 6/8/12, found 8/8/12"),
    (WIDE, (6, 8, 12), "below 6/8/12"),
    (WIDE, (6, 0, 12), "found 6/0/12"),
    (WIDE, (6, 8), "expected 3 widths"),
    (WIDE._replace(widths=(8, 8, 12), block="grouped"), (4, 4, 8), "one by one .*, found 'grouped'"),
    (WIDE._replace(block="partition"), (4, 4, 8), "one by one .*, found 'partition'"),
])
def test_what_cannot_be_pruned_is_refused_in_words(rung, widths, words):
    with pytest.raises(LabError, match=words):
        prune(network2, folded(rung), widths)


def test_weights_in_fewer_bits_are_refused():
    for dtype in ("float16", "int8"):
        with pytest.raises(LabError, match=f"expected float32 weights to be pruned, found .*{dtype}"):
            prune(network2, network2.deploy(folded(), dtype), (4, 8, 12))


@pytest.mark.parametrize("branches", [0, 2])
def test_training_starts_from_what_the_file_knows(branches):
    torch.manual_seed(1)
    model = folded()
    for conv in (module for module in model.modules() if isinstance(module, nn.Conv2d)):
        conv.bias.data.normal_()
    network = network2.LowComplexityNet(WIDE, branches)
    start(network, model, DATA.split(1))
    assert network.training
    with torch.no_grad():
        exact = model(DATA)
        torch.testing.assert_close(network.eval()(DATA), exact, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(network2.deploy(network)(DATA), exact, rtol=1e-3, atol=1e-3)
        # Batch norms were measured on these very images: over them all, training mode computes the same too.
        torch.testing.assert_close(network.train()(DATA), exact, rtol=2e-2, atol=2e-2)
    network(DATA).square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())
    assert all(parameter.grad.abs().sum() > 0 for name, parameter in network.named_parameters() if "bn" in name)


def test_a_float16_file_is_a_start_as_well():
    network = network2.LowComplexityNet(WIDE)
    start(network, network2.deploy(folded(), "float16"), [DATA])
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(DATA), folded()(DATA), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(("rung", "images", "words"), [
    (WIDE._replace(widths=(6, 8, 10)), [DATA], r"same rung .* found \(10, 8, 1, 1\)"),
    (WIDE._replace(refine=0), [DATA], "found nothing for .* at refine8.0"),
    (WIDE._replace(refine=2), [DATA], "for nothing at refine8.1"),
    (WIDE, [], "expected training images"),
])
def test_another_network_is_no_place_to_start(rung, images, words):
    with pytest.raises(LabError, match=words):
        start(network2.LowComplexityNet(rung), folded(), images)


def test_the_command(tmp_path, capsys, here):
    torch.save(folded().state_dict(), tmp_path / "m.pth")
    out = tmp_path / "p.pth"
    main([str(tmp_path / "m.pth"), "--ratio", "0.5", "--out", str(out)])
    pruned = network2.load_model(str(out))
    assert pruned.rung == WIDE._replace(widths=(3, 4, 6))
    assert f"{'3/4/6':12} {count_size(pruned):9.3f} KB" in capsys.readouterr().out
    done = here(main, out, "--to", "12/4/6", "--out", tmp_path / "x.pth")
    assert_one_line_error(done, "some of them below 3/4/6", "12/4/6")
    assert not (tmp_path / "x.pth").exists()


def test_a_network_without_a_table_is_refused(tmp_path):
    torch.save(load_file(ROOT / "network/network.py").UNet(4).state_dict(), tmp_path / "m.pth")
    with pytest.raises(LabError, match="expected a network with a `rung`"):
        main([str(tmp_path / "m.pth"), "--ratio", "0.5", "--network", str(ROOT / "network/network.py")])
