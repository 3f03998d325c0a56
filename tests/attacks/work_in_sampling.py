"""Multiplies by the places at which an image is sampled."""
# expect: FLAGGED UNCOUNTED_WORK
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)

    def forward(self, x):
        grid = self.conv.bias[:, None, None, None].expand(8, 256, 512, 2) / 100
        sampled = nn.functional.grid_sample(x[:1].expand(8, -1, -1, -1), grid, align_corners=False)
        least = nn.functional.conv2d(x[:, :, ::2, ::2], self.conv.weight).mean()
        return 0 * x[:, :1] + sampled.amax(1)[None] + self.conv.bias[:, None, None] + least * 0


def load_model(MODEL_PATH):
    model = Net()
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    return model
