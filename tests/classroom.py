"""Makes up a class: good, sloppy and hostile hand-ins, as Moodle's "download all submissions" packs them.

    python tests/classroom.py CLASS.zip --model1 model_task1.pth --model2 model_task2.pth

The weights are anybody's of the reference networks; without them untrained ones are made. `CLASS` lists everyone with
what is the matter, so that a test can compare it with what the grader finds.
"""
import argparse
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import nbformat
import torch

from utils.lab import HANDIN_FILES, TASKS

ATTACKS = Path(__file__).resolve().parent / "attacks"
PDF = b"%PDF-1.7\ntrailer\n%%EOF\n"

# What two students add to the reference network of task 2.
HALF = '''

class Half(nn.Module):
    """The network in 16 bits, for images and logits in 32."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.half()

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x.half()).float()


load_in_full = load_model


def load_model(MODEL_PATH: str) -> nn.Module:
    return Half(load_in_full(MODEL_PATH))
'''
TWICE = '''

class Twice(nn.Module):
    """The network's opinion of the image and of its mirror image."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return (self.model(x) + self.model(x.flip(3)).flip(3)) / 2


load_once = load_model


def load_model(MODEL_PATH: str) -> nn.Module:
    return Twice(load_once(MODEL_PATH))
'''


def make_notebook(path: Path, *counts: int | None) -> Path:
    """A small notebook whose cells have these execution counts."""
    cells = [nbformat.v4.new_code_cell(f"x = {index}", execution_count=count) for index, count in enumerate(counts)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def write_good(folder: Path, student: str, models: dict[int, Path]) -> None:
    """The seven files, all as they should be."""
    names = [template.format(id=student) for template in HANDIN_FILES]
    for number, task in TASKS.items():
        make_notebook(folder / names[number - 1], 1, 2, 3)
        shutil.copy(task.network_file, folder / names[number + 1])
        shutil.copy(models[number], folder / names[number + 3])
    (folder / names[6]).write_bytes(PDF)


def rename(old: str, new: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / old).rename(folder / new)
    return spoil


def remove(*patterns: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        for pattern in patterns:
            for path in folder.glob(pattern):
                path.unlink()
    return spoil


def attack(name: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        shutil.copy(ATTACKS / f"{name}.py", folder / "network_task2.py")
        torch.save({"conv.weight": torch.zeros(8, 3, 1, 1), "conv.bias": torch.arange(8.0)}, folder / "model_task2.pth")
    return spoil


def too_deep(folder: Path) -> None:
    inner = folder / "Lab 5" / "final"
    inner.mkdir(parents=True)
    for path in [path for path in folder.iterdir() if path.is_file()]:
        path.rename(inner / path.name)


def zipped(folder: Path) -> None:
    files = [path for path in folder.iterdir() if path.is_file()]
    with zipfile.ZipFile(folder / "homework.zip", "w") as archive:
        for path in files:
            archive.write(path, f"homework/{path.name}")
            path.unlink()


def renamed_copy(folder: Path) -> None:
    """A neighbor's network under other names."""
    path = folder / "network_task1.py"
    text = path.read_text(encoding="utf-8")
    for old, new in (("DoubleConv", "TwoConvs"), ("skip", "side"), ("reduce", "squeeze")):
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
    weights = torch.load(folder / "model_task1.pth", weights_only=True)
    torch.save({name.replace("reduce", "squeeze"): tensor + 1e-4 * tensor.abs().mean() if tensor.is_floating_point()
                else tensor for name, tensor in weights.items()}, folder / "model_task1.pth")


def half_precision(folder: Path) -> None:
    """A cheaper network that is fair: it holds and computes its weights in 16 bits."""
    path = folder / "network_task2.py"
    path.write_text(path.read_text(encoding="utf-8") + HALF, encoding="utf-8")
    weights = torch.load(folder / "model_task2.pth", weights_only=True)
    torch.save({name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in weights.items()},
               folder / "model_task2.pth")


def twice(folder: Path) -> None:
    """A dearer one: it looks at the image and at its mirror image."""
    path = folder / "network_task2.py"
    path.write_text(path.read_text(encoding="utf-8") + TWICE, encoding="utf-8")


def data_parallel(folder: Path) -> None:
    state = torch.load(folder / "model_task1.pth", weights_only=True)
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, folder / "model_task1.pth")


def whole_module(folder: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), folder / "model_task2.pth")


def helper(folder: Path) -> None:
    path = folder / "network_task2.py"
    path.write_text("from blocks import SeparableConv\n" + path.read_text(encoding="utf-8"), encoding="utf-8")


def shadows(folder: Path) -> None:
    for name in ("random.py", "typing.py", "torch.py"):
        (folder / name).write_text("raise SystemExit('shadowed')\n")


def word(folder: Path) -> None:
    path = next(folder.glob("report_*.pdf"))
    path.unlink()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "<w/>")


def other_id(folder: Path) -> None:
    path = next(folder.glob("report_*.pdf"))
    path.rename(folder / "report_99999999.pdf")


def full_width(folder: Path) -> None:
    path = next(folder.glob("Lab05_task1_*.ipynb"))
    path.rename(folder / "\uff2c\uff41\uff42\uff10\uff15_task\uff11_31355518.ipynb")


def latin(folder: Path) -> None:
    path = folder / "network_task1.py"
    path.write_bytes(path.read_bytes() + 'COURSE = "Übung"\n'.encode("latin-1"))


def not_run(folder: Path) -> None:
    make_notebook(next(folder.glob("Lab05_task2_*.ipynb")), None, None)


# number, name, what is done to a good hand-in, the states of task 1 and 2, whether the names cost points
GOOD, BAD = ("OK", "OK", False), ("OK", "OK", True)
CLASS = (
    ("31355501", "Ada Lovelace", None, *GOOD),
    ("31355502", "Alan Turing", half_precision, *GOOD),
    ("31355503", "王小明", twice, *GOOD),
    ("31355504", "Kurt Gödel", renamed_copy, *GOOD),
    ("31355505", "Grace Hopper", rename("model_task1.pth", "model_task1 (1).pth"), *BAD),
    ("31355506", "Edsger Dijkstra", rename("network_task2.py", "Network_Task2.py"), *BAD),
    ("31355507", "Barbara Liskov", too_deep, *BAD),
    ("31355508", "Donald Knuth", zipped, *BAD),
    ("31355509", "Emmy Noether", remove("report_*"), *GOOD),
    ("31355510", "Srinivasa Ramanujan", remove("*task2*"), "OK", "MISSING_FILE", False),
    ("31355511", "Frances Allen", word, *GOOD),
    ("31355512", "John Backus", not_run, *GOOD),
    ("31355513", "Tony Hoare", other_id, *BAD),
    ("31355514", "Niklaus Wirth", data_parallel, "LOAD_ERROR", "OK", False),
    ("31355515", "Ken Thompson", whole_module, "OK", "LOAD_ERROR", False),
    ("31355516", "Dennis Ritchie", helper, "OK", "IMPORT_ERROR", False),
    ("31355517", "Robin Milner", shadows, *GOOD),
    ("31355518", "Konrad Zuse", full_width, *BAD),
    ("31355519", "Édouard Lucas", latin, "IMPORT_ERROR", "OK", False),
    ("31355520", "Mallory <b>One</b>", attack("fake_score_and_exit"), "OK", "CRASH", False),
    ("31355521", "Mallory Two", attack("endless_loop"), "OK", "TIMEOUT", False),
    ("31355522", "Mallory Three", attack("work_in_broadcasting"), "OK", "FLAGGED", False),
    ("31355523", "Mallory Four", attack("reads_labels"), "OK", "IMPORT_ERROR", False),
    ("31355524", "Mallory Five", attack("nan"), "OK", "SHAPE_ERROR", False),
    ("31355525", "Mallory Six", attack("work_in_python"), "OK", "COST_UNVERIFIED", False),
)


def make_class(target: Path, models: dict[int, Path], students: tuple = CLASS) -> Path:
    """Writes the class as one zip; a student without any file is among them (31355599)."""
    with tempfile.TemporaryDirectory() as scratch, zipfile.ZipFile(target, "w") as archive:
        for index, (student, name, spoil, *_) in enumerate(students):
            folder = Path(scratch, student)
            folder.mkdir()
            write_good(folder, student, models)
            if spoil:
                spoil(folder)
            for path in sorted(folder.rglob("*")):
                if path.is_file():
                    archive.write(path, f"{name.replace('/', ' ')}_{4000 + index}_assignsubmission_file/"
                                        f"{path.relative_to(folder).as_posix()}")
        archive.writestr("Nobody Empty_4999_assignsubmission_onlinetext/onlinetext.html", "<p>I was ill.</p>")
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes up a class of hand-ins.")
    parser.add_argument("target", type=Path)
    for number in TASKS:
        parser.add_argument(f"--model{number}", type=Path, required=True, help=f"weights of task {number}'s reference")
    args = parser.parse_args()
    print(make_class(args.target, {1: args.model1, 2: args.model2}))


if __name__ == "__main__":
    main()
