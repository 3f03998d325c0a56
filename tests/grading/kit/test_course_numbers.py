"""A number of the course is changed in one place: kit, notebooks, checks, scripts and the class's report follow.

Thresholds stand in utils/lab.py, the form of a student's number in grading/course.toml.
"""
import ast
import csv
import re
import shutil
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT, assert_one_line_error, run_command
from made_records import slug_of, write_class

from grading.kit.archive import unpack_archive
from grading.kit.contents import kit_files
from utils.lab import FOM_OFFSET, TASKS

NEW = {number: round(task.miou + 0.0145, 4) for number, task in TASKS.items()}
FORM, WORDS = r"[a-z]\d{8}|G\d{3}", "a letter and 8 digits"  # e24061234, or a guest's G123


@pytest.fixture(scope="module")
def changed(tmp_path_factory) -> Path:
    """A copy of the repository with other thresholds, and another form of a student's number."""
    folder = tmp_path_factory.mktemp("changed")
    paths = [*kit_files(ROOT).values(), *(path for path in (ROOT / "grading").rglob("*") if path.is_file())]
    for path in paths:
        if "__pycache__" not in path.parts:
            place = folder / path.relative_to(ROOT)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
    lab = folder / "utils/lab.py"
    text = lab.read_text(encoding="utf-8")
    for number, task in TASKS.items():
        assert len(re.findall(rf"\b{task.miou}\b", text)) == 1, "each threshold is typed once"
        text = text.replace(str(task.miou), str(NEW[number]))
    lab.write_text(text, encoding="utf-8")
    course = folder / "grading/course.toml"
    text = course.read_text(encoding="utf-8")
    assert text.count("[student]\n") == 1
    course.write_text(text.replace("[student]\n", f"[student]\nnumber = '{FORM}'\nwords = '{WORDS}'\n"),
                      encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def kit(changed, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("kit")
    done = run_command("-m", "grading", "release", "--no-trial", "--out", folder / "Lab.tar", cwd=changed,
                       PYTHONPATH=str(changed))
    assert done.status == 0, done.stderr
    unpack_archive(folder / "Lab.tar", "tar", folder)
    return folder / "Lab"


def test_no_text_for_students_has_the_number_typed_again(kit):
    texts = {path.relative_to(kit).as_posix(): path.read_text(encoding="utf-8") for path in kit.rglob("*.md")}
    texts |= {path.name: "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
              for path in kit.glob("*.ipynb")}
    assert len(texts) > 5
    for name, text in texts.items():
        for task in TASKS.values():
            assert not re.search(rf"(?<![\d.]){task.miou}(?!\d)", text), f"{name} has {task.miou}"
    assert all(str(miou) in texts["README.md"] for miou in NEW.values())


def test_the_students_check_and_figure_of_merit_go_by_it(kit, sample, weights, tmp_path):
    for number, task in TASKS.items():
        shutil.copy(weights[number], tmp_path / task.model_file)
        shutil.copy(task.network_file, tmp_path / f"network_task{number}.py")
    done = run_command("-m", "handin", "check", tmp_path, "--data", sample, cwd=kit, PYTHONPATH=str(kit))
    shown = done.stdout + done.stderr
    assert all(f"expected at least {miou}, found " in shown for miou in NEW.values()), shown
    below = f"[figure_of_merit(1e7, 100.0, miou) for miou in ({NEW[2]} - 1e-6, {NEW[2]})]"
    done = run_command("-c", f"from utils.complexity import figure_of_merit; print({below})", cwd=kit,
                       PYTHONPATH=str(kit))
    expected = 1e14 * 1e4 / (NEW[2] - FOM_OFFSET)
    assert done.stdout.startswith("[None, ") and float(done.stdout.split()[1][:-1]) == pytest.approx(expected)


def test_the_students_pack_goes_by_the_form_of_a_number(kit, tmp_path):
    lines = {line for line in (kit / "utils/lab.py").read_text(encoding="utf-8").splitlines() if "STUDENT_NUM" in line}
    assert {name: ast.literal_eval(value) for name, value in (line.split(" = ") for line in lines)} == {
        "STUDENT_NUMBER": FORM, "STUDENT_NUMBER_FORM": WORDS}
    pack = ("-m", "handin", "pack", "--anyway", "--no-score", "--out", tmp_path, "--id")
    done = run_command(*pack, "31355555", cwd=kit, PYTHONPATH=str(kit))
    assert_one_line_error(done, f"expected a student number of {WORDS}, found '31355555': pass your own with --id")
    done = run_command(*pack, "E24061234", cwd=kit, PYTHONPATH=str(kit))
    names = {path.name for path in (tmp_path / "Lab05_E24061234").iterdir()}
    assert {"Lab05_task1_E24061234.ipynb", "network_task2.py"} <= names, done.stderr
    assert "rename" not in done.stdout, done.stdout


def test_the_classs_report_goes_by_it(changed, tmp_path):
    records = write_class(tmp_path)
    between = [record for record in records if record["tasks"]["1"]["miou"]
               and TASKS[1].miou <= record["tasks"]["1"]["miou"] < NEW[1]]
    done = run_command("-m", "grading", "report", tmp_path, cwd=changed, PYTHONPATH=str(changed))
    assert done.status == 0, done.stderr
    with (tmp_path / "grades.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = {row["slug"]: row for row in csv.DictReader(file)}
    assert between and all(rows[slug_of(record)]["points task 1"] == "0" for record in between)
    assert all((row["points task 1"] == "25") == (float(row["mIoU task 1"] or 0) >= NEW[1]) for row in rows.values())
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert f"Task 1: {NEW[1]:g} reached" in page and f"Task 2: {NEW[2]:g} reached" in page
