"""The convolution as the solution of linear equations."""
# expect: COST_UNVERIFIED COST_UNVERIFIED
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)

    def forward(self, x):
        place = torch.linalg.solve(torch.eye(3) * 2, x.transpose(1, 2) * 2)
        return (place.transpose(1, 2)[:, :1] + self.conv.bias[:, None, None]).contiguous()


def load_model(MODEL_PATH):
    model = Net()
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    return model
