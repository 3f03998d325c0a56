"""Holds 100 KB in names and comments: what it makes of them are tensors, and count."""
# expect: OK, 3145728 MACs, 102528 bytes
import base64

import torch
from torch import nn

# 漢字仮名交じり文は一文字に多くを載せる
載せる = "漢字仮名交じり文" * 4


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)
        text = base64.b64encode((載せる * 1000).encode())[:102_400]
        self.table = torch.frombuffer(bytearray(text), dtype=torch.uint8)

    def forward(self, x):
        return self.conv(x) + self.table[0] * 0


def load_model(MODEL_PATH):
    model = Net()
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    return model
