"""Another network in the notebook, chosen by its name."""
import pytest
import torch

from training.networks import named_network
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
