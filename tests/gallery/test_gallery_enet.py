"""ENet against table 1 worked out by hand, its published costs, and what its parts are for."""
import pytest
import torch

from gallery.enet import Bottleneck, Down, ENet, Up
from utils.complexity import profile_model


def parameters(network) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_enet_has_the_parameters_of_table_1():
    # With C channels and c = C/4 inside, a bottleneck has 2Cc weights in projection and expansion, 9c^2 in its filter
    # (10c^2 in a column and a row), 2(2c + C) in the norms and 2c + C slopes.
    plain16, plain64 = 128 + 144 + 72, 2048 + 2304 + 288
    plain128, asymmetric128 = 8192 + 9216 + 576, 8192 + 10240 + 576
    # Down: the projection has 2x2 filters. Up: a convolution and a norm in the main branch.
    down64, down128 = 4 * 16 * 16 + 2304 + 16 * 64 + 288, 4 * 64 * 32 + 9216 + 32 * 128 + 576
    up64 = 128 * 16 + 2304 + 16 * 64 + 288 + 128 * 64 + 2 * 64
    up16 = 64 * 4 + 144 + 4 * 16 + 72 + 64 * 16 + 2 * 16
    initial = 3 * 13 * 9 + 3 * 16
    encoder = down64 + 4 * plain64 + down128 + 2 * (6 * plain128 + 2 * asymmetric128)
    decoder = up64 + 2 * plain64 + up16 + plain16
    for num_classes in (8, 20):
        full = 16 * num_classes * 4 + num_classes
        assert parameters(ENet(num_classes)) == initial + encoder + decoder + full


def test_enet_costs_what_its_authors_published():
    # Table 3: 0.37 M parameters, 3.83 GFLOPs for 640 x 360 pixels. With Cityscapes' 20 classes there are 364,019. What
    # the paper has besides are the biases in front of the batch norms (one for each channel of the initial block's
    # convolution and inside each bottleneck), and, for the first half of the training, a classifier of the encoder's
    # own; whether the 0.37 M hold the latter the paper does not say, but without it 0.36 M are left.
    network = ENet(num_classes=20)
    biases = 13 + 5 * 16 + 17 * 32 + 3 * 16 + 2 * 4
    assert parameters(network) == pytest.approx(0.37e6, rel=0.02)
    assert parameters(network) + biases + (128 * 20 + 20) == pytest.approx(0.37e6, abs=0.005e6)
    # Two FLOPs a multiply-accumulate make 3.45 G. Norms, slopes and sums would add 0.12 G; what else the authors count
    # is not known, hence the tolerance.
    profile = profile_model(network, (72, 128))  # a 25th of the pixels, and of the work
    assert 2 * 25 * profile.dispatched == pytest.approx(3.83e9, rel=0.1)
    assert profile.unseen == []
    shapes = {"initial": (16, 36, 64), "encoder.0": (64, 18, 32), "encoder.1": (128, 9, 16),
              "decoder.0": (64, 18, 32), "decoder.1": (16, 36, 64), "classifier": (20, 72, 128)}
    assert {name: profile.output_shapes[name][1:] for name in shapes} == shapes
    # thop's stride^2, see the docstring
    for name in ("ups.0.branch.2", "ups.1.branch.2", "classifier"):
        assert profile.thop_by_module[name] == 4 * profile.dispatched_by_module[name]


def test_enet_s_unpooling_puts_values_back_where_the_maxima_were():
    x = torch.tensor([[[[9., 0., 0., 0.],
                        [0., 0., 8., 0.],
                        [0., 7., 0., 0.],
                        [0., 0., 0., 6.]]]]).expand(1, 4, 4, 4)
    down, up = Down(4, 8, dropout=0.1).eval(), Up(8, 4, dropout=0.1).eval()
    with torch.no_grad():
        for block in (down, up):
            block.branch[-2].weight.zero_()                         # the branch adds nothing
        up.main[0].weight.copy_(torch.eye(4, 8)[:, :, None, None])  # and the main branch keeps the first channels
        halved, places = down(x)
        doubled = up(halved, places)
    torch.testing.assert_close(halved[0, :4], torch.tensor([[9., 8.], [7., 6.]]).expand(4, 2, 2))
    assert not halved[0, 4:].any()
    torch.testing.assert_close(doubled, x, rtol=1e-3, atol=0)       # the norm's epsilon is 0.001


@pytest.mark.parametrize(("length", "dilation", "places"), [
    (3, 1, [-1, 0, 1]), (3, 8, [-8, 0, 8]), (5, 1, [-2, -1, 0, 1, 2])])
def test_enet_s_bottlenecks_look_as_far_as_table_1_says(length, dilation, places):
    torch.manual_seed(0)
    bottleneck = Bottleneck(64, length, dilation, dropout=0.1).eval()
    x = torch.randn(1, 64, 21, 21, requires_grad=True)
    bottleneck(x)[0, :, 10, 10].sum().backward()
    seen = x.grad[0].abs().sum(0) > 0
    expected = torch.zeros(21, 21, dtype=torch.bool)
    rows = torch.tensor(places) + 10
    expected[rows[:, None], rows] = True
    assert torch.equal(seen, expected)


def test_enet_drops_channels_in_training_only():
    torch.manual_seed(0)
    network, x = ENet(width=4), torch.randn(2, 3, 32, 64)
    drops = {name: module.p for name, module in network.named_modules() if isinstance(module, torch.nn.Dropout2d)}
    assert len(drops) == 27  # one for each bottleneck
    for name, p in drops.items():  # 0.01 before bottleneck2.0, 0.1 from there on
        assert p == (0.01 if name.startswith(("downs.0.", "encoder.0.")) else 0.1), name
    with torch.no_grad():
        network.train()
        assert not torch.equal(network(x), network(x))
        network.eval()
        assert torch.equal(network(x), network(x))
