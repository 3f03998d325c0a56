"""Who is found in what a class sent: containers, owners, platforms, rosters, times. Each kind in several wordings."""
import datetime
import os
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT
from made_handins import NUMBER, class_of, facts, found_in, member, pack, seven, zip_with

from grading.intake.listing import member_moment
from grading.intake.opening import look_into
from grading.intake.platforms import is_part, read_name
from grading.intake.roster import read_roster
from grading.intake.students import Owners, enroll, overview
from grading.intake.submissions import Submission
from handin.weights import repack
from utils.lab import LabError

WHOLE = (7, [])


def zips(folder: Path, scratch: Path, *names: str, numbers=None) -> Path:
    """A zip for each name in `folder`, which holds the seven files of the number in the name."""
    for index, name in enumerate(names):
        number = numbers[index] if numbers else name.removesuffix(".zip").rpartition("_")[2]
        pack(folder / name, seven(scratch / f"of {name}", number))
    return folder


# -- containers ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("template", ["Lab05_{}.zip", "{}.zip", "lab05-{}-final.zip", "task {} report.zip"])
@pytest.mark.parametrize("packed", [True, False])
def test_one_folder_with_everybodys_zips_is_a_class(tmp_path, template, packed):
    numbers = ["31355501", "31355502", "31355503"]
    zips(tmp_path / "class" / "handed in", tmp_path / "s1", *map(template.format, numbers), numbers=numbers)
    (tmp_path / "class" / "handed in" / "read me.txt").write_text("")
    path = pack(tmp_path / "class.zip", tmp_path / "class") if packed else tmp_path / "class"
    assert facts(path, tmp_path / "s") == dict.fromkeys(numbers, WHOLE)


@pytest.mark.parametrize("names", [("Taskin", "Ada"), ("Model", "Code"), ("Report", "Weights", "Notebook"),
                                   ("Network Lab", "Reporter")])
@pytest.mark.parametrize("kind", ["folders", "zips", "a zip of folders", "a zip of zips"])
def test_students_whose_names_are_words_of_the_lab(tmp_path, names, kind):
    room = tmp_path / "room" / "wrapped"
    for place, name in enumerate(names):
        folder = seven(tmp_path / "of" / name, f"3135550{place}")
        if "zips" in kind:
            pack(room / f"{name}.zip", folder)
        else:
            shutil.copytree(folder, room / name)
    (room / "Lab05.pdf").write_text("the hand-out, which is nobody's and decides nothing")
    path = pack(tmp_path / "class.zip", tmp_path / "room") if kind.startswith("a zip") else tmp_path / "room"
    assert facts(path, tmp_path / "s") == {f"3135550{place}": WHOLE for place in range(len(names))}


@pytest.mark.parametrize("folder_of", [
    lambda path: {".py": "code", ".pth": "Models", ".ipynb": "notebooks", ".pdf": "report"}[path.suffix],
    lambda path: "Task 2" if "task2" in path.name else "Task 1", lambda path: "final"])
def test_one_student_in_folders_by_kind_task_or_version_is_one(tmp_path, folder_of):
    whole = seven(tmp_path / "class" / "hers", "31355501")
    for path in [path for path in whole.iterdir() if path.is_file()]:
        (whole / folder_of(path)).mkdir(exist_ok=True)
        path.rename(whole / folder_of(path) / path.name)
    if (whole / "final").exists():
        shutil.copytree(whole / "final", whole / "old v2")
    (student,) = class_of(tmp_path / "class", tmp_path / "s")
    assert student.name == "31355501" and len(student.submission.files) == 7


def test_sections_and_late_ones_are_opened_and_a_students_own_folder_is_not(tmp_path):
    room = tmp_path / "class"
    zips(room / "group A", tmp_path / "s1", "31355501.zip", "31355502.zip")
    zips(room / "group B", tmp_path / "s1", "31355503.zip", "31355504.zip")
    assert facts(room, tmp_path / "s") == dict.fromkeys(("31355501", "31355502", "31355503", "31355504"), WHOLE)
    named = tmp_path / "by name"
    for section, name, number in (("A", "Ada", "31355501"), ("A", "Bob", "31355502"), ("B", "Ada", "31355503"),
                                  ("B", "Eve", "31355504")):
        seven(named / section / name, number)
    assert len(facts(named, tmp_path / "s")) == 4  # two of the name Ada
    mixed = tmp_path / "mixed"
    zips(mixed, tmp_path / "s1", "31355501.zip", "31355502.zip")
    zips(mixed / "late", tmp_path / "s1", "31355503.zip", "31355504.zip")
    thief = tmp_path / "thief"  # a student's own zip, with folders of others in it
    for number in ("31355501", "31355502", "31355509"):
        seven(thief / number, number, "stolen")
    pack(mixed / "31355509.zip", thief)
    found = {one.name: one.submission for one in class_of(mixed, tmp_path / "s")}
    assert sorted(found) == ["31355501", "31355502", "31355503", "31355504", "31355509"]
    assert all(one.files["report"]["bytes"] == 8 for name, one in found.items() if name != "31355509")


@pytest.mark.parametrize("packed", [True, False])
def test_a_section_with_one_student_is_a_section(tmp_path, packed):
    room = tmp_path / "class"
    for section, numbers in (("Tue 3-5pm", ("31355501", "31355502")), ("Thu 9-11am", ("31355503",))):
        folder = tmp_path / "sections" / section
        zips(folder, tmp_path / "of", *(f"{number}_lab.zip" for number in numbers), numbers=numbers)
        if packed:
            pack(room / f"{section}.zip", folder)
        else:
            shutil.copytree(folder, room / section)
    assert facts(room, tmp_path / "s") == dict.fromkeys(("31355501", "31355502", "31355503"), WHOLE)


def test_what_systems_and_editors_leave_in_a_class_is_nobody(tmp_path):
    seven(tmp_path / "class" / "31355501", "31355501")
    for name in ("$RECYCLE.BIN/report_31355509.pdf", "System Volume Information/Lab05_task1_31355508.ipynb",
                 "__MACOSX/31355507/report_31355507.pdf", "~$report_31355506.docx", ".~lock.class.csv#", "ehthumbs.db"):
        (tmp_path / "class" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "class" / name).write_text("")
    assert facts(tmp_path / "class", tmp_path / "s") == {"31355501": WHOLE} and found_in(tmp_path / "class")[1] == []


def test_loose_files_of_several_students_are_not_taken_for_one(tmp_path):
    room = tmp_path / "class"
    for number in ("31355501", "31355502"):
        seven(room, number)
    with pytest.raises(LabError, match="found files of 31355501, 31355502 beside each other in class: put each"):
        found_in(room)
    roster = tmp_path / "roster.csv"
    roster.write_text("number\n31355501\n31355502\n")
    assert facts(room, tmp_path / "s", roster) == {"31355501": (3, []), "31355502": (3, [])}
    own = seven(tmp_path / "hers", "31355501")  # a friend's report among one's own files makes nobody
    (own / "report_31355502.pdf").write_text("")
    (student,) = class_of(own, tmp_path / "s")
    assert student.name == "31355501" and "found report_31355502.pdf as well: it counts for nobody" in \
        student.submission.findings[0].text


def test_figures_beside_the_seven_files_decide_nothing(tmp_path):
    for extra in ("figures", "my figures", "plots_for_Ada"):
        own = seven(tmp_path / extra, "31355501")
        for path in list(own.iterdir())[:4]:
            path.unlink()
        (own / extra).mkdir()
        (own / extra / "curve.png").write_text("")
        assert [(one.name, len(one.submission.files)) for one in class_of(own, tmp_path / "s")] == [
            (one, 3) for one in ([extra] if not list(own.glob("*_31355501.*")) else ["31355501"])]


# -- numbers and owners ----------------------------------------------------------------------------------------------

def later(path: Path) -> None:
    os.utime(path, (2_000_000_000, 2_000_000_000))


@pytest.mark.parametrize("name", ["31355556_31355555.zip", "x31355555.zip", "313555551.zip", "1_31355555_31355556.zip",
                                  "Ada.zip"])
def test_a_later_zip_of_somebody_else_takes_nobodys_place(tmp_path, name):
    room = zips(tmp_path / "class", tmp_path / "s1", "31355555.zip", "31355501.zip")
    pack(room / name, seven(tmp_path / "thief", "31355555", "stolen"))
    later(room / name)
    students = {one.submission.name: one for one in class_of(room, tmp_path / "s")}
    assert len(students) == 3
    owner, thief = students["31355555.zip"], students[name]
    assert owner.slug == "31355555" and not owner.submission.findings and not owner.contested
    assert owner.submission.files["report"]["bytes"] == 8
    assert thief.slug != "31355555" and "31355555" in thief.submission.findings[-1].text
    assert students["31355501.zip"].slug == "31355501"


@pytest.mark.parametrize("files", ["31355501", "31355577"])
def test_the_folder_says_whose_it_is_before_the_files_do(tmp_path, files):
    room = tmp_path / "class"
    seven(room / "31355501", "31355501")
    seven(room / "31355502 Bob", files)
    first, bob = class_of(room, tmp_path / "s")
    assert (first.slug, bob.slug) == ("31355501", "31355502") and not first.submission.findings
    assert f"expected files of 31355502, found {files} in their names" in bob.submission.findings[0].text
    assert "expected the student number 31355502 in the names, found" in bob.submission.naming[0]


def test_a_hand_in_again_counts_but_not_one_with_anothers_files(tmp_path):
    room = zips(tmp_path / "class", tmp_path / "s1", "31355501.zip")
    pack(room / "31355501_v2.zip", seven(tmp_path / "v2", "31355501", "again"))
    later(room / "31355501_v2.zip")
    (student,) = class_of(room, tmp_path / "s")
    assert student.submission.name == "31355501_v2.zip" and "found 31355501.zip as well" in \
        student.submission.findings[0].text
    pack(room / "31355501_v3.zip", seven(tmp_path / "v3", "31355509", "whose?"))
    os.utime(room / "31355501_v3.zip", (2_100_000_000, 2_100_000_000))
    students = {one.submission.name: one for one in class_of(room, tmp_path / "s")}
    assert students["31355501_v2.zip"].slug == "31355501"
    assert students["31355501_v3.zip"].slug == "31355509"
    assert "does not take the place of 31355501.zip" in students["31355501_v3.zip"].submission.findings[-1].text


def test_numbers_that_a_platform_gave_to_folders_are_told_from_students(tmp_path):
    room = tmp_path / "class"  # as Gradescope exports them
    for place in range(4):
        seven(room / f"submission_28000{place}123", f"3135550{place}")
    found, notes = found_in(room)
    told = []
    (tmp_path / "s").mkdir()
    students = enroll(found, Owners(NUMBER), lambda some: [look_into(one, tmp_path / "s") for one in some], told.append)
    assert {one.slug: one.submission.naming for one in students} == {f"3135550{place}": [] for place in range(4)}
    assert "(4 of 4 differ, submission_280000123 for one)" in told[0] and not notes


# -- platforms -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("name", "expected"), [
    ("Ada Lovelace_4000_assignsubmission_file_", ("Ada Lovelace_4000", "file", "", "")),
    ("Ada Lovelace_4000_assignsubmission_file_a.py", ("Ada Lovelace_4000", "file", "a.py", "")),
    ("Ada_LATE_4000_assignsubmission_file_", ("Ada_4000", "file", "", "Moodle marks it late")),
    ("王小明_12_assignsubmission_onlinetext_", ("王小明_12", "onlinetext", "", "")),
    ("lovelaceada_12345_67890_network_task1.py", ("lovelaceada_12345", "file", "network_task1.py", "")),
    ("lovelaceada_LATE_12345_67890_network_task1-1.py",
     ("lovelaceada_12345", "file", "network_task1.py", "Canvas marks it late")),
    ("gödelkurt_late_12345_67891_Lab05_31355501-12.zip",
     ("gödelkurt_12345", "file", "Lab05_31355501.zip", "Canvas marks it late")),
    ("Late Night_4001_assignsubmission_file_", ("Late Night_4001", "file", "", ""))])
def test_names_that_platforms_give(name, expected):
    told = read_name(name)
    assert (told.owner, told.kind, told.rest, told.late) == expected


@pytest.mark.parametrize("name", ["31355501.zip", "Lab05_task1_31355501.ipynb", "report_31355501_31355502_x.pdf",
                                  "ada_2026_11_30_report.pdf", "network_task1.py", "_12_assignsubmission"])
def test_names_that_no_platform_gave(name):
    assert read_name(name) is None


def test_whole_words_for_parts():
    assert all(map(is_part, ("Task 1", "lab05_code", "model", "final v2", "Report")))
    assert not any(map(is_part, ("Taskin", "Model Ada", "reporter", "31355501", "Codey")))


def test_canvas_with_loose_files_beside_zips_and_second_attempts(tmp_path):
    room, loose = tmp_path / "class", seven(tmp_path / "a", "31355501")
    room.mkdir()
    for attachment, path in enumerate(sorted(loose.iterdir())):
        path.rename(room / f"lovelaceada_12345_{67890 + attachment}_{path.stem}-1{path.suffix}")
    (room / "lovelaceada_12345_67000_network_task1.py").write_text("the first attempt's, which Canvas never sends")
    pack(room / "hoppergrace_LATE_12346_67900_Lab05_31355502-2.zip", seven(tmp_path / "b", "31355502"))
    pack(room / "turingalan_12347_67901_homework.zip", seven(tmp_path / "c", "31355503"))
    archive = pack(tmp_path / "submissions.zip", room)
    for path in (room, archive):
        students = class_of(path, tmp_path / "s")
        assert [(one.name, len(one.submission.files), one.submission.naming) for one in students] == [
            ("31355502", *WHOLE), ("31355501", *WHOLE), ("31355503", *WHOLE)]
        assert [one.facts()["late_mark"] for one in students] == ["Canvas marks it late", "", ""]
        assert students[1].submission.files["network 1"]["bytes"] == 8  # the second attempt's


def test_names_like_canvas_of_one_owner_are_no_owners(tmp_path):
    room = tmp_path / "class"
    for number in ("31355501", "31355502", "31355503"):
        pack(room / f"homework_20261130_{number}_final.zip", seven(tmp_path / number, number))
    assert len(class_of(room, tmp_path / "s")) == 3


@pytest.mark.parametrize("top", ["submitted", "course/submitted", ""])
def test_nbgraders_tree_costs_nothing(tmp_path, top):
    root = tmp_path / "class" / top
    for number in ("31355501", "31355502"):
        seven(root / number / "lab05", number)
        if top:
            (root / number / "lab05" / "timestamp.txt").write_text("2026-11-30 15:58:23.948203 UTC\n")
            (root / number / "lab04").mkdir()
    if top.startswith("course"):
        for name in ("source", "release", "feedback"):
            (root.parent / name / "lab05").mkdir(parents=True)
    for path in (tmp_path / "class", pack(tmp_path / "class.zip", tmp_path / "class", "wrapped/")):
        students = class_of(path, tmp_path / "s")
        assert [(one.name, len(one.submission.files), one.submission.naming) for one in students] == [
            ("31355501", *WHOLE), ("31355502", *WHOLE)]
        if top:
            assert {one.facts()["submitted"] for one in students} == {"2026-11-30T15:58:23Z"}


# -- the roster ------------------------------------------------------------------------------------------------------

ROSTERS = {
    "Moodle's participants": "First name,Last name,ID number,Email address\n"
                             "Ada,Lovelace,31355501,ada@x.edu\nAlan,Turing,31355502,alan.t@x.edu\n"
                             "Kurt,Gödel,31355503,kurt@x.edu\n",
    "Moodle's worksheet": "Identifier,Full name,Email address,ID number,Status\n"
                          "Participant 12345,Ada Lovelace,ada@x.edu,31355501,Submitted\n"
                          "Participant 12346,Alan Turing,alan.t@x.edu,31355502,Submitted\n"
                          "Participant 12347,Kurt Gödel,kurt@x.edu,31355503,No submission\n",
    "Canvas's gradebook": "Student,ID,SIS User ID,SIS Login ID,Section,Lab 5 (1)\n"
                          "    Points Possible,,,,,100\n\"Lovelace, Ada\",12345,31355501,ada,A,\n"
                          "\"Turing, Alan\",12346,31355502,alan.t,A,\n\"Gödel, Kurt\",12347,31355503,kurt,A,\n"
                          "\"Student, Test\",99999,,,A,\n",
    "plain, with semicolons": "number;name\n31355501;Ada Lovelace\n31355502;Alan Turing\n31355503;Kurt Gödel\n",
    "no first line": "31355501,Ada Lovelace\n31355502,Alan Turing\n31355503,Kurt Gödel\n"}


@pytest.mark.parametrize("kind", ROSTERS)
def test_everybody_on_the_roster_is_counted(tmp_path, kind):
    roster = tmp_path / "roster.csv"
    roster.write_text("\ufeff" + ROSTERS[kind], encoding="utf-8")
    room = tmp_path / "class"
    for path in (seven(room / "Ada Lovelace_12345_assignsubmission_file_"), seven(room / "Turing, Alan"),
                 seven(room / "31355509")):
        for file in path.iterdir():
            file.rename(path / file.name.replace("_31355555", ""))  # the names do not tell
    owners = Owners(NUMBER, read_roster(roster))
    students = class_of(room, tmp_path / "s", roster)
    assert [(one.slug, one.submission.missing == []) for one in students] == [
        ("31355509", True), ("31355501", True), ("31355502", True), ("31355503", False)]
    lines = overview(students, ["note: one"], owners)
    assert "31355503: on the roster, handed in nothing" in lines
    assert lines[0].endswith("not on the roster")
    assert lines[-1] == ("3 students with a submission, 1 of the 3 on the roster without one, "
                         "1 notes on what was passed over")


def test_logins_and_names_of_the_roster_own_folders(tmp_path):
    (tmp_path / "r.csv").write_text(ROSTERS["Canvas's gradebook"], encoding="utf-8")
    roster = read_roster(tmp_path / "r.csv")
    for name, number in (("ada", "31355501"), ("Lab05_alan.t.zip", "31355502"), ("gödelkurt", "31355503"),
                         ("Kurt Gödel.zip", "31355503"), ("31355502_late.zip", "31355502"), ("adam", None),
                         ("31355501_31355502", None), ("", None)):
        found = roster.named(name)
        assert (found and found.number) == number, name
    assert roster.of_account("unknown", "12346").number == "31355502"


@pytest.mark.parametrize("above", ["", "spring/"])
def test_names_of_the_roster_own_folders_in_sections_too(tmp_path, above):
    roster = tmp_path / "roster.csv"
    roster.write_text("31355501,Ada Lovelace\n31355502,Alan Turing\n31355503,Kurt Gödel\n", encoding="utf-8")
    for place in ("Tue/Ada Lovelace", "Tue/Turing, Alan", "Thu/gödelkurt", "Thu/31355509"):
        for file in seven(tmp_path / "class" / above / place).iterdir():
            file.rename(file.with_name(file.name.replace("_31355555", "")))  # the names do not tell
    found = facts(tmp_path / "class", tmp_path / "s", roster)
    assert {name: count for name, (count, _) in found.items()} == {
        "31355501": 7, "31355502": 7, "31355503": 7, "31355509": 7}


@pytest.mark.parametrize(("text", "words"), [
    ("", "found none"), ("number,name\n", "found none"), ("number,name\n31355501,\"Ada\n31355502,Bob\n", "a CSV table"),
    ("number,name\n31355501,Ada\n,Bob\n", "found none in line 3"),
    ("number,name\n31355501,Ada\n31355501,Bob\n", "found 31355501 in two lines"),
    ("\udcff", "another encoding")])
def test_a_roster_that_cannot_be_read(tmp_path, text, words):
    (tmp_path / "r.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(LabError, match=words):
        read_roster(tmp_path / "r.csv")
    with pytest.raises(LabError, match="No such file"):
        read_roster(tmp_path / "none.csv")


# -- times -----------------------------------------------------------------------------------------------------------

def stamped(seconds: int) -> bytes:
    return struct.pack("<HHBI", 0x5455, 5, 1, seconds)


def ntfs(seconds: int) -> bytes:
    ticks = (seconds + 11_644_473_600) * 10_000_000
    return struct.pack("<HHIHHQQQ", 0x000A, 32, 0, 1, 24, ticks, ticks, ticks)


UTC = 1_800_000_000  # 2027-01-15 08:00:00 UTC


@pytest.mark.parametrize(("extra", "zone", "seconds", "assumed"), [
    (stamped(UTC), None, UTC, False), (b"\x01\x00\x02\x00ab" + stamped(UTC), None, UTC, False),
    (ntfs(UTC), None, UTC, False), (b"", 0, UTC, True), (b"", 8, UTC - 8 * 3600, True), (b"", -5, UTC + 5 * 3600, True),
    (struct.pack("<HHB", 0x5455, 1, 0), 8, UTC - 8 * 3600, True), (b"UT\xff\xff\x01", 0, UTC, True)])
def test_a_members_time(extra, zone, seconds, assumed):
    info = zipfile.ZipInfo("a.py", (2027, 1, 15, 8, 0, 0))
    info.extra = extra
    zone = None if zone is None else datetime.timezone(datetime.timedelta(hours=zone))
    assert member_moment(info, zone) == (seconds, assumed)


def test_the_deadlines_offset_is_that_of_local_times_and_it_is_said(tmp_path):
    (tmp_path / "class.zip").parent.mkdir(exist_ok=True)
    for place, extra in ((1, b""), (2, stamped(UTC))):
        info = zipfile.ZipInfo(f"Ada_1{place}_assignsubmission_file_/network_task1.py", (2027, 1, 15, 23, 30, 0))
        info.extra = extra
        with zipfile.ZipFile(tmp_path / "class.zip", "a") as archive:
            archive.writestr(info, "")
    zone = datetime.timezone(datetime.timedelta(hours=8))
    local, exact = (one.facts() for one in class_of(tmp_path / "class.zip", tmp_path / "s", zone=zone))
    assert (local["submitted"], local["time_assumed"]) == ("2027-01-15T15:30:00Z", True)
    assert (exact["submitted"], exact["time_assumed"]) == ("2027-01-15T08:00:00Z", False)


# -- single files ----------------------------------------------------------------------------------------------------

def test_of_one_name_twice_in_a_zip_the_last_counts(tmp_path):
    room = tmp_path / "class"
    seven(room / "31355502", "31355502")
    archive = pack(room / "31355501.zip", seven(tmp_path / "a", "31355501", "first"))
    with zipfile.ZipFile(archive, "a") as file, pytest.warns(UserWarning, match="Duplicate name"):
        file.writestr("network_task1.py", "appended")
        file.writestr("./report_31355501.pdf", "appended too")
    first = class_of(room, tmp_path / "s")[0].submission
    assert (len(first.files), first.error) == (7, "")
    assert first.files["network 1"]["bytes"] == 8 and first.files["report"]["bytes"] == 12
    assert [finding.text for finding in first.findings] == [
        "expected each name once, found network_task1.py again in 31355501.zip: the last one counts",
        "expected each name once, found report_31355501.pdf again in 31355501.zip: the last one counts"]
    whole = pack(tmp_path / "moodle.zip", seven(tmp_path / "b", "31355503"), "Ada_11_assignsubmission_file_/")
    with zipfile.ZipFile(whole, "a") as file, pytest.warns(UserWarning):
        file.writestr("Ada_11_assignsubmission_file_/model_task1.pth", "the same in the class's own zip")
    ada = class_of(whole, tmp_path / "s")[0].submission
    assert len(ada.files) == 7 and ada.files["weights 1"]["bytes"] == 31 and len(ada.findings) == 1


ASCII = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from made_handins import class_of
assert sys.getfilesystemencoding() == "ascii"
for one in class_of(Path(sys.argv[1]), Path(sys.argv[2])):
    print(ascii([one.name, len(one.submission.files), [f.text for f in one.submission.findings]]))
"""


def test_a_name_that_this_machine_cannot_write_costs_that_file_alone(tmp_path):
    archive = pack(tmp_path / "class.zip", seven(tmp_path / "a", "31355501"), "Müller_11_assignsubmission_file_/")
    pack(archive, seven(tmp_path / "b", "31355502"), "Bob_12_assignsubmission_file_/")
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("Bob_12_assignsubmission_file_/Übung 王.py", "")
        file.writestr("Bob_12_assignsubmission_file_/" + "x" * 300 + ".py", "")
        file.writestr("Bob_12_assignsubmission_file_/report_31355502.pdf/in a file.txt", "")
    done = subprocess.run([sys.executable, "-c", ASCII, archive, tmp_path / "s", ROOT / "tests"], check=False, cwd=ROOT,
                          capture_output=True, text=True, env={"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0",
                                                               "LC_ALL": "C", "PATH": os.environ["PATH"]})
    assert done.returncode == 0, done.stderr[-2000:]
    bob, mueller = done.stdout.splitlines()
    assert bob.startswith("['31355502', 7,") and "no such letters here" in bob and "File name too long" in bob
    assert mueller == "['31355501', 7, []]"


def test_weights_that_a_browser_renamed_or_unpacked_are_weights(tmp_path, weights):
    room = tmp_path / "class"
    for number, spoil in (("31355501", "zip"), ("31355502", "folder"), ("31355503", ".pth folder"),
                          ("31355504", "deep folder")):
        own = seven(room / number, number)
        for task, path in weights.items():
            if spoil == "zip":
                shutil.copy(path, own / f"model_task{task}.zip")
            else:
                with zipfile.ZipFile(path) as archive:
                    inside = archive.namelist()[0].partition("/")[0]
                    archive.extractall(own)
                (own / inside).rename(own / "inside")
            (own / f"model_task{task}.pth").unlink()
            if spoil == "deep folder":
                (own / f"model_task{task}").mkdir()
                (own / "inside").rename(own / f"model_task{task}" / inside)
            elif spoil != "zip":
                (own / "inside").rename(own / f"model_task{task}{spoil.removesuffix('folder').strip()}")
    for one in class_of(room, tmp_path / "s"):
        found = one.submission
        assert len(found.files) == 7 and not found.error, found
        assert len(found.naming) == 2 and "expected model_task1.pth, found" in found.naming[0]
        assert found.files["weights 2"]["bytes"] > 50_000
    folder, copies = room / "31355502" / "model_task1", (tmp_path / "a.zip", tmp_path / "b.zip")
    for path, moment in zip(copies, (1e9, 1.5e9), strict=True):  # unpacked at another time, and yet the same file
        for inside in folder.rglob("*"):
            os.utime(inside, (moment, moment))
        repack(folder, path)
    assert copies[0].read_bytes() == copies[1].read_bytes()


def test_nothing_is_taken_for_a_submission_twice_by_its_own_look():
    one, other = Submission("a"), Submission("a")
    assert one != other and len({one, other}) == 2
    assert zip_with and member  # shared with test_submissions
