"""Fewer bits for a trained network's weights, and for its arithmetic: what they save and what they cost.

    python -m training.quantise model_task2.pth --to int8 --out model_int8.pth   writes the weights in 8 bits
    python -m training.quantise model_task2.pth --compare data                   scores all kinds side by side

The weights are stored by the network file's own `store`, so that its `load_model` reads them back. Integer inference,
where the products themselves are of 8 bits, is torch's own (torch.ao.quantization, Jacob et al., "Quantization and
training of neural networks for efficient integer-arithmetic-only inference", 2018): it needs no second training, only
some training pictures from which the range of every layer's output is taken. It is there to be compared; what is handed
in are weights that `load_model` reads.
"""
import argparse
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor, fx, nn

from dataset.batches import Batches, open_evaluation
from dataset.dataset import SegmentationDataset
from dataset.reader import find_data
from training.contents import require_float
from training.runs import save_weights
from utils.complexity import count_size, profile_model
from utils.evaluation import build_model, check_weights, evaluate, load_network, student_code
from utils.lab import TASKS, LabError
from utils.terminal import run_main
from utils.timing import time_network

DTYPES = ("float16", "int8")
CALIBRATION = 32  # training pictures from which the ranges are taken


def load_stores(network_file: Path, model_path: Path) -> dict[str, nn.Module]:
    """The network in `model_path` under "float32", and as the network file's `store` makes it under each of DTYPES.

    Raises LabError for a file without `store`, and for weights that are stored in fewer bits already.
    """
    check_weights(model_path)
    network = load_network(network_file)
    if not callable(getattr(network, "store", None)):
        raise LabError(f"expected a function store(network, dtype), found none in {network_file}: keep the hand-out's")
    model = build_model(network, network_file, model_path).eval()
    require_float(model.state_dict(), f"in {model_path}", torch.int64)  # batch norms count their steps
    with student_code(f"a function store(network, dtype) that keeps the network, {network_file}"):
        return {"float32": model} | {dtype: network.store(model, dtype).eval() for dtype in DTYPES}


def costs(model: nn.Module) -> tuple[float, int]:
    """Size in KB and multiply-accumulates, as they are graded."""
    return count_size(model), profile_model(model).flops


class _Tracer(fx.Tracer):
    """Takes a check of the input's shape (`if x.ndim != 4: raise`) for passed; `integer_inference` verifies that."""

    def to_bool(self, obj: fx.Proxy) -> bool:
        return False


def integer_inference(model: nn.Module, pictures: Iterable[Tensor]) -> nn.Module:
    """A folded float32 `model` as torch computes it in 8-bit integers on a CPU, quantised after training.

    pictures: batches (N, 3, H, W), normalised, of the training split; each layer's range is taken from them. Weights
    have a step size for each filter, what flows between the layers one for each tensor. Raises LabError where this
    torch has no such tools or no kernels for this processor, and for a network that they cannot take apart.
    """
    try:
        from torch.ao.quantization import get_default_qconfig_mapping
        from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx
        engine = torch.backends.quantized.engine
        settings = get_default_qconfig_mapping(engine)
    except (ImportError, AttributeError, AssertionError, ValueError) as error:
        # torch has announced that they will go; torchao, which replaces them, needs a compiler to be fast.
        raise LabError(f"expected torch.ao.quantization and its kernels, found none in torch {torch.__version__} "
                       f"({type(error).__name__}): compare on a torch that has them, 2.4 to 2.15 do") from None
    pictures = list(pictures)
    try:
        traced = fx.GraphModule(model, _Tracer().trace(model))
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the deprecation, at every step
            same = torch.equal(traced(pictures[0]), model(pictures[0]))
            watched = prepare_fx(traced, settings, (pictures[0],))
            for data in pictures:
                watched(data)
            integer = convert_fx(watched)
    except (fx.proxy.TraceError, TypeError, RuntimeError, NotImplementedError) as error:
        raise LabError(f"expected a network that torch can take apart for integer inference, found "
                       f"{type(error).__name__} ({str(error).splitlines()[0][:150]}): its forward must not depend on "
                       "what the tensors hold") from None
    if not same:
        raise LabError("expected a network whose forward always takes the same way, found one that does not: integer "
                       "inference cannot take it apart")
    return integer.eval()


def compare(stores: dict[str, nn.Module], data: str | None) -> Iterator[str]:
    """A table, line by line: each kind's mIoU on the validation split, KB, multiply-accumulates and CPU time."""
    train_set = SegmentationDataset(find_data(data), "train")
    chosen = torch.linspace(0, len(train_set) - 1, min(CALIBRATION, len(train_set))).long()
    calibration = Batches(train_set, 1)
    batches, description = open_evaluation(data, None, torch.device("cpu"))
    yield f"{description}; integer inference calibrated on {len(chosen)} training pictures"
    yield f"{'weights':8} {'computed in':11} {'mIoU':>8} {'KB':>9} {'MACs':>13} {'ms/picture':>10}"
    kinds = [(name, "float16" if name == "float16" else "float32", model) for name, model in stores.items()]
    note = None
    try:
        integer = integer_inference(stores["float32"], (calibration.take([index])[0] for index in chosen.tolist()))
        kinds.append(("int8", "int8", integer))
    except LabError as error:
        note = f"no integer inference here: {error}"
    for weights, computed, model in kinds:
        (size, macs), ms = costs(model), time_network(model)
        miou = evaluate(model, batches, f"{weights} weights", f"{weights} weights, {computed}").miou()
        yield f"{weights:8} {computed:11} {miou:8.4f} {size:9.3f} {macs:13,} {ms:10.1f}"
    if note:
        yield note


def describe(before: nn.Module, after: nn.Module, dtype: str) -> str:
    """Both networks' size and work, and what becomes of the FoM if the mIoU stays."""
    rows = {"float32": costs(before), dtype: costs(after)}
    lines = [f"{name:8} {size:9.3f} KB {macs:13,} multiply-accumulates" for name, (size, macs) in rows.items()]
    (size, macs), (new_size, new_macs) = rows.values()
    factor = (new_size * new_macs / (size * macs)) ** 2
    return "\n".join([*lines, f"at the same mIoU the FoM is {factor:.4f} of what it was, 1 / {1 / factor:.1f}"])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m training.quantise",
                                     description="Stores a trained network's weights in fewer bits, or compares kinds.")
    parser.add_argument("model", type=Path, metavar="MODEL", help="weights that were trained, float32")
    parser.add_argument("--to", choices=DTYPES, default="int8", help="how the weights are stored (default: int8)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where they go (default: MODEL_<to>.pth beside MODEL)")
    parser.add_argument("--compare", metavar="DATA", help="write nothing, score every kind on the validation split")
    parser.add_argument("--network", type=Path, default=TASKS[2].network_file, metavar="FILE",
                        help="network file with load_model and store (default: this lab's)")
    options = parser.parse_args(arguments)
    stores = load_stores(options.network, options.model)
    if options.compare is not None:
        for line in compare(stores, options.compare):
            print(line, flush=True)
        return
    out = options.out or options.model.with_name(f"{options.model.stem}_{options.to}.pth")
    save_weights(stores[options.to], out)
    print(describe(stores["float32"], stores[options.to], options.to))
    print(f"written to {out}")


if __name__ == "__main__":
    run_main(main)
