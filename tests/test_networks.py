"""Both network files: shapes, gradients, strict reload, and life as one copied file in an empty folder."""
import os
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import ROOT, load_file

from utils.complexity import count_flops, count_size

FILES = {1: ROOT / "network/network.py", 2: ROOT / "network2/network.py"}


def build(number: int, **options):
    module = load_file(FILES[number])
    return module.UNet(**{"width": 4, **options}) if number == 1 else module.LowComplexityNet(**options)


@pytest.mark.parametrize("number", FILES)
@pytest.mark.parametrize("size", [(256, 512), (64, 96), (16, 32)])
def test_logits_have_the_inputs_size(number, size):
    network = build(number).eval()
    with torch.no_grad():
        logits = network(torch.randn(2, 3, *size))
    assert logits.shape == (2, 8, *size)
    assert logits.isfinite().all()


@pytest.mark.parametrize("number", FILES)
def test_every_parameter_gets_a_gradient(number):
    network = build(number).train()
    network(torch.randn(2, 3, 64, 128)).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("number", FILES)
@pytest.mark.parametrize("shape", [(1, 3, 40, 64), (1, 3, 64, 40), (1, 1, 64, 64), (3, 64, 64)])
def test_other_inputs_are_refused_in_words(number, shape):
    with pytest.raises(ValueError, match="divisible by 16"):
        build(number)(torch.zeros(shape))


@pytest.mark.parametrize(("number", "options"), [
    (1, {"width": 4}), (1, {"width": 6}), (2, {}), (2, {"widths": (8, 12, 16)})])
def test_load_model_reads_the_width_back_and_gives_the_same_logits(number, options, tmp_path):
    network = build(number, **options).eval()
    torch.save(network.state_dict(), tmp_path / "m.pth")
    loaded = load_file(FILES[number]).load_model(str(tmp_path / "m.pth")).eval()
    data = torch.randn(1, 3, 32, 64)
    with torch.no_grad():
        assert torch.equal(loaded(data), network(data))


@pytest.mark.parametrize("number", FILES)
def test_load_model_is_strict(number, tmp_path):
    state = build(number).state_dict()
    dropped = dict(list(state.items())[:-1])
    added = {**state, "extra": torch.zeros(1)}
    for wrong in (dropped, added):
        torch.save(wrong, tmp_path / "m.pth")
        with pytest.raises(RuntimeError, match="state_dict"):
            load_file(FILES[number]).load_model(str(tmp_path / "m.pth"))


@pytest.mark.parametrize("number", FILES)
def test_file_works_alone_in_an_empty_folder(number, weights, tmp_path):
    shutil.copy(FILES[number], tmp_path / "submitted.py")
    shutil.copy(weights[number], tmp_path / "m.pth")
    program = ("import sys, submitted, torch; model = submitted.load_model('m.pth').eval(); "
               "print(tuple(model(torch.zeros(1, 3, 256, 512)).shape)); "
               "print(sorted({'utils', 'dataset', 'training', 'figures'} & set(sys.modules)))")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True,
                          env=environment)
    assert done.stdout.splitlines() == ["(1, 8, 256, 512)", "[]"]


@pytest.mark.parametrize("number", FILES)
def test_network_files_import_only_torch_and_the_standard_library(number):
    import ast

    roots = set()
    for node in ast.walk(ast.parse(FILES[number].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            roots.add(node.module.split(".")[0])
    assert roots - set(sys.stdlib_module_names) == {"torch"}


def test_unet_uses_its_skips_and_sees_the_whole_level():
    network = build(1).eval()
    data = torch.randn(1, 3, 64, 64, requires_grad=True)
    network(data)[0, 0, 32, 32].backward()
    reach = data.grad[0].abs().sum(0) > 0
    assert reach[32, 32] and reach.float().mean() > 0.9  # both the pixel itself and far context


def test_task2_is_within_its_budget():
    network = build(2).eval()
    assert count_flops(network) <= 100e6
    assert count_size(network) <= 200
