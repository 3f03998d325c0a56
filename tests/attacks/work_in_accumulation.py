"""Sums by writing many numbers to one place."""
# expect: COST_UNVERIFIED COST_UNVERIFIED
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)

    def forward(self, x):
        place = torch.zeros(x.shape[2] * x.shape[3], dtype=torch.int64)
        sums = torch.zeros(1).index_put((place,), x[0, 0].flatten(), accumulate=True)
        return self.conv(x) + 0 * sums.mean()


def load_model(MODEL_PATH):
    model = Net()
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    return model
