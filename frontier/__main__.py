"""Finds the smallest network of task 2's ladder that reaches the threshold.

    python -m frontier plan       what each rung costs, before any training
    python -m frontier train      train rungs with several seeds
    python -m frontier ablations  train one rung with each method of the recipe turned off
    python -m frontier blocks     train one rung with each kind of block
    python -m frontier show       the table and the figures of all finished runs

Tables go to stdout, progress to stderr. A run lies in <folder>/<row>/seed-<k>/, with log.txt and the executed notebook;
`python -m training.runs --folder runs/frontier/safe` lists the runs of a row.
"""
import argparse
import sys
from pathlib import Path

from frontier.options import add_data, add_run_options, count
from utils.lab import RUNS
from utils.terminal import run_main

RUNG = "a name of rungs(), one with changes (lean,block=grouped), or 12/20/32,0/2/3,refine=1,context=0"


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    # The rest is imported here, so that --help is quick and Ctrl-C while torch loads ends in one line.
    if options.command == "show":
        return _show(options.folder)
    from frontier.ladder import Ladder, plan

    ladder = Ladder()
    if options.command == "plan":
        print(plan(ladder, options.rungs))
        return 0
    from frontier import jobs, variants

    given = jobs.given_settings(options)
    recipe = variants.all_settings(given)
    if options.command == "train":
        chosen = variants.rung_variants(ladder, options.rungs)
    elif options.command == "blocks":
        chosen = variants.block_variants(ladder, options.rung)
    else:
        if options.command == "levers":
            print("note: python -m frontier levers is python -m frontier ablations now", file=sys.stderr)
        chosen, notes = variants.ablation_variants(ladder, options.rung, recipe, options.ablations)
        print(*notes, sep="\n", file=sys.stderr, end="\n" if notes else "")
    made = variants.make_jobs(chosen, options.seeds, given, options.folder)
    return jobs.carry_out(made, options.jobs, options.folder, lambda: _show(options.folder))


def _show(folder: Path) -> int:
    from frontier.results import show

    print(show(folder))
    print(f"written: table.md, frontier.png and frontier.svg in {folder}", file=sys.stderr)
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m frontier", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    place = argparse.ArgumentParser(add_help=False)
    place.add_argument("--folder", type=Path, default=RUNS / "frontier", metavar="DIR",
                       help="where the runs and the table lie (default: runs/frontier)")
    work = argparse.ArgumentParser(add_help=False, parents=[place])
    work.add_argument("--seeds", type=count, default=3, metavar="N", help="train with the seeds 1 to N (default: 3)")
    add_data(work, "folder with Cityscapes, KITTI or CamVid (default: the notebook's)")
    add_run_options(work)

    known = commands.add_parser("plan", help="what each rung costs, before any training")
    known.add_argument("rungs", nargs="*", metavar="RUNG", help=f"{RUNG} (default: all names)")
    known = commands.add_parser("train", parents=[work], help="train rungs with several seeds")
    known.add_argument("rungs", nargs="*", metavar="RUNG", help=f"{RUNG} (default: all names)")
    for name, text in (("ablations", "train one rung with each method of the recipe turned off"),
                       ("levers", "the former name of ablations")):
        known = commands.add_parser(name, parents=[work], help=text)
        known.add_argument("rung", metavar="RUNG", help=RUNG)
        known.add_argument("--ablation", "--lever", dest="ablations", action="append", default=[], metavar="NAME",
                           help="only this one (may be repeated)")
    known = commands.add_parser("blocks", parents=[work], help="train one rung with each kind of block")
    known.add_argument("rung", metavar="RUNG", help=RUNG)
    commands.add_parser("show", parents=[place], help="the table and the figures of all finished runs")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_main(main)
