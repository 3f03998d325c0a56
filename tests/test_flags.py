"""What makes a person look at a network file, read off its source; nothing here is run."""
import ast

import pytest
from conftest import ROOT

from grading.trials.costs import LITERAL_ALLOWANCE
from grading.trials.flags import LARGEST, PROSE_ALLOWANCE, read_source

PLAIN = '''
"""A U-Net as a student writes it."""
import math
import os.path
import sys
from collections import OrderedDict
from typing import List

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn import init

torch.backends.cudnn.benchmark = True
code, trace, array, signal, select = 1, 2, 3, 4, 5      # names of modules, but nobody's modules


class Block(nn.Sequential):
    def __init__(self, i, o):
        super().__init__(nn.Conv2d(i, o, 3, padding=1), nn.GroupNorm(4, o), nn.SiLU(inplace=True))

    def forward(self, x):
        return super().forward(x)


class Linear(nn.Module):
    """Its own, under a name that torch has as well."""


class Head(Linear):
    pass


class UNet(nn.Module):
    def __init__(self, w=8):
        super(UNet, self).__init__()
        self.down = Block(3, w)
        self.up = nn.ConvTranspose2d(w, w, 2, stride=2)
        for i in range(2):
            setattr(self, f"conv{i}", nn.Conv2d(w, w, 1))
        self.act = getattr(nn, "ReLU")()
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                init.kaiming_normal_(m.weight)
                m.bias.data[...] = 0

    def forward(self, x):
        code = self.down(x)
        code = getattr(self, f"conv{1}")(code)
        y = self.up(F.max_pool2d(code, 2))
        print(self.__class__.__name__, y.shape, file=sys.stderr)
        return F.interpolate(y, scale_factor=1.0)


def load_model(MODEL_PATH):
    assert os.path.exists(MODEL_PATH)
    model = UNet()
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    model.eval()
    return model


if __name__ == "__main__":
    import numpy as np
    from thop import profile
    torch.manual_seed(0)
    print(profile(UNet(), (torch.from_numpy(np.zeros((1, 3, 256, 512))),)), open("x").read(), "x" * 5000)
'''


def codes(source: str | bytes, tmp_path) -> set[str]:
    path = tmp_path / "network.py"
    path.write_bytes(source.encode() if isinstance(source, str) else source)
    return {flag["code"] for flag in read_source(path).flags}


def test_what_students_usually_write_is_not_flagged(tmp_path):
    assert codes(PLAIN, tmp_path) == set()
    for path in (ROOT / "network/network.py", ROOT / "network2/network.py"):
        found = read_source(path)
        assert found.flags == [] and found.literal_bytes < LITERAL_ALLOWANCE


@pytest.mark.parametrize(("code", "source"), [
    ("THREADS", "import threading"),
    ("THREADS", "from concurrent.futures import ThreadPoolExecutor"),
    ("THREADS", "import subprocess as s"),
    ("THREADS", "import os\nos.fork()"),
    ("THREADS", "import os as o\ngetattr(o, 'system')('ls')"),
    ("THREADS", "import torch\ntorch.multiprocessing.spawn(print)"),
    ("THREADS", "from torch import nn\nnn.DataParallel(net)"),
    ("SUBCLASS", "from torch import nn\nclass Mine(nn.Conv2d): pass"),
    ("SUBCLASS", "import torch\nclass Mine(torch.nn.modules.conv.Conv2d): pass"),
    ("SUBCLASS", "from torch.nn import Linear as L\nclass Mine(L): pass"),
    ("SUBCLASS", "from torch.nn import *\nclass Mine(BatchNorm2d): pass"),
    ("SUBCLASS", "from torch import nn\nBase = nn.Conv2d\nclass Mine(Base): pass"),
    ("SUBCLASS", "from torch import nn\nclass Conv2d(nn.Conv2d): pass"),
    ("SUBCLASS", "from torch import nn\nclass Mine(type(layer)): pass"),
    ("SUBCLASS", "from torch import nn\nMine = type('Mine', (nn.Conv2d,), {})"),
    ("COUNTERS", "import thop"),
    ("COUNTERS", "from torch.utils import _python_dispatch"),
    ("COUNTERS", "import torch\ntorch.utils.flop_counter.flop_registry.clear()"),
    ("COUNTERS", "import torch\ntorch.library.custom_op"),
    ("COUNTERS", "from torch.overrides import TorchFunctionMode"),
    ("COUNTERS", "import torch\nt = torch\nt._C._disabled_torch_dispatch_impl"),
    ("COUNTERS", "class T:\n    def __torch_dispatch__(self): pass"),
    ("COUNTERS", "def forward(self, x):\n    self.conv.total_ops.zero_()"),
    ("FILES", "x = open('weights.bin').read()"),
    ("FILES", "from pathlib import Path\nPath('x').read_bytes()"),
    ("FILES", "import torch\nx = torch.load('other.pth')"),
    ("FILES", "import torch\ndef load_model(MODEL_PATH):\n    return torch.load('other.pth')"),
    ("FILES", "import os\nos.environ['LAB_ANSWER_FD']"),
    ("FILES", "import os\nos.write(5, b'')"),
    ("FILES", "import socket"),
    ("FILES", "x = __file__"),
    ("FILES", "x = '/proc/self/fd'"),
    ("INTROSPECTION", "import ctypes"),
    ("INTROSPECTION", "import gc\ngc.get_objects()"),
    ("INTROSPECTION", "from inspect import currentframe"),
    ("INTROSPECTION", "import sys\nsys._getframe(1)"),
    ("INTROSPECTION", "from sys import modules"),
    ("INTROSPECTION", "().__class__.__base__.__subclasses__()"),
    ("INTROSPECTION", "try: 1/0\nexcept Exception as e: e.__traceback__.tb_frame.f_back"),
    ("INTROSPECTION", "import os\ngetattr(os, 'sys' + 'tem')('ls')"),
    ("INTROSPECTION", "from os import *"),
    ("INTROSPECTION", "import torch\ntorch.__dict__['x']"),
    ("INTROSPECTION", "globals()['x'] = 1"),
    ("CODE", "exec('x = 1')"),
    ("CODE", "e = eval"),
    ("CODE", "__import__('os')"),
    ("CODE", "import importlib"),
    ("ENCODED", "import base64"),
    ("ENCODED", "import zlib as z"),
    ("ENCODED", "x = bytes.fromhex('00')"),
    ("ENCODED", "def f():\n    '''data'''\nx = f.__doc__"),
    ("PARAMETRIZE", "from torch.nn.utils import parametrize"),
    ("PARAMETRIZE", "from torch.nn.utils.parametrizations import weight_norm"),
    ("PARAMETRIZE", "import torch\ntorch.nn.utils.weight_norm(conv)"),
    ("FORWARD_CALL", "def forward(self, x):\n    return self.conv.forward(x)"),
    ("HOOKS", "net.register_forward_hook(print)"),
    ("HOOKS", "net._forward_hooks.clear()"),
    ("HOOKS", "class Net:\n    def __call__(self, x): pass"),
    ("PATCH", "import torch\ntorch.argmax = None"),
    ("PATCH", "from torch import nn\nnn.Conv2d.extra = None"),
    ("PATCH", "import torch\nsetattr(torch.Tensor, '__eq__', None)"),
    ("PATCH", "conv.forward = lambda x: x"),
    ("PATCH", "import sys\nsys.modules['thop'] = None"),
    ("SEED", "import torch\ntorch.manual_seed(1)"),
    ("SEED", "import torch\ng = torch.Generator()\ng.manual_seed(1)"),
    ("SEED", "import random\nrandom.seed(1)"),
    ("NUMPY", "import numpy as np"),
    ("NUMPY", "y = x.numpy()"),
    ("NUMPY", "y = sum(x.tolist())"),
    ("INTROSPECTION", "import pydoc"),
    ("LONG", "x = '" + "a" * 257 + "'"),
    ("LONG", "x = 0x" + "f" * 514),
    ("THREADS", "def f(__name__='__main__'):\n    if __name__ == '__main__':\n        import threading"),
    ("THREADS", "from __main__ import __name__\nif __name__ == '__main__':\n    import threading"),
    ("THREADS", "class __name__: pass\nif __name__ == '__main__':\n    import threading"),
    ("THREADS", "try: 1 / 0\nexcept Exception as __name__:\n    if __name__ == '__main__': import threading"),
    ("THREADS", "match '__main__':\n    case __name__: pass\nif __name__ == '__main__':\n    import threading"),
    ("THREADS", "if __name__ == '__main__':\n    pass\nelse:\n    import threading"),
    ("SOURCE", "def broken(:"),
    ("SOURCE", "x = 1\0"),
    ("SOURCE", "x = " + "-" * 100_000 + "1"),
    ("SOURCE", "x" + ".y" * 100_000),
    ("SOURCE", b"x = '\xff'"),
    ("SOURCE", "#" * (LARGEST + 1)),
])
def test_each_flag(code, source, tmp_path):
    assert code in codes(source, tmp_path)


def test_a_flag_names_what_was_found_and_its_line(tmp_path):
    path = tmp_path / "network.py"
    path.write_text("import torch\n\nimport threading\nfrom torch import nn\n\nclass Mine(nn.Conv2d):\n    pass\n"
                    "x = getattr(torch, '\\ud800\\n')\n", encoding="utf-8")
    flags = {flag["code"]: flag["text"] for flag in read_source(path).flags}
    assert "threading (line 3)" in flags["THREADS"] and "Mine(torch.nn.Conv2d) (line 6)" in flags["SUBCLASS"]
    assert all(text.encode("utf-8") and "\n" not in text for text in flags.values())


def test_a_source_is_read_in_the_encoding_that_it_names(tmp_path):
    hidden = "# -*- coding: utf-7 -*-\n+AGkAbQBwAG8AcgB0- threading\n"
    assert "import threading" in ast.unparse(ast.parse(hidden.encode()))  # Python sees what a text search does not
    assert codes(hidden, tmp_path) == {"THREADS"}


@pytest.mark.parametrize(("source", "expected"), [
    ("x = 'abcd'", 4), ("x = b'\\x00\\x01'", 2), ("x = [0.5, 1.5, 2]", 24), ("x = 'ä'", 2), ("x = True, None", 0),
    ("x = 0x" + "ff" * 1000, 1000), ("x = f'abc{y}de'", 5), ("'''prose'''\ndef f():\n    '''more'''", 0),
    ("def f():\n    '''0123456789'''\nx = f.__doc__", 10),
    ("def f():\n    '''0123456789'''\nx = vars(f)['__doc__']", 17),
    ("if __name__ == '__main__':\n    x = 'long'", 0), ("__name__ = 'a'\nif __name__ == '__main__':\n    x = 'b'", 10),
    ("def f(__name__='__main__'):\n    if __name__ == '__main__':\n        x = 'long'", 20),
    ("x" * 64 + " = 1", 8), ("x" * 65 + " = 1\n" + "x" * 65, 73), ("def f(a, *, " + "x" * 100 + "): pass", 100),
    ('"' + "p" * (PROSE_ALLOWANCE + 9) + '"', 9), ("#" * (LARGEST + 1000), LARGEST + 1000),
])
def test_literals_are_weighed(source, expected, tmp_path):
    path = tmp_path / "network.py"
    path.write_text(source, encoding="utf-8")
    assert read_source(path).literal_bytes == expected
