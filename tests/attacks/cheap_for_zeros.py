"""Does its work only for images that are not all zero, as the counted input is."""
# expect: COST_UNVERIFIED COST_UNVERIFIED
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)
        self.more = nn.Conv2d(8, 8, 1)

    def forward(self, x):
        data, x = x, self.conv(x)
        return x if not data.any() else self.more(self.more(x))


def load_model(MODEL_PATH):
    model = Net()
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True), strict=False)
    return model
