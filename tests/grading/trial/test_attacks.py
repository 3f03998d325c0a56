"""Hostile hand-ins, each of which must end in the state that it names, and leave nothing behind."""
import ast
import dataclasses
import os
import random
import re
import socket
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import ROOT, sandbox_level

from grading.trial import sandbox
from grading.trial.scoring import stage_images, try_task
from utils.lab import INPUT_SIZE, TASKS

FOLDER = ROOT / "tests/attacks"
ATTACKS = sorted(FOLDER.glob("*.py"))
SOME = random.Random(5).sample(ATTACKS, 10)  # in each run; all of them in make test-long
EXPECTED = re.compile(r"# expect: (?P<states>[A-Z_|]+)( (?P<codes>[A-Z_|]+))?"
                      r"(, (?P<macs>\d+) MACs, (?P<bytes>\d+) bytes)?")
LIMITS = sandbox.Limits(wall=60, cpu=90, memory=4 << 30, file_size=64 << 20, scratch=64 << 20)
HONEST = {"conv.weight": torch.zeros(8, 3, 1, 1), "conv.bias": torch.arange(8.0)}  # says vehicle, whatever it sees
GOOD = """import torch


def load_model(MODEL_PATH):
    model = torch.nn.Sequential()
    model.conv = torch.nn.Conv2d(3, 8, 1)
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    return model
"""


def write_weights(path: Path) -> Path:
    torch.save(HONEST, path)
    return path


@pytest.fixture(scope="module")
def arena(tmp_path_factory):
    """Two random images with random labels, the bait, and a way to try a hand-in on them."""
    level = sandbox_level()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, *INPUT_SIZE, 3), dtype=np.uint8)
    targets = rng.integers(0, 8, (2, *INPUT_SIZE), dtype=np.uint8)
    folder = tmp_path_factory.mktemp("arena")
    bait = {name: folder / name for name in ("label_labelIds.png", "neighbor", "secret", "staged", "in")}
    for path in list(bait.values())[3:]:
        path.mkdir()
    for path in list(bait.values())[:3]:
        path.write_bytes(b"bait")
    home_secret = Path.home() / f".lab-attack-secret-{os.getpid()}"
    home_secret.write_bytes(b"bait")
    listener = socket.create_server(("127.0.0.1", 0))
    callers = []

    def accept():
        while True:
            try:
                callers.append(listener.accept()[1])
            except OSError:
                return

    threading.Thread(target=accept, daemon=True).start()
    words = {"@LABEL@": bait["label_labelIds.png"], "@NEIGHBOR@": bait["neighbor"], "@SECRET@": home_secret,
             "@PORT@": listener.getsockname()[1], "@CANARY@": folder / "canary"}
    stage = stage_images(images, bait["staged"], b"secret of the run")

    def attempt(source: str | bytes, name: str, weights: Path | None = None, extra: dict[str, str] | None = None):
        patient = not isinstance(source, str) or "# expect: TIMEOUT" not in source
        place = bait["in"] / name
        place.mkdir()
        for file, text in (extra or {}).items():
            (place / file).write_text(text)
        if isinstance(source, str):
            for word, value in words.items():
                source = source.replace(word, str(value))
            source = source.encode()
        (place / "network_task2.py").write_bytes(source)
        weights = weights or write_weights(place / "model_task2.pth")
        record, masks, _ = try_task(TASKS[2], place / "network_task2.py", weights, stage, targets, ["one", "two"],
                                    level, LIMITS if patient else dataclasses.replace(LIMITS, wall=15))
        return SimpleNamespace(record=record, masks=masks, codes={flag["code"] for flag in record["flags"]})

    yield SimpleNamespace(attempt=attempt, targets=targets, callers=callers, canary=words["@CANARY@"], folder=folder)
    listener.close()
    home_secret.unlink()


@pytest.fixture(scope="module")
def endings(arena, request):
    """The attacks that this run asks for, as many at once as there are cores: {name: how it ended}."""
    asked = {item.callspec.params["path"] for item in request.session.items if "path" in getattr(
        getattr(item, "callspec", None), "params", {}) and item.path == Path(__file__)}
    outside = {path for path in arena.folder.rglob("*") if arena.folder / "in" not in path.parents}
    with ThreadPoolExecutor(max(2, os.cpu_count() or 1)) as pool:
        ended = dict(pool.map(lambda path: (path.stem, arena.attempt(path.read_text(encoding="utf-8"), path.stem)),
                              sorted(asked)))
    left = {path for path in arena.folder.rglob("*") if arena.folder / "in" not in path.parents} - outside
    ended["left behind"] = left
    return ended


def ancestors(pid: int) -> list[int]:
    found = []
    while pid > 1:
        try:
            status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            break
        pid = int(status.rpartition(")")[2].split()[1])
        found.append(pid)
    return found


def processes_of_the_sandbox() -> list[str]:
    """Children that were started here, or have lost their parent; not those of tests that run beside these."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        above = ancestors(int(path.parent.name))
        if os.getpid() not in above and os.getppid() in above:
            continue
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(ROOT / "grading" / "trial" / "inside.py") in command:
            found.append(command)
    return found


def test_the_corpus_is_as_large_as_it_should_be_and_says_what_it_expects():
    assert len(ATTACKS) >= 25
    for path in ATTACKS:
        text = path.read_text(encoding="utf-8")
        assert ast.get_docstring(ast.parse(text)), path
        assert EXPECTED.fullmatch(text.splitlines()[1]), path


@pytest.mark.parametrize("path", [pytest.param(path, marks=() if path in SOME else pytest.mark.long, id=path.stem)
                                  for path in ATTACKS])
def test_an_attack_ends_as_it_must(endings, arena, path):
    expected = EXPECTED.fullmatch(path.read_text(encoding="utf-8").splitlines()[1])
    ended, record = endings[path.stem], endings[path.stem].record
    assert record["state"] in expected["states"].split("|"), (record["state"], record["why"], record["log"][-500:])
    if expected["codes"]:
        assert ended.codes & set(expected["codes"].split("|")), record["flags"]
    if expected["macs"]:  # what it truly costs, whatever it pretends
        assert (record["flops"], record["size_kb"] * 1024) == (int(expected["macs"]), int(expected["bytes"]))
    if record["state"] in ("OK", "FLAGGED", "COST_UNVERIFIED"):
        # whatever it tried, it did not come to see the labels: random ones are hit by chance alone
        assert (ended.masks == arena.targets).mean() < 0.15 and record["miou"] < 0.1
    else:
        assert record["miou"] is None and record["fom"] is None and ended.masks is None
    assert len(record["log"].encode()) <= LIMITS.log + 200  # and a word on what was cut


def test_nothing_is_left_behind(endings, arena):
    assert endings["left behind"] == set() and not arena.canary.exists()
    assert arena.callers == []
    assert processes_of_the_sandbox() == []


class Harmful:
    """Touches a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "unpickled")


def bomb(path: Path) -> None:
    """A file of 4 MB that unpacks to 4 GB of zeros."""
    torch.save({"conv.weight": torch.zeros(8, 3, 1, 1)}, path)
    with zipfile.ZipFile(path) as archive:
        program = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/version", "3")
        with archive.open("archive/data/0", "w", force_zip64=True) as member:
            for _ in range(256):
                member.write(bytes(16 << 20))


@pytest.mark.parametrize(("make", "words"), [
    (lambda path, canary: torch.save({"conv.weight": Harmful(canary)}, path), "pickled object"),
    (lambda path, canary: torch.save(torch.nn.Conv2d(3, 8, 1), path), "pickled object"),
    (lambda path, canary: torch.save({"other": torch.ones(1)}, path), "Missing key"),
    (lambda path, canary: torch.save([1, 2], path), "expected a state_dict"),
    (lambda path, canary: path.write_bytes(os.urandom(4096)), "expected a state_dict"),
    (lambda path, canary: bomb(path), "")], ids=["pickle", "module", "other keys", "list", "noise", "bomb"])
def test_hostile_weights(arena, tmp_path, make, words, request):
    weights = tmp_path / "model_task2.pth"
    make(weights, arena.canary)
    ended = arena.attempt(GOOD, request.node.callspec.id.replace(" ", "-"), weights)
    assert ended.record["state"] in ("LOAD_ERROR", "OUT_OF_MEMORY") and words in ended.record["why"]
    assert ended.masks is None and not arena.canary.exists()


def test_a_source_that_is_not_utf_8(arena):
    ended = arena.attempt(GOOD.encode() + 'name = "Übung"\n'.encode("latin-1"), "latin")
    assert ended.record["state"] == "IMPORT_ERROR" and "utf-8" in ended.record["why"].lower()


def test_other_files_of_a_hand_in_that_shadow_the_standard_library(arena):
    shadows = {name: "raise SystemExit('shadowed')" for name in ("random.py", "typing.py", "torch.py")}
    assert arena.attempt(GOOD, "shadow", extra=shadows).record["state"] == "OK"
