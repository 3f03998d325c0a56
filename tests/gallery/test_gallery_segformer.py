"""SegFormer-B0 against transformers' implementation, its published costs, and what its parts are for."""
import re

import pytest
import torch
from torch import nn

from gallery.segformer import Attention, Block, SegFormerB0
from utils.complexity import profile_model

# Our names and transformers'; a stage and a block keep their numbers.
NAMES = (
    (r"backbone\.", "segformer."),
    (r"\.embed\.conv\.", ".patch_embeddings.proj."),
    (r"\.embed\.norm\.", ".patch_embeddings.layer_norm."),
    (r"\.attention\.reduce\.", ".attention.sequence_reduction.sequence_reduction."),
    (r"\.attention\.norm\.", ".attention.sequence_reduction.layer_norm."),
    (r"\.attention\.(query|key|value)\.", lambda match: f".attention.{match[1][0]}_proj."),
    (r"\.attention\.project\.", ".attention.o_proj."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.ffn\.expand\.", ".mlp.fc1."),
    (r"\.ffn\.conv_dw\.", ".mlp.dwconv.dwconv."),
    (r"\.ffn\.reduce\.", ".mlp.fc2."),
    (r"(stages\.\d)\.norm\.", r"\1.layer_norm."),
    (r"^unify\.(\d)\.", r"decode_head.linear_projections.\1.proj."),
    (r"^fuse\.0\.", "decode_head.linear_fuse."),
    (r"^fuse\.1\.", "decode_head.batch_norm."),
    (r"^classifier\.", "decode_head.classifier."),
)


def theirs(name: str) -> str:
    for pattern, replacement in NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def randomise(network: nn.Module) -> None:
    """Every parameter and statistic away from where a new network has them; the scales and variances positive."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and (tensor.ndim == 1 or name.endswith("running_var")):
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))


@pytest.mark.parametrize("width", (32, 8))
def test_segformer_is_that_of_transformers(width):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    oracle = transformers.SegformerForSemanticSegmentation(transformers.SegformerConfig(
        num_labels=8, hidden_sizes=[width, 2 * width, 5 * width, 8 * width], decoder_hidden_size=8 * width)).eval()
    network = SegFormerB0(width=width).eval()
    assert parameters(network) == parameters(oracle)

    randomise(oracle)
    state_dict = oracle.state_dict()
    assert {theirs(name) for name in network.state_dict()} == set(state_dict)
    network.load_state_dict({name: state_dict[theirs(name)] for name in network.state_dict()})
    data = torch.randn(2, 3, 64, 128)
    with torch.no_grad():
        maps = network.backbone(data)
        expected_maps = oracle.segformer(data, output_hidden_states=True).hidden_states
        # theirs end at stride 4
        expected = nn.functional.interpolate(oracle(data).logits, scale_factor=4, mode="bilinear", align_corners=False)
        logits = network(data)
    for found, wanted in zip(maps, expected_maps, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert logits.std() > 0.1  # a network that says the same of every pixel would prove nothing
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_segformer_costs_what_its_authors_published():
    # Table 1a, with the 150 classes of ADE20K at 512 x 512: 3.8 M parameters, of them 0.4 M in the head, and 8.4
    # GFLOPs, which are multiply-accumulates. Its 3.4 M for the encoder are 3.32 M here and in transformers.
    network = SegFormerB0(num_classes=150)
    assert parameters(network) == pytest.approx(3.8e6, abs=0.05e6)
    assert parameters(network) - parameters(network.backbone) == pytest.approx(0.4e6, abs=0.05e6)
    profile = profile_model(network, (512, 512))
    assert profile.dispatched == pytest.approx(8.4e9, abs=0.05e9)
    # What thop does not see are the two products of the attention, and nothing else: for hw tokens of C channels
    # 2 C (hw)^2 / R^2. At strides 4 to 32 hw is 128^2, 64^2, 32^2 and 16^2, R is 8, 4, 2 and 1; two blocks each.
    assert [name.rpartition(".")[2] for name in profile.unseen] == 8 * ["attention"]
    products = 2 * sum(2 * channels * tokens ** 2 // reduction ** 2 for channels, tokens, reduction in (
        (32, 128 ** 2, 8), (64, 64 ** 2, 4), (160, 32 ** 2, 2), (256, 16 ** 2, 1)))
    assert sum(profile.dispatched_by_module[name] for name in profile.unseen) == products


def test_segformer_s_attention_is_torch_s():
    torch.manual_seed(0)
    attention, oracle = Attention(16, heads=4, reduction=1), nn.MultiheadAttention(16, 4, batch_first=True)
    parts = (attention.query, attention.key, attention.value)
    with torch.no_grad():
        oracle.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        oracle.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        oracle.out_proj.load_state_dict(attention.project.state_dict())
        x = torch.randn(2, 3, 5, 16)
        tokens = x.flatten(1, 2)
        torch.testing.assert_close(attention(x).flatten(1, 2), oracle(tokens, tokens, tokens)[0])


def test_segformer_s_attention_sees_the_whole_image_at_once():
    attention = Attention(8, heads=1, reduction=4)
    x = torch.randn(1, 8, 16, 8, requires_grad=True)
    attention(x)[0, 0, 0].sum().backward()
    assert (x.grad != 0).all()


def test_segformer_s_tokens_learn_their_place_from_the_border():
    # The same token everywhere: attention gives the same everywhere, the Mix-FFN, which sees the zeros beyond the
    # border, something else along it.
    torch.manual_seed(0)
    block = Block(8, heads=2, reduction=1).eval()
    x = torch.randn(8).expand(1, 6, 7, 8)
    with torch.no_grad():
        attended, mixed = block.attention(x), block.ffn(x)
    torch.testing.assert_close(attended, attended[:, :1, :1].expand_as(attended))
    inside = mixed[:, 1:-1, 1:-1]
    torch.testing.assert_close(inside, inside[:, :1, :1].expand_as(inside))
    for row, column in ((0, 0), (0, 3), (3, 0), (5, 6)):
        assert not torch.allclose(mixed[0, row, column], inside[0, 0, 0])
