"""PSPNet computes what another library's parts compute, and its pyramid takes the means it says."""
from types import SimpleNamespace

import pytest
import torch
from oracles import dilated_encoder, parameters, unsettle_norms
from segmentation_models_pytorch.decoders.pspnet import decoder as smp_pspnet
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from gallery.pspnet import PSPNet, load_model


def unsettle(network):
    """Gives each batch norm numbers of its own, in eval mode."""
    unsettle_norms(network)
    nn.init.normal_(network.classify.bias, std=0.1)
    return network


def copy_in_order(source: nn.Module, target: nn.Module):
    """Both name the same tensors in the same order."""
    tensors = list(source.state_dict().values())
    assert [tensor.shape for tensor in tensors] == [tensor.shape for tensor in target.state_dict().values()]
    target.load_state_dict(dict(zip(target.state_dict(), tensors, strict=True)))
    return target.eval()


def by_pixel_centers(x, size, mode, align_corners):
    return F.interpolate(x, size=size, mode=mode, align_corners=False)


@pytest.mark.parametrize("output_stride", [8, 16])
def test_logits_are_those_of_smp_s_encoder_and_pyramid(output_stride, monkeypatch):
    network = unsettle(PSPNet(output_stride=output_stride))
    encoder = dilated_encoder(output_stride)
    pyramid = smp_pspnet.PSPModule(512)
    # Theirs has no batch norm on the whole image's mean, so that it trains on a single one, and a bias instead.
    assert parameters(network.pyramid) - parameters(pyramid) == 2 * 128 - 128
    pyramid.blocks[0].pool[1][0] = nn.Conv2d(512, 128, 1, bias=False)
    pyramid.blocks[0].pool[1][1] = nn.BatchNorm2d(128)
    monkeypatch.setattr(smp_pspnet, "F", SimpleNamespace(interpolate=by_pixel_centers))  # theirs aligns corners
    copy_in_order(network.backbone, encoder)
    copy_in_order(network.pyramid, pyramid)

    conv, norm, _ = network.fuse
    data = torch.randn(1, 3, 128, 192)
    with torch.no_grad():
        x = pyramid(encoder(data)[-1])
        x = torch.cat([x[:, 512:], x[:, :512]], dim=1)  # theirs puts the map behind the grids, the authors' before
        x = F.conv2d(x, conv.weight, padding=1)
        x = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias).relu()
        x = F.conv2d(x, network.classify.weight, network.classify.bias)
        expected = F.interpolate(x, size=(128, 192), mode="bilinear", align_corners=False)
        torch.testing.assert_close(network(data), expected, rtol=1e-4, atol=1e-4)


def test_parameters_are_the_sum_of_its_layers():
    resnet18 = 11_689_512 - 513_000                      # torchvision's published count, without its classifier
    pyramid = 4 * (512 * 128 + 2 * 128)
    fuse = 3 * 3 * 1024 * 128 + 2 * 128
    assert parameters(PSPNet()) == resnet18 + pyramid + fuse + 128 * 8 + 8


@pytest.mark.parametrize(("output_stride", "billions"), [(8, 26.5), (16, 8.6)])
def test_it_costs_what_the_docstring_says(output_stride, billions):
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        PSPNet(output_stride=output_stride).eval()(torch.zeros(1, 3, 256, 512))
    assert counter.get_total_flops() / 2 == pytest.approx(billions * 1e9, abs=0.05e9)


def test_grids_take_the_means_of_their_regions():
    pyramid = PSPNet(width=4).pyramid.eval()
    means = []
    for weigh in pyramid.weigh:
        weigh.register_forward_pre_hook(lambda _module, arguments: means.append(arguments[0]))
    data = torch.randn(2, 32, 12, 18)
    with torch.no_grad():
        pyramid(data)
    for grid, found in zip((1, 2, 3, 6), means, strict=True):  # section 3.2
        regions = data.reshape(2, 32, grid, 12 // grid, grid, 18 // grid)
        torch.testing.assert_close(found, regions.mean(dim=(3, 5)))
    means.clear()
    with torch.no_grad():
        pyramid(data[..., :8, :8])
    # 6 regions over 8 rows: they begin at 0, 1, 2, 4, 5, 6 (8 i / 6 rounded down) and have two rows each
    rows = torch.stack([data[..., begin:begin + 2, :8].mean(dim=2) for begin in (0, 1, 2, 4, 5, 6)], dim=2)
    expected = torch.stack([rows[..., begin:begin + 2].mean(dim=3) for begin in (0, 1, 2, 4, 5, 6)], dim=3)
    torch.testing.assert_close(means[3], expected)


def test_the_whole_image_reaches_each_pixel_as_one_number_a_channel():
    network = unsettle(PSPNet(width=4))
    with torch.no_grad():
        maps = network.pyramid(torch.randn(1, 32, 8, 16))
    whole = maps[:, 32:40]
    torch.testing.assert_close(whole, whole[..., :1, :1].expand_as(whole))
    assert maps[:, 40:].std(dim=(2, 3)).max() > 0.1  # the other grids say where


def test_weights_change_the_output_stride_and_load_model_knows(tmp_path):
    trained, scored = unsettle(PSPNet(output_stride=16, width=4)), PSPNet(width=4).eval()
    scored.load_state_dict(trained.state_dict())
    assert (int(trained.output_stride), int(scored.output_stride), scored.STRIDE) == (16, 8, 8)
    data = torch.randn(1, 3, 72, 104)  # divides by 8 alone
    torch.save(scored.state_dict(), tmp_path / "m.pth")
    with torch.no_grad():
        assert torch.equal(load_model(str(tmp_path / "m.pth")).eval()(data), scored(data))
    with pytest.raises(ValueError, match="divisible by 16"):
        trained(data)
    with pytest.raises(ValueError, match="got 4"):
        PSPNet(output_stride=4)
