"""A made-up class, from Moodle's zip to the page: all end as they must, and a second run grades nobody again."""
import csv
import json

import pytest
from classroom import CLASS, make_class
from conftest import run_command, sandbox_level

from grading.records import read_records


@pytest.fixture(scope="module")
def graded(tmp_path_factory, weights, sample):
    """The class, graded by the command: its answer, and the report's folder."""
    sandbox_level()
    folder = tmp_path_factory.mktemp("class")
    submissions = make_class(folder / "submissions.zip", weights)
    arguments = ("-m", "grading", "grade", submissions, "--data", sample, "--out", folder / "report", "--wall", 25)
    return run_command(*arguments, timeout=600), folder / "report", arguments


def test_everybody_is_graded_and_ends_as_expected(graded):
    result, out, _ = graded
    assert result.status == 0, result.stderr
    records = {record["student"]: record for record in read_records(out)}
    assert len(records) == len(CLASS) + 1  # and the one who handed in nothing
    found = {student: (record["tasks"]["1"]["state"], record["tasks"]["2"]["state"], bool(record["naming"]))
             for student, record in records.items()}
    expected = {student: (first, second, naming) for student, _, _, first, second, naming in CLASS}
    assert {student: found[student] for student in expected} == expected
    assert {record["level"] for record in records.values() if record["level"]} == {sandbox_level().value}


def test_the_second_run_grades_nobody_again(graded):
    _, out, arguments = graded
    before = {path: path.read_bytes() for path in (out / "records").iterdir()}
    again = run_command(*arguments)
    assert again.status == 0 and again.stdout.startswith(f"{len(CLASS) + 1} students: 0 graded now"), again.stdout
    assert {path: path.read_bytes() for path in (out / "records").iterdir()} == before


def test_the_report_is_made_of_it(graded):
    _, out, _ = graded
    result = run_command("-m", "grading", "report", out)
    assert result.status == 0, result.stderr
    rows = list(csv.DictReader((out / "grades.csv").read_text(encoding="utf-8-sig").splitlines()))
    assert len(rows) == len(CLASS) + 1
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "Mallory" in page and "<b>One</b>" not in page
    assert json.loads((out / "results/31355501.json").read_text(encoding="utf-8"))["tests"]
