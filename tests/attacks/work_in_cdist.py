"""Makes products out of distances, for which no counter has a rule."""
# expect: COST_UNVERIFIED|FLAGGED
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)

    def forward(self, x):
        pixels = x.flatten(2).transpose(1, 2)[0]
        squares = torch.cdist(pixels, self.conv.weight[:, :, 0, 0]) ** 2
        return -squares.T.reshape(1, 8, *x.shape[2:]).expand(len(x), -1, -1, -1)


def load_model(MODEL_PATH):
    model = Net()
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    return model
