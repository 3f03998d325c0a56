"""One network and its weights, in the sandbox, on the drawn sample: masks, costs, states and doubts.

The oracles are the two test scripts, torch's own argmax, and bytes made up by hand for what no honest child sends.
"""
import json
import math
import random
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import load_file, run_command
from sklearn.metrics import jaccard_score
from torch.nn import functional

from dataset.dataset import SegmentationDataset
from grading import sandbox
from grading.sandbox import Limits, Outcome
from grading.trials import PIXELS, stage_pictures, try_task
from grading.trials.claims import LARGEST, STAGES, read_claims
from grading.trials.costs import judge_costs
from grading.trials.inside import Ledger
from handin.weights import Contents, read_contents
from utils.lab import TASKS, LabError

LIMITS = Limits(wall=60)
TINY = '''
import torch
from torch import nn

{before}

class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, x):
        {forward}


def load_model(MODEL_PATH):
    model = Tiny()
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    {loaded}
    return model
'''
HONEST = "return self.conv(x)"


@pytest.fixture(scope="module")
def level() -> sandbox.Level:
    return sandbox.find_level(insecure=True)  # what runs here is this file's own


@pytest.fixture(scope="module")
def scene(sample, tmp_path_factory) -> SimpleNamespace:
    """The sample's validation pictures, staged in another order than the split's."""
    data = SegmentationDataset(sample, "val")
    images, targets = data.arrays
    stage = next(stage for stage in (stage_pictures(images, tmp_path_factory.mktemp("stage"), bytes([secret]))
                                     for secret in range(20)) if stage.order.tolist() == [1, 0])
    return SimpleNamespace(root=sample, images=images, targets=targets, stage=stage, names=["first", "second"])


@pytest.fixture
def attempt(scene, level, tmp_path):
    """attempt(source, ...) runs a small network as task 2: the record and the masks."""
    def run(source, weights=None, limits=LIMITS):
        network = tmp_path / "network.py"
        network.write_text(source, encoding="utf-8")
        if weights is None:
            weights = tmp_path / "model.pth"
            torch.manual_seed(0)
            torch.save({f"conv.{k}": v for k, v in torch.nn.Conv2d(3, 8, 3).state_dict().items()}, weights)
        return try_task(TASKS[2], network, weights, scene.stage, scene.targets, scene.names, level, limits)
    return run


def tiny(forward: str = HONEST, before: str = "", loaded: str = "") -> str:
    return TINY.format(forward=forward, before=before, loaded=loaded)


@pytest.mark.parametrize("number", [1, 2])
def test_the_same_figures_as_the_test_script(number, scene, weights, level, tmp_path):
    task = TASKS[number]
    record, masks = try_task(task, task.network_file, weights[number], scene.stage, scene.targets, scene.names, level,
                             LIMITS)
    figures = tmp_path / "figures.json"
    script = run_command(f"test_task{number}.py", weights[number], scene.root, "--json", figures, "--device", "cpu",
                         OMP_NUM_THREADS="1")
    assert script.status == 0, script.stderr
    told = json.loads(figures.read_text(encoding="utf-8"))
    assert record["state"] == "OK" and record["flags"] == [], record
    assert record["confusion"] == told["confusion_matrix"]
    assert f"Final IoU = {record['miou']:.6f}" in script.stdout
    assert record["iou"] == list(told["iou"].values()) and record["accuracy"] == told["accuracy"]
    assert (record["flops"], record["size_kb"], record["fom"]) == (told["flops"], told["size_kb"], told["fom"])

    model = load_file(task.network_file).load_model(str(weights[number]))
    assert record["parameters"] == sum(p.numel() for p in model.parameters())
    assert sum(row["parameters"] for row in record["layers"]) == record["parameters"]
    assert sum(row["macs"] for row in record["layers"]) == record["flops"]
    mean, std = (torch.tensor(value) for value in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    data = ((torch.from_numpy(np.array(scene.images)) / 255 - mean) / std).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = model.eval()(data.contiguous()).argmax(1)
    # in the split's order; the last digits may decide a tie the other way
    assert masks.shape == (2, 256, 512) and (masks != expected.numpy()).mean() < 1e-4
    each = [np.mean([value for value, union in zip(jaccard_score(target.ravel(), mask.ravel(), labels=range(8),
                                                                 average=None, zero_division=0),
                                                   np.bincount(np.concatenate([target, mask]).ravel(), minlength=8),
                                                   strict=True) if union])
            for target, mask in zip(scene.targets, masks, strict=True)]
    worst = sorted(zip(each, scene.names, strict=True))
    assert [picture["name"] for picture in record["pictures"]] == [name for _, name in worst]
    assert [picture["miou"] for picture in record["pictures"]] == pytest.approx([miou for miou, _ in worst])


def test_a_plain_network_of_other_layers_is_not_flagged(attempt, tmp_path):
    source = '''
import torch
from torch import nn
import torch.nn.functional as F


class Block(nn.Sequential):
    def __init__(self, i, o):
        super().__init__(nn.Conv2d(i, o, 3, padding=1), nn.GroupNorm(2, o), nn.SiLU(), nn.Dropout2d(0.1))


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = Block(3, 8), Block(8, 16), Block(16, 32)
        self.pool = nn.AvgPool2d(2)
        self.up1 = nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.up2 = nn.ConvTranspose2d(32, 8, 4, stride=2, padding=1, groups=2)
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.squeeze = nn.Linear(16, 8)
        self.head = nn.Conv2d(16, 8, 1)

    def forward(self, x):
        x = self.pool(x)
        a = self.a(x)
        b = self.b(self.pool(a))
        c = self.up1(self.c(F.max_pool2d(b, 2)))
        c = self.up2(torch.cat([b, c], 1))
        gate = torch.sigmoid(self.squeeze(F.adaptive_avg_pool2d(torch.cat([a, c], 1), 1).flatten(1)))
        return self.up(self.head(torch.cat([a, c * gate[:, :, None, None]], 1)))


def load_model(MODEL_PATH):
    model = UNet()
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    return model
'''
    path = tmp_path / "unet.py"
    path.write_text(source, encoding="utf-8")
    torch.save(load_file(path).UNet().state_dict(), tmp_path / "unet.pth")
    record, masks = attempt(source, tmp_path / "unet.pth")
    assert (record["state"], record["flags"], record["why"]) == ("OK", [], ""), record
    assert masks.max() < 8


def test_a_missing_file_is_a_state(scene, level, weights, tmp_path):
    for network, model in ((tmp_path / "none.py", weights[1]), (TASKS[1].network_file, tmp_path / "none.pth")):
        record, masks = try_task(TASKS[1], network, model, scene.stage, scene.targets, scene.names, level, LIMITS)
        assert record["state"] == "MISSING_FILE" and "none" in record["why"] and masks is None


@pytest.mark.parametrize(("state", "source", "why"), [
    ("IMPORT_ERROR", tiny(before="1 / 0"), "ZeroDivisionError"),
    ("LOAD_ERROR", tiny(loaded="model.conv = nn.Conv2d(4, 8, 3); model.load_state_dict(torch.load(MODEL_PATH))"),
     "size mismatch"),
    ("SHAPE_ERROR", tiny("return self.conv(x)[:, :7]"), "(2, 7, 256, 512)"),
    ("CRASH", tiny("raise KeyError('no such layer')"), "no such layer"),
    ("OUT_OF_MEMORY", tiny("return self.conv(x) + torch.ones(1 << 40).sum()"), "allocate"),
])
def test_what_a_small_network_does_wrong_is_a_state(state, source, why, attempt):
    record, masks = attempt(source)
    assert (record["state"], masks) == (state, None), record
    assert why in record["why"] and "\n" not in record["why"]
    assert record["miou"] is None and record["fom"] is None and record["flops"] is None


def test_an_endless_loop_is_a_timeout(attempt):
    record, _ = attempt(tiny("while True: pass"), limits=Limits(wall=4))
    assert record["state"] == "TIMEOUT" and "4 s" in record["why"] and record["seconds"] < 15


def test_what_is_measured_raises_its_flags(attempt):
    forward = """
        if not x.any() or len(x) > 1:
            return self.conv(x)
        self.kept = x
        y = nn.functional.conv2d(x, self.conv.weight.repeat(2, 1, 1, 1), padding=1)[:, :8]
        return y + torch.fft.rfft(x).abs().mean() + self.mine(y) - self.mine(y)
    """.strip()
    loaded = "model.mine = Mine(8, 8, 1); model.conv(torch.zeros(1, 3, 8, 8))"
    record, masks = attempt(tiny(forward, "class Mine(nn.Conv2d): pass", loaded))
    flags = {flag["code"]: flag["text"] for flag in record["flags"]}
    assert record["state"] == "FLAGGED" and masks is not None and record["miou"] >= 0, record
    assert set(flags) == {"SUBCLASS", "COST_VARIES", "SIZE_CHANGES", "EARLY_WORK", "SIZES_DISAGREE"}
    honest, dear = 256 * 512 * 8 * 27, 256 * 512 * (16 * 27 + 2 * 64)
    assert record["costs"]["thop"] == honest and record["costs"]["dispatched_max"] == dear == record["flops"]
    # conv, Mine and the picture that is kept
    held = 4 * (8 * 28 + 8 * 9) + 4 * 3 * 256 * 512
    assert record["costs"]["held_kb"] == record["size_kb"] == held / 1024


def test_work_that_thop_cannot_see_is_flagged_and_ranks(attempt):
    record, _ = attempt(tiny("return torch.fft.ifft(nn.functional.conv2d(x, self.conv.weight, padding=1)).real"))
    flags = [flag["code"] for flag in record["flags"]]
    assert record["state"] == "FLAGGED" and flags == ["COUNTERS_DISAGREE", "UNCOUNTED_WORK"], record
    assert record["costs"]["thop"] == 0 and record["flops"] == 256 * 512 * 8 * 27


def test_the_order_follows_from_the_secret_alone(tmp_path):
    images = np.arange(40, dtype=np.uint8)[:, None, None, None] + np.zeros((40, 256, 512, 3), np.uint8)
    stages = [stage_pictures(images, tmp_path / name, secret)
              for name, secret in (("a", b"x"), ("b", b"x"), ("c", b"y"))]
    orders = [stage.order.tolist() for stage in stages]
    assert orders[0] == orders[1] != orders[2] and sorted(orders[0]) == list(range(40)) != orders[0]
    staged = np.fromfile(stages[0].pictures, np.uint8).reshape(40, -1)
    assert (staged == stages[0].order[:, None]).all()
    with pytest.raises(LabError, match="expected pictures"):
        stage_pictures(images[..., 0], tmp_path, b"")


def report_of(**facts) -> bytes:
    told = {"held_before": 896, "held_after": 896, "thop": 10**6, "dispatched": 10**6, "zeros": 10**6, "hidden": 0,
            "seen": 10**6, "idle": 0, "smallest": 10**6, "largest": 10**6, "pair": 2 * 10**6, "elements": 10, **facts}
    return b"".join(json.dumps({"stage": stage, "seconds": 0.1, **(told if stage == "run" else {})}).encode() + b"\n"
                    for stage in STAGES)


def outcome(answer: bytes = bytes(2 * PIXELS), report: bytes | None = None, **changes) -> Outcome:
    return Outcome(**{"status": 0, "reason": "", "answer": answer, "overflow": False, "log": "", "seconds": 1.0,
                      "report": report_of() if report is None else report} | changes)


@pytest.mark.parametrize(("state", "sent"), [
    ("OK", outcome()),
    ("OK", outcome(bytes(PIXELS) + bytes([7]) * PIXELS)),
    ("OK", outcome(status=-11)),  # all was sent: how the interpreter ends is its own affair
    ("SHAPE_ERROR", outcome(bytes(2 * PIXELS - 1) + b"\x08")),
    ("SHAPE_ERROR", outcome(bytes([255]) * 2 * PIXELS)),
    ("SHAPE_ERROR", outcome(bytes(PIXELS))),
    ("SHAPE_ERROR", outcome(b"")),
    ("SHAPE_ERROR", outcome(overflow=True)),
    ("SHAPE_ERROR", outcome(overflow=True, reason="output", status=None)),
    ("CRASH", outcome(report=b"")),
    ("CRASH", outcome(report=b"[" * 65536)),
    ("CRASH", outcome(report=report_of()[:-10])),
    ("CRASH", outcome(reason="output", status=None)),
    ("CRASH", outcome(reason="processes", status=None)),
    ("TIMEOUT", outcome(reason="wall time", status=None)),
    ("TIMEOUT", outcome(reason="cpu time", status=None)),
    ("OUT_OF_MEMORY", outcome(reason="memory", status=None)),
    ("FLAGGED", outcome(report=report_of() + b"{}\n")),
    ("FLAGGED", outcome(report=report_of(thop=math.nan))),
    ("FLAGGED", outcome(report=report_of(thop=0, dispatched=0, zeros=0, largest=0, smallest=0, pair=0))),
    ("FLAGGED", outcome(report=report_of(largest=2 * 10**6))),
    ("FLAGGED", outcome(report=report_of(held_after=10**15 + 1))),
])
def test_only_whole_and_valid_answers_are_scored(state, sent, scene, weights, level, monkeypatch):
    monkeypatch.setattr(sandbox, "run", lambda *args, **options: sent)
    path = scene.root / "model.pth"
    torch.save({"conv.weight": torch.zeros(224)}, path)
    record, masks = try_task(TASKS[2], TASKS[2].network_file, path, scene.stage, scene.targets, scene.names, level,
                             LIMITS)
    assert record["state"] == state, record
    assert (masks is not None) == (record["miou"] is not None) == (state in ("OK", "FLAGGED"))
    if masks is not None:
        assert masks[scene.stage.order].tobytes() == sent.answer
    json.dumps(record, allow_nan=False).encode("utf-8")


def test_damaged_weights_never_stop_the_parent(scene, weights, level, tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox, "run", lambda *args, **options: outcome())
    rng, whole, flags = random.Random(0), weights[2].read_bytes(), set()
    for _ in range(100):
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 200)):
            damaged[rng.choice([rng.randrange(2000), -1 - rng.randrange(4000)])] = rng.randrange(256)
        path = tmp_path / "damaged.pth"
        path.write_bytes(damaged)
        record, _ = try_task(TASKS[2], TASKS[2].network_file, path, scene.stage, scene.targets, scene.names, level,
                             LIMITS)
        flags |= {flag["code"] for flag in record["flags"]}
        assert record["state"] in ("OK", "FLAGGED")
    assert "WEIGHTS_FILE" in flags


@pytest.mark.parametrize("told", [
    b"", b"\xff\xfe\x00", b"[" * 65536, b'{"stage":' * 5000, b"null", b"[]", b'"start"', b"1e999", b"{}" * 9,
    b'{"stage": ["start"]}', b'{"stage": {}}', b'{"stage": "start", "error": "\\ud800\\u0000\\n' + b"x" * 5000 + b'"}',
    b'{"stage": "start", "error": 5, "seconds": NaN}', b'{"stage": "start", "seconds": 1e999, "thop": 1e3}',
    b'{"stage": "start", "thop": ' + b"9" * 60000 + b"}", b'{"stage": "start", "thop": -1, "zeros": true}',
    b'{"stage": "start", "layers": [1, {}, {"name": [], "type": 1}], "strange": [1, null], "seconds": -Infinity}',
    b'{"stage": "start", "layers": ' + json.dumps([{"name": "\u202ea" * 300, "type": "\x1b[31m", "parameters": 1,
                                                     "macs": 1, "output": [1, -1, "x", 1e9], "share": 7}] * 60
                                                   ).encode() + b"}",
])
def test_hostile_claims_are_dropped(told):
    claims = read_claims(told)
    assert not claims.done and claims.numbers == {} and len(claims.layers) <= 400
    assert all(math.isfinite(seconds) and seconds >= 0 for seconds in claims.stages.values())
    for text in (claims.error, *claims.strange, *(row[key] for row in claims.layers for key in ("name", "type"))):
        assert len(text.encode("utf-8")) <= 2400 and text.isprintable()
    for row in claims.layers:
        assert row["output"] == [1] and row["share"] == 0.0


def test_damaged_claims_never_raise_and_stay_in_bounds():
    rng, whole = random.Random(0), report_of(parameters=5, strange=["aten::mv"], layers=[
        {"name": "a", "type": "b", "output": [1, 8], "parameters": 3, "macs": 4, "share": 0.5}])
    for _ in range(2000):
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 20)):
            place = rng.randrange(len(damaged))
            damaged[place:place + rng.randint(0, 3)] = rng.choice(
                [b"9", b"-", b"e99", b"[", b"{", b'"', b"\n", b"\xff", b"null", b"true", b"\\ud800", b"NaN", b""])
        claims = read_claims(bytes(damaged))
        assert all(type(value) is int and 0 <= value <= LARGEST for value in claims.numbers.values())
        assert len(claims.stages) <= len(STAGES) and claims.stage in STAGES


def doubts(literal_bytes: int = 0, contents: Contents | None = None, **facts) -> set[str]:
    contents = contents or Contents(stored=896, storages=2, beside=2 * 400 + 2048)
    return {flag["code"] for flag in judge_costs(read_claims(report_of(**facts)), contents, literal_bytes, 999).flags}


def test_counts_that_do_not_agree_are_doubted():
    assert doubts() == set() == doubts(hidden=200_000) == doubts(idle=200_000) == doubts(pair=1_700_000)
    assert doubts(hidden=200_001) == {"COUNTERS_DISAGREE"} == doubts(idle=200_001)
    assert doubts(smallest=900_000) == {"COST_VARIES"} == doubts(zeros=10) == doubts(pair=1_000_000)
    assert doubts(elements=1_000_001) == {"UNCOUNTED_WORK"} == doubts(strange=["quantized::conv2d"])
    assert doubts(subclassed=["a (Mine)"]) == {"SUBCLASS"} and doubts(early=1) == {"EARLY_WORK"}
    assert doubts(uncounted="no deepcopy") == {"UNCOUNTED"}
    assert doubts(held_after=10_000) == {"SIZE_CHANGES", "SIZES_DISAGREE"}
    assert doubts(held_before=6_000, held_after=6_000) == {"SIZES_DISAGREE"}
    assert doubts(contents=Contents(stored=896, storages=2, beside=2 * 400 + 2049)) == {"WEIGHTS_FILE"}
    assert doubts(literal_bytes=2048) == set() and doubts(literal_bytes=2049) == {"LITERALS"}


def test_the_larger_costs_rank():
    contents = Contents(stored=8 * 1024, storages=2, beside=2 * 400 + 2048 + 512)
    claims = read_claims(report_of(largest=3 * 10**6, held_after=2048))
    costs = judge_costs(claims, contents, 2048 + 1024, 500)
    assert costs.flops == 3 * 10**6 and costs.size_kb == 8 + 1 + 0.5
    assert costs.claimed["held_kb"] == 2 and costs.claimed["pth_unpacked_kb"] == 8
    assert judge_costs(claims, None, 0, 5 * 1024).size_kb == 5


def test_stored_bytes_are_those_of_the_tensors_unpacked(tmp_path):
    path, packed = tmp_path / "a.pth", tmp_path / "b.pth"
    torch.save({"a": torch.zeros(1000)[:10], "b": torch.zeros(3, dtype=torch.float64)}, path)
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(packed, "w") as small:
        for name in whole.namelist():
            small.writestr(name, whole.read(name), zipfile.ZIP_DEFLATED if "/data/" in name else zipfile.ZIP_STORED)
    assert packed.stat().st_size < 2000
    for file in (path, packed):
        assert (read_contents(file).stored, read_contents(file).storages) == (4000 + 24, 2)


def comment(path):
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = bytes(50_000)


def gap(path):
    with zipfile.ZipFile(path, "a") as archive:  # the directory moves on, what it was stays
        archive.fp.seek(archive.start_dir)
        archive.fp.write(bytes(50_000))
        archive.start_dir = archive.fp.tell()
        archive._didModify = True


def claim(path):
    """The last member is packed from more bytes than it unpacks to."""
    with zipfile.ZipFile(path) as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.fp.seek(archive.start_dir)
        archive.fp.write(bytes(50_000))
        archive.start_dir = archive.fp.tell()
        archive.infolist()[-1].compress_size += 50_000


@pytest.mark.parametrize("hide", [
    comment, gap, claim, lambda path: path.write_bytes(bytes(50_000) + path.read_bytes()),
    lambda path: torch.save({f"{index:0990}": torch.zeros(1) for index in range(60)}, path),
], ids=["comment", "gap", "claim", "front", "keys"])
def test_what_a_weights_file_holds_beside_its_tensors_counts(hide, scene, level, tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox, "run", lambda *args, **options: outcome())
    path = tmp_path / "model.pth"
    torch.save({"conv.weight": torch.zeros(224)}, path)
    hide(path)
    assert read_contents(path).storages  # nothing seems damaged
    record, _ = try_task(TASKS[2], TASKS[2].network_file, path, scene.stage, scene.targets, scene.names, level, LIMITS)
    assert [flag["code"] for flag in record["flags"]] == ["WEIGHTS_FILE"]
    assert 45_000 / 1024 < record["size_kb"] < 65_000 / 1024


@pytest.mark.parametrize("name", ["m.pth", "model of task 2, my best.pth"])
def test_what_torch_saves_is_no_doubt(name, tmp_path):
    for size in (1, 60):
        network = torch.nn.Sequential(*[torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8))
                                        for _ in range(size)])
        torch.save(network.state_dict(), tmp_path / name)
        contents = read_contents(tmp_path / name)
        assert doubts(contents=contents, held_before=contents.stored, held_after=contents.stored) == set()


@pytest.mark.parametrize(("work", "name"), [
    (lambda x: torch.linalg.solve(x, x), "aten::_linalg_solve_ex"),
    (lambda x: torch.dot(x[0], x[1], out=torch.empty(())), "aten::dot.out"),
    (lambda x: torch.cholesky_solve(x, x), "aten::cholesky_solve"),
    (lambda x: torch.ormqr(x, x[0], x), "aten::ormqr"),
    (lambda x: functional.embedding_bag(torch.tensor([[0, 1]]), x, per_sample_weights=x[:1, :2], mode="sum"),
     "aten::_embedding_bag_forward_only"),
    (lambda x: x.to(torch.complex64) @ x.to(torch.complex64), "aten::mm (complex)"),
    (lambda x: torch.inference_mode()(functional.linear)(x, x), "aten::linear"),
])
def test_work_that_no_counter_knows_is_named(work, name):
    x = torch.eye(4)
    with torch.no_grad(), Ledger() as ledger:
        work(x)
    assert name in ledger.strange


def test_usual_work_is_not_strange():
    x, square = torch.ones(1, 4, 8, 8), torch.eye(8)
    attention = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad(), Ledger() as ledger:
        for mode in ("nearest", "bilinear", "bicubic", "area"):
            functional.interpolate(x, scale_factor=2, mode=mode)
        functional.normalize(x), square.norm(), functional.grid_sample(x, torch.zeros(1, 2, 2, 2), align_corners=False)
        functional.conv_transpose2d(x, x.transpose(0, 1)), functional.linear(x, square), x @ square
        attention(x[0], x[0], x[0])
        functional.scaled_dot_product_attention(x, x, x), torch.einsum("nchw,wk->nchk", x, square)
    assert ledger.strange == set() and ledger.macs > 0
