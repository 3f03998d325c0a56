"""Fast-SCNN against MobileNetV2's blocks in torchvision, tables 1 and 3 worked out by hand, and its published size."""
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gallery.common import resize
from gallery.fast_scnn import Bottleneck, FastSCNN, ds_conv


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def randomise_norms(network: nn.Module) -> None:
    """The batch norms' numbers away from 1 and 0, where a new network has them, and the variances positive."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in network.state_dict().items():
        if tensor.ndim == 1 and tensor.is_floating_point():
            noise = torch.rand(tensor.shape, generator=generator)
            tensor.copy_(noise - 0.5 if name.endswith(("bias", "running_mean")) else noise + 0.5)


def torchvision_s(rows: tuple[tuple[int, int, int], ...]) -> nn.Sequential:
    """MobileNetV2's inverted residuals (channels in, out, stride), with ReLU for ReLU6, as Fast-SCNN has it."""
    mobilenetv2 = pytest.importorskip("torchvision.models.mobilenetv2")
    blocks = nn.Sequential(*(mobilenetv2.InvertedResidual(before, after, stride, expand_ratio=6)
                             for before, after, stride in rows))
    for module in [module for module in blocks.modules() if isinstance(module, nn.Sequential)]:
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU6):
                setattr(module, name, nn.ReLU())
    assert not any(isinstance(module, nn.ReLU6) for module in blocks.modules())
    return blocks


@pytest.mark.parametrize("row", [(8, 8, 1), (8, 8, 2), (8, 12, 1), (8, 12, 2)])
def test_fast_scnn_s_bottleneck_is_mobilenetv2_s(row):
    torch.manual_seed(0)
    before, after, stride = row
    block, oracle = Bottleneck(before, after, expansion=6, stride=stride).eval(), torchvision_s((row,)).eval()
    randomise_norms(oracle)
    # The same layers in the same order, under other names.
    block.load_state_dict(dict(zip(block.state_dict(), oracle.state_dict().values(), strict=True)))
    x = 8 * torch.randn(2, before, 8, 10)  # beyond what ReLU6 would let pass
    with torch.no_grad():
        torch.testing.assert_close(block(x), oracle(x), rtol=1e-4, atol=1e-5)


def test_fast_scnn_s_extractor_is_a_stack_of_them():
    # Table 1's rows: 64, 96 and 128 channels, three times each, the first of each with stride 2, 2 and 1; at a quarter.
    rows = ((16, 16, 2), (16, 16, 1), (16, 16, 1), (16, 24, 2), (24, 24, 1), (24, 24, 1),
            (24, 32, 1), (32, 32, 1), (32, 32, 1))
    torch.manual_seed(0)
    extract, oracle = FastSCNN(width=8).eval().extract[:9], torchvision_s(rows).eval()
    randomise_norms(oracle)
    extract.load_state_dict(dict(zip(extract.state_dict(), oracle.state_dict().values(), strict=True)))
    x = torch.randn(2, 16, 16, 32)
    with torch.no_grad():
        torch.testing.assert_close(extract(x), oracle(x), rtol=1e-4, atol=1e-5)
        assert oracle(x).shape == (2, 32, 4, 8)


def test_fast_scnn_has_the_published_size():
    network = FastSCNN(num_classes=19)
    # Weights of the convolutions: the down-sampling; a bottleneck from a to b channels has 6aa + 54a + 6ab; the pyramid
    # 4 convolutions to a quarter and one back from 256; the fusion; the classifier, with the one bias.
    downsample = 3 * 32 * 9 + (32 * 9 + 32 * 48) + (48 * 9 + 48 * 64)
    pairs = ((64, 64), (64, 64), (64, 64), (64, 96), (96, 96), (96, 96), (96, 128), (128, 128), (128, 128))
    bottlenecks = sum(6 * a * a + 54 * a + 6 * a * b for a, b in pairs)
    pyramid = 4 * 128 * 32 + 256 * 128
    fusion = 128 * 9 + 128 * 128 + 64 * 128
    classifier = 2 * (128 * 9 + 128 * 128) + 128 * 19 + 19
    weights = downsample + bottlenecks + pyramid + fusion + classifier
    # A batch norm has a scale and a shift for each channel.
    channels = (32 + 32 + 48 + 48 + 64) + sum(12 * a + b for a, b in pairs) + (4 * 32 + 128) + 3 * 128 + 4 * 128
    assert parameters(network) == weights + 2 * channels == 1_137_795
    # The paper's 1.11 million (section 1) are the convolutions alone: batch norms can be folded into these.
    assert weights == pytest.approx(1.11e6, abs=0.005e6)


def test_fast_scnn_stretches_and_dilates_alike():
    # A filter of dilation 4 on a map that was stretched 4 times reads what its neighbors were before: away from the
    # border it gives what a plain filter gives if the stretching comes after it.
    torch.manual_seed(0)
    fusion = FastSCNN(width=8).fuse
    weight = fusion.filter[0].weight.detach()
    deep = torch.randn(1, 32, 8, 9)
    with torch.no_grad():
        found = fusion.filter[0](resize(deep, (32, 36)))
    expected = resize(F.conv2d(deep, weight, padding=1, groups=32), (32, 36))
    torch.testing.assert_close(found[:, :, 8:-8, 8:-8], expected[:, :, 8:-8, 8:-8], rtol=1e-4, atol=1e-6)


def test_fast_scnn_has_no_relu_between_depthwise_and_pointwise():
    torch.manual_seed(0)
    conv = ds_conv(4, 6).eval()
    conv[1][2].inplace = False
    linear = nn.Sequential(conv[0], *conv[1][:2])  # all but the last ReLU
    x = torch.randn(1, 4, 7, 8)
    with torch.no_grad():  # new batch norms scale in eval mode, and nothing else
        torch.testing.assert_close(linear(-x), -linear(x))
        torch.testing.assert_close(conv(x), linear(x).relu())


def test_fast_scnn_drops_out_in_training_only():
    torch.manual_seed(0)
    network, x = FastSCNN(width=8), torch.randn(2, 3, 64, 64)
    assert [module.p for module in network.modules() if isinstance(module, nn.Dropout)] == [0.1]
    with torch.no_grad():
        network.train()
        assert not torch.equal(network(x), network(x))
        network.eval()
        assert torch.equal(network(x), network(x))
