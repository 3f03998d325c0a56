"""Regradings, decisions and withdrawn scores: what was, what is, why and since when, on the pages and in the tables."""
import csv
import datetime
import json
import random

import pytest
from made_records import made_record

from grading.course import read_course
from grading.report.build import report
from utils.lab import LabError

A, B = "31350000", "31350001"
NOTE = "trained on the validation split"


@pytest.fixture
def out(tmp_path):
    """REPORT of two students who both rank, A before B."""
    for index, slug in enumerate((A, B)):
        record = made_record(index, random.Random(index))
        for number in ("1", "2"):
            record["tasks"][number] |= {"miou": 0.75, "fom": 1e20 * (index + 1) if number == "2" else None}
        write(tmp_path, slug, record | {"data": "1" * 64, "split": "val"})
    report(tmp_path)
    return tmp_path


def read(out, slug=A, folder="records"):
    return json.loads((out / folder / f"{slug}.json").read_text(encoding="utf-8"))


def write(out, slug, record):
    path = out / "records" / f"{slug}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record), encoding="utf-8")


def decide(out, *rows):
    """overrides.csv with these rows alone; the reports' rows come back by themselves."""
    with (out / "overrides.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("student", "item", "reason", "points", "decision", "note"), *rows])


def grades(out):
    text = (out / "grades.csv").read_text(encoding="utf-8-sig")
    return {row["slug"]: row for row in csv.DictReader(text.splitlines())}


def page(out, slug=A):
    return (out / "students" / f"{slug}.html").read_text(encoding="utf-8")


def test_a_regrade_shows_the_old_figure_beside_the_new_one_with_the_reason(out, tmp_path):
    before = (out / "history" / f"{A}.json").read_bytes()
    report(out)
    assert (out / "history" / f"{A}.json").read_bytes() == before and "History" not in page(out)
    record = read(out)
    record["files"]["weights 2"]["sha256"] = "f" * 64
    record["tasks"]["2"]["miou"] = 0.7625
    write(out, A, record)
    report(out)
    first, second = read(out, folder="history")
    assert first["because"] == ["graded"] and second["because"] == ["other files"]
    assert second["changes"] == [["task 2 mIoU", 0.75, 0.7625]]
    assert abs(datetime.datetime.now().astimezone() - datetime.datetime.fromisoformat(second["date"])
               ) < datetime.timedelta(hours=1)
    assert "other files" in page(out) and "<b>0.7625</b>" in page(out) and "History" in page(out)
    assert len(read(out, B, "history")) == 1

    for reason, change in (("other data", {"data": "2" * 64}),
                           ("another device, sandbox or limits", {"device": "H200"}),
                           ("another time of handing in", {"submitted": "2026-11-20T10:00:00Z"}),
                           ("another version of the grader", {"versions": record["versions"] | {"lab": "2.0"}})):
        record |= change
        write(out, A, record)
        report(out)
        last = read(out, folder="history")[-1]
        assert (last["because"], last["changes"]) == ([reason], [])
    assert "figures as before" in page(out)
    course = tmp_path / "course.toml"
    course.write_text("[points]\ntask1 = 20\n")
    report(out, read_course(course))
    last = read(out, folder="history")[-1]
    assert last["because"] == ["other numbers of the course"]
    assert last["changes"] == [["points task 1 mIoU", 25, 20]]


def test_a_withdrawn_score_stays_visible_and_counts_nothing(out):
    assert [grades(out)[slug]["rank"] for slug in (A, B)] == ["1", "2"]
    decide(out, (A, "task 2", "", "", "withdraw", NOTE))
    made = report(out)
    row, other = grades(out)[A], grades(out)[B]
    assert (made.ranked, row["rank"], other["rank"]) == (1, "", "1")
    assert (row["points task 2"], row["points rank"], row["points task 1"]) == ("0", "0", "25")
    assert row["withdrawn"] == f"task 2: {NOTE}" and row["mIoU task 2"] == "0.75" and other["withdrawn"] == ""
    assert "<s>0.7500</s>" in page(out) and f"Withdrawn, so it counts nothing: <bdi>{NOTE}</bdi>" in page(out)
    index = (out / "index.html").read_text(encoding="utf-8")
    assert "<s>0.7500</s>" in index and "<s>1.000e20</s>" in index and f'title="{NOTE}">withdrawn' in index
    results, receipt = read(out, folder="results"), read(out, folder="receipts")["content"]
    assert f"withdrawn: {NOTE}" in results["tests"][1]["output"] and results["tests"][1]["score"] == 0
    assert [entry["name"] for entry in results["leaderboard"]] == ["mIoU task 1"]
    assert receipt["withdrawn"] == {"2": NOTE} and receipt["decisions"] == {"task 2": f"withdraw; {NOTE}"}
    report(out, public=True)
    public = "".join(path.read_text(encoding="utf-8") for path in (out / "public").rglob("*.html"))
    assert ">withdrawn</span>" in public and NOTE not in public

    # Graded again: new files, a flag, and then no flag any more.
    record = read(out)
    for flags in ([{"code": "X", "text": "odd"}], []):
        record["tasks"]["2"] |= {"state": "FLAGGED" if flags else "OK", "flags": flags}
        record["files"]["network 2"]["sha256"] = f"{len(flags)}" * 64
        write(out, A, record)
        assert report(out).ranked == 1
        assert grades(out)[A]["withdrawn"] == f"task 2: {NOTE}" and "task 2" not in grades(out)[A]["open"]

    decide(out)
    assert report(out).ranked == 2 and not grades(out)[A]["withdrawn"]
    entries = read(out, folder="history")
    assert entries[1]["because"] == ["a decision"] and ["points task 2 mIoU", 25, 0] in entries[1]["changes"]
    assert ["decision on task 2", f"withdraw; {NOTE}", None] in entries[-1]["changes"]
    assert f"withdraw; {NOTE}" in page(out)


@pytest.mark.parametrize(("item", "note", "words"), [
    ("task 2", "", "expected the reason under note"), ("report", "why", "task 1 or task 2 alone"),
    ("naming", "why", "task 1 or task 2 alone"), ("bonus", "why", "task 1 or task 2 alone"),
    ("owner", "why", "nothing or waive")])
def test_what_cannot_be_withdrawn_is_one_line(out, item, note, words):
    before = (out / "grades.csv").read_bytes()
    decide(out, (A, item, "", "", "withdraw", note))
    with pytest.raises(LabError, match=rf"{words}.*line 2"):
        report(out)
    assert (out / "grades.csv").read_bytes() == before


@pytest.mark.parametrize("content", [b"{", b'[{"date": 1}]', b"5", b"\xff"])
def test_a_damaged_history_is_never_replaced(out, content):
    path = out / "history" / f"{A}.json"
    path.write_bytes(content)
    with pytest.raises(LabError, match="expected a student's history"):
        report(out)
    assert path.read_bytes() == content
