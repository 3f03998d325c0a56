"""Runs a notebook from the command line: the same code as in Jupyter, with its output on this terminal.

    python -m training.headless Lab05_segmentation_task1.ipynb -p EPOCHS 200 -p DATA /path/to/cityscapes

`-p NAME VALUE` changes a setting of the cell tagged `parameters`, or an entry of the notebook's dict `recipe`; other
names are refused. The notebook with its outputs is written to runs/; the notebook itself stays as it is. An older copy
there is replaced when the run has finished its first epoch, not before.

    torchrun --standalone --nproc-per-node=4 -m training.headless Lab05_segmentation_task1.ipynb -p EPOCHS 200

runs it in four processes that train one network together (training.distributed). The first of them prints and writes;
the others end before the cell tagged `results`, from which on there is nothing left to share.
"""
import argparse
import ast
import logging
import os
import re
import signal
import sys
import tempfile
from pathlib import Path
from typing import TextIO

import nbformat
import papermill
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from training.names import run_name
from utils.files import full_path
from utils.lab import RUNS, LabError
from utils.terminal import run_main


def run_notebook(notebook: Path, given: dict, output: Path | None = None) -> Path:
    """Executes `notebook` in its own folder with the settings `given` and returns the path of the executed copy.

    output: without it the copy goes to runs/, under the notebook's name, or its RUN's where that is not the notebook's.
    Prints what the cells print while they run. Raises LabError for a missing notebook, an unknown setting, a place that
    cannot be written, and whatever LabError a cell raises; any other exception of a cell is a SystemExit with the
    cell's traceback. A failed run leaves an older copy as it was, unless it has finished an epoch.
    """
    notebook = Path(notebook)
    book, settings = read_notebook(notebook), notebook_settings(notebook)
    unknown = [name for name in given if name not in settings]
    if unknown:
        raise LabError(f"expected settings of {notebook.name} ({', '.join(settings)}), found {unknown[0]}: check -p")
    asked = {**settings, **given}
    run = run_name(asked["RUN"], asked.get("NETWORK")) if "RUN" in asked else None
    own = run is None or run == str(settings["RUN"])
    output = output or RUNS / (notebook.name if own else f"{Path(run).name}.ipynb")
    check_folder(output.parent, "choose another place for the executed copy with -o")
    if output.is_dir():
        raise LabError(f"expected a file for the executed copy, found a folder at {output}: add a name to -o")
    rank, world = (int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1)))
    set_values(book, given)
    if rank:
        book.cells = book.cells[:_tagged(book, "results")]
        with tempfile.TemporaryDirectory() as folder, Path(os.devnull).open("w", encoding="utf-8") as nowhere:
            _execute(book, notebook, Path(folder, "executed.ipynb"), nowhere, nowhere)
        return output
    print(f"running {notebook.name}" + (f" in {world} processes" if world > 1 else ""), file=sys.stderr)
    history = RUNS / run / "history.json" if run else output.with_name("none")
    before = _state(history)
    working = output.with_name(f".{output.stem}.part.ipynb")  # always the same: the next run replaces what a kill left
    try:
        _execute(book, notebook, working, sys.stdout, sys.stderr)
        working.replace(output)
    finally:
        if working.is_file() and _state(history) != before:
            working.replace(output)
        working.unlink(missing_ok=True)
    return output


def read_notebook(notebook: Path) -> nbformat.NotebookNode:
    """The notebook in a file. Raises LabError if there is none, or something else."""
    try:
        return nbformat.read(notebook, as_version=4)
    except FileNotFoundError:
        raise LabError(f"expected a notebook, found none at {full_path(notebook)}: check the path") from None
    except Exception as error:  # each version of nbformat has others
        reason = str(error).strip().split("\n")[0][:200]
        raise LabError(f"expected a notebook, found {reason} in {notebook}: save it again in Jupyter") from None


def notebook_settings(notebook: Path) -> dict:
    """The settings of a notebook by name, those of the settings cell first, then the entries of `recipe`.

    Values are those of Python literals, the source of anything else. Raises LabError as read_notebook does.
    """
    return {name: value for found in _assignments(read_notebook(notebook)).values() for name, value in found.items()}


def set_values(book: nbformat.NotebookNode, given: dict) -> None:
    """Puts the settings `given` into `book`: a cell behind the settings cell, another behind the recipe's."""
    found = _assignments(book)
    for index in sorted(found, reverse=True):
        changed = {name: value for name, value in given.items() if name in found[index]}
        lines = [f"{name} = {value!r}" for name, value in changed.items()]
        if "parameters" not in book.cells[index].metadata.get("tags", []):
            lines = [f"recipe |= {changed!r}"]
        if changed:
            book.cells.insert(index + 1, nbformat.v4.new_code_cell(
                "\n".join(lines), metadata={"tags": ["injected-parameters"]}))


def check_folder(folder: Path, advice: str) -> None:
    """Raises LabError, which ends in `advice`, unless files can be written in `folder`; before anything long starts."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{os.getpid()}.part"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise LabError(f"expected a folder to write in, found: {error.strerror}, {folder}: {advice}") from None


def literal(text: str) -> object:
    """A Python literal where `text` is one (200, 1e-3, True, None), otherwise the text itself (a path)."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _assignments(book: nbformat.NotebookNode) -> dict[int, dict]:
    """By the index of their cells: the names that the settings cell sets, and the entries of the dict `recipe`."""
    found = {}
    for index, cell in enumerate(book.cells):
        is_settings = "parameters" in cell.metadata.get("tags", [])
        if cell.cell_type != "code" or not (is_settings or re.search(r"^recipe = ", cell.source, re.MULTILINE)):
            continue
        values = {}
        for node in ast.parse(cell.source).body:
            name = getattr(node.targets[0], "id", "") if isinstance(node, ast.Assign) else ""
            if name == "recipe" and isinstance(node.value, ast.Call):
                values |= {entry.arg: entry.value for entry in node.value.keywords}
            elif name == "recipe" and isinstance(node.value, ast.Dict):
                values |= {key.value: value for key, value in zip(node.value.keys, node.value.values, strict=True)}
            elif name and is_settings:
                values[name] = node.value
        found[index] = {name: literal(ast.unparse(value)) for name, value in values.items()}
    return found


def _tagged(book: nbformat.NotebookNode, tag: str) -> int | None:
    """The index of the first cell with that tag."""
    return next((index for index, cell in enumerate(book.cells) if tag in cell.metadata.get("tags", [])), None)


def _state(path: Path) -> tuple[int, int] | None:
    """What changes when the file is written again."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _execute(book: nbformat.NotebookNode, notebook: Path, output: Path, stdout: TextIO, stderr: TextIO) -> None:
    """Executes `book`, the content of `notebook` with its settings, and writes it to `output` after every cell."""
    streams = {"stdout_file": _Shown(stdout), "stderr_file": _Shown(stderr)}
    whole = False
    try:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "notebook.ipynb")
            nbformat.write(book, source)
            papermill.execute_notebook(
                source, str(output.resolve()).replace("{", "{{").replace("}", "}}"),  # papermill formats the path
                cwd=notebook.resolve().parent, kernel_name="python3", progress_bar=False, **streams,
                # "graceful" would interrupt the running cell first, and print its traceback, when Ctrl-C stops us
                shutdown_kernel="immediate",
                coalesce_streams=True,  # keep of a progress bar what it showed last
                extra_arguments=["--log-level=ERROR"])
        whole = True
    except PapermillExecutionError as error:
        if error.ename == "LabError" or "still to be written" in error.evalue:  # a stub of the hand-out says so
            raise LabError(error.evalue) from None
        colors = re.compile(r"\x1b\[[0-9;]*m")
        raise SystemExit(f"{notebook.name} stopped in cell [{error.exec_count}]:\n"
                         + colors.sub("", "\n".join(error.traceback))) from None
    except DeadKernelError:
        raise LabError(f"expected {notebook.name} to run to its end, found its kernel killed, most often for want of "
                       "memory: free some and go on with -p RESUME True, or start from scratch with a lower BATCH_SIZE "
                       "or WIDTH") from None
    except Exception as error:  # papermill's own: no kernel, a full disk, a notebook that it cannot write
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
        raise LabError(f"expected to run {notebook.name} and to write {output.parent}, found {reason}: check the disk "
                       "and the installation") from None
    finally:
        for stream in streams.values():
            stream.finish(whole)


class _Shown:
    """A stream that passes on what cells print; a progress bar only where there is a terminal to draw it on.

    In a file every step of a bar would stay: there, of each line, only what follows the last carriage return is kept.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.line, self.end = stream, "", "\n"

    def write(self, text: str) -> None:
        if self.stream.isatty():
            self.stream.write(text)
            self.end = text[-1:] or self.end
            return
        *lines, self.line = (self.line + text).split("\n")
        self.stream.writelines(self._settled(line) + "\n" for line in lines)

    def finish(self, whole: bool) -> None:
        """Passes on a last line that no newline ended; ends it if the notebook stopped there, for the error's sake."""
        self.stream.write(self._settled(self.line))
        if not whole and (self.line or self.end != "\n"):
            self.stream.write("\n")
        self.line = ""

    @staticmethod
    def _settled(line: str) -> str:
        return line.rstrip("\r").rsplit("\r", 1)[-1]  # "!command" in a cell ends its lines with \r\n

    def flush(self) -> None:
        self.stream.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description="Runs a notebook of the lab from the command line.")
    parser.add_argument("notebook", type=Path)
    parser.add_argument("-p", dest="settings", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
                        help="change a setting of the notebook's settings cell or of its recipe")
    parser.add_argument("-o", dest="output", type=Path, metavar="FILE",
                        help="executed copy (default: runs/<notebook>, or runs/<RUN>.ipynb for another RUN)")
    args = parser.parse_args()
    logging.getLogger("papermill").setLevel(logging.ERROR)
    # torchrun ends its processes so when one of them failed; the kernel must end with this one
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    output = run_notebook(args.notebook, {name: literal(text) for name, text in args.settings}, args.output)
    if int(os.environ.get("RANK", 0)) == 0:
        print(f"executed notebook: {output}", file=sys.stderr)


if __name__ == "__main__":
    run_main(main)
