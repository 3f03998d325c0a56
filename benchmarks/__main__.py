"""python -m benchmarks [NAME ...] [--data DIR] [--rounds N] [--json FILE] [--quick]

Tables go to stdout, progress to stderr, every round's figures to a JSON file. A missed goal is a result, no error.
"""
import argparse
import dataclasses
import errno
import importlib
import os
import sys
import tempfile
import time
from pathlib import Path

from dataset.reader import find_data
from utils.files import write_json
from utils.lab import ROOT, LabError
from utils.machine import available_cores, cpu_name
from utils.terminal import run_main

BENCHMARKS = {"sample": "loading", "batches": "loading", "build": "loading", "matrix": "metric", "argmax": "metric",
              "stall": "training", "training": "training", "pixels": "training", "scoring": "training",
              "classroom": "classroom", "gpu": "gpu"}  # name -> its file


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks",
                                     description="Measures the lab beside what it is compared with.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="Cityscapes (default: pairs that the lab draws)")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds of each comparison (default: 5)")
    parser.add_argument("--json", type=Path, metavar="FILE",
                        help="where the figures go (default: runs/benchmarks/<date-time>.json)")
    parser.add_argument("--quick", action="store_true", help="each once, at tiny sizes: to see that it works")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in BENCHMARKS]:
        raise LabError(f"expected benchmarks of {', '.join(BENCHMARKS)}, found {unknown[0]!r}: check the names")
    if options.rounds is not None and options.rounds < 1:
        raise LabError(f"expected --rounds of at least 1, found {options.rounds}: leave it out for 5")
    if options.data:
        find_data(options.data)
    path = options.json or ROOT / "runs" / "benchmarks" / time.strftime("%Y-%m-%d_%H-%M-%S.json")
    result = {"started": time.strftime("%Y-%m-%d %H:%M:%S"), "quick": options.quick, "machine": None, "data": None,
              "seconds": 0, "tables": {}, "not measured": {}}
    write_json(path, result)  # so that a place that cannot be written shows now, not after all the work
    run(options, path, result)


def run(options: argparse.Namespace, path: Path, result: dict) -> None:
    """Prints the tables and adds them to `result`, which goes to `path` after each benchmark."""
    from benchmarks.data import QUICK, Data, Sizes  # imported here, so that bad input shows at once
    from benchmarks.measure import NotMeasuredError

    sizes = QUICK if options.quick else Sizes()
    sizes = dataclasses.replace(sizes, rounds=options.rounds or sizes.rounds)
    result["machine"] = _machine()
    print(", ".join(f"{name} {value}" for name, value in result["machine"].items()))
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="lab-benchmarks-", ignore_cleanup_errors=True) as folder:
        data = Data(Path(folder), sizes, options.data)
        for name in options.names or BENCHMARKS:
            module, tables = importlib.import_module(f"benchmarks.{BENCHMARKS[name]}"), []
            try:
                for table in getattr(module, name)(data):
                    tables.append(table.measure(sizes.rounds))
                    print(f"\n{name}: {tables[-1]}", flush=True)
            except NotMeasuredError as why:
                print(f"\n{name}: not measured: {why}", flush=True)
                result["not measured"][name] = str(why)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                raise LabError(f"expected room for 500 MB in {folder}, found the disk full: free some space, or set "
                               "TMPDIR to a folder with room") from None
            result["tables"][name] = {str(table).split("\n")[0]: table.content() for table in tables}
            result["data"] = data.describe() if "pairs" in vars(data) else None
            result["seconds"] = round(time.perf_counter() - started)
            write_json(path, result)
    if result["data"]:
        print(f"\n{sizes.pairs} pairs of 1024 x 2048, {result['data']['source']}; a PNG has "
              f"{result['data']['image_bytes'] / 1e6:.2f} MB")
    rows = [row for tables in result["tables"].values() for rows in tables.values() for row in rows if row["goal"]]
    print(f"ratio: how many times the first row's time; medians of rounds, +- half their span\n"
          f"{len(rows)} goals, {sum(row['verdict'] == 'met' for row in rows)} met; {result['seconds']} s"
          + ("; a quick run, whose figures mean nothing" if options.quick else ""))
    print(f"written to {path}", file=sys.stderr)


def _machine() -> dict:
    """What the figures depend on."""
    import torch

    from training.environment import describe_versions

    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"CPU": cpu_name(), "cores": available_cores(), "load": load, "GPU": gpu, **describe_versions()}


if __name__ == "__main__":
    run_main(main)
