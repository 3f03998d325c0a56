"""The gallery's ResNet-18 and ResNet U-Net: equal to torchvision's and to segmentation_models_pytorch's."""
from itertools import pairwise

import pytest
import segmentation_models_pytorch as smp
import torch
from oracles import dilated_encoder
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoderBlock
from torch import nn
from torchvision.models import resnet18
from torchvision.models.feature_extraction import create_feature_extractor

from gallery.resnet import ResNet18
from gallery.resnet_unet import ResNetUNet, ResNetUNetNoSkips

IMAGES = (2, 3, 64, 128)


def parameters(network) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def settled(network: nn.Module) -> nn.Module:
    """In eval mode, with statistics in its batch norms that are not those of a new network."""
    network.train()
    with torch.no_grad():
        network(torch.randn(IMAGES))
    return network.eval()


def copy_in_order(source: nn.Module, *targets: nn.Module) -> None:
    """Every tensor of `source`'s state_dict into those of the targets, whose shapes must follow in the same order."""
    theirs = [tensor for target in targets for tensor in target.state_dict().values()]
    for ours, tensor in zip(source.state_dict().values(), theirs, strict=True):
        assert ours.shape == tensor.shape
        tensor.copy_(ours)


def test_resnet_is_torchvision_s():
    torch.manual_seed(0)
    ours, theirs = settled(ResNet18()), resnet18(weights=None)
    classifier = 512 * 1000 + 1000
    assert parameters(ours) == parameters(theirs) - classifier
    missing, unexpected = theirs.load_state_dict(ours.state_dict(), strict=False)
    assert (missing, unexpected) == (["fc.weight", "fc.bias"], [])
    stages = create_feature_extractor(theirs.eval(), ["relu", *(f"layer{number}" for number in range(1, 5))])
    data = torch.randn(IMAGES)
    with torch.no_grad():
        maps, expected = ours(data), list(stages(data).values())
    assert [tuple(x.shape) for x in maps] == [(2, 64, 32, 64), (2, 64, 16, 32), (2, 128, 8, 16), (2, 256, 4, 8),
                                              (2, 512, 2, 4)]
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("output_stride", [16, 8])
def test_every_other_pixel_of_a_finer_map_is_the_coarse_map_s(output_stride):
    torch.manual_seed(0)
    coarse, fine = settled(ResNet18(32, width=8)), ResNet18(output_stride, width=8).eval()
    fine.load_state_dict(coarse.state_dict())
    data, step = torch.randn(1, 3, 256, 320), 32 // output_stride
    with torch.no_grad():
        torch.testing.assert_close(fine(data)[-1][:, :, ::step, ::step], coarse(data)[-1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("output_stride", [16, 8])
def test_a_finer_output_stride_dilates_like_another_library(output_stride):
    torch.manual_seed(0)
    ours = settled(ResNet18(output_stride))
    theirs = dilated_encoder(output_stride)
    assert list(theirs.state_dict()) == list(ours.state_dict())
    theirs.load_state_dict(ours.state_dict())
    data = torch.randn(IMAGES)
    with torch.no_grad():
        maps, (image, *expected) = ours(data), theirs.eval()(data)
    assert torch.equal(image, data)
    assert maps[-1].shape[2:] == (64 // output_stride, 128 // output_stride)
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-4)


def test_the_output_stride_costs_no_parameters_and_fits_the_same_weights():
    coarse, fine = ResNet18(32, width=8), ResNet18(8, width=8)
    fine.load_state_dict(coarse.state_dict(), strict=True)


def test_other_output_strides_are_refused_in_words():
    for output_stride in (4, 24, 64):
        with pytest.raises(ValueError, match=f"output stride of 8, 16 or 32, got {output_stride}"):
            ResNet18(output_stride)


def test_a_narrow_resnet_has_the_same_shape():
    network = ResNet18(width=16)
    assert network.widths == (16, 16, 32, 64, 128)
    with torch.no_grad():
        maps = network(torch.randn(IMAGES))
    assert [x.shape[1] for x in maps] == [16, 16, 32, 64, 128]
    assert [64 // x.shape[2] for x in maps] == [2, 4, 8, 16, 32]
    # Weights go with the width's square, but for those that see the image's 3 channels and for the batch norms.
    assert 1 / 16 < parameters(network) / parameters(ResNet18()) < 1 / 15


def test_resnet_unet_is_another_library_s():
    torch.manual_seed(0)
    ours, theirs = settled(ResNetUNet()), smp.Unet("resnet18", encoder_weights=None, classes=8)
    assert parameters(ours) == parameters(theirs)
    copy_in_order(ours, theirs)
    data = torch.randn(IMAGES)
    with torch.no_grad():
        torch.testing.assert_close(ours(data), theirs.eval()(data), rtol=1e-4, atol=1e-4)


def test_resnet_unet_without_skips_is_another_library_s_steps_without_skips():
    torch.manual_seed(0)
    ours = settled(ResNetUNetNoSkips())
    encoder = smp.encoders.get_encoder("resnet18", weights=None)
    widths = (512, 256, 128, 64, 32, 16)
    steps = nn.ModuleList(UnetDecoderBlock(before, 0, after)
                          for before, after in pairwise(widths))
    head = smp.base.SegmentationHead(16, 8)
    theirs = nn.ModuleList([encoder, steps, head]).eval()
    assert parameters(ours) == parameters(theirs)
    copy_in_order(ours, theirs)
    data = torch.randn(IMAGES)
    with torch.no_grad():
        x = encoder(data)[-1]
        for step in steps:
            x = step(x, 2 * x.shape[2], 2 * x.shape[3])
        torch.testing.assert_close(ours(data), head(x), rtol=1e-4, atol=1e-4)


def test_the_counts_differ_by_the_weights_that_see_the_skips():
    by_hand = 9 * (256 * 256 + 128 * 128 + 64 * 64 + 64 * 32)  # 3x3 filters: the skip's channels times the step's
    assert by_hand == 792_576
    assert parameters(ResNetUNet()) - parameters(ResNetUNetNoSkips()) == by_hand


def test_weights_of_zero_for_the_skips_are_no_skips():
    torch.manual_seed(0)
    skips, none = settled(ResNetUNet(width=16)), ResNetUNetNoSkips(width=16).eval()
    state_dict = skips.state_dict()
    for name, tensor in none.state_dict().items():
        below = tensor.shape[1] if tensor.ndim == 4 else None  # the skip's channels come after those from below
        if below and state_dict[name].shape != tensor.shape:
            state_dict[name][:, below:] = 0
        tensor.copy_(state_dict[name][:, :below] if below else state_dict[name])
    data = torch.randn(IMAGES)
    with torch.no_grad():
        torch.testing.assert_close(skips(data), none(data), rtol=1e-4, atol=1e-5)


def test_without_the_encoder_s_last_map_only_skips_tell_images_apart():
    torch.manual_seed(0)
    for network, differs in ((ResNetUNet(width=16), True), (ResNetUNetNoSkips(width=16), False)):
        settled(network).backbone.layer4.register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))
        with torch.no_grad():
            one, two = network(torch.randn(IMAGES))
        assert torch.allclose(one, two) is not differs


def test_the_decoder_s_width_follows_the_encoder_s():
    network = ResNetUNet(width=8)
    assert [up.conv[0].out_channels for up in network.ups] == [32, 16, 8, 4, 2]
    with pytest.raises(ValueError, match="divisible by 4, got 6"):
        ResNetUNet(width=6)
