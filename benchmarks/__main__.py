"""python -m benchmarks [NAME ...] [--data DIR] [--rounds N] [--json FILE] [--quick]

Tables go to stdout, progress to stderr, every round's figures to a JSON file. A missed goal is a result, no error.
"""
import argparse
import dataclasses
import importlib
import sys
import tempfile
import time
from pathlib import Path

from dataset.reader import find_data
from utils.files import write_json
from utils.lab import ROOT, LabError
from utils.terminal import run_main

BENCHMARKS = {"sample": "loading", "batches": "loading", "build": "loading", "matrix": "metric", "argmax": "metric",
              "stall": "training", "training": "training", "precision": "training", "pixels": "training",
              "scoring": "training", "classroom": "classroom", "gpu": "gpu"}  # name -> its file


def main() -> None:
    options = _arguments()
    names = options.names or list(BENCHMARKS)
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        raise LabError(f"expected benchmarks of {', '.join(BENCHMARKS)}, found {unknown[0]!r}: check the names")
    if options.rounds is not None and options.rounds < 1:
        raise LabError(f"expected --rounds of at least 1, found {options.rounds}: leave it out for 5")
    source = find_data(options.data) if options.data else None
    path = options.json or ROOT / "runs" / "benchmarks" / time.strftime("%Y-%m-%d_%H-%M-%S.json")
    result = {"started": time.strftime("%Y-%m-%d %H:%M:%S"), "quick": options.quick, "seconds": 0, "sizes": None,
              "machine": None, "data": None, "benchmarks": []}
    write_json(path, result)  # so that a place that cannot be written shows now, not after all the work
    run(names, options.quick, options.rounds, source, path, result)


def run(names: list[str], quick: bool, rounds: int | None, source: Path | None, path: Path, result: dict) -> None:
    """Prints each benchmark's tables and adds them to `result`, which goes to `path` after each."""
    # Imported here: bad input shows at once, and the second process starts without all of it.
    from benchmarks import report
    from benchmarks.setup import QUICK, Setup, Sizes

    sizes = QUICK if quick else Sizes()
    if rounds:
        sizes = dataclasses.replace(sizes, rounds=rounds)
    machine = report.describe_machine()
    result |= {"sizes": dataclasses.asdict(sizes), "machine": machine}
    started = time.perf_counter()
    print(report.format_machine(machine))
    with tempfile.TemporaryDirectory(prefix="lab-benchmarks-", ignore_cleanup_errors=True) as folder:
        setup = Setup(Path(folder), sizes, source)
        try:
            for name in names:
                tables = getattr(importlib.import_module(f"benchmarks.{BENCHMARKS[name]}"), name)(setup)
                if result["data"] is None and "data" in vars(setup):
                    result["data"] = setup.data.describe()
                    print(setup.data)
                for table in tables:
                    print("\n" + report.format_table(table), flush=True)
                    result["benchmarks"].append(report.table_json(table))
                result["seconds"] = round(time.perf_counter() - started, 1)
                write_json(path, result)
        finally:
            setup.close()
    verdicts = [row["verdict"] for table in result["benchmarks"] for row in table["rows"] if row["goal"]]
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in ("met", "MISSED", "not measured"))
    print(f"\nx: how many times the cost of the row marked *; medians of {sizes.rounds} rounds or a multiple, +- half "
          f"their span\n{len(verdicts)} goals: {counts}; {result['seconds']:.0f} s"
          + ("; a quick run, whose figures mean nothing" if quick else ""))
    print(f"written to {path}", file=sys.stderr)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks",
                                     description="Measures the lab beside what it is compared to.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="Cityscapes (default: pairs that the lab draws)")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds of each comparison (default: 5)")
    parser.add_argument("--json", type=Path, metavar="FILE",
                        help="where the figures go (default: runs/benchmarks/<date-time>.json)")
    parser.add_argument("--quick", action="store_true", help="each once, at tiny sizes: to see that it works")
    return parser.parse_args()


if __name__ == "__main__":
    run_main(main)
