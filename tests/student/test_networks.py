"""What each network file must hold to, whatever is built in it. `build` makes the network as the notebook does."""
import ast
import os
import shutil
import subprocess
import sys

import pytest
import torch

from student.networks import FILES, build, handed_in, load, standard_or_torch
from utils.complexity import count_flops, count_size

both_tasks = pytest.mark.parametrize("number", FILES)


@both_tasks
@pytest.mark.parametrize("size", [(256, 512), (64, 128)])
def test_logits_have_the_inputs_size(number, size):
    network = build(number).eval()
    with torch.no_grad():
        logits = network(torch.randn(2, 3, *size))
    assert logits.shape == (2, 8, *size), "expected a score for each of the 8 categories at each pixel: (N, 8, H, W)"
    assert logits.isfinite().all()


@both_tasks
def test_every_parameter_gets_a_gradient(number):
    network = build(number).train()
    network(torch.randn(2, 3, 64, 128)).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, f"{name} has no part in the output: is its layer used in forward?"
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, f"{name} does not change the output"


@both_tasks
def test_a_picture_does_not_depend_on_the_others_of_its_batch(number):
    network = build(number).eval()
    data = torch.randn(3, 3, 64, 128)
    with torch.no_grad():
        together, alone = network(data)[:1], network(data[:1])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-3 * alone.abs().max().item())


@both_tasks
def test_load_model_gives_the_same_logits(number, tmp_path):
    network = handed_in(number)
    torch.save(network.state_dict(), tmp_path / "model.pth")
    loaded = load(number).load_model(str(tmp_path / "model.pth")).eval()
    data = torch.randn(1, 3, 64, 128)
    with torch.no_grad():
        assert torch.equal(loaded(data), network(data))


@both_tasks
def test_load_model_is_strict(number, tmp_path):
    path = tmp_path / "model.pth"
    state = handed_in(number).state_dict()
    torch.save(state, path)
    load(number).load_model(str(path))
    for wrong in (dict(list(state.items())[:-1]), {**state, "extra": torch.zeros(1)}):
        torch.save(wrong, path)
        with pytest.raises(RuntimeError, match="state_dict"):
            load(number).load_model(str(path))


@both_tasks
def test_file_works_alone_in_an_empty_folder(number, tmp_path):
    shutil.copy(FILES[number], tmp_path / "submitted.py")
    torch.save(handed_in(number).state_dict(), tmp_path / "model.pth")
    load(number).load_model(str(tmp_path / "model.pth")).eval()(torch.zeros(1, 3, 64, 128))
    program = ("import submitted, sys, torch; model = submitted.load_model('model.pth').eval(); "
               "print(tuple(model(torch.zeros(1, 3, 256, 512)).shape)); "
               "print(sorted({'utils', 'dataset', 'training', 'figures'} & set(sys.modules)))")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False,
                          env=environment)
    assert done.returncode == 0, f"the file needs more than itself:\n{done.stderr}"
    assert done.stdout.splitlines() == ["(1, 8, 256, 512)", "[]"]


@both_tasks
def test_file_imports_only_torch_and_the_standard_library(number):
    names = set()
    for node in ast.walk(ast.parse(FILES[number].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("." * node.level + (node.module or ""))
    assert "torch" in names
    assert not sorted(name for name in names if not standard_or_torch(name))


@both_tasks
def test_work_is_counted_and_nothing_is_printed(number, capfd):
    network = build(number).eval()
    with torch.no_grad():
        network(torch.zeros(1, 3, 64, 128))
    assert capfd.readouterr().out == "", "what the network prints would stand between the graded lines"
    assert count_flops(network) > 0
    assert count_size(network) > 0
