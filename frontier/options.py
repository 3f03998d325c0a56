"""The options of the commands that train many runs. Nothing heavy is imported, so that --help is quick."""
import argparse
from pathlib import Path


def add_data(parser: argparse.ArgumentParser, text: str) -> None:
    """--data, made absolute: a run starts in another folder."""
    parser.add_argument("--data", type=lambda value: str(Path(value).resolve()), metavar="DIR", help=text)


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """--epochs, -p NAME VALUE (as `settings`) and --jobs."""
    parser.add_argument("--epochs", type=count, metavar="N", help="epochs of each run (default: the notebook's)")
    parser.add_argument("-p", dest="settings", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
                        help="a setting of the notebook, for all runs")
    parser.add_argument("--jobs", type=count, default=1, metavar="N",
                        help="runs at once; they share the cores (default: 1)")


def count(text: str) -> int:
    """An argparse type. Raises ArgumentTypeError unless `text` is a whole number of at least 1."""
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text}")
    return int(text)
