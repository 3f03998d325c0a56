"""The gallery's U-Nets against layers written out as formulas, and the checkerboard against counts by hand."""
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gallery import checkerboard
from gallery.unet import EncoderDecoder, UNet, UNetBilinear, initialize, load_model, transposed
from utils.complexity import profile_model

VARIANTS = [(EncoderDecoder, {}), (UNet, {}), (UNet, {"kernel": 3}), (UNet, {"kernel": 4}), (UNetBilinear, {})]
NAMES = ["EncoderDecoder", "UNet", "UNet-3", "UNet-4", "UNetBilinear"]
each_variant = pytest.mark.parametrize("build, options", VARIANTS, ids=NAMES)


def parameters(network) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


# The counts of figure 1's boxes by hand: a batch norm has 2 numbers a channel, an up-sampling a bias a channel.
ENCODER = (9 * 3 * 64 + 9 * 64 * 64 + 4 * 64
           + 9 * 64 * 128 + 9 * 128 * 128 + 4 * 128
           + 9 * 128 * 256 + 9 * 256 * 256 + 4 * 256
           + 9 * 256 * 512 + 9 * 512 * 512 + 4 * 512
           + 9 * 512 * 1024 + 9 * 1024 * 1024 + 4 * 1024)
SECOND_CONVOLUTIONS = (9 * 512 * 512 + 4 * 512 + 9 * 256 * 256 + 4 * 256  # and both batch norms of a level
                       + 9 * 128 * 128 + 4 * 128 + 9 * 64 * 64 + 4 * 64)
WITH_SKIP = 9 * 1024 * 512 + 9 * 512 * 256 + 9 * 256 * 128 + 9 * 128 * 64
WITHOUT_SKIP = 9 * 512 * 512 + 9 * 256 * 256 + 9 * 128 * 128 + 9 * 64 * 64
UPSAMPLING = 1024 * 512 + 512 * 256 + 256 * 128 + 128 * 64  # for each weight of the kernel
BIASES = 512 + 256 + 128 + 64
HEAD = 64 * 8 + 8


@pytest.mark.parametrize("network, count", [
    (EncoderDecoder, ENCODER + 4 * UPSAMPLING + BIASES + WITHOUT_SKIP + SECOND_CONVOLUTIONS + HEAD),
    (UNet, ENCODER + 4 * UPSAMPLING + BIASES + WITH_SKIP + SECOND_CONVOLUTIONS + HEAD),
    (UNetBilinear, ENCODER + 9 * UPSAMPLING + BIASES + WITH_SKIP + SECOND_CONVOLUTIONS + HEAD)])
def test_parameters_by_hand(network, count):
    with torch.device("meta"):
        assert parameters(network()) == count


def test_parameters_against_the_figures_in_the_docstrings():
    with torch.device("meta"):
        # 31,037,633 is what github.com/milesial/Pytorch-UNet has with transposed convolutions, for one class.
        assert parameters(UNet(num_classes=1)) == 31_037_633
        assert parameters(UNet()) == 31_038_088
        assert parameters(UNet()) - parameters(EncoderDecoder()) == 765 * 64 ** 2
        assert parameters(UNet(kernel=3)) == parameters(UNetBilinear()) == 34_519_688
        assert parameters(UNet(kernel=4)) == 39_393_928


@each_variant
def test_multiply_accumulates_by_hand(build, options):
    # In w^2 H W: 9 for the stem's second convolution; 9/2 + 9 for each of the four levels down; for each of the four up
    # 9 for the second convolution, 9 or 18 for the first, and the up-sampling, whose 2 c c pairs of channels meet a
    # quarter of the output's pixels k^2 times, or all of them 9 times. The stem's and the last convolution are thinner.
    first = 9 if build is EncoderDecoder else 18
    up = 18 if build is UNetBilinear else 2 * options.get("kernel", 2) ** 2 / 4
    per_pixel = 8 * 8 * (9 + 4 * 13.5 + 4 * (9 + first + up)) + 27 * 8 + 8 * 8
    assert profile_model(build(width=8, **options)).dispatched == per_pixel * 256 * 512


def up_transposed(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A transposed convolution as a plain one: zeros between the pixels, the kernel turned by half a turn."""
    kernel = weight.shape[2]
    spread = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    spread[:, :, ::2, ::2] = x
    before = {2: 1, 3: 1, 4: 2}[kernel]  # k - 1 minus the cut: kernels 3 and 4 reach one pixel out of the image
    spread = F.pad(spread, 2 * (before, kernel - 1 - before))
    return F.conv2d(spread, weight.transpose(0, 1).flip(2, 3), bias)


def up_bilinear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Each pixel becomes two in each direction: 3/4 of itself and 1/4 of the nearer neighbor, then a convolution."""
    for dim in (2, 3):
        size = x.shape[dim]
        left = x.index_select(dim, torch.arange(-1, size - 1).clamp(min=0))
        right = x.index_select(dim, torch.arange(1, size + 1).clamp(max=size - 1))
        x = torch.stack([0.75 * x + 0.25 * left, 0.75 * x + 0.25 * right], dim=dim + 1).flatten(dim, dim + 1)
    return F.conv2d(x, weight, bias, padding=1)


def written_out(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """Figure 1 of the paper as formulas, in eval mode, from the weights' names alone."""
    def block(x: Tensor, name: str) -> Tensor:
        for conv, bn in ((0, 1), (3, 4)):
            x = F.conv2d(x, state[f"{name}.{conv}.weight"], padding=1)
            mean, var, scale, shift = (state[f"{name}.{bn}.{key}"][:, None, None]
                                       for key in ("running_mean", "running_var", "weight", "bias"))
            x = ((x - mean) / (var + 1e-5).sqrt() * scale + shift).clamp(min=0)
        return x

    maps = [block(x, "stem")]
    for level in (1, 2, 3, 4):
        x = maps[-1].unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).amax((3, 5))
        maps.append(block(x, f"down{level}.conv"))
    x = maps.pop()
    for level in (3, 2, 1, 0):
        skip, name = maps.pop(), f"up{level}.up"
        if f"{name}.conv.weight" in state:
            x = up_bilinear(x, state[f"{name}.conv.weight"], state[f"{name}.conv.bias"])
        else:
            x = up_transposed(x, state[f"{name}.weight"], state[f"{name}.bias"])
        if state[f"up{level}.conv.0.weight"].shape[1] > x.shape[1]:
            x = torch.cat([skip, x], dim=1)
        x = block(x, f"up{level}.conv")
    return F.conv2d(x, state["head.weight"], state["head.bias"])


@each_variant
def test_logits_are_those_of_the_formulas(build, options):
    torch.manual_seed(0)
    network = build(width=4, num_classes=5, **options)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:  # biases and batch norms start at 0 and 1, where a mistake would not show
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
        network(torch.randn(4, 3, 64, 64))  # moves the batch norms' statistics
        data = torch.randn(2, 3, 48, 80)
        torch.testing.assert_close(network.eval()(data), written_out(network.state_dict(), data), rtol=1e-3, atol=1e-4)


def test_without_its_skips_weights_a_unet_is_the_encoder_decoder():
    plain, network = EncoderDecoder(width=4).eval(), UNet(width=4).eval()
    state = plain.state_dict()
    for level in (0, 1, 2, 3):
        weight = state[f"up{level}.conv.0.weight"]
        state[f"up{level}.conv.0.weight"] = torch.cat([torch.zeros_like(weight), weight], dim=1)
    network.load_state_dict(state)
    data = torch.randn(1, 3, 32, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(data), plain(data))


@each_variant
def test_load_model_finds_the_class_and_the_kernel(build, options, tmp_path):
    network = build(width=3, num_classes=4, **options)
    torch.save(network.state_dict(), tmp_path / "m.pth")
    loaded = load_model(str(tmp_path / "m.pth"))
    assert type(loaded) is build
    assert str(loaded) == str(network)  # the printed layers hold kernels, strides and paddings


def test_the_encoder_takes_over_weights_of_the_lab_s_own_unet():
    from network.network import UNet as LabUNet

    def encoder(network) -> dict[str, torch.Size]:
        return {key: value.shape for key, value in network.state_dict().items() if not key.startswith("up")}

    assert encoder(UNet(width=4)) == encoder(UNetBilinear(width=4)) == encoder(LabUNet(width=4))


def test_other_kernels_are_refused():
    with pytest.raises(ValueError, match="2, 3 or 4, got 5"):
        UNet(width=2, kernel=5)


def test_initialization_counts_what_a_pixel_reaches():
    layer = transposed(64, 32, kernel=4)
    initialize(layer)
    assert layer.weight.std().item() == pytest.approx((2 / (32 * 4 * 4)) ** 0.5, rel=0.03)  # He et al., equation 14
    assert not layer.bias.any()


@pytest.mark.parametrize("name, kernel, cut", [("transposed 3x3, stride 2", 3, 1), ("transposed 2x2, stride 2", 2, 0),
                                              ("transposed 4x4, stride 2", 4, 1)])
def test_contributions_are_those_of_painting_by_hand(name, kernel, cut):
    painted = torch.zeros(40, 40, dtype=torch.int64)
    for row in range(10):  # each input pixel paints a square of kernel x kernel, two pixels from its neighbor's
        for column in range(10):
            painted[2 * row:2 * row + kernel, 2 * column:2 * column + kernel] += 1
    painted = painted[cut:, cut:][6:12, 6:12]
    assert torch.equal(checkerboard.count_contributions(checkerboard.UPSAMPLINGS[name]), painted)


def test_contributions_of_a_resize_and_a_convolution_are_nine():
    counted = checkerboard.count_contributions(checkerboard.UPSAMPLINGS["bilinear, then 3x3"], side=8)
    assert torch.equal(counted, torch.full((8, 8), 9))


def test_the_measures_on_maps_made_by_hand():
    rows, columns = torch.meshgrid(torch.arange(16.), torch.arange(16.), indexing="ij")
    board = (rows + columns) % 2
    large = (rows // 2 + columns // 2) % 2     # a board of 2x2 fields: constant in each block
    both = board + large                       # independent of each other and equally strong
    share = checkerboard.share_in_blocks(torch.stack([board, large, both, columns % 2]))
    torch.testing.assert_close(share, torch.tensor([1., 0., 0.5, 1.]))
    torch.manual_seed(0)
    assert checkerboard.share_in_blocks(torch.randn(64, 32, 32)).mean() == pytest.approx(0.75, abs=0.01)
    # phases of 2, 4, 4 and -6: the strongest by its size is three times the weakest
    tile = torch.tensor([[2., 4.], [4., -6.]]).repeat(4, 4)
    assert checkerboard.phase_ratio(tile[None]) == pytest.approx(3)


def test_responses_follow_from_the_seed_alone():
    upsampling = checkerboard.UPSAMPLINGS["transposed 2x2, stride 2"]
    torch.manual_seed(5)
    first, after = checkerboard.respond(upsampling, 0), torch.rand(1)
    torch.manual_seed(6)
    again, other = checkerboard.respond(upsampling, 0), checkerboard.respond(upsampling, 1)
    assert first.shape == (16, 48, 48)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1))


def test_the_checkerboard_is_drawn_and_only_the_resize_is_free_of_it():
    figure = checkerboard.plot_checkerboard()
    figure.draw_without_rendering()
    assert len(figure.axes) == 3 * 4
    below = [[ax.get_xlabel() for ax in figure.axes[row:row + 4]] for row in (0, 4, 8)]
    assert below[0] == ["1, 2, 4: uneven", "1: even", "4: even", "9: even"]
    shares = [float(text.split("%")[0]) for text in below[1]]
    assert min(shares[:3]) > 70 and shares[3] < 1
    # One layer with random weights of variance v answers a constant c with a variance of c^2 v a contribution: 4 of
    # them beside 1 are twice as much in the root.
    ratios = [float(text.split("= ")[1].split(" :")[0]) for text in below[2]]
    assert ratios == pytest.approx([2, 1, 1, 1], abs=0.05)
