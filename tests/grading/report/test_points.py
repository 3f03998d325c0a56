"""Points, ranks and decisions, worked out by hand."""
import csv
import datetime
from dataclasses import replace

import pytest

from grading.course import read_course
from grading.records import empty_task
from grading.report.overrides import NAME, read_overrides, rename
from grading.report.points import LATE, NAMING, RANK, REPORT, TASK1, TASK2, award, points
from utils.lab import TASKS, LabError

COURSE = read_course()


def record(slug, miou1=0.75, miou2=0.70, fom=1e20, *, naming=(), missing=(), states=("OK", "OK"), submitted=None):
    tasks = {}
    for number, state, miou in (("1", states[0], miou1), ("2", states[1], miou2)):
        scored = {"miou": miou, "fom": fom if number == "2" else None} \
            if state in ("OK", "FLAGGED", "COST_UNVERIFIED") else {}
        flags = [{"code": "SUBCLASS", "text": "a convolution that thop cannot see"}] if state == "FLAGGED" else []
        tasks[number] = empty_task(state, "") | scored | {"flags": flags}
    return {"schema": 1, "slug": slug, "student": slug, "naming": list(naming), "missing": list(missing),
            "submitted": submitted, "tasks": tasks}


def items(*records, course=COURSE, rows=()):
    return {slug: one.items for slug, one in award(records, course, rows).items()}


def decide(out, item, decision, student="a", **more):
    """What a TA does in the table: a decision in the row of an item."""
    rows = list(csv.reader((out / NAME).read_text(encoding="utf-8-sig").splitlines(keepends=True)))
    for row in rows:
        if row[:2] == [student, item]:
            row[4] = decision
            row[5] = more.get("note", row[5])
    with (out / NAME).open("w", encoding=more.get("encoding", "utf-8-sig"), newline="") as file:
        csv.writer(file, delimiter=more.get("delimiter", ",")).writerows(rows)


def test_the_courses_file_says_what_the_lab_says():
    assert COURSE.points == {"task1": 25, "task2": 25, "rank": 30, "report": 20, "naming": -5, "late": 0}
    assert COURSE.thresholds == {number: task.miou for number, task in TASKS.items()}
    assert COURSE.rule == "linear" and COURSE.deadline is None


def test_thresholds_are_reached_by_equality():
    one, two = COURSE.thresholds[1], COURSE.thresholds[2]
    found = items(record("a", one, two), record("b", one - 1e-6, two - 1e-6, None), record("c", 0.0, None, None))
    assert [found[slug][TASK1] for slug in "abc"] == [25, 0, 0]
    assert [found[slug][TASK2] for slug in "abc"] == [25, 0, 0]
    assert [found[slug][RANK] for slug in "abc"] == [30, 0, 0]


def test_ranks_are_by_fom_then_miou_and_equals_share_one():
    found = award([record("a", fom=3e20), record("b", fom=1e20), record("c", fom=2e20, miou2=0.70),
                   record("d", fom=2e20, miou2=0.71), record("e", fom=2e20, miou2=0.70), record("f", fom=None)], COURSE)
    assert {slug: one.rank for slug, one in found.items()} == {"b": 1, "d": 2, "c": 3, "e": 3, "a": 5, "f": None}
    # of 5: 30, 24, 18, 12, 6
    assert [found[slug].items[RANK] for slug in "bdceaf"] == [30, 24, 18, 18, 6, 0]
    assert all(one.ranked == 5 for one in found.values())


@pytest.mark.parametrize("state", ["MISSING_FILE", "IMPORT_ERROR", "LOAD_ERROR", "SHAPE_ERROR", "TIMEOUT",
                                   "OUT_OF_MEMORY", "CRASH"])
def test_a_task_without_a_score_gets_nothing_and_the_other_its_own(state):
    found = award([record("a", states=(state, "OK")), record("b", states=("OK", state))], COURSE)
    assert [found["a"].items[item] for item in (TASK1, TASK2, RANK)] == [0, 25, 30]
    assert [found["b"].items[item] for item in (TASK1, TASK2, RANK)] == [25, 0, 0]
    assert found["a"].ranked == 1 and found["b"].rank is None


def test_naming_costs_once_and_the_report_waits(tmp_path):
    found = points(tmp_path, COURSE, [record("a", naming=["one", "two"]), record("b", missing=["report"])])
    assert found["a"].items == {TASK1: 25, TASK2: 25, RANK: 30, REPORT: None, NAMING: -5}
    assert found["a"].total == 75 and found["a"].pending == ["report: to be read"] and not found["a"].complete
    assert found["b"].items[REPORT] == 0 and found["b"].complete and found["b"].items[NAMING] == 0
    rows = {(row.student, row.item): row for row in read_overrides(tmp_path)}
    assert (rows["a", "naming"].reason, rows["a", "naming"].points) == ("one; two", "-5")
    assert rows["b", "report"].points == "0" and ("b", "naming") not in rows
    assert (tmp_path / NAME).read_bytes().startswith(b"\xef\xbb\xbfstudent,item,reason,points,decision,note\r\n")


@pytest.mark.parametrize(("decision", "expected"), [("", -5), ("waive", 0), ("WAIVE", 0), ("-2", -2), ("-2,5", -2.5),
                                                    ("0", 0)])
def test_decisions_on_names(tmp_path, decision, expected):
    records = [record("a", naming=["expected x, found y"])]
    points(tmp_path, COURSE, records)
    decide(tmp_path, "naming", decision)
    assert points(tmp_path, COURSE, records)["a"].items[NAMING] == expected
    assert points(tmp_path, COURSE, records)["a"].items[NAMING] == expected  # and it stays so
    decide(tmp_path, "report", "17.5")
    assert points(tmp_path, COURSE, records)["a"].total == 25 + 25 + 30 + 17.5 + expected


def test_a_flagged_task_waits_for_a_person(tmp_path):
    records = [record("a", fom=1e19, states=("FLAGGED", "FLAGGED")), record("b")]
    found = points(tmp_path, COURSE, records)
    assert [found["a"].items[item] for item in (TASK1, TASK2, RANK)] == [None, None, None]
    assert found["a"].rank is None and found["b"].rank == 1 and found["b"].items[RANK] == 30
    assert [line.split(":")[0] for line in found["a"].pending] == ["task 1", "task 2", "report"]
    decide(tmp_path, "task 1", "10")
    decide(tmp_path, "task 2", "waive", note="looked at it")
    found = points(tmp_path, COURSE, records)
    assert [found["a"].items[item] for item in (TASK1, TASK2, RANK)] == [10, 25, 30]
    assert found["b"].rank == 2 and found["b"].items[RANK] == 15
    decide(tmp_path, "task 2", "0")  # refused: points instead of the score, and no rank
    found = points(tmp_path, COURSE, records)
    assert [found["a"].items[item] for item in (TASK2, RANK)] == [0, 0] and found["b"].rank == 1
    assert next(row for row in read_overrides(tmp_path) if row.item == "task 2").note == "looked at it"


def test_a_number_that_two_claim_waits_for_a_person_and_ranks_nobody_before(tmp_path):
    one, two, other = record("a", fom=1e19), record("b", fom=2e19), record("c", fom=3e19)
    for held in (one, two):
        held["student"] = "31355501"
        held["contested"] = "expected one submission with the number 31355501, found a and b with equal claims to it"
    found = points(tmp_path, COURSE, [one, two, other])
    assert [found[slug].rank for slug in "abc"] == [None, None, 1] and found["c"].total == 80
    assert found["a"].items["task 1 mIoU"] is None and found["a"].pending[0].startswith("owner: ")
    assert [row.student for row in read_overrides(tmp_path) if row.item == "owner"] == ["a", "b"]
    decide(tmp_path, "owner", "waive", "b")
    found = points(tmp_path, COURSE, [one, two, other])
    assert [found[slug].rank for slug in "abc"] == [None, 1, 2]
    assert found["b"].items["task 1 mIoU"] == 25 and found["a"].items["task 2 mIoU"] is None
    said: list[str] = []
    points(tmp_path, COURSE, [one, two, other], said.append)
    assert not said
    decide(tmp_path, "owner", "waive", "a")
    found = points(tmp_path, COURSE, [one, two, other], said.append)
    assert [found[slug].rank for slug in "abc"] == [1, 2, 3]
    assert said == ["overrides.csv: expected waive for one submission with a number, found it as owner of a and b: "
                    "each counts and is ranked, so leave it with the one that is the student's"]
    decide(tmp_path, "owner", "20", "b")
    with pytest.raises(LabError, match="expected nothing or waive as decision, found '20'"):
        points(tmp_path, COURSE, [one, two, other])


def test_what_is_known_of_a_late_time_is_said(tmp_path):
    late = record("a", submitted="2027-01-16T08:00:00Z") | {"time_assumed": True, "late_mark": "Canvas marks it late"}
    course = replace(COURSE, deadline=datetime.datetime(2027, 1, 15, tzinfo=datetime.timezone.utc),
                     points=COURSE.points | {"late": -10})
    points(tmp_path, course, [late])
    assert [row.reason for row in read_overrides(tmp_path) if row.item == "late"] == [
        "handed in 2027-01-16T08:00:00Z, 2 days late, by a local time that was read in the deadline's zone; Canvas "
        "marks it late"]


def test_a_network_whose_cost_is_unverified_keeps_its_points_and_waits_with_its_rank(tmp_path):
    records = [record("a", fom=1e18, states=("OK", "COST_UNVERIFIED")), record("b"),
               record("low", miou2=COURSE.thresholds[2] - 0.01, fom=None, states=("OK", "COST_UNVERIFIED"))]
    found = points(tmp_path, COURSE, records)
    assert [found["a"].items[item] for item in (TASK2, RANK)] == [25, None] and found["b"].rank == 1
    assert [found["low"].items[item] for item in (TASK2, RANK)] == [0, 0]  # nothing to decide about
    assert found["low"].pending == ["report: to be read"]
    assert found["a"].pending[0].startswith("task 2: its cost is unverified")
    for decision, task2, rank, others_rank in (("waive", 25, 30, 2), ("25", 25, 0, 1), ("0", 0, 0, 1)):
        decide(tmp_path, "task 2", decision)
        found = points(tmp_path, COURSE, records)
        assert [found["a"].items[item] for item in (TASK2, RANK)] == [task2, rank] and found["b"].rank == others_rank
        assert found["a"].pending == ["report: to be read"]


def test_a_decision_for_another_reason_is_asked_again_and_not_lost(tmp_path):
    points(tmp_path, COURSE, [record("a", naming=["report.pdf"])])
    decide(tmp_path, "naming", "waive", note="a typo")
    notes: list[str] = []
    found = points(tmp_path, COURSE, [record("a", naming=["everything"])], notes.append)
    assert found["a"].items[NAMING] == -5 and len(notes) == 1 and "asked for again" in notes[0]
    row = next(row for row in read_overrides(tmp_path) if row.item == "naming")
    assert row.decision == "" and row.note == "a typo; before: waive, for: report.pdf"
    found = points(tmp_path, COURSE, [record("a")], notes.append)  # the names are right now: the note is kept
    assert found["a"].items[NAMING] == 0
    assert any(row.item == "naming" and "a typo" in row.note for row in read_overrides(tmp_path))


def test_a_decision_whose_reason_is_gone_does_not_count_and_it_is_said(tmp_path):
    flagged = [record("a", states=("OK", "FLAGGED"), naming=["report.pdf"]), record("b")]
    points(tmp_path, COURSE, flagged)
    decide(tmp_path, "task 2", "0", note="asked her")
    decide(tmp_path, "naming", "-2")
    assert points(tmp_path, COURSE, flagged)["a"].items[TASK2] == 0
    reason = next(row.reason for row in read_overrides(tmp_path) if row.item == "task 2")
    notes: list[str] = []
    for _ in range(2):  # another hand-in, nothing wrong with it
        found = points(tmp_path, COURSE, [record("a", fom=1e19), record("b")], notes.append)["a"]
        assert (found.items[TASK2], found.items[NAMING], found.rank) == (25, 0, 1)
    assert sorted(line.split(" of a ")[0].split()[-2:] for line in notes) == [["for", "naming"], ["task", "2"]]
    rows = {row.item: row for row in read_overrides(tmp_path) if row.student == "a"}
    assert rows["task 2"].note == f"asked her; before: 0, for: {reason}"
    assert all((row.reason, row.points, row.decision) == ("", "", "") for item, row in rows.items() if item != "report")
    decide(tmp_path, "task 2", "5")  # now it is the person's own row
    assert points(tmp_path, COURSE, [record("a"), record("b")])["a"].items[TASK2] == 5


def test_a_persons_own_row_of_the_graders_items_counts(tmp_path):
    points(tmp_path, COURSE, [record(slug) for slug in "abc"])
    path = tmp_path / NAME
    path.write_bytes(path.read_bytes() + b"a,naming,,,-5,\r\na,late,,,-10,by mail\r\na,task 2,,,0,copied\r\n"
                                         b"b,naming,,-4,,\r\nc,naming,,,,\r\n")
    for _ in range(2):
        found = points(tmp_path, COURSE, [record(slug) for slug in "abc"])
        assert [found["a"].items[item] for item in (TASK1, TASK2, RANK, NAMING, LATE)] == [25, 0, 0, -5, -10]
        assert found["b"].items[NAMING] == -4 and found["c"].items[NAMING] == 0 and LATE not in found["b"].items
    assert found["a"].rank is None and found["b"].ranked == 2


def test_a_waiver_holds_for_the_files_that_it_was_given_for(tmp_path):
    handed_in = {f"{kind} 2": {"sha256": kind} for kind in ("network", "weights")}
    first = record("a", states=("OK", "FLAGGED")) | {"files": handed_in}
    points(tmp_path, COURSE, [first])
    decide(tmp_path, "task 2", "waive")
    assert points(tmp_path, COURSE, [first])["a"].items[TASK2] == 25
    other_report = first | {"files": handed_in | {"report": {"sha256": "another"}}}
    assert points(tmp_path, COURSE, [other_report])["a"].items[TASK2] == 25
    for kind in ("network 2", "weights 2"):  # with the same flag, word for word
        points(tmp_path, COURSE, [first])
        decide(tmp_path, "task 2", "waive")
        other = first | {"files": handed_in | {kind: {"sha256": "another"}}}
        notes: list[str] = []
        assert points(tmp_path, COURSE, [other], notes.append)["a"].items[TASK2] is None
        assert "'waive' is asked for again" in notes[0]


def test_decisions_follow_a_student_to_another_slug(tmp_path):
    points(tmp_path, COURSE, [record("0123", naming=["x"]), record("b")])
    for item, decision in (("naming", "waive"), ("report", "18")):
        decide(tmp_path, item, decision, "0123")
    decide(tmp_path, "report", "7", "b")
    text = (tmp_path / NAME).read_text(encoding="utf-8-sig").replace("0123,report", "123,report")  # by Excel
    (tmp_path / NAME).write_text(text + "0123-new,naming,y,-5,,\r\n0123-new,report,,,,later\r\n", encoding="utf-8")
    rename(tmp_path, {"0123": "0123-new"})
    found = points(tmp_path, COURSE, [record("0123-new", naming=["x"]), record("b")])
    assert [found["0123-new"].items[item] for item in (NAMING, REPORT)] == [0, 18] and found["b"].items[REPORT] == 7
    assert {row.student for row in read_overrides(tmp_path)} == {"0123-new", "b"}
    rename(tmp_path, {"b": "0123-new"})  # what is decided there already stays
    report = next(row for row in read_overrides(tmp_path) if row.item == "report")
    assert (report.decision, report.note) == ("18", "later; before: 7, for: to be read by a person")


def test_a_persons_own_rows_and_those_of_strangers_are_kept(tmp_path):
    points(tmp_path, COURSE, [record("00123")])
    path = tmp_path / NAME
    path.write_bytes(path.read_bytes() + b"00123,copied from b,,-40,,\r\n00123,bonus,,3,waive,\r\nzoe,bonus,,,2,x\r\n"
                                         b"zoe,naming,a reason,-5,waive,\r\n")
    notes: list[str] = []
    found = points(tmp_path, COURSE, [record("00123")], notes.append)
    assert found["00123"].items["copied from b"] == -40 and found["00123"].items["bonus"] == 0
    assert found["00123"].total == 25 + 25 + 30 - 40
    assert [note.split(":")[0] for note in notes] == [f"{NAME} has a row for zoe, of whom there is no record"] * 2
    kept = [(row.item, row.reason, row.decision, row.note) for row in read_overrides(tmp_path) if row.student == "zoe"]
    assert kept == [("bonus", "", "2", "x"), ("naming", "a reason", "waive", "")]


def course(tmp_path, text):
    path = tmp_path / "course.toml"
    path.write_text(text, encoding="utf-8")
    return read_course(path)


def test_a_course_of_its_own(tmp_path):
    own = course(tmp_path, "[points]\nnaming = -3\nlate = -10\nrank = 40\n[thresholds]\ntask2 = 0.70\n"
                           "[rank]\nrule = 'steps'\nsteps = [[0.1, 40], [0.5, 20.5], [1, 5]]\n"
                           "[deadline]\nat = 2026-12-24T23:59:00+08:00\n")
    records = [record(str(k), fom=k + 1.0, miou2=0.70) for k in range(10)] + [record("low", fom=0.1, miou2=0.69)]
    found = award(records, own)
    assert [found[str(k)].items[RANK] for k in range(10)] == [40, 20.5, 20.5, 20.5, 20.5, 5, 5, 5, 5, 5]
    assert found["low"].items[TASK2] == 0 and found["low"].rank is None
    times = {"2026-12-24T15:59:00Z": None, "2026-12-24T15:59:01Z": -10, "2026-12-25T15:59:00Z": -10,
             "2026-12-25T15:59:01Z": -20}
    for submitted, expected in times.items():
        assert items(record("a", submitted=submitted, naming=["x"]), course=own)["a"].get(LATE) == expected
    assert items(record("a", naming=["x"]), course=own)["a"][NAMING] == -3


@pytest.mark.parametrize(("text", "words"), [
    ("[point]\n", "found 'point'"), ("[points]\ntask3 = 1\n", "found 'task3'"), ("points = 3\n", "found 'points'"),
    ("[points]\ntask1 = '25'\n", "points.task1, found '25'"), ("[points]\nnaming = 5\n", "points.naming, found 5"),
    ("[points]\ntask1 = true\n", "found True"), ("[points]\ntask1 = nan\n", "found nan"),
    ("[thresholds]\ntask1 = 72\n", "thresholds.task1"), ("[rank]\nrule = 'best'\n", "found 'best'"),
    ("[rank]\nrule = 'steps'\n", "'steps' without"), ("[rank]\nsteps = [[1, 1]]\n", "'linear' with"),
    ("[rank]\nrule = 'steps'\nsteps = [[0.5, 10], [0.1, 30]]\n", "growing shares"),
    ("[rank]\nrule = 'steps'\nsteps = [[0.1, 10], [0.5, 30]]\n", "falling points"),
    ("[rank]\nrule = 'steps'\nsteps = [[0.1, 31]]\n", "points in rank.steps"),
    ("[deadline]\nat = '24 December'\n", "deadline.at"), ("[deadline]\nat = 2026-12-24\n", "deadline.at"),
    ("[points\n", "expected TOML")])
def test_a_course_with_a_mistake(tmp_path, text, words):
    with pytest.raises(LabError, match=words):
        course(tmp_path, text)
    with pytest.raises(LabError, match="check --course"):
        read_course(tmp_path / "none.toml")
