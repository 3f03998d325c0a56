"""What test_task1.py and test_task2.py share: arguments, the order of the checks, and the lines they print."""
import argparse
import platform
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import thop
import torch
from torch import nn

from utils.complexity import count_flops, count_size, figure_of_merit, held_storages, left_by_passes
from utils.evaluation import check_output, evaluate, load_model, student_code
from utils.files import write_json
from utils.graph.proof import prove, torch_in_words
from utils.lab import DEFAULT_DATA, SPLITS, LabError, Task
from utils.labels_cat import CATEGORIES
from utils.machine import keep_memory, pick_device

# (data path, split or None for the labeled one, device) -> (loader of (data, target), description of the data)
OpenEvaluation = Callable[[str, str | None, torch.device], tuple[Iterable, str]]


def run_test(task: Task, open_evaluation: OpenEvaluation) -> None:
    """Loads the task's network, measures it and prints the graded lines, and nothing else, on stdout.

    Task 1 prints `Final IoU`; task 2 prints `flops`, `Model parameter size`, `Final IoU` and `FoM`.
    """
    args = _parse(task)
    device = pick_device(args.device)
    if device.type == "cpu":
        keep_memory()
    where = str(args.network)
    model = load_model(args.network, args.MODEL_PATH)
    with student_code(f"a network whose size can be counted, {where}"):
        size, held = count_size(model), held_storages(model)  # before any forward pass, see count_size
    loader, data = open_evaluation(args.DATA_PATH, args.split, device)
    check_output(model, where)
    with student_code(f"a network whose work can be counted, {where}"):
        flops, left = count_flops(model), left_by_passes(model, held)
    if left:
        print(f"warning: a forward pass leaves {left} in the network, which does not count: keep what forward needs "
              "in local variables", file=sys.stderr)
    started = time.perf_counter()
    metric = evaluate(model.to(device), loader, where, f"task {task.number}")
    seconds = time.perf_counter() - started
    miou = metric.miou()
    fom = figure_of_merit(flops, size, miou) if task.number == 2 else None

    if task.number == 2:
        print(f"flops ={flops}")
        print(f"Model parameter size ={size:.3f} KB")
    print(f"Final IoU = {miou:.6f}")
    if task.number == 2:
        print("FoM = unranked" if fom is None else f"FoM = {fom:.6e}")
    if args.proved:
        _print_proved(model.cpu(), miou, task)
    if miou < task.miou:
        print(f"note: task {task.number} asks for an mIoU of {task.miou}", file=sys.stderr)
    if args.json:
        write_json(args.json, {
            "task": task.number, "model": str(args.MODEL_PATH), "network": where, "data": data,
            "miou": miou, "miou_without_void": _number(metric.miou_without_void()), "accuracy": metric.accuracy(),
            "iou": {name: _number(value) for name, value in zip(CATEGORIES, metric.iou(), strict=True)},
            "flops": flops, "size_kb": size, "fom": fom, "threshold": task.miou,
            "confusion_matrix": metric.counts.tolist(), "seconds": round(seconds, 3), "device": str(device),
            "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__,
                         "thop": thop.__version__},
        })


def _print_proved(model: nn.Module, miou: float, task: Task) -> None:
    """On stderr: what the grader's replay of the network's graph counts, or what stops it."""
    try:
        with student_code("a network that can be exported"):
            proved = prove(model)
    except LabError as error:
        print(f"proved: no: {error}, by {torch_in_words()}", file=sys.stderr)
        return
    lines = [f"flops ={proved.macs}", f"Model parameter size ={proved.size_kb:.3f} KB"]
    if task.number == 2:
        fom = figure_of_merit(proved.macs, proved.size_kb, miou)
        lines.append("FoM = unranked" if fom is None else f"FoM = {fom:.6e}")
    lines.append(f"{proved.nodes} operators by {torch_in_words()}; {proved.differing:.4%} of an image's pixels differ")
    print("".join(f"proved: {line}\n" for line in lines), end="", file=sys.stderr)


def _parse(task: Task) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=f"Scores task {task.number} ({task.title}): the figures that are graded, on stdout.")
    parser.add_argument("MODEL_PATH", nargs="?", type=Path, default=Path(task.model_file),
                        help=f"weights, a state_dict (default: {task.model_file})")
    parser.add_argument("DATA_PATH", nargs="?", default=DEFAULT_DATA,
                        help=f"folder with Cityscapes, KITTI or CamVid (default: {DEFAULT_DATA}, or the drawn sample)")
    parser.add_argument("--network", type=Path, default=task.network_file, metavar="FILE",
                        help="network file with load_model (default: this lab's)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, ... (default: a GPU where there is one)")
    parser.add_argument("--split", choices=SPLITS, help="split to score on (default: val, or test where only that is)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures to this file")
    parser.add_argument("--proved", action="store_true",
                        help="also export the network and say on stderr what its graph costs, which is what ranks")
    return parser.parse_args()


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
