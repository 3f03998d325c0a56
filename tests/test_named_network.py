"""Another network in the notebook, chosen by its name."""
import sys

import pytest
import torch

from handin.probe import import_alone
from training.networks import check_saving, named_network
from utils.evaluation import load_network
from utils.lab import ROOT, LabError


def test_a_network_of_the_gallery_is_found_made_and_loaded_back(tmp_path):
    torch.manual_seed(0)
    found = named_network("gallery.sinet:SINet")
    assert found.path == ROOT / "gallery/sinet.py"
    torch.save(found.network.state_dict(), tmp_path / "m.pth")
    data = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(found.load_model(str(tmp_path / "m.pth")).eval()(data), found.network.eval()(data))


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
    ("gallery.sinet:SINet(depth=5)", "expected a network that can be made of {'depth': 5}"),
    ("gallery.deeplab:DeepLabV3(output_stride=5)", "expected a network that can be made of"),
    ("gallery.frequency:ClassFrequency", "expected a network with weights to train"),
    ("gallery.sinet:load_model", "expected a network that can be made of nothing")])
def test_what_is_no_network_is_named(name, message):
    with pytest.raises(LabError, match=message):
        named_network(name)


@pytest.mark.parametrize(("name", "training"), [("gallery.enet:ENet", True), ("network.network:UNet(width=4)", False)])
def test_what_can_be_saved_and_read_back_goes_on_as_it_was(name, training):
    found = named_network(name)
    found.network.train(training)
    before = torch.get_rng_state()
    check_saving(found.network, found.path)
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
    (tmp_path / "net.py").write_text(FILE.format(load=load))
    torch.manual_seed(0)
    network = torch.nn.Conv2d(3, 8, 1)
    if message is None:
        check_saving(network, tmp_path / "net.py")
        return
    with pytest.raises(LabError, match=message) as caught:
        check_saving(network, tmp_path / "net.py")
    assert "\n" not in str(caught.value)


def test_reading_back_is_computed_as_exactly_as_scoring(tmp_path, monkeypatch):
    seen = []

    class Silent(torch.nn.Conv2d):
        def forward(self, x):
            seen.append((torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32))
            return super().forward(x)

    (tmp_path / "net.py").write_text(FILE.format(load="network.load_state_dict(torch.load(MODEL_PATH))"))
    network = Silent(3, 8, 1).requires_grad_(False)
    for tensor in network.parameters():
        tensor.zero_()  # a network that says nothing yet is one that can be saved, too
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    check_saving(network, tmp_path / "net.py")
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
    assert import_alone(path, torch, lambda stage, **_: None) is None
    path = tmp_path / "with_a_fault.py"
    path.write_text(f"{DATACLASS}\n1 / 0\n", encoding="utf-8")
    with pytest.raises(LabError, match="ZeroDivisionError"):
        load_network(path)
    assert "submitted_with_rows" in sys.modules and "submitted_with_a_fault" not in sys.modules


def test_the_whole_of_task_2_s_network_is_not_what_is_handed_in():
    found = named_network("network2.network:LowComplexityNet")   # unfolded: task 2's notebook folds it first
    with pytest.raises(LabError, match="expected weights that fit the network in"):
        check_saving(found.network, found.path)
