"""The report: grades.csv, Gradescope's results, the pages' text, the public ranking; see also test_page_in_browser."""
import argparse
import csv
import html.parser
import io
import json
import re
import shutil

import jinja2
import pytest
from conftest import ROOT
from made_records import ATTACK, PEOPLE, slug_of, write_class

from grading.course import read_course
from grading.report.build import add_arguments, report
from grading.report.pages import page
from grading.report.pages.charts import Point, color_of, scatter
from grading.report.pages.page import log_text, text
from grading.report.pages.pseudonyms import pseudonyms
from utils.lab import FOM_OFFSET, LabError


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    records = write_class(out)
    return out, records, report(out)


class Reader(html.parser.HTMLParser):
    """What a browser would make of a page: its tags with their attributes, scripts, text, unclosed tags."""

    VOID = ("meta", "img", "input", "br", "link")

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags, self.scripts, self.texts, self.open, self.wrong = [], [], [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        (self.scripts if self.open[-1:] == ["script"] else self.texts).append(data)


def pages(out):
    return [path for path in out.rglob("*.html")]


def test_every_page_is_whole_and_holds_nothing_but_ours(made):
    out, _, _ = made
    script = (ROOT / "grading/report/pages/templates/tables.js").read_text(encoding="utf-8").strip()
    assert len(pages(out)) == 1 + 26 + 1
    for path in pages(out):
        read = Reader(path.read_text(encoding="utf-8"))
        assert not read.wrong and not read.open, path
        assert read.scripts in ([], [script]), path
        for tag, attributes in read.tags:
            assert tag not in ("iframe", "object", "embed", "form", "base", "link")
            assert not [name for name in attributes if name.startswith("on") or name == "style"], (path, attributes)
            for name in ("href", "src"):
                target = attributes.get(name)
                if target and not target.startswith("#"):
                    assert re.fullmatch(r"(\.\./)?[A-Za-z0-9_./-]+(#\w+)?", target), target
                    assert (path.parent / target.split("#")[0]).is_file(), target
        policy = next(attributes["content"] for tag, attributes in read.tags
                      if attributes.get("http-equiv") == "Content-Security-Policy")
        assert "default-src 'none'" in policy and "unsafe" not in policy


def test_what_students_wrote_is_shown_as_text(made):
    out, records, _ = made
    read = Reader((out / "students" / f"{slug_of(records[8])}.html").read_text(encoding="utf-8"))
    shown = "".join(read.texts)
    assert shown.count(ATTACK) >= 6  # heading, file, finding, flag, layer, log
    assert "[U+202E]" in shown and "\u202e" not in shown
    assert "red and plain\n" in shown and "\x1b" not in shown and "epoch 1\nepoch 2" in shown
    assert [attributes["src"] for tag, attributes in read.tags if tag == "img"] == [
        f"../images/{slug_of(records[8])}/task2_0.png"]  # and not the two paths that lead elsewhere


def test_the_class_page_names_every_state_and_flag(made):
    out, records, _ = made
    shown = " ".join(Reader((out / "index.html").read_text(encoding="utf-8")).texts)
    for record in records:
        assert record["student"] in shown or text(record["student"], 80)[:60] in text(shown, 10**6)
        for task in record["tasks"].values():
            assert task["state"] == "OK" or task["state"].replace("_", " ") in shown
    for word in ("SUBCLASS", "COUNTERS", "COST UNVERIFIED", "rename it", "equal but for names", "902,112,000"):
        assert word in shown


def rows_of(out):
    content = (out / "grades.csv").read_bytes()
    assert content.startswith(b"\xef\xbb\xbf") and b"\r\n" in content
    return {row["slug"]: row for row in csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""))}


def test_grades_follow_from_the_records(made):
    out, records, done = made
    rows = rows_of(out)
    assert len(rows) == len(records) == done.students
    ranked = sorted((record["tasks"]["2"]["fom"], slug_of(record)) for record in records
                    if record["tasks"]["2"]["state"] == "OK" and record["tasks"]["2"]["fom"])
    assert [slug for _, slug in ranked] == sorted((slug for slug in rows if rows[slug]["rank"]),
                                                  key=lambda slug: int(rows[slug]["rank"]))
    for place, (fom, slug) in enumerate(ranked, 1):
        assert float(rows[slug]["FoM"]) == fom
        assert float(rows[slug]["points rank"]) == pytest.approx(30 * (len(ranked) - place + 1) / len(ranked))
    for record in records:
        row, one = rows[slug_of(record)], record["tasks"]["1"]
        assert row["state task 1"] == one["state"]
        assert row["points task 1"] == ("25" if one["miou"] and one["miou"] >= read_course().thresholds[1] else "0")
        assert row["points naming"] == ("-5" if record["naming"] else "0")
        assert row["points report"] == ("0" if "report" in record["missing"] else "")
        known = [float(row[name]) for name in row if name.startswith("points ") and row[name]]
        assert float(row["total"]) == pytest.approx(sum(known))


def test_no_cell_is_a_formula(made):
    out, records, _ = made
    rows = rows_of(out)
    assert rows[slug_of(records[10])]["name"] == "'" + PEOPLE[10]
    for row in rows.values():
        for name, cell in row.items():
            assert not re.match(r"[=+@\t\r]", cell) and (not cell.startswith("-") or name.startswith("points")), cell


def test_results_are_in_gradescopes_format(made):
    out, records, _ = made
    rows = rows_of(out)
    for record in records:
        slug = slug_of(record)
        result = json.loads((out / "results" / f"{slug}.json").read_text(encoding="utf-8"))
        assert result["score"] == pytest.approx(max(0, float(rows[slug]["total"])))
        scored = [test for test in result["tests"] if "score" in test]
        assert sum(test["score"] for test in scored) == pytest.approx(float(rows[slug]["total"]))
        assert all(isinstance(test["name"], str) and isinstance(test["output"], str) and
                   test["visibility"] in ("visible", "hidden") and
                   test.get("status", "passed") in ("passed", "failed") for test in result["tests"])
        assert all(isinstance(entry["value"], float) for entry in result["leaderboard"])
        hidden = [test for test in result["tests"] if test["visibility"] == "hidden"]
        assert bool(hidden) == bool(record["tasks"]["2"]["flags"])
        assert rows[slug]["pseudonym"] in result["output"]
        others = [slug_of(other) for other in records if slug_of(other) != slug]
        assert not [other for other in others if other in json.dumps(result)]
    names = [test["name"] for test in result["tests"]]
    assert names[:5] == ["Task 1: mIoU", "Task 2: mIoU", "Task 2: rank by FoM", "Report", "File names"]


def test_a_decision_counts_and_stays(tmp_path):
    records = write_class(tmp_path)
    first = report(tmp_path)
    slug = slug_of(records[12])
    table = tmp_path / "overrides.csv"
    lines = list(csv.reader(io.StringIO(table.read_text(encoding="utf-8-sig"), newline="")))
    for line in lines:
        if line[:2] == [slug, "task 2"]:
            line[4] = "waive"
        if line[:2] == [slug_of(records[0]), "report"]:
            line[4] = "17.5"
    with table.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows(lines)
    for _ in range(2):
        again = report(tmp_path)
        rows = rows_of(tmp_path)
        assert again.ranked == first.ranked + 1 and again.undecided == first.undecided - 1
        assert rows[slug]["rank"] and rows[slug]["points task 2"] == "25"
        assert rows[slug_of(records[0])]["points report"] == "17.5"
    shown = "".join(Reader((tmp_path / "students" / f"{slug}.html").read_text(encoding="utf-8")).texts)
    assert "decided: waive" in shown


def test_a_number_that_two_claim_is_asked_for_on_the_pages(tmp_path):
    records = write_class(tmp_path)
    slugs = [slug_of(records[index]) for index in (4, 5)]
    for slug in slugs:
        path = tmp_path / "records" / f"{slug}.json"
        record = json.loads(path.read_text(encoding="utf-8")) | {"contested": f"two claim the number {ATTACK}"}
        path.write_text(json.dumps(record), encoding="utf-8")
    report(tmp_path)
    index = "".join(Reader((tmp_path / "index.html").read_text(encoding="utf-8")).texts)
    assert index.count(f"two claim the number {ATTACK}") == 2
    for slug in slugs:
        shown = "".join(Reader((tmp_path / "students" / f"{slug}.html").read_text(encoding="utf-8")).texts)
        assert f"two claim the number {ATTACK}: nothing counts until a person decides" in shown


def test_the_public_ranking_names_nobody(made, tmp_path):
    whole, records, _ = made
    out = shutil.copytree(whole, tmp_path / "report")
    done = report(out, public=True)
    assert done.page == out / "public" / "index.html"
    written = {path: path.read_text(encoding="utf-8") for path in (out / "public").rglob("*") if path.is_file()}
    assert len(written) == 1 + len(records)
    ours = [slug_of(record) for record in records] + [text(person) for person in PEOPLE if len(person) > 3]
    for path, content in written.items():
        for secret in (*ours, "Final IoU", "SUBCLASS", "naming", "conv_pw", "sha256:", "images/"):
            assert secret not in content, (path, secret)
            assert secret not in path.name
        read = Reader(content)
        assert not read.wrong and len(read.scripts) <= 1
    index = "".join(Reader(written[done.page]).texts)
    best = min(record["tasks"]["2"]["fom"] for record in records
               if record["tasks"]["2"]["fom"] and record["tasks"]["2"]["state"] == "OK")
    assert f"{best:.3e}".replace("e+", "e") in index
    assert (out / ".pseudonyms").stat().st_mode & 0o777 == 0o600
    assert rows_of(out)[slug_of(records[0])]["pseudonym"] in index


def test_pseudonyms_differ_stay_and_follow_the_secret(tmp_path):
    students = [f"3135{index:04d}" for index in range(2000)]
    first = pseudonyms(tmp_path / "a", students)
    assert len(set(first.values())) == 2000
    assert pseudonyms(tmp_path / "a", students) == first
    assert sum(first[student] == name for student, name in pseudonyms(tmp_path / "b", students).items()) < 5
    (tmp_path / "a" / ".pseudonyms").write_text("short\n")
    with pytest.raises(LabError, match="64 hexadecimal digits"):
        pseudonyms(tmp_path / "a", students)


def test_a_folder_without_records_is_refused_and_a_damaged_one_is_named(tmp_path):
    with pytest.raises(LabError, match="found none in"):
        report(tmp_path)
    write_class(tmp_path)
    (tmp_path / "records" / "31350000.json").write_text("{")
    stale = [tmp_path / "students" / "gone.html", tmp_path / "results" / "gone.json", tmp_path / "pairs" / "99.html"]
    for path in stale:
        path.parent.mkdir(exist_ok=True)
        path.write_text("an earlier report")
    done = report(tmp_path)
    assert done.students == 25 and any("31350000.json" in note for note in done.notes)
    assert not any(path.exists() for path in stale)


def test_odd_records_do_not_stop_the_report(tmp_path):
    records = write_class(tmp_path)
    path = tmp_path / "records" / f"{slug_of(records[1])}.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    record["tasks"]["2"] |= {"iou": [None, 0.5], "confusion": [[1]], "layers": ["x", {"name": 3, "share": "y"}],
                             "flags": [{}], "images": [None, {"file": 7}, {"file": "images/../../x.png"}],
                             "flops": 10**400, "costs": {"thop": None}, "log": None}
    record |= {"files": {"report": None}, "findings": [None], "versions": None, "seconds": None}
    path.write_text(json.dumps(record), encoding="utf-8")
    assert report(tmp_path).students == 26


def test_the_command_says_where_the_page_is(made, capsys):
    out, _, _ = made
    parser = argparse.ArgumentParser()
    add_arguments(parser.add_subparsers(dest="command"))
    args = parser.parse_args(["report", str(out)])
    args.run(args)
    assert capsys.readouterr().out.splitlines()[-1] == str(out / "index.html")


def test_scatter_places_points_on_logarithmic_axes():
    points = [Point(str(i), "x", 10.0**(7 + i), 10.0**(1 + i), 0.7, 1e20, i + 1) for i in range(3)]
    plot = scatter([*points, Point("far", "far", 1e15, 1e9, 0.7)])
    assert [point.label for point in plot.outside] == ["far"]
    (x0, y0), (x1, y1), (x2, y2) = sorted((x, y) for x, y, _, _ in plot.markers)
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2) and y0 - y1 == pytest.approx(y1 - y2, abs=0.2) and y1 < y0
    # A line of equal FoM: all networks on it have FLOPs x KB alike, so it falls by one decade a decade.
    assert plot.lines
    for x_1, y_1, x_2, y_2 in plot.lines:
        assert (y_2 - y_1) / (y0 - y1) == pytest.approx((x_2 - x_1) / (x1 - x0), abs=0.01)


def test_lines_of_equal_fom_are_where_the_formula_puts_them():
    flops, size_kb, miou = 5e7, 200.0, FOM_OFFSET + 0.1
    fom = flops**2 * size_kb**2 / (miou - FOM_OFFSET)
    assert fom == pytest.approx(1e21)
    plot = scatter([Point("on", "x", flops, size_kb, miou, fom, 1), Point("b", "y", 8e7, 300, miou, 1, 2)])
    x, y = next((x, y) for x, y, _, point in plot.markers if point.label == "on")
    offsets = [abs((x2 - x1) * (y1 - y) - (x1 - x) * (y2 - y1)) / ((x2 - x1)**2 + (y2 - y1)**2)**0.5
               for x1, y1, x2, y2 in plot.lines]
    near, next_near = sorted(offsets)[:2]
    assert near < 0.5 and next_near > 20  # 10^21 is a whole power, and the only line through the point
    assert "10²¹" in [name for _, _, _, name in plot.line_names]


def test_colors_and_text():
    assert color_of(0.5, 0.6, 0.8) == "#440154" and color_of(0.9, 0.6, 0.8) == "#7ad151"
    assert color_of(0.7, 0.6, 0.8) == "#2a788e"
    assert text('<a href="x">\'&\x00\u202e') == "&lt;a href=&#34;x&#34;&gt;&#39;&amp;\\x00[U+202E]"
    assert len(text("x" * 1000)) == 301
    assert log_text("\x1b[1;31mA\x1b[0m\x1b]8;;http://x\x07B\r10%\r20%\r\n<b>") == "AB\n10%\n20%\n&lt;b&gt;"


def test_templates_escape_and_show_what_they_print_without_being_asked(monkeypatch, tmp_path):
    for path in page.TEMPLATES.iterdir():
        shutil.copy(path, tmp_path)
    (tmp_path / "new.html").write_text(
        "{% from 'macros.html' import name %}{{ value }}|{{ name(value) }}|{{ nothing }}|"
        '<p title="{{ value }}">{% set kept %}{{ value }}{% endset %}{{ kept }}</p>{{ long }}', encoding="utf-8")
    monkeypatch.setattr(page, "TEMPLATES", tmp_path)
    page.environment.cache_clear()
    try:
        shown = page.render("new.html", value=f"\u202e\x1b[31m\r\n'{ATTACK}", nothing=None, long="x" * 1000)
        with pytest.raises(jinja2.UndefinedError):  # a misspelt value is an error and not an empty place
            page.render("new.html", values="x")
    finally:
        page.environment.cache_clear()
    assert shown.count("[U+202E]\\x1b[31m\\x0d\\x0a&#39;&lt;script&gt;") == 4
    assert not {"\u202e", "\x1b", "\r", "\n"} & set(shown) and "<script" not in shown and "<img" not in shown
    assert "|<bdi>" in shown and "</bdi>||<p" in shown  # our own tags are tags; nothing is nothing
    assert shown.endswith("x" * 300 + "…")


def test_no_template_goes_round_the_escaping():
    for path in page.TEMPLATES.glob("*.html"):
        source = path.read_text(encoding="utf-8")
        assert not re.search(r"\|\s*(safe|forceescape|xmlattr|tojson)\b|autoescape|\{%-?\s*raw|Markup", source), path
        assert not re.search(r"\sstyle\s*=|\son\w+\s*=|<script(?!>\{\{ script \}\}</script>)", source), path
