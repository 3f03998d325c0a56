"""Writes all stages and a graph that costs nothing to every pipe, and leaves."""
# expect: COST_UNVERIFIED|CRASH|SHAPE_ERROR
import json
import os

import torch
from torch import nn

graph = json.dumps({"schema": 1, "tensors": [], "nodes": [], "output": [0]}).encode()
lines = b"".join(json.dumps({"stage": stage, "seconds": 0}).encode() + b"\n"
                 for stage in ("import", "load", "output", "export"))
for number in range(3, 64):
    for content in (lines, len(graph).to_bytes(8, "big") + graph):
        try:
            os.write(number, content)
        except OSError:
            pass
os._exit(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)

    def forward(self, x):
        return self.conv(x)


def load_model(MODEL_PATH):
    model = Net()
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    return model
