"""python -m training.frontier plan | train | levers | blocks | show: see --help of each.

Tables go to stdout, progress to stderr. Runs lie in <folder>/<row>/seed-<k>/, with log.txt and the executed notebook;
`python -m training.runs --folder runs/frontier/safe` lists those of a row.
"""
import argparse
import signal
import sys
from pathlib import Path

from utils.lab import RUNS, LabError
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
    from training.headless import literal

    given = {name: literal(text) for name, text in options.settings}
    given |= {name: value for name, value in (("EPOCHS", options.epochs), ("DATA", options.data)) if value is not None}
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
    # Whoever ends this program so, as a server's queue does, shall not leave its runs behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        failed = runs.train(jobs, options.jobs)
    except KeyboardInterrupt:
        print("\nstopped by Ctrl-C: the same command goes on from the last finished epochs", file=sys.stderr)
        return 130
    if failed < len(jobs):
        _show(options.folder)
    if failed:
        raise LabError(f"expected {len(jobs)} runs to finish, found {failed} that failed, in {options.folder}: see the "
                       "lines above and their logs, then call the same command again")
    return 0


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
    work.add_argument("--seeds", type=_count, default=3, metavar="N", help="train with the seeds 1 to N (default: 3)")
    work.add_argument("--epochs", type=_count, metavar="N", help="epochs of each run (default: the notebook's)")
    work.add_argument("--data", type=lambda text: str(Path(text).resolve()), metavar="DIR",
                      help="folder with Cityscapes, KITTI or CamVid (default: the notebook's)")
    work.add_argument("-p", dest="settings", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
                      help="a setting of the notebook, for all runs")
    work.add_argument("--jobs", type=_count, default=1, metavar="N",
                      help="runs at once; they share the cores (default: 1)")

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


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text}")
    return number


if __name__ == "__main__":
    run_main(main)
