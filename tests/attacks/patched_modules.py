"""Puts a module of its own in the place of the lab's metric."""
# expect: OK, 3145728 MACs, 128 bytes
import sys
import types

import torch
from torch import nn

fake = types.ModuleType("utils.metric")
fake.ConfusionMatrix = fake.AverageMeter = object
sys.modules["utils.metric"] = fake


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
