"""python -m handin as a student calls it: check on a finished hand-in and on the working tree, and pack."""
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile

import pytest
import torch
from conftest import ROOT, assert_one_line_error, load_file, run_command
from test_handin_files import make_notebook

from handin.__main__ import main
from handin.check import examine
from handin.collect import collect
from handin.findings import Finding
from handin.fixed import write_manifest
from handin.names import PARTS, read_folder
from handin.pack import pack
from utils.lab import HANDIN_FILES, TASKS, LabError

NAMES = [template.format(id="31355555") for template in HANDIN_FILES]
PDF = b"%PDF-1.7\ntrailer\n%%EOF\n"
ROOMS = ("utils", "dataset", "handin", "network", "network2")


@pytest.fixture(scope="session")
def tree(tmp_path_factory, weights):
    """A student's working tree when all is done, in a folder whose name is not ASCII."""
    root = tmp_path_factory.mktemp("home") / "Übung 05 (語)"
    for room in ROOMS:
        shutil.copytree(ROOT / room, root / room, ignore=shutil.ignore_patterns("__pycache__"))
    for number, task in TASKS.items():
        make_notebook(root / task.notebook, 1, 2, 3)
        shutil.copy(weights[number], root / task.model_file)
    (root / "report.pdf").write_bytes(PDF)
    return root


@pytest.fixture(scope="session")
def finished(tree, tmp_path_factory):
    """A hand-in that has nothing wrong with it."""
    folder = tmp_path_factory.mktemp("finished") / "31355555"
    folder.mkdir()
    sources = [tree / task.notebook for task in TASKS.values()] + [
        tree / "network/network.py", tree / "network2/network.py", tree / "model_task1.pth", tree / "model_task2.pth",
        tree / "report.pdf"]
    for name, source in zip(NAMES, sources, strict=True):
        shutil.copy(source, folder / name)
    return folder


def handin(root, *arguments, **environment):
    return run_command("-m", "handin", *arguments, cwd=root, **environment)


def levels(output):
    return [line.split()[0] for line in output.splitlines()[:-1]]


def test_check_a_finished_hand_in(finished, sample):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    result = handin(ROOT, "check", finished, "--data", sample)
    assert result.status == 0, result.stderr
    assert result.stdout.splitlines()[0].split(None, 2) == ["OK", "names", "all seven files of 31355555"]
    assert set(levels(result.stdout)) == {"OK", "WARN"}  # the networks are not trained
    assert result.stdout.splitlines()[-1] == f"{levels(result.stdout).count('OK')} OK, 2 WARN, 0 FAIL"
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before  # check writes nothing there


def test_check_a_zip_without_a_score(finished, tmp_path, here, no_trial):
    archive = shutil.make_archive(str(tmp_path / "Lab05_31355555"), "zip", finished)
    zipped = here(main, "check", archive, "--no-score", "--id", "31355555")
    assert zipped.status == 0 and "FAIL " not in zipped.stdout and "mIoU" not in zipped.stdout


@pytest.fixture
def no_trial(monkeypatch):
    """Leaves the networks' trials out, which are slow and have tests of their own."""
    monkeypatch.setattr("handin.check.try_network", lambda *_args, **_options: iter(()))


def test_check_ends_with_status_2_and_one_line(finished, tmp_path, here, no_trial):
    folder = shutil.copytree(finished, tmp_path / "in")
    (folder / NAMES[-1]).rename(folder / "report (1).pdf")
    shutil.rmtree(tmp_path / "none", ignore_errors=True)
    result = here(main, "check", folder, "--no-score")
    assert_one_line_error(result, "found 1: do what their lines say", stdout=result.stdout)
    failed = [line for line in result.stdout.splitlines() if line.startswith("FAIL")]
    assert failed == ["FAIL  names           expected report_31355555.pdf, found report (1).pdf: rename it (any naming "
                      "error costs 5 points; python -m handin pack names them)"]


def faults(folder, student_id=None):
    return [finding for finding in examine(read_folder(folder, student_id), None, 0) if finding.level != "OK"]


@pytest.mark.parametrize(("spoil", "subject", "words"), [
    (lambda f: (f / NAMES[0]).unlink(), "notebook 1", "found no such file in"),
    (lambda f: make_notebook(f / NAMES[0], None, None), "notebook 1", "found none of its 2 code cells executed"),
    (lambda f: make_notebook(f / NAMES[1], 2, 1), "notebook 2", "run as [1] after [2]"),
    (lambda f: (f / NAMES[1]).write_text("import torch"), "notebook 2", "found no JSON"),
    (lambda f: (f / NAMES[2]).write_text("import timm"), "network 1", "found timm in line 1 of network_"),
    (lambda f: (f / NAMES[4]).write_text("<!DOCTYPE html>"), "weights 1", "found a web page in model_task1.pth"),
    (lambda f: zipfile.ZipFile(f / NAMES[6], "w").close(), "report", "expected a PDF"),
    (lambda f: (f / NAMES[6]).rename(f / "report_31355556.pdf"), "names", "31355555 and 31355556"),
    (lambda f: (f / NAMES[6]).rename(f / "REPORT_31355555.pdf"), "names", "found REPORT_31355555.pdf")])
def test_each_fault_is_the_one_that_is_named(finished, tmp_path, no_trial, spoil, subject, words):
    folder = shutil.copytree(finished, tmp_path / "in")
    assert faults(folder) == []
    spoil(folder)
    found = faults(folder)
    # a notebook that cannot be read is said once by each of the two checks that read it
    assert {finding.subject for finding in found} == {subject} and found[0].level == "FAIL"
    assert words in found[0].text


def test_an_extra_file_is_a_warning(finished, tmp_path, no_trial):
    folder = shutil.copytree(finished, tmp_path / "in")
    (folder / "blocks.py").write_text("")
    (found,) = faults(folder)
    assert found.level == "WARN" and "found blocks.py" in found.text


def test_bad_arguments(tmp_path, here):
    empty = tmp_path / "empty"
    empty.mkdir()
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"PK\x03\x04 no zip")
    for arguments, words in ((["check", empty], "found none in"), (["check", tmp_path / "none"], "found none at"),
                             (["check", broken], "found a damaged one or another file in broken.zip"),
                             (["check", "--data", empty], "expected leftImg8bit/ and gtFine/"),
                             (["pack", "--id", "ID"], "expected a student number"),
                             (["pack", "--id", "31355555", "--report", tmp_path / "no.pdf"], "found no file at")):
        assert_one_line_error(here(main, *arguments), words)


def evil_zip(path, name, content=b"x", link=False):
    info = zipfile.ZipInfo(name)
    info.external_attr = (0o120777 if link else 0o100644) << 16
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(info, content)


@pytest.mark.parametrize(("name", "link"), [("../out.txt", False), ("/abs/out.txt", False), ("a/../../out.txt", False),
                                            ("C:\\out.txt", False), ("..\\out.txt", False), ("model_task1.pth", True)])
def test_zips_that_reach_outside(tmp_path, name, link, here, monkeypatch):
    place = tmp_path / "deep" / "unpacked"
    place.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    monkeypatch.chdir(place)
    evil_zip(tmp_path / "in.zip", name.replace("/abs", f"{tmp_path}/abs"), b"/etc/passwd" if link else b"x", link)
    assert_one_line_error(here(main, "check", tmp_path / "in.zip"), "in in.zip")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["deep", "in.zip", "unpacked"]


def test_pack_makes_the_seven_files_and_a_zip(tree, tmp_path, sample, no_trial):
    root = shutil.copytree(tree, tmp_path / tree.name)
    result = handin(root, "pack", "--id", "31355555", "--data", sample)
    assert result.status == 0, result.stderr
    folder, archive = root / "Lab05_31355555", root / "Lab05_31355555.zip"
    assert sorted(path.name for path in folder.iterdir()) == sorted(NAMES)
    assert (folder / "network_task2.py").read_bytes() == (root / "network2/network.py").read_bytes()
    with zipfile.ZipFile(archive) as file:
        assert file.namelist() == sorted(NAMES) and file.testzip() is None
        assert all(file.read(name) == (folder / name).read_bytes() for name in NAMES)

    # again, over the first, with other weights; another student's and foreign things are not touched
    torch.save(load_file(root / "network/network.py").UNet(6).state_dict(), root / "model_task1.pth")
    pack_here(root, "31355555")
    assert (folder / "model_task1.pth").read_bytes() == (root / "model_task1.pth").read_bytes()
    (folder / "diary.txt").write_text("")
    with pytest.raises(LabError, match=r"found diary\.txt in"):
        pack_here(root, "31355555")
    assert (folder / "diary.txt").exists() and not list(root.glob(".*.part"))


def pack_here(root, student_id, out=None):
    """`handin pack --no-score` in this process."""
    return pack(collect(student_id, root=root), out or root, None, 0.0, lambda finding: None)


def test_pack_refuses_a_fault_unless_told_otherwise(tree, tmp_path, no_trial):
    root = shutil.copytree(tree, tmp_path / "tree")
    (root / "model_task2.pth").unlink()
    (root / "report.pdf").unlink()
    with pytest.raises(LabError, match=r"found 2 \(weights 2, report\): nothing was packed"):
        pack_here(root, "31355555")
    assert not list(root.glob("*Lab05_31355555*"))
    assert handin(root, "pack", "--id", "31355555", "--no-score", "--anyway").status == 0
    assert sorted(path.name for path in (root / "Lab05_31355555").iterdir()) == sorted(
        set(NAMES) - {"model_task2.pth", "report_31355555.pdf"})


def test_pack_takes_the_executed_copy_of_a_notebook(tree, tmp_path, no_trial):
    root = shutil.copytree(tree, tmp_path / "tree")
    stored = root / TASKS[1].notebook
    make_notebook(stored, None, None, None)
    (root / "runs").mkdir()
    executed = make_notebook(root / "runs" / stored.name, 1, 2, 3)
    pack_here(root, "31355555")
    assert (root / "Lab05_31355555" / "Lab05_task1_31355555.ipynb").read_bytes() == executed.read_bytes()
    make_notebook(executed, 1, 2, sources=["x = 0", "x = 'other code'"])  # of an older version of the notebook
    assert collect(root=root).files[PARTS[0]] == stored
    make_notebook(executed, 2, 1, sources=["x = 0", "x = 1"])
    assert collect(root=root).files[PARTS[0]] == stored


def test_pack_asks_which_of_two_reports(tree, tmp_path):
    root = shutil.copytree(tree, tmp_path / "tree")
    (root / "report.pdf").rename(root / "final.pdf")
    assert collect(root=root).files[PARTS[-1]] == root / "final.pdf"  # the only PDF there is
    shutil.copy(root / "final.pdf", root / "final2.pdf")
    assert_one_line_error(handin(root, "check"), "found final.pdf and final2.pdf", "--report FILE")
    chosen = collect(chosen={"report": root / "final2.pdf"}, root=root)
    assert chosen.files[PARTS[-1]] == root / "final2.pdf"


def test_pack_where_nothing_can_be_written(tree, tmp_path, no_trial):
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match=r"expected to write .*choose another place with --out"):
        pack_here(tree, "31355555", tmp_path / "file" / "below")


@pytest.mark.parametrize("earlier", [False, True])
def test_ctrl_c_in_pack_leaves_nothing_half_written(tree, tmp_path, earlier, no_trial):
    root = shutil.copytree(tree, tmp_path / "tree")
    if earlier:
        pack_here(root, "31355555")
    network, sign = root / "network/network.py", tmp_path / "in the middle of the trial"
    with network.open("a", encoding="utf-8") as file:
        file.write(f"import time\nopen({str(sign)!r}, 'w').close()\nwhile True: time.sleep(0.05)\n")
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    process = subprocess.Popen([sys.executable, "-m", "handin", "pack", "--id", "31355555"], cwd=root, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": ""})
    end = time.monotonic() + 60
    while not sign.exists() and time.monotonic() < end:
        time.sleep(0.02)
    assert sign.exists() and list(root.glob(".Lab05_31355555.*.part"))
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130 and stderr.strip() == "stopped by Ctrl-C"
    after = {path: path.read_bytes() for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert after == before


def test_changed_fixed_files_are_named(tree, tmp_path):
    root = shutil.copytree(tree, tmp_path / "tree")
    names = [path.relative_to(root).as_posix() for path in root.rglob("*.py")]
    write_manifest(root, names, "v1")
    metric = root / "utils/metric.py"
    metric.write_text(metric.read_text(encoding="utf-8") + "\n# better\n", encoding="utf-8")
    for task in TASKS.values():  # whose trials are not what this is about
        (root / task.network_file.relative_to(ROOT)).unlink()
    result = handin(root, "check", "--no-score")
    row = "WARN  fixed files     expected the hand-out's files, found that utils/metric.py was changed"
    assert row in result.stdout


def test_a_row_is_one_line():
    assert str(Finding("WARN", "mIoU 1", "text")) == "WARN  mIoU 1          text"
