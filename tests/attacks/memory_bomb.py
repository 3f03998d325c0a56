"""Holds on to more and more memory, 12 GB at most."""
# expect: OUT_OF_MEMORY
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)

    def forward(self, x):
        held = [torch.ones(1 << 26) for _ in range(48)]
        return self.conv(x) + held[0][0]


def load_model(MODEL_PATH):
    model = Net()
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    return model
