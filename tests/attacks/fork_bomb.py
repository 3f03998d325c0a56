"""Starts processes that start processes, some hundred at most."""
# expect: IMPORT_ERROR|CRASH
import os
import time

import torch
from torch import nn

for _ in range(7):
    os.fork()
time.sleep(5)


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
