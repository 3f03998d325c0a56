"""The report's figures: the drawing's arrows, the chosen images, maps of errors, and the whole command."""
import itertools
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import ROOT, assert_one_line_error, load_file
from made_layouts import write_voc
from PIL import Image
from sklearn.metrics import average_precision_score
from torch import nn
from torch.nn import functional as F

from figures.report import __main__ as command
from figures.report import build, data, gather, models, tables
from figures.report.content import Content, add_costs, add_data, add_model, add_runs
from figures.report.drawing import draw_network, fit_name
from figures.report.folder import renewing
from figures.report.graph import main_path, trace
from figures.report.outline import OUTLINE
from utils.lab import LabError
from utils.labels_cat import CATEGORIES
from utils.metric import ConfusionMatrix
from utils.run_records import RunRecord
from utils.tables import aligned, markdown

SKIPS = {("stem", "up0"), ("down1", "up1"), ("down2", "up2"), ("down3", "up3")}


def history(mious: list[float], seed: int) -> list[dict]:
    """Records as training writes them; the confusion matrix has nothing to do with the mIoU."""
    counts = np.random.RandomState(seed).randint(0, 50, (8, 8)) + 200 * np.eye(8, dtype=int)
    return [{"epoch": epoch, "train_loss": 2 / epoch, "train_miou": miou + 0.03, "loss": 1.5 / epoch, "miou": miou,
             "accuracy": miou + 0.1, "seconds": 30.0, "finished": "2026-11-21 12:00:00", "confusion": counts.tolist()}
            for epoch, miou in enumerate(mious, 1)]


RUNS = {"wide": ({"EPOCHS": 3, "WIDTH": 16, "LEARNING_RATE": 0.01}, [0.31, 0.5234, 0.51], "2026-11-20 09:00:00"),
        "wide flips": ({"EPOCHS": 3, "WIDTH": 16, "LEARNING_RATE": 0.01, "FLIP": 0.5}, [0.4, 0.45, 0.5678],
                       "2026-11-20 10:00:00"),
        "small|net": ({"EPOCHS": 4, "RUNG": "lean", "FLIP": 0.5}, [0.21, 0.4321], "2026-11-20 11:00:00")}


def make_runs(folder: Path) -> Path:
    for seed, (name, (settings, mious, started)) in enumerate(RUNS.items()):
        (folder / name).mkdir(parents=True)
        about = {"settings": settings, "data": "abc", "processes": 1, "parameters": 1000 * (seed + 1),
                 "started": started}
        (folder / name / "settings.json").write_text(json.dumps(about), encoding="utf-8")
        (folder / name / "history.json").write_text(json.dumps(history(mious, seed)), encoding="utf-8")
    return folder


def make_coast(folder: Path) -> None:
    """A run on other classes than the lab's."""
    (folder / "coast").mkdir()
    for name, content in (("settings", {"class_names": ["sea", "land"], "settings": {"WIDTH": 4}}),
                          ("history", [{"epoch": 1, "miou": 0.9, "confusion": [[1, 2], [3, 4]]}])):
        (folder / f"coast/{name}.json").write_text(json.dumps(content), encoding="utf-8")


def squeezed(text: str) -> str:
    """`text` without the blanks that line up the columns of its tables."""
    return re.sub(" {2,}", " ", text)


@pytest.fixture(scope="module")
def made(tmp_path_factory, sample, weights) -> SimpleNamespace:
    """One report of made-up runs and untrained networks on the drawn sample."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "runs").mkdir()
    make_runs(folder / "runs")
    notes = build.make_report(folder / "report", torch.device("cpu"), str(sample), folder / "runs", weights=weights,
                              dpi=50)
    text = squeezed((folder / "report/report.md").read_text(encoding="utf-8"))
    return SimpleNamespace(folder=folder, out=folder / "report", notes=notes, text=text)


# The drawing

def test_the_arrows_of_the_u_net_are_its_skips_and_its_way():
    graph = trace(load_file(ROOT / "network/network.py").UNet(2), (32, 64))
    way = ["image", "stem", "down1", "down2", "down3", "down4", "up3", "up2", "up1", "up0", "head", "logits"]
    assert graph.edges.keys() == SKIPS | {*itertools.pairwise(way)}
    assert main_path(graph) == {*itertools.pairwise(way)}
    shapes = {node.name: node.shape for node in graph.nodes}
    assert shapes["down4"] == (32, 2, 4) and shapes["up1"] == (4, 16, 32) and shapes["logits"] == (8, 32, 64)
    ax, = draw_network(graph).axes
    assert sum(text.arrow_patch is not None for text in ax.texts if hasattr(text, "arrow_patch")) == len(graph.edges)
    boxes = [box for box in ax.patches if hasattr(box, "get_xy")]  # in the order of the nodes
    wide, middle = boxes[5].get_width(), [box.get_y() + box.get_height() / 2 for box in boxes]
    assert wide == max(box.get_width() for box in boxes) and middle[5] == min(middle)  # down4: most channels, lowest
    assert middle[1] == middle[9] and middle[4] == middle[6]  # a U


def test_sums_outside_of_blocks_are_meetings_and_say_what_resized():
    file = load_file(ROOT / "network2/network.py")
    for dtype in ("float32", "int8"):
        graph = trace(file.deploy(file.LowComplexityNet(), dtype), (64, 128))
        assert graph.edges["image", "stage4"] == "unshuffle" and graph.edges["stage16", "context"] == "mean"
        assert {source for source, target in graph.edges if target == "+"} == {"lateral16", "context"}
        assert {source for source, target in graph.edges if target == "+ (2)"} == {"lateral8", "+"}
        assert {source for source, target in graph.edges if target == "+ (3)"} == {"stage4", "refine8"}
        assert graph.edges["head", "logits"] == graph.edges["+", "+ (2)"] == "resize"


class Own(nn.Module):
    """A student's: lists of blocks, a shared pool, concatenation, and a condition that no symbolic trace survives."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(True))
                                   for i, o in ((3, 4), (4, 8), (8, 16))])
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ModuleList([nn.Conv2d(24, 8, 1), nn.Conv2d(12, 4, 1)])
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Conv2d(4, 8, 1)

    def forward(self, x):
        if x.shape[2] % 4:
            raise ValueError
        skips = []
        for block in self.down:
            x = block(self.pool(x) if skips else x)
            skips.append(x)
        for block, skip in zip(self.up, skips[1::-1], strict=True):
            x = block(torch.cat([F.interpolate(x, scale_factor=2), skip], 1))
        return self.head(self.norm(x))


def test_a_students_network_keeps_its_skips():
    graph = trace(Own(), (16, 32))
    assert {("down.1", "cat"), ("down.0", "cat (2)"), ("up.1", "head")} <= graph.edges.keys()
    assert graph.edges["down.0", "down.1"] == "max pool" and graph.edges["down.2", "cat"] == "resize"
    assert "norm" not in {node.name for node in graph.nodes}


def test_long_names_are_broken_and_then_cut():
    names = {"stage16": "stage16", "inner.twice (2)": "inner.\ntwice (2)", "encoder_stage_two": "encoder_\nstage_two",
             "classification_head": "classifica…\nhead", "abcdefghijklmnop": "…ghijklmnop"}
    assert {name: fit_name(name) for name in names} == names
    assert max(len(line) for name in names for line in fit_name(name).split("\n")) <= 11


class Few(nn.Module):
    """One child around everything, called by another name than forward; then a block that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.ModuleDict({"one": nn.Conv2d(3, 4, 1), "twice": nn.Conv2d(4, 4, 1)})
        self.head = nn.Conv2d(4, 8, 1)

    def forward(self, x):
        x = self.inner["one"](x)
        return self.head(self.inner["twice"](self.inner["twice"](x)) + x)


def test_a_block_that_runs_twice_is_drawn_twice():
    assert list(trace(Few(), (8, 8)).edges) == [
        ("image", "inner.one"), ("inner.one", "inner.twice"), ("inner.twice", "inner.twice (2)"),
        ("inner.twice (2)", "+"), ("inner.one", "+"), ("+", "head"), ("head", "logits")]


class Opaque(Few):
    def forward(self, x):
        return self.head(torch.from_numpy(self.inner["one"](x).detach().numpy()))


def test_what_cannot_be_followed_is_not_drawn():
    assert trace(Opaque(), (8, 8)) is None
    content, matrix = Content(), ConfusionMatrix()
    matrix.counts[:] = 5
    one = gather.Scored(build.TASKS[1], Path("m.pth"), Opaque(), gather.NetworkCost(5, 1.0, 2), [], None, [matrix])
    add_model(content, one, "val", {})
    assert "architecture_task1" not in content.figures and "torch.export" in content.texts["architecture_task1"]


# Images

def test_the_chosen_images_show_every_class_that_occurs():
    rng = np.random.RandomState(3)
    shares = np.zeros((300, 8))
    shares[:, 1] = 1
    for k, index in ((2, 7), (3, 123), (4, 250), (6, 251)):  # each of them in one image alone
        shares[index, k] = 0.004 * k
    shares[rng.permutation(300)[:40], 7] = 0.3  # vehicles in some; void and sky nowhere
    chosen = data.choose_images(shares)
    assert len(chosen) == 20 == len(set(chosen)) and chosen == sorted(chosen)
    assert {7, 123, 250, 251} <= set(chosen)
    assert (shares[chosen].max(0) > 0).tolist() == [False, True, True, True, True, False, True, True]
    assert data.choose_images(shares[:3]) == [0, 1, 2]


def test_class_shares_by_hand():
    targets = np.array([[[1, 1, 1, 255]], [[0, 1, 7, 7]]], np.uint8)
    np.testing.assert_array_equal(data.count_classes(targets)[:, [0, 1, 7]], [[0, 1, 0], [0.25, 0.25, 0.5]])


def test_error_maps_by_hand():
    target = np.array([[1, 2, 3, 4, 255]], np.uint8)
    one, other = np.array([[1, 0, 3, 0, 0]], np.uint8), np.array([[1, 2, 0, 5, 0]], np.uint8)
    assert models.find_errors(target, [one]).tolist() == [[0, 1, 0, 1, 255]]
    assert models.find_errors(target, [one, other]).tolist() == [[0, 1, 2, 3, 255]]
    painted = models.paint(np.full((1, 5, 3), 60, np.uint8), models.find_errors(target, [one, other]))
    assert painted[0].tolist() == [[170] * 3, [217, 95, 2], [31, 78, 121], [0] * 3, [255] * 3]


def test_images_from_best_to_worst():
    def scored(share: int) -> ConfusionMatrix:
        matrix = ConfusionMatrix(2)
        matrix.counts[:] = [[share, 100 - share], [100 - share, share]]
        return matrix

    shares = [50, 90, 70, 10, 60, 80, 20]
    chosen = models.choose_to_show([[scored(share) for share in shares]] * 2)
    assert [shares[index] for index in chosen] == [90, 70, 50, 10]


def test_augmentation_alone_and_together():
    kinds = data.augmentations({"FLIP": 0.5, "CROP": 0.2, "SCALE": [0.5, 2.0], "ROTATE": 3, "COLOR": 0.0, "X": 1})
    assert [title.split("\n")[0] for title in kinds] == ["as stored", "mirrored", "zoom 0.5 to 2",
                                                         "rotated up to 3 degrees", "all of them"]
    assert list(data.augmentations({"FLIP": 0, "CROP": 0, "COLOR": 0})) == ["as stored"]


# The whole report

FIGURES = {"data_images", "data_frequencies", "data_shares", "augmentations", "cost_accuracy", "iou_models", "panels",
           "errors", "panels_task1",
           *(f"{name}_task{number}" for number in (1, 2)
             for name in ("architecture", "layers", "curves", "overfitting", "iou", "confusion"))}


def test_every_figure_is_there_and_not_blank(made):
    assert {path.stem for path in made.out.glob("*.png")} == {path.stem for path in made.out.glob("*.svg")} == FIGURES
    for path in made.out.glob("*.png"):
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("L"), float)
        assert min(pixels.shape) > 50 and pixels.std() > 8, path
        svg = path.with_suffix(".svg").read_text(encoding="utf-8")
        assert svg.rstrip().endswith("</svg>") and len(svg) > 5000, path


def test_the_text_has_the_hand_outs_order_and_shows_every_figure(made):
    headings = [line for line in made.text.splitlines() if line.startswith("#")]
    assert headings[1:] == ["## The data", "## Task 1: U-Net", "### Architecture", "### Improvements",
                            "### Pros and cons", "### Accuracy", "### Loss", "### Optimizer", "### Over-fitting",
                            "## Task 2: low complexity", "### Methods", "### Why", "### How"]
    shown = re.findall(r"^!\[Figure (\d+): [^]]*\]\((\w+)\.png\)$", made.text, re.M)
    assert [int(number) for number, _ in shown] == list(range(1, len(FIGURES) + 1))
    assert {name for _, name in shown} == FIGURES
    for section in OUTLINE:
        assert section.questions in made.text or section.heading.endswith("no task")
    assert made.notes == [] and "Left out" not in made.text


def test_the_figures_in_the_text_are_those_of_the_runs(made):
    for name, (_, mious, _) in RUNS.items():
        best, cell = max(mious), name.replace("|", "\\|")
        row, = re.findall(rf"^\| {re.escape(cell)} \| (\d+/\d.*) \|$", made.text, re.M)
        epoch = mious.index(best) + 1
        assert row.split(" | ")[:6] == [f"{len(mious)}/{RUNS[name][0]['EPOCHS']}", f"{best:.4f}", str(epoch),
                                        f"{best + 0.1:.4f}", f"{best + 0.03:.4f}", "+0.0300"]
        assert f"{name} {best:.4f} (epoch {epoch})" in made.text
        counts = np.array(json.loads((made.folder / "runs" / name / "history.json").read_text())[0]["confusion"])
        iou = np.diag(counts) / (counts.sum(0) + counts.sum(1) - np.diag(counts))
        assert f"| {cell} | {iou.mean():.4f} | " + " | ".join(f"{value:.4f}" for value in iou) + " |" in made.text
    # by hand: 0.5678 - 0.5234
    assert "| wide flips | wide | FLIP - to 0.5 | 0.5678 | +0.0444 |" in made.text


def test_the_networks_figures_are_those_of_the_test_script(made, sample, weights, here):
    result = here(load_file(ROOT / "test_task2.py").main, weights[2], sample)
    flops, size, miou, fom = (line.partition("=")[2].strip() for line in result.stdout.splitlines())
    assert f"| {int(flops):,} | {size.removesuffix(' KB')} |" in made.text
    assert f"mIoU {miou}" in made.text and fom == "unranked"


def test_what_is_made_has_a_place_in_the_outline():
    runs = [RunRecord(f"run {width}", {"settings": {"WIDTH": width}}, history([0.3, 0.4], width)) for width in (1, 2)]
    matrix = ConfusionMatrix()
    matrix.counts[:] = 5
    content, scored = Content(), []
    add_data(content, SimpleNamespace(
        dataset=SimpleNamespace(arrays=(None, np.zeros((2, 4, 8), np.uint8))), stored=lambda index: (None, None)), runs)
    for number, task in build.TASKS.items():
        scored.append(gather.Scored(task, Path(f"model_task{number}.pth"), nn.Identity(), gather.NetworkCost(5, 1.0, 2),
                                    [], None, [matrix] * 2))
        add_runs(content, runs, number, {})
        add_model(content, scored[-1], "val", {})
    add_runs(content, runs, None, {})
    add_costs(content, scored, runs, {})
    places = [key for section in OUTLINE for key in section.content]
    assert {*content.figures, *content.texts} | {"panels", "errors", "panels_task1"} == {*places}
    assert len(places) == len({*places})


def test_rows_of_text_as_tables():
    assert markdown([["a", "b"], ["x|y", "1"]]).splitlines() == ["| a    | b |", "|:-----|--:|", "| x\\|y | 1 |"]
    assert aligned([["name", "n"], ["a", "10", "told"], [], ["heading"]], left=(0, 2)) == [
        "name      n", "a        10  told", "", "heading"]


def test_other_measures_by_hand():
    matrix = ConfusionMatrix()
    matrix.counts[:2, :2] = [[3, 1], [2, 4]]  # rows: target; class 0 is void; IoU 3 / 6 and 4 / 7
    one = gather.Scored(build.TASKS[1], Path("model.pth"), nn.Identity(), gather.NetworkCost(5, 1.0, 2), [], None,
                        [matrix])
    head, _, row = ([cell.strip() for cell in line.strip("|").split("|")]
                    for line in tables.measures_table(one).splitlines())
    assert dict(zip(head, row, strict=True)) == {
        "mIoU": "0.5357", "without void": "0.5714", "frequency-weighted IoU": "0.5429",  # 0.4 * 3 / 6 + 0.6 * 4 / 7
        "pixel accuracy": "0.7000", "accuracy without void": "0.6667", "mean accuracy": "0.7083", "mean AP": "-",
        "boundary F": "-"}


class Rounding(nn.Module):
    """The class is the first channel: k * x - k * k / 2 is largest at the k next to x."""

    def __init__(self) -> None:
        super().__init__()
        self.classes = nn.Parameter(torch.arange(8.0))

    def forward(self, x):
        k = self.classes[:, None, None]
        return k * x[:, :1] - k * k / 2


def test_a_boundary_four_pixels_off_is_missed():
    target = torch.ones(2, 256, 512, dtype=torch.uint8)
    target[..., 300:] = 5
    for shift, score in ((0, 1), (4, 0)):
        data = torch.ones(2, 3, 256, 512)
        data[..., 300 + shift:] = 5
        one = gather.score(build.TASKS[1], Path("n.py"), Path("m.pth"), Rounding(), [(data, target)],
                           torch.device("cpu"))
        assert len(one.matrices) == 2 and one.metric.accuracy() == 1 - shift / 512
        assert one.boundaries.mean() == score


def test_average_precision_of_network_and_baseline_is_scikit_learns():
    rng = np.random.RandomState(0)
    targets = rng.randint(0, 3, (4, 256, 512)).astype(np.uint8)  # classes 0 to 2, a tenth of the pixels ignored
    targets[rng.rand(4, 256, 512) < 0.1] = 255
    data = torch.from_numpy(rng.rand(2, 3, 256, 512).astype(np.float32) * 3)
    batches, known = [(data, torch.from_numpy(targets[:2]))], targets[:2] != 255

    def by_scikit_learn(p: np.ndarray) -> list[float]:
        return [average_precision_score(targets[:2][known] == k, p[:, k][known]) for k in range(3)] + [np.nan] * 5

    one = gather.score(build.TASKS[1], Path("n.py"), Path("m.pth"), Rounding(), batches, torch.device("cpu"))
    with torch.no_grad():
        expected = by_scikit_learn(Rounding()(data).softmax(1).numpy())
    np.testing.assert_allclose(one.precision.average_precision(), expected, atol=1e-3)
    metric, precision = gather.score_baseline(targets, batches, torch.device("cpu"))
    shares = np.stack([(targets == k).sum(0) for k in range(8)]) / np.maximum((targets != 255).sum(0), 1)
    expected = by_scikit_learn(np.stack([shares, shares]))
    np.testing.assert_allclose(precision.average_precision(), expected, atol=1e-3)
    hit = (shares.argmax(0) == targets[:2])[known].mean()
    assert metric.accuracy() == pytest.approx(hit, abs=1e-3)  # a position without labels has the shares of all
    rows = tables.class_figures("it", metric, precision)
    assert list(rows) == ["it: IoU", "it: AP"] and np.isnan(rows["it: AP"][3:]).all()


def test_runs_are_compared_with_the_one_they_differ_least_from():
    def run(name: str, started: str, miou: float, **settings: object) -> RunRecord:
        return RunRecord(name, {"started": started, "settings": settings}, [{"epoch": 1, "miou": miou}])

    runs = [run("third", "3", 0.55, A=1, B=2, MODEL="c"), run("first", "1", 0.4, A=1, B=1, MODEL="a"),
            run("second", "2", 0.5, A=2, B=1, MODEL="b"), run("again", "4", 0.54, A=1, B=2, MODEL="d")]
    rows = [line.strip("| ").split(" | ") for line in squeezed(tables.steps_table(runs, {})).splitlines()[2:]]
    assert [row[0] for row in rows] == ["first", "second", "third", "again"]
    assert rows[1][1:] == ["first", "A 1 to 2", "0.5000", "+0.1000"]
    assert rows[2][1:] == ["first", "B 1 to 2", "0.5500", "+0.1500"]
    assert rows[3][1:] == ["third", "nothing: the same settings again", "0.5400", "-0.0100"]


def test_a_run_of_any_name_and_settings_tells_its_task():
    assert RunRecord("mine", {"task": 2, "settings": {"WIDTH": 3, "MODEL": "a.pth"}}, []).task == 2
    assert [RunRecord("mine", {"settings": {name: 1}}, []).task for name in ("WIDTH", "RUNG", "DEPTH")] == [1, 2, None]


def test_a_handed_in_network_belongs_to_the_runs_that_left_the_same_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = make_runs(tmp_path / "runs")
    Path("model_task2.pth").write_bytes(b"calibrated")
    for name, content in (("small|net", b"calibrated"), ("wide", b"another")):
        (runs / name / f"model_task{2 if 'small' in name else 1}.pth").write_bytes(content)
    found, _ = gather.find_runs(runs, None)
    matrix = ConfusionMatrix()
    matrix.counts[:2, :2] = [[3, 1], [1, 3]]  # an IoU of 3 / 5 for both
    one = gather.Scored(build.TASKS[2], Path("model_task2.pth"), nn.Identity(), gather.NetworkCost(5, 1.0, 2), [], None,
                        [matrix])
    gather.name_runs([one], found, runs)
    assert one.runs == ["small|net"]
    text = squeezed(tables.cost_table([one], {"small|net": one.cost}, found))
    assert text.count("small") == 1 and "task 2: model_task2.pth (run small\\|net) | 5 | 1.000 | 2 | 0.6000" in text
    told = tables.changed_since([one], found)
    assert told.startswith("model_task2.pth scores 0.6000, while the run small|net recorded 0.4321 at its best epoch")
    assert tables.changed_since([one], found[1:]) == ""


def test_weights_that_a_later_run_has_overwritten_are_not_the_earlier_ones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("model_task1.pth").write_bytes(b"of the later run")
    for name, hour in (("early", 10), ("late", 12), ("young", None)):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        settings = {"started": "2026-11-21 09:00:00", "settings": {"WIDTH": 8, "MODEL": "model_task1.pth"}}
        (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
        if hour:
            record = {"epoch": 1, "miou": 0.3, "finished": f"2026-11-21 {hour}:00:00"}
            (folder / "history.json").write_text(json.dumps([record]), encoding="utf-8")
    for names, expected in ((None, {"late"}), (["early"], set()), (["late"], {"late"})):
        runs, _ = gather.find_runs(tmp_path / "runs", names)
        assert gather.weights_of_runs(runs, tmp_path / "runs").keys() == expected


# The folder

def test_a_students_own_files_are_kept_and_the_others_renewed(tmp_path):
    out = tmp_path / "report"
    for number in (1, 2, 3):
        with renewing(out) as (folder, kept):
            (folder / "report.md").write_text(f"skeleton {number}", encoding="utf-8")
            (folder / "a.png").write_text(f"figure {number}", encoding="utf-8")
            if number == 1:
                (folder / "gone.png").write_text("of a run that is no more", encoding="utf-8")
        assert kept == ([] if number == 1 else ["mine/photo.png", "report.md"])
        if number == 1:
            (out / "report.md").write_text("my own words", encoding="utf-8")
            (out / "mine").mkdir()
            (out / "mine/photo.png").write_text("photo", encoding="utf-8")
    texts = {path.relative_to(out).as_posix(): path.read_text(encoding="utf-8") for path in out.rglob("*.*")}
    texts.pop("made.json")
    assert texts == {"report.md": "my own words", "report-new.md": "skeleton 3", "a.png": "figure 3",
                     "mine/photo.png": "photo"}
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interruption_leaves_the_old_folder_and_nothing_else(tmp_path, monkeypatch, error, sample):
    with renewing(tmp_path / "report") as (folder, _):
        (folder / "report.md").write_text("old", encoding="utf-8")

    def stop(*_args: object) -> None:
        raise error

    monkeypatch.setattr(build, "save", stop)
    image = SimpleNamespace(draw=lambda: None, caption="")
    with pytest.raises(error), renewing(tmp_path / "report") as (folder, _):
        (folder / "half.png").write_text("half", encoding="utf-8")
        build._draw(Content({"panels": image}), folder, 50)
    assert [path.name for path in tmp_path.iterdir()] == ["report"]
    assert (tmp_path / "report/report.md").read_text(encoding="utf-8") == "old"


# Bad input, and what is missing

def test_bad_input_is_one_line(tmp_path, sample, weights, monkeypatch, here):
    monkeypatch.chdir(tmp_path)  # where no trained networks lie
    runs = make_runs(tmp_path / "runs")
    (tmp_path / "own").mkdir()
    (tmp_path / "own/thesis.docx").write_text("mine", encoding="utf-8")
    (runs / "broken").mkdir()
    (runs / "broken/history.json").write_text("[{}]", encoding="utf-8")
    make_coast(runs)
    (runs / "young").mkdir()
    (runs / "young/settings.json").write_text("{}", encoding="utf-8")
    cpu, out = torch.device("cpu"), tmp_path / "out"
    for options, part in (
            ({"out": tmp_path / "own"}, r"an empty folder.*found thesis\.docx"),
            ({"out": tmp_path / "own/thesis.docx"}, "expected a folder to write .* found a file at"),
            ({"out": tmp_path / "own/thesis.docx/report"}, "found a file at .*thesis.docx: pass another --out"),
            ({"names": ["wide", "wode"]}, r"\(broken, coast, small.net, wide, wide flips, young\), found 'wode'"),
            ({"names": ["broken"]}, "record of epoch 1"), ({"names": ["young"]}, "a finished epoch"),
            ({"names": ["wide", "coast"]}, "lab's 8 categories, found 2 classes, sea to land, in .*coast"),
            ({"data": str(write_voc(tmp_path / "voc"))}, "lab's 8 categories, found Pascal VOC 2012 with 21 classes"),
            ({"folder": tmp_path / "own"}, "expected runs in .*found none"),
            ({"data": str(tmp_path / "own")}, "expected leftImg8bit/"),
            ({"weights": {1: tmp_path / "none.pth"}}, "found none at .*none.pth"),
            ({"weights": {1: weights[2]}}, "weights that fit the network"),
            ({"network_files": {1: tmp_path / "none.py"}, "weights": weights}, "expected a network file, found none")):
        with pytest.raises(LabError, match=part):
            build.make_report(**{"out": out, "device": cpu, "data": str(sample), "folder": runs, "names": ["wide"],
                                 "weights": {}} | options)
        assert not out.exists()
    result = here(command.main, "--out", tmp_path / "own", "--data", sample)
    assert_one_line_error(result, "thesis.docx", "pass another --out")


def test_what_is_missing_is_left_out_with_a_line(tmp_path, sample, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("figures.report.gather.RUNS", tmp_path / "runs")
    notes = build.make_report(Path("report"), torch.device("cpu"), str(sample), dpi=40)
    text = Path("report/report.md").read_text(encoding="utf-8")
    assert len(notes) == 3 and all(f"- {note}\n" in text for note in notes)
    assert "expected runs in" in notes[0] and "no model_task1.pth" in notes[1] and "--task2 FILE" in notes[2]
    assert {path.stem for path in Path("report").glob("*.png")} == {"data_images", "data_frequencies", "data_shares",
                                                                     "augmentations"}
    assert "### Over-fitting" in text and CATEGORIES[1] in text


def test_runs_on_other_classes_are_left_out_with_a_line(tmp_path):
    folder = make_runs(tmp_path)
    make_coast(folder)
    runs, notes = gather.find_runs(folder, None)
    assert sorted(run.name for run in runs) == sorted(RUNS)
    note, = notes
    assert note.startswith("the run coast: expected a run on the lab's 8 categories, found 2 classes, sea to land, in")
