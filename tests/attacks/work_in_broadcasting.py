"""Makes its products number by number and sums them, which is no product to a counter."""
# expect: FLAGGED UNCOUNTED_WORK
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)

    def forward(self, x):
        small = nn.functional.conv2d(x[:, :, ::8, ::8], self.conv.weight).mean()
        products = x[:, None] * self.conv.weight[None, :, :, 0, 0, None, None]
        return products.sum(2) + self.conv.bias[:, None, None] + small * 0


def load_model(MODEL_PATH):
    model = Net()
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    return model
