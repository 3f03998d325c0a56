"""Brings a newer kit's files into a student's folder. What a student wrote or changed is never touched.

Each file of the kit falls into one of these: the student's own (the network files and the notebooks), changed by the
student (it differs from the checksum of the kit that it came with), or the kit's, which is replaced. Before the first
file changes, the old ones lie in .lab-update/, from where `undo` takes them back.
"""
import json
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from handin.fixed import MANIFEST, checksum, read_manifest
from utils.files import replacing, write_json
from utils.lab import ROOT, TASKS, LabError

BACKUP = ".lab-update"
LIST = "update.json"  # in BACKUP: what was done
OWN = {name for task in TASKS.values() for name in (task.notebook, task.network_file.relative_to(ROOT).as_posix())}


class UpdatePlan(NamedTuple):
    """What an update does, as names of files: `new` and `replaced` come from the kit, `gone` are no longer in it.

    `kept` are the student's own, or changed by the student, where the newer kit has another version. Nothing that is
    only the student's is in any of them.
    """

    version: str
    new: list[str]
    replaced: list[str]
    gone: list[str]
    kept: list[str]


def plan_update(kit: Path, root: Path) -> UpdatePlan:
    """What bringing the unpacked `kit` into the student's folder `root` would do."""
    older, newer = read_manifest(root), read_manifest(kit)
    names = sorted(path.relative_to(kit).as_posix() for path in kit.rglob("*") if path.is_file())
    new, replaced, kept = [], [], []
    for name in names:
        here = root / name
        if not here.exists():
            if name not in OWN:
                new.append(name)
        elif checksum(here) != checksum(kit / name):
            untouched = name == MANIFEST.as_posix() or checksum(here) == older["checksums"].get(name)
            (replaced if untouched and name not in OWN else kept).append(name)
    gone = [name for name, known in older["checksums"].items() if name not in names and name not in OWN
            and (root / name).is_file() and checksum(root / name) == known]
    return UpdatePlan(newer["version"], new, replaced, gone, kept)


def apply_update(plan: UpdatePlan, kit: Path, root: Path) -> None:
    """Does what the plan says. The old files and the list of changes are in BACKUP first, whatever happens then."""
    backup = root / BACKUP
    with tempfile.TemporaryDirectory(prefix=f"{BACKUP}.", dir=root) as folder:
        for name in plan.replaced + plan.gone:
            copy = Path(folder, "files", name)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, copy)
        write_json(Path(folder, LIST), {"new": plan.new, "old": plan.replaced + plan.gone})
        if backup.exists():
            shutil.rmtree(backup)
        Path(folder).rename(backup)
        Path(folder).mkdir()  # for TemporaryDirectory to remove
    for name in sorted(plan.new + plan.replaced, key=lambda name: name == MANIFEST.as_posix()):  # the manifest last
        _copy(kit / name, root / name)
    for name in plan.gone:
        (root / name).unlink()


def undo_update(root: Path) -> list[str]:
    """Takes the last update back; the names of the files that changed. Raises LabError where there is none."""
    backup = root / BACKUP
    try:
        done = json.loads((backup / LIST).read_text(encoding="utf-8"))
        new, old = list(done["new"]), list(done["old"])
    except (OSError, ValueError, KeyError, TypeError):
        raise LabError(f"expected an update to undo, found none in {backup}: nothing was changed") from None
    for name in old:
        _copy(backup / "files" / name, root / name)
    for name in new:
        (root / name).unlink(missing_ok=True)
    shutil.rmtree(backup)
    return sorted(new + old)


@contextmanager
def opened_kit(archive: Path) -> Iterator[Path]:
    """The folder of an unpacked kit, for a time. Raises LabError for a file that is no kit."""
    with tempfile.TemporaryDirectory(prefix="lab-kit-") as scratch:
        try:
            if zipfile.is_zipfile(archive):
                with zipfile.ZipFile(archive) as file:
                    file.extractall(scratch)
            else:
                with tarfile.open(archive) as file:
                    file.extractall(scratch, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
        except (OSError, tarfile.TarError, zipfile.BadZipFile) as error:
            reason = getattr(error, "strerror", None) or next(iter(str(error).splitlines()), "another file")
            raise LabError(f"expected a kit (.tar, .tar.gz, .zip), found {reason} at {archive}: download it "
                           "again") from None
        found = list(Path(scratch).glob(f"*/{MANIFEST.as_posix()}"))
        if len(found) != 1:
            raise LabError(f"expected one kit with {MANIFEST.as_posix()} in {archive}, found {len(found)}: take the "
                           "archive that your course handed out")
        yield found[0].parents[1]


def _copy(source: Path, target: Path) -> None:
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)
