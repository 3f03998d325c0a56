"""Finds the seven files where they lie in the working tree, before they have their names."""
from pathlib import Path

from handin.names import PARTS, Handin, Part
from handin.notebooks import check_notebook, code_cells, read_notebook
from utils.files import full_path
from utils.lab import ROOT, RUNS, TASKS, LabError


def collect(student_id: str | None = None, chosen: dict[str, Path] | None = None, root: Path = ROOT) -> Handin:
    """The parts in the working tree `root`; `chosen` gives files by the part's subject ("notebook 1", "report").

    A notebook is taken from its place if it was run there, else from runs/, where training.headless leaves the executed
    copy. The report is report_ID.pdf, report.pdf or the only PDF. Raises LabError for a chosen file that does not exist
    and for several reports.
    """
    handin = Handin(root, student_id=student_id)
    chosen = chosen or {}
    for part in PARTS:
        path = None if part.subject in chosen else _find(part, student_id, root)
        if path is not None:
            handin.files[part] = path
    choose(handin, chosen)
    return handin


def choose(handin: Handin, chosen: dict[str, Path]) -> None:
    """Puts the chosen files, by their parts' subjects, in the places of those that were found."""
    for part in PARTS:
        path = chosen.get(part.subject)
        if path is not None and not path.is_file():
            raise LabError(f"expected {part.subject}, found no file at {full_path(path)}: check the path")
        if path is not None:
            handin.files[part] = path


def _find(part: Part, student_id: str | None, root: Path) -> Path | None:
    if part.kind == "report":
        return _find_report(part, student_id, root)
    task = TASKS[part.task]
    if part.kind == "notebook":
        return _find_notebook(root / task.notebook, (RUNS if root == ROOT else root / "runs") / task.notebook)
    path = root / (task.network_file.relative_to(ROOT) if part.kind == "network" else task.model_file)
    return path if path.is_file() else None


def _find_report(part: Part, student_id: str | None, root: Path) -> Path | None:
    for name in (part.name(student_id), "report.pdf"):
        if (root / name).is_file():
            return root / name
    found = sorted(path for path in root.iterdir() if path.suffix.lower() == ".pdf")
    if len(found) > 1:
        raise LabError(f"expected one report, found {' and '.join(path.name for path in found)} in {root}: "
                       "say which with --report FILE")
    return found[0] if found else None


def _find_notebook(stored: Path, executed: Path) -> Path | None:
    """The stored notebook, or its executed copy in runs/ if only that was run and both have the same code."""
    if not stored.is_file():
        return executed if executed.is_file() else None
    if not executed.is_file() or _was_run(stored) or not _was_run(executed):
        return stored
    return executed if _code(stored) == _code(executed) else stored


def _was_run(path: Path) -> bool:
    try:
        check_notebook(path)
    except LabError as error:
        return type(error) is not LabError  # a doubt about the counts is no reason to look elsewhere
    return True


def _code(path: Path) -> list[str]:
    """The code cells, without the settings that a run from the command line puts in."""
    try:
        return [cell.source for _, cell in code_cells(read_notebook(path))
                if "injected-parameters" not in cell.metadata.get("tags", [])]
    except LabError:
        return []
