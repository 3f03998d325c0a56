"""What each network file must do, whatever network is in it: the lab's contract, for images of 256 x 512."""
import ast
import os
import shutil
import subprocess
import sys

import pytest
import torch

from student.networks import FILES, build, deploy, load, standard_or_torch
from utils.complexity import count_flops, count_size
from utils.graph.errors import GraphError
from utils.graph.proof import prove
from utils.lab import INPUT_SIZE, NUM_CLASSES, ROOT

both_tasks = pytest.mark.parametrize("number", FILES)


@both_tasks
def test_logits_have_the_inputs_size_and_depend_on_their_own_image(number):
    network = build(number)
    network.eval()
    data = torch.randn(2, 3, *INPUT_SIZE)
    with torch.no_grad():
        together, alone = network(data), network(data[:1])
    assert together.shape == (2, NUM_CLASSES, *INPUT_SIZE), "expected a score of each category at each pixel"
    assert together.isfinite().all()
    torch.testing.assert_close(together[:1], alone, rtol=1e-3, atol=1e-3 * alone.abs().max().item())


@both_tasks
def test_every_parameter_gets_a_gradient(number):
    network = build(number)
    network.train()
    network(torch.randn(2, 3, *INPUT_SIZE)).square().mean().backward()
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, f"{name} has no part in the output: is its layer used in forward?"
            assert parameter.grad.isfinite().all(), name


@both_tasks
def test_load_model_gives_the_same_logits_and_is_strict(number, tmp_path):
    module, path = load(number), str(tmp_path / "model.pth")
    network = deploy(module, build(number))
    state, data = network.state_dict(), torch.randn(1, 3, *INPUT_SIZE)
    torch.save(state, path)
    loaded = module.load_model(path)
    loaded.eval()
    with torch.no_grad():
        assert torch.equal(loaded(data), network(data))
    for wrong in (dict(list(state.items())[:-1]), {**state, "extra": torch.zeros(1)}):
        torch.save(wrong, path)
        with pytest.raises((RuntimeError, KeyError)):
            module.load_model(path)


@both_tasks
def test_the_grader_can_replay_it_without_its_code(number):
    network = deploy(load(number), build(number))
    try:
        proved = prove(network)
    except GraphError as error:  # which is allowed: a person then decides about its rank
        pytest.skip(str(error))
    assert proved.differing < 1e-3
    assert proved.macs > 0 and proved.size_kb > 0


@both_tasks
def test_file_works_alone_in_an_empty_folder(number, tmp_path):
    shutil.copy(FILES[number], tmp_path / "submitted.py")
    torch.save(deploy(load(number), build(number)).state_dict(), tmp_path / "model.pth")
    load(number).load_model(str(tmp_path / "model.pth"))
    program = ("import submitted, sys, torch; model = submitted.load_model('model.pth'); model.eval(); "
               "print(tuple(model(torch.zeros(1, 3, 256, 512)).shape)); print(*sys.modules)")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False,
                          env=environment)
    assert done.returncode == 0, f"the file needs more than itself:\n{done.stderr}"
    shape, modules = done.stdout.splitlines()
    assert shape == "(1, 8, 256, 512)"
    assert not {room.name for room in ROOT.iterdir() if (room / "__init__.py").is_file()} & set(modules.split())


@both_tasks
def test_file_imports_only_torch_and_the_standard_library(number):
    names = set()
    for node in ast.walk(ast.parse(FILES[number].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("." * node.level + (node.module or ""))
    assert "torch" in {name.split(".")[0] for name in names}
    assert not sorted(name for name in names if not standard_or_torch(name))


@both_tasks
def test_work_is_counted_and_nothing_is_printed(number, capfd):
    network = build(number)
    size = count_size(network)
    flops = count_flops(network)
    assert capfd.readouterr().out == "", "what the network prints would stand between the graded lines"
    assert flops > 0 and size > 0
