"""The convolution as a batched product that torch's own counter has no rule for."""
# expect: COST_UNVERIFIED COST_UNVERIFIED
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)

    def forward(self, x):
        weight, bias = self.conv.weight.flatten(2).transpose(0, 2), self.conv.bias  # (1, 3, 8)
        y = torch.addbmm(bias, x.flatten(2).transpose(1, 2), weight) if len(x) == 1 else None
        return self.conv(x) if y is None else y.T.reshape(1, 8, *x.shape[2:])


def load_model(MODEL_PATH):
    model = Net()
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    return model
