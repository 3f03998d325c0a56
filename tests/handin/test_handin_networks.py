"""A network file and its weights on trial, in a process of their own: what goes wrong there ends in one line."""
import shutil
from pathlib import Path

import pytest
import torch
from conftest import ROOT, load_file
from test_handin_files import save_from_gpu

from handin import probe, trial
from handin.check import examine
from handin.names import PARTS, Handin
from handin.trial import try_network
from utils.complexity import count_flops, count_size
from utils.lab import TASKS, LabError

HEAD = "import torch\nfrom torch import nn\n"
LOAD = """
def load_model(MODEL_PATH):
    model = Net()
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    return model
"""
NET = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)
    def forward(self, x):
        return self.conv(x)
"""
SMALL = HEAD + NET + LOAD


@pytest.fixture
def small(tmp_path):
    """Writes a network file, by default a 1x1 convolution, and its weights; returns both paths."""
    def write(source=SMALL, state=None):
        network, weights = tmp_path / "network_task2.py", tmp_path / "model_task2.pth"
        network.write_text(source, encoding="utf-8")
        torch.manual_seed(0)
        torch.save(state or {"conv.weight": torch.randn(8, 3, 1, 1), "conv.bias": torch.randn(8)}, weights)
        return network, weights
    return write


def try_it(network, weights, **options):
    return list(try_network(TASKS[2], network, weights, **options))


def try_here(network, weights):
    """The findings of the probe's second part, in this process, as (level, subject, text)."""
    found = []
    try:
        probe.measure(network, weights, lambda **_: None, lambda *row: found.append(row))
    except LabError as error:
        found.append(("FAIL", "weights", probe.explain_cuda(str(error))))
    return found


def fails(findings):
    return [finding.text for finding in findings if finding.level == "FAIL"]


def test_the_reference_networks_pass_with_the_figures_that_the_lab_counts(weights, sample):
    for number, task in TASKS.items():
        rows = {finding.subject: finding for finding in try_network(task, task.network_file, weights[number], sample)}
        assert list(rows) == [f"{kind} {number}" for kind in ("network", "weights", "costs", "graph", "mIoU")]
        model = load_file(task.network_file).load_model(str(weights[number])).eval()
        assert rows[f"costs {number}"].text == (f"{count_flops(model):,} multiply-accumulates, "
                                                f"{count_size(model):,.3f} KB")
        assert [rows[f"{kind} {number}"].level for kind in ("network", "weights", "costs", "graph")] == ["OK"] * 4
        assert f"{count_flops(model):,} multiply-accumulates" in rows[f"graph {number}"].text
        assert torch.__version__ in rows[f"graph {number}"].text
        assert rows[f"mIoU {number}"].level == "WARN"  # untrained
        assert "on 2 validation images of the drawn sample" in rows[f"mIoU {number}"].text


def test_the_miou_is_the_scripts(small, sample, tmp_path):
    from conftest import run_command

    network, weights = small()
    told = try_it(network, weights, data=sample)[-1].text
    script = run_command(ROOT / "test_task2.py", weights, sample, "--network", network, "--device", "cpu")
    assert f"found {script.stdout.split('Final IoU = ')[1].split()[0]} on 2" in told


def test_scoring_stops_when_the_time_is_over(small, sample):
    findings = try_it(*small(), data=sample, seconds=1e-9)
    assert "on 1 of 2 validation images" in findings[-1].text and "--all" in findings[-1].text


@pytest.mark.parametrize(("source", "words"), [
    ("from helper import Net\n" + LOAD, "No module named 'helper' in line 1"),
    ("from utils.lab import NUM_CLASSES\n" + SMALL, "No module named 'utils' in line 1"),
    ("from network.network import UNet\n" + SMALL, "No module named 'network' in line 1"),
    ("config = open('config.json').read()\n" + SMALL, "No such file or directory: 'config.json' in line 1"),
    (SMALL + "net = Net().cuda()\n", "it must run without a GPU"),
    (SMALL + "import os; os._exit(0)\n", "found the process gone with status 0")])
def test_files_that_cannot_be_imported_alone(small, source, words):
    assert_not_imported(small(source), words)


@pytest.mark.parametrize(("source", "words"), [
    ("print('hello')\n" + SMALL, "found 'hello' from"),
    (SMALL + "net = Net()\nnet(torch.ones(1, 3, 8, 8)).sum().backward()\n", "found training in line 16"),
    (SMALL + "torch.save(Net().state_dict(), 'new.pth')\n", "found new.pth left by"),
    (SMALL + "import sys; sys.exit(3)\n", "found SystemExit: 3 in line 15"),
    (SMALL + "1 / 0\n", "found ZeroDivisionError: division by zero in line 15"),
    (HEAD + NET, "expected a function load_model(MODEL_PATH), found none"),
    (SMALL + "raise NotImplementedError('task 2: a part')",
     "found task 2: a part in line 15 of network_task2.py: fill in the part"),
    ("def f(:\n", "found SyntaxError")])
def test_what_an_import_may_not_do(small, tmp_path, monkeypatch, source, words):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    shutil.copy(small(source)[0], "network_task2.py")
    text, _ = probe.import_alone(Path("network_task2.py"), torch)
    assert words in text and "network_task2.py" in text


def assert_not_imported(files, words):
    findings = try_it(*files)
    assert [finding.subject for finding in findings] == ["network 2"]
    assert words in fails(findings)[0] and "network_task2.py" in fails(findings)[0], fails(findings)


def test_an_import_that_does_not_end(small, monkeypatch):
    monkeypatch.setitem(trial.STAGES, "import", (trial.STAGES["import"][0], 2))
    (text,) = fails(try_it(*small("import time\nwhile True: time.sleep(1)\n")))
    assert "expected importing the network file to take seconds, found more than 2 s" in text


@pytest.mark.parametrize(("source", "words"), [
    (SMALL.replace("return model", ""), "found NoneType"),
    (SMALL.replace("Conv2d(3, 8, 1)", "Conv2d(3, 9, 1)"), "size mismatch for conv.weight"),
    (SMALL.replace("return self.conv(x)", "return self.conv(x)[..., ::2]"), "found (2, 8, 256, 256)"),
    (SMALL.replace("return self.conv(x)", "return self.conv(x).argmax(1)"), "found (2, 256, 512)"),
    (SMALL.replace("return self.conv(x)", "return self.conv(x) / 0"), "NaN or infinity"),
    (SMALL.replace("return self.conv(x)", "return self.conv(x.cuda())"), "it is graded on machines without a GPU"),
    (SMALL.replace("return self.conv(x)", "raise NotImplementedError('task 2: forward')"), "found task 2: forward")])
def test_networks_that_do_not_keep_the_contract(small, source, words):
    (row,) = try_here(*small(source))
    assert row[:2] == ("FAIL", "weights") and words in row[2] and "network_task2.py" in row[2], row


def test_weights_of_another_network(small):
    (text,) = fails(try_it(*small(state={"linear.weight": torch.ones(1)})))
    assert 'Missing key(s) in state_dict: "conv.weight", "conv.bias".' in text
    assert "model_task2.pth" in text and "network_task2.py" in text and "/tmp" not in text


def test_weights_saved_on_a_gpu(small, monkeypatch):
    network, weights = small()
    save_from_gpu(torch.load(weights), weights, monkeypatch)
    assert "FAIL" not in [row[0] for row in try_here(network, weights)]
    network, _ = small(SMALL.replace(', map_location="cpu"', ""))
    save_from_gpu(torch.load(weights, map_location="cpu"), weights, monkeypatch)
    (row,) = try_here(network, weights)
    assert row[0] == "FAIL" and 'load with map_location="cpu"' in row[2] and "model_task2.pth" in row[2]


def test_half_precision(small):
    half = {"conv.weight": torch.randn(8, 3, 1, 1).half(), "conv.bias": torch.randn(8).half()}
    ((_, _, text),) = try_here(*small(state=half))
    assert "found torch.float16 in the file and torch.float32 in the network for 2 of 2 tensors" in text
    assert "model_task2.pth" in text
    kept = SMALL.replace("return model", "return model.half()").replace("self.conv(x)", "self.conv(x.half()).float()")
    rows = try_here(*small(kept, half))
    assert rows[-1] == ("OK", "costs", f"{256 * 512 * 24:,} multiply-accumulates, {32 * 2 / 1024:,.3f} KB")


def test_work_that_thop_cannot_see_is_a_warning(small):
    hidden = SMALL.replace("self.conv(x)", "nn.functional.conv2d(x, self.conv.weight, self.conv.bias)")
    level, _, text = try_here(*small(hidden))[-1]
    assert level == "WARN" and f"{256 * 512 * 24:,} multiply-accumulates" in text and "thop sees 0, not" in text


def test_what_stops_the_export_is_told_with_its_line_and_what_follows(small, monkeypatch):
    branch = SMALL.replace("return self.conv(x)", "return self.conv(x) if x.mean() > 0 else self.conv(-x)")
    network, weights = small(branch)
    model, found = load_file(network).load_model(str(weights)), []
    monkeypatch.setattr("utils.graph.proof.GRADER_TORCH", (99, 1))
    for number in (1, 2):
        probe.prove(number, network.name, model, 1, lambda *row: found.append(row))
    line = branch.splitlines().index("        return self.conv(x) if x.mean() > 0 else self.conv(-x)") + 1
    for (level, subject, text), then in zip(found, ("its own code", "a person will decide"), strict=True):
        assert (level, subject) == ("WARN", "graph") and "\n" not in text and then in text
        assert f"(line {line} of network_task2.py: return self.conv(x) if" in text
        assert f"torch {torch.__version__}, and the grader's, 99.1 or newer, decides" in text


def test_nothing_is_left_in_the_students_folder(small, tmp_path):
    network, weights = small("import pathlib; pathlib.Path('x').write_text('')\n" + SMALL)
    before = sorted(tmp_path.rglob("*"))
    try_it(network, weights)
    assert sorted(tmp_path.rglob("*")) == before

# --- what the check sees although the files load --------------------------------------------------------------------


def test_size_is_counted_before_a_pass_and_what_a_pass_leaves_is_named(small):
    keeps = SMALL.replace("return self.conv(x)", "self.feat = x.mean(1)\n        return self.conv(x)")
    rows = try_here(*small(keeps))
    assert rows[-2] == ("OK", "costs", f"{256 * 512 * 24:,} multiply-accumulates, {32 * 4 / 1024:,.3f} KB")
    assert rows[-1][:2] == ("WARN", "costs")
    # two images of 1 x 256 x 512 floats, the last batch of the check
    assert "found 512.0 KB (feat) in network_task2.py, which does not count" in rows[-1][2]


@pytest.mark.parametrize(("change", "words"), [
    (("self.conv(x)", "self.conv(x).softmax(1)"), "found probabilities"),
    (("self.conv(x)", "self.conv(x).sigmoid()"), "found probabilities"),
    (("self.conv(x)", "self.conv(x).softmax(2)"), "found a softmax over the rows (dim=2)"),
    (("self.conv(x)", "self.conv(x).log_softmax(3)"), "found a softmax over the columns (dim=3)"),
    (("self.conv(x)", "self.conv(x).softmax(0)"), "found a softmax over the images of the batch (dim=0)"),
    (("self.conv(x)", "nn.functional.dropout(self.conv(x))"), "found others in a second pass"),
    (("self.conv(x)", "nn.functional.batch_norm(self.conv(x), None, None, training=True)"),
     "the other images of the batch change them")])
def test_outputs_that_nobody_would_tell_the_student_of(small, change, words):
    doubts = [text for level, subject, text in try_here(*small(SMALL.replace(*change)))
              if (level, subject) == ("WARN", "network")]
    assert len(doubts) == 1 and words in doubts[0] and "network_task2.py" in doubts[0]


@pytest.mark.parametrize("change", [
    ("self.conv(x)", "self.conv(x).log_softmax(1)"), ("self.conv(x)", "self.conv(x) * 0"),
    ("self.conv(x)", "nn.functional.dropout(self.conv(x), training=self.training)"),
    ("self.conv(x)", "self.conv(x).relu()")])
def test_outputs_without_a_doubt(small, change):
    assert [level for level, *_ in try_here(*small(SMALL.replace(*change)))] == ["OK", "OK"]


@pytest.mark.parametrize(("change", "state", "words"), [
    (None, lambda state: torch.nn.Conv2d(3, 8, 1), "found a pickled object (torch.nn.modules.conv.Conv2d)"),
    (None, lambda state: list(state.values()), "found a list"), (None, lambda state: (state, 3), "found a tuple"),
    (None, lambda state: {"epoch": 3, "state_dict": state}, "found int under the key 'epoch'"),
    (None, lambda state: {f"module.{name}": value for name, value in state.items()}, "found module. before them in"),
    (None, lambda state: {f"_orig_mod.{name}": value for name, value in state.items()}, "save network._orig_mod.state"),
    (("model.load_state_dict(torch.load(MODEL_PATH, map_location=\"cpu\", weights_only=True))",
      "state = torch.load(MODEL_PATH)\n    model.conv.weight.data = state['conv.weight']"),
     lambda state: {f"module.{name}": value for name, value in state.items()}, "found module. before them in"),
    (("model = Net()", "model = nn.DataParallel(Net())"), None, "found DataParallel around it in"),
    (("model = Net()", "model = torch.compile(Net())"), None, "found torch.compile around it in"),
    (("return model", "return torch.compile(model)"), None, "found a compiled one in"),
    (("return model", "model.conv.compile()\n    return model"), None, "found a compiled one in"),
    (("def forward", "@torch.compile\n    def forward"), None, "found a compiled one in"),
    (None, lambda state: {"conv.weight": state["conv.weight"]}, "were the weights saved from this network? (if the "
                                                               "file was changed"),
    (("self.conv = ", "self.other = "), None, "restart the kernel"),
])
def test_weights_that_do_not_load(small, change, state, words):
    good = {"conv.weight": torch.randn(8, 3, 1, 1), "conv.bias": torch.randn(8)}
    network, weights = small(SMALL.replace(*change) if change else SMALL)
    torch.save(state(good) if state else good, weights)
    (row,) = try_here(network, weights)
    assert row[:2] == ("FAIL", "weights") and words in row[2], row


@pytest.mark.parametrize(("change", "state"), [
    (("def forward", "def train(self, mode=True):\n        super().train(mode)\n    def forward"), None),
    (("self.conv", "self.module"), lambda state: {name.replace("conv", "module"): state[name] for name in state}),
    (("return model", "return model.to(torch.float8_e4m3fn)"),
     lambda state: {name: value.to(torch.float8_e4m3fn) for name, value in state.items()})],
    ids=["train returns nothing", "an attribute called module", "float8"])
def test_networks_that_load_all_the_same(small, change, state):
    good = {"conv.weight": torch.randn(8, 3, 1, 1), "conv.bias": torch.randn(8)}
    source = SMALL.replace(*change)
    if "float8" in source:
        source = source.replace("self.conv(x)", "nn.functional.conv2d(x, self.conv.weight.float(), "
                                "self.conv.bias.float())")
    rows = try_here(*small(source, state(good) if state else good))
    assert "FAIL" not in [row[0] for row in rows]
    assert rows[0][2].startswith("model_task2.pth: a state_dict of 2 tensors")


def test_one_finding_for_one_cause(small, tmp_path):
    pytest.importorskip("torchvision")
    for source, level in (("import torchvision\n" + SMALL, "OK"), ("from utils.lab import VOID\n" + SMALL, None),
                          ("def f(:\n", None), ("Fundus = 'ü'\n", None)):
        network, weights = small(source)
        if "ü" in source:
            network.write_bytes(source.encode("latin-1"))
        handin = Handin(tmp_path, files={PARTS[3]: network, PARTS[5]: weights})
        rows = [row for row in examine(handin, None, 0) if row.subject == "network 2"]
        assert [row.level for row in rows] == ["FAIL", *([level] if level else [])], rows
