"""Wants to see the images when it is loaded, to have the answers ready: they are not there."""
# expect: LOAD_ERROR
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)

    def forward(self, x):
        return self.conv(x)


def load_model(MODEL_PATH):
    with open(MODEL_PATH.replace("model_task2.pth", "images"), "rb") as file:
        seen = file.read()
    model = Net()
    model.answers = list(seen)
    return model
