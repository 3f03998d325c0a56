"""One network and its weights on the staged pictures: from two files of a student's to the record of a task.

The child (inside.py) runs in a sandbox and sends masks and claims; the labels, the metric and the verdict are
here, and nothing of a student's is imported or unpickled here.
"""
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from grading import sandbox
from grading.records import empty_task
from grading.trials.claims import Claims, clean_text, read_claims
from grading.trials.costs import judge_costs
from grading.trials.flags import Source, read_source
from handin.weights import Contents, read_contents
from utils.complexity import figure_of_merit
from utils.files import replacing
from utils.lab import INPUT_SIZE, NUM_CLASSES, ROOT, LabError, Task
from utils.metric import ConfusionMatrix

INSIDE = ROOT / "grading" / "trials" / "inside.py"
PIXELS = INPUT_SIZE[0] * INPUT_SIZE[1]
WORST = 3  # pictures that are named in a record
SHOWN = {"start": "importing torch", "import": "importing the network file", "load": "loading the weights",
         "output": "a first forward pass", "costs": "counting the costs", "run": "scoring the pictures"}


@dataclass(frozen=True)
class Stage:
    """What all trials of a run share: `count` pictures in a file, shuffled.

    pictures: uint8 (256, 512, 3) one behind the other. order: int64 (N,), the split's index of each staged picture,
    which the children never see.
    """

    pictures: Path
    order: np.ndarray
    count: int


def stage_pictures(images: np.ndarray, folder: Path, secret: bytes) -> Stage:
    """Writes `images`, uint8 (N, 256, 512, 3), into `folder`, in an order that follows from `secret`."""
    if images.ndim != 4 or images.shape[1:] != (*INPUT_SIZE, 3) or images.dtype != np.uint8 or not len(images):
        raise LabError(f"expected pictures of uint8 (N, {INPUT_SIZE[0]}, {INPUT_SIZE[1]}, 3), found {images.dtype} "
                       f"{images.shape}: check the data")
    seed = int.from_bytes(hashlib.sha256(b"order of the pictures" + secret).digest(), "big")
    order = np.random.default_rng(seed).permutation(len(images))
    path = Path(folder) / "pictures"
    with replacing(path) as temporary, temporary.open("wb") as file:
        for index in order:
            file.write(np.ascontiguousarray(images[index]).data)
    return Stage(path, order, len(images))


def try_task(task: Task, network: Path, weights: Path, stage: Stage, targets: np.ndarray, names: list[str],
             level: sandbox.Level, limits: sandbox.Limits, gpu: int | None = None, threads: int = 1
             ) -> tuple[dict, np.ndarray | None]:
    """Scores a submission's network in a sandbox: the record of the task, and its masks.

    targets: uint8 (N, 256, 512), and the pictures' `names`, both in the split's order. The masks, uint8 (N, 256, 512),
    come in the same order; None unless all N arrived and hold classes alone. Raises LabError only for what is not the
    submission's fault.
    """
    for path in (network, weights):
        if not Path(path).is_file():
            return empty_task("MISSING_FILE", f"expected {Path(path).name}, found no such file"), None
    source, contents = read_source(network), _read_weights(weights)
    arguments = [f"network_task{task.number}.py", task.model_file, "pictures", str(stage.count),
                 "cpu" if gpu is None else "cuda"]
    inputs = dict(zip(arguments, (network, weights, stage.pictures), strict=False))
    size = stage.count * PIXELS
    outcome = sandbox.run(level, INSIDE, arguments, inputs, limits, size, gpu, threads)
    claims = read_claims(outcome.report)
    state, why = judge_outcome(outcome, claims, size, limits)
    masks = _unshuffle(outcome.answer, stage) if state == "OK" else None
    if state == "OK" and masks is None:
        state, why = "SHAPE_ERROR", f"expected masks of classes 0..{NUM_CLASSES - 1}, found larger values"

    record = empty_task(state, why) | {
        "flags": source.flags, "layers": claims.layers, "parameters": claims.numbers.get("parameters"),
        "log": outcome.log, "seconds": round(outcome.seconds, 3), "level": level.value,
        "device": "cpu" if gpu is None else f"cuda:{gpu}", "stages": claims.stages}
    if masks is not None:
        record |= _score(masks, targets, names)
        record |= _weigh(task, record, claims, contents, source, Path(weights).stat().st_size)
        record["state"] = "FLAGGED" if record["flags"] else "OK"
    return record, masks


def judge_outcome(outcome: sandbox.Outcome, claims: Claims, expected: int, limits: sandbox.Limits) -> tuple[str, str]:
    """The state of a child that has ended, and why; "OK" says that all was sent, not yet that it is valid.

    expected: bytes of all masks.
    """
    doing, got = SHOWN[claims.stage], len(outcome.answer)
    masks = f"{got // PIXELS} of {expected // PIXELS} masks"
    if outcome.overflow:
        return "SHAPE_ERROR", f"expected {expected // PIXELS} masks of {PIXELS:,} bytes, found more"
    if outcome.reason in ("wall time", "cpu time"):
        most = limits.wall if outcome.reason == "wall time" else limits.cpu
        return "TIMEOUT", f"expected an end within {most:g} s of {outcome.reason}, found it still {doing} ({masks})"
    if outcome.reason == "memory":
        return "OUT_OF_MEMORY", f"expected at most {limits.memory / (1 << 30):g} GiB of memory, found more, {doing}"
    if outcome.reason:
        return "CRASH", f"expected no more than the limit on {outcome.reason} allows, found more, {doing}"
    if claims.error:
        stage = claims.stage
        if claims.kind == "memory":
            return "OUT_OF_MEMORY", claims.error
        broken = {"import": "IMPORT_ERROR", "load": "LOAD_ERROR"}.get(stage)
        return broken or ("SHAPE_ERROR" if claims.kind == "contract" else "CRASH"), claims.error
    if not claims.done:
        last = clean_text(outcome.log.strip().splitlines()[-1], 200) if outcome.log.strip() else "without a word"
        return "CRASH", (f"expected an answer, found the process gone with status {outcome.status} while {doing} "
                         f"({masks}; {last})")
    if got != expected:
        return "SHAPE_ERROR", f"expected {expected:,} bytes of masks, found {got:,}"
    return "OK", ""


def _read_weights(path: Path) -> Contents | None:
    try:
        return read_contents(path)
    except Exception:  # hostile bytes trip zipfile and pickletools in ways of their own
        return None  # a flag; its own loader has the last word, in the sandbox


def _unshuffle(answer: bytes, stage: Stage) -> np.ndarray | None:
    sent = np.frombuffer(answer, np.uint8).reshape(stage.count, *INPUT_SIZE)
    if sent.max() >= NUM_CLASSES:
        return None
    masks = np.empty_like(sent)
    masks[stage.order] = sent
    return masks


def _score(masks: np.ndarray, targets: np.ndarray, names: list[str]) -> dict:
    """The figures of the whole split, and its worst pictures."""
    whole, each = ConfusionMatrix(), []
    for target, mask in zip(targets, masks, strict=True):
        one = ConfusionMatrix()
        one.update(np.array(target), mask)  # a copy: a cache cannot be written, of which torch warns
        whole.merge(one)
        each.append(one.miou())
    worst = np.argsort(each, kind="stable")[:WORST]  # a picture without a labelled pixel is NaN and comes last
    return {"miou": _number(whole.miou()), "iou": [_number(value) for value in whole.iou()],
            "confusion": whole.counts.tolist(), "accuracy": _number(whole.accuracy()),
            "pictures": [{"name": names[index], "miou": _number(each[index]), "file": ""} for index in worst]}


def _weigh(task: Task, record: dict, claims: Claims, contents: Contents | None, source: Source, file_bytes: int
           ) -> dict:
    """The costs that rank, the figure of merit and all flags."""
    costs = judge_costs(claims, contents, source.literal_bytes, file_bytes)
    flags, fom = [*record["flags"], *costs.flags], None
    if not costs.flops or not costs.size_kb:
        flags.append({"code": "FREE", "text": f"expected a network that costs something, found {costs.flops} "
                                              f"multiply-accumulates and {costs.size_kb} KB"})
    elif task.number == 2 and record["miou"] is not None:
        fom = figure_of_merit(costs.flops, costs.size_kb, record["miou"])
    return {"flops": costs.flops, "size_kb": costs.size_kb, "fom": fom, "costs": costs.claimed, "flags": flags}


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
