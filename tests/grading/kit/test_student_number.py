"""The form of a student's number stands in the course's file; the grader goes by it. The kit: test_course_numbers."""
from pathlib import Path

import pytest
from conftest import ROOT
from made_handins import class_of, pack, seven

from grading.__main__ import main
from grading.course import read_course
from utils.lab import LabError

FORM = r"[a-z]\d{8}|G\d{3}"  # e24061234, or a guest's G123


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("course") / "course.toml"
    path.write_text(f"[student]\nnumber = '{FORM}'\nwords = \"a letter and 8 digits, or G and 3\"\n")
    return path


def test_the_classs_students_are_found_by_it(course, tmp_path):
    form = read_course(course).number
    room = tmp_path / "class"
    for number in ("E24061234", "f74099999"):
        pack(room / f"Lab05_{number}.zip", seven(tmp_path / "of" / number, number), f"Lab05_{number}/")
    seven(room / "Ada's homework", "h10000001")
    seven(room / "31355555", "G123")
    found = {student.number: student.submission for student in class_of(room, tmp_path / "s", form=form)}
    assert sorted(found) == ["E24061234", "F74099999", "G123", "H10000001"]
    assert not any(one.naming for one in found.values())
    plain = class_of(room, tmp_path / "s")  # by the usual form, the folder's number is one
    assert [student.number for student in plain] == ["31355555", "", "", ""]


def test_the_command_goes_by_it(course, here, tmp_path):
    seven(tmp_path / "class" / "e24061234", "e24061234")
    seven(tmp_path / "class" / "e24061235 (1)", "e24061235")
    done = here(main, "grade", tmp_path / "class", "--dry-run", "--course", course)
    assert done.stdout.splitlines() == [
        "E24061234 in e24061234: 7 of 7 files", "E24061235 in e24061235 (1): 7 of 7 files",
        "2 students with a submission"], done.stderr


@pytest.mark.parametrize(("text", "words"), [
    ("number = '[0-9'", "found '[0-9' (unterminated"), ("number = 7", "found 7 in"), ("number = ''", "found '' in"),
    (r"number = '\w+'", r"found '\\w+' in"), ("number = '(?i)e[0-9]{8}'", "found '(?i)e[0-9]{8}' ("),
    ("number = '[0-9]{4}'", "found '[0-9]{4}' in"), ("words = 'nine digits'", "found None in"),
    ("number = '[0-9]{9}'\nwords = 9", "expected as student.words a few words, found 9"),
    ("digits = 9", "expected number, words in [student], found 'digits'")])
def test_a_form_that_cannot_be_meant_is_told(tmp_path, text, words):
    path = tmp_path / "course.toml"
    path.write_text(f"[student]\n{text}\n")
    with pytest.raises(LabError) as told:
        read_course(path)
    assert words in str(told.value) and "\n" not in str(told.value) and str(path) in str(told.value)


def test_without_a_word_about_it_a_number_has_7_to_10_digits(tmp_path):
    from re import fullmatch

    course = read_course()
    assert course.number_words == "7 to 10 digits"
    assert [bool(fullmatch(course.number, "1" * count)) for count in range(5, 13)] == [False] * 2 + [True] * 4 + \
        [False] * 2
    (tmp_path / "a.toml").write_text("[student]\nnumber = 'B[0-9]{9}'\n")
    assert read_course(tmp_path / "a.toml").number_words == "the form B[0-9]{9}"
    assert "B[0-9]" not in (ROOT / "utils/lab.py").read_text(encoding="utf-8")
