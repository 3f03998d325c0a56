"""Does more work on some images than on others."""
# expect: COST_UNVERIFIED COST_UNVERIFIED
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)

    def forward(self, x):
        for _ in range(1 + 4 * int(x.mean() > 0)):
            y = self.conv(x)
        return y


def load_model(MODEL_PATH):
    model = Net()
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    return model
