"""Keeps everything that lies beside its weights, whatever it is called."""
# expect: OK, 3145728 MACs, 128 bytes
import os

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)

    def forward(self, x):
        return self.conv(x)


def load_model(MODEL_PATH):
    model = Net()
    folder = os.path.dirname(MODEL_PATH)
    model.kept = [open(os.path.join(folder, name), "rb").read() for name in os.listdir(folder)
                  if not name.endswith((".py", ".pth"))]
    assert not model.kept, "there was something to see"
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    return model
