"""Does its arithmetic in Python, where nothing counts it."""
# expect: COST_UNVERIFIED COST_UNVERIFIED
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)

    def forward(self, x):
        values = self.conv(x)
        return values + sum(value * value for value in x[0, 0, 0].tolist())


def load_model(MODEL_PATH):
    model = Net()
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    return model
