"""The convolution as a function call, which thop cannot see."""
# expect: OK, 3145728 MACs, 128 bytes
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)

    def forward(self, x):
        return nn.functional.conv2d(x, self.conv.weight, self.conv.bias)


def load_model(MODEL_PATH):
    model = Net()
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    return model
