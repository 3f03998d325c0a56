"""overrides.csv as people, editors and Excel leave it: read strictly, copied before it is written, and nothing lost."""
import csv

import pytest
from test_points import COURSE, decide, record

from grading.report.overrides import BACKUPS, NAME, Override, as_number, read_overrides, rename, write_overrides
from grading.report.points import NAMING, REPORT, TASK2, points
from utils.lab import LabError

HEAD = "student,item,reason,points,decision,note\r\n"


def rows_of(out):
    return [(row.student, row.item, row.decision, row.note) for row in read_overrides(out)]


def backups(out):
    return sorted((out / BACKUPS).glob("*.csv"))


def test_the_table_comes_back_from_excel(tmp_path):
    records = [record("00123", naming=["=cmd|' /C calc'!A0"])]
    points(tmp_path, COURSE, records)
    assert ",'=cmd" in (tmp_path / NAME).read_text(encoding="utf-8-sig")  # no formula
    decide(tmp_path, "naming", "waive", "00123", delimiter=";", encoding="utf-8")
    text = (tmp_path / NAME).read_text(encoding="utf-8").replace("00123;", "123;")  # Excel's idea of a number
    (tmp_path / NAME).write_text(text, encoding="utf-8")
    assert points(tmp_path, COURSE, records)["00123"].items[NAMING] == 0


@pytest.mark.parametrize(("content", "words"), [
    ("who,what\r\n", "expected the columns student"), ("", "expected the columns student"),
    ("student,item,reason,points,decision,note\r\na,naming,,,maybe,\r\n", "'maybe' in line 2"),
    ("student,item,reason,points,decision,note\r\na,x,,ten,,\r\n", "'ten' in line 2"),
    ("student,item,reason,points,decision,note\r\n,x,,1,,\r\n", "expected a student and an item"),
    ("student,item,reason,points,decision,note\r\na,x,,1,,\r\na,x,,2,,\r\n", "a second 'x' of a in line 3"),
    ("student,item,reason,points,decision,note,checked by\r\n", "found more in line 1"),
    ("student,item,reason,points,decision,note\r\na,x,,1,,typed, with a comma\r\n", "found more in line 2"),
    ("student,item,reason,points,decision,note\r\na,bonus,3\r\n", "expected 6 cells, found 3 in line 2"),
    (b"student,item\xff", "another encoding")])
def test_a_table_that_cannot_be_understood_is_an_error_and_stays(tmp_path, content, words):
    content = content if isinstance(content, bytes) else content.encode()
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(LabError, match=words):
        points(tmp_path, COURSE, [record("a")])
    assert (tmp_path / NAME).read_bytes() == content


def test_numbers_as_people_write_them():
    assert [as_number(text) for text in ("5", " -2.5", "-2,5", "\u22123", ".5")] == [5, -2.5, -2.5, -3, 0.5]
    for text in ("", "1e3", "1e400", "nan", "inf", "-Infinity", "9" * 400, "1001", "-5000", "1,000", "17,500", "1_0",
                 "0x1", "--1", "1.2.3", "5 points", "5%"):
        with pytest.raises(ValueError):
            as_number(text)


CLASS = [f"{number}" for number in range(31355550, 31355560)]


@pytest.mark.parametrize(("note", "elsewhere"), [
    ('"late, see her mail', ""),                    # nothing closes it
    ('"late', 'see my mail"'),                      # another note far below does
    ('"good" but late', ""),                        # closed too early
    ('"', '"'), ('"ok", she says', ""), ('"a\r\nb', "")])
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_a_quote_that_is_not_closed_names_its_line_and_loses_nobody(tmp_path, note, elsewhere, delimiter):
    records = [record(number, naming=["expected x, found y"]) for number in CLASS]
    points(tmp_path, COURSE, records)
    for number in CLASS:
        decide(tmp_path, "report", "15", number, delimiter=delimiter if number == CLASS[-1] else ",")
    path = tmp_path / NAME
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    assert len(lines) == 1 + 2 * len(CLASS)
    lines[12] += note         # an editor, which knows nothing of CSV
    lines[17] += elsewhere
    path.write_text("\r\n".join(lines) + "\r\n", encoding="utf-8-sig", newline="")
    before = path.read_bytes()
    with pytest.raises(LabError, match=r"expected .*found .* in line 13 of .*overrides\.csv") as caught:
        points(tmp_path, COURSE, records)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


def test_a_note_of_two_lines_and_quotes_in_it_are_no_fault(tmp_path):
    records = [record("a"), record("b")]
    points(tmp_path, COURSE, records)
    decide(tmp_path, "report", "12", "a", note='she wrote "sorry",\nand more, later')
    decide(tmp_path, "report", "13", "b", note='5" screen')
    found = points(tmp_path, COURSE, records)
    assert [found[slug].items[REPORT] for slug in "ab"] == [12, 13]
    assert [note for _, _, _, note in rows_of(tmp_path)] == ['she wrote "sorry",\nand more, later', '5" screen']


@pytest.mark.parametrize(("item", "meant"), [
    ("task2", "task 2"), ("Task_1", "task 1"), ("TASK-2", "task 2"), ("task\u00a02", "task 2"), ("taks 2", "task 2"),
    ("task 2 mIoU", "task 2"), ("Nameing", "naming"), ("naming error", "naming"), ("re port", "report"),
    ("reprot", "report"), ("Lates", "late"), ("rank", None), ("Total", None)])
def test_an_item_that_is_nearly_one_of_ours_is_said_and_not_guessed(tmp_path, item, meant):
    (tmp_path / NAME).write_text(f"{HEAD}a,bonus,,3,,\r\na,{item},,,waive,\r\n", encoding="utf-8")
    with pytest.raises(LabError, match="in line 3 of") as caught:
        points(tmp_path, COURSE, [record("a", states=("OK", "FLAGGED"))])
    assert repr(item) in str(caught.value) and (meant is None or f"write {meant!r}" in str(caught.value))


@pytest.mark.parametrize("item", ["bonus", "late bonus", "copied from b", "correction", "task 2: oral exam", "口試"])
def test_items_of_a_persons_own_are_free(tmp_path, item):
    (tmp_path / NAME).write_text(f"{HEAD}a,{item},,3,,\r\n", encoding="utf-8")
    assert points(tmp_path, COURSE, [record("a")])["a"].items[item] == 3


@pytest.mark.parametrize("cell", ["1e400", "inf", "-1e999", "9" * 320, "NaN", "100000", "1,500"])
@pytest.mark.parametrize("place", [3, 4])
def test_infinite_and_absurd_points_are_refused_with_their_line(tmp_path, cell, place):
    cells = ["a", "bonus", "", "", "", ""]
    cells[place] = cell
    with (tmp_path / NAME).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([HEAD.strip().split(","), cells])
    with pytest.raises(LabError, match=r"from -1000 to 1000.* in line 2 of"):
        points(tmp_path, COURSE, [record("a")])


@pytest.mark.parametrize(("item", "decision", "words"), [
    ("naming", "5", "where 0 is the most"), ("report", "200", "where 20 is the most"), ("report", "-3", "where 20"),
    ("report", "waive", "write a number"), ("task 2", "30", "where 25 is the most")])
def test_a_decision_that_may_be_a_slip_counts_and_is_said(tmp_path, item, decision, words):
    records = [record("a", naming=["x"], states=("OK", "FLAGGED"))]
    points(tmp_path, COURSE, records)
    decide(tmp_path, item, decision)
    notes: list[str] = []
    found = points(tmp_path, COURSE, records, notes.append)["a"]
    assert len(notes) == 1 and words in notes[0]
    name = {"naming": NAMING, "report": REPORT, "task 2": TASK2}[item]
    assert found.items[name] == (None if decision == "waive" else float(decision))


@pytest.mark.parametrize(("student", "hint"), [("3135555", "did you mean 31355550?"), ("31355550 ", None),
                                               ("31355550.0", "did you mean 31355550?"), ("zoe", ""), ("3,1E+07", "")])
def test_a_row_that_matches_nobody_is_said(tmp_path, student, hint):
    with (tmp_path / NAME).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([HEAD.strip().split(","), [student, "bonus", "", "3", "", ""]])
    notes: list[str] = []
    found = points(tmp_path, COURSE, [record("31355550")], notes.append)["31355550"]
    if hint is None:  # a space is nothing
        assert notes == [] and found.items["bonus"] == 3
    else:
        assert len(notes) == 1 and student in notes[0] and hint in notes[0] and "bonus" not in found.items
    assert len([row for row in rows_of(tmp_path) if row[1] == "bonus"]) == 1


def test_points_typed_into_the_wrong_column_do_not_vanish(tmp_path):
    records = [record("a", naming=["x"])]
    points(tmp_path, COURSE, records)
    path = tmp_path / NAME
    text = path.read_text(encoding="utf-8-sig")
    path.write_text(text.replace("read by a person,,", "read by a person,17,"), encoding="utf-8", newline="")
    with pytest.raises(LabError, match="expected the points of a decision under decision, found '17' under points"):
        points(tmp_path, COURSE, records)
    path.write_text(text.replace(",-5,", ",-2,"), encoding="utf-8", newline="")
    notes: list[str] = []
    points(tmp_path, COURSE, records, notes.append)
    assert len(notes) == 1 and "had '-2' as points for naming of a" in notes[0]


def test_every_rewrite_keeps_a_dated_copy_of_what_was_there(tmp_path):
    points(tmp_path, COURSE, [record("a")])
    assert backups(tmp_path) == []
    contents = []
    for naming in (["x"], ["y"], ["z"]):  # within one second
        contents.append((tmp_path / NAME).read_bytes())
        points(tmp_path, COURSE, [record("a", naming=naming)])
    points(tmp_path, COURSE, [record("a", naming=["z"])])  # nothing new, nothing written
    assert sorted(copy.read_bytes() for copy in backups(tmp_path)) == sorted(contents)
    assert all(copy.name[:4].isdigit() and copy.name[4] == "-" for copy in backups(tmp_path))


def test_a_row_that_a_person_decided_is_never_dropped(tmp_path):
    points(tmp_path, COURSE, [record("a", naming=["x"])])
    read_before = read_overrides(tmp_path)
    decide(tmp_path, "naming", "-3", note="agreed by mail")  # saved by a person while a grading was at work
    before = (tmp_path / NAME).read_bytes()
    for rows in (read_before, [], [Override("b", "naming", "x", "-5", "-3", "agreed by mail")],
                 [Override("a", "naming", "x", "-5", "-3")]):
        with pytest.raises(LabError, match=r"found no place for 'agreed by mail; before: -3.*nothing was written"):
            write_overrides(tmp_path, rows)
    assert (tmp_path / NAME).read_bytes() == before and backups(tmp_path) == []


def test_own_points_are_kept_when_the_grader_proposes_something_too(tmp_path):
    (tmp_path / NAME).write_text(f"{HEAD}a,naming,,-4,,by hand\r\nzoe,naming,,-1,,\r\n", encoding="utf-8")
    notes: list[str] = []
    found = points(tmp_path, COURSE, [record("a", naming=["x"])], notes.append)
    assert found["a"].items[NAMING] == -5 and "'-4' is asked for again" in notes[1]
    assert [row[2:] for row in rows_of(tmp_path) if row[:2] == ("a", "naming")] == [("", "by hand; before: -4")]
    assert ("zoe", "naming") in [row[:2] for row in rows_of(tmp_path)]


def test_numbers_that_excel_made_equal_are_not_guessed(tmp_path):
    records = [record("0123"), record("00123")]
    (tmp_path / NAME).write_text(f"{HEAD}123,report,,,11,\r\n", encoding="utf-8")
    notes: list[str] = []
    found = points(tmp_path, COURSE, records, notes.append)
    assert [one.items[REPORT] for one in found.values()] == [None, None] and "row for 123" in notes[0]
    assert ("123", "report", "11", "") in rows_of(tmp_path)
    (tmp_path / NAME).write_text(f"{HEAD}0123,report,,,11,\r\n123,report,,,12,\r\n", encoding="utf-8")
    with pytest.raises(LabError, match="expected one row for each student and item"):
        points(tmp_path, COURSE, [record("0123")])
    assert [row[2] for row in rows_of(tmp_path)] == ["11", "12"]


def test_a_new_name_keeps_both_decisions(tmp_path):
    (tmp_path / NAME).write_text(f"{HEAD}old,bonus,,3,,a talk\r\nnew,bonus,,2,,\r\nold,naming,x,-5,waive,\r\n",
                                 encoding="utf-8")
    rename(tmp_path, {"old": "new"})
    assert rows_of(tmp_path) == [("new", "bonus", "", "a talk; before: 3"), ("new", "naming", "waive", "")]
