"""What can be told of the files without running them: notebooks, reports, weights, the rules, the fixed files."""
import collections
import contextlib
import json
import struct
import zipfile

import nbformat
import pytest
import torch
from conftest import ROOT, load_file

from handin import fixed
from handin.documents import check_report
from handin.findings import DoubtError
from handin.notebooks import check_notebook
from handin.rules import judge_rules
from handin.unpack import unpack
from handin.weights import check_weights_file, read_contents
from utils.lab import TASKS, LabError

REFERENCE = ROOT / "network/network.py"


def make_notebook(path, *counts, error_in=None, sources=None):
    """A notebook of one code cell for each execution count, with a heading above and an empty cell below."""
    cells = [nbformat.v4.new_markdown_cell("# Lab")]
    for index, count in enumerate(counts):
        output = [nbformat.v4.new_output("error", ename="ValueError", evalue="", traceback=[])] * (index == error_in)
        source = sources[index] if sources else f"x = {index}"
        cells.append(nbformat.v4.new_code_cell(source, execution_count=count, outputs=output))
    cells.append(nbformat.v4.new_code_cell(""))
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def test_a_notebook_run_in_order(tmp_path):
    assert check_notebook(make_notebook(tmp_path / "n.ipynb", 1, 2, 3)) == "n.ipynb: 3 code cells, run in order"


@pytest.mark.parametrize(("options", "words"), [
    ({"counts": (None, None)}, "found none of its 2 code cells executed in n.ipynb: choose Restart"),
    ({"counts": (1, None, 2)}, "found cell 3 of n.ipynb left out (1 of 3)"),
    ({"counts": (2, 1)}, "found cell 3 of n.ipynb run as [1] after [2]"),
    ({"counts": (1, 1)}, "found cell 3 of n.ipynb run as [1] after [1]"),
    ({"counts": (1, 2), "error_in": 1}, "found ValueError in cell 3 of n.ipynb"),
    ({"counts": ()}, "expected code cells, found none in n.ipynb")])
def test_notebooks_that_were_not_run_as_they_should(tmp_path, options, words):
    counts = options.pop("counts")
    with pytest.raises(LabError) as error:
        check_notebook(make_notebook(tmp_path / "n.ipynb", *counts, **options))
    assert words in str(error.value) and not isinstance(error.value, DoubtError)


def test_a_notebook_run_in_order_but_not_afresh_is_a_doubt(tmp_path):
    with pytest.raises(DoubtError, match="found 4 to 7"):
        check_notebook(make_notebook(tmp_path / "n.ipynb", 4, 7))


def test_cell_ids_in_a_notebook_of_format_4_4(tmp_path):
    path = make_notebook(tmp_path / "n.ipynb", 1, 2)
    content = json.loads(path.read_text(encoding="utf-8"))
    content["nbformat_minor"] = 4
    assert all("id" in cell for cell in content["cells"])
    path.write_text(json.dumps(content), encoding="utf-8")
    assert check_notebook(path) == "n.ipynb: 2 code cells, run in order"


@pytest.mark.parametrize(("content", "words"), [
    (b"", "no JSON"), (b"import torch\n", "no JSON"), (b'{"cells": [', "no JSON"), (b"[1, 2]", "other JSON"),
    (b'{"a": 1}', "other JSON"), (b'{"cells": 3, "nbformat": 4, "nbformat_minor": 5, "metadata": {}}', "other JSON"),
    ("{\"ä\": 1}".encode("latin-1"), "in UTF-8, found byte 0xe4 at 2"), (b"[" * 100_000, "no JSON")])
def test_files_that_are_no_notebooks(tmp_path, content, words):
    (tmp_path / "n.ipynb").write_bytes(content)
    with pytest.raises(LabError, match="expected a notebook") as error:
        check_notebook(tmp_path / "n.ipynb")
    assert words in str(error.value) and "n.ipynb" in str(error.value)


def test_reports(tmp_path):
    path = tmp_path / "report_1.pdf"
    path.write_bytes(b"%PDF-1.7\n" + b"x" * 5000 + b"\ntrailer\n%%EOF\n")
    assert check_report(path) == "report_1.pdf: a PDF of 5 KB"
    with zipfile.ZipFile(path, "w") as word:
        word.writestr("word/document.xml", "<w/>")
    for content, words in ((path.read_bytes(), "found a Word or OpenDocument file"), (b"", "found an empty file"),
                           (b"%PDF-1.7\n" + b"x" * 5000, "found no end in"), (b"\xd0\xcf\x11\xe0", "an old Word file"),
                           (b"hello", "found something else in")):
        path.write_bytes(content)
        with pytest.raises(LabError) as error:
            check_report(path)
        assert words in str(error.value) and "report_1.pdf" in str(error.value)
    path.write_bytes(b"%PDF-1.7\n<< /Encrypt 3 0 R >>\n%%EOF\n")
    with pytest.raises(DoubtError, match="encrypted"):
        check_report(path)


def test_weights_as_the_lab_saves_them(tmp_path, weights):
    assert check_weights_file(weights[1]).startswith(f"model_task1.pth: {len(torch.load(weights[1]))} tensors, ")
    plain = load_file(REFERENCE).UNet(4).state_dict()
    assert isinstance(plain, collections.OrderedDict)
    torch.save(dict(plain), tmp_path / "m.pth")
    check_weights_file(tmp_path / "m.pth")


def save_from_gpu(state, path, monkeypatch):
    """What torch.save writes where the tensors lie on a GPU; only the name of the device differs."""
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
    torch.save(state, path)
    monkeypatch.undo()


def test_weights_saved_from_a_gpu_are_a_doubt(tmp_path, weights, monkeypatch):
    save_from_gpu(torch.load(weights[1]), tmp_path / "m.pth", monkeypatch)
    with pytest.raises(RuntimeError, match="CUDA"):
        torch.load(tmp_path / "m.pth")  # the file is what it pretends to be
    with pytest.raises(DoubtError, match=r"found cuda:0 in m\.pth"):
        check_weights_file(tmp_path / "m.pth")


@pytest.mark.filterwarnings("ignore:Sparse", "ignore:.*quantize")
def test_tensors_of_every_type_and_layout_are_no_pickled_objects(tmp_path):
    types = {name: value for name, value in vars(torch).items()
             if isinstance(value, torch.dtype) and not name.startswith("q")}  # those need a scale
    assert len(types) > 12
    tensors = {"sparse": torch.eye(3).to_sparse(), "rows": torch.eye(3).to_sparse_csr(), "attribute": torch.zeros(2),
               "parameter": torch.nn.Parameter(torch.zeros(2))}
    tensors["attribute"].kept = 3
    for name, dtype in types.items():
        with contextlib.suppress(RuntimeError, NotImplementedError, TypeError):  # of no storage yet
            tensors[name] = torch.empty(4, dtype=dtype)
    assert "float8_e4m3fn" in tensors
    for name, tensor in tensors.items():
        try:
            torch.save({name: tensor}, tmp_path / "m.pth")
        except KeyError:  # this torch cannot save it
            continue
        assert read_contents(tmp_path / "m.pth").objects == [], name
        assert torch.load(tmp_path / "m.pth", weights_only=True).keys() == {name}


class Harmful:
    def __reduce__(self):
        import os

        return os.system, ("touch harmed",)


def test_weights_that_are_none(tmp_path, weights, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "m.pth"
    network = load_file(REFERENCE).UNet(4)
    pickled = {"a whole module": (torch.nn.Linear(1, 1), "a pickled object (torch.nn.modules.linear.Linear)"),
               "code that runs": ({"w": Harmful()}, "a pickled object (posix.system)")}
    for content, words in pickled.values():
        torch.save(content, path)
        with pytest.raises(LabError) as error:
            check_weights_file(path)
        assert words in str(error.value) and "m.pth" in str(error.value)
    assert not (tmp_path / "harmed").exists()

    torch.save(network.state_dict(), path, _use_new_zipfile_serialization=False)
    with pytest.raises(LabError, match="a bare pickle, or the format of torch before"):
        check_weights_file(path)
    whole = weights[1].read_bytes()
    for content, words in ((b"", "an empty file"), (b"<!DOCTYPE html>", "a web page"), (whole[:5000], "no torch file"),
                           (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
                           (whole.replace(b"data.pkl", b"date.pkl"), "another zip")):
        path.write_bytes(content)
        with pytest.raises(LabError) as error:
            check_weights_file(path)
        assert words in str(error.value)


def test_packed_weights_are_refused_before_they_are_unpacked(tmp_path):
    path = tmp_path / "m.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("m/data.pkl", b"\x80\x02}.")
        file.writestr("m/data/0", bytes(1 << 20))
    with pytest.raises(LabError, match="a packed or damaged zip"):
        check_weights_file(path)
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\x01\x02")  # the last file's row in the directory: claim 3 GB
    data[entry + 24:entry + 28] = (3 << 30).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(LabError, match=r"found 3\.0 GB unpacked"):
        check_weights_file(path)


def test_the_hand_outs_own_files_keep_the_rules():
    for task in TASKS.values():
        for path in (task.network_file, ROOT / task.notebook):
            assert [finding.level for finding in judge_rules(path, "x")] == ["OK"], path


def test_the_cell_that_fetches_the_kit_is_known_and_no_other(tmp_path):
    book = nbformat.read(ROOT / TASKS[1].notebook, as_version=4)
    first = next(cell for cell in book.cells if cell.cell_type == "code")
    source = first.source
    for change, level in (('kit = "https://course.example/DL_Lab5.tar"', "OK"), ('kit = "a"; import requests', "FAIL")):
        first.source = source.replace('kit = ""', change)
        nbformat.write(book, tmp_path / "n.ipynb")
        assert {finding.level for finding in judge_rules(tmp_path / "n.ipynb", "x")} == {level}, change


@pytest.mark.parametrize(("line", "words"), [
    ("import timm", "found timm in line 2"),
    ("from torchvision import models", "found torchvision.models in line 2"),
    ("from torchvision.models import resnet18 as r", "found torchvision.models.resnet18 in line 2"),
    ("import torchvision; n = torchvision.models.segmentation.fcn_resnet50()", "found torchvision"),
    ("import segmentation_models_pytorch as smp", "found segmentation_models_pytorch in line 2"),
    ("n = torch.hub.load('pytorch/vision', 'resnet18')", "found torch.hub.load in line 2"),
    ("from torch import hub", "found torch.hub in line 2"),
    ("n = make(pretrained=True)", "found pretrained=True in line 2"),
    ("n = make(weights='IMAGENET1K_V1')", "found weights='IMAGENET1K_V1' in line 2"),
    ("n = make(weights=ResNet18_Weights.DEFAULT)", "found weights=ResNet18_Weights.DEFAULT"),
    ("n = Net.from_pretrained('x')", "found from_pretrained() in line 2"),
    ("import urllib.request", "found urllib.request in line 2"),
    ("import requests as r", "found requests in line 2"),
    ("import os; os.system('wget http://x/y.pth')", "found wget in line 2"),
    ("import numpy as np", "found numpy in line 2"),
    ("from utils.lab import NUM_CLASSES", "found utils.lab in line 2"),
    ("from . import blocks", "found . in line 2"),
    ("w = open('weights.txt').read()", "found open() in line 2"),
    ("from pathlib import Path; w = Path('w').read_bytes()", "found read_bytes() in line 2"),
    ("w = torch.load('other.pth')", "found torch.load() in line 2"),
    ("def f(:", "expected Python, found")])
def test_rules_in_network_files(tmp_path, line, words):
    path = tmp_path / "network_task1.py"
    path.write_text(f"import torch\n{line}\n", encoding="utf-8")
    findings = judge_rules(path, "network 1")
    assert [finding.level for finding in findings] == ["FAIL"]
    assert words in findings[0].text and "network_task1.py" in findings[0].text


def test_what_the_rules_allow(tmp_path):
    path = tmp_path / "network_task1.py"
    path.write_text("import torch, math, re\nfrom torch import nn\nfrom torch.nn import functional as F\n"
                    "def make(weights=None, pretrained=False): return re.compile('a'), weights\n"
                    "make(weights=torch.ones(8), pretrained=False)\nmake(nn.Identity().eval())\n"
                    "# import timm; torchvision.models\n'torchvision.models.resnet18(pretrained=True)'\n"
                    "def load_model(MODEL_PATH):\n    return torch.load(MODEL_PATH, weights_only=True)\n")
    assert [finding.level for finding in judge_rules(path, "network 1")] == ["OK"]


@pytest.mark.parametrize(("content", "words"), [
    ("# Übung\nimport torch".encode("latin-1"), "in UTF-8, found byte 0xdc in line 1"), (b"", "found nothing"),
    (b"\xff\xfei\x00m\x00", "in UTF-8"),
    (b"import torch\n" + b"(" * 3000, "expected Python"), (b"a\0b", "expected Python")])
def test_source_that_cannot_be_read(tmp_path, content, words):
    (tmp_path / "network_task1.py").write_bytes(content)
    (finding,) = judge_rules(tmp_path / "network_task1.py", "network 1")
    assert finding.level == "FAIL" and words in finding.text and "network_task1.py" in finding.text


@pytest.mark.parametrize(("source", "level", "words"), [
    ("import timm", "FAIL", "found timm in line 1 of cell 3 of n.ipynb"),
    ("!wget http://x/y", "FAIL", "found wget in line 1 of cell 3"),
    ("%%bash\ncd /tmp\ngit clone http://x/y", "FAIL", "found git clone in line"),
    ("x = !curl -O http://x/y", "FAIL", "found curl in line 1"),
    ("torch.load('other.pth')", "WARN", "found torch.load() in line 1"),
    ("def f(:", "FAIL", "in line 1 of cell 3 of n.ipynb")])
def test_rules_in_notebooks(tmp_path, source, level, words):
    path = make_notebook(tmp_path / "n.ipynb", 1, 2, sources=["%matplotlib inline\nimport numpy as np", source])
    (finding,) = judge_rules(path, "notebook 1")
    assert finding.level == level and words in finding.text


def write_program(path, program):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", program)


def test_a_small_pickle_cannot_fill_the_memory(tmp_path):
    text, path = b"X" + struct.pack("<I", 50_000) + b"a" * 50_000, tmp_path / "m.pth"
    write_program(path, b"\x80\x04" + text * 2 + b"\x93" * 1000 + b".")  # each \x93 joins the last two texts
    contents = read_contents(path)
    assert len(contents.names) == 1000 and sum(map(len, contents.names + contents.strings)) < 1_000_000
    write_program(path, b"\x80\x04" + text * 2 + b"\x93" * 1_000_000 + b".")
    with pytest.raises(LabError, match=r"more than 50,000 strings in m\.pth"):
        read_contents(path)


def test_a_zip_of_endless_lists_is_not_opened(tmp_path, monkeypatch):
    path = tmp_path / "m.pth"
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(20):  # few members, whose names make a directory of 1.2 MB
            archive.writestr(f"{index:060000}", b"")
    content = bytearray(path.read_bytes())
    content[-14:-10] = b"\1\0\1\0"  # the counts say that there is one
    path.write_bytes(content)
    monkeypatch.setattr(zipfile.ZipFile, "_RealGetContents", None)  # what would hold them all
    with pytest.raises(LabError, match="more members than can be listed"):
        read_contents(path)
    with pytest.raises(LabError, match="more members than can be listed"):
        unpack(path, tmp_path)


def test_weights_packed_in_a_way_that_takes_memory_are_refused(tmp_path, weights):
    with zipfile.ZipFile(weights[2]) as whole, zipfile.ZipFile(tmp_path / "m.pth", "w") as packed:
        for name in whole.namelist():
            packing = zipfile.ZIP_LZMA if name.endswith("data/0") else zipfile.ZIP_STORED
            packed.writestr(name, whole.read(name), packing)
    with pytest.raises(LabError, match="found a packed or damaged zip"):
        read_contents(tmp_path / "m.pth")


def test_fixed_files_are_compared_with_the_manifest(tmp_path):
    assert fixed.changed_files(tmp_path) is None  # not a released kit
    names = ["utils/lab.py", "utils/metric.py", "test_task1.py", "network/network.py", "README.md",
             "tests/student/test_setup.py"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"# {name}\n", encoding="utf-8")
    fixed.write_manifest(tmp_path, names, "v1")
    assert set(json.loads((tmp_path / fixed.MANIFEST).read_text())["files"]) == set(names[:3])
    assert fixed.changed_files(tmp_path) == []
    (tmp_path / "network/network.py").write_text("# a student's own")
    (tmp_path / "utils/lab.py").write_bytes(b"# utils/lab.py\r\n")  # another system's line ends are no change
    assert fixed.changed_files(tmp_path) == []
    (tmp_path / "utils/metric.py").write_text("# better")
    (tmp_path / "test_task1.py").unlink()
    assert fixed.changed_files(tmp_path) == ["test_task1.py is missing", "utils/metric.py was changed"]
    (tmp_path / fixed.MANIFEST).write_text("{}")
    with pytest.raises(LabError, match="found a damaged file"):
        fixed.changed_files(tmp_path)
