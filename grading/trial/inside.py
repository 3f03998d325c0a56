"""What runs inside the sandbox: python inside.py export|run|replay ARGUMENTS.

    export NETWORK WEIGHTS                       the submission's code; answers its graph and tensors
    run NETWORK WEIGHTS IMAGES COUNT             the submission's code; answers COUNT masks, where export was refused
    replay GRAPH TENSORS IMAGES COUNT DEVICE     no code of the submission's; answers COUNT masks, reports their cost

Names are of files in the folder LAB_INPUTS. IMAGES holds COUNT images, uint8 (256, 512, 3), one after the other; masks
are uint8 (256, 512) in the same order. Answers go through LAB_ANSWER_FD, and a line of JSON for each stage that is over
through LAB_REPORT_FD. In `export` and `run` the submission can forge both: its graph is checked and replayed, its masks
are scored against labels that never come here, and its figures of cost are claims that do not rank.

Started by grading.trial, imported by nobody; it sees no other file of this folder.
"""
import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from dataset.augment import normalize
from utils.complexity import count_flops, count_size
from utils.evaluation import (
    arg_max,
    build_model,
    check_output,
    check_weights,
    deterministic,
    load_network,
    predict,
    student_code,
)
from utils.graph.errors import GraphError
from utils.graph.export import export_network
from utils.graph.replay import Replay
from utils.graph.schema import parse
from utils.graph.weight import number_bytes
from utils.lab import INPUT_SIZE, LabError
from utils.machine import keep_memory

STAGES = {"export": ("start", "import", "load", "output", "export"),
          "run": ("start", "import", "load", "output", "run"), "replay": ("start", "load", "run")}
OUT_OF_MEMORY = re.compile(r"out of memory|not enough memory|(can't|cannot) allocate|bad_alloc", re.IGNORECASE)
MOST_ROWS = 120  # of the table of operators: the report has 64 KB
Tell = Callable[..., None]


def main() -> None:
    mode, inputs = sys.argv[1], Path(os.environ["LAB_INPUTS"])
    answer = os.fdopen(int(os.environ.pop("LAB_ANSWER_FD")), "wb")
    report = os.fdopen(int(os.environ.pop("LAB_REPORT_FD")), "wb")
    stages = iter(STAGES[mode])
    stage, lap = next(stages), time.perf_counter() - time.process_time()  # the imports above are the first stage's

    def tell(**facts: object) -> None:
        nonlocal stage, lap
        now = time.perf_counter()
        line = json.dumps({"stage": stage, "seconds": round(now - lap, 4), **facts}, ensure_ascii=False)
        report.write(line.replace(f"{inputs}{os.sep}", "").encode("utf-8", "replace") + b"\n")
        report.flush()
        stage, lap = next(stages, ""), now

    status = 0
    try:
        keep_memory()
        tell()
        {"export": export, "run": run, "replay": replay}[mode](inputs, sys.argv[2:], answer, tell)
        answer.flush()
    except BaseException as error:  # a submission may raise anything
        with contextlib.suppress(Exception):
            text = str(error) if isinstance(error, LabError) else f"{type(error).__name__}: {error}"
            tell(error=text[:600], kind=_kind(error))
        status = 1
    # Not sys.exit: what the submission left for the end (atexit, threads, finalizers) has no business here.
    os._exit(status)


def export(inputs: Path, arguments: list[str], answer: object, tell: Tell) -> None:
    """Answers 8 bytes with the length of the graph's JSON, the JSON, and the storages as safetensors."""
    model = _load(inputs, arguments, tell)
    with student_code("a network that can be exported"):
        graph, storages = export_network(model)
    answer.write(len(graph).to_bytes(8, "big") + graph + save(storages))
    tell()


def run(inputs: Path, arguments: list[str], answer: object, tell: Tell) -> None:
    """Answers the masks; tells what the network says that it costs."""
    model, where = _load(inputs, arguments, tell), arguments[0]
    with student_code(f"a network whose work can be counted, {where}"):
        claims = {"flops": count_flops(model), "held": round(count_size(model) * 1024)}
    for data in _images(inputs / arguments[2], int(arguments[3]), torch.device("cpu")):
        answer.write(predict(model, data, where).numpy().tobytes())
    tell(**claims)


def replay(inputs: Path, arguments: list[str], answer: object, tell: Tell) -> None:
    """Answers the masks of a graph, and tells what it costs: the least and the most of all images."""
    graph, device = parse((inputs / arguments[0]).read_bytes()), torch.device(arguments[4])
    network = Replay(graph, load((inputs / arguments[1]).read_bytes()), device)
    tell()
    least, most = [], []
    for data in _images(inputs / arguments[2], int(arguments[3]), device):
        logits, costs = network.run(data)
        if not torch.stack([logits.amin(), logits.amax()]).isfinite().all():
            raise LabError("expected finite logits, found NaN or infinity: the training diverged, lower the learning "
                           "rate")
        answer.write(arg_max(logits).cpu().numpy().tobytes())
        least, most = ([pick(pair) for pair in zip(costs, seen or costs, strict=True)]
                       for pick, seen in ((min, least), (max, most)))
    names = ("macs", "elements", "arithmetic", "wide")
    unused = sum(1 for number in range(1, 1 + len(graph.tensors)) if number not in graph.used)
    tell(**dict(zip(names, most, strict=True)), least_macs=least[0], bytes=network.bytes,
         number_bytes=number_bytes(graph), nodes=len(graph.nodes), unused=unused,
         parameters=sum(tensor.numel() for tensor in network.tensors.values()), layers=network.layers()[:MOST_ROWS])


def _load(inputs: Path, arguments: list[str], tell: Tell) -> nn.Module:
    """The submission's network in eval mode; it is imported, loaded and tried, a stage each."""
    network, weights = (inputs / name for name in arguments[:2])
    module = load_network(network)
    tell()
    check_weights(weights)
    model = build_model(module, network, weights)
    with student_code(f"a network that can be put into eval mode, {network.name}"):
        model.eval()
    tell()
    check_output(model, network.name)
    tell()
    return model


def _images(path: Path, count: int, device: torch.device) -> Iterator[Tensor]:
    """Each image as a network takes it, float32 (1, 3, 256, 512)."""
    image = torch.empty(1, *INPUT_SIZE, 3, dtype=torch.uint8)
    with path.open("rb") as file, deterministic():
        for _ in range(count):
            if file.readinto(image.numpy()) != image.numel():
                raise LabError(f"expected {count} images, found fewer in {path.name}")
            yield normalize(image.to(device))


def _kind(error: BaseException) -> str:
    """What a person would call it: no proof, a broken contract, too little memory, or something that was raised."""
    if isinstance(error, GraphError):
        return "unproved"
    original = error.__context__ if isinstance(error, LabError) else error
    if isinstance(original, (MemoryError, torch.cuda.OutOfMemoryError)) or OUT_OF_MEMORY.search(str(original)):
        return "memory"
    return "contract" if original is None else "raised"


if __name__ == "__main__":
    main()
