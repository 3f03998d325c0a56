"""The lab's rules, as far as the code shows them: ready-made networks, pretrained weights, files, downloads.

Code is parsed and never run. A finding names file and line, for a person to look at. Code that wants to hide gets past
any such reading, so the grader measures and does not rely on it.
"""
import ast
import hashlib
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from handin.findings import Finding, Level
from handin.notebooks import code_cells, read_notebook
from utils.lab import LabError

# What makes networks that others built, trained or both.
READY_MADE = {"timm", "segmentation_models_pytorch", "transformers", "mmseg", "mmcv", "mmpretrain", "mmengine", "monai",
              "fastai", "keras", "tensorflow", "jax", "ultralytics", "detectron2", "diffusers", "open_clip", "clip",
              "huggingface_hub", "pytorchcv", "efficientnet_pytorch", "pretrainedmodels", "torchseg", "catalyst"}
READY_MADE_IN = ("torchvision.models", "torch.hub", "torch.utils.model_zoo", "keras.applications")
DOWNLOADERS = {"urllib", "urllib3", "requests", "http", "ftplib", "socket", "wget", "gdown", "httpx", "aiohttp",
               "kaggle", "kagglehub", "paramiko", "webbrowser", "xmlrpc", "smtplib", "telnetlib"}
DOWNLOAD_COMMANDS = re.compile(r"\b(wget|curl|aria2c|gdown|kaggle|huggingface-cli|git\s+(clone|lfs)|scp|rsync|sftp)\b")
# Calls that read (or write) files, by the last parts of their names.
READERS = {"open", "read_text", "read_bytes", "fromfile", "memmap", "loadtxt", "genfromtxt", "imread", "read_csv",
           "read_image", "decode_file", "iterdir", "glob", "rglob", "listdir", "scandir", "walk"}
LOADERS = {"np.load", "numpy.load", "torch.load", "pickle.load", "joblib.load", "torch.jit.load", "torch.from_file",
           "Image.open", "safetensors.torch.load_file", "torch.ops.load_library", "torch.classes.load_library"}
PRETRAINED = {"pretrained", "pretrained_backbone", "weights_backbone", "encoder_weights"}
HIDES = {"exec", "eval", "compile", "__import__", "import_module"}
FIRST_CELL = "49e1018ad43d5b5e"  # of the hand-out's cell that may fetch the kit: the beginning of its SHA-256
SHELL = {"system", "popen", "run", "call", "check_call", "check_output", "getoutput", "Popen", "run_cell_magic",
         "run_line_magic"}

ALLOWED_IMPORTS = {"torch"} | set(sys.stdlib_module_names)
LOOK = "a person will look at it"
UNREADABLE = -1


class SuspectLine(NamedTuple):
    """A line of code that may be against the rules, and how to say it."""

    line: int
    level: Level
    expected: str
    found: str
    advice: str


def _ready_made(line: int, found: str) -> SuspectLine:
    return SuspectLine(line, "FAIL", "a network of your own, trained from scratch", found,
                 "ready-made networks and pretrained weights are against the rules")


def _download(line: int, found: str) -> SuspectLine:
    return SuspectLine(line, "FAIL", "no downloads", found, "outside data and outside weights are against the rules")


def judge_rules(path: Path, subject: str) -> list[Finding]:
    """What a notebook or network file does against the rules, a finding for each line; one OK if there is nothing.

    The rules for a network file are stricter: it may import only torch and the standard library, and read no file but
    the weights whose path `load_model` gets. A file that is no Python is one FAIL with the line UNREADABLE.
    """
    try:
        if path.suffix.lower() == ".ipynb":
            places = [(place, f"cell {cell} of {path.name}") for cell, place in _scan_notebook(path)]
        else:
            places = [(place, path.name) for place in _one_a_line(_scan_network(path))]
    except LabError as error:
        return [Finding("FAIL", subject, str(error), 0 if path.suffix.lower() == ".ipynb" else UNREADABLE)]
    findings = [Finding(place.level, subject, f"expected {place.expected}, found {place.found} in line {place.line} of "
                                              f"{where}: {place.advice}", place.line) for place, where in places]
    return findings or [Finding("OK", subject, f"{path.name}: nothing against the rules was found in the code")]


def read_source(path: Path) -> str:
    """The text of a Python file. Raises LabError unless it is UTF-8 and holds anything."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise LabError(f"expected Python in UTF-8, found byte {error.object[error.start]:#x} in line {line} of "
                       f"{path.name}: save the file as UTF-8") from None
    except OSError as error:
        raise LabError(f"expected a file that can be read, found {error.strerror} at {path.name}") from None
    if not text.strip():
        raise LabError(f"expected a network file, found nothing in {path.name}: hand in your network.py")
    return text


def _scan_network(path: Path) -> Iterator[SuspectLine]:
    tree = _parse(read_source(path), path.name)
    paths = {argument.arg for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "load_model"
             for argument in node.args.args}
    yield from _scan(tree, paths)
    for node in ast.walk(tree):
        for name in _imported(node):
            if name.split(".")[0] not in ALLOWED_IMPORTS:
                yield SuspectLine(node.lineno, "FAIL", "imports of torch and the standard library alone", name,
                            "the file is handed in alone, put what it needs into it")


def _scan_notebook(path: Path) -> Iterator[tuple[int, SuspectLine]]:
    from IPython.core.inputtransformer2 import TransformerManager  # slow to import, and only notebooks need it

    python = TransformerManager()
    for number, cell in code_cells(read_notebook(path)):
        if _finds_the_lab(cell.source):
            continue
        tree = _parse(python.transform_cell(cell.source), f"cell {number} of {path.name}")
        for place in _one_a_line(_scan(tree, None)):
            yield number, place


def _finds_the_lab(source: str) -> bool:
    """Whether a cell is the hand-out's first one, whatever address of the kit stands in it."""
    plain = re.sub(r'^kit = "[^"\n]*"', 'kit = ""', source, flags=re.MULTILINE)
    return hashlib.sha256(plain.encode()).hexdigest().startswith(FIRST_CELL)


def _one_a_line(places: Iterator[SuspectLine]) -> list[SuspectLine]:
    """The worst of each line, the first of equals, in the order of the lines."""
    kept: dict[int, SuspectLine] = {}
    for place in sorted(places, key=lambda place: (place.line, place.level != "FAIL")):
        kept.setdefault(place.line, place)
    return list(kept.values())


def _parse(source: str, where: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd escapes in a student's strings
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f"line {error.lineno} of " if isinstance(error, SyntaxError) and error.lineno else ""
        raise LabError(f"expected Python, found {getattr(error, 'msg', None) or error} in {line}{where}: "
                       "mend it there") from None


def _scan(tree: ast.Module, weights_paths: set[str] | None) -> Iterator[SuspectLine]:
    """All suspicious places, in no order, perhaps several a line.

    `weights_paths` are the names of load_model's parameters, which alone a network file may load from; None for a
    notebook, which may read files.
    """
    known = _aliases(tree)
    for node in ast.walk(tree):
        for name in _imported(node):
            if name.split(".")[0] in READY_MADE or _within(name, READY_MADE_IN):
                yield _ready_made(node.lineno, name)
            elif name.split(".")[0] in DOWNLOADERS:
                yield _download(node.lineno, name)
        if isinstance(node, ast.Attribute) and _within(name := _dotted(node, known), READY_MADE_IN):
            yield _ready_made(node.lineno, name)
        if isinstance(node, ast.Call):
            yield from _scan_call(node, known, weights_paths)


def _scan_call(node: ast.Call, known: dict[str, str], weights_paths: set[str] | None) -> Iterator[SuspectLine]:
    name = _dotted(node.func, known)
    last = name.rpartition(".")[2]
    for keyword in node.keywords:
        value = ast.unparse(keyword.value)
        trained = keyword.arg == "weights" and re.search(r"imagenet|coco|_weights\b|\.default", value, re.IGNORECASE)
        if (keyword.arg in PRETRAINED or trained) and value not in ("None", "False"):
            yield _ready_made(keyword.value.lineno, f"{keyword.arg}={value[:40]}")
    if last in ("from_pretrained", "load_state_dict_from_url", "download_url_to_file", "load_url"):
        yield _ready_made(node.lineno, f"{last}()")
    words = " ".join(part.value for part in ast.walk(node)
                     if isinstance(part, ast.Constant) and isinstance(part.value, str))
    if last in SHELL and (command := DOWNLOAD_COMMANDS.search(words)):
        yield _download(node.lineno, command[0])
    names = {part.id for part in ast.walk(node.args[0]) if isinstance(part, ast.Name)} if node.args else set()
    if (last in READERS or name in LOADERS) and not names & (weights_paths or set()):
        if weights_paths is not None:
            yield SuspectLine(node.lineno, "FAIL", "no files but the weights given to load_model", f"{name}()",
                        "the network file is handed in alone, and outside weights are against the rules")
        elif name in LOADERS:
            yield SuspectLine(node.lineno, "WARN", "nothing from outside", f"{name}()",
                        f"be sure that it is a file of your own training, {LOOK}")
    mode = last == "eval" and not node.args  # network.eval(); Python's own takes an argument
    if weights_paths is not None and last in HIDES and not mode and name not in ("re.compile", "torch.compile"):
        yield SuspectLine(node.lineno, "WARN", "code that can be read", f"{name}()", LOOK)


def _imported(node: ast.AST) -> list[str]:
    """The full names that an import statement imports: torchvision.models for `from torchvision import models`."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        module = "." * node.level + (node.module or "")
        inner = [f"{module}.{alias.name}" for alias in node.names]
        hits = [name for name in inner if _within(name, READY_MADE_IN)]
        return hits[:1] or [module]
    return []


def _aliases(tree: ast.Module) -> dict[str, str]:
    """What imported names stand for: {"np": "numpy", "models": "torchvision.models"}."""
    known = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            known |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            known |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return known


def _dotted(node: ast.AST, known: dict[str, str]) -> str:
    """a.b.c for an attribute or a name, without aliases; for other expressions only their last attribute."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        parts.append(known.get(node.id, node.id))
    return ".".join(reversed(parts))


def _within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)
