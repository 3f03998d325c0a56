"""Odd hand-ins through `python -m handin check`: each cause is one finding, and what is odd but right is none.

The hand-ins are those of the odd class. A few in each run, all in make test-long.
"""
import re
import shutil

import pytest
import torch
from classroom import rename
from classroom_odd import LOADS, RETURNS, as_folder, change, eighth, older_notebooks, prefixed, renamed, write_seven
from conftest import assert_one_line_error

from handin.__main__ import main

NUMBER = "2026123450"
LONG = pytest.mark.long
MODULE = (("self.conv =", "self.module ="), ("self.conv(", "self.module("))


def odd(item, spoil, *findings, marks=LONG):
    """findings: (level, subject, words) of every line that is not OK."""
    return pytest.param(spoil, findings, marks=marks, id=f"{item} {findings[0][2] if findings else 'nothing'}")


CHECKS = (
    odd(12, change(("return y", "self.skips = [y]\n        return y")), ("WARN", "costs 2", "(skips"), marks=()),
    odd(12, change(("return y", "self.seen = {'last': x[:1]}\n        return y")), ("WARN", "costs 2", "(seen")),
    odd(13, change(("    def forward", "    def eval(self):\n        super().eval()\n\n    def forward"))),
    odd(13, change(("    def forward", "    def train(self, mode=True):\n        self.training = mode\n\n"
                                       "    def forward"))),
    odd(13, change((RETURNS, "model.conv = torch.compile(model.conv, backend='eager')\n    return model")),
        ("FAIL", "weights 2", "found a compiled one")),
    odd(13, change((RETURNS, "return torch.compile(model, dynamic=False)")),
        ("FAIL", "weights 2", "leave torch.compile to the notebook")),
    odd(13, change(*MODULE, state_of=renamed("conv", "module"))),
    odd(13, change(*MODULE, state_of=lambda state: prefixed("module.")(renamed("conv", "module")(state))),
        ("FAIL", "weights 2", "found module. before them")),
    odd(13, eighth(torch.float8_e5m2), ("WARN", "costs 2", "thop sees 0"),
        ("WARN", "graph 2", "found a torch.float8_e5m2 one")),
    odd(13, eighth(torch.float8_e4m3fnuz), ("WARN", "costs 2", "thop sees 0"),
        ("WARN", "graph 2", "found a torch.float8_e4m3fnuz one")),
    odd(13, rename("model_task2.pth", "model_task2.pth.tar"),
        ("FAIL", "names", "expected model_task2.pth, found model_task2.pth.tar")),
    odd(13, as_folder("model1"), ("FAIL", "names", "expected model_task1.pth, found the folder model1")),
    odd(13, change(state_of=lambda state: (3, state)), ("FAIL", "weights 2", "found a tuple")),
    odd(13, change(state_of=lambda state: {"net": state, "best": 0.7}), ("FAIL", "weights 2", "under the key 'net'")),
    odd(14, older_notebooks(4)), odd(14, older_notebooks(2)),
    odd(18, change(("import torch\n", "import torch\nfrom torchvision import transforms as T\n")),
        ("FAIL", "network 2", "found torchvision in line 2")),
    odd(18, change(("import torch\n", "import torch\nimport torchvision.ops as ops\n")),
        ("FAIL", "network 2", "found torchvision.ops in line 2")),
    odd(19, change((LOADS, "model.conv.bias.data = state['conv.bias']"), state_of=prefixed("module.")),
        ("FAIL", "weights 2", "save network.module.state_dict()")),
    odd(19, change((LOADS, "model.conv.weight.data = state['conv.weight']"), state_of=prefixed("_orig_mod.")),
        ("FAIL", "weights 2", "save network._orig_mod.state_dict()")),
    odd(20, change(("return y", "return nn.functional.softmax(y, dim=1)")),
        ("WARN", "network 2", "found probabilities")),
    odd(20, change(("return y", "return y.sigmoid()")), ("WARN", "network 2", "leave the softmax or sigmoid out")),
    odd(20, change(("return y", "return nn.functional.dropout(y, 0.3)")),
        ("WARN", "network 2", "turn dropout off"), ("WARN", "graph 2", "a person will decide about its rank")),
    odd(20, change(("return y", "return y.softmax(-1)")), ("WARN", "network 2", "found a softmax over the columns")),
)


def findings(stdout):
    """The lines of a check as (level, subject, text), without the count at its end."""
    *lines, _ = stdout.splitlines()
    return [re.fullmatch(r"(OK|WARN|FAIL) +([a-zA-Z]+(?: [12])?) +(.*)", line).groups() for line in lines]


@pytest.mark.parametrize(("spoil", "expected"), CHECKS)
def test_each_cause_is_one_finding(tmp_path, here, spoil, expected):
    folder = write_seven(tmp_path / f"Lab05_{NUMBER}", NUMBER)
    spoil(folder)
    done = here(main, "check", folder, "--no-score")
    rows = findings(done.stdout)
    odd_rows = [row for row in rows if row[0] != "OK"]
    assert [row[:2] for row in odd_rows] == [row[:2] for row in expected], done.stdout
    for (_, _, text), (_, _, words) in zip(odd_rows, expected, strict=True):
        assert words in text
    failed = {subject: place for place, (level, subject, _) in reversed([*enumerate(rows)]) if level == "FAIL"}
    praised = [row for place, row in enumerate(rows) if row[0] == "OK" and place < failed.get(row[1], 0)]
    assert not praised  # before the blame
    assert (done.status, "Traceback" in done.stderr) == (2 if failed else 0, False)


@pytest.mark.long
def test_parts_that_lie_elsewhere(tmp_path, here):
    folder = write_seven(tmp_path / f"Lab05_{NUMBER}", NUMBER)
    (tmp_path / "kept").mkdir()
    for option, name, place in (("--weights1", "model_task1.pth", "epoch 7.pth"),
                                ("--notebook2", f"Lab05_task2_{NUMBER}.ipynb", "second.ipynb"),
                                ("--network2", "network_task2.py", "slim.py")):
        shutil.move(folder / name, tmp_path / "kept" / place)
        done = here(main, "check", folder, "--no-score", option, tmp_path / "kept" / place)
        assert done.status == 0 and {level for level, *_ in findings(done.stdout)} == {"OK"}, done.stdout
        assert_one_line_error(here(main, "check", folder, "--no-score", option, tmp_path / "kept" / "none"),
                              f"expected {option[2:-1]} {option[-1]}, found no file at")
        shutil.move(tmp_path / "kept" / place, folder / name)


@pytest.mark.parametrize("number", ["123456", "b10902001", "2026-123450", "20261234501"])
def test_numbers_of_another_form(tmp_path, here, number):
    assert_one_line_error(here(main, "check", tmp_path, "--id", number), "expected a student number of 7 to 10 digits",
                          number)
