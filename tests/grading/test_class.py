"""A made-up class, from Moodle's zip to the page: all end as they must, and a second run grades nobody again.

A few of the class in each run, the whole class in make test-long.
"""
import csv
import json
from argparse import ArgumentParser

import pytest
from classroom import CLASS, make_class
from conftest import run_command, sandbox_level
from grading_once import Once

from grading import class_run
from grading.grade import grade
from grading.records import read_records
from grading.report import build as report
from grading.settings import GradeSettings

FEW = ("31355501", "31355503", "31355505", "31355510", "31355516", "31355520", "31355522", "31355525")


@pytest.fixture(scope="module", params=["few", pytest.param("all", marks=pytest.mark.long)])
def graded(request, tmp_path_factory, weights, sample):
    """The class, graded: its students, what was done, the report's folder, and the command that does the same."""
    sandbox_level()
    folder = tmp_path_factory.mktemp("class")
    students = [row for row in CLASS if request.param == "all" or row[0] in FEW]
    submissions = make_class(folder / "submissions.zip", weights, students)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(class_run, "try_task", Once())
        done = grade(GradeSettings(submissions, sample, folder / "report", wall=60.0))
    return students, done, folder / "report", ("-m", "grading", "grade", submissions, "--data", sample, "--out",
                                     folder / "report", "--wall", 60)


def test_everybody_is_graded_and_ends_as_expected(graded):
    students, done, out, _ = graded
    assert done.graded == len(students) + 1 and not done.failed
    records = {record["student"]: record for record in read_records(out)}
    assert len(records) == len(students) + 1  # and the one who handed in nothing
    found = {student: (record["tasks"]["1"]["state"], record["tasks"]["2"]["state"], bool(record["naming"]))
             for student, record in records.items()}
    expected = {student: (first, second, naming) for student, _, _, first, second, naming in students}
    assert {student: found[student] for student in expected} == expected
    assert {record["level"] for record in records.values() if record["level"]} == {sandbox_level().value}


def test_the_second_run_grades_nobody_again(graded):
    students, _, out, arguments = graded
    before = {path: path.read_bytes() for path in (out / "records").iterdir()}
    again = run_command(*arguments)
    assert again.status == 0 and again.stdout.startswith(f"{len(students) + 1} students: 0 graded now"), again.stdout
    assert {path: path.read_bytes() for path in (out / "records").iterdir()} == before


def test_the_report_is_made_of_it(graded, here):
    def main():
        parser = ArgumentParser()
        report.add_arguments(parser.add_subparsers())
        arguments = parser.parse_args()
        arguments.run(arguments)

    students, _, out, _ = graded
    result = here(main, "report", out)
    assert result.status == 0, result.stderr
    rows = list(csv.DictReader((out / "grades.csv").read_text(encoding="utf-8-sig").splitlines()))
    assert len(rows) == len(students) + 1
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "Mallory" in page and "<b>One</b>" not in page
    assert json.loads((out / "results/31355501.json").read_text(encoding="utf-8"))["tests"]
