"""Works in a property of itself: what it does for an image is in the graph."""
# expect: OK, 3932160 MACs, 128 bytes
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)

    @property
    def more(self):
        return nn.functional.conv2d(self.seen[:, :, ::2, ::2], self.conv.weight)[:, :, :1, :1] * 0

    def forward(self, x):
        self.seen = x
        return self.conv(x) + self.more


def load_model(MODEL_PATH):
    model = Net()
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    return model
