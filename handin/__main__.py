"""The student's last step, before anything is uploaded.

    python -m handin check                    # what the working tree would hand in
    python -m handin check Lab05_31355555     # a finished hand-in: the folder, or its zip
    python -m handin pack --id 31355555       # checks, then makes the folder and the zip
    python -m handin submit                   # hands the zip in, where the course has a board
    python -m handin update DL_Lab5.tar       # what a newer kit would change here; with --apply it does, --undo undoes
"""
import argparse
import contextlib
import math
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from utils.lab import ROOT, STUDENT_NUMBER_FORM, LabError
from utils.terminal import run_main


def main() -> None:
    # Imported here, so that Ctrl-C while torch loads ends in one line as well.
    from handin.check import examine, find_present_data
    from handin.collect import collect
    from handin.names import check_id

    args = _parse()
    if args.command == "submit":
        from handin.submit import submit

        submit(args.archive, args.link, args.replace, args.wait)
        return
    if args.command == "update":
        update(args.kit, args.apply, args.undo)
        return
    sys.stdout.reconfigure(errors="backslashreplace")  # a file name that this terminal cannot show is no reason to stop
    data = None if args.no_score else find_present_data(args.data)
    seconds = 0.0 if args.no_score else math.inf if args.all else args.seconds
    student_id = check_id(args.id) if args.id else None
    chosen = {subject: path for subject in CHOICES if (path := getattr(args, subject.replace(" ", ""))) is not None}
    counts = {"OK": 0, "WARN": 0, "FAIL": 0}

    def show(finding: object) -> None:
        counts[finding.level] += 1
        print(finding, flush=True)

    if args.command == "pack":
        from handin.pack import pack

        handin = collect(student_id, chosen)
        folder, archive = pack(handin, args.out, data, seconds, show, args.anyway)
        print(f"packed {len(handin.files)} files: {folder} and {archive}")
        return
    with _open(args.handin, student_id, chosen) as handin:
        for finding in examine(handin, data, seconds):
            show(finding)
    print(f"{counts['OK']} OK, {counts['WARN']} WARN, {counts['FAIL']} FAIL")
    if counts["FAIL"]:
        raise LabError(f"expected a hand-in without FAIL, found {counts['FAIL']}: do what their lines say, "
                       "then check again")


def update(kit: Path | None, apply: bool, undo: bool) -> None:
    """Shows what a newer kit changes in this folder, changes it, or takes the last change back."""
    from handin.update import apply_update, opened_kit, plan_update, undo_update

    if undo or kit is None:
        names = undo_update(ROOT) if undo else []
        if not names:
            raise LabError("expected a newer kit's archive, found none: python -m handin update DL_Lab5.tar")
        print(f"as before the last update: {len(names)} files")
        return
    with opened_kit(kit) as folder:
        plan = plan_update(folder, ROOT)
        for title, names in (("new", plan.new), ("replaced", plan.replaced), ("removed", plan.gone),
                             ("kept, yours differs from the kit", plan.kept)):
            print(*(f"{title}: {name}" for name in names), sep="\n", end="\n" * bool(names))
        count = len(plan.new) + len(plan.replaced) + len(plan.gone)
        if apply and count:
            apply_update(plan, folder, ROOT)
            print(f"updated to {plan.version}: {count} files changed, {len(plan.kept)} kept. --undo takes it back")
        else:
            print(f"{plan.version} would change {count} files and keep {len(plan.kept)} of yours"
                  + (": call it with --apply" if count else ": nothing to do"))


# Files that may be taken from another place than their usual one.
CHOICES = ("notebook 1", "notebook 2", "network 1", "network 2", "weights 1", "weights 2", "report")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m handin", description="Checks and packs a hand-in.")
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="check the working tree, or a finished hand-in")
    check.add_argument("handin", nargs="?", type=Path, metavar="FOLDER_OR_ZIP",
                       help="a finished hand-in (default: the files in the working tree)")
    pack = commands.add_parser("pack", help="check the working tree, then make the seven files")
    pack.add_argument("--out", type=Path, default=Path(), metavar="FOLDER", help="where to (default: here)")
    pack.add_argument("--anyway", action="store_true", help="pack in spite of FAILs, and with parts missing")
    submit = commands.add_parser("submit", help="hand the zip in to the course's board")
    submit.add_argument("archive", nargs="?", type=Path, metavar="ZIP", help="(default: the newest Lab05_*.zip here)")
    submit.add_argument("--link", help="your link from the mail, kept for the next time (default: asked for once)")
    submit.add_argument("--replace", action="store_true", help="in place of what you have waiting")
    submit.add_argument("--wait", action="store_true", help="wait for the result")
    renew = commands.add_parser("update", help="bring a newer kit's files into this folder; yours are never touched")
    renew.add_argument("kit", nargs="?", type=Path, metavar="KIT", help="the newer kit's archive")
    renew.add_argument("--apply", action="store_true", help="do it; without it, only list what would change")
    renew.add_argument("--undo", action="store_true", help="take the last update back")
    for command in (check, pack):
        for subject in CHOICES:
            command.add_argument(f"--{subject.replace(' ', '')}", type=Path, metavar="FILE",
                                 help=f"the file to take as {subject}")
        command.add_argument("--id", required=command is pack, help=f"your student number, {STUDENT_NUMBER_FORM}")
        command.add_argument("--data", type=Path, metavar="FOLDER",
                             help="data to score on (default: ./data, or the drawn sample, where they are)")
        command.add_argument("--seconds", type=float, default=15.0,
                             help="time to score each network for (default: 15); images that do not fit are left out")
        command.add_argument("--all", action="store_true", help="score every validation image, however long it takes")
        command.add_argument("--no-score", action="store_true", help="measure no mIoU")
    return parser.parse_args()


@contextlib.contextmanager
def _open(path: Path | None, student_id: str | None, chosen: dict[str, Path]) -> Iterator[object]:
    """The hand-in in the working tree, in a folder, or in a zip, which is unpacked for the time of the check."""
    from handin.collect import choose, collect
    from handin.names import read_folder
    from handin.unpack import unpack

    if path is None:
        yield collect(student_id, chosen)
        return
    with tempfile.TemporaryDirectory(prefix="handin-") as scratch:
        folder = path
        if path.is_file():
            folder = Path(scratch, path.stem)
            folder.mkdir()
            unpack(path, folder)
        handin = read_folder(folder, student_id)
        choose(handin, chosen)
        yield handin


if __name__ == "__main__":
    run_main(main)
