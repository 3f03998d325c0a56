"""The gallery's SegNet: torchvision's VGG-16 as the encoder's oracle, unpooling on a map made by hand."""
import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from gallery.segnet import SegNet, load_model, pool, unpool
from utils.complexity import profile_model


def parameters(network) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameters_by_hand():
    with torch.device("meta"):
        network = SegNet()
    # VGG-16's 13 convolutions have 14,714,688 parameters, which the SegNet paper gives as 14.7 M; without their biases:
    biases = 2 * 64 + 2 * 128 + 3 * 256 + 6 * 512
    norms = 2 * biases
    assert parameters(network.encoder) == 14_714_688 - biases + norms
    decoder = 9 * (3 * 512 * 512                                   # stride 16
                   + 2 * 512 * 512 + 512 * 256                     # stride 8
                   + 2 * 256 * 256 + 256 * 128                     # stride 4
                   + 128 * 128 + 128 * 64                          # stride 2
                   + 64 * 64)                                      # stride 1, but for the last convolution
    decoder_norms = 2 * (3 * 512 + 2 * 512 + 256 + 2 * 256 + 128 + 128 + 64 + 64)
    assert parameters(network.decoder) == decoder + decoder_norms
    assert parameters(network.head) == 9 * 64 * 8 + 8
    assert parameters(network) == 29_439_688
    # The decoder is the encoder turned round: but for the first convolution of one and the last of the other, whose 3
    # channels and K classes differ, the weights are as many.
    assert decoder == 14_714_688 - biases - 9 * 3 * 64


def test_multiply_accumulates_by_hand():
    # In w^2 H W, for each stage its pairs of channels times its share of the pixels; thin are the first and the last.
    encoder = 1 + (2 + 4) / 4 + (8 + 16 + 16) / 16 + (32 + 64 + 64) / 64 + 3 * 64 / 256
    decoder = 3 * 64 / 256 + (64 + 64 + 32) / 64 + (16 + 16 + 8) / 16 + (4 + 2) / 4 + 1
    profile = profile_model(SegNet(width=8))
    assert profile.dispatched == 9 * (8 * 8 * (encoder + decoder) + 3 * 8 + 8 * 8) * 256 * 512
    assert profile.unseen == []


def test_the_encoder_is_vgg_16():
    torch.manual_seed(0)
    vgg = torchvision.models.vgg16_bn(weights=None).features
    with torch.no_grad():
        for module in vgg.modules():
            if isinstance(module, nn.Conv2d):  # torchvision starts with biases of 0, where a mistake would not show
                module.bias.normal_(std=0.1)
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 2)
                module.bias.normal_(std=0.1)
    network = SegNet().eval()
    ours = [module for module in network.encoder.modules() if isinstance(module, (nn.Conv2d, nn.BatchNorm2d))]
    theirs = [module for module in vgg if isinstance(module, (nn.Conv2d, nn.BatchNorm2d))]
    assert len(ours) == len(theirs) == 2 * 13
    bias = None
    for mine, other in zip(ours, theirs, strict=True):
        state = other.state_dict()
        if isinstance(other, nn.Conv2d):
            bias = state.pop("bias")
        else:
            state["running_mean"] = state["running_mean"] - bias  # what VGG-16 adds before the norm, the norm takes off
        mine.load_state_dict(state, strict=True)

    x = y = torch.randn(1, 3, 64, 96)
    stages = iter(network.encoder)
    with torch.no_grad():
        for layer in vgg.eval():
            if isinstance(layer, nn.MaxPool2d):
                full, (y, expected) = y, F.max_pool2d(y, layer.kernel_size, layer.stride, return_indices=True)
                x, indices = pool(next(stages)(x))
                torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-4)
                # Our places in their map hold their maxima; of equal values, or of two zeros a ReLU left, any one.
                held = full.flatten(2).gather(2, indices.flatten(2)).view_as(y)
                torch.testing.assert_close(held, y, rtol=1e-3, atol=1e-4)
                assert (indices == expected)[y > 1e-3].float().mean() > 0.999
            else:
                y = layer(y)
    assert next(stages, None) is None
    assert x.shape == (1, 512, 2, 3)


def test_unpooling_puts_each_maximum_back_where_it_was():
    data = torch.tensor([[1., 5., 2., 0.],
                         [3., 4., 9., 1.],
                         [0., 0., 7., 8.],
                         [6., 1., 3., 2.]])
    maxima, indices = pool(data[None, None])
    assert maxima[0, 0].tolist() == [[5, 9], [6, 8]]
    assert indices[0, 0].tolist() == [[1, 6], [12, 11]]  # row-major in the 4 x 4 map
    # The decoder's values are others by then: they take the maxima's places.
    back = unpool(torch.tensor([[10., 20.], [30., 40.]])[None, None], indices)
    assert back[0, 0].tolist() == [[0, 10, 0, 0],
                                   [0, 0, 20, 0],
                                   [0, 0, 0, 40],
                                   [30, 0, 0, 0]]


def test_each_stage_gets_the_places_of_its_own_resolution():
    network = SegNet(width=2).eval()
    pooled, unpooled = [], []
    for stage in network.encoder:
        stage.register_forward_hook(lambda module, args, output: pooled.append(output))
    for stage in network.decoder:
        stage.register_forward_pre_hook(lambda module, args: unpooled.append(args[0]))
    with torch.no_grad():
        network(torch.randn(2, 3, 64, 96))
    for before, after in zip(pooled, reversed(unpooled), strict=True):
        assert after.shape == before.shape
        blocks = before.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))
        maxima = (blocks == blocks.amax((3, 5), keepdim=True)).flatten(4, 5).flatten(2, 3)
        assert maxima.shape == after.shape
        assert after.any()
        assert not after[~maxima].any()  # nothing but a maximum's place is filled


def test_load_model_reads_width_and_classes(tmp_path):
    network = SegNet(width=3, num_classes=4)
    torch.save(network.state_dict(), tmp_path / "m.pth")
    assert str(load_model(str(tmp_path / "m.pth"))) == str(network)


def test_sides_divide_by_32():
    with pytest.raises(ValueError, match="divisible by 32, got"):
        SegNet(width=2)(torch.zeros(1, 3, 64, 80))
