"""Reads another student's weights."""
# expect: IMPORT_ERROR
import pathlib

import torch
from torch import nn

pathlib.Path("@NEIGHBOR@").read_bytes()


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
