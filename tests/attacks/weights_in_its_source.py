"""Reads its own file, comments and all, for weights: what comes of it are tensors, and count."""
# expect: OK|FLAGGED
import torch
from torch import nn

# 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)
        with open(__file__, "rb") as file:
            self.table = torch.frombuffer(bytearray(file.read()), dtype=torch.uint8).float()

    def forward(self, x):
        return self.conv(x) + self.table[:8, None, None] * 0


def load_model(MODEL_PATH):
    model = Net()
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    return model
