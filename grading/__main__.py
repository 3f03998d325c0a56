"""The TA's commands; `python -m grading COMMAND --help` tells each one's options."""
import argparse
import signal
import sys
from pathlib import Path

from utils.terminal import run_main


def main() -> int | None:
    from grading import grade, report

    parser = argparse.ArgumentParser(prog="python -m grading", description="What a TA does with this lab.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_release(commands)
    add_doctor(commands)
    grade.add_arguments(commands)
    report.add_arguments(commands)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that it cleans up after itself, as after Ctrl-C
    return args.run(args)


def add_release(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("release", help="make the starter kit",
                                 description="Makes the starter kit out of this repository: its solutions become "
                                             "stubs, and it is searched for what must not be in it.")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE",
                        help="the archive to write: NAME.tar, NAME.tar.gz, NAME.tgz or NAME.zip")
    parser.add_argument("--with-data", dest="data", type=Path, metavar="FOLDER",
                        help="add the train and val pictures of this data set, with the labels the lab reads")
    parser.add_argument("--no-trial", dest="trial", action="store_false",
                        help="do not run the students' tests in the unpacked kit")
    parser.set_defaults(run=run_release)


def run_release(args: argparse.Namespace) -> None:
    from grading.kit.release import release, report
    from utils.lab import ROOT

    print(report(release(ROOT, args.out, args.data, args.trial)))


def add_doctor(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("doctor", help="say which sandbox this machine gives, and prove it",
                                 description="Attacks the sandboxes of this machine with small programs and says which "
                                             "one grading will use. Status 2 where there is none, or a proof fails.")
    parser.set_defaults(run=run_doctor)


def run_doctor(_args: argparse.Namespace) -> None:
    from grading.sandbox.doctor import doctor
    from utils.lab import LabError

    if not doctor():
        raise LabError("expected every proof of the sandbox that grading uses to hold, found one that fails (FAIL in "
                       "the table above): do not grade hand-ins that you do not trust on this machine")


if __name__ == "__main__":
    run_main(main)
