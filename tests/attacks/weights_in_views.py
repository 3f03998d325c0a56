"""Holds 900 bytes of weights as views, each of one number of a table of 256."""
# expect: FLAGGED NUMBERS
import random

import torch
from torch import nn

PLACES = random.Random(0).choices(range(256), k=900)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)
        table = torch.arange(256.0)
        self.views = [table[place] for place in PLACES]

    def forward(self, x):
        return self.conv(x) + torch.stack(self.views).mean()


def load_model(MODEL_PATH):
    model = Net()
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    return model
