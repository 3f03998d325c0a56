"""One network on the staged images: from two files of a student's to the record of a task.

1. A sandboxed child runs the student's code: it loads the network and exports it as a graph.
2. The graph is checked and written again here; a second sandboxed child, without the student's code, replays it on the
   images. Its masks are scored here, and its counts are the costs that rank.
3. A network that cannot be exported is run by its own code on the images. Its masks are scored; its cost is
   unverified, and a person decides whether it ranks.

Labels, metric and verdict are here; nothing of a student's is imported or unpickled here.
"""
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from grading.records import empty_task
from grading.trial import sandbox
from grading.trial.claims import STAGES, Claims, clean_text, read_claims
from grading.trial.costs import doubt_seams, doubts
from grading.trial.sandbox.leftovers import temporary_folder
from grading.trial.stage import PIXELS, StagedImages, stage_images
from utils.complexity import figure_of_merit
from utils.files import replacing
from utils.graph.errors import GraphError
from utils.graph.schema import MOST_BYTES, parse
from utils.lab import NUM_CLASSES, ROOT, Task
from utils.metric import ConfusionMatrix

__all__ = ["PIXELS", "Proof", "StagedImages", "stage_images", "try_task"]
INSIDE = ROOT / "grading" / "trial" / "inside.py"
MOST_TENSOR_BYTES = 1 << 30  # of an exported network
WORST = 3     # images that are named in a record
SLOWER = 3    # times as long may a network take that is run by its own code, on the CPU
SHOWN = {"start": "importing torch", "import": "importing the network file", "load": "loading the weights",
         "output": "a first forward pass", "export": "exporting the network", "run": "scoring the images"}


@dataclass(frozen=True)
class Proof:
    """An exported network: its graph as canonical JSON, and its tensors as safetensors, neither of which is code."""

    graph: bytes
    tensors: bytes

    def save(self, graph: Path, tensors: Path) -> None:
        for path, content in ((graph, self.graph), (tensors, self.tensors)):
            with replacing(path) as temporary:
                temporary.write_bytes(content)

    @property
    def hashes(self) -> dict[str, str]:
        return {"graph": hashlib.sha256(self.graph).hexdigest(), "tensors": hashlib.sha256(self.tensors).hexdigest()}


def try_task(task: Task, network: Path, weights: Path, staged: StagedImages, targets: np.ndarray, names: list[str],
             level: sandbox.Level, limits: sandbox.Limits, gpu: int | None = None, threads: int = 1
             ) -> tuple[dict, np.ndarray | None, Proof | None]:
    """Scores a submission's network: the record of the task, its masks, and the exported network.

    targets: uint8 (N, 256, 512), and the images' `names`, both in the split's order. The masks, uint8 (N, 256, 512),
    come in the same order; None unless all N arrived and hold classes alone. Raises LabError only for what is not the
    submission's fault.
    """
    for path in (network, weights):
        if not Path(path).is_file():
            return empty_task("MISSING_FILE", f"expected {Path(path).name}, found no such file"), None, None
    files = {f"network_task{task.number}.py": network, task.model_file: weights}
    outcome = sandbox.run(level, INSIDE, ["export", *files], files, limits, 8 + MOST_BYTES + MOST_TENSOR_BYTES, None,
                          threads)
    claims = read_claims(outcome.report, STAGES["export"])
    record = empty_task("", "") | {"log": outcome.log, "seconds": outcome.seconds, "level": level.value,
                                   "device": "cpu" if gpu is None else f"cuda:{gpu}", "stages": claims.stages}
    state, why, proof = _read_export(outcome, claims, limits)
    if state != "OK":
        return record | {"state": state, "why": why}, None, None
    masks = None
    if proof is not None:
        found, masks, why = replay(task, proof, staged, targets, names, level, limits, gpu, threads)
        proof = proof if masks is not None or not why else None
    if proof is None:
        found, masks = _run_unproved(task, files, staged, targets, names, level, limits, threads, why)
    found["seconds"] = round(record["seconds"] + found["seconds"], 3)
    found["log"] = record["log"] + found["log"]
    return record | found | {"stages": {**record["stages"], **found["stages"]}}, masks, proof


def replay(task: Task, proof: Proof, staged: StagedImages, targets: np.ndarray, names: list[str], level: sandbox.Level,
           limits: sandbox.Limits, gpu: int | None = None, threads: int = 1) -> tuple[dict, np.ndarray | None, str]:
    """Scores an exported network without the student's code: entries of the record, masks, why it is no proof.

    The reason is "" unless an operator refused: then the network has to be run by its own code.
    """
    with temporary_folder("lab-replay-") as folder:
        files = {"graph.json": folder / "graph.json", "tensors.safetensors": folder / "tensors.safetensors"}
        proof.save(*files.values())
        outcome, claims = _on_images("replay", files, staged, level, limits, gpu, threads,
                                     "cpu" if gpu is None else "cuda")
    found = {"seconds": outcome.seconds, "log": outcome.log,
             "stages": {f"replay {stage}": seconds for stage, seconds in claims.stages.items()}}
    if claims.error and claims.kind == "unproved":
        return found, None, claims.error
    state, why = judge_outcome(outcome, claims, staged.count * PIXELS, limits)
    masks = staged.unshuffle(outcome.answer) if state == "OK" else None
    told = claims.numbers
    if state != "OK" or masks is None or not {"macs", "least_macs", "bytes", "number_bytes"} <= told.keys():
        state = "CRASH" if state == "OK" else state
        return found | {"state": state, "why": why or "the replay's report is not whole"}, None, ""
    flops, size_kb = told["macs"], (told["bytes"] + told["number_bytes"]) / 1024
    flags = doubts(told)
    if not flops or not size_kb:
        flags = [*flags, {"code": "FREE", "text": f"expected a network that costs something, found {flops} "
                                                  f"multiply-accumulates and {size_kb} KB"}]
    return found | _score(task, masks, staged, targets, names, flops, size_kb, flags) | {
        "layers": claims.layers, "parameters": told.get("parameters"), "costs": told,
        "proof": {**proof.hashes, "nodes": told.get("nodes"), "unused": told.get("unused"), "unproved": ""}
    }, masks[:staged.size], ""


def judge_outcome(outcome: sandbox.Outcome, claims: Claims, expected: int | None, limits: sandbox.Limits
                  ) -> tuple[str, str]:
    """The state of a child that has ended, and why; "OK" says that all was sent, not yet that it is valid.

    expected: bytes of all masks; None where it answers something else.
    """
    doing, got = SHOWN[claims.stage], len(outcome.answer)
    masks = "" if expected is None else f" ({got // PIXELS} of {expected // PIXELS} masks)"
    if outcome.overflow:
        return "SHAPE_ERROR", f"expected an answer of at most {got:,} bytes, found more"
    if outcome.reason in ("wall time", "cpu time"):
        most = limits.wall if outcome.reason == "wall time" else limits.cpu
        return "TIMEOUT", f"expected an end within {most:g} s of {outcome.reason}, found it still {doing}{masks}"
    if outcome.reason == "memory":
        return "OUT_OF_MEMORY", f"expected at most {limits.memory / (1 << 30):g} GiB of memory, found more, {doing}"
    if outcome.reason:
        return "CRASH", f"expected no more than the limit on {outcome.reason} allows, found more, {doing}"
    if claims.error:
        if claims.kind == "memory":
            return "OUT_OF_MEMORY", claims.error
        broken = {"import": "IMPORT_ERROR", "load": "LOAD_ERROR"}.get(claims.stage)
        return broken or ("SHAPE_ERROR" if claims.kind == "contract" else "CRASH"), claims.error
    if not claims.done:
        last = clean_text(outcome.log.strip().splitlines()[-1], 200) if outcome.log.strip() else "without a word"
        return "CRASH", (f"expected an answer, found the process gone with status {outcome.status} while {doing}"
                         f"{masks}: {last}")
    if expected is not None and got != expected:
        return "SHAPE_ERROR", f"expected {expected:,} bytes of masks, found {got:,}"
    return "OK", ""


def _read_export(outcome: sandbox.Outcome, claims: Claims, limits: sandbox.Limits) -> tuple[str, str, Proof | None]:
    """The state of the child that exports, why, and the exported network; None with "OK": it cannot be proved."""
    if claims.error and (claims.kind == "unproved" or claims.stage == "export"):
        return "OK", claims.error, None
    state, why = judge_outcome(outcome, claims, None, limits)
    if state != "OK":
        return state, why, None
    length = int.from_bytes(outcome.answer[:8], "big")
    try:
        if length > len(outcome.answer) - 8:
            raise GraphError(f"expected a graph of {length:,} bytes, found {len(outcome.answer):,} in all")
        graph = parse(outcome.answer[8:8 + min(length, MOST_BYTES + 1)]).canonical()
    except GraphError as error:
        return "OK", str(error), None
    return "OK", "", Proof(graph, outcome.answer[8 + length:])


def _run_unproved(task: Task, files: dict[str, Path], staged: StagedImages, targets: np.ndarray, names: list[str],
                  level: sandbox.Level, limits: sandbox.Limits, threads: int, reason: str
                  ) -> tuple[dict, np.ndarray | None]:
    """Scores a network by its own code: entries of the record, with what it says that it costs, and masks."""
    outcome, claims = _on_images("run", files, staged, level, limits.longer(SLOWER), None, threads)
    found = {"seconds": outcome.seconds, "log": outcome.log, "proof": {"unproved": reason},
             "stages": {f"run {stage}": seconds for stage, seconds in claims.stages.items()}}
    state, why = judge_outcome(outcome, claims, staged.count * PIXELS, limits.longer(SLOWER))
    masks = staged.unshuffle(outcome.answer) if state == "OK" else None
    if masks is None:
        if state == "OK":
            state, why = "SHAPE_ERROR", f"expected masks of classes 0..{NUM_CLASSES - 1}, found larger values"
        return found | {"state": state, "why": why}, None
    flops, held = claims.numbers.get("flops"), claims.numbers.get("held")
    flags = [{"code": "COST_UNVERIFIED", "text": f"its cost could not be proved: {reason}; it says {flops} "
                                                 f"multiply-accumulates and {held} bytes"}] if task.number == 2 else []
    found |= _score(task, masks, staged, targets, names, flops, held / 1024 if held else None, flags)
    if task.number == 2:
        found["state"] = "COST_UNVERIFIED"
    return found, masks[:staged.size]


def _on_images(mode: str, files: dict[str, Path], staged: StagedImages, level: sandbox.Level, limits: sandbox.Limits,
               gpu: int | None, threads: int, *more: str) -> tuple[sandbox.Outcome, Claims]:
    inputs = {**files, "images": staged.images}
    outcome = sandbox.run(level, INSIDE, [mode, *inputs, str(staged.count), *more], inputs, limits,
                          staged.count * PIXELS, gpu, threads)
    return outcome, read_claims(outcome.report, STAGES[mode])


def _score(task: Task, masks: np.ndarray, staged: StagedImages, targets: np.ndarray, names: list[str],
           flops: int | None, size_kb: float | None, flags: list[dict[str, str]]) -> dict:
    """The figures of the whole split, its worst images, the figure of merit and the flags."""
    whole, each = ConfusionMatrix(), []
    for target, mask in zip(targets, masks[:staged.size], strict=True):
        one = ConfusionMatrix()
        one.update(np.array(target), mask)  # a copy: a cache cannot be written, of which torch warns
        whole.merge(one)
        each.append(one.miou())
    seams = staged.seams(masks, targets)
    if task.number == 2:
        flags = [*flags, *doubt_seams(seams)]
    worst = np.argsort(each, kind="stable")[:WORST]  # an image without a labeled pixel is NaN and comes last
    miou, fom = _number(whole.miou()), None
    if task.number == 2 and flops and size_kb and miou is not None:
        fom = figure_of_merit(flops, size_kb, miou)
    return {"state": "FLAGGED" if flags else "OK", "why": "", "miou": miou, "iou": list(map(_number, whole.iou())),
            "confusion": whole.counts.tolist(), "accuracy": _number(whole.accuracy()), "flops": flops,
            "size_kb": size_kb, "fom": fom, "flags": flags, "composites": {
                "number": len(staged.composites), "miou": _number(seams.composites), "whole": _number(seams.whole)},
            "images": [{"name": names[index], "miou": _number(each[index]), "file": ""} for index in worst]}


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)

