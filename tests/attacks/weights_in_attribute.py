"""Carries 100 KB of weights in an attribute that no state_dict knows."""
# expect: OK, 3145728 MACs, 102528 bytes
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)
        self.table = torch.ones(25_600)

    def forward(self, x):
        return self.conv(x) + self.table[0]


def load_model(MODEL_PATH):
    model = Net()
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    return model
