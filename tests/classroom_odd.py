"""Makes up an odd class: what real classes, files and platforms send, each kind at least twice.

Five sections of one class, each as another platform packs it: Monday (a zip for each student), Tuesday.zip (Moodle),
Wednesday (Canvas, loose files beside zips), Thursday (nbgrader) and Friday (folders in a folder). `ODD` says for
everybody what has to come of it; it was written before the class was graded for the first time, but for the weights
of 8 bits: they were expected to be OK, and are no plain tensors that a graph can hold.
"""
import datetime
import json
import os
import shutil
import struct
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from classroom import PDF, make_notebook, rename

from utils.lab import HANDIN_FILES

COURSE = """
[points]
late = -10
[student]
number = '[A-Z][0-9]{8}'
words = "a letter and 8 digits"
[deadline]
at = 2026-12-07T23:59:00+09:00
"""
# B10902033 and B10902034 are known by their folders' names alone; the last two hand in nothing.
ROSTER = """Student ID;Full name;Username
B10902033;Ngozi Adeyemi;nadeyemi
B10902034;Petra Weiß;pweiss
B10902070;Ines Duarte;iduarte
B10902071;Jonas Weiß;jweiss
B10902072;Kaito Mori;kmori
B10902080;Bruno Duarte;bduarte
B10902081;Carla Silva;csilva
B10902090;Olu Bello;obello
B10902091;Tove Lind;tlind
"""
ON_TIME, ZONE = "2026-12-07 12:00:00Z", datetime.timezone(datetime.timedelta(hours=9))
NET = """import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)

    def forward(self, x):
        y = self.conv(x)
        return y


def load_model(MODEL_PATH):
    model = Net()
    state = torch.load(MODEL_PATH, map_location="cpu", weights_only=True)
    model.load_state_dict(state)
    return model
"""
SIZE_KB = 32 * 4 / 1024  # of NET: 24 weights and 8 biases
State = dict[str, torch.Tensor]
Spoil = Callable[[Path], None]


def state() -> State:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator)
            for name, shape in (("conv.weight", (8, 3, 1, 1)), ("conv.bias", (8,)))}


def write_seven(folder: Path, number: str) -> Path:
    """The seven files, with one small network for both tasks."""
    folder.mkdir(parents=True)
    names = [template.format(id=number) for template in HANDIN_FILES]
    for name in names[:2]:
        make_notebook(folder / name, 1, 2, 3)
    for name in names[2:4]:
        (folder / name).write_text(NET, encoding="utf-8")
    for name in names[4:6]:
        torch.save(state(), folder / name)
    (folder / names[6]).write_bytes(PDF)
    return folder


def change(*pairs: tuple[str, str], state_of: Callable[[State], object] | None = None) -> Spoil:
    """Changes the network of task 2, and what its weights hold."""
    def spoil(folder: Path) -> None:
        source = NET
        for old, new in pairs:
            assert old in source
            source = source.replace(old, new)
        (folder / "network_task2.py").write_text(source, encoding="utf-8")
        if state_of:
            torch.save(state_of(state()), folder / "model_task2.pth")
    return spoil


def renamed(before: str, after: str) -> Callable[[State], State]:
    return lambda weights: {name.replace(before, after, 1): tensor for name, tensor in weights.items()}


def prefixed(prefix: str) -> Callable[[State], State]:
    return lambda weights: {prefix + name: tensor for name, tensor in weights.items()}


def eighth(kind: torch.dtype) -> Spoil:
    """Weights of 8 bits, which the network takes to floats."""
    return change(("model = Net()", f"model = Net().to({kind})"),
                  ("self.conv(x)", "nn.functional.conv2d(x, self.conv.weight.float(), self.conv.bias.float())"),
                  state_of=lambda weights: {name: tensor.to(kind) for name, tensor in weights.items()})


def as_folder(name: str) -> Spoil:
    """The weights of task 1, unpacked by a browser to a folder of this name."""
    def spoil(folder: Path) -> None:
        path = folder / "model_task1.pth"
        with zipfile.ZipFile(path) as archive:
            inside = archive.namelist()[0].partition("/")[0]
            archive.extractall(folder / "unpacked")
        path.unlink()
        (folder / "unpacked" / inside).rename(folder / name)
        (folder / "unpacked").rmdir()
    return spoil


def older_notebooks(minor: int) -> Spoil:
    """Notebooks that say an older format and yet have ids on their cells."""
    def spoil(folder: Path) -> None:
        for path in folder.glob("*.ipynb"):
            book = json.loads(path.read_text(encoding="utf-8"))
            assert all("id" in cell for cell in book["cells"])
            path.write_text(json.dumps(book | {"nbformat_minor": minor}), encoding="utf-8")
    return spoil


def beside(name: str, content: str) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / name).write_text(content)
    return spoil


def first_attempt(folder: Path) -> None:
    """What Canvas numbers: six files of a third attempt, and a network of the second."""
    for path in list(folder.iterdir()):
        path.rename(folder / f"{path.stem}-2{path.suffix}")
    (folder / "network_task1-1.py").write_text("def f(:\n")


def without_number(folder: Path) -> None:
    for path in list(folder.glob("*_*B109*")):
        path.rename(folder / f"{path.stem.rpartition('_')[0]}{path.suffix}")


def latin_names(folder: Path) -> None:
    (folder / os.fsdecode(b"r\xe9sum\xe9.txt")).write_text("")


@dataclass(frozen=True)
class Odd:
    """One hand-in. where: its place in the class, and in the record unless `folder` is; number: in its files' names.

    at: when it was handed in, UTC with a Z, or the local time of a zip that tells no other. more: names that are added
    to its zip, with what they hold. first, second: the states of the tasks; naming: whether names cost points; says:
    what a person is told, in these words; student: the name of the record; few: in the short form of the test.
    """

    item: int
    where: str
    number: str
    spoil: Spoil | None = None
    first: str = "OK"
    second: str = "OK"
    naming: bool = False
    says: str = ""
    student: str = ""
    folder: str = ""
    late: int = 0
    at: str = ON_TIME
    more: tuple[tuple[str, str], ...] = ()
    contested: bool = False
    few: bool = False


def monday(item: int, last: int, spoil: Spoil | None = None, first: str = "OK", second: str = "OK", **more) -> Odd:
    return Odd(item, f"Monday/B109020{last}.zip", f"B109020{last}", spoil, first, second, **more)


LOADS, LOAD, RETURNS = "model.load_state_dict(state)", "LOAD_ERROR", "return model"
ODD = (
    # 2: who is found where
    Odd(2, "Monday/Lab05_B10902001.zip", "B10902001", few=True),
    Odd(2, "Monday/Lab05_B10902002.zip", "B10902002", few=True),
    Odd(2, "Friday/Source", "B10902030", few=True),
    Odd(2, "Friday/Final", "B10902031", few=True),
    Odd(2, "Friday/Weights Old", "B10902032"),
    Odd(2, "Friday/Ngozi Adeyemi", "B10902033", without_number, naming=True, student="B10902033", few=True),
    Odd(2, "Friday/Weiß, Petra", "B10902034", without_number, naming=True, student="B10902034"),
    Odd(2, "Monday/B10902005.zip", "B10902006", naming=True, student="B10902005",
        says="expected files of B10902005, found B10902006 in their names"),
    monday(2, "06"),
    # 3: numbers and takeovers
    Odd(3, "Monday/B10902003-B10902001.zip", "B10902001", student="Monday/B10902003-B10902001.zip", few=True,
        at="2026-12-07 14:00:00Z", says="found B10902001 in the names of its files, which is that of Monday/Lab05"),
    Odd(3, "Monday/B109020021.zip", "B10902002", student="Monday/B109020021.zip", at="2026-12-07 14:00:00Z",
        says="found B10902002 in the names of its files, which is that of Monday/Lab05_B10902002.zip"),
    Odd(3, "Tuesday.zip/Lea Roth_8110_assignsubmission_file", "B10902074", contested=True,
        says="with equal claims to it", few=True),
    Odd(3, "Tuesday.zip/Lea Root_8111_assignsubmission_file", "B10902074", contested=True,
        says="with equal claims to it", few=True),
    # 4: names in a zip
    monday(4, "10", more=(("network_task2.py", NET),), spoil=change(("import torch\n", "def f(:\n")),
           says="found network_task2.py again in B10902010.zip: the last one counts"),
    monday(4, "11", more=(("report_B10902011.pdf", PDF.decode()), ("report_B10902011.pdf", PDF.decode())),
           says="found report_B10902011.pdf again"),
    monday(4, "12", more=(("字" * 200 + ".py", ""),), says="File name too long): left out", few=True),
    monday(4, "13", more=(("model_task1.pth/version", "3"),), says="found model_task1.pth/version in B10902013.zip"),
    # 5: times
    Odd(5, "Tuesday.zip/Ines Duarte_8101_assignsubmission_file", "B10902070", at="2026-12-07 23:30:00", few=True),
    Odd(5, "Tuesday.zip/Jonas Weiß_8102_assignsubmission_file", "B10902071", at="2026-12-07 14:58:00Z"),
    Odd(5, "Tuesday.zip/Kaito Mori_late_8103_assignsubmission_file", "B10902072", at="2026-12-07 15:30:00Z", late=1,
        says="Moodle marks it late"),
    Odd(5, "Tuesday.zip/Mia Sand_8104_assignsubmission_file", "B10902073", at="2026-12-09 00:30:00", late=2),
    # 8: Canvas and nbgrader
    Odd(8, "Wednesday/duartebruno_9001", "B10902080", first_attempt, few=True),
    Odd(8, "Wednesday/silvacarla_LATE_9002_55100_Lab05_B10902081-1.zip", "B10902081",
        folder="Wednesday/silvacarla_9002", says="Canvas marks it late"),
    Odd(8, "Thursday/submitted/B10902085", "B10902085",
        folder="Thursday/B10902085", few=True),
    Odd(8, "Thursday/submitted/B10902086", "B10902086", beside("timestamp.txt", "2026-12-08 16:00:00.5 UTC\n"),
        folder="Thursday/B10902086", late=2),
    # 12: what a forward pass keeps
    monday(12, "54", change(("return y", "self.skips = [y]\n        return y"))),
    monday(12, "55", change(("return y", "self.seen = {'last': x[:1]}\n        return y"))),
    # 13: forms of weights and networks
    monday(13, "40", change(("    def forward", "    def eval(self):\n        super().eval()\n\n    def forward"))),
    monday(13, "41", change(("    def forward", "    def train(self, mode=True):\n        self.training = mode\n\n"
                                               "    def forward"))),
    monday(13, "42", change((RETURNS, "model.conv = torch.compile(model.conv, backend='eager')\n    return model")),
           second=LOAD, says="found a compiled one"),
    monday(13, "43", change((RETURNS, "return torch.compile(model, dynamic=False)")), second=LOAD,
           says="found a compiled one"),
    monday(13, "44", change(("self.conv =", "self.module ="), ("self.conv(", "self.module("),
                            state_of=renamed("conv", "module"))),
    monday(13, "45", change(("self.conv =", "self.module ="), ("self.conv(", "self.module("),
                            state_of=lambda weights: prefixed("module.")(renamed("conv", "module")(weights))),
           second=LOAD, says="found module. before them"),
    monday(13, "46", eighth(torch.float8_e5m2), second="COST_UNVERIFIED", says="found a torch.float8_e5m2 one"),
    monday(13, "47", eighth(torch.float8_e4m3fnuz), second="COST_UNVERIFIED", says="found a torch.float8_e4m3fnuz one"),
    monday(13, "48", rename("model_task2.pth", "model_task2.pth.tar"), naming=True),
    monday(13, "49", rename("model_task1.pth", "model_task1 (2).zip"), naming=True),
    monday(13, "50", as_folder("model_task1.pth"), naming=True, says="unpacked"),
    monday(13, "51", as_folder("model1"), naming=True, says="unpacked"),
    monday(13, "52", change(state_of=lambda weights: (3, weights)), second=LOAD, says="found a tuple"),
    monday(13, "53", change(state_of=lambda weights: {"net": weights, "best": 0.7}), second=LOAD,
           says="under the key 'net'"),
    # 14: paths and notebooks
    monday(14, "56", older_notebooks(4)),
    monday(14, "57", older_notebooks(2)),
    Odd(14, os.fsdecode(b"Friday/M\xfcller B10902058"), "B10902058", few=True),
    Odd(14, "Friday/B10902059", "B10902059", latin_names),
    # 18 and 19: one finding a cause, and what is meant by it
    monday(18, "60", change(("import torch\n", "import torch\nfrom torchvision import transforms as T\n")),
           second="FLAGGED", says="found torchvision in line 2"),
    monday(18, "61", change(("import torch\n", "import torch\nimport torchvision.ops as ops\n")), second="FLAGGED",
           says="found torchvision.ops in line 2"),
    monday(19, "62", change((LOADS, "model.conv.bias.data = state['conv.bias']"), state_of=prefixed("module.")),
           second=LOAD, says="found module. before them"),
    monday(19, "63", change((LOADS, "model.conv.load_state_dict({k: state[f'conv.{k}'] for k in ('weight', 'bias')})"),
                            state_of=prefixed("_orig_mod.")), second=LOAD, says="found _orig_mod. before them"),
    # 20: outputs that nobody told the student of are scored as they are
    monday(20, "64", change(("return y", "return nn.functional.softmax(y, dim=1)"))),
    monday(20, "65", change(("return y", "return y.sigmoid()"))),
    monday(20, "66", change(("return y", "return nn.functional.dropout(y, 0.3)")), second="COST_UNVERIFIED"),
    monday(20, "67", change(("return y", "return y.softmax(-1)"))),
)
# Files beside the submissions that make no student, and the words that say so.
LOOSE = {"Monday/report_B10902098.pdf": "passed over report_B10902098.pdf: a file's name alone does not make a student",
         "Monday/Lab05_task1_B10902002.ipynb": "passed over Lab05_task1_B10902002.ipynb: B10902002 has a submission",
         "Thursday/submitted/model_task2.pth": "passed over model_task2.pth: it lies beside the submissions"}


def make_odd_class(root: Path, students: tuple[Odd, ...] = ODD) -> Path:
    """Writes the class into the folder `root`, which it makes."""
    scratch = root.with_name(f"{root.name} scratch")
    for one in students:
        folder = write_seven(scratch / one.where, one.number)
        if one.spoil:
            one.spoil(folder)
        section, _, name = one.where.partition("/")
        place = root / section / ("hand-ins" if section == "Friday" else "") / name
        (root if section.endswith(".zip") else place.parent).mkdir(parents=True, exist_ok=True)
        if section.endswith(".zip"):
            _pack(root / section, folder, f"{name}/", one)
        elif name.endswith(".zip"):
            _pack(place, folder, f"{place.stem}/" if name.startswith("Lab05_") else "", one)
        elif section == "Wednesday":
            for attachment, path in enumerate(sorted(folder.iterdir())):
                shutil.copy(path, root / section / f"{name}_{55000 + attachment}_{path.name}")
        else:
            shutil.copytree(folder, place / "lab05" if section == "Thursday" else place)
        for path in (place, *place.rglob("*"), *place.parent.glob(f"{place.name}_*")):
            if path.exists():
                os.utime(path, (_moment(one.at), _moment(one.at)))
    for name in LOOSE:
        (root / name).write_text("")
    shutil.rmtree(scratch)
    return root


def _moment(at: str) -> float:
    return datetime.datetime.fromisoformat(at.replace("Z", "+00:00")).timestamp()


def _pack(archive: Path, folder: Path, within: str, one: Odd) -> None:
    """Adds a folder's files to a zip: with a time in UTC, beside which the local time is another zone's, or without."""
    members = [(within + path.relative_to(folder).as_posix(), path.read_bytes())
               for path in sorted(folder.rglob("*")) if path.is_file()]
    with zipfile.ZipFile(archive, "a") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a name that is there twice
        for name, content in (*members, *((name, text.encode()) for name, text in one.more)):
            info = zipfile.ZipInfo(name, (2026, 12, 24, 9, 0, 0))
            if one.at.endswith("Z"):
                info.extra = struct.pack("<HHBI", 0x5455, 5, 1, int(_moment(one.at)))
            else:
                info.date_time = tuple(datetime.datetime.fromisoformat(one.at).timetuple()[:6])
            file.writestr(info, content)
