"""Runs a notebook from the command line: the same code as in Jupyter, with its output on this terminal.

    python -m training.headless Lab05_segmentation_task1.ipynb -p EPOCHS 200 -p DATA /path/to/cityscapes

`-p NAME VALUE` overrides a setting of the cell tagged `parameters` (papermill's convention); a name that is no setting
is refused. The notebook with its outputs is written to runs/, the notebook itself stays as it is.

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

from utils.lab import RUNS, LabError
from utils.terminal import run_main


def run_notebook(notebook: Path, settings: dict, output: Path | None = None) -> Path:
    """Executes `notebook` in its own folder with `settings` and returns the path of the executed copy.

    output: without it the copy goes to runs/, under the notebook's name, or its RUN's where that is not the notebook's.
    Prints what the cells print while they run. Raises LabError for a missing notebook, an unknown setting, a place that
    cannot be written, and whatever LabError a cell raises; any other exception of a cell is a SystemExit with the
    cell's traceback.
    """
    notebook = Path(notebook)
    if not notebook.is_file():
        raise LabError(f"expected a notebook, found none at {notebook}: check the path")
    known = papermill.inspect_notebook(notebook)
    unknown = [name for name in settings if name not in known]
    if unknown:
        raise LabError(f"expected settings of {notebook.name} ({', '.join(known)}), found {unknown[0]}: check -p")
    own = settings.get("RUN", default := literal(known["RUN"]["default"]) if "RUN" in known else None)
    output = output or RUNS / (notebook.name if own == default else f"{Path(str(own)).name}.ipynb")
    check_folder(output.parent, "choose another place for the executed copy with -o")
    if output.is_dir():
        raise LabError(f"expected a file for the executed copy, found a folder at {output}: add a name to -o")
    rank, world = (int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1)))
    if rank == 0:
        print(f"running {notebook.name}" + (f" in {world} processes" if world > 1 else ""), file=sys.stderr)
        _execute(notebook, output, settings, notebook.resolve().parent, sys.stdout, sys.stderr)
    else:
        with tempfile.TemporaryDirectory() as folder, Path(os.devnull).open("w", encoding="utf-8") as nowhere:
            source = Path(folder, notebook.name)
            _write_shared_part(notebook, source)
            _execute(source, Path(folder, "executed.ipynb"), settings, notebook.resolve().parent, nowhere, nowhere)
    return output


def check_folder(folder: Path, advice: str) -> None:
    """Raises LabError, which ends in `advice`, unless files can be written in `folder`; before anything long starts."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{os.getpid()}.part"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise LabError(f"expected a folder to write in, found: {error.strerror}, {folder}: {advice}") from None


def _execute(notebook: Path, output: Path, settings: dict, folder: Path, stdout: TextIO, stderr: TextIO) -> None:
    streams = {"stdout_file": _Shown(stdout), "stderr_file": _Shown(stderr)}
    whole = False
    try:
        papermill.execute_notebook(
            notebook.resolve(), output.resolve(), parameters=settings, cwd=folder,
            kernel_name="python3", progress_bar=False, **streams,
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
                       "memory: free some and go on with -p RESUME True, or start anew with a lower BATCH_SIZE or WIDTH"
                       ) from None
    finally:
        for stream in streams.values():
            stream.finish(whole)


def _write_shared_part(notebook: Path, path: Path) -> None:
    """Writes the notebook up to the cell tagged `results`: what all processes of torchrun have to run."""
    book = nbformat.read(notebook, as_version=4)
    tagged = [index for index, cell in enumerate(book.cells) if "results" in cell.metadata.get("tags", [])]
    book.cells = book.cells[:tagged[0]] if tagged else book.cells
    nbformat.write(book, path)


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
                        help="override a setting of the notebook's settings cell")
    parser.add_argument("-o", dest="output", type=Path, metavar="FILE",
                        help="executed copy (default: runs/<notebook>, or runs/<RUN>.ipynb for another RUN)")
    args = parser.parse_args()
    logging.getLogger("papermill").setLevel(logging.ERROR)
    # torchrun ends its processes so when one of them failed; the kernel must end with this one
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    output = run_notebook(args.notebook, {name: literal(text) for name, text in args.settings}, args.output)
    if int(os.environ.get("RANK", 0)) == 0:
        print(f"executed notebook: {output}", file=sys.stderr)


def literal(text: str) -> object:
    """A Python literal where `text` is one (200, 1e-3, True, None), otherwise the text itself (a path)."""
    try:
        return _listed(ast.literal_eval(text))
    except (ValueError, SyntaxError):
        return text


def _listed(value: object) -> object:
    """Lists in place of tuples, of which papermill would make text."""
    return [_listed(part) for part in value] if isinstance(value, (tuple, list)) else value


if __name__ == "__main__":
    run_main(main)
