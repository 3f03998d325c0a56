"""Loads a handed-in network, checks that it keeps the lab's contract, and scores it. Knows loaders, no data set.

Everything a network file can do wrong ends in one LabError that says what was expected, what was found and where.
"""
import contextlib
import importlib.util
import pickle
import re
import sys
import tempfile
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn
from tqdm import tqdm

from utils.files import full_path
from utils.lab import INPUT_SIZE, NUM_CLASSES, LabError
from utils.metric import ConfusionMatrix
from utils.terminal import bar_stream

# What to ask wherever weights do not fit.
RESTART = "if the file was changed after the kernel imported it, restart the kernel"
MISFIT = f"were the weights saved from this network? ({RESTART} and train again)"


def load_network(network_file: Path) -> ModuleType:
    """Imports a network file by its path, under a name of its own, and checks that it defines `load_model`."""
    network_file = Path(network_file)
    if not network_file.is_file():
        raise LabError(f"expected a network file, found none at {full_path(network_file)}: check the path")
    spec = importlib.util.spec_from_file_location(f"submitted_{network_file.stem}", network_file)
    module = importlib.util.module_from_spec(spec)
    with student_code(f"a network file that can be imported, {network_file}"):
        sys.modules[spec.name] = module  # where a dataclass, for one, looks up what its annotations mean
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[spec.name]
            raise
    if not callable(getattr(module, "load_model", None)):
        raise LabError(f"expected a function load_model(MODEL_PATH), found none in {network_file}: "
                       "keep the one of the hand-out")
    return module


def load_model(network_file: Path, model_path: Path) -> nn.Module:
    """The network in eval mode on the CPU, with the weights in `model_path` loaded by its file's own `load_model`.

    Raises LabError for a missing file, a file that is no state_dict, and keys or shapes that do not fit.
    """
    check_weights(model_path)
    return build_model(load_network(network_file), network_file, model_path)


def build_model(network: ModuleType, network_file: Path, model_path: Path) -> nn.Module:
    """What `load_model` of an imported network file makes of a state_dict, in eval mode.

    Raises LabError for keys or shapes that do not fit, and for anything but a network.
    """
    try:
        with student_code(f"weights that fit the network in {network_file}, {model_path}"):
            model = network.load_model(str(model_path))
            if isinstance(model, nn.Module):
                model.eval()  # which may return nothing, where train() is overridden
    except LabError as error:
        if MISFIT in str(error):
            _explain_prefix(network, network_file, model_path)
        raise
    if not isinstance(model, nn.Module):
        raise LabError(f"expected load_model to return a torch.nn.Module, found {type(model).__name__} "
                       f"in {network_file}: return the network that the weights were loaded into")
    if any(map(_is_compiled, model.modules())):
        raise LabError(f"expected load_model to return the network itself, found a compiled one in {network_file}: "
                       "leave torch.compile to the notebook")
    return model


def _is_compiled(module: nn.Module) -> bool:
    """Whether a module was compiled: by torch.compile(module), module.compile(), or torch.compile around its forward.
    """
    return (hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None
            or hasattr(module.forward, "_torchdynamo_orig_callable"))


def _explain_prefix(network: ModuleType, network_file: Path, model_path: Path) -> None:
    """Raises LabError if the weights would fit with a wrapper's prefix taken off their names, or put before them."""
    state = torch.load(model_path, map_location="cpu", weights_only=True)
    for prefix, wrapper in {"module.": "DataParallel", "_orig_mod.": "torch.compile"}.items():
        if all(str(name).startswith(prefix) for name in state):
            if _fits(network, {str(name).removeprefix(prefix): value for name, value in state.items()}):
                raise LabError(f"expected the network's own names, found {prefix} before them in {model_path}, as "
                               f"{wrapper} puts it there: save network.{prefix}state_dict()")
        elif _fits(network, {f"{prefix}{name}": value for name, value in state.items()}):
            raise LabError(f"expected load_model to load the weights into the network itself, found {wrapper} around "
                           f"it in {network_file}: take {wrapper} out of load_model")


def _fits(network: ModuleType, state: dict[str, Tensor]) -> bool:
    """Whether the network file's load_model takes this state_dict."""
    try:
        with tempfile.TemporaryDirectory() as folder, student_code("weights that fit"):
            path = Path(folder, "weights.pth")
            torch.save(state, path)
            network.load_model(str(path))
    except (LabError, OSError):
        return False
    return True


def check_weights(model_path: Path) -> None:
    """Raises LabError unless `model_path` is a state_dict, a dict of tensors saved by torch.save."""
    model_path = Path(model_path)
    if not model_path.is_file():
        raise LabError(f"expected a model file, found none at {full_path(model_path)}: train first (make lab, or the "
                       "notebook), or pass its path as MODEL_PATH")
    advice = "save the weights alone with torch.save(network.state_dict(), PATH)"
    try:
        state_dict = torch.load(model_path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch names the class that it refused: a pickled module, as torch.save(network, PATH) writes it, or worse.
        refused = re.search(r"GLOBAL (\S+)", str(error))
        found = f"a pickled object ({refused[1]})" if refused else "something that torch cannot read"
        raise LabError(f"expected a state_dict, found {found} in {model_path}: {advice}") from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise LabError(f"expected a state_dict, found a damaged file or no torch file in {model_path} "
                       f"({_first_line(error)}): {advice}") from None
    if not isinstance(state_dict, dict):
        raise LabError(f"expected a state_dict, found a {type(state_dict).__name__} in {model_path}: {advice}")
    strange = [key for key, value in state_dict.items()
               if not isinstance(value, Tensor) and not str(key).endswith("_extra_state")]
    if not state_dict or strange:
        found = f"{type(state_dict[strange[0]]).__name__} under the key {strange[0]!r}" if strange else "an empty dict"
        raise LabError(f"expected a state_dict (names to tensors), found {found} in {model_path}: {advice}")


def check_output(model: nn.Module, where: str) -> None:
    """Raises LabError unless `model` maps (2, 3, 256, 512) to finite logits (2, 8, 256, 512)."""
    data = torch.randn(2, 3, *INPUT_SIZE, generator=torch.Generator().manual_seed(0))
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    predict(model, data.to(device), where)


def predict(model: nn.Module, data: Tensor, where: str = "the network", num_classes: int = NUM_CLASSES) -> Tensor:
    """Class indices (N, H, W), uint8, of normalized images (N, 3, H, W) float32. The model must be in eval mode.

    Raises LabError, naming `where`, for logits of another shape or type, and for NaN or infinity.
    """
    pred, finite, _ = _classify(model, data, where, num_classes)
    _require_finite(finite, where)
    return pred


@torch.no_grad()
def arg_max(logits: Tensor) -> Tensor:
    """The class of the largest logit at each pixel, the first of equals: (N, C, H, W), C <= 256, to uint8 (N, H, W).

    The indices of logits.max(1), bit for bit, where no logit is NaN. On a CPU it takes half of its time or less (and of
    contiguous logits' argmax(1) a tenth): plane by plane everything is a comparison of whole rows.
    """
    if logits.device.type != "cpu":
        return logits.max(1).indices.to(torch.uint8)
    classes = torch.zeros(len(logits), *logits.shape[2:], dtype=torch.uint8)
    for planes, index in zip(logits.detach(), classes, strict=True):
        planes = planes.contiguous()
        best = planes[0].clone()
        for k in range(1, len(planes)):
            larger = planes[k] > best
            torch.maximum(index, larger.view(torch.uint8).mul_(k), out=index)  # k only grows
            torch.maximum(best, planes[k], out=best)
    return classes


def _classify(model: nn.Module, data: Tensor, where: str, num_classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """`predict`'s class indices; a bool () on their device, whether all logits are finite; the logits.

    It waits for no GPU.
    """
    with student_code(f"a forward pass, {where}"), torch.inference_mode():
        logits = model(data)
    expected = (len(data), num_classes, *data.shape[2:])
    if not isinstance(logits, Tensor) or tuple(logits.shape) != expected or not logits.is_floating_point():
        found = f"{tuple(logits.shape)} {logits.dtype}" if isinstance(logits, Tensor) else type(logits).__name__
        raise LabError(f"expected logits {expected} as floats, found {found} from {where}: "
                       "one channel a class, at the input's size")
    # Both extremes are finite only if all logits are (NaN is passed on), in a tenth of isfinite's time on a CPU.
    extremes = torch.stack([logits.amin(), logits.amax()])
    return arg_max(logits), extremes.isfinite().all(), logits


def _require_finite(finite: Tensor, where: str) -> None:
    if not finite:
        raise LabError(f"expected finite logits, found NaN or infinity from {where}: the training diverged, "
                       "lower the learning rate and train again")


def evaluate(model: nn.Module, loader: Iterable[tuple[Tensor, Tensor]], where: str = "the network",
             description: str = "scoring", num_classes: int = NUM_CLASSES) -> ConfusionMatrix:
    """One confusion matrix over all of `loader`'s (data, target) batches, in float32, with a bar.

    Raises LabError as `predict` does, and if the loader yields nothing.
    """
    metric = sum(evaluate_images(model, loader, where, description, num_classes), ConfusionMatrix(num_classes))
    if not metric.counts.any():
        raise LabError(f"expected labeled pixels to score {where} on, found none: check the data's labels")
    return metric


def evaluate_images(model: nn.Module, loader: Iterable[tuple[Tensor, Tensor]], where: str = "the network",
                    description: str = "scoring", num_classes: int = NUM_CLASSES, further: Iterable[object] = (),
                    ranked: Iterable[object] = ()) -> list[ConfusionMatrix]:
    """The confusion matrix of each image of `loader` by itself, in its order; their sum is the split's.

    further: other meters, whose `update(target, pred)` gets each batch, (N, H, W) both; ranked: meters whose
    `update(target, logits)` gets (N, H, W) and (N, C, H, W).
    Raises LabError as `predict` does; for NaN or infinity on a GPU after the last batch, so that none is waited for.
    """
    model.eval()
    matrices = []
    all_finite: Tensor | bool = True
    with deterministic():
        for data, target in tqdm(loader, desc=description, unit="batch", file=bar_stream()):
            preds, finite, logits = _classify(model, data, where, num_classes)
            all_finite = finite & all_finite
            if all_finite.device.type == "cpu":
                _require_finite(all_finite, where)  # there is nothing to wait for, and much time to lose
            for meter in further:
                meter.update(target, preds)
            for meter in ranked:
                meter.update(target, logits)
            for one_target, one_pred in zip(target, preds, strict=True):
                matrices.append(ConfusionMatrix(num_classes))
                matrices[-1].update(one_target, one_pred)
        _require_finite(all_finite, where)
    return matrices


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    """Turns off what lets two machines of one kind differ: TF32 products and cuDNN's choice by timing."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark, cudnn.deterministic
    cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark, cudnn.deterministic = False, False, False, True
    try:
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark, cudnn.deterministic = before


@contextlib.contextmanager
def student_code(expected: str) -> Iterator[None]:
    """Runs a network file's code: what it prints goes to stderr, what it raises becomes one LabError."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except LabError:
        raise
    except torch.cuda.OutOfMemoryError as error:
        raise LabError(f"expected {expected}, found too little GPU memory: free the GPU or pass --device cpu "
                       f"({_first_line(error)})") from None
    except (Exception, SystemExit) as error:
        raise LabError(f"expected {expected}, found {_describe(error)}") from None


def _describe(error: BaseException) -> str:
    """One line: the exception, the file and line that raised it, and what to do where that is known."""
    frames = traceback.extract_tb(error.__traceback__)
    outside = [frame for frame in frames if "site-packages" not in frame.filename
               and not frame.filename.startswith("<") and frame.filename != __file__]
    place = f" (line {outside[-1].lineno} of {Path(outside[-1].filename).name})" if outside else ""
    text = str(error)
    if isinstance(error, KeyError):
        return f"no key {text} in the file{place}: {MISFIT}"
    if "Error(s) in loading state_dict" in text:
        problems = [line.strip() for line in text.splitlines()[1:] if line.strip()]
        problem = problems[0] if len(problems) == 1 else f"{problems[0]} (and {len(problems) - 1} more)"
        return f"{_shorten(problem)}{place}: {MISFIT}"
    if isinstance(error, NotImplementedError):
        return f"{text or 'a part that is still to be written'}{place}: fill in the part marked in the hand-out"
    return f"{type(error).__name__}: {_first_line(error)}{place}: mend it there"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return _shorten(lines[0]) if lines else type(error).__name__


def _shorten(text: str, length: int = 300) -> str:
    return text if len(text) <= length else text[:length] + " ..."
