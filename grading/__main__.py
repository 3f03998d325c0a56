"""The TA's commands; `python -m grading COMMAND --help` tells each one's options."""
import argparse
import signal
import sys
from pathlib import Path

from utils.terminal import run_main


def main() -> int | None:
    from grading import grade, replay, verify
    from grading.report import build as report

    parser = argparse.ArgumentParser(prog="python -m grading", description="What a TA does with this lab.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_release(commands)
    add_doctor(commands)
    grade.add_command(commands)
    report.add_arguments(commands)
    replay.add_command(commands)
    verify.add_command(commands)
    add_serve(commands)
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
                        help="add the train and val images of this data set, with the labels the lab reads")
    parser.add_argument("--no-trial", dest="trial", action="store_false",
                        help="do not run the students' tests in the unpacked kit")
    parser.add_argument("--course", type=Path, metavar="FILE",
                        help="the course's points and deadline, for the kit's pages (default: grading/course.toml)")
    parser.set_defaults(run=run_release)


def run_release(args: argparse.Namespace) -> None:
    from grading.course import read_course
    from grading.kit.release import release, summary
    from utils.lab import ROOT

    print(summary(release(ROOT, args.out, args.data, args.trial, read_course(args.course))))


def add_serve(commands: argparse._SubParsersAction) -> None:
    from grading.settings import DEVICES

    parser = commands.add_parser("serve", help="keep a live board while the lab runs",
                                 description="Takes hand-ins by HTTP, scores them in the sandbox, and shows where "
                                             "everybody stands. See docs/board.md.")
    parser.add_argument("board", type=Path, metavar="BOARD", help="the board's folder, made on first use")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="the data set to score on")
    parser.add_argument("--roster", type=Path, metavar="CSV", help="the class; those who are new get a link")
    parser.add_argument("--public-split", default="val", metavar="WHAT",
                        help="what is scored on: val, or a share such as 30%% of a reserved set, chosen by a secret")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--host", default="127.0.0.1", help="where to listen; 0.0.0.0 for all (default: 127.0.0.1)")
    parser.add_argument("--address", metavar="URL",
                        help="what students type, such as https://board.example.org (default: http://127.0.0.1:PORT)")
    parser.add_argument("--jobs", type=int, metavar="N", help="trials at a time (default: one for each core, or GPU)")
    parser.add_argument("--device", choices=DEVICES, default="auto", help="where the networks run")
    parser.add_argument("--course", type=Path, metavar="FILE", help="the course's numbers (default: course.toml)")
    parser.add_argument("--wall", type=float, metavar="SECONDS", help="time for each network")
    parser.add_argument("--memory", type=float, metavar="GB", help="memory for each network (default: 4)")
    parser.add_argument("--insecure", action="store_true", help="where no sandbox works: run hand-ins without")
    parser.set_defaults(run=run_serve, trial="")


def run_serve(args: argparse.Namespace) -> int:
    from grading.board.serve import serve

    return serve(args)


def add_doctor(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("doctor", help="say which sandbox this machine gives, and prove it",
                                 description="Attacks the sandboxes of this machine with small programs and says which "
                                             "one grading will use. Status 2 where there is none, or a proof fails.")
    parser.set_defaults(run=run_doctor)


def run_doctor(_args: argparse.Namespace) -> None:
    from grading.trial.sandbox.doctor import doctor
    from utils.lab import LabError

    if not doctor():
        raise LabError("expected every proof of the sandbox that grading uses to hold, found one that fails (FAIL in "
                       "the table above): do not grade hand-ins that you do not trust on this machine")


if __name__ == "__main__":
    run_main(main)
