"""Who is alike: fingerprints of weights without unpickling, shared passages of code, and the pairs made of both."""
import hashlib
import itertools
import os
import pickle
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT

from grading.errors import RIGHT, equal_errors, error_map, errors_path, read_errors, save_errors
from grading.intake import fingerprint as fingerprint_module
from grading.intake.fingerprint import fingerprint
from grading.kit.strip import strip_python
from grading.report.similarity.pairs import TaskFiles, find_pairs, groups
from grading.report.similarity.weights import compare
from grading.report.similarity.winnow import tokens, winnow

UNET = (ROOT / "network/network.py").read_text(encoding="utf-8")
# The same task by somebody else's hand: other blocks, transposed convolutions, other order.
OTHER_UNET = '''
import torch
from torch import nn


def block(a, b):
    layers = []
    for c in (a, b):
        layers += [nn.Conv2d(c, b, kernel_size=3, padding="same"), nn.GroupNorm(4, b), nn.LeakyReLU(0.1)]
    return nn.Sequential(*layers)


class Segmenter(nn.Module):
    def __init__(self, sizes=(24, 48, 96, 192)):
        super().__init__()
        self.ups = nn.ModuleList()
        self.downs = nn.ModuleList()
        previous = 3
        for size in sizes:
            self.downs.append(block(previous, size))
            previous = size
        for size in reversed(sizes[:-1]):
            self.ups.append(nn.ModuleDict({"up": nn.ConvTranspose2d(previous, size, 2, stride=2),
                                           "mix": block(2 * size, size)}))
            previous = size
        self.last = nn.Conv2d(previous, 8, kernel_size=1)

    def forward(self, images):
        kept = []
        for index, down in enumerate(self.downs):
            if index:
                images = nn.functional.avg_pool2d(images, 2)
            images = down(images)
            kept.append(images)
        kept.pop()
        for step in self.ups:
            images = step["up"](images)
            images = step["mix"](torch.cat((kept.pop(), images), 1))
        return self.last(images)


def load_model(MODEL_PATH):
    model = Segmenter()
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    return model
'''


def save(path: Path, **tensors: torch.Tensor) -> Path:
    torch.save(tensors, path)
    return path


def noise(seed: int, count: int = 3000) -> torch.Tensor:
    return torch.from_numpy(np.random.RandomState(seed).randn(count).astype(np.float32)) + 0.7


def test_a_fingerprint_holds_the_hash_of_each_storage(tmp_path):
    first, second = noise(0), noise(1, 200)
    found = fingerprint(save(tmp_path / "w.pth", a=first, b=second, view=first[:100], few=torch.arange(63.0),
                             fresh=torch.ones(500)))
    assert found["why"] == ""
    assert [(entry["sha256"], entry["count"]) for entry in found["storages"]] == [
        (hashlib.sha256(tensor.numpy().tobytes()).hexdigest(), tensor.numel()) for tensor in (first, second)]


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64, torch.int16, torch.int8])
def test_cosines_do_not_depend_on_the_type(tmp_path, kind):
    values = (noise(3) * 20).round()  # whole numbers, so that every type holds them, bfloat16 with two digits
    one, other, strange = (fingerprint(save(tmp_path / f"{name}.pth", w=tensor)) for name, tensor in (
        ("one", values), ("other", values.to(kind)), ("strange", (noise(4) * 20).round().to(kind))))
    likeness = compare([one, other, strange])
    assert likeness.cosine[0, 1] > 0.9999
    assert abs(likeness.cosine[0, 2]) < 0.5
    assert likeness.equal[0, 1] == 0


@pytest.mark.parametrize("mix", [0.0, 0.1, 0.3])
def test_cosines_are_those_of_the_weights(tmp_path, mix):
    first, other = [noise(seed) for seed in range(20)], [noise(seed) for seed in range(100, 120)]
    changed = [a + mix * b for a, b in zip(first, other, strict=True)]
    files = [fingerprint(save(tmp_path / f"{name}.pth", **{f"w{i}": tensor for i, tensor in enumerate(tensors)}))
             for name, tensors in (("a", first), ("b", changed), ("c", other))]
    likeness = compare(files)
    expected = np.mean([np.corrcoef(a.numpy(), b.numpy())[0, 1] for a, b in zip(first, changed, strict=True)])
    assert likeness.cosine[0, 1] == pytest.approx(expected, abs=0.02)
    assert abs(likeness.cosine[0, 2]) < 0.2
    assert likeness.paired_share[0, 1] == 1
    assert likeness.equal[0, 1] == (20 if mix == 0 else 0)


def test_nothing_is_unpickled(tmp_path):
    mark = tmp_path / "executed"

    class Bomb:
        def __reduce__(self):
            return os.system, (f"touch {mark}",)

    path = tmp_path / "w.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Bomb(), protocol=2))
        archive.writestr("archive/data/0", noise(0).numpy().tobytes())
    found = fingerprint(path)
    assert not mark.exists()
    assert [entry["count"] for entry in found["storages"]] == [3000]


def test_damaged_files_give_a_reason_and_no_exception(tmp_path):
    whole = save(tmp_path / "whole.pth", a=noise(0), b=noise(1)).read_bytes()
    rng, path = random.Random(0), tmp_path / "damaged.pth"
    for content in (b"", b"PK\x05\x06" + bytes(18), b"hello" * 99, whole[:-40], whole[50:]):
        path.write_bytes(content)
        assert fingerprint(path)["storages"] == []
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(rng.choice((1, 8))):  # half of them in the directory at the end
            place = rng.randrange(len(damaged) - 400 if rng.random() < 0.5 else 0, len(damaged))
            damaged[place] = rng.randrange(256)
        path.write_bytes(damaged)
        found = fingerprint(path)
        assert isinstance(found["why"], str) and len(found["storages"]) <= 2
    assert fingerprint(tmp_path / "missing.pth")["why"]


def test_a_bomb_is_read_up_to_the_limit(tmp_path, monkeypatch):
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", noise(0).numpy().tobytes())
        archive.writestr("archive/data/1", bytes(64 << 20))
        archive.writestr("archive/data/2", noise(1).numpy().tobytes())
    monkeypatch.setattr(fingerprint_module, "MOST_BYTES", 8 << 20)
    found = fingerprint(path)
    assert "8 MB" in found["why"] and len(found["storages"]) == 1
    monkeypatch.setattr(fingerprint_module, "MOST_STORAGES", 1)
    assert "1 of 3 storages" in fingerprint(path)["why"]


def test_infinities_and_nans_do_no_harm(tmp_path):
    values = noise(0)
    values[::7], values[1::7] = float("nan"), float("inf")
    one = fingerprint(save(tmp_path / "w.pth", w=values))
    assert np.isfinite(one["storages"][0]["projection"]).all()
    assert compare([one, one]).cosine[0, 1] == pytest.approx(1)


def test_tokens_are_blind_to_names_layout_comments_and_larger_numbers():
    one = "class A(nn.Module):\n    def f(self, x):\n        return self.conv(x, 3, 64)  # text\n"
    other = ('class Other(nn.Module):\n  """A docstring."""\n  def g(self, images):\n'
             "    # nothing\n    return self.first(images,\n       3, 128)\n")
    assert [token.text for token in tokens(one)] == [token.text for token in tokens(other)]
    assert [token.line for token in tokens(other) if token.text == "3"] == [6]
    for changed in ("class A(nn.Module):\n    def f(self, x):\n        return self.conv(x, 5, 64)\n",
                    one.replace("nn.Module", "nn.Sequential"), one.replace("return", "yield")):
        assert [token.text for token in tokens(one)] != [token.text for token in tokens(changed)]


@pytest.mark.parametrize(("text", "found", "passages"), [
    ('"\\' * 120_000, ["\\"], 0), ('\\"' * 120_000, ["\\"], 0), ("'''a" * 60_000, ["I"] * 30_000, 1),
    ("r'\\" * 80_000, ["\\"] * 40_000, 1), ("(" * 250_000, ["("] * 50_000, 1),
    ("\0\ufeff\u202e" * 50_000, ["\0", "\ufeff", "\u202e"] * 16_666 + ["\0", "\ufeff"], 3)])
def test_hostile_sources_are_read_to_their_end(text, found, passages):
    # Half-open strings, of which each is looked at once: in quadratic time this would take minutes.
    row = tokens(text)
    assert [token.text for token in row] == found and len(winnow(row).every) == passages


def sources(folder: Path, **texts: str) -> list[TaskFiles]:
    submissions = []
    for student, text in texts.items():
        path = folder / f"{student}.py"
        path.write_text(text, encoding="utf-8")
        submissions.append(TaskFiles(student, path, hashlib.sha256(path.read_bytes()).hexdigest()))
    return submissions


def test_a_renamed_copy_is_found_and_shown_and_others_are_not(tmp_path):
    renamed = UNET
    for old, new in (("DoubleConv", "Twice"), ("skip", "side"), ("stem", "begin"), ("32", "48"), ("    ", "  ")):
        renamed = renamed.replace(old, new)
    renamed = "# mine\n\n\n" + renamed
    stub = strip_python(UNET, "network/network.py", 1)[0]
    lower = stub.replace("Down", "Lower")
    pairs, _ = find_pairs(1, sources(tmp_path, a=UNET, b=renamed, c=OTHER_UNET, d=stub, e=lower))
    assert [(pair.first, pair.second, pair.code) for pair in pairs] == [("a", "b", 1.0)]
    assert "but for names" in pairs[0].evidence[0]
    line = UNET[:UNET.index("nn.MaxPool2d(2)")].count("\n") + 1
    for shift, ranges in zip((0, 3), pairs[0].lines, strict=True):
        assert any(first <= line + shift <= last for first, last in ranges)
        given = UNET[:UNET.index("def load_model")].count("\n") + 2  # the hand-out's own line
        assert not any(first <= given + shift <= last for first, last in ranges)


def test_a_copy_in_parts_is_found_with_its_share(tmp_path):
    half = OTHER_UNET[:OTHER_UNET.index("    def forward")]
    rest = UNET[UNET.index("class Up"):UNET.index("class UNet")]
    pairs, _ = find_pairs(1, sources(tmp_path, a=OTHER_UNET, b=half + rest))
    assert len(pairs) == 1 and 0.6 <= pairs[0].code < 0.9
    assert max(last for _, last in pairs[0].lines[0]) <= half.count("\n") + 1 < OTHER_UNET.count("\n") - 10
    most = OTHER_UNET.replace("        kept.pop()\n", "        kept.pop()\n        print(len(kept), [1, 2, 3])\n")
    pairs, _ = find_pairs(1, sources(tmp_path, a=OTHER_UNET, b=most.replace("images", "x")))
    assert len(pairs) == 1 and 0.6 <= pairs[0].code < 1
    assert "% of the passages" in pairs[0].evidence[0]


def test_equal_files_say_so_and_what_all_share_is_a_cluster(tmp_path):
    pairs, _ = find_pairs(1, sources(tmp_path, a=OTHER_UNET, b=OTHER_UNET))
    assert pairs[0].evidence == ["the network files are equal, byte for byte"]
    # Everybody has the tutorial's code and a few lines of their own, in which no two agree.
    rng, operators = random.Random(1), ("+", "-", "*", "/", "%", "@", "^", "&", "|", "<", ">", "==")
    own = {f"s{index}": OTHER_UNET + (
        f"\ny = {' '.join(f'x {rng.choice(operators)} {rng.randrange(10)} +' for _ in range(25))} x\n")
        for index in range(14)}
    pairs, clusters = find_pairs(1, sources(tmp_path, **own))
    assert pairs == [] and [cluster.students for cluster in clusters] == [sorted(own)]
    assert 0.6 < clusters[0].share < 1 and clusters[0].lines[-1][1] <= OTHER_UNET.count("\n") + 2
    few = dict(list(own.items())[:2])
    pairs, clusters = find_pairs(1, sources(tmp_path, **few))
    assert [(pair.first, pair.second) for pair in pairs] == [("s0", "s1")] and clusters == []


def test_equal_and_near_weights_are_found(tmp_path):
    torch.manual_seed(0)
    base = {f"w{i}": noise(i) for i in range(6)}
    variants = {"a": base, "b": dict(base), "near": {f"other.{k}": v + 0.05 * noise(90) for k, v in base.items()},
                "partly": {**{f"w{i}": noise(i) for i in range(2)}, **{f"w{i}": noise(i + 50) for i in range(2, 6)}},
                "fresh": {f"w{i}": noise(i + 200) for i in range(6)}, "smaller": {"w0": noise(300, 500)}}
    submissions = []
    for name, tensors in variants.items():
        path = save(tmp_path / f"{name}.pth", **tensors)
        digest = "same" if name in "ab" else hashlib.sha256(path.read_bytes()).hexdigest()
        submissions.append(TaskFiles(name, None, "", fingerprint(path), digest))
    found = {(pair.first, pair.second): pair for pair in find_pairs(2, submissions)[0]}
    assert set(found) == {("a", "b"), ("a", "near"), ("b", "near"), ("a", "partly"), ("b", "partly")}
    assert found["a", "b"].evidence == ["the weights files are equal, byte for byte"]
    assert found["a", "partly"].weights == pytest.approx(1 / 3) and "33%" in found["a", "partly"].evidence[0]
    assert "cosine 0.9" in found["a", "near"].evidence[0]
    assert groups(found) == [["a", "b", "near", "partly"]]


def test_equal_errors_are_the_share_of_all_errors():
    rng = np.random.RandomState(0)
    maps = [rng.choice([0, 1, 2, 7, RIGHT], (3, 20, 30)).astype(np.uint8) for _ in range(3)]
    maps.append(np.full_like(maps[0], RIGHT))
    found = equal_errors(maps)
    for (i, one), (j, other) in itertools.product(enumerate(maps), repeat=2):
        either = (one != RIGHT) | (other != RIGHT)
        expected = ((one == other) & either).sum() / max(either.sum(), 1)
        assert found[i, j] == pytest.approx(expected)


def test_networks_that_err_alike_are_a_pair_and_others_and_other_data_are_none(tmp_path):
    rng = np.random.RandomState(1)
    targets = rng.randint(0, 8, (60, 64, 128)).astype(np.uint8)
    targets[:, :8] = 255
    wrong = np.where(rng.rand(*targets.shape) < 0.3, (targets + 1) % 8, targets)
    wrong[:, :8] = 3  # no error where there is no label
    copy = np.where(rng.rand(*targets.shape) < 0.02, 0, wrong)
    other = np.where(rng.rand(*targets.shape) < 0.3, (targets + 2) % 8, targets)
    submissions = []
    for name, masks, data in (("a", wrong, "x"), ("copy", copy, "x"), ("other", other, "x"), ("elsewhere", wrong, "y")):
        path = errors_path(tmp_path, name, 2)
        path.parent.mkdir(parents=True)
        save_errors(path, error_map(masks.astype(np.uint8), targets), data)
        submissions.append(TaskFiles(name, errors=read_errors(path)))
    assert submissions[0].errors[0].shape == (50, 16, 32)
    pairs, _ = find_pairs(2, submissions)
    assert [(pair.first, pair.second) for pair in pairs] == [("a", "copy")]
    assert pairs[0].score == pairs[0].errors > 0.9 and "err alike" in pairs[0].evidence[0]
    errors_path(tmp_path, "a", 2).write_bytes(b"PK damaged")
    assert read_errors(errors_path(tmp_path, "a", 2)) is None is read_errors(tmp_path / "none.npz")


def test_a_large_class_is_compared():
    rng = np.random.RandomState(0)
    storages = [[{"sha256": f"{student}-{place}", "count": 1000 + place, "type": "f4",
                  "projection": rng.randn(32).round(4).tolist()} for place in range(60)] for student in range(200)]
    likeness = compare([{"storages": entries} for entries in storages])
    assert likeness.cosine.shape == (200, 200) and not likeness.equal[np.triu_indices(200, 1)].any()
