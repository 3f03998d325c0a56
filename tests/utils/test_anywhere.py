"""A notebook that is opened without its lab finds it, and tasks.py does without make what the Makefile does."""
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT, run_command

from utils.anywhere import missing_packages
from utils.lab import TASKS

FIRST = next(cell.source for cell in nbformat.read(ROOT / TASKS[1].notebook, as_version=4).cells
             if cell.cell_type == "code")
TELL = "\nimport os, utils.lab; print('at', os.getcwd(), utils.lab.__file__)"


def open_notebook(folder: Path, code: str = FIRST + TELL, python: Path = Path(sys.executable), **environment: str
                  ) -> subprocess.CompletedProcess:
    """What the notebook's first cell does in `folder`, as a kernel that starts there would."""
    names = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run([python, "-P", "-c", code], cwd=folder, env={**names, **environment}, text=True,
                          capture_output=True, encoding="utf-8", check=False)


@pytest.fixture
def lab(tmp_path) -> Path:
    """As much of the lab as the first cell needs, in a folder of another name."""
    folder = tmp_path / "DL_Lab5"
    (folder / "utils").mkdir(parents=True)
    for name in ("utils/__init__.py", "utils/anywhere.py", "utils/lab.py", "utils/terminal.py", "requirements.txt"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder


def test_beside_the_lab_nothing_happens():
    done = open_notebook(ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"at {ROOT} {ROOT / 'utils/lab.py'}\n"


@pytest.mark.parametrize("where", ["notes/week 2", "."])
def test_the_lab_is_found_above_and_below(lab, where):
    place = lab / where if where != "." else lab.parent
    place.mkdir(parents=True, exist_ok=True)
    done = open_notebook(place)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"working in {lab}\nat {lab} {lab / 'utils/lab.py'}\n"


def test_the_kit_is_fetched_from_the_courses_address(lab, tmp_path):
    alone = tmp_path / "content"
    alone.mkdir()
    with tarfile.open(tmp_path / "kit.tar.gz", "w:gz") as archive:
        archive.add(lab, "Lab-main")
    code = FIRST.replace('kit = ""', f'kit = "{(tmp_path / "kit.tar.gz").as_uri()}"') + TELL
    done = open_notebook(alone, code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == f"working in {alone / 'Lab-main'}"


def test_without_lab_and_address_one_line_says_what_to_do(tmp_path):
    done = open_notebook(tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("expected the lab beside this notebook, found none")


@pytest.fixture
def bare(tmp_path) -> Path:
    """A Python with the packages of this one, into which more can be installed, as on a host with torch."""
    venv.create(tmp_path / "host", with_pip=False)
    python = tmp_path / "host" / "bin" / "python"
    site = next((tmp_path / "host").glob("lib/python*/site-packages"))
    (site / "outer.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    return python


def made_package(folder: Path) -> None:
    """A package that nobody has, as a wheel."""
    with zipfile.ZipFile(folder / "labmade-2.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("labmade.py", "answer = 42\n")
        wheel.writestr("labmade-2.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: labmade\nVersion: 2.0\n")
        wheel.writestr("labmade-2.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n"
                                                      "Tag: py3-none-any\n")
        wheel.writestr("labmade-2.0.dist-info/RECORD", "")


def test_only_what_is_missing_is_installed(lab, bare, tmp_path):
    made_package(tmp_path)
    with (lab / "requirements.txt").open("a") as file:
        file.write('labmade>=1   # made here\nnobodys-package; python_version < "3"\n')
    environment = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    done = open_notebook(lab, FIRST + "\nimport labmade; print(labmade.answer)", bare, **environment)
    assert done.returncode == 0, done.stderr
    said, answer = done.stdout.splitlines()
    assert said.startswith("installed labmade; torch ") and said.endswith(" stays") and answer == "42"
    assert open_notebook(lab, FIRST, bare, **environment).stdout == ""  # the second time nothing is missing


def test_a_wrong_kernel_and_a_failing_pip_end_in_one_line(lab, bare, tmp_path):
    text = (lab / "requirements.txt").read_text(encoding="utf-8")
    for torch, own, words in (("torch>=99", False, "no torch that fits"), ("labmade>=1", True, "no labmade"),
                              ("labmade>=1", False, "expected pip to install labmade, found: ")):
        (lab / "requirements.txt").write_text(f"{text}{torch}\n", encoding="utf-8")
        if own:
            (lab / ".venv").mkdir()
        done = open_notebook(lab, FIRST, bare, PIP_NO_INDEX="1")
        last = done.stderr.strip().splitlines()[-1]
        assert done.returncode == 1 and last.startswith("utils.lab.LabError: expected") and words in last
        if own:
            (lab / ".venv").rmdir()


def test_requirements_are_read_with_markers_and_bounds(tmp_path):
    (tmp_path / "r.txt").write_text("# a list\n-r other.txt\npip>=1  # there\nnone-such\npip>=999\n"
                                    "pip>=999; python_version < '3'\n", encoding="utf-8")
    assert [str(item) for item in missing_packages(tmp_path / "r.txt")] == ["none-such", "pip>=999"]


@pytest.mark.parametrize(("arguments", "words"), [
    (("nonsense",), "found 'nonsense'"), (("lab", "EPOCH=3"), "found 'EPOCH=3'"), (("lab", "fast"), "found 'fast'")])
def test_tasks_refuse_what_they_do_not_know(arguments, words):
    result = run_command("tasks.py", *arguments)
    assert result.status == 2 and result.stderr.count("\n") == 1 and words in result.stderr


def test_tasks_list_the_makefiles_targets():
    makefile = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    told = {line.split(maxsplit=2)[1]: line.split(maxsplit=2)[2] for line in makefile.splitlines()
            if not line.split(maxsplit=2)[2].startswith("- ")}
    listed = {line.split(maxsplit=3)[2]: line.split(maxsplit=3)[3]
              for line in run_command("tasks.py").stdout.splitlines()}
    assert told == listed


def test_runs_may_lie_on_a_mounted_drive(tmp_path):
    done = open_notebook(ROOT, "from utils.lab import RUNS; print(RUNS)", LAB_RUNS=str(tmp_path / "drive"),
                         PYTHONPATH=str(ROOT))
    assert done.stdout == f"{tmp_path / 'drive'}\n"
    result = run_command("-m", "handin", "check", "--no-score", LAB_RUNS=str(tmp_path / "drive"))
    assert result.status == 2 and "Traceback" not in result.stderr
