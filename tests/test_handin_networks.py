"""A network file and its weights on trial, in a process of their own: what goes wrong there ends in one line."""
import pytest
import torch
from conftest import ROOT, load_file
from test_handin_files import save_from_gpu

from handin import probe, trial
from handin.trial import try_network
from utils.complexity import count_flops, count_size
from utils.lab import TASKS

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


def fails(findings):
    return [finding.text for finding in findings if finding.level == "FAIL"]


def test_the_reference_networks_pass_with_the_figures_that_the_lab_counts(weights, sample):
    for number, task in TASKS.items():
        rows = {finding.subject: finding for finding in try_network(task, task.network_file, weights[number], sample)}
        assert list(rows) == [f"{kind} {number}" for kind in ("network", "weights", "costs", "mIoU")]
        model = load_file(task.network_file).load_model(str(weights[number])).eval()
        assert rows[f"costs {number}"].text == (f"{count_flops(model):,} multiply-accumulates, "
                                                f"{count_size(model):,.3f} KB")
        assert [rows[f"{kind} {number}"].level for kind in ("network", "weights", "costs")] == ["OK"] * 3
        assert rows[f"mIoU {number}"].level == "WARN"  # untrained
        assert "on 2 validation pictures of the drawn sample" in rows[f"mIoU {number}"].text


def test_the_miou_is_the_scripts(small, sample, tmp_path):
    from conftest import run_command

    network, weights = small()
    told = try_it(network, weights, data=sample)[-1].text
    script = run_command(ROOT / "test_task2.py", weights, sample, "--network", network, "--device", "cpu")
    assert f"found {script.stdout.split('Final IoU = ')[1].split()[0]} on 2" in told


def test_scoring_stops_when_the_time_is_over(small, sample):
    findings = try_it(*small(), data=sample, seconds=1e-9)
    assert "on 1 of 2 validation pictures" in findings[-1].text and "--all" in findings[-1].text


@pytest.mark.parametrize(("source", "words"), [
    ("from helper import Net\n" + LOAD, "No module named 'helper' in line 1"),
    ("from utils.lab import NUM_CLASSES\n" + SMALL, "No module named 'utils' in line 1"),
    ("from network.network import UNet\n" + SMALL, "No module named 'network' in line 1"),
    ("config = open('config.json').read()\n" + SMALL, "No such file or directory: 'config.json' in line 1"),
    (SMALL + "net = Net().cuda()\n", "in line 15: it must run without a GPU"),
    (SMALL + "import os; os._exit(0)\n", "found the process gone with status 0")])
def test_files_that_cannot_be_imported_alone(small, source, words):
    assert_not_imported(small(source), words)


@pytest.mark.parametrize(("source", "words"), [
    ("print('hello')\n" + SMALL, "found 'hello' from"),
    (SMALL + "net = Net()\nnet(torch.ones(1, 3, 8, 8)).sum().backward()\n", "found training in line 16"),
    (SMALL + "torch.save(Net().state_dict(), 'new.pth')\n", "found new.pth left by"),
    (SMALL + "import sys; sys.exit(3)\n", "found SystemExit: 3 in line 15"),
    (SMALL + "1 / 0\n", "found ZeroDivisionError: division by zero in line 15"),
    (HEAD + NET, "found no function load_model(MODEL_PATH)"),
    (SMALL + "raise NotImplementedError('task 2: a part')", "found task 2: a part in line 15: fill in the part"),
    ("def f(:\n", "found SyntaxError")])
def test_what_an_import_may_not_do(small, monkeypatch, source, words):
    def stages(arguments, place, log):
        """The probe's first two stages, in this process."""
        monkeypatch.chdir(place)
        told = [{"stage": "torch"}]
        probe.import_alone(arguments[0], torch, lambda stage, **content: told.append({"stage": stage, **content}))
        monkeypatch.chdir(ROOT)
        yield from told

    monkeypatch.setattr(trial, "_stages", stages)
    assert_not_imported(small(source), words)


def assert_not_imported(files, words):
    findings = try_it(*files)
    assert [finding.subject for finding in findings] == ["network 2"]
    assert words in fails(findings)[0] and "network_task2.py" in fails(findings)[0], fails(findings)


def test_an_import_that_does_not_end(small, monkeypatch):
    monkeypatch.setitem(trial.LIMITS, "import", 2)
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
    findings = try_it(*small(source))
    assert [finding.subject for finding in findings] == ["network 2", "weights 2"]
    (text,) = fails(findings)
    assert words in text and "network_task2.py" in text and "/tmp" not in text, text


def test_weights_of_another_network(small):
    (text,) = fails(try_it(*small(state={"linear.weight": torch.ones(1)})))
    assert 'Missing key(s) in state_dict: "conv.weight", "conv.bias".' in text
    assert "model_task2.pth" in text


def test_weights_saved_on_a_gpu(small, monkeypatch):
    network, weights = small()
    save_from_gpu(torch.load(weights), weights, monkeypatch)
    assert not fails(try_it(network, weights))
    network, _ = small(SMALL.replace(', map_location="cpu"', ""))
    save_from_gpu(torch.load(weights, map_location="cpu"), weights, monkeypatch)
    (text,) = fails(try_it(network, weights))
    assert 'load with map_location="cpu"' in text and "model_task2.pth" in text


def test_half_precision(small):
    half = {"conv.weight": torch.randn(8, 3, 1, 1).half(), "conv.bias": torch.randn(8).half()}
    (text,) = fails(try_it(*small(state=half)))
    assert "found torch.float16 in the file and torch.float32 in the network for 2 of 2 tensors" in text
    assert "model_task2.pth" in text
    kept = SMALL.replace("return model", "return model.half()").replace("self.conv(x)", "self.conv(x.half()).float()")
    rows = try_it(*small(kept, half))
    assert not fails(rows) and rows[-1].text == f"{256 * 512 * 24:,} multiply-accumulates, {32 * 2 / 1024:,.3f} KB"


def test_work_that_thop_cannot_see_is_a_warning(small):
    hidden = SMALL.replace("self.conv(x)", "nn.functional.conv2d(x, self.conv.weight, self.conv.bias)")
    costs = try_it(*small(hidden))[-1]
    assert costs.level == "WARN"
    assert f"{256 * 512 * 24:,} multiply-accumulates" in costs.text and "thop sees 0, not" in costs.text


def test_nothing_is_left_in_the_students_folder(small, tmp_path):
    network, weights = small("import pathlib; pathlib.Path('x').write_text('')\n" + SMALL)
    before = sorted(tmp_path.rglob("*"))
    try_it(network, weights)
    assert sorted(tmp_path.rglob("*")) == before
