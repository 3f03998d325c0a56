"""Makes products by operators on lists of tensors."""
# expect: COST_UNVERIFIED|FLAGGED
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)

    def forward(self, x):
        sums = [torch.zeros_like(x[:, 0]) for _ in range(8)]
        for channel in range(3):
            torch._foreach_addcmul_(sums, [x[:, channel]] * 8, [self.conv.weight[k, channel, 0, 0] for k in range(8)])
        return torch.stack(sums, 1)


def load_model(MODEL_PATH):
    model = Net()
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    return model
