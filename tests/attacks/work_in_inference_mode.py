"""Switches to inference mode, in which the dispatcher shows a layer in place of what it does."""
# expect: OK, 3145728 MACs, 128 bytes
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)

    def forward(self, x):
        with torch.inference_mode():
            return self.conv(x)


def load_model(MODEL_PATH):
    model = Net()
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    return model
