"""A network file's trial, in a process of its own: python probe.py NETWORK_FILE [WEIGHTS [DATA SECONDS]].

Started by handin.trial in an empty folder. Nothing of the lab is imported before the network file has been imported on
its own, so that one that leans on the lab's modules is found out. Each stage that is over is a line of JSON on the
original stdout; whatever the network file prints goes elsewhere.
"""
import contextlib
import importlib.util
import io
import json
import os
import signal
import sys
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is answered by the parent, in one line
    with contextlib.suppress(ValueError):
        sys.path.remove(str(Path(__file__).resolve().parent))
    sys.path[:] = [entry for entry in sys.path if entry and Path(entry).resolve() not in (ROOT, Path.cwd())]
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(stage: str, **content: object) -> None:
        channel.write(json.dumps({"stage": stage, **content}) + "\n")
        channel.flush()

    network_file, weights, data, seconds = (sys.argv[1:] + [""] * 4)[:4]
    import torch
    tell("torch")
    error = import_alone(Path(network_file), torch, tell)
    if error or not weights:
        return
    sys.path.insert(0, str(ROOT))
    from utils.lab import LabError

    try:
        measure(Path(network_file), Path(weights), data, float(seconds or 0), tell)
    except LabError as found:
        tell("error", error=str(found))


def import_alone(network_file: Path, torch: object, tell: object) -> str | None:
    """Imports the network file and tells what that did: an error, what it printed, which files it left."""
    before = set(Path.cwd().iterdir())
    printed, error = io.StringIO(), None

    def trains(*_args: object, **_options: object) -> None:
        raise TrainsOnImport

    patched = [(torch.Tensor, "backward"), (torch.autograd, "backward"), (torch.autograd, "grad")]
    kept = [getattr(owner, name) for owner, name in patched]
    for owner, name in patched:
        setattr(owner, name, trains)
    spec = importlib.util.spec_from_file_location("handed_in", network_file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where a dataclass, for one, looks up what its annotations mean
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            spec.loader.exec_module(module)
        if not callable(getattr(module, "load_model", None)):
            error = "no function load_model(MODEL_PATH): keep the one of the hand-out"
    except TrainsOnImport as found:
        error = f"training{_line(found, network_file)}: move it into the notebook"
    except (ModuleNotFoundError, FileNotFoundError) as found:
        error = f"{found}{_line(found, network_file)}: put what it needs into the file, it is handed in alone"
    except NotImplementedError as found:
        error = f"{found}{_line(found, network_file)}: fill in the part marked in the hand-out"
    except BaseException as found:  # SystemExit, KeyboardInterrupt: whatever a file may raise is an answer
        first = (str(found).strip().splitlines() or [""])[0]
        gpu = "cuda" in first.lower() or "nvidia" in first.lower()
        advice = "it must run without a GPU, load and build on the CPU" if gpu else "mend it there"
        error = f"{type(found).__name__}: {first[:200]}{_line(found, network_file)}: {advice}"
    finally:
        for (owner, name), function in zip(patched, kept, strict=True):
            setattr(owner, name, function)
    left = sorted(path.name for path in set(Path.cwd().iterdir()) - before if path.name != "__pycache__")
    tell("import", error=error, printed=printed.getvalue()[:200], left=left)
    return error


class TrainsOnImport(BaseException):
    """Raised where a network file computes gradients while it is imported."""


def measure(network_file: Path, weights: Path, data: str, seconds: float, tell: object) -> None:
    """Loads the weights, runs a picture, counts the costs and, where `data` is given, scores what fits `seconds`."""
    import torch

    from utils.complexity import count_size, profile_model
    from utils.evaluation import check_output, load_model, student_code

    model = load_model(network_file, weights)
    stored = {name: tensor.dtype for name, tensor in torch.load(weights, map_location="cpu", weights_only=True).items()
              if isinstance(tensor, torch.Tensor)}
    held = {name: tensor.dtype for name, tensor in model.state_dict().items() if isinstance(tensor, torch.Tensor)}
    other = [name for name, dtype in stored.items() if held.get(name, dtype) != dtype]
    tell("load", types=[str(stored[other[0]]), str(held[other[0]]), len(other), len(stored)] if other else None)
    check_output(model, str(network_file))
    tell("output")
    with student_code(f"a network whose work can be counted, {network_file}"):
        profile = profile_model(model)
        size = count_size(model)
    tell("costs", flops=profile.flops, thop=profile.thop, unseen=profile.unseen[:4], size_kb=size)
    if data:
        score(model, data, seconds, str(network_file), tell)


def score(model: object, data: str, seconds: float, where: str, tell: object) -> None:
    """Tells the mIoU over the validation pictures, or over as many as fit in `seconds`, taken evenly from all."""
    import time

    import torch

    from dataset.batches import open_evaluation
    from dataset.sample import is_sample
    from utils.evaluation import evaluate

    batches, _ = open_evaluation(data, None, torch.device("cpu"), batch_size=1)
    total = len(batches.dataset)
    order = sorted(range(total), key=lambda index: (index * 0.6180339887498949) % 1)  # any first part is spread evenly
    taken, end = 0, time.monotonic() + seconds

    def pictures():
        nonlocal taken
        for index in order:
            if taken and time.monotonic() > end:
                return
            yield batches.take([index])
            taken += 1
            tell("scored", done=taken, total=total)

    metric = evaluate(model, pictures(), where, "scoring")
    tell("score", miou=metric.miou(), pictures=taken, total=total, sample=is_sample(data))


def _line(error: BaseException, network_file: Path) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(network_file)]
    return f" in line {frames[-1].lineno}" if frames else ""


if __name__ == "__main__":
    main()
