"""A class of odd hand-ins, from its folder to the records: everybody ends as the table in classroom_odd.py says.

A few of them in each run, the whole class in make test-long. Then the report: its table as people leave it, and two
runs on it at a time.
"""
import csv
import os
import shutil

import pytest
from classroom_odd import COURSE, LOOSE, ODD, ROSTER, SIZE_KB, make_odd_class
from conftest import assert_one_line_error, run_command, sandbox_level
from grading_once import Once

from grading import class_run
from grading.course import read_course
from grading.grade import dry_run, grade
from grading.lock import report_lock
from grading.records import read_records, shown
from grading.settings import GradeSettings

HIDDEN = ("leftImg8bit/val/{city}/.goutputstream-X7_leftImg8bit.png", "gtFine/val/{city}/~$x_gtFine_labelIds.png",
          "leftImg8bit/val/desktop.ini", "leftImg8bit/val/.directory")
ABSENT = ("B10902090", "B10902091")


def hide_files(data):
    """Puts what systems and editors leave into a folder of images."""
    city = next((data / "leftImg8bit" / "val").iterdir()).name
    for name in HIDDEN:
        (data / name.format(city=city)).write_bytes(b"no image")
    return data


@pytest.fixture(scope="module", params=["few", pytest.param("all", marks=pytest.mark.long)])
def graded(request, tmp_path_factory, sample):
    """The odd class, graded on images below a name that is no UTF-8: its table, settings, summary and first lines."""
    sandbox_level()
    folder = tmp_path_factory.mktemp("odd")
    students = tuple(one for one in ODD if one.few or request.param == "all")
    data = folder / os.fsdecode(b"donn\xe9es")
    shutil.copytree(sample, data, ignore=shutil.ignore_patterns("lab-cache"))
    for name, text in (("course.toml", COURSE), ("roster.csv", ROSTER)):
        (folder / name).write_text(text, encoding="utf-8")
    settings = GradeSettings(make_odd_class(folder / "class", students), hide_files(data), folder / "report",
                             folder / "roster.csv", wall=120.0, course=read_course(folder / "course.toml"))
    told = dry_run(settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(class_run, "try_task", Once())
        done = grade(settings)
    return students, settings, done, told


def ending(record):
    """What the table says of a student, as the record has it."""
    tasks = record["tasks"]
    return {"student": record["student"], "first": tasks["1"]["state"], "second": tasks["2"]["state"],
            "naming": bool(record["naming"]), "late": record["late"], "assumed": record["time_assumed"],
            "contested": bool(record["contested"]), "files": len(record["files"])}


def words_of(record):
    """All that a person is told of a student."""
    texts = [finding["text"] for finding in record["findings"]]
    for task in record["tasks"].values():
        texts += [task["why"], *(flag["text"] for flag in task["flags"])]
    return "\n".join([*texts, record["contested"], record["late_mark"], *record["naming"]])


def test_everybody_ends_as_the_table_says(graded):
    students, settings, done, _ = graded
    records = {record["folder"]: record for record in read_records(settings.out)}
    assert not done.failed and done.absent == len(done_absent(students))
    expected, found, unsaid = {}, {}, []
    for one in students:
        place = shown(one.folder or one.where)
        expected[place] = {"student": one.student or one.number, "first": one.first, "second": one.second,
                           "naming": one.naming, "late": one.late, "assumed": not one.at.endswith("Z"),
                           "contested": one.contested, "files": 7}
        record = records.pop(place, None)
        found[place] = ending(record) if record else "no record"
        if record and one.says not in words_of(record):
            unsaid.append((place, one.says, words_of(record)))
    assert found == expected
    assert not unsaid
    assert sorted(record["student"] for record in records.values()) == done_absent(students)


def done_absent(students):
    """Those on the roster of whom this form of the class has nothing."""
    numbers = {line.partition(";")[0] for line in ROSTER.splitlines()[1:]}
    return sorted(numbers - {one.student or one.number for one in students})


def test_it_is_said_who_was_found_and_what_was_passed_over(graded):
    students, _, _, told = graded
    notes = [line for line in told if line.startswith("note: ")]
    assert len(notes) == len(LOOSE)
    for words in LOOSE.values():
        assert sum(words in line for line in notes) == 1, words
    absent = done_absent(students)
    assert set(ABSENT) <= set(absent)
    assert [line.split(":")[0] for line in told if line.endswith("on the roster, handed in nothing")] == absent
    assert told[-1] == (f"{len(students)} students with a submission, {len(absent)} of the "
                        f"{len(ROSTER.splitlines()) - 1} on the roster without one, {len(LOOSE)} notes on what was "
                        "passed over")


def test_what_a_pass_keeps_is_not_counted_and_hidden_images_are_none(graded):
    students, settings, _, _ = graded
    records = {record["folder"]: record for record in read_records(settings.out)}
    for one in students:
        task = records[shown(one.folder or one.where)]["tasks"]["2"]
        if one.item in (2, 12) and one.second == "OK":
            assert task["size_kb"] == SIZE_KB
            assert sum(map(sum, task["confusion"])) == 2 * 256 * 512


def grade_again(settings, *more):
    """The same by the command, of which nothing is left to do."""
    return run_command("-m", "grading", "grade", settings.submissions, "--data", settings.data, "--out", settings.out,
                       "--roster", settings.roster, "--course", settings.roster.with_name("course.toml"), "--wall", 120,
                       *more)


@pytest.mark.long
def test_two_runs_on_one_report(graded):
    _, settings, _, _ = graded
    for held, more in (((0, 1), ()), ((1, 2), ("--shard", "4/4"))):
        with report_lock(settings.out, held):
            assert_one_line_error(grade_again(settings, *more), f"process {os.getpid()}", "wait for it")


def test_nothing_is_graded_twice(graded):
    _, settings, _, _ = graded
    before = {path: path.read_bytes() for path in (settings.out / "records").iterdir()}
    again = grade_again(settings)
    assert again.status == 0 and ": 0 graded now" in again.stdout.splitlines()[0], again.stdout + again.stderr
    assert {path: path.read_bytes() for path in (settings.out / "records").iterdir()} == before


HEAD = "student,item,reason,points,decision,note\n"


@pytest.mark.long
@pytest.mark.parametrize(("row", "words"), [
    ('B10902001,report,,,12,"asked, see the mail\nB10902002,report,,,9,\n', "line 2"),
    ('B10902001,report,,,12,fine\n"B10902002,report,,,9,\n', "line 3"),
    ("B10902001,Task_2,,,12,\n", "write 'task 2'"), ("B10902001,nameing,,,waive,\n", "write 'naming'"),
    ("B10902001,report,,,9e99,\n", "found '9e99' in line 2"), ("B10902001,report,,,-inf,\n", "found '-inf' in line 2"),
    ("B10902097,report,,,11,\n", None), ("B1090200l,naming,,,waive,\n", None)])
def test_a_table_that_people_left_odd(tmp_path, graded, row, words):
    _, settings, _, _ = graded
    out = tmp_path / "report"
    shutil.copytree(settings.out, out)
    table = out / "overrides.csv"
    table.write_text(HEAD + row, encoding="utf-8")
    before = table.read_bytes()
    done = run_command("-m", "grading", "report", out)
    if words:
        assert_one_line_error(done, words)
        assert table.read_bytes() == before
        return
    assert done.status == 0, done.stderr
    student, item, _, _, decision, _ = row.strip().split(",")
    rows = list(csv.DictReader(table.read_text(encoding="utf-8-sig").splitlines()))
    kept = [one for one in rows if (one["student"], one["item"]) == (student, item)]
    assert kept and kept[0]["decision"] == decision
    assert f"has a row for {student}, of whom there is no record" in done.stderr
    assert [path.read_bytes() for path in (out / "overrides-backup").iterdir()] == [before]
