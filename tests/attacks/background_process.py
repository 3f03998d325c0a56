"""Leaves a process behind that writes later."""
# expect: IMPORT_ERROR
import subprocess
import sys

import torch
from torch import nn

subprocess.Popen([sys.executable, "-c", "import time; time.sleep(2); open('@CANARY@', 'w').write('still here')"],
                 start_new_session=True)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)

    def forward(self, x):
        return self.conv(x)


def load_model(MODEL_PATH):
    model = Net()
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    return model
