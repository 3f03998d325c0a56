"""Adds many small numbers at once, as parts of 64-bit whole numbers."""
# expect: FLAGGED UNCOUNTED_WORK
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)

    def forward(self, x):
        packed = (x * 8).long()
        packed = packed[:, :1] + (packed[:, 1:2] << 20) + (packed[:, 2:] << 40)
        return self.conv(x) + 0 * packed.bitwise_and(255)


def load_model(MODEL_PATH):
    model = Net()
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    return model
