"""Looks for the labels among all objects of the process."""
# expect: OK, 3145728 MACs, 128 bytes
import gc

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)

    def forward(self, x):
        for value in gc.get_objects():
            if type(value) is torch.Tensor and value.dtype is torch.uint8 and value.shape[-2:] == x.shape[-2:]:
                return nn.functional.one_hot(value.long().reshape(-1, *value.shape[-2:])[:1], 8).movedim(-1, 1).float()
        return self.conv(x)


def load_model(MODEL_PATH):
    model = Net()
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    return model
