"""The TA's commands; `python -m grading COMMAND --help` tells each one's options."""
import argparse
import signal
import sys
from pathlib import Path

from utils.terminal import run_main


def main() -> int | None:
    parser = argparse.ArgumentParser(prog="python -m grading", description="What a TA does with this lab.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_release(commands)
    args = parser.parse_args()
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
    from grading.release import release, report
    from utils.lab import ROOT

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that it cleans up after itself, as after Ctrl-C
    print(report(release(ROOT, args.out, args.data, args.trial)))


if __name__ == "__main__":
    run_main(main)
