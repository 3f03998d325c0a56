"""Answers with a tensor of its own kind, which works when it is looked at."""
# expect: OK|COST_UNVERIFIED|SHAPE_ERROR|CRASH
import torch
from torch import nn


class Lazy(torch.Tensor):
    def amin(self, *args, **options):
        return (self.as_subclass(torch.Tensor) @ torch.ones(512, 512)).amin(*args, **options)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)

    def forward(self, x):
        return self.conv(x).as_subclass(Lazy)


def load_model(MODEL_PATH):
    model = Net()
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    return model
