"""The student's last step, before anything is uploaded.

    python -m handin check                    # what the working tree would hand in
    python -m handin check Lab05_31355555     # a finished hand-in: the folder, or its zip
    python -m handin pack --id 31355555       # checks, then makes the folder and the zip
"""
import argparse
import contextlib
import math
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from utils.lab import LabError
from utils.terminal import run_main


def main() -> None:
    # Imported here, so that Ctrl-C while torch loads ends in one line as well.
    from handin.check import examine, find_present_data
    from handin.collect import collect
    from handin.names import check_id

    args = _parse()
    sys.stdout.reconfigure(errors="backslashreplace")  # a file name that this terminal cannot show is no reason to stop
    data = None if args.no_score else find_present_data(args.data)
    seconds = 0.0 if args.no_score else math.inf if args.all else args.seconds
    student_id = check_id(args.id) if args.id else None
    counts = {"OK": 0, "WARN": 0, "FAIL": 0}

    def show(finding: object) -> None:
        counts[finding.level] += 1
        print(finding, flush=True)

    if args.command == "pack":
        from handin.pack import pack

        chosen = {subject: getattr(args, subject.replace(" ", "")) for subject in CHOICES}
        handin = collect(student_id, {subject: path for subject, path in chosen.items() if path is not None})
        folder, archive = pack(handin, args.out, data, seconds, show, args.anyway)
        print(f"packed {len(handin.files)} files: {folder} and {archive}")
        return
    with _open(args.handin, student_id) if args.handin else contextlib.nullcontext(collect(student_id)) as handin:
        for finding in examine(handin, data, seconds):
            show(finding)
    print(f"{counts['OK']} OK, {counts['WARN']} WARN, {counts['FAIL']} FAIL")
    if counts["FAIL"]:
        raise LabError(f"expected a hand-in without FAIL, found {counts['FAIL']}: do what their lines say, "
                       "then check again")


# Parts that pack may be told to take from elsewhere than their usual place.
CHOICES = ("notebook 1", "notebook 2", "weights 1", "weights 2", "report")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m handin", description="Checks and packs a hand-in.")
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="check the working tree, or a finished hand-in")
    check.add_argument("handin", nargs="?", type=Path, metavar="FOLDER_OR_ZIP",
                       help="a finished hand-in (default: what lies in the working tree)")
    pack = commands.add_parser("pack", help="check the working tree, then make the seven files")
    pack.add_argument("--out", type=Path, default=Path(), metavar="FOLDER", help="where to (default: here)")
    pack.add_argument("--anyway", action="store_true", help="pack in spite of FAILs, and with parts missing")
    for subject in CHOICES:
        pack.add_argument(f"--{subject.replace(' ', '')}", type=Path, metavar="FILE",
                          help=f"the file to take as {subject}")
    for command in (check, pack):
        command.add_argument("--id", required=command is pack, help="your student number, e.g. 31355555")
        command.add_argument("--data", type=Path, metavar="FOLDER",
                             help="data to score on (default: ./data, or the drawn sample, where they are)")
        command.add_argument("--seconds", type=float, default=15.0,
                             help="time to score each network for (default: 15); pictures that do not fit are left out")
        command.add_argument("--all", action="store_true", help="score every validation picture, however long it takes")
        command.add_argument("--no-score", action="store_true", help="measure no mIoU")
    return parser.parse_args()


@contextlib.contextmanager
def _open(path: Path, student_id: str | None) -> Iterator[object]:
    """The hand-in in a folder, or in a zip, which is unpacked for as long as it is looked at."""
    from handin.names import read_folder
    from handin.unpack import unpack

    if not path.is_file():
        yield read_folder(path, student_id)
        return
    with tempfile.TemporaryDirectory(prefix="handin-") as folder:
        unpacked = Path(folder, path.stem)
        unpacked.mkdir()
        unpack(path, unpacked)
        yield read_folder(unpacked, student_id)


if __name__ == "__main__":
    run_main(main)
