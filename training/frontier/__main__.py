"""python -m training.frontier plan | train | levers | blocks | show: see --help of each.

Tables go to stdout, progress to stderr. Runs lie in <folder>/<row>/seed-<k>/, with log.txt and the executed notebook;
`python -m training.runs --folder runs/frontier/safe` lists those of a row.
"""
import argparse
import sys
from pathlib import Path

from training.options import add_data, add_run_options, count
from utils.lab import RUNS
from utils.terminal import run_main


def main(arguments: list[str] | None = None) -> int:
    # The rest is imported here, so that Ctrl-C while torch loads ends in one line as well.
    options = _arguments(arguments)
    if options.command == "show":
        return _show(options.folder)
    from training.frontier.ladder import Ladder, plan

    ladder = Ladder()
    if options.command == "plan":
        print(plan(ladder, options.rungs))
        return 0
    from training import jobs as runs
    from training.frontier import rows

    given = runs.given_settings(options)
    recipe = rows.all_settings(given)
    if options.command == "train":
        chosen = rows.rung_rows(ladder, options.rungs)
    elif options.command == "blocks":
        chosen = rows.block_rows(ladder, options.rung)
    else:
        chosen, notes = rows.lever_rows(ladder, options.rung, recipe, options.levers)
        print(*notes, sep="\n", file=sys.stderr, end="\n" if notes else "")
    runs.check_folder(options.folder)
    jobs = rows.make_jobs(chosen, options.seeds, given, options.folder)
    return runs.carry_out(jobs, options.jobs, options.folder, lambda: _show(options.folder))


def _show(folder: Path) -> int:
    from training.frontier.results import show

    print(show(folder))
    print(f"written: table.md, frontier.png and frontier.svg in {folder}", file=sys.stderr)
    return 0


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training.frontier", description="Finds the smallest network of "
                                     "task 2's ladder that passes the gate.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    rung = "a name of rungs(), one with changes (lean,block=grouped), or 12/20/32,0/2/3,refine=1,context=0"

    place = argparse.ArgumentParser(add_help=False)
    place.add_argument("--folder", type=Path, default=RUNS / "frontier", metavar="DIR",
                       help="where the runs and the table lie (default: runs/frontier)")
    work = argparse.ArgumentParser(add_help=False, parents=[place])
    work.add_argument("--seeds", type=count, default=3, metavar="N", help="train with the seeds 1 to N (default: 3)")
    add_data(work, "folder with Cityscapes, KITTI or CamVid (default: the notebook's)")
    add_run_options(work)

    known = commands.add_parser("plan", help="what each rung costs, before any training")
    known.add_argument("rungs", nargs="*", metavar="RUNG", help=f"{rung} (default: all names)")
    known = commands.add_parser("train", parents=[work], help="train rungs with several seeds")
    known.add_argument("rungs", nargs="*", metavar="RUNG", help=f"{rung} (default: all names)")
    known = commands.add_parser("levers", parents=[work], help="one rung, each method of the recipe turned off")
    known.add_argument("rung", metavar="RUNG", help=rung)
    known.add_argument("--lever", dest="levers", action="append", default=[], metavar="NAME",
                       help="only this one (may be repeated)")
    known = commands.add_parser("blocks", parents=[work], help="one rung with each kind of block")
    known.add_argument("rung", metavar="RUNG", help=rung)
    commands.add_parser("show", parents=[place], help="the table and the figures of all finished runs")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_main(main)
