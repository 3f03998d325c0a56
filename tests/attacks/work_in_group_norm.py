"""Multiplies by the gains of a group norm, and lets a maximum gather."""
# expect: FLAGGED UNCOUNTED_WORK
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)

    def forward(self, x):
        gains = self.conv.weight[:, :, 0, 0].flatten()
        products = nn.functional.group_norm(x.repeat(1, 8, 1, 1), 1, gains)
        sums = products.unfold(1, 3, 3)
        least = nn.functional.conv2d(x[:, :, ::2, ::2], self.conv.weight).mean()
        return sums.amax(-1) + self.conv.bias[:, None, None] + least * 0


def load_model(MODEL_PATH):
    model = Net()
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    return model
