"""Fewer bits for a trained network's weights, and for its arithmetic: what they save and what they cost.

    python -m frontier.quantize model_task2.pth --to int8 --out model_int8.pth   writes the weights in 8 bits
    python -m frontier.quantize model_task2.pth --compare data                   scores all kinds side by side

The network file's own `deploy` stores the weights, so its `load_model` reads them back. Integer inference, where the
products have 8 bits too, is torch's own (torch.ao.quantization; Jacob et al., "Quantization and training of neural
networks for efficient integer-arithmetic-only inference", 2018). It is shown for comparison and cannot be handed in.
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

STORES = ("float16", "int8")
CALIBRATION = 32  # training images from which integer inference takes its ranges


def load_stores(network_file: Path, model_path: Path) -> dict[str, nn.Module]:
    """The network in `model_path` as "float32", and as the network file's `deploy` stores it for each of STORES.

    Raises LabError for a file without such a `deploy`, and for weights that are stored in fewer bits already.
    """
    check_weights(model_path)
    network = load_network(network_file)
    if not callable(getattr(network, "deploy", None)):
        raise LabError(f"expected a function deploy(network, store) in {network_file}, found none: add one that "
                       "returns a copy of the network with its weights stored in fewer bits")
    model = build_model(network, network_file, model_path).eval()
    require_float(model.state_dict(), f"in {model_path}", torch.int64)  # batch norms count their steps
    with student_code(f"a function deploy(network, store) that takes {' and '.join(STORES)}, {network_file}"):
        return {"float32": model} | {store: network.deploy(model, store=store).eval() for store in STORES}


class _Tracer(fx.Tracer):
    """Takes a check of the input's shape (`if x.ndim != 4: raise`) as passed; `integer_inference` verifies that."""

    def to_bool(self, obj: fx.Proxy) -> bool:
        return False


def integer_inference(model: nn.Module, images: Iterable[Tensor]) -> nn.Module:
    """A deployed float32 `model` as torch computes it in 8-bit integers on a CPU.

    images: batches (N, 3, H, W), normalized, of the training split; they give the range of every layer's output.
    Weights have a step size for each filter, layer outputs one for each tensor. Raises LabError where this torch has no
    such tools or no kernels for this processor, and for a network that they cannot trace.
    """
    try:
        from torch.ao.quantization import get_default_qconfig_mapping
        from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx
        settings = get_default_qconfig_mapping(torch.backends.quantized.engine)
    except (ImportError, AttributeError, AssertionError, ValueError) as error:
        # torch has announced their removal; torchao, which replaces them, needs a compiler to be fast.
        raise LabError(f"expected torch.ao.quantization and its kernels, found none in torch {torch.__version__} "
                       f"({type(error).__name__}): compare with an older torch") from None
    images = list(images)
    try:
        traced = fx.GraphModule(model, _Tracer().trace(model))
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the deprecation, at every step
            same = torch.equal(traced(images[0]), model(images[0]))
            observed = prepare_fx(traced, settings, (images[0],))
            for data in images:
                observed(data)
            integer = convert_fx(observed)
    except (fx.proxy.TraceError, TypeError, RuntimeError, NotImplementedError) as error:
        raise LabError(f"expected a network that torch can trace for integer inference, found {type(error).__name__} "
                       f"({str(error).splitlines()[0][:150]}): its forward must not depend on tensor values") from None
    if not same:
        raise LabError("expected a network whose forward pass does not depend on its input for integer inference, "
                       "found one that does")
    return integer.eval()


def compare(stores: dict[str, nn.Module], data: str | None) -> Iterator[str]:
    """A table, line by line: each kind's mIoU on the validation split, KB, MACs and CPU time."""
    train_set = SegmentationDataset(find_data(data), "train")
    chosen = torch.linspace(0, len(train_set) - 1, min(CALIBRATION, len(train_set))).long()
    calibration = Batches(train_set, 1)
    batches, description = open_evaluation(data, None, torch.device("cpu"))
    yield f"{description}; integer inference calibrated on {len(chosen)} training images"
    yield f"{'weights':8} {'computed in':11} {'mIoU':>8} {'KB':>9} {'MACs':>13} {'ms/image':>10}"
    kinds = [(name, "float16" if name == "float16" else "float32", model) for name, model in stores.items()]
    note = None
    try:
        integer = integer_inference(stores["float32"], (calibration.take([index])[0] for index in chosen.tolist()))
        kinds.append(("int8", "int8", integer))
    except LabError as error:
        note = f"no integer inference here: {error}"
    for weights, computed, model in kinds:
        size, macs, ms = count_size(model), profile_model(model).flops, time_network(model)
        miou = evaluate(model, batches, f"{weights} weights", f"{weights} weights, {computed}").miou()
        yield f"{weights:8} {computed:11} {miou:8.4f} {size:9.3f} {macs:13,} {ms:10.1f}"
    if note:
        yield note


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m frontier.quantize",
                                     description="Stores a trained network's weights in fewer bits, or compares kinds.")
    parser.add_argument("model", type=Path, metavar="MODEL", help="trained weights, float32")
    parser.add_argument("--to", choices=STORES, default="int8", help="how the weights are stored (default: int8)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where they go (default: MODEL_<to>.pth beside MODEL)")
    parser.add_argument("--compare", metavar="DATA", help="write nothing, score every kind on the validation split")
    parser.add_argument("--network", type=Path, default=TASKS[2].network_file, metavar="FILE",
                        help="network file with load_model and deploy (default: this lab's; for the weights of another "
                        "block frontier/blocks.py)")
    options = parser.parse_args(arguments)
    stores = load_stores(options.network, options.model)
    if options.compare is not None:
        for line in compare(stores, options.compare):
            print(line, flush=True)
        return
    out = options.out or options.model.with_name(f"{options.model.stem}_{options.to}.pth")
    save_weights(stores[options.to], out)
    products = []
    for store in ("float32", options.to):
        size, macs = count_size(stores[store]), profile_model(stores[store]).flops
        print(f"{store:8} {size:9.3f} KB {macs:13,} MACs")
        products.append(size * macs)
    factor = (products[1] / products[0]) ** 2
    print(f"with the same mIoU the FoM is {factor:.4f} of what it was, 1 / {1 / factor:.1f}")
    print(f"written to {out}")


if __name__ == "__main__":
    run_main(main)
