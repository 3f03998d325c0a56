"""Tries a network file in a process of its own: python probe.py TASK NETWORK_FILE [WEIGHTS [DATA SECONDS]].

Started by handin.trial in a folder that holds the network file alone. Nothing of the lab is imported before the network
file has been imported by itself, so a file that needs the lab's modules is found out. Each line of JSON on the original
stdout is a stage that begins, the progress of scoring, or a finding. What the network file prints goes to stderr.
"""
import contextlib
import importlib.util
import io
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class TrainsOnImport(BaseException):
    """Raised where a network file computes gradients while it is imported."""


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the parent answers Ctrl-C, in one line
    with contextlib.suppress(ValueError):
        sys.path.remove(str(Path(__file__).resolve().parent))
    sys.path[:] = [entry for entry in sys.path if entry and Path(entry).resolve() not in (ROOT, Path.cwd())]
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    number, name, weights, data, seconds = (sys.argv[1:] + [""] * 5)[:5]

    def tell(**line: object) -> None:
        channel.write(json.dumps(line) + "\n")
        channel.flush()

    def find(level: str, kind: str, text: str, line: int = 0) -> None:
        shown = text.replace(weights, Path(weights).name) if weights else text
        tell(level=level, subject=f"{kind} {number}", text=shown, line=line)

    import torch

    tell(stage="import")
    problem, line = import_alone(Path(name), torch)
    find("FAIL" if problem else "OK", "network",
         problem or f"{name}: imports in an empty folder, prints and leaves nothing", line)
    if weights and not problem:
        sys.path.insert(0, str(ROOT))
        from utils.lab import LabError

        try:
            model, flops, size = measure(Path(name), Path(weights), tell, find)
            tell(stage="export")
            prove(int(number), name, model, flops, find)
            if data:
                score(int(number), name, model, flops, size, data, float(seconds), tell, find)
        except LabError as error:
            find("FAIL", "weights", explain_cuda(str(error)))
    tell(stage="end")


def import_alone(network_file: Path, torch: object) -> tuple[str, int]:
    """Imports a network file: what it did that it must not, and in which line; ("", 0) where there is nothing."""
    before, printed = set(Path.cwd().iterdir()), io.StringIO()

    def replaced(owner: object, name: str) -> Callable[[], None]:
        # a function for each name: torch's compiler, which torchvision loads, takes one under two names for a mistake
        def trains(*_args: object, **_options: object) -> None:
            raise TrainsOnImport

        original = getattr(owner, name)
        setattr(owner, name, trains)
        return lambda: setattr(owner, name, original)

    restore = [replaced(owner, name) for owner, name in (
        (torch.Tensor, "backward"), (torch.autograd, "backward"), (torch.autograd, "grad"))]
    spec = importlib.util.spec_from_file_location("handed_in", network_file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where a dataclass, for one, looks up what its annotations mean
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            spec.loader.exec_module(module)
    except BaseException as error:  # SystemExit, KeyboardInterrupt: whatever a file may raise is an answer
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == spec.origin]
        line = frames[-1].lineno if frames else 0
        found, advice = _describe(error)
        where = f" in line {line}" if line else ""
        return (f"expected an import in an empty folder with nothing but torch, found {found}{where} of "
                f"{network_file.name}: {advice}"), line
    finally:
        for put_back in restore:
            put_back()
    left = sorted(path.name for path in set(Path.cwd().iterdir()) - before if path.name != "__pycache__")
    if not callable(getattr(module, "load_model", None)):
        return (f"expected a function load_model(MODEL_PATH), found none in {network_file.name}: keep the one of the "
                "hand-out"), 0
    if printed.getvalue().strip():
        return (f"expected an import that prints nothing, found {printed.getvalue().strip()[:60]!r} from "
                f"{network_file.name}: take the print() out, the test scripts' lines stand alone"), 0
    if left:
        return f"expected an import that writes nothing, found {left[0]} left by {network_file.name}: take it out", 0
    return "", 0


def _describe(error: BaseException) -> tuple[str, str]:
    """What an import raised, in a few words, and what to do."""
    first = (str(error).strip().splitlines() or [""])[0][:200]
    if isinstance(error, TrainsOnImport):
        return "training", "move it into the notebook"
    if isinstance(error, (ModuleNotFoundError, FileNotFoundError)):
        return first, "put what it needs into the file, it is handed in alone"
    if isinstance(error, NotImplementedError):
        return first, "fill in the part marked in the hand-out"
    if "cuda" in first.lower() or "nvidia" in first.lower():
        return f"{type(error).__name__}: {first}", "it must run without a GPU, load and build on the CPU"
    return f"{type(error).__name__}: {first}", "mend it there"


def explain_cuda(text: str) -> str:
    """An error of the network, with what to do in place of torch's own words about CUDA."""
    if "cuda" not in text.lower() and "nvidia" not in text.lower():
        return text
    return (f"{text.rpartition(': ')[0] or text}: load with map_location=\"cpu\" and build the network on the CPU, it "
            "is graded on machines without a GPU")


def measure(network_file: Path, weights: Path, tell: Callable, find: Callable) -> tuple[object, int, float]:
    """Loads the weights, tries the network, counts its costs; the model, FLOPs and KB. Raises LabError for a FAIL."""
    import torch

    from handin.outputs import doubt_outputs
    from utils.complexity import count_size, held_storages, left_by_passes, profile_model
    from utils.evaluation import check_output, load_model, student_code
    from utils.lab import LabError

    name = network_file.name
    tell(stage="load")
    model = load_model(network_file, weights)
    with student_code(f"a network whose size can be counted, {name}"):
        size, held = count_size(model), held_storages(model)
        state = model.state_dict()
    stored = torch.load(weights, map_location="cpu", weights_only=True)
    other = [key for key, tensor in stored.items() if isinstance(tensor, torch.Tensor)
             and isinstance(state.get(key), torch.Tensor) and state[key].dtype != tensor.dtype]
    if other:
        file_type, own_type = stored[other[0]].dtype, state[other[0]].dtype
        raise LabError(f"expected weights in the network's own type, found {file_type} in the file and {own_type} in "
                       f"the network for {len(other)} of {len(stored)} tensors in {weights}: what is measured is the "
                       f"network, save its state_dict as it is, or let load_model keep {file_type}")
    tell(stage="output")
    check_output(model, name)
    find("OK", "weights", f"{weights.name}: a state_dict of {len(stored)} tensors, loads strictly; an image "
                          "(3, 256, 512) gives logits (8, 256, 512)")
    with student_code(f"a forward pass, {name}"):
        for doubt in doubt_outputs(model, name):
            find("WARN", "network", doubt)
    tell(stage="costs")
    with student_code(f"a network whose work can be counted, {name}"):
        profile, left = profile_model(model), left_by_passes(model, held)
    text = f"{profile.flops:,} multiply-accumulates, {size:,.3f} KB"
    if profile.unseen:
        layers = ", ".join(layer or "the network itself" for layer in profile.unseen[:4])
        text += f": thop sees {profile.thop:,}, not {layers} of {name}; the larger count is the one that is graded"
    find("WARN" if profile.unseen else "OK", "costs", text)
    if left:
        find("WARN", "costs", f"expected a forward pass to leave nothing behind, found {left} in {name}, which does "
                              "not count: keep what forward needs in local variables")
    return model, profile.flops, size


def prove(number: int, name: str, model: object, flops: int, find: Callable) -> None:
    """Exports the network as the grader will, and says what its graph costs or what stops it."""
    from utils.evaluation import student_code
    from utils.graph import proof
    from utils.lab import LabError

    version = proof.torch_in_words()
    try:
        with student_code(f"a network that can be exported, {name}"):
            proved = proof.prove(model)
    except LabError as error:
        then = "a person will decide about its rank" if number == 2 else "the grader then runs its own code"
        find("WARN", "graph", f"{error}, by {version}: {then}")
        return
    text = (f"exported by {version}: {proved.nodes} operators, {proved.macs:,} multiply-accumulates, "
            f"{proved.size_kb:,.3f} KB, as the grader counts them")
    if proved.macs != flops:
        text += f"; the script counts {flops:,}"
    if proved.differing:
        text = f"expected the network's masks from its graph, found {proved.differing:.2%} of pixels others; {text}"
    find("WARN" if proved.differing > 1e-3 else "OK", "graph", text)


def score(number: int, name: str, model: object, flops: int, size: float, data: str, seconds: float, tell: Callable,
          find: Callable) -> None:
    """Finds the mIoU over the validation images, or over as many as `seconds` allow, taken evenly from all."""
    import time

    import torch

    from dataset.batches import open_evaluation
    from utils.complexity import figure_of_merit
    from utils.evaluation import evaluate
    from utils.lab import TASKS

    tell(stage="score")
    batches, _ = open_evaluation(data, None, torch.device("cpu"), batch_size=1)
    total = len(batches.dataset)
    order = sorted(range(total), key=lambda index: (index * 0.6180339887498949) % 1)  # any first part is spread evenly
    taken, end = 0, time.monotonic() + seconds

    def images() -> Iterator:
        nonlocal taken
        for index in order:
            if taken and time.monotonic() > end:
                return
            yield batches.take([index])
            taken += 1
            tell(done=taken, total=total)

    miou = evaluate(model, images(), name, "scoring").miou()
    sample, task = batches.dataset.folder.is_sample, TASKS[number]
    where = "the drawn sample, which tells nothing about Cityscapes" if sample else data
    text = f"{miou:.6f} on {'' if taken == total else f'{taken} of '}{total} validation images of {where}"
    if number == 2:
        fom = figure_of_merit(flops, size, miou)
        text += f"; FoM {'unranked' if fom is None else f'{fom:.6e}'}"
    if miou < task.miou:
        advice = ("score them all with --all" if taken < total else "pass --data, if you have Cityscapes" if sample
                  else "train longer, or on more")
        text = f"expected at least {task.miou}, found {text}: {advice}"
    find("WARN" if miou < task.miou else "OK", "mIoU", text)


if __name__ == "__main__":
    main()
