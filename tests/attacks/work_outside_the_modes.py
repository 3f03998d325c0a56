"""Switches the counters off while it works."""
# expect: COST_UNVERIFIED COST_UNVERIFIED
import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)

    def forward(self, x):
        with _disable_current_modes():
            return self.conv(x)


def load_model(MODEL_PATH):
    model = Net()
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    return model
