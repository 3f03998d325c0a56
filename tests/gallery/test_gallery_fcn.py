"""The gallery's FCNs: their sums are those of torchvision's ResNet-18 and torch's functions with the same weights."""
import pytest
import torch
from torch.nn import functional as F
from torchvision.models import resnet18
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.models.segmentation.fcn import FCNHead

from gallery.fcn import FCN8s, FCN16s, FCN32s, bilinear_kernel

NETWORKS = {32: FCN32s, 16: FCN16s, 8: FCN8s}  # by the stride of the finest scores


def parameters(network) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def stretched(x, factor):
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


@pytest.mark.parametrize("factor", [2, 3, 8, 16, 32])
def test_the_kernel_is_what_interpolation_makes_of_one_pixel(factor):
    pixel = torch.zeros(1, 1, 3, 3)
    pixel[0, 0, 1, 1] = 1
    around = stretched(pixel, factor)
    seen = (around[0, 0].amax(dim=0) > 1e-6).nonzero().flatten()  # a third is not exact: nor are the zeros
    first, last = int(seen[0]), int(seen[-1]) + 1
    torch.testing.assert_close(bilinear_kernel(factor), around[..., first:last, first:last])


@pytest.mark.parametrize("factor", [2, 3, 8, 16, 32])
def test_a_transposed_convolution_with_the_kernel_is_bilinear(factor):
    scores = torch.randn(2, 1, 4, 5)
    up = F.conv_transpose2d(scores, bilinear_kernel(factor), stride=factor, padding=factor // 2)
    assert up.shape == (2, 1, 4 * factor, 5 * factor)
    inside = (..., slice(factor // 2, -(factor // 2)), slice(factor // 2, -(factor // 2)))
    torch.testing.assert_close(up[inside], stretched(scores, factor)[inside])


def test_fading_towards_the_border_leaves_the_most_probable_class():
    network = FCN32s(width=16).eval()
    with torch.no_grad():
        data = torch.randn(2, 3, 64, 128)
        logits = network(data)
        bilinear = stretched(network.scores[0](network.backbone(data)[-1]), 32)
    # Of a pixel 0.5, 1.5, ... 15.5 from the border, the nearest source pixel's center is 15.5, 14.5, ... 0.5 away and
    # has that much less than a weight of 1; the rest would be due to a pixel beyond the border.
    fading = 1 - torch.arange(15.5, 0, -1) / 32
    rows, columns = (torch.cat([fading, torch.ones(length - 32), fading.flip(0)]) for length in (64, 128))
    torch.testing.assert_close(logits, bilinear * torch.outer(rows, columns))
    assert torch.equal(logits.argmax(dim=1), bilinear.argmax(dim=1))


def test_the_scores_of_three_strides_are_summed_up_as_in_figure_3():
    torch.manual_seed(0)
    network = FCN8s(num_classes=5).train()
    data = torch.randn(2, 3, 64, 128)
    network(data)  # moves the batch norms' statistics away from where a new network has them
    network.eval()
    with torch.no_grad():
        for double in network.doubles:  # as if trained: no kernel like another, and classes that see each other
            double.weight += 0.1 * torch.randn_like(double.weight)

    theirs = resnet18(weights=None)
    missing, unexpected = theirs.load_state_dict(network.backbone.state_dict(), strict=False)
    assert (missing, unexpected) == (["fc.weight", "fc.bias"], [])
    features = create_feature_extractor(theirs.eval(), ["layer2", "layer3", "layer4"])
    weights = network.state_dict()
    with torch.no_grad():
        maps = features(data)
        score = [F.conv2d(maps[f"layer{4 - i}"], weights[f"scores.{i}.weight"], weights[f"scores.{i}.bias"])
                 for i in range(3)]
        at16 = F.conv_transpose2d(score[0], weights["doubles.0.weight"], stride=2, padding=1) + score[1]
        at8 = F.conv_transpose2d(at16, weights["doubles.1.weight"], stride=2, padding=1) + score[2]
        assert at8.shape == (2, 5, 8, 16)
        logits = network(data)
    torch.testing.assert_close(logits[..., 4:-4, 4:-4], stretched(at8, 8)[..., 4:-4, 4:-4], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("finest", NETWORKS)
def test_no_detail_is_finer_than_the_finest_scores(finest):
    torch.manual_seed(0)
    network = NETWORKS[finest](width=16).double().eval()
    with torch.no_grad():
        logits = network(torch.randn(1, 3, 64, 128, dtype=torch.float64))
    # Between two scores' centers the logits run straight along a row: they bend by a center, once in `finest` pixels.
    bends = logits.diff(dim=3).diff(dim=3)[0].abs().amax(dim=(0, 1)) > 1e-9
    assert bends.any()
    places = bends.nonzero().flatten() % finest
    assert sorted(set(places.tolist())) == [finest // 2 - 2, finest // 2 - 1]


def test_the_inner_steps_start_bilinear_and_learn_and_the_last_one_does_not():
    torch.manual_seed(0)
    network = FCN8s(width=8).train()
    scores = torch.randn(1, 8, 3, 4)
    with torch.no_grad():
        torch.testing.assert_close(network.doubles[0](scores)[..., 1:-1, 1:-1], stretched(scores, 2)[..., 1:-1, 1:-1])
    before = {name: tensor.clone() for name, tensor in network.named_buffers() if name == "kernel"}
    assert "kernel" in before and "kernel" not in network.state_dict()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    F.cross_entropy(network(torch.randn(2, 3, 64, 64)), torch.randint(0, 8, (2, 64, 64))).backward()
    doubles = [double.weight.clone() for double in network.doubles]
    optimizer.step()
    assert torch.equal(network.kernel, before["kernel"])
    assert all(not torch.equal(double.weight, weight) for double, weight in
               zip(network.doubles, doubles, strict=True))


def test_a_finer_network_takes_over_a_coarser_one_s_weights():
    torch.manual_seed(0)
    coarse, fine = FCN32s(width=8).eval(), FCN16s(width=8).eval()
    missing, unexpected = fine.load_state_dict(coarse.state_dict(), strict=False)
    assert unexpected == [] and missing == ["scores.1.weight", "scores.1.bias", "doubles.0.weight"]
    torch.nn.init.zeros_(fine.scores[1].weight)  # section 4.2: it starts with the predictions of the coarser one
    data = torch.randn(1, 3, 128, 128)
    inside = (..., slice(32, -32), slice(32, -32))
    with torch.no_grad():
        twice = stretched(stretched(coarse.scores[0](coarse.backbone(data)[-1]), 2), 16)
        torch.testing.assert_close(fine(data)[inside], twice[inside])
        # Doubled and then stretched by 16 is not quite stretched by 32: the bends at the centers are rounded off.
        assert (coarse(data) - twice)[inside].abs().mean() < 0.1 * twice[inside].std()


def test_the_parameters_are_resnet_18_s_and_the_scores():
    features = parameters(resnet18(weights=None)) - (512 * 1000 + 1000)
    score = {stride: channels * 8 + 8 for stride, channels in ((32, 512), (16, 256), (8, 128))}
    double = 8 * 8 * 4 * 4
    assert parameters(FCN32s()) == features + score[32]
    assert parameters(FCN16s()) == features + score[32] + score[16] + double
    assert parameters(FCN8s()) == features + score[32] + score[16] + score[8] + 2 * double
    # torchvision's head of the same name convolves first, 3x3 to a quarter of the channels, and normalizes.
    assert parameters(FCNHead(512, 8)) == 9 * 512 * 128 + 2 * 128 + 128 * 8 + 8
