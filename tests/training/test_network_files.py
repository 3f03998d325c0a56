"""A network file in the notebook: another one by its name, what it may offer, and what is found out before training."""
import sys

import pytest
import torch

from handin.probe import import_alone
from training.networks import NetworkFile, building, choose_network, named_network, show_shapes
from training.settings import Settings
from utils.evaluation import load_network
from utils.lab import ROOT, TASKS, LabError


def test_a_network_of_the_gallery_is_found_made_and_loaded_back(tmp_path):
    torch.manual_seed(0)
    found = named_network("gallery.sinet:SINet")
    assert found.file.path == ROOT / "gallery/sinet.py"
    torch.save(found.network.state_dict(), tmp_path / "m.pth")
    data = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(found.file.load(tmp_path / "m.pth")(data), found.network.eval()(data))


def test_options_are_passed_on_and_may_stand_in_the_name():
    assert named_network("network.network:UNet", width=4).network.head.in_channels == 4
    head = named_network("network.network:UNet(width=6)", num_classes=3).network.head
    assert (head.in_channels, head.out_channels) == (6, 3)


@pytest.mark.parametrize(("name", "message"), [
    ("SINet", "expected a network as module:Class"), ("a b:C", "expected a network as module:Class"),
    (7, "expected a network as module:Class"), ("gallery.none:Net", "found none called 'gallery.none'"),
    ("gallery.sinet:Nothing", "expected Nothing in gallery.sinet"),
    ("utils.metric:ConfusionMatrix", "expected load_model in utils.metric"),
    ("gallery.sinet:SINet(5)", "expected a network as module:Class"),
    ("gallery.sinet:SINet(num_classes=open('x'))", "expected a network as module:Class"),
    ("gallery.sinet:SINet(depth=5)", "expected a network that can be built of NETWORK, found .*depth"),
    ("gallery.deeplab:DeepLabV3(output_stride=5)", "expected a network that can be built of NETWORK"),
    ("figures.report.baseline:ClassFrequency", "expected a network with weights to train"),
    ("gallery.sinet:load_model", "expected a network that can be built of NETWORK")])
def test_what_is_no_network_is_named(name, message):
    with pytest.raises(LabError, match=message):
        named_network(name)


@pytest.mark.parametrize(("name", "training"), [("gallery.enet:ENet", True), ("network.network:UNet(width=4)", False)])
def test_what_can_be_saved_and_read_back_goes_on_as_it_was(name, training):
    found = named_network(name)
    found.network.train(training)
    before = torch.get_rng_state()
    found.file.check(found.network)
    assert torch.equal(torch.get_rng_state(), before)
    assert found.network.training == training


FILE = """
import torch
class Net(torch.nn.Conv2d):
    def __init__(self):
        super().__init__(3, 8, 1)
def load_model(MODEL_PATH):
    network = Net()
    {load}
    return network
"""


@pytest.mark.parametrize(("load", "message"), [
    ("network.load_state_dict(torch.load(MODEL_PATH))", None),
    # of the largest logit, 3.5, not a thousandth: as much as a GPU's rounding differs with the layout in memory
    ("network.load_state_dict(torch.load(MODEL_PATH)); network.bias.data += 2e-3", None),
    ("network.load_state_dict(torch.load(MODEL_PATH)); network.bias.data += 1e-1", "one with other logits"),
    ("pass", "to give back the network that was saved, found one with other logits"),
    ("torch.nn.Linear(3, 8).load_state_dict(torch.load(MODEL_PATH))", "size mismatch for weight"),
    ("network = None", "expected load_model to return a torch.nn.Module"),
    ("raise NotImplementedError('still to be written: task 1')", "found still to be written: task 1")])
def test_what_load_model_cannot_read_back_is_found_before_the_training(load, message, tmp_path):
    file = file_of(tmp_path, FILE.format(load=load))
    torch.manual_seed(0)
    network = torch.nn.Conv2d(3, 8, 1)
    if message is None:
        file.check(network)
        return
    with pytest.raises(LabError, match=message) as caught:
        file.check(network)
    told = str(caught.value)
    assert "\n" not in told and ("still to be written" in told or "restart the kernel" in told)


def test_reading_back_is_computed_as_exactly_as_scoring(tmp_path, monkeypatch):
    seen = []

    class Silent(torch.nn.Conv2d):
        def forward(self, x):
            seen.append((torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32))
            return super().forward(x)

    file = file_of(tmp_path, FILE.format(load="network.load_state_dict(torch.load(MODEL_PATH))"))
    network = Silent(3, 8, 1).requires_grad_(False)
    for tensor in network.parameters():
        tensor.zero_()  # a network that says nothing yet is one that can be saved, too
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    file.check(network)
    assert seen == [(False, False)] and torch.backends.cudnn.benchmark


DATACLASS = """
from __future__ import annotations
from dataclasses import dataclass
from torch import nn
@dataclass
class Row:
    width: int = 8
def load_model(MODEL_PATH):
    return nn.Conv2d(3, Row().width, 1)
"""


def test_a_network_file_may_hold_a_dataclass_and_one_that_fails_leaves_no_module(tmp_path, monkeypatch):
    path = tmp_path / "with_rows.py"
    path.write_text(DATACLASS, encoding="utf-8")
    assert load_network(path).load_model("").out_channels == 8
    monkeypatch.chdir(tmp_path)
    assert import_alone(path, torch) == ("", 0)
    path = tmp_path / "with_a_fault.py"
    path.write_text(f"{DATACLASS}\n1 / 0\n", encoding="utf-8")
    with pytest.raises(LabError, match="ZeroDivisionError"):
        load_network(path)
    assert "submitted_with_rows" in sys.modules and "submitted_with_a_fault" not in sys.modules


# --- what a file may offer ----------------------------------------------------------------------------------------

HOOKS = FILE.replace("{load}", "network.load_state_dict(torch.load(MODEL_PATH))") + """
def deploy(network{store}):
    network.bias.data += 1
    return network

def shift_logits(network, shifts):
    network.bias.data += shifts
"""


def file_of(folder, text: str) -> NetworkFile:
    (folder / "net.py").write_text(text, encoding="utf-8")
    return NetworkFile(load_network(folder / "net.py"))


def test_deploy_makes_a_copy_and_leaves_the_network_alone(tmp_path):
    network = torch.nn.Conv2d(3, 8, 1)
    before = network.bias.clone()
    deployed = file_of(tmp_path, HOOKS.format(store="")).deploy(network)
    assert torch.equal(network.bias, before) and torch.equal(deployed.bias, before + 1) and not deployed.training


def test_a_file_without_the_optional_functions_saves_the_network_itself(tmp_path, capsys):
    file = file_of(tmp_path, FILE.format(load="network.load_state_dict(torch.load(MODEL_PATH))"))
    network = torch.nn.Conv2d(3, 8, 1)
    assert file.deploy(network) is network and file.check(network) is network
    assert capsys.readouterr().out == ""
    assert file.deploy(network, "int8") is network and not file.can_shift
    told = capsys.readouterr().out.splitlines()
    assert told == ['STORE = "int8" does not apply: net.py has no deploy(network, store)',
                    "CALIBRATE does not apply: net.py has no shift_logits(network, shifts)"]


def test_options_are_passed_to_a_deploy_that_takes_them(tmp_path, capsys):
    network = torch.nn.Conv2d(3, 8, 1)
    file = file_of(tmp_path, HOOKS.format(store=""))
    file.deploy(network, "float16")
    assert 'STORE = "float16" does not apply' in capsys.readouterr().out
    file = file_of(tmp_path, HOOKS.format(store=", store").replace("return network\n\ndef", "return store\n\ndef"))
    with pytest.raises(LabError, match=r"expected deploy to return a torch\.nn\.Module, found str"):
        file.deploy(network, "float16")
    assert capsys.readouterr().out == ""


def test_logits_are_shifted_in_place_and_a_fault_in_a_hook_is_one_line(tmp_path):
    network = torch.nn.Conv2d(3, 8, 1)
    before, file = network.bias.detach().clone(), file_of(tmp_path, HOOKS.format(store=""))
    assert file.can_shift
    file.shift_logits(network, torch.arange(8.0))
    assert torch.equal(network.bias, before + torch.arange(8.0))
    for call in (lambda: file.shift_logits(torch.nn.ReLU(), torch.zeros(8)), lambda: file.deploy(torch.nn.ReLU())):
        with pytest.raises(LabError, match=r"AttributeError.* of net\.py\): mend it there") as caught:
            call()
        assert "\n" not in str(caught.value)


def test_the_reference_of_task_2_is_read_back_as_it_is_deployed():
    found = named_network("network2.network:LowComplexityNet")
    assert found.file.can_shift
    deployed = found.file.check(found.network, "int8")
    assert torch.int8 in {tensor.dtype for tensor in deployed.state_dict().values()}
    with pytest.raises(LabError, match="expected float32, float16 or int8"):
        found.file.check(found.network, "int4")


@pytest.mark.parametrize("number", TASKS)
def test_the_tasks_own_file_is_taken_unless_another_network_is_named(number):
    own, cpu = torch.nn.Conv2d(3, 8, 1), torch.device("cpu")
    settings = Settings(TASKS[number], {"LOSS_STRIDE": 2})
    network, model, file = choose_network(own, settings, cpu, 8)
    assert network is model is own is settings.network and file.path == TASKS[number].network_file
    settings = Settings(TASKS[number], {"NETWORK": "network2.network:LowComplexityNet", "LOSS_STRIDE": 2})
    network, _, file = choose_network(own, settings, cpu, 5)
    assert settings.network is network and network.train_stride == 2 and file.path == TASKS[2].network_file
    assert network.eval()(torch.zeros(1, 3, 16, 16)).shape == (1, 5, 16, 16)


def test_a_network_that_takes_no_number_of_classes_is_made_without(tmp_path, monkeypatch):
    (tmp_path / "plain_net.py").write_text(FILE.format(load="pass"), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert named_network("plain_net:Net", num_classes=8).network.out_channels == 8


def test_building_names_the_setting_and_passes_stubs():
    words = r"built of RUNG \(a, b, or a row of that table\), found 'c' \(KeyError: 'c'\)"
    with pytest.raises(LabError, match=words), building("RUNG", "c", ("a", "b")):
        {"a": 1}["c"]
    with pytest.raises(NotImplementedError), building("RUNG", "a"):
        raise NotImplementedError("still to be written")


def test_shapes_are_shown_in_the_order_of_the_data(capsys):
    network = torch.nn.Sequential()
    network.add_module("down", torch.nn.MaxPool2d(2))
    network.add_module("head", torch.nn.Conv2d(3, 8, 1))
    show_shapes(network.train(), torch.zeros(1, 3, 4, 8))
    assert [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()] == [
        ["images", "(1, 3, 4, 8)"], ["down", "(1, 3, 2, 4)"], ["head", "(1, 8, 2, 4)"], ["logits", "(1, 8, 2, 4)"]]
    assert network.training and not network.head._forward_hooks
