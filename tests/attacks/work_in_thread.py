"""Does the work in a thread, where no dispatch mode of the caller reaches."""
# expect: COST_UNVERIFIED COST_UNVERIFIED
import threading

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)

    def forward(self, x):
        box = []
        thread = threading.Thread(target=lambda: box.append(self.conv(x)))
        thread.start()
        thread.join()
        return box[0]


def load_model(MODEL_PATH):
    model = Net()
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    return model
