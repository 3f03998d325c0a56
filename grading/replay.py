"""Scores a graded student's exported networks once more and says whether the same comes out.

    python -m grading replay REPORT STUDENT

No file of the student's runs: the graph and the tensors that grading kept are replayed in a sandbox on the same images.
On the same machine, with the same versions, masks, confusion matrices and costs are equal.
"""
import argparse
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from grading.part import read_part
from grading.records import find_record, proof_paths
from grading.settings import DEVICES, GradeSettings
from utils.lab import TASKS, LabError

# What loads torch is imported where it is needed, so that `python -m grading --help` is quick.
if TYPE_CHECKING:
    from grading.class_run import ClassRun
    from grading.trial.scoring import Proof


def add_command(commands: argparse._SubParsersAction) -> None:
    """Adds the command `replay`."""
    parser = commands.add_parser("replay", help="score a graded network again, without the student's code",
                                 description="Scores the exported networks of a student again and compares masks, "
                                             "confusion matrix and costs with the record. Status 2 where they differ.")
    parser.add_argument("out", type=Path, metavar="REPORT", help="the folder that `grade --out` filled")
    parser.add_argument("student", metavar="STUDENT", help="the student's number, or the record's name")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="the data set (default: where it was for grading)")
    parser.add_argument("--rest-of", type=Path, metavar="BOARD", help="the board, where grade had --rest-of")
    parser.add_argument("--device", choices=DEVICES, help="where to run (default: the CPU, or a GPU if it was one)")
    parser.add_argument("--insecure", action="store_true", help="where no sandbox works: replay all the same")
    parser.set_defaults(run=run_replay)


def run_replay(args: argparse.Namespace) -> int:
    """The command: a line for each thing that is compared; status 2 where something differs."""
    differs = False
    for same, line in replay_student(args.out, args.student, args.data, args.device, args.insecure,
                                     args.rest_of):
        print(line, flush=True)
        differs |= not same
    return 2 if differs else 0


def replay_student(out: Path, student: str, data: Path | None = None, device: str | None = None,
                   insecure: bool = False, rest_of: Path | None = None) -> Iterator[tuple[bool, str]]:
    """Yields (whether it is as it was, a line about it). Raises LabError where there is nothing to replay."""
    from grading.class_run import prepare
    from grading.grade import gpus_for
    from grading.trial.sandbox.leftovers import temporary_folder
    from grading.trial.scoring import stage_images

    record = find_record(out, student)
    numbers = [number for number in TASKS if record["tasks"][str(number)].get("masks")]
    if not numbers:
        raise LabError(f"expected a scored network of {student}, found none in its record: there is nothing to replay")
    data = data or Path(record.get("data_folder") or "")
    if not data.is_dir():
        raise LabError(f"expected the data set that was graded on, found none at {data}: pass --data FOLDER")
    device = device or ("cpu" if record.get("device", "cpu") == "cpu" else "auto")
    gpus = gpus_for(device)[:1]
    with temporary_folder("lab-replay-") as scratch:
        limits = {name: value for name, value in record.get("limits", {}).items() if name in ("wall", "memory")}
        settings = GradeSettings(out / "networks", data, out, device=device, split=record.get("split"),
                                 insecure=insecure, part=read_part(rest_of, rest=True) if rest_of else None, **limits)
        run = prepare(settings, scratch, gpus, 1)
        run.threads = record.get("threads") or run.threads  # sums come out in another order with other threads
        yield from _conditions(record, run)
        run.staged = stage_images(run.images, scratch, secrets.token_bytes(32))
        for number in numbers:
            yield from _task(number, record, run, out, gpus)


def _conditions(record: dict, run: "ClassRun") -> Iterator[tuple[bool, str]]:
    """What is not as it was for grading. Only other data counts as a difference; the rest may explain one."""
    from grading.records import versions

    if record.get("data") != run.data:
        yield False, f"data: not what was graded on, so figures will differ ({run.folder}, {run.split})"
    before = {**record.get("versions", {}), "device": record.get("device")}
    for name, now in {**versions(), "device": run.device}.items():
        if before.get(name) != now:
            yield True, f"note: {name} is {now}, and was {before.get(name)} for grading"


def _task(number: int, record: dict, run: "ClassRun", out: Path, gpus: list[int]) -> Iterator[tuple[bool, str]]:
    from grading.errors import error_map, errors_path, read_errors
    from grading.marking import masks_digest
    from grading.trial.scoring import replay

    name, task = f"task {number}", record["tasks"][str(number)]
    unproved = (task.get("proof") or {}).get("unproved", "no exported network was kept")
    if unproved:
        yield True, f"{name}: cannot be replayed, as the student's own code made its masks: {unproved}"
        return
    proof, wrong = _read_proof(number, record, out)
    if proof is None:
        yield False, f"{name}: {wrong}"
        return
    found, masks, why = replay(TASKS[number], proof, run.staged, run.targets, run.names, run.level, run.limits,
                               gpus[0] if gpus else None, run.threads)
    if masks is None:
        yield False, f"{name}: expected masks as before, found {why or found['state'] + ', ' + found['why']}"
        return
    differences = []
    if masks_digest(masks) != task["masks"]:
        kept, now = read_errors(errors_path(out, record["slug"], number)), error_map(masks, run.targets)
        share = f"errors differ at {np.mean(kept[0] != now):.3%} of the pixels that are kept" \
            if kept is not None and kept[0].shape == now.shape else "no errors to compare them with are kept"
        differences.append(f"masks ({share})")
    if found["confusion"] != task["confusion"]:
        moved = np.abs(np.subtract(found["confusion"], task["confusion"])).sum() // 2
        differences.append(f"confusion matrix ({moved:,} pixels elsewhere, mIoU {task['miou']:.6f} -> "
                           f"{found['miou']:.6f})")
    differences += [f"{cost} ({task['costs'].get(cost)} -> {now})" for cost, now in found["costs"].items()
                    if task["costs"].get(cost) != now]
    costs = f"mIoU {found['miou']:.6f}, {found['flops']:,} MACs, {found['size_kb']:,.3f} KB"
    yield not differences, f"{name}: " + (f"differs in {', '.join(differences)}" if differences else
                                          f"equal in masks, confusion matrix and costs ({costs})")


def _read_proof(number: int, record: dict, out: Path) -> "tuple[Proof | None, str]":
    """The network that was graded; None, with what is wrong, where its files are gone or are others."""
    from grading.trial.scoring import Proof
    from utils.graph.errors import GraphError
    from utils.graph.schema import parse

    paths = proof_paths(out, record["slug"], number)
    try:
        proof = Proof(*(path.read_bytes() for path in paths))
        changed = [path for path, part in zip(paths, ("graph", "tensors"), strict=True)
                   if proof.hashes[part] != record["tasks"][str(number)]["proof"].get(part)]
        if changed:
            return None, f"{' and '.join(map(str, changed))} changed since grading, so nothing was replayed"
        return Proof(parse(proof.graph).canonical(), proof.tensors), ""
    except (OSError, GraphError) as error:
        reason = f"{error.strerror} at {error.filename}" if isinstance(error, OSError) else str(error)
        return None, f"expected the exported network of then, found {reason}: grade again"
