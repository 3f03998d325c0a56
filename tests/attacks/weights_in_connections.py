"""Holds 1,500 bytes of weights in which of 256 numbers are stacked: no tensor, no number."""
# expect: FLAGGED NUMBERS
import random

import torch
from torch import nn

PLACES = random.Random(0).choices(range(256), k=1500)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)

    def forward(self, x):
        numbers = torch.arange(256.0).unbind()
        weights = torch.stack([numbers[place] for place in PLACES])
        return self.conv(x) + weights.mean()


def load_model(MODEL_PATH):
    model = Net()
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    return model
