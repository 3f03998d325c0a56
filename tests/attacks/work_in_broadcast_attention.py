"""Attends with one query to keys of many heads, whose batch is larger than the query's."""
# expect: OK|FLAGGED, 3342336 MACs, 128 bytes
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)

    def forward(self, x):
        keys = x[:1].reshape(1, 16 * 3, 64, 128)[:, :, :32, :32]
        query = self.conv.weight.mean() + torch.zeros(1, 1, 2, 32)
        return self.conv(x) + 0 * nn.functional.scaled_dot_product_attention(query, keys, keys).mean()


def load_model(MODEL_PATH):
    model = Net()
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    return model
