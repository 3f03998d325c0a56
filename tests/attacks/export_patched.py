"""Replaces torch.export, so that it exports another network than it runs: that one is scored and counted."""
# expect: OK|FLAGGED|COST_UNVERIFIED|CRASH
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)

    def forward(self, x):
        return self.conv(x)


class Dear(Net):
    def forward(self, x):
        for _ in range(20):
            x = x + self.conv(x)[:, :3]
        return self.conv(x)


honest = torch.export.export
torch.export.export = lambda model, *args, **options: honest(Net().eval(), *args, **options)


def load_model(MODEL_PATH):
    model = Dear()
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    return model
