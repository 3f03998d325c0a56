"""The seven names: right ones, every way to get them wrong, and that the files are found all the same."""
import shutil
import zipfile

import pytest
import torch

from handin.names import PARTS, check_id, plain, read_folder
from handin.weights import check_weights_file, repack
from utils.lab import HANDIN_FILES, STUDENT_NUMBER_FORM, LabError

RIGHT = [template.format(id="31355555") for template in HANDIN_FILES]


@pytest.fixture
def folder(tmp_path):
    """A hand-in of seven files under their right names; what is in them plays no part here."""
    path = tmp_path / "in"
    path.mkdir()
    for name in RIGHT:
        (path / name).write_text("")
    return path


def rename(folder, old, new):
    (folder / new).parent.mkdir(parents=True, exist_ok=True)
    (folder / old).rename(folder / new)


def test_right_names_have_no_problems(folder):
    handin = read_folder(folder)
    assert handin.student_id == "31355555"
    assert not handin.problems and not handin.missing and not handin.extra
    assert {part.name("31355555"): path.name for part, path in handin.files.items()} == {name: name for name in RIGHT}


@pytest.mark.parametrize("name", [
    "lab05_task1_31355555.ipynb", "Lab05_Task1_31355555.ipynb", "LAB05_TASK1_31355555.IPYNB",   # another case
    "Lab05 task1 31355555.ipynb", " Lab05_task1_31355555.ipynb", "Lab05_task1_31355555 .ipynb",  # spaces
    "Lab05-task1-31355555.ipynb", "Lab05_task1_31355555(1).ipynb", "Lab05_task1_31355555 (2).ipynb",
    "Lab05_task1_31355555 - Copy.ipynb", "Copy of Lab05_task1_31355555.ipynb", "Lab05_task1_31355555 副本.ipynb",
    "\uff2c\uff41\uff4205_task\uff11_31355555.ipynb", "Lab05_task1_\uff13\uff11\uff1355555.ipynb",  # full width
    "Lab05_task1_\u200b31355555.ipynb", "Lab05_task1_31355555.ipynb.txt", "Lab05_task1_31355555.ipynb.json",
    "Lab05_segmentation_task1.ipynb", "Lab05_task1.ipynb", "Lab05_task1_ID.ipynb", "task1.ipynb"])
def test_a_notebook_under_another_name_is_found_and_named(folder, name):
    rename(folder, "Lab05_task1_31355555.ipynb", name)
    handin = read_folder(folder)
    assert not handin.missing and not handin.extra
    assert handin.files[PARTS[0]] == folder / name
    assert handin.problems == [f"expected Lab05_task1_31355555.ipynb, found {name}: rename it"]


@pytest.mark.parametrize(("right", "wrong"), [
    ("model_task1.pth", "model_task1.pt"), ("model_task1.pth", "Model_Task1.pth"), ("model_task2.pth", "model2.pth"),
    ("model_task2.pth", "model_task2 (1).pth"), ("model_task2.pth", "best.pth"), ("network_task1.py", "network1.py"),
    ("network_task2.py", "Network_task2.py"), ("report_31355555.pdf", "report.pdf"),
    ("report_31355555.pdf", "Report_31355555.PDF"), ("report_31355555.pdf", "Lab05 report.pdf"),
    ("report_31355555.pdf", "report_31355555.docx")])
def test_other_parts_under_other_names(folder, right, wrong):
    rename(folder, right, wrong)
    handin = read_folder(folder)
    assert not handin.missing and not handin.extra
    assert handin.problems == [f"expected {right}, found {wrong}: rename it"]


def test_two_network_files_of_one_name_are_told_apart_by_their_text(folder):
    from conftest import ROOT

    for number, room in ((1, "network"), (2, "network2")):
        (folder / f"network_task{number}.py").unlink()
        (folder / f"{'ab'[2 - number]}.py").write_bytes((ROOT / room / "network.py").read_bytes())  # b is task 1
    handin = read_folder(folder)
    assert {part.task: path.name for part, path in handin.files.items() if part.kind == "network"} == {
        1: "b.py", 2: "a.py"}


def test_files_one_level_too_deep(folder, tmp_path):
    outer = tmp_path / "outer"
    outer.mkdir()
    folder.rename(outer / "31355555 Müller")
    handin = read_folder(outer)
    assert not handin.missing
    assert handin.problems == ["expected the seven files at the top, found some in 31355555 Müller/: move them up"]


def test_the_folder_that_pack_makes_is_no_level_too_deep(folder, tmp_path):
    outer = tmp_path / "outer"
    outer.mkdir()
    folder.rename(outer / "Lab05_31355555")
    handin = read_folder(outer)
    assert not handin.problems and not handin.missing and handin.where == outer / "Lab05_31355555"
    (outer / "notes.txt").write_text("")  # no longer alone
    assert "found some in Lab05_31355555/" in read_folder(outer).problems[0]


def test_two_ids_in_one_set(folder):
    rename(folder, "report_31355555.pdf", "report_31355556.pdf")
    handin = read_folder(folder)
    assert handin.student_id == "31355555"
    assert handin.problems[0].startswith("expected one student number in all names, found 31355555 and 31355556")
    assert handin.problems[1] == "expected report_31355555.pdf, found report_31355556.pdf: rename it"


def test_letters_in_a_student_number(folder):
    for name in RIGHT:
        if "31355555" in name:
            rename(folder, name, name.replace("31355555", "r12921001"))
    form = "[A-Z][0-9]{8}"
    handin = read_folder(folder, form=form)
    assert handin.student_id == "r12921001" and not handin.problems
    rename(folder, "report_r12921001.pdf", "Report_R12921001.pdf")
    problems = ["expected report_r12921001.pdf, found Report_R12921001.pdf: rename it"]
    assert read_folder(folder, form=form).problems == problems
    assert read_folder(folder).student_id is None  # by default a number has digits alone


def test_anothers_id(folder):
    problems = read_folder(folder, "31355777").problems
    assert problems[0] == "expected the student number 31355777 in the names, found 31355555: rename"
    assert "expected report_31355777.pdf, found report_31355555.pdf: rename it" in problems


def test_a_number_that_the_grader_knows_may_have_any_form(folder):
    for name in RIGHT:
        (folder / name).rename(folder / name.replace("31355555", "guest-7"))
    assert read_folder(folder, "guest-7").problems == []
    problems = read_folder(folder).problems
    assert problems[0] == ("expected Lab05_task1_ID.ipynb, found Lab05_task1_guest-7.ipynb: rename it, with your "
                           f"student number ({STUDENT_NUMBER_FORM}) for ID")


def test_a_copy_beside_the_right_file_is_extra_and_costs_nothing(folder):
    shutil.copy(folder / "model_task1.pth", folder / "model_task1 (1).pth")
    handin = read_folder(folder)
    assert handin.files[PARTS[4]].name == "model_task1.pth"
    assert not handin.problems and [path.name for path in handin.extra] == ["model_task1 (1).pth"]


def test_missing_parts_are_named_and_not_filled_with_something_else(folder):
    (folder / "model_task2.pth").unlink()
    (folder / "network_task1.py").unlink()
    handin = read_folder(folder)
    assert [part.subject for part in handin.missing] == ["network 1", "weights 2"]
    assert not handin.problems


def test_junk_and_links_are_passed_over(folder, tmp_path):
    secret = tmp_path / "secret.pth"
    secret.write_text("")
    (folder / "link.pth").symlink_to(secret)
    (folder / "__pycache__").mkdir()
    for name in (".DS_Store", "Thumbs.db", "__pycache__/network_task1.pyc"):
        (folder / name).write_text("")
    assert not read_folder(folder).extra


def test_empty_missing_and_unreadable_folders(tmp_path):
    (tmp_path / "empty").mkdir()
    for path, found in ((tmp_path / "empty", "found none in"), (tmp_path / "none", "found none at")):
        with pytest.raises(LabError, match=found):
            read_folder(path)


@pytest.mark.parametrize("wrong", ["ID", "", "1", "313555", "31355555123", "abc31355555", "R12921001", "\u0663" * 8,
                                   "313 555", "31355555.pdf", "../1", "学号"])
def test_student_numbers(wrong):
    assert check_id("31355555") == "31355555" and check_id("3135555") == "3135555"
    with pytest.raises(LabError, match="expected a student number"):
        check_id(wrong)


def test_plain_names():
    assert plain("\uff2c\uff41\uff42 05-Task1 (1).IPYNB") == "lab_05_task1.ipynb"
    assert plain("model.pth.zip") == plain("model.pth.tar") == "model.pth"
    assert plain("Lab05_31355555.zip") == "lab05_31355555.zip"


@pytest.mark.parametrize("name", ["model_task1.pth.tar", "model_task1.pth.zip", "model_task1.zip", "best.zip"])
def test_weights_that_a_browser_or_a_habit_named_are_found(folder, name, weights):
    (folder / "model_task1.pth").unlink()
    shutil.copy(weights[1], folder / name)
    handin = read_folder(folder)
    assert not handin.missing and not handin.extra and handin.files[PARTS[4]].name == name
    assert handin.problems == [f"expected model_task1.pth, found {name}: rename it"]


@pytest.mark.parametrize("within", ["", "model_task1"])
def test_weights_that_a_browser_unpacked_are_found_and_packed_again(folder, weights, within, tmp_path):
    (folder / "model_task1.pth").unlink()
    with zipfile.ZipFile(weights[1]) as archive:
        for name in archive.namelist():
            path = folder / "model_task1" / within / name.partition("/")[2]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.read(name))
    handin = read_folder(folder)
    assert not handin.missing and not handin.extra and handin.files[PARTS[4]] == folder / "model_task1"
    assert handin.problems == ["expected model_task1.pth, found the folder model_task1: a browser has unpacked the "
                               "file, hand in the file itself"]
    repack(folder / "model_task1", tmp_path / "again.pth")
    expected, found = (torch.load(path, weights_only=True) for path in (weights[1], tmp_path / "again.pth"))
    assert expected.keys() == found.keys() and all(torch.equal(expected[key], found[key]) for key in expected)
    check_weights_file(tmp_path / "again.pth")
