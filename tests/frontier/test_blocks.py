"""The other blocks of task 2's comparison: their arithmetic, their files of weights, and training in a kit."""
import inspect
import json
import shutil
import sys

import pytest
import torch
from conftest import ROOT, load_file, run_command
from torch import nn
from torch.nn import functional as F

from frontier import blocks
from frontier.ladder import BLOCKS_FILE, Ladder
from utils.complexity import profile_model
from utils.evaluation import load_network
from utils.lab import LabError

ROW = ((8, 8, 16), (1, 1, 1), 1)
MACS = {  # a pixel, for c channels
    "separable": lambda c: c * (9 + c), "chain": lambda c: c * (9 + c), "plain": lambda c: 9 * c * c,
    "grouped": lambda c: 9 * c * c / 4 + c * c, "squeeze": lambda c: (1 / 4 + 9 / 16 + 1 / 4) * c * c,
    "partition": lambda c: c / 2 * (9 + c / 2) + c * c, "attention": lambda c: c * (9 + c),
    "dense": lambda c: c * (9 + c) + 2 * c * c}


@pytest.mark.parametrize("name", MACS)
@pytest.mark.parametrize("dilation", [1, 4])
def test_a_blocks_arithmetic_is_that_of_its_docstring(name, dilation):
    width, (h, w) = 24, (16, 32)
    block = nn.Sequential(nn.Conv2d(3, width, 1), blocks.BLOCKS[name](width, dilation))
    profile = profile_model(blocks.deploy(block), (h, w))
    once_an_image = width * width // 2 if name == "attention" else 0
    assert profile.dispatched == (3 * width + MACS[name](width)) * h * w + once_an_image
    assert block(torch.zeros(2, 3, h, w)).shape == (2, width, h, w)


def test_what_network_names_is_built_of_that_block():
    assert list(blocks.OTHERS) == [name for name in MACS if name != "separable"]
    for name in blocks.OTHERS:
        network = getattr(blocks, name)(rung="stretch")
        assert network.rung.block == name and {type(block) for block in network.stage16.blocks} == {blocks.OTHERS[name]}


@pytest.mark.parametrize("store", ["float32", "float16", "int8"])
@pytest.mark.parametrize("name", blocks.OTHERS)
def test_a_step_of_training_then_saved_and_loaded_back_from_the_file(name, store, tmp_path):
    torch.manual_seed(0)
    network = getattr(blocks, name)(rung=ROW, branches=1, num_classes=5)
    data, target = torch.randn(2, 3, 64, 64), torch.randint(5, (2, 64, 64))
    optimizer = torch.optim.SGD(network.parameters(), 1e-2)
    F.cross_entropy(network(data), target).backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())
    optimizer.step()
    with torch.no_grad():
        expected = network.eval()(data)
        deployed = blocks.deploy(network, store=store)
        torch.save(deployed.state_dict(), tmp_path / "m.pth")
        loaded = load_network(BLOCKS_FILE).load_model(str(tmp_path / "m.pth")).eval()
        assert torch.equal(loaded(data), deployed(data)) and loaded.rung.block == name
    bound = {"float32": 1e-4, "float16": 2e-2, "int8": 0.2}[store]
    assert (loaded(data) - expected).abs().max() <= bound * expected.abs().max()


def test_a_block_that_was_copied_into_the_own_file_loads_from_there(tmp_path):
    source = (ROOT / "network2/network.py").read_text(encoding="utf-8")
    table = 'BLOCKS = {"separable": Separable}'
    assert source.count(table) == 1
    copied = f'{inspect.getsource(blocks.SqueezeExcite)}\n\n{table[:-1]}, "attention": SqueezeExcite}}'
    (tmp_path / "network.py").write_text(source.replace(table, copied), encoding="utf-8")
    trained, own = blocks.deploy(blocks.attention(rung=ROW)), load_file(tmp_path / "network.py")
    torch.save(trained.state_dict(), tmp_path / "m.pth")
    data = torch.randn(1, 3, 32, 64)
    with torch.no_grad():
        assert torch.equal(own.load_model(str(tmp_path / "m.pth")).eval()(data), trained(data))
        assert own.LowComplexityNet(own.Rung(*ROW, True, "attention"))(data).shape == (1, 8, 32, 64)


def test_a_network_without_the_hand_outs_parts_is_told_what_is_missing(monkeypatch):
    ladder = Ladder()
    for name in ("frontier.blocks", "network2.network"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.delattr("frontier.blocks")
    monkeypatch.setitem(sys.modules, "network2", type(sys)("network2"))
    monkeypatch.setitem(sys.modules, "network2.network", type(sys)("network2.network"))
    sys.modules["network2"].network = sys.modules["network2.network"]
    with pytest.raises(LabError, match=r"^expected the hand-out's names in network2/network.py.*'BLOCKS'"):
        ladder.read("safe,block=grouped")


@pytest.mark.long
def test_a_released_kit_trains_one_of_each(tmp_path, sample):
    """The kit as a student has it who has filled in everything: the reference's files, one epoch, four images."""
    from grading.kit.archive import unpack_archive
    from grading.kit.contents import STUDENTS
    from grading.kit.release import release

    unpack_archive(release(ROOT, tmp_path / "Lab.tar", trial=False).out, "tar", tmp_path)
    kit = tmp_path / "Lab"
    stub = run_command("-m", "frontier", "plan", cwd=kit, PYTHONPATH=str(kit))
    assert (stub.status, stub.stdout) == (2, "") and "still to be written" in stub.stderr.splitlines()[-1]
    for name in STUDENTS:
        shutil.copy(ROOT / name, kit / name)
    done = run_command("-m", "frontier", "blocks", "8/8/16,0/0/1", "--seeds", 1, "--epochs", 1, "--jobs", 2, "--data",
                       sample, "-p", "TEACHER", None, "-p", "BATCH_SIZE", 2, "-p", "DEVICE", "cpu", cwd=kit,
                       timeout=1800, PYTHONPATH=str(kit))
    assert done.status == 0, done.stderr
    results = [json.loads(path.read_text()) for path in kit.glob("runs/frontier/*/seed-1/result.json")]
    assert {result["rung"][-1] for result in results} == set(MACS)
    assert all(result["flops"] == result["macs"] and 0 < result["miou"] < 1 for result in results)
    assert done.stderr.count("is not timed") == 0   # each was loaded back by its own file
