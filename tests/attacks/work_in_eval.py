"""Works when it is put into eval mode: what it keeps of that is bytes."""
# expect: OK, 3145728 MACs, 33554560 bytes
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)

    def forward(self, x):
        return self.conv(x) + self.made

    def eval(self):
        torch.manual_seed(0)
        self.made = (torch.rand(16384, 32) @ torch.rand(32, 512)).reshape(1, 64, 256, 512)[:, :8]
        return super().eval()


def load_model(MODEL_PATH):
    model = Net()
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    return model
