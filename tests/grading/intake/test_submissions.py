"""Finding and opening a class's submissions: every shape that a folder or zip may come in, and the hostile ones."""
import os
import struct
import zipfile
from pathlib import Path

import pytest
from made_handins import class_of, facts, found_in, member, pack, seven, zip_with

from grading.intake.opening import open_submission
from grading.records import clean, read_record, read_records, slug_of, write_record
from handin.unpack import member_name, unpack
from utils.lab import LabError


def test_folders_zips_and_loose_files_beside_each_other(tmp_path):
    room = tmp_path / "class"
    seven(room / "31355501", "31355501")
    pack(room / "anything.zip", seven(tmp_path / "a", "31355502"))
    for name in ("report_31355503.pdf", "Lab05_task1_31355503.ipynb"):
        (room / name).write_text("")
    (room / "model_task1.pth").write_text("")  # whose?
    (room / ".DS_Store").write_text("")
    submissions, notes = found_in(room)
    assert [one.name for one in submissions] == ["31355501", "anything.zip"]
    assert notes == ["passed over model_task1.pth: it lies beside the submissions, and its name does not say whose it "
                     "is", "passed over Lab05_task1_31355503.ipynb, report_31355503.pdf: a file's name alone does not "
                     "make a student; put it into a folder 31355503, or name 31355503 on the roster"]
    assert facts(room, tmp_path / "s") == {"31355501": (7, []), "31355502": (7, [])}
    roster = tmp_path / "roster.csv"
    roster.write_text("31355501\n31355502\n31355503\n31355504\n")
    assert facts(room, tmp_path / "s", roster) == {"31355501": (7, []), "31355502": (7, []), "31355503": (2, []),
                                                   "31355504": (0, [])}


def test_moodles_zip_with_folders_and_a_students_zip_in_it(tmp_path):
    archive = tmp_path / "Lab 5-98765.zip"
    pack(archive, seven(tmp_path / "a", "31355501"), "Ada Müller_11_assignsubmission_file_/")
    inner = pack(tmp_path / "b" / "Lab05_31355502.zip", seven(tmp_path / "c", "31355502"))
    pack(archive, inner.parent, "王小明_12_assignsubmission_file/")
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("Ada Müller_11_assignsubmission_onlinetext_/onlinetext.html", "<p>see files</p>")
        file.writestr("Nobody_13_assignsubmission_onlinetext_/onlinetext.html", "<p>ill</p>")
    found = facts(archive, tmp_path / "s")
    assert found == {"31355501": (7, []), "31355502": (7, []), "Nobody_13_assignsubmission_onlinetext_": (0, [])}
    unpacked = tmp_path / "unpacked"  # the same, as a TA may unpack it, and the zip alone in a folder
    with zipfile.ZipFile(archive) as file:
        file.extractall(unpacked)
    assert facts(unpacked, tmp_path / "s") == found
    (tmp_path / "downloads").mkdir()
    archive.rename(tmp_path / "downloads" / archive.name)
    assert facts(tmp_path / "downloads", tmp_path / "s") == found


def test_moodle_without_folders(tmp_path):
    room = tmp_path / "class"
    for path in seven(tmp_path / "a", "31355501").iterdir():
        room.mkdir(exist_ok=True)
        path.rename(room / f"Ada Lovelace_11_assignsubmission_file_{path.name}")
    inner = pack(tmp_path / "b.zip", seven(tmp_path / "c", "31355502"))
    inner.rename(room / "Alan Turing_12_assignsubmission_file_Lab05.zip")
    assert facts(room, tmp_path / "s") == {"31355501": (7, []), "31355502": (7, [])}
    archive = pack(tmp_path / "flat.zip", room)
    assert facts(archive, tmp_path / "s") == {"31355501": (7, []), "31355502": (7, [])}


def test_one_submission_alone_and_the_folder_that_pack_makes(tmp_path):
    assert facts(seven(tmp_path / "one"), tmp_path / "s") == {"31355555": (7, [])}
    assert facts(pack(tmp_path / "one.zip", tmp_path / "one"), tmp_path / "s") == {"31355555": (7, [])}
    seven(tmp_path / "class" / "Ada" / "Lab05_31355555")
    assert facts(tmp_path / "class", tmp_path / "s") == {"31355555": (7, [])}


def test_folders_in_a_zip_cost_the_name_and_are_found(tmp_path):
    inner = pack(tmp_path / "a" / "homework.zip", seven(tmp_path / "b"), "my homework/final/")
    outer = pack(tmp_path / "class" / "31355555.zip", inner.parent)
    assert facts(tmp_path / "class", tmp_path / "s") == {"31355555": (
        7, ["expected the seven files at the top, found them in homework.zip/my homework/final/: move them up"])}
    pack(tmp_path / "again" / "31355555" / "handin.zip", outer.parent)  # a zip in a zip in a zip
    found = facts(tmp_path / "again", tmp_path / "s")
    assert list(found) == ["31355555"] and len(found["31355555"][1]) == 1


def test_the_later_of_a_students_two_submissions_counts_and_it_is_said(tmp_path):
    room = tmp_path / "class"
    for place, (name, student) in enumerate([("31355501 (1)", "31355501"), ("31355501", "31355501"),
                                             ("31355502", "31355502")]):
        for path in seven(room / name, student, name).iterdir():
            os.utime(path, (1_700_000_000 - place, 1_700_000_000 - place))
    students = class_of(room, tmp_path / "s")
    assert [(one.slug, one.submission.name) for one in students] == [
        ("31355501", "31355501 (1)"), ("31355502", "31355502")]
    assert [finding.text for finding in students[0].submission.findings] == [
        "expected one submission, found 31355501 as well: the latest, 31355501 (1), is graded"]
    for path in (room / "31355501").iterdir():  # the other way round
        os.utime(path, (1_800_000_000, 1_800_000_000))
    assert class_of(room, tmp_path / "s")[0].submission.name == "31355501"


def test_two_participants_of_one_number_are_both_held(tmp_path):
    room = tmp_path / "class"
    for name in ("Ada_11", "Bob_12"):
        seven(room / f"{name}_assignsubmission_file_", "31355501")
    seven(room / "Eve_13_assignsubmission_file_", "31355503")
    ada, bob, eve = class_of(room, tmp_path / "s")
    assert ada.slug != bob.slug and all(one.slug.startswith("31355501-") for one in (ada, bob))
    assert "found Ada_11_assignsubmission_file_ and Bob_12_assignsubmission_file_ with equal claims" in ada.contested
    assert bob.contested and not eve.contested and eve.slug == "31355503" and not eve.submission.findings
    roster = tmp_path / "roster.csv"  # which says whose it is
    roster.write_text("Identifier,Full name,ID number\nParticipant 11,Ada Lovelace,31355501\n")
    ada, bob, eve = class_of(room, tmp_path / "s", roster)
    assert (ada.slug, ada.contested, ada.submission.findings) == ("31355501", "", [])
    assert (bob.name, bob.contested) == ("Bob_12_assignsubmission_file_", "")
    assert "found 31355501 in the names of its files, which is that of Ada_11" in bob.submission.findings[0].text


def test_a_number_that_only_files_claim_touches_nobody(tmp_path):
    room = tmp_path / "class"
    (room / "31355555").mkdir(parents=True)
    seven(room / "Ada", "31355555")
    seven(room / "Bob", "31355502")
    empty, ada, bob = class_of(room, tmp_path / "s")
    assert bob.slug == "31355502" and not bob.submission.findings
    assert (empty.slug, ada.slug) == ("31355555", "Ada")
    assert [finding.subject for finding in empty.submission.findings] == ["files"]  # it is empty, no more
    assert "which is that of 31355555: it is recorded under its own name" in ada.submission.findings[0].text


def test_a_time_that_no_calendar_has_is_no_time(tmp_path):
    for name in ("31355501", "31355502"):
        for path in seven(tmp_path / "class" / name, name).iterdir():
            os.utime(path, (1_700_000_000, 1_700_000_000))
    os.utime(tmp_path / "class" / "31355501" / "report_31355501.pdf", (1e14, 1e14))
    for path in (tmp_path / "class" / "31355502").iterdir():
        os.utime(path, (-1e10, -1e10))
    first, second = class_of(tmp_path / "class", tmp_path / "s")
    assert first.facts()["submitted"] == "2023-11-14T22:13:20Z" and second.facts()["submitted"] is None


def test_a_folder_gives_its_number_where_the_names_have_none(tmp_path):
    folder = seven(tmp_path / "class" / "31355509")
    for path in folder.iterdir():
        path.rename(folder / path.name.replace("_31355555", ""))
    assert class_of(tmp_path / "class", tmp_path / "s")[0].name == "31355509"


def test_empty_submissions_and_a_report_alone(tmp_path):
    room = tmp_path / "class"
    (room / "empty").mkdir(parents=True)
    (room / "only").mkdir()
    (room / "only" / "report_31355501.pdf").write_text("")
    (room / "packed").mkdir()
    (room / "packed" / "all.rar").write_bytes(b"Rar!")
    by_folder = {one.submission.name: one.submission for one in class_of(room, tmp_path / "s")}
    assert "found none in empty" in by_folder["empty"].error and len(by_folder["empty"].missing) == 7
    assert list(by_folder["only"].files) == ["report"] and not by_folder["only"].error
    assert "found all.rar: unpack it by hand" in by_folder["packed"].findings[0].text


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("model_task1.pth", b"x")
    content = bytearray(path.read_bytes())  # the directory claims 3 GB
    place = content.rindex(b"PK\x01\x02")
    content[place + 24:place + 28] = struct.pack("<I", 3 << 30)
    path.write_bytes(bytes(content))


def bad_name(path: Path) -> None:
    zip_with(member("näme.py"))(path)  # the flag says UTF-8
    path.write_bytes(path.read_bytes().replace("näme".encode(), b"n\xff\xfeme"))


@pytest.mark.parametrize(("make", "words"), [
    (lambda path: path.write_bytes(b"no zip"), "found a damaged one or another file"),
    (lambda path: path.write_bytes(b""), "found a damaged one or another file"),
    (bomb, "found 1 files of 3.0 GB"),
    (zip_with(member("../out.txt")), "expected names within the hand-in"),
    (zip_with(member("/tmp/lab-test/out.txt")), "expected names within the hand-in"),
    (zip_with(member("model_task1.pth", 0o120777)), "found the link model_task1.pth"),
    (zip_with(*[member(f"{k}.py") for k in range(1001)]), "found 1,001 files"),
    (zip_with(member("a/" * 300 + "x")), "folders 301 deep"),
    (zip_with(member("x" * 300)), "(File name too long): left out"),
    (zip_with(member("a.py", compression=zipfile.ZIP_BZIP2)), "packed in another way"),
    (bad_name, "found a damaged one")])
def test_a_hostile_zip_is_told_and_leaves_nothing(tmp_path, make, words):
    room = tmp_path / "deep" / "er" / "class"
    seven(room / "31355501", "31355501")
    make(room / "31355502.zip")
    first, second = class_of(room, tmp_path / "s")
    assert len(first.submission.files) == 7 and not first.submission.error
    assert words in second.submission.error and second.slug == "31355502"
    assert str(tmp_path) not in second.submission.error
    assert not list(tmp_path.rglob("out.txt")) and not Path("/tmp/lab-test").exists()


def test_a_bad_zip_among_good_files_costs_only_itself(tmp_path):
    folder = seven(tmp_path / "class" / "31355501", "31355501")
    (folder / "old.zip").write_bytes(b"no zip")
    look = class_of(tmp_path / "class", tmp_path / "s")[0].submission
    assert len(look.files) == 7 and not look.error and "old.zip" in look.findings[0].text


def test_links_pipes_and_large_companions_are_not_copied(tmp_path):
    folder = seven(tmp_path / "class" / "31355501", "31355501")
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (folder / "model_task2.pth").unlink()
    (folder / "model_task2.pth").symlink_to(secret)
    (folder / "data").symlink_to(tmp_path)
    os.mkfifo(folder / "network.py")
    with (folder / "film.mp4").open("wb") as file:
        file.truncate(5 << 30)
    (tmp_path / "in").mkdir()
    handin, notes = open_submission(found_in(tmp_path / "class")[0][0], tmp_path / "in")
    assert [part.subject for part in handin.missing] == ["weights 2"]
    assert (tmp_path / "in" / "film.mp4").stat().st_size == 0  # its name is told, its bytes are nobody's business
    assert not any(path.is_symlink() for path in (tmp_path / "in").rglob("*"))
    assert sum("a link or device" in note.text for note in notes) == 3


def test_a_disk_that_is_full_is_no_fault_of_the_submission(tmp_path, monkeypatch):
    import errno
    import shutil

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    pack(tmp_path / "class" / "a.zip", seven(tmp_path / "a"))
    seven(tmp_path / "class" / "b")
    monkeypatch.setattr(shutil, "copyfileobj", full)
    looks = [one.submission for one in class_of(tmp_path / "class", tmp_path / "s")]
    assert all(look.ours and "No space left" in look.error for look in looks) and len(looks) == 2


@pytest.mark.parametrize("make", ["missing", "empty", "no zip"])
def test_no_class_at_all(tmp_path, make):
    path = tmp_path / "class"
    if make == "empty":
        path.mkdir()
    elif make == "no zip":
        path.write_bytes(b"PK\x03\x04 no zip")
    with pytest.raises(LabError, match={"missing": "found nothing at", "empty": "found none in",
                                        "no zip": "another or a damaged file"}[make]):
        found_in(path)


def test_a_member_that_leads_out_of_the_class_zip_is_passed_over(tmp_path):
    archive = pack(tmp_path / "class.zip", seven(tmp_path / "a"), "Ada_11_assignsubmission_file_/")
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("../evil.py", "x")
        file.writestr("Bob_12_assignsubmission_file_/../../evil.py", "x")
    submissions, notes = found_in(archive)
    assert [one.owner for one in submissions] == ["Ada_11", "Bob_12"] and "../evil.py" in notes[0]
    assert "expected names within" in class_of(archive, tmp_path / "s")[1].submission.error
    assert not list(tmp_path.rglob("evil.py"))


@pytest.mark.parametrize(("name", "encoding"), [("Müller/é.py", "cp437"), ("Müller/é.py", "utf-8"),
                                                ("张伟/作业.py", "gbk"), ("陳大文/報告.py", "big5"),
                                                ("plain.py", "ascii")])
def test_names_in_a_code_page_that_the_zip_does_not_tell(tmp_path, name, encoding):
    path, stand_in = tmp_path / "a.zip", "x" * len(name.encode(encoding))
    zip_with(member(stand_in))(path)
    path.write_bytes(path.read_bytes().replace(stand_in.encode(), name.encode(encoding)))
    with zipfile.ZipFile(path) as file:
        assert member_name(file.infolist()[0]) == name
    (tmp_path / "in").mkdir()
    unpack(path, tmp_path / "in")
    assert (tmp_path / "in" / name).read_bytes() == b"x"


def test_unpacking_a_part_of_a_zip(tmp_path):
    path = tmp_path / "a.zip"
    zip_with(member("one/a.py"), member("one/in/b.py"), member("one.py"), member("two\\c.py"))(path)
    for within, names in (("one", {"a.py", "in/b.py"}), ("one.py", {"one.py"}), ("two", {"c.py"}), ("none", set())):
        folder = tmp_path / f"into {within}"
        folder.mkdir()
        unpack(path, folder, within)
        assert {found.relative_to(folder).as_posix() for found in folder.rglob("*") if found.is_file()} == names


@pytest.mark.parametrize("name", ["..", "", "王小明", "a/b", "CON", "com1", "x" * 300, "a b", "\udcff\udcfe", "Zoë",
                                  "<script>", "~", "a\nb", ".hidden", "31355555 "])
def test_slugs_are_safe_file_names_of_one_meaning(name):
    slug = slug_of(name)
    assert slug.isascii() and 0 < len(slug) <= 48 and slug.replace("-", "").isalnum()
    assert slug != name and slug.casefold() not in ("con", "com1") and slug_of(name) == slug
    assert slug_of(name + "x") != slug


def test_a_number_is_its_own_slug_unless_it_is_shared():
    assert slug_of("31355555") == "31355555"
    assert slug_of("31355555", alone=False).startswith("31355555-")


def test_a_file_has_the_mode_that_the_umask_leaves_which_nobody_sets(tmp_path, monkeypatch):
    mask = os.umask(0)
    os.umask(mask)
    monkeypatch.setattr(os, "umask", None)  # even for a moment it would open what other threads write
    write_record(tmp_path, "a", {})
    assert (tmp_path / "records" / "a.json").stat().st_mode & 0o777 == 0o666 & ~mask


def test_records_come_back_and_bad_ones_are_told(tmp_path):
    task = {"state": "OK", "miou": float("nan"), "log": "\udcff", "iou": (1.0, float("inf"))}
    record = {"schema": 1, "student": "王", "tasks": {"1": task, "2": task}}
    write_record(tmp_path, "a", record)
    found = read_records(tmp_path)
    assert found[0]["slug"] == "a" and found[0]["tasks"]["1"] == {"state": "OK", "miou": None, "log": "?",
                                                                 "iou": [1.0, None]}
    for name, text in (("b", "{"), ("c", "[]"), ("d", '{"schema": 99, "tasks": {}}'),
                       ("e", '{"schema": 1, "student": "x", "tasks": {"1": {"state": "GREAT"}}}')):
        (tmp_path / "records" / f"{name}.json").write_text(text)
        with pytest.raises(LabError, match=f"{name}.json: grade again"):
            read_record(tmp_path / "records" / f"{name}.json")
    notes: list[str] = []
    assert len(read_records(tmp_path, notes.append)) == 1 and len(notes) == 4
    with pytest.raises(LabError, match="expected the records of a graded class"):
        read_records(tmp_path / "nowhere")
    assert clean({1: Path("x")}) == {"1": "x"}
