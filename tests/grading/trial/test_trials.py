"""One network and its weights, in the sandbox, on the drawn sample: masks, costs, states and doubts.

The oracles are the two test scripts, torch's own argmax, and bytes made up by hand for what no honest child sends.
"""
import json
import math
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import load_file, run_command
from sklearn.metrics import jaccard_score

from dataset.dataset import SegmentationDataset
from grading.trial import sandbox
from grading.trial.claims import LARGEST, STAGES, read_claims
from grading.trial.costs import doubt_seams, doubts
from grading.trial.sandbox import Limits, Outcome
from grading.trial.scoring import PIXELS, stage_images, try_task
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
    """The sample's validation images, staged in another order than the split's."""
    data = SegmentationDataset(sample, "val")
    images, targets = data.arrays
    stage = next(stage for stage in (stage_images(images, tmp_path_factory.mktemp("stage"), bytes([secret]))
                                     for secret in range(20)) if [k for k in stage.order if k < 2] == [1, 0])
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
        return try_task(TASKS[2], network, weights, scene.stage, scene.targets, scene.names, level, limits)[:2]
    return run


def tiny(forward: str = HONEST, before: str = "", loaded: str = "") -> str:
    return TINY.format(forward=forward, before=before, loaded=loaded)


@pytest.mark.parametrize("number", [1, 2])
def test_the_same_figures_as_the_test_script(number, scene, weights, level, tmp_path):
    task = TASKS[number]
    record, masks, _ = try_task(task, task.network_file, weights[number], scene.stage, scene.targets, scene.names,
                                level, LIMITS)
    figures = tmp_path / "figures.json"
    script = run_command(f"test_task{number}.py", weights[number], scene.root, "--json", figures, "--device", "cpu",
                         OMP_NUM_THREADS="1")
    assert script.status == 0, script.stderr
    told = json.loads(figures.read_text(encoding="utf-8"))
    assert record["state"] == "OK" and record["flags"] == [], record
    assert record["confusion"] == told["confusion_matrix"]
    assert f"Final IoU = {record['miou']:.6f}" in script.stdout
    assert record["iou"] == list(told["iou"].values()) and record["accuracy"] == told["accuracy"]
    model = load_file(task.network_file).load_model(str(weights[number]))
    counters = sum(buffer.nbytes for name, buffer in model.named_buffers() if name.endswith("num_batches_tracked"))
    assert (record["flops"], record["size_kb"]) == (told["flops"], told["size_kb"] - counters / 1024)
    assert record["fom"] == told["fom"] and record["proof"]["unproved"] == ""

    held = [*model.parameters(), *(buffer for buffer in model.buffers() if buffer.is_floating_point())]
    assert record["parameters"] == sum(tensor.numel() for tensor in held)
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
    assert [image["name"] for image in record["images"]] == [name for _, name in worst]
    assert [image["miou"] for image in record["images"]] == pytest.approx([miou for miou, _ in worst])


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
        record, masks, _ = try_task(TASKS[1], network, model, scene.stage, scene.targets, scene.names, level, LIMITS)
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


def test_what_cannot_be_exported_is_scored_and_waits(attempt):
    forward = "return self.conv(x) if x.mean() > -9 else x"
    record, masks = attempt(tiny(forward))
    assert record["state"] == "COST_UNVERIFIED" and masks is not None and record["miou"] >= 0, record
    assert "values of the image" in record["flags"][0]["text"] and forward in record["flags"][0]["text"]
    assert record["flops"] == 256 * 512 * 8 * 27 and record["size_kb"] == 4 * 8 * 28 / 1024  # what it says itself


def test_task_1_loses_nothing_where_it_cannot_be_exported(scene, level, tmp_path):
    network, weights = tmp_path / "network.py", tmp_path / "model.pth"
    network.write_text(tiny("return self.conv(x) if x.mean() > -9 else x"), encoding="utf-8")
    torch.save({f"conv.{k}": v for k, v in torch.nn.Conv2d(3, 8, 3).state_dict().items()}, weights)
    record, masks, proof = try_task(TASKS[1], network, weights, scene.stage, scene.targets, scene.names, level, LIMITS)
    assert (record["state"], record["flags"], proof) == ("OK", [], None) and masks is not None
    assert record["proof"]["unproved"]


def test_the_order_follows_from_the_secret_alone(tmp_path):
    images = np.arange(40, dtype=np.uint8)[:, None, None, None] + np.zeros((40, 256, 512, 3), np.uint8)
    stages = [stage_images(images, tmp_path / name, secret)
              for name, secret in (("a", b"x"), ("b", b"x"), ("c", b"y"))]
    orders = [stage.order.tolist() for stage in stages]
    assert orders[0] == orders[1] != orders[2] and sorted(orders[0]) == list(range(48)) != orders[0]
    assert stages[0].composites == stages[1].composites != stages[2].composites and len(stages[0].composites) == 8
    staged = np.fromfile(stages[0].images, np.uint8).reshape(48, 256, 512, 3)
    for index, image in zip(stages[0].order, staged, strict=True):
        if index < 40:
            assert (image == index).all()
        else:
            composite = stages[0].composites[index - 40]
            assert (image[:, :composite.column] == composite.left).all() and composite.left != composite.right
            assert (image[:, composite.column:] == composite.right).all() and 128 <= composite.column < 384
    with pytest.raises(LabError, match="expected images"):
        stage_images(images[..., 0], tmp_path, b"")


def report_of(mode: str = "replay", **facts) -> bytes:
    told = {"macs": 10**7, "least_macs": 10**7, "elements": 10, "arithmetic": 10, "wide": 0, "bytes": 896,
            "number_bytes": 0, "nodes": 3, "unused": 0, "parameters": 224, **facts}
    return b"".join(json.dumps({"stage": stage, "seconds": 0.1, **(told if stage == "run" else {})}).encode() + b"\n"
                    for stage in STAGES[mode])


GRAPH = json.dumps({"schema": 1, "tensors": [], "nodes": [], "output": [0]}).encode()
EXPORT = len(GRAPH).to_bytes(8, "big") + GRAPH + b"tensors"
MASKS = 10  # of two images and eight composites


def outcome(answer: bytes = bytes(MASKS * PIXELS), report: bytes | None = None, **changes) -> Outcome:
    return Outcome(**{"status": 0, "reason": "", "answer": answer, "overflow": False, "log": "", "seconds": 1.0,
                      "report": report_of() if report is None else report} | changes)


def exported(answer: bytes = EXPORT, **changes) -> Outcome:
    return outcome(answer, report_of("export"), **changes)


@pytest.fixture
def sends(scene, level, monkeypatch, tmp_path):
    """sends(task, **outcomes by mode): the record and the masks of a child that sends these."""
    def run(task=2, **sent):
        monkeypatch.setattr(sandbox, "run", lambda level, program, arguments, *rest, **options: sent[arguments[0]])
        path = tmp_path / "model.pth"
        torch.save({"conv.weight": torch.zeros(224)}, path)
        record, masks, _ = try_task(TASKS[task], TASKS[task].network_file, path, scene.stage, scene.targets,
                                    scene.names, level, LIMITS)
        json.dumps(record, allow_nan=False).encode("utf-8")
        assert (masks is not None) == (record["miou"] is not None)
        return record, masks
    return run


@pytest.mark.parametrize(("state", "sent"), [
    ("OK", outcome()),
    ("OK", outcome(bytes((MASKS - 1) * PIXELS) + bytes([7]) * PIXELS)),
    ("OK", outcome(status=-11)),  # all was sent: how the interpreter ends is its own affair
    ("CRASH", outcome(bytes(MASKS * PIXELS - 1) + b"\x08")),
    ("SHAPE_ERROR", outcome(bytes(PIXELS))),
    ("SHAPE_ERROR", outcome(b"")),
    ("SHAPE_ERROR", outcome(overflow=True)),
    ("CRASH", outcome(report=b"")),
    ("CRASH", outcome(report=b"[" * 65536)),
    ("CRASH", outcome(report=report_of()[:-10])),
    ("CRASH", outcome(report=report_of(macs=-1))),
    ("CRASH", outcome(reason="output", status=None)),
    ("CRASH", outcome(reason="processes", status=None)),
    ("TIMEOUT", outcome(reason="wall time", status=None)),
    ("TIMEOUT", outcome(reason="cpu time", status=None)),
    ("OUT_OF_MEMORY", outcome(reason="memory", status=None)),
    ("FLAGGED", outcome(report=report_of(least_macs=10**6))),
    ("FLAGGED", outcome(report=report_of(macs=0, least_macs=0))),
])
def test_only_whole_and_valid_replays_are_scored(state, sent, scene, sends):
    record, masks = sends(export=exported(), replay=sent)
    assert record["state"] == state, record
    if masks is not None:
        assert scene.stage.unshuffle(sent.answer)[:2].tobytes() == masks.tobytes()


@pytest.mark.parametrize(("state", "sent"), [
    ("COST_UNVERIFIED", exported(b"")), ("COST_UNVERIFIED", exported(bytes(100))),
    ("COST_UNVERIFIED", exported(b"\xff" * 100)), ("COST_UNVERIFIED", exported((2**63).to_bytes(8, "big") + GRAPH)),
    ("COST_UNVERIFIED", exported((10).to_bytes(8, "big") + b"[" * 10)),
    ("SHAPE_ERROR", exported(overflow=True)), ("CRASH", outcome(b"", b"")),
    ("TIMEOUT", outcome(b"", b"", reason="wall time", status=None)),
])
def test_an_export_that_is_none_is_no_proof(state, sent, sends):
    record, _ = sends(export=sent, run=outcome(report=report_of("run", flops=5, held=1024)))
    assert record["state"] == state, record
    if state == "COST_UNVERIFIED":
        assert record["flops"] == 5 and record["size_kb"] == 1.0 and record["costs"] is None


def test_an_operator_that_refuses_at_last_is_no_proof(sends):
    refused = outcome(b"", b'{"stage": "start", "seconds": 0}\n{"stage": "load", "seconds": 0, "kind": "unproved", '
                           b'"error": "expected shapes that do not depend on values"}\n')
    record, masks = sends(export=exported(), replay=refused, run=outcome(report=report_of("run", flops=5, held=1024)))
    assert record["state"] == "COST_UNVERIFIED" and masks is not None
    assert "do not depend on values" in record["flags"][0]["text"]


@pytest.mark.parametrize("told", [
    b"", b"\xff\xfe\x00", b"[" * 65536, b'{"stage":' * 5000, b"null", b"[]", b'"start"', b"1e999", b"{}" * 9,
    b'{"stage": ["start"]}', b'{"stage": {}}', b'{"stage": "start", "error": "\\ud800\\u0000\\n' + b"x" * 5000 + b'"}',
    b'{"stage": "start", "error": 5, "seconds": NaN}', b'{"stage": "start", "seconds": 1e999, "flops": 1e3}',
    b'{"stage": "start", "macs": ' + b"9" * 60000 + b"}", b'{"stage": "start", "flops": -1, "held": true}',
    b'{"stage": "start", "layers": [1, {}, {"name": [], "type": 1}], "seconds": -Infinity}',
    b'{"stage": "start", "layers": ' + json.dumps([{"name": "\u202ea" * 300, "type": "\x1b[31m", "parameters": 1,
                                                     "macs": 1, "output": [1, -1, "x", 1e9], "share": 7}] * 60
                                                   ).encode() + b"}",
])
def test_hostile_claims_are_dropped(told):
    claims = read_claims(told, STAGES["run"])
    assert not claims.done and claims.numbers == {} and len(claims.layers) <= 400
    assert all(math.isfinite(seconds) and seconds >= 0 for seconds in claims.stages.values())
    for text in (claims.error, *(row[key] for row in claims.layers for key in ("name", "type"))):
        assert len(text.encode("utf-8")) <= 2400 and text.isprintable()
    for row in claims.layers:
        assert row["output"] == [1] and row["share"] == 0.0


def test_damaged_claims_never_raise_and_stay_in_bounds():
    rng, whole = random.Random(0), report_of(layers=[
        {"name": "a", "type": "b", "output": [1, 8], "parameters": 3, "macs": 4, "share": 0.5}])
    for _ in range(2000):
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 20)):
            place = rng.randrange(len(damaged))
            damaged[place:place + rng.randint(0, 3)] = rng.choice(
                [b"9", b"-", b"e99", b"[", b"{", b'"', b"\n", b"\xff", b"null", b"true", b"\\ud800", b"NaN", b""])
        claims = read_claims(bytes(damaged), STAGES["replay"])
        assert all(type(value) is int and 0 <= value <= LARGEST for value in claims.numbers.values())
        assert len(claims.stages) <= 3 and claims.stage in STAGES["replay"]


def codes(**facts) -> set[str]:
    told = {"macs": 10**6, "least_macs": 10**6, "elements": 20 * 10**6, "arithmetic": 400_000, "wide": 0, "bytes": 896,
            "number_bytes": 0} | facts
    return {flag["code"] for flag in doubts(told)}


def test_costs_that_are_not_usual_are_doubted():
    assert codes() == set()
    assert codes(elements=20 * 10**6 + 1) == {"UNCOUNTED_WORK"} == codes(arithmetic=400_001)
    assert codes(least_macs=999_999) == {"COST_VARIES"} and codes(wide=1) == {"WIDE_PRODUCTS"}
    assert codes(number_bytes=8) == {"NUMBERS"}
    assert codes(macs=131_071, least_macs=131_071, elements=0, arithmetic=0) == {"FREE"}


def test_labels_by_heart_are_told_from_a_network_by_composites(sample, tmp_path):
    """A table gives each image the labels of the one it looks most like; a network sees what is there."""
    images, targets = SegmentationDataset(sample, "train").arrays
    stage = stage_images(images, tmp_path, b"secret")
    staged = np.fromfile(stage.images, np.uint8).reshape(stage.count, *images.shape[1:])
    small = images[:, ::32, ::32].reshape(len(images), -1).astype(float)
    shown = staged[:, ::32, ::32].reshape(stage.count, -1).astype(float)
    looked_up = targets[((shown[:, None] - small) ** 2).sum(2).argmin(1)]
    unshuffled = stage.unshuffle(np.where(looked_up == 255, 0, looked_up).astype(np.uint8).tobytes())
    seams = stage.seams(unshuffled, targets)
    assert seams.whole > 0.95 and [flag["code"] for flag in doubt_seams(seams)] == ["BY_HEART"]

    rng = np.random.default_rng(0)
    truth = np.stack([targets[k] if k < stage.size else stage.composites[k - stage.size].of(targets)
                      for k in stage.order])
    noisy = np.where(rng.random(truth.shape) < 0.2, rng.integers(0, 8, truth.shape), truth % 8).astype(np.uint8)
    assert doubt_seams(stage.seams(stage.unshuffle(noisy.tobytes()), targets)) == []
