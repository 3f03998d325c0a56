"""Writes masks of its own into every open descriptor, before the real ones."""
# expect: SHAPE_ERROR|CRASH
import os

import torch
from torch import nn

for descriptor in range(3, 64):
    try:
        os.write(descriptor, bytes(256 * 512))
    except OSError:
        continue


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
