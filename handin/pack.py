"""Makes the hand-in: the seven files under their right names, as a folder and as a zip."""
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from handin.check import examine
from handin.findings import Finding
from handin.names import Handin, read_folder
from utils.files import replacing
from utils.lab import LabError


def pack(handin: Handin, out: Path, data: Path | None, seconds: float, show: Callable[[Finding], None],
         anyway: bool = False) -> tuple[Path, Path]:
    """Copies the parts of `handin` into `out`/Lab05_ID/ and Lab05_ID.zip and returns both paths.

    The copies are examined under their new names first; each finding is passed to `show`. Raises LabError, and changes
    nothing, for a FAIL (unless `anyway`), no parts at all, a folder of that name with other files in it, and a place
    that cannot be written.
    """
    name = f"Lab05_{handin.student_id}"
    folder, archive = out / name, out / f"{name}.zip"
    if not handin.files:
        raise LabError(f"expected files to pack, found none in {handin.where}: run this in the kit's folder")
    _check_target(folder)
    staged = None
    try:
        out.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=".part", dir=out))
        inner = staged / name
        inner.mkdir()
        for part, path in handin.files.items():
            shutil.copyfile(path, inner / part.name(handin.student_id))
        _examine(inner, handin.student_id, data, seconds, show, anyway)
        with replacing(archive) as temporary:
            with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as file:
                for path in sorted(inner.iterdir()):
                    file.write(path, path.name)
            _swap(inner, folder, staged / "before")
    except OSError as error:
        raise LabError(f"expected to write {folder}, found: {error.strerror}; what was there before is untouched: free "
                       "some space, or choose another place with --out") from None
    finally:
        if staged is not None:
            shutil.rmtree(staged, ignore_errors=True)
    return folder, archive


def _check_target(folder: Path) -> None:
    """Raises LabError unless `folder` is free, or holds an earlier hand-in alone, which may be replaced."""
    if not folder.exists():
        return
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else [folder.name]
    known = {path.name for path in read_folder(folder).files.values()} if folder.is_dir() and names else set()
    other = [name for name in names if name not in known]
    if other:
        raise LabError(f"expected a free place for the hand-in, found {other[0]} in {folder}, which would be "
                       "lost: move it away, or choose another place with --out")


def _examine(folder: Path, student_id: str, data: Path | None, seconds: float, show: Callable[[Finding], None],
             anyway: bool) -> None:
    failed = []
    for finding in examine(read_folder(folder, student_id), data, seconds):
        finding = Finding(finding.level, finding.subject, finding.text.replace(str(folder), folder.name))
        show(finding)
        failed += [finding] if finding.level == "FAIL" else []
    if failed and not anyway:
        subjects = ", ".join(dict.fromkeys(finding.subject for finding in failed))
        raise LabError(f"expected a hand-in without FAIL, found {len(failed)} ({subjects}): nothing was packed; "
                       "mend them, or pack what there is with --anyway")


def _swap(new: Path, folder: Path, before: Path) -> None:
    """Puts `new` in the place of `folder`; if that is interrupted between the two renames, the old one comes back."""
    moved = folder.exists()
    if moved:
        folder.rename(before)
    try:
        new.rename(folder)
    except BaseException:
        if moved and not folder.exists():
            before.rename(folder)
        raise
