"""The report's figures and its skeleton, made of what was really run: python -m figures.report."""
import argparse
import sys
from pathlib import Path

from figures.report.build import make_report
from utils.lab import DEFAULT_DATA, TASKS
from utils.machine import pick_device
from utils.terminal import run_main


def main() -> None:
    args = _parse()
    notes = make_report(
        args.out, pick_device(args.device), args.data, args.folder, args.runs,
        weights={number: getattr(args, f"task{number}") for number in TASKS},
        network_files={number: file for number in TASKS if (file := getattr(args, f"network{number}"))})
    for note in notes:
        print(f"left out: {note}", file=sys.stderr)
    print(args.out / "report.md")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m figures.report", description="Writes the report's figures (PNG and SVG) and its skeleton, "
        "report.md, made of the runs and the trained networks.")
    parser.add_argument("--data", default=None, metavar="DIR",
                        help=f"data set in the lab's 8 categories (default: {DEFAULT_DATA}, or the drawn sample)")
    parser.add_argument("--runs", nargs="+", metavar="NAME", help="runs to show (default: all but the .previous ones)")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where the runs lie (default: runs/)")
    for number, task in TASKS.items():
        parser.add_argument(f"--task{number}", type=Path, metavar="FILE",
                            help=f"weights of task {number} (default: {task.model_file}, if it is there)")
        parser.add_argument(f"--network{number}", type=Path, metavar="FILE",
                            help=f"network file of task {number} (default: this lab's)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, ... (default: a GPU where there is one)")
    parser.add_argument("--out", type=Path, default=Path("report"), metavar="DIR",
                        help="folder to write; an older one of this command's is replaced, your own files in it are "
                        "kept (default: report/)")
    return parser.parse_args()


if __name__ == "__main__":
    run_main(main)
