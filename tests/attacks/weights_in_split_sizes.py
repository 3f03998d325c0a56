"""Holds 1,440 bytes of weights in how long the parts are into which tensors are split, 16 sizes a node."""
# expect: FLAGGED NUMBERS
import random

import torch
from torch import nn

SIZES = random.Random(0).choices(range(1, 257), k=1440)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)

    def forward(self, x):
        rows = [SIZES[k:k + 16] for k in range(0, len(SIZES), 16)]
        parts = [torch.ones(sum(sizes)).split(sizes)[3] for sizes in rows]
        return self.conv(x) + 0 * torch.cat(parts).mean()


def load_model(MODEL_PATH):
    model = Net()
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    return model
