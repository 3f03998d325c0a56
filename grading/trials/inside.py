"""A network's trial, inside the sandbox: python inside.py NETWORK WEIGHTS PICTURES COUNT DEVICE.

The three names are of files in the folder LAB_INPUTS: the submitted network file and weights, and COUNT pictures of
uint8 (256, 512, 3), one behind the other. What comes back goes through two pipes and nothing else: COUNT masks of uint8
(256, 512) through LAB_ANSWER_FD, in the order of the pictures, and one line of JSON for each stage that is over through
LAB_REPORT_FD (claims.py reads them). The submission runs in this very process and may forge all of it: the masks
are scored elsewhere, against labels that never come here, and the costs are claims that are compared with each other.

Started by grading.trials, imported by nobody; it sees no other file of this folder.
"""
import contextlib
import json
import os
import re
import sys
import time
from pathlib import Path

import torch
from thop.profile import register_hooks
from thop.vision.basic_hooks import zero_ops
from torch import Tensor, nn
from torch.utils import flop_counter
from torch.utils._python_dispatch import TorchDispatchMode

from dataset.augment import normalise
from utils.complexity import PRODUCTS, Profile, count_size, layer_table, profile_model
from utils.evaluation import (
    build_model,
    check_output,
    check_weights,
    deterministic,
    load_network,
    predict,
    student_code,
)
from utils.lab import INPUT_SIZE, LabError
from utils.machine import keep_memory

# A copy: the submission can reach the originals.
COUNTS = dict(flop_counter.flop_registry) | {op: flop_counter.shape_wrapper(rule) for op, rule in PRODUCTS.items()}
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
# Work that no counter knows, where it has no rule. Other operators without one write what they compute, and that is
# added up. Some are here because in inference mode they are seen in place of what they do.
STRANGE = re.compile(r"aten::(_?fft_\w+|(add)?mv_?|\w*mm(_\w*)?|\w*(matmul|einsum|dot|bmm|attention)\w*|"
                     r"\w*conv(?!ert)\w*|(?!_?upsample)\w*linear\w*|\w*(?<!re)solve\w*|\w*(cholesky|ormqr)\w*|"
                     r"_?linalg_(?!vector_norm|_powsum|cross|diagonal)\w+|_?embedding_bag\w*|fbgemm\w*|"
                     r"_weight_int\w*|_?cdist\w*|mkldnn_\w+|\w*(lstm|gru|rnn)\w*|\w*sparse\w*|_trilinear|"
                     r"_transformer_encoder_layer_fwd|\w*quantized\w*)(\.\w+)?|(?!aten::|prims?::|profiler::).*")
MOST_ROWS, LONGEST = 120, 60  # of the layer table, and characters of a name: the report has 64 KB
OUT_OF_MEMORY = re.compile(r"out of memory|not enough memory|(can't|cannot) allocate|bad_alloc", re.IGNORECASE)


class Ledger(TorchDispatchMode):
    """Counts what is dispatched: multiply-accumulates by torch's own formulas, and the elements that all else writes.

    FlopCounterMode would take the resizes apart into some hundred small operators, which costs as much time as a small
    network and rounds differently. Here everything runs as it does without a counter.
    """

    supports_higher_order_operators = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # otherwise the first operator loads torch's compiler, which takes as long as torch itself

    def __init__(self) -> None:
        super().__init__()
        self.flops, self.elements, self.strange = 0, 0, set()
        self._rules = {}

    @property
    def macs(self) -> int:
        return self.flops // 2

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func not in self._rules:
            self._rules[func] = self._find_rule(func)
        count, shaped, writes = self._rules[func]
        if shaped:
            self.flops += count(*map(_shape, args), out_shape=_shape(out), **{k: _shape(v) for k, v in kwargs.items()})
        elif count:
            self.flops += count(*args, out_val=out, **kwargs)
        first = out[0] if isinstance(out, (tuple, list)) and out else out
        if isinstance(first, Tensor):
            if writes:
                self.elements += first.numel()
            if first.is_complex():  # whose products are four of real numbers
                self.strange.add(f"{_name(func)} (complex)")
        return out

    def _find_rule(self, func: object) -> tuple[object, bool, bool]:
        """The formula, whether it takes shapes alone, and whether the elements are counted instead."""
        count = COUNTS.get(getattr(func, "_overloadpacket", func))
        if count is not None:
            # torch's wrapper walks all arguments for their shapes, which takes longer than a small convolution
            formula = getattr(count, "__wrapped__", None)
            return formula or count, formula is not None, False
        name = _name(func)
        if STRANGE.fullmatch(name):
            self.strange.add(name)
        return None, False, not getattr(func, "is_view", False) and not name.startswith("aten::empty")


def spare_compiler() -> None:
    """Keeps torch's own counter from loading the compiler as well (see Ledger): nothing is compiled here."""
    for mode in (flop_counter.FlopCounterMode, getattr(flop_counter, "_FlopCounterMode", None)):
        inner = getattr(vars(mode).get("__torch_dispatch__"), "__wrapped__", None) if mode else None
        if inner:
            mode.__torch_dispatch__ = inner


def _name(func: object) -> str:
    return func.name() if callable(getattr(func, "name", None)) else str(func)


def _shape(value: object) -> object:
    return value.shape if isinstance(value, Tensor) else value


class Watched(nn.Module):
    """`model` with a Ledger, `last`, which holds the counts of the latest pass."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.last = model, Ledger()

    def forward(self, x: Tensor) -> Tensor:
        ledger = self.last
        ledger.flops = ledger.elements = 0
        # In inference mode the dispatcher shows compound operators, a linear layer say, instead of what they do.
        with torch.inference_mode(False), torch.no_grad(), ledger:
            return self.model(x)


def main() -> None:
    inputs = Path(os.environ["LAB_INPUTS"])
    network, weights, pictures = (inputs / name for name in sys.argv[1:4])
    count, device = int(sys.argv[4]), torch.device(sys.argv[5])
    answer = os.fdopen(int(os.environ.pop("LAB_ANSWER_FD")), "wb")
    report = os.fdopen(int(os.environ.pop("LAB_REPORT_FD")), "wb")
    stages = ["start", "import", "load", "output", "costs", "run"]
    lap = time.perf_counter() - time.process_time()  # the imports above belong to the first stage

    def tell(**facts: object) -> None:
        nonlocal lap
        now = time.perf_counter()
        line = {"stage": stages[0], "seconds": round(now - lap, 4), **facts}
        report.write(json.dumps(line, ensure_ascii=False).replace(f"{inputs}{os.sep}", "").encode("utf-8", "replace"))
        report.write(b"\n")
        report.flush()
        del stages[0]
        lap = now

    status = 0
    try:
        try_submission(network, weights, pictures, count, device, answer, tell)
    except BaseException as error:  # a submission may raise anything
        with contextlib.suppress(Exception):
            original = error.__context__ if isinstance(error, LabError) else error
            text = str(error) if isinstance(error, LabError) else f"{type(error).__name__}: {error}"
            tell(error=text[:600], kind=_kind(original))
        status = 1
    # Not sys.exit: what the submission left for the end (atexit, threads, finalisers) has no business here.
    os._exit(status)


def try_submission(network: Path, weights: Path, pictures: Path, count: int, device: torch.device, answer, tell
                   ) -> None:
    """All stages; each tells when it is over. Raises LabError as utils.evaluation does."""
    if device.type == "cpu":
        keep_memory()
    spare_compiler()
    torch.backends.mha.set_fastpath_enabled(False)  # it hides attention's products from the dispatcher
    where, ledger = network.name, Ledger()
    tell()

    with ledger:
        module = load_network(network)
    tell(early=ledger.macs)

    check_weights(weights)
    with ledger:
        model = build_model(module, network, weights)
    with student_code(f"a network whose size can be counted, {where}"):
        model.eval()
        facts = {"held_before": round(count_size(model) * 1024), "parameters": _parameters(model),
                 "subclassed": [_cut(f"{name} ({type(layer).__name__})") for name, layer in model.named_modules()
                                if _is_hidden_type(layer)][:20]}
    tell(early=ledger.macs, **facts)

    watched = Watched(model)
    check_output(watched, where)
    tell(pair=watched.last.macs)

    tell(**count_costs(model, watched, where))

    model.to(device)
    smallest, largest = None, 0
    picture = torch.empty(1, *INPUT_SIZE, 3, dtype=torch.uint8)
    with pictures.open("rb") as file, deterministic():
        for _ in range(count):
            if file.readinto(picture.numpy()) != picture.numel():
                raise LabError(f"expected {count} pictures, found fewer in {pictures.name}")
            pred = predict(watched, normalise(picture.to(device)), where)
            answer.write(pred.cpu().numpy().tobytes())
            macs = watched.last.macs
            smallest, largest = macs if smallest is None else min(smallest, macs), max(largest, macs)
    answer.flush()
    with student_code(f"a network whose size can be counted, {where}"):
        held = round(count_size(model) * 1024)
    tell(smallest=smallest or 0, largest=largest, held_after=held)


def count_costs(model: nn.Module, watched: Watched, where: str) -> dict[str, object]:
    """The lab's two counts, where they differ, and the layer table; `uncounted` says why where thop cannot count."""
    predict(watched, torch.zeros(1, 3, *INPUT_SIZE), where)
    facts = {"zeros": watched.last.macs, "elements": watched.last.elements,
             "strange": sorted(map(_cut, watched.last.strange))[:20]}
    try:
        with student_code(f"a network whose work can be counted, {where}"):
            profile = profile_model(model)
    except LabError as error:
        return {**facts, "uncounted": str(error)[:400]}
    return {**facts, "thop": profile.thop, "dispatched": profile.dispatched, **compare_counts(model, profile),
            "layers": layer_rows(model, profile)}


def compare_counts(model: nn.Module, profile: Profile) -> dict[str, int]:
    """MACs of convolutions and products: what thop counts (seen) and misses (hidden), and what never runs (idle).

    thop's rules for other layers (batch norm, resizes) have no counterpart in the dispatcher and are left out. It
    counts a transposed convolution by its output, stride^2 times too high: one that runs is taken as it ran.
    """
    seen = hidden = idle = 0
    for name, module in model.named_modules():
        ran = profile.dispatched_by_module.get(name, 0)
        counted = 0
        if type(module) in (*CONVOLUTIONS, *TRANSPOSED, nn.Linear):
            counted = profile.thop_by_module.get(name, 0)
        if type(module) in TRANSPOSED and ran and counted >= ran:
            counted = ran
        seen, hidden, idle = seen + counted, hidden + max(0, ran - counted), idle + max(0, counted - ran)
    return {"seen": seen, "hidden": hidden, "idle": idle}


def layer_rows(model: nn.Module, profile: Profile) -> list[dict[str, object]]:
    """The lab's layer table as JSON's types; of a very deep network the largest rows."""
    rows = [{"name": _cut(row.name), "type": _cut(row.type), "output": list(row.output_shape or ())[:6],
             "parameters": row.parameters, "macs": row.macs, "share": round(row.share, 6)}
            for row in layer_table(model, profile=profile)]
    kept = {id(row) for row in sorted(rows, key=lambda row: (-row["macs"], -row["parameters"]))[:MOST_ROWS]}
    return [row for row in rows if id(row) in kept]


def _is_hidden_type(layer: nn.Module) -> bool:
    """Whether it derives from a layer that thop counts: thop goes by the exact type, and counts nothing for it."""
    counted = tuple(kind for kind, rule in register_hooks.items() if rule is not zero_ops)
    inner = nn.modules.linear.NonDynamicallyQuantizableLinear  # nn.MultiheadAttention's own
    return isinstance(layer, counted) and type(layer) not in (*counted, inner)


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST - 3] + "..."


def _kind(error: BaseException | None) -> str:
    """What a person would call it: the contract was broken, memory ran out, or something was raised."""
    if error is None:
        return "contract"
    memory = isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)) or OUT_OF_MEMORY.search(str(error))
    return "memory" if memory else "raised"


if __name__ == "__main__":
    main()
