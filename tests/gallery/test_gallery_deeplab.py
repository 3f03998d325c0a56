"""DeepLab v3 and v3+ compute what two other libraries compute, cost what they say, and see as far as they say."""
import pytest
import segmentation_models_pytorch as smp
import torch
from oracles import parameters, undilate_first, unsettle_norms
from segmentation_models_pytorch.decoders.deeplabv3.decoder import SeparableConv2d
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.segmentation.deeplabv3 import DeepLabHead

from gallery.deeplab import ASPP, DeepLabV3, DeepLabV3Plus, dense, load_model

RATES = {16: (6, 12, 18), 8: (12, 24, 36)}  # v3, section 3.3
LAST_3X3 = 3 * 3 * 256 * 256 + 2 * 256      # a 3x3 between projection and classifier: both libraries' v3, not the paper


def unsettle(network):
    """Gives each batch norm numbers of its own, and the classifier weights as large as the others', in eval mode."""
    unsettle_norms(network)
    nn.init.normal_(network.classify.weight, std=0.1)
    nn.init.normal_(network.classify.bias, std=0.1)
    return network


def copy_in_order(source: dict, target: nn.Module):
    """Both name the same tensors in the same order; strides are no weights."""
    tensors = [tensor for name, tensor in source.items() if name != "output_stride"]
    names = list(target.state_dict())
    assert [tensor.shape for tensor in tensors] == [tensor.shape for tensor in target.state_dict().values()]
    target.load_state_dict(dict(zip(names, tensors, strict=True)))
    return target.eval()


def logits_of(oracle, data):
    """At the image's resolution, resized by pixel centers; the oracle's own resize would align the corners."""
    with torch.no_grad():
        return F.interpolate(oracle(data), size=data.shape[2:], mode="bilinear", align_corners=False)


def smp_options(output_stride: int) -> dict:
    return {"encoder_weights": None, "encoder_output_stride": output_stride, "classes": 8, "upsampling": 1,
            "decoder_atrous_rates": RATES[output_stride], "decoder_aspp_dropout": 0.0}


@pytest.mark.parametrize("output_stride", RATES)
def test_v3_is_smp_s_without_its_last_3x3(output_stride):
    network = unsettle(DeepLabV3(output_stride=output_stride))
    oracle = smp.DeepLabV3("resnet18", **smp_options(output_stride))
    undilate_first(oracle.encoder)
    assert parameters(oracle) - parameters(network) == LAST_3X3
    oracle.decoder.conv, oracle.decoder.bn = nn.Identity(), nn.Identity()
    copy_in_order(network.state_dict(), oracle)
    data = torch.randn(1, 3, 304, 320)  # a map of 19 x 20 or 38 x 40: the highest rates, 18 and 36, still meet it
    with torch.no_grad():
        torch.testing.assert_close(network(data), logits_of(oracle, data), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("output_stride", RATES)
def test_v3_s_head_is_torchvision_s_without_its_last_3x3(output_stride):
    network = unsettle(DeepLabV3(output_stride=output_stride))
    head = DeepLabHead(512, 8, RATES[output_stride])
    assert parameters(head) - parameters(network.aspp, network.classify) == LAST_3X3
    own = nn.Sequential(network.aspp, network.classify)
    oracle = copy_in_order(own.state_dict(), nn.Sequential(head[0], head[4]))
    features = torch.randn(1, 512, 20, 38).relu()
    with torch.no_grad():
        torch.testing.assert_close(own(features), oracle(features), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("output_stride", RATES)
def test_v3plus_is_smp_s_with_its_layers_in_the_paper_s_order(output_stride):
    network = unsettle(DeepLabV3Plus(output_stride=output_stride))
    oracle = smp.DeepLabV3Plus("resnet18", **smp_options(output_stride))
    undilate_first(oracle.encoder)
    # Theirs go from the depthwise to the pointwise convolution without batch norm: three in the pyramid, on 512
    # channels, and two after it, on 48 + 256 and on 256.
    assert parameters(network) - parameters(oracle) == 2 * (3 * 512 + 304 + 256)
    for module in list(oracle.modules()):
        if isinstance(module, SeparableConv2d):
            module.insert(1, nn.BatchNorm2d(module[0].out_channels)).insert(2, nn.ReLU())
    # One of their two 3x3 convolutions stands before the concatenation; the paper's both stand after it (table 2).
    decoder = oracle.decoder
    decoder.aspp, decoder.block2 = decoder.aspp[0], nn.Sequential(decoder.block2, decoder.aspp[1:])
    decoder.up = nn.Upsample(scale_factor=output_stride // 4, mode="bilinear", align_corners=False)
    copy_in_order(network.state_dict(), oracle)
    data = torch.randn(1, 3, 304, 320).double()  # in float32 the last digits of so deep a network differ
    with torch.no_grad():
        torch.testing.assert_close(network.double()(data), logits_of(oracle.double(), data), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("network", "output_stride", "billions"), [
    (DeepLabV3, 16, 10.0), (DeepLabV3, 8, 32.3), (DeepLabV3Plus, 16, 9.7), (DeepLabV3Plus, 8, 27.1)])
def test_an_output_stride_of_8_costs_what_the_docstring_says(network, output_stride, billions):
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        network(output_stride=output_stride).eval()(torch.zeros(1, 3, 256, 512))
    assert counter.get_total_flops() / 2 == pytest.approx(billions * 1e9, abs=0.05e9)


def test_few_of_a_dilated_filter_s_weights_meet_a_small_map():
    network = DeepLabV3(width=4)
    means = []
    for branch in network.aspp.branches[1:]:
        nn.init.constant_(branch[0].weight, 1 / 32)      # 8 x 4 channels: each position sums up to 1
        with torch.no_grad():
            met = branch[0](torch.ones(1, 32, 16, 32))   # the map of 256 x 512 pixels
        means.append(met.mean().item())
    # Per side of length n, the middle meets all n positions and the two others n - r each (or none): for r = 6,
    # (16 + 2 * 10) / 16 * (32 + 2 * 26) / 32 of 9.
    assert means == pytest.approx([2.25 * 2.625, 1.5 * 2.25, 1 * 1.875])
    assert met.max() == pytest.approx(2)                 # rate 18: its middle, and one side of two


def test_image_pooling_shows_every_pixel_the_whole_image():
    torch.manual_seed(0)
    pyramid = ASPP(32, 16, RATES[16], dense).eval()

    def pixels_seen_from_the_corner() -> int:
        data = torch.randn(1, 32, 16, 32, requires_grad=True)
        pyramid(data)[0, :, 0, 0].sum().backward()
        return int((data.grad[0] != 0).any(0).sum())

    assert pixels_seen_from_the_corner() == 16 * 32
    nn.init.zeros_(pyramid.pooled[1].weight)
    # itself, three at 6 and at 12 pixels' distance (right, below, both), and at 18 only to the right, the map being low
    assert pixels_seen_from_the_corner() == 1 + 3 + 3 + 1


@pytest.mark.parametrize("network", [DeepLabV3, DeepLabV3Plus])
def test_weights_change_the_output_stride_and_load_model_knows(network, tmp_path):
    trained, scored = unsettle(network(width=4)), network(output_stride=8, width=4).eval()
    scored.load_state_dict(trained.state_dict())
    assert (int(trained.output_stride), int(scored.output_stride), scored.STRIDE) == (16, 8, 8)
    data = torch.randn(1, 3, 72, 104)  # divides by 8 alone
    torch.save(scored.state_dict(), tmp_path / "m.pth")
    with torch.no_grad():
        assert torch.equal(load_model(str(tmp_path / "m.pth")).eval()(data), scored(data))
    with pytest.raises(ValueError, match="divisible by 16"):
        trained(data)
    with pytest.raises(ValueError, match="output stride of 16 or 8, got 32"):
        network(output_stride=32)


@pytest.mark.parametrize("network", [DeepLabV3, DeepLabV3Plus])
def test_logits_start_out_nearly_alike(network):
    torch.manual_seed(0)
    logits = network(width=16)(torch.randn(2, 3, 128, 256))
    loss = F.cross_entropy(logits, torch.randint(0, 8, (2, 128, 256)))
    assert loss.item() == pytest.approx(2.08, abs=0.05)  # log 8
