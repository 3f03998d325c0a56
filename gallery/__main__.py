"""python -m gallery [NAME ...] | train | checkerboard | instances: the lecture's networks, their costs and scores.

Tables go to stdout, progress to stderr. Runs lie in <folder>/<name>/, or <name>-<N> for widths divided by N, with the
executed notebook and log.txt.
"""
import argparse
import sys
from pathlib import Path

from frontier.options import add_data, add_run_options, count
from utils.lab import RUNS, LabError
from utils.terminal import run_main

COMMANDS = ("table", "train", "checkerboard", "instances")


def main(arguments: list[str] | None = None) -> int:
    # The rest is imported inside the functions, so that Ctrl-C while torch loads ends in one line as well.
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] not in (*COMMANDS, "-h", "--help"):
        given.insert(0, "table")
    options = _parse(given)
    if options.command == "checkerboard":
        return _draw_checkerboard(options.out)
    if options.command == "instances":
        from gallery import instance_run

        return instance_run.run(options.data, options.folder, options.epochs, options.width, options.seed)
    return _train(options) if options.command == "train" else _show_table(options)


def _show_table(options: argparse.Namespace) -> int:
    from dataset.reader import find_data
    from gallery import work
    from utils.lab import NUM_CLASSES

    rows = work.rows_of(options.names, options.shrink, options.folder)
    if not options.names:  # what was trained by other names, or at other widths
        known = {row.network for row in rows}
        rows += [row for row in work.finished_rows(options.folder) if row.network not in known]
    print(work.show(rows, len(find_data(options.data).classes) if options.data else NUM_CLASSES))
    return 0


def _train(options: argparse.Namespace) -> int:
    from frontier import jobs as runs
    from gallery import work
    from gallery.catalog import FREQUENCY
    from training import headless

    if not options.names:
        raise LabError("expected the names of networks to train, or all, found none: python -m gallery lists them")
    rows = work.rows_of([] if options.names == ["all"] else options.names, options.shrink, options.folder)
    given = runs.given_settings(options)
    headless.check_folder(options.folder, "choose another --folder")
    recipe = work.recipe_of(given)
    jobs = work.make_jobs(rows, given, recipe)
    for row in rows:
        if row.name == FREQUENCY:
            work.count_frequencies(row.folder, recipe["DATA"])
    return runs.carry_out(jobs, options.jobs, options.folder, lambda: _show_results(rows, options.folder, recipe))


def _show_results(rows: list, folder: Path, recipe: dict) -> None:
    from dataset.reader import find_data
    from gallery import work
    from utils.files import replacing

    root = recipe["DATA"]
    work.score_classes(rows, root, recipe.get("DEVICE", "auto"))
    text = work.show(rows, len(find_data(root).classes))
    print(text)
    with replacing(folder / "table.md") as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    drawn = work.draw_predictions(rows, root, folder / "predictions.png")
    print(f"written: table.md{' and predictions.png' if drawn else ''} in {folder}", file=sys.stderr)


def _draw_checkerboard(out: Path) -> int:
    from gallery.checkerboard import plot_checkerboard
    from utils.files import replacing

    if out.suffix != ".png" or not out.resolve().parent.is_dir():
        raise LabError(f"expected a name ending in .png in a folder that exists, found {out}: pass another")
    with replacing(out) as temporary:
        plot_checkerboard().savefig(temporary, format="png", dpi=100)
    print(f"written: {out}", file=sys.stderr)
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m gallery", description="The networks of the lecture. Without a "
                                     "command: the table of what each costs, and its mIoU if it was trained.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    network = "a name of the table, unet/8 with an eighth of its widths, or module:Class(width=16)"

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--folder", type=Path, default=RUNS / "gallery", metavar="DIR",
                        help="where the runs and the table lie (default: runs/gallery)")
    common.add_argument("--shrink", type=count, default=1, metavar="N",
                        help="divide the widths of the large networks by N: 4 for a CPU (default: 1, the papers')")
    add_data(common, "folder with images and labels (default: the notebook's; a table takes 8 classes)")
    known = commands.add_parser("table", parents=[common], help="what each costs, and its mIoU if it was trained")
    known.add_argument("names", nargs="*", metavar="NETWORK", help=f"{network} (default: all)")
    known = commands.add_parser("train", parents=[common], help="train networks with task 1's notebook, one recipe")
    known.add_argument("names", nargs="*", metavar="NETWORK", help=f"{network}; or all")
    add_run_options(known)
    known = commands.add_parser("instances", help="train a U-Net that parts things which touch, and score it")
    known.add_argument("--folder", type=Path, default=RUNS / "gallery" / "instances", metavar="DIR",
                       help="where weights and figure go (default: runs/gallery/instances)")
    known.add_argument("--epochs", type=count, default=12, metavar="N", help="passes over the training images")
    known.add_argument("--width", type=count, default=8, metavar="N", help="channels at full resolution")
    known.add_argument("--seed", type=count, default=1, metavar="N", help="of all random numbers")
    add_data(known, "Cityscapes, the drawn sample (default), or Penn-Fudan")
    known = commands.add_parser("checkerboard", help="draw the traces of transposed convolutions")
    known.add_argument("out", nargs="?", type=Path, default=Path("checkerboard.png"), metavar="OUT.png")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_main(main)
