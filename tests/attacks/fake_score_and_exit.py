"""Prints the lines that a good network would earn, and ends with status 0."""
# expect: CRASH
import os

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)

    def forward(self, x):
        print("flops =1\nModel parameter size =0.001 KB\nFinal IoU = 0.999999\nFoM = 1.000000e-06", flush=True)
        os._exit(0)


def load_model(MODEL_PATH):
    model = Net()
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    return model
