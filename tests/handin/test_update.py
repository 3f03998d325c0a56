"""A newer kit comes into a student's folder: what the student wrote stays, and all can be taken back."""
import tarfile
import zipfile
from pathlib import Path

import pytest

from handin.fixed import MANIFEST, write_manifest
from handin.update import BACKUP, apply_update, opened_kit, plan_update, undo_update
from utils.lab import LabError

BOOK, NET = "Lab05_segmentation_task1.ipynb", "network/network.py"
OLD = {BOOK: "stub", NET: "stub", "utils/metric.py": "old", "utils/gone.py": "old", "README.md": "old", "Makefile": "m"}
NEW = {BOOK: "stub 2", NET: "stub", "utils/metric.py": "new", "utils/more.py": "new", "README.md": "new",
       "Makefile": "m 2"}


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def kit(folder: Path, files: dict[str, str], version: str) -> Path:
    write_manifest(write(folder, files), files, version)
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
            for path in folder.rglob("*") if path.is_file() and BACKUP not in path.parts}


@pytest.fixture
def student(tmp_path) -> Path:
    """The older kit with a student's work in it: both files filled in, the Makefile changed, files of its own."""
    folder = kit(tmp_path / "student", OLD, "1")
    return write(folder, {BOOK: "mine", NET: "mine", "Makefile": "mine", "runs/task1/history.json": "[]",
                          "notes.md": "mine"})


def test_an_update_keeps_what_is_the_students_and_can_be_undone(student, tmp_path):
    newer = kit(tmp_path / "kit", NEW, "2")
    before = contents(student)
    plan = plan_update(newer, student)
    assert contents(student) == before
    assert (plan.version, plan.new, plan.gone) == ("2", ["utils/more.py"], ["utils/gone.py"])
    assert plan.replaced == ["README.md", MANIFEST.as_posix(), "utils/metric.py"]
    assert plan.kept == [BOOK, "Makefile", NET]
    apply_update(plan, newer, student)
    after = contents(student)
    assert {name: after[name] for name in (BOOK, NET, "Makefile", "notes.md", "runs/task1/history.json")} == \
        {name: before[name] for name in (BOOK, NET, "Makefile", "notes.md", "runs/task1/history.json")}
    assert after["utils/metric.py"] == after["README.md"] == after["utils/more.py"] == "new"
    assert "utils/gone.py" not in after and not plan_update(newer, student).replaced
    assert set(undo_update(student)) == {*plan.new, *plan.replaced, *plan.gone}
    assert contents(student) == before and not (student / BACKUP).exists()
    with pytest.raises(LabError, match="expected an update to undo"):
        undo_update(student)


def test_an_update_that_is_cut_off_can_be_undone(student, tmp_path, monkeypatch):
    newer, before = kit(tmp_path / "kit", NEW, "2"), contents(student)
    plan = plan_update(newer, student)
    (newer / "utils/metric.py").unlink()  # reading it fails in the middle
    with pytest.raises((LabError, OSError)):
        apply_update(plan, newer, student)
    assert contents(student) != before
    undo_update(student)
    assert contents(student) == before


def test_a_file_that_a_student_made_under_a_new_name_of_the_kit_is_kept(student, tmp_path):
    write(student, {"utils/more.py": "mine"})
    plan = plan_update(kit(tmp_path / "kit", NEW, "2"), student)
    assert not plan.new and "utils/more.py" in plan.kept


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_archives_of_every_kind_are_opened(kind, tmp_path):
    folder, archive = kit(tmp_path / "DL_Lab5", NEW, "2"), tmp_path / f"kit.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as file:
            for name in contents(folder):
                file.write(folder / name, f"DL_Lab5/{name}")
    else:
        with tarfile.open(archive, "w:gz" if kind == "tar.gz" else "w") as file:
            file.add(folder, "DL_Lab5")
    with opened_kit(archive) as unpacked:
        assert contents(unpacked) == contents(folder)


def test_what_is_no_kit_ends_in_one_line(student, tmp_path):
    (tmp_path / "kit.tar").write_bytes(b"no archive")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as file:
        file.writestr("readme.txt", "hello")
    for name, words in (("kit.tar", "expected a kit"), ("none.tar", "expected a kit"), ("other.zip", "found 0")):
        with pytest.raises(LabError, match=words) as error, opened_kit(tmp_path / name):
            pass
        assert "\n" not in str(error.value)
    (student / MANIFEST).unlink()
    with pytest.raises(LabError, match="expected the folder of a kit"):
        plan_update(kit(tmp_path / "kit", NEW, "2"), student)
