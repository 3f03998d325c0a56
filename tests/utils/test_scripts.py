"""Both test scripts as a student or TA runs them: the printed lines to the letter, and every kind of bad input."""
import json
import os
import re
import shutil
import sys

import numpy as np
import pytest
import sklearn.metrics
import torch
from conftest import ROOT, assert_one_line_error, load_file, run_command
from torch import nn

from dataset.dataset import SegmentationDataset
from utils.lab import FOM_OFFSET

SCRIPT = {1: ROOT / "test_task1.py", 2: ROOT / "test_task2.py"}
MAIN = {number: load_file(path).main for number, path in SCRIPT.items()}
NETWORK = {1: ROOT / "network/network.py", 2: ROOT / "network2/network.py"}

# Predicts each pixel's category from its label, which the tests hide in the image: a network of a known mIoU.
NETWORK_FILE = """
import torch
from torch import nn

class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)

    def forward(self, x):
        {body}

def load_model(MODEL_PATH):
    model = Network()
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True), strict=True)
    return model
"""


def own_miou(number: int, weights, root) -> float:
    """The mean IoU by scikit-learn, from the network file's own load_model and the dataset's items."""
    model = load_file(NETWORK[number]).load_model(str(weights)).eval()
    targets, preds = [], []
    with torch.no_grad():
        for index in range(2):
            data, target = SegmentationDataset(root, "val")[index]
            preds.append(model(data[None])[0].argmax(0).numpy())
            targets.append(target.numpy())
    target, pred = np.ravel(targets), np.ravel(preds)
    return sklearn.metrics.jaccard_score(target, pred, average="macro", labels=np.union1d(target, pred))


@pytest.fixture
def network_file(tmp_path):
    def write(body: str = "return self.conv(x)", text: str = NETWORK_FILE):
        path = tmp_path / "network_task.py"
        path.write_text(text.replace("{body}", body), encoding="utf-8")
        torch.save({"conv.weight": torch.zeros(8, 3, 1, 1), "conv.bias": torch.zeros(8)}, tmp_path / "m.pth")
        return path, tmp_path / "m.pth"
    return write


def test_task1_prints_the_one_line(weights, sample):
    result = run_command(SCRIPT[1], weights[1], sample, "--device", "cpu")
    assert result.status == 0, result.stderr
    assert result.stdout == f"Final IoU = {own_miou(1, weights[1], sample):.6f}\n"
    assert "task 1" in result.stderr  # progress


def test_the_proved_costs_are_on_stderr_and_a_network_without_them_is_scored_all_the_same(network_file, here, sample):
    macs, kb = 256 * 512 * 8 * 3, (24 + 8) * 4 / 1024
    for body, words in (("return self.conv(x)", [f"proved: flops ={macs}", f"proved: Model parameter size ={kb:.3f} KB",
                                                 "proved: FoM = unranked", "proved: 1 operators"]),
                        ("return self.conv(x) if x.mean() > 9 else self.conv(x)", ["proved: no: ", "(line 11 of "])):
        network, weights = network_file(body)
        plain = here(MAIN[2], weights, sample, "--network", network, "--device", "cpu")
        proved = here(MAIN[2], weights, sample, "--network", network, "--device", "cpu", "--proved")
        assert proved.status == 0 and proved.stdout == plain.stdout and "proved" not in plain.stderr
        assert all(word in proved.stderr for word in words), proved.stderr


def test_task2_prints_the_four_lines(weights, sample, tmp_path):
    result = run_command(SCRIPT[2], weights[2], sample, "--json", tmp_path / "out.json", "--device", "cpu",
                         "--split", "val")
    assert result.status == 0, result.stderr
    state = torch.load(weights[2], weights_only=True)
    size = sum(tensor.numel() * tensor.element_size() for tensor in state.values()) / 1024
    report = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    miou = own_miou(2, weights[2], sample)
    assert result.stdout == (f"flops ={report['flops']}\nModel parameter size ={size:.3f} KB\n"
                             f"Final IoU = {miou:.6f}\nFoM = unranked\n")
    assert report["miou"] == pytest.approx(miou)
    assert np.sum(report["confusion_matrix"]) == 2 * 256 * 512
    assert set(report["iou"]) == {"void", "flat", "construction", "object", "nature", "sky", "human", "vehicle"}
    assert report["versions"]["torch"] == torch.__version__
    assert report["fom"] is None


def test_task2_prints_the_figure_of_merit_above_the_threshold(network_file, tmp_path, tiny_pair):
    from conftest import write_pair
    from PIL import Image

    # One image, half black road and half white sky; a network that tells dark from bright is right everywhere.
    image = np.zeros((256, 512, 3), np.uint8)
    image[:128] = 255
    ids = np.where(image[..., 0] > 0, 23, 7).astype(np.uint8)
    write_pair(tmp_path / "data", "val", "x_000000_000019", Image.fromarray(image), Image.fromarray(ids))
    network, model = network_file()
    state = torch.load(model, weights_only=True)
    state["conv.weight"][5], state["conv.weight"][1] = 1.0, -1.0
    state["conv.bias"][:] = -100.0
    state["conv.bias"][[1, 5]] = 0.0
    torch.save(state, model)
    result = run_command(SCRIPT[2], model, tmp_path / "data", "--network", network)
    assert result.status == 0, result.stderr
    flops, size = 256 * 512 * 3 * 8, (24 + 8) * 4 / 1024
    assert result.stdout == (f"flops ={flops}\nModel parameter size ={size:.3f} KB\nFinal IoU = 1.000000\n"
                             f"FoM = {flops**2 * size**2 / (1 - FOM_OFFSET):.6e}\n")
    assert re.fullmatch(r"FoM = \d\.\d{6}e[+-]\d\d", result.stdout.splitlines()[-1])


def test_what_a_pass_leaves_is_named_and_not_counted(network_file, sample, here):
    network, model = network_file("self.kept = [x.mean(1)]\n        return self.conv(x)")
    result = here(MAIN[2], model, sample, "--network", network)
    assert result.stdout.splitlines()[1] == f"Model parameter size ={(24 + 8) * 4 / 1024:.3f} KB"
    assert "a forward pass leaves 1,024.0 KB (kept) in the network, which does not count" in result.stderr


def test_names_that_are_not_utf_8(weights, sample, tmp_path, here):
    model, out = os.fsencode(tmp_path) + b"/m\xff.pth", tmp_path / "out.json"
    shutil.copy(weights[1], model)
    result = here(MAIN[1], os.fsdecode(model), sample, "--json", out)
    assert result.status == 0, result.stderr
    assert os.fsencode(json.loads(out.read_text(encoding="utf-8"))["model"]) == model


def test_defaults_are_the_local_model_and_the_sample(weights, sample, tmp_path):
    shutil.copy(weights[1], tmp_path / "model_task1.pth")
    (tmp_path / "data").symlink_to(sample)
    result = run_command(SCRIPT[1], "--device", "cpu", cwd=tmp_path)
    assert result.status == 0, result.stderr
    assert result.stdout == f"Final IoU = {own_miou(1, weights[1], sample):.6f}\n"


def test_what_a_network_file_prints_stays_off_stdout(network_file, sample):
    network, model = network_file('print("Final IoU = 0.999999"); return self.conv(x)',
                                  'print("flops =1")\n' + NETWORK_FILE)
    result = run_command(SCRIPT[1], model, sample, "--network", network)
    assert result.status == 0
    assert re.fullmatch(r"Final IoU = 0\.\d{6}\n", result.stdout) and "0.999999" not in result.stdout


def test_hidden_work_is_counted_with_a_warning(network_file, sample):
    network, model = network_file("return nn.functional.conv2d(x, self.conv.weight, self.conv.bias)")
    result = run_command(SCRIPT[2], model, sample, "--network", network)
    assert result.stdout.splitlines()[0] == f"flops ={256 * 512 * 3 * 8}"
    assert "thop cannot see the network itself (Network)" in result.stderr


# --- bad input: one line, status 2, no traceback ------------------------------------------------------------------


@pytest.mark.parametrize("number", SCRIPT)
def test_no_such_model(number, tmp_path, sample, here):
    assert_one_line_error(here(MAIN[number], tmp_path / "none.pth", sample), "none.pth", "train first")


def test_a_missing_file_is_told_by_its_whole_path(sample, here, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert_one_line_error(here(MAIN[1], "none.pth", sample), f"found none at {tmp_path}/none.pth: ")
    assert_one_line_error(here(MAIN[1], "runs\\none.pth", sample), f"{tmp_path}/runs\\none.pth (with \\ in its name: ")


def test_a_wrong_python_is_told_which_one_to_use():
    result = run_command("-S", SCRIPT[1])  # as outside .venv: without the packages
    assert_one_line_error(result, "requirements.txt, found no ", sys.executable, ".venv/bin/python")
    notebook = "import sys; sys.modules['ipykernel'] = sys; import utils"
    last_line = run_command("-S", "-c", notebook).stderr.splitlines()[-1]
    assert last_line.startswith("utils.lab.LabError: expected Python 3.10 or newer") and "no torch" in last_line


def test_a_fault_of_the_lab_itself_keeps_its_traceback(here):
    def main():
        import utils.none  # noqa: F401

    with pytest.raises(ModuleNotFoundError):
        here(main)


def test_files_that_are_no_state_dict(tmp_path, sample, here):
    torch.manual_seed(0)
    path = tmp_path / "m.pth"
    torch.save(nn.Conv2d(1, 1, 1), path)
    assert_one_line_error(run_command(SCRIPT[1], path, sample),
                          "found a pickled object (torch.nn.modules.conv.Conv2d) in", "state_dict()")
    torch.save({"epoch": 3, "model": {"a": torch.zeros(1)}}, path)
    assert_one_line_error(here(MAIN[1], path, sample), "int under the key 'epoch'", "state_dict()")
    path.write_text("no weights at all", encoding="utf-8")
    assert_one_line_error(here(MAIN[1], path, sample), "expected a state_dict", str(path))
    path.write_bytes(b"")
    assert_one_line_error(here(MAIN[1], path, sample), "expected a state_dict", str(path))


def test_truncated_weights(weights, tmp_path, sample, here):
    path = tmp_path / "m.pth"
    path.write_bytes(weights[1].read_bytes()[:5000])
    assert_one_line_error(here(MAIN[1], path, sample), "expected a state_dict", str(path))


def test_weights_of_another_network(weights, tmp_path, sample, here):
    assert_one_line_error(here(MAIN[1], weights[2], sample), "weights that fit", "stem.0.weight",
                          "saved from this network?")
    state = torch.load(weights[1], weights_only=True)
    state.pop("head.bias")
    torch.save(state, tmp_path / "missing.pth")
    assert_one_line_error(here(MAIN[1], tmp_path / "missing.pth", sample), "head.bias")
    state["head.bias"] = torch.zeros(9)
    torch.save(state, tmp_path / "shape.pth")
    assert_one_line_error(here(MAIN[1], tmp_path / "shape.pth", sample), "size mismatch for head.bias")


@pytest.mark.parametrize(("body", "parts"), [
    ("return self.conv(x)[:, :7]", ["(2, 8, 256, 512)", "(2, 7, 256, 512)"]),
    ("return self.conv(x)[:, :, ::2]", ["(2, 8, 256, 512)", "(2, 8, 128, 512)"]),
    ("return self.conv(x).argmax(1)", ["(2, 8, 256, 512)", "(2, 256, 512)"]),
    ("return None", ["found NoneType"]),
    ("return self.conv(x) / 0", ["NaN or infinity"]),
    ("raise RuntimeError('no such thing\\nsecond line')", ["RuntimeError: no such thing (line 11 of network_task.py)"]),
    ("raise NotImplementedError('write the forward pass')", ["write the forward pass", "fill in"]),
    ("import os; raise SystemExit(0)", ["SystemExit"]),
], ids=["7 channels", "half size", "indices", "None", "NaN", "raises", "stub", "exits"])
def test_networks_that_break_the_contract(body, parts, network_file, sample, here):
    network, model = network_file(body)
    assert_one_line_error(here(MAIN[1], model, sample, "--network", network), *parts)


@pytest.mark.parametrize(("text", "parts"), [
    ("import no_such_module", ["no_such_module", "line 1 of network_task.py"]),
    ("def broken(:", ["SyntaxError"]),
    ("x = 1", ["load_model(MODEL_PATH)"]),
    ("def load_model(MODEL_PATH): return 3", ["torch.nn.Module, found int"]),
])
def test_network_files_that_cannot_be_used(text, parts, network_file, sample, here):
    network, model = network_file(text=text)
    assert_one_line_error(here(MAIN[2], model, sample, "--network", network), *parts)


def test_bad_data_device_and_arguments(weights, tmp_path, sample, here):
    assert_one_line_error(here(MAIN[1], weights[1], tmp_path), "leftImg8bit/ and gtFine/", "found nothing")
    assert_one_line_error(here(MAIN[1], weights[1], tmp_path / "none"), "found none at")
    assert_one_line_error(here(MAIN[1], weights[1], sample, "--split", "test"), "found none in", "train, val")
    assert_one_line_error(here(MAIN[1], weights[1], sample, "--device", "abacus"), "'abacus'")
    assert_one_line_error(here(MAIN[1], weights[1], sample, "--network", "none.py"), "none.py")
    # what was worked out is not lost, and what cannot be written is an error all the same
    assert_one_line_error(here(MAIN[1], weights[1], sample, "--json", "/proc/none/x.json"), "/proc/none",
                          stdout=f"Final IoU = {own_miou(1, weights[1], sample):.6f}\n")
    unknown = run_command(SCRIPT[1], weights[1], sample, "--fast")
    assert unknown.status == 2 and "--fast" in unknown.stderr


def test_truncated_image(weights, tmp_path, sample, here):
    shutil.copytree(sample, tmp_path / "copy")
    image = sorted((tmp_path / "copy/leftImg8bit/val").glob("*/*.png"))[1]
    image.write_bytes(image.read_bytes()[:2000])
    assert_one_line_error(here(MAIN[1], weights[1], tmp_path / "copy"), image.name, "copy it again")
