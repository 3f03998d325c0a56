"""The frontier: rungs and their costs, runs that go on or start again, the table, the recommendation, the figure."""
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import ROOT, assert_one_line_error, load_file
from made_layouts import write_voc
from matplotlib.figure import Figure
from PIL import Image

from frontier import __main__ as command
from frontier import jobs, plot, results, variants
from frontier import ladder as ladder_file
from frontier.blocks import OTHERS
from frontier.ladder import Ladder, may_fall, plan
from frontier.plot import plot_frontier
from training import headless
from training.headless import literal
from utils.lab import INPUT_SIZE, TASKS, LabError
from utils.tables import markdown
from utils.timing import time_network

# --- rungs and what they cost -------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def threshold(monkeypatch):
    """The figures here are worked out by hand for a threshold of 0.66, whatever the course's is."""
    monkeypatch.setitem(TASKS, 2, replace(TASKS[2], miou=0.66))
    for module in (ladder_file, plot, results):
        monkeypatch.setattr(module, "THRESHOLD", 0.66)
    monkeypatch.setattr(ladder_file, "ASSUMED", (0.66, 0.665, 0.68))
    monkeypatch.setattr(plot, "MIOU", 0.665)


@pytest.fixture(scope="module")
def ladder():
    return Ladder()


@pytest.mark.parametrize(("text", "rung"), [
    ("12/20/32,0/2/3,refine=1,context=0,block=grouped", ((12, 20, 32), (0, 2, 3), 1, False, "grouped")),
    (" 8/8/16, 1/0/2 ", ((8, 8, 16), (1, 0, 2), 0, True, "separable"))])
def test_rungs_from_text(ladder, text, rung):
    assert ladder.read(text) == (text.replace(" ", ""), rung)


def test_a_rung_of_the_table_keeps_its_name(ladder):
    name, rung = list(ladder.named.items())[-1]
    assert ladder.read(name) == (name, rung) == ladder.read(f"{name},block={rung.block}")
    widths, blocks = ("/".join(map(str, part)) for part in rung[:2])
    assert ladder.read(f"{widths},{blocks},refine={rung.refine},context={int(rung.context)}") == (name, rung)
    other, changed = ladder.read(f"{name},block=attention,widths=8/8/8")
    assert other == f"{name},block=attention,widths=8/8/8"
    assert changed == rung._replace(widths=(8, 8, 8), block="attention")


@pytest.mark.parametrize("text", ["nothing", "12/20/32", "12/20/32,0/2/3,what=1", "12/a/32,0/2/3", "",
                                  "12/20/32,0/2/3,refine", "12/20/32,0/2/3,block=none", "12/20/32,0/2/3,refine=x"])
def test_other_texts_end_in_one_line(ladder, text):
    with pytest.raises(LabError, match=r"^expected a (rung|block) of .*: check it$"):
        ladder.read(text)


def sums_by_hand(widths, blocks, refine, context):
    """MACs and parameters of the folded network of separable blocks: each convolution's taps at its resolution."""
    h, w = INPUT_SIZE
    w4, w8, w16 = widths
    layers = []   # (weights, biases, stride)
    for stride, c, d, n in zip((4, 8, 16), (12, w4, w8), widths, blocks, strict=True):
        layers += [(9 * c, c, stride), (c * d, d, stride)] + n * [(9 * d, d, stride), (d * d, d, stride)]
    layers += [(w16 * w4, w4, 16), (w8 * w4, w4, 8), (9 * w4, w4, 4), (8 * w4, 8, 4)]
    layers += refine * [(9 * w4, w4, 8), (w4 * w4, w4, 8)]
    macs = sum(weights * (h // stride) * (w // stride) for weights, _, stride in layers)
    parameters = sum(weights + biases for weights, biases, _ in layers)
    return macs + context * w16 * w4, parameters + context * (w16 * w4 + w4)


@pytest.mark.parametrize(("widths", "blocks", "refine", "context"), [
    ((16, 24, 48), (1, 2, 4), 1, 1), ((14, 20, 32), (0, 2, 3), 0, 1), ((14, 16, 24), (0, 1, 2), 0, 0)])
def test_costs_are_the_sums_by_hand(ladder, widths, blocks, refine, context):
    text = f"{'/'.join(map(str, widths))},{'/'.join(map(str, blocks))},refine={refine},context={context}"
    cost = ladder.cost(ladder.read(text)[1])
    macs, parameters = sums_by_hand(widths, blocks, refine, context)
    assert (cost.macs, cost.parameters, cost.kb) == (macs, parameters, parameters * 4 / 1024)


def test_safe_is_the_network_that_was_counted_before(ladder):
    # counted apart from this code when the ladder was designed: 20,591,360 MACs, 18,472 parameters
    assert ladder.cost(ladder.read("16/24/48,1/2/4,refine=1")[1]) == ladder_file.RungCost(20_591_360, 18_472, 72.15625)


def test_the_plan_holds_the_figures(ladder):
    text = plan(ladder, ["16/24/48,1/2/4,refine=1", "14/16/24,0/1/2,context=0"])
    macs, parameters = sums_by_hand((14, 16, 24), (0, 1, 2), 0, 0)
    kb = parameters * 4 / 1024
    # each filter has a bias; in 8 bits a byte a weight, and two each for a filter's bias and its step
    filters = (12 + 14) + (14 + 16 + 2 * 16) + (16 + 24 + 4 * 24) + (14 + 14 + 14 + 8)  # stages 4, 8, 16; decoder
    below = np.log2(ladder.cost(ladder.named[ladder.reference]).product / (macs * kb))
    for part in (f"{macs:,}", f"{parameters:,}", f"{kb:.3f}", f"{macs * kb:.3e}", f"{below:.2f}", "14/16/24",
                 *(f"{(macs * kb) ** 2 / margin:.2e}" for margin in (0.01, 0.015, 0.03)),
                 *(f"{(macs * size) ** 2 / 0.015:.2e}" for size in (kb / 2, (parameters + 3 * filters) / 1024)),
                 "0.72 s points"):
        assert f" {part} " in text or part in text.splitlines()[-1], part
    assert plan(ladder).count("\n| ") == 2 * len(ladder.named) + 1   # a heading is below an empty line


def test_how_far_miou_may_fall():
    assert may_fall(1, 0.68) == "0.0000"
    assert may_fall(0.8, 0.68) == f"{0.03 * (1 - 0.64):.4f}"        # (0.68 - 0.0108 - 0.65) = 0.64 x 0.03
    assert may_fall(0.5, 0.68) == "0.0200, to the threshold"
    assert may_fall(2, 0.68) == "must rise by 0.0900"


def test_a_network_file_that_lacks_something_ends_in_one_line(tmp_path, monkeypatch):
    path = tmp_path / "network.py"
    source = (ROOT / "network2/network.py").read_text(encoding="utf-8")
    for content, message in ((source.replace("def rungs()", "def table()"), "found no rungs: python -m frontier needs"),
                             (source.replace("    return {\n        #", "    raise NotImplementedError('task 2: the "
                                             "table, still to be written')\n    {\n        #"), "still to be written")):
        assert content != source
        path.write_text(content, encoding="utf-8")
        monkeypatch.setattr(ladder_file, "TASKS", {2: SimpleNamespace(network_file=path, miou=0.66)})
        with pytest.raises(LabError, match=message):
            Ladder()


# --- runs ---------------------------------------------------------------------------------------------------------

# Stands for the notebook: an epoch a tick, a checkpoint each, then the weights. Goes on from its checkpoint on RESUME.
FAKE = """
import json, os, pathlib, sys, time
given = json.loads(sys.argv[1])
folder = pathlib.Path(given["RUN"])
past = folder / "history.json"
history = json.loads(past.read_text()) if given["RESUME"] else []
print("from epoch", len(history), "threads", os.environ["OMP_NUM_THREADS"], flush=True)
for epoch in range(len(history) + 1, EPOCHS + 1):
    time.sleep(PAUSE)
    if given["SEED"] == FAILS and epoch == 2:
        sys.exit("error: expected a good seed, found a bad one")
    history.append({"epoch": epoch, "miou": 0.6 + epoch / 100 + given["SEED"] / 1000, "seconds": 1.5})
    (folder / "checkpoint.pth").write_text("there")
    past.write_text(json.dumps(history))
pathlib.Path(given["MODEL"]).write_text("weights")
"""
SCORE = ("import json, sys; json.dump({'miou': 0.67, 'flops': 100, 'size_kb': 2.0, 'data': 'val'}, "
         "open(sys.argv[1], 'w'))")
DRIVER = """
import sys
from frontier import jobs
from frontier import __main__
from utils.terminal import run_main
fake, score = sys.argv[1:3]
import json
jobs.POLL = 0.05
jobs.notebook_command = lambda job, settings: [sys.executable, "-c", fake, json.dumps(settings)]
jobs.score_command = lambda job, figures: [sys.executable, "-c", score, str(figures)]
run_main(lambda: __main__.main(sys.argv[3:]))
"""


def fake(epochs: int = 3, pause: float = 0, fails: int = 0) -> str:
    return f"EPOCHS, PAUSE, FAILS = {epochs}, {pause}, {fails}\n{FAKE}"


@pytest.fixture
def undrawn(monkeypatch):
    """Leaves the figure empty, for tests of other things: drawing it takes seconds."""
    monkeypatch.setattr(results, "plot_frontier", lambda rungs: Figure(figsize=(1, 1)))


@pytest.fixture
def trained(monkeypatch, tmp_path, sample, undrawn):
    """Runs `train` on one rung with the fake notebook, in this process; returns its status and each run's log."""
    monkeypatch.setattr(jobs, "POLL", 0.02)
    monkeypatch.setattr(jobs, "score_command", lambda job, figures: [sys.executable, "-c", SCORE, str(figures)])
    monkeypatch.setattr(jobs.signal, "signal", lambda *_: None)

    def train(*arguments: object, epochs: int = 3, fails: int = 0, name: str = "train") -> SimpleNamespace:
        monkeypatch.setattr(jobs, "notebook_command", lambda job, settings: [
            sys.executable, "-c", fake(epochs, fails=fails), json.dumps(settings)])
        try:
            status = command.main([name, "safe", "--folder", str(tmp_path), "--data", str(sample), "--epochs",
                                   str(epochs), *map(str, arguments)])
        except LabError as error:
            status = str(error)
        return SimpleNamespace(status=status, logs={path.parent.relative_to(tmp_path).as_posix(): path.read_text()
                                                    for path in tmp_path.glob("*/*/log.txt")})
    return train


def test_each_seed_leaves_its_result_and_is_not_trained_again(trained, tmp_path, capsys):
    done = trained("--seeds", 2, "--jobs", 2)
    assert done.status == 0
    threads = max(1, jobs.available_cores() // 2)
    assert done.logs == {f"safe/seed-{seed}": f"from epoch 0 threads {threads}\n" for seed in (1, 2)}
    result = json.loads((tmp_path / "safe/seed-2/result.json").read_text(encoding="utf-8"))
    assert (result["row"], result["seed"], result["miou"], result["flops"]) == ("safe", 2, 0.67, 100)
    assert result["last_miou"] == pytest.approx(0.632) and result["training_seconds"] == 4.5
    assert result["settings"]["EPOCHS"] == 3 and result["settings"]["RUNG"][0] == [16, 24, 48]
    output = capsys.readouterr()
    assert "safe seed 2: mIoU 0.6700, in the last epoch 0.6320, 3 epochs" in output.err
    assert "| safe |     2 | " in output.out

    (tmp_path / "safe/seed-2/log.txt").unlink()
    again = trained("--seeds", 3)
    assert set(again.logs) == {"safe/seed-1", "safe/seed-3"}
    assert "2 of 3 runs are finished already" in capsys.readouterr().err


def test_a_failed_run_is_one_line_the_others_go_on_and_it_is_resumed(trained, tmp_path, capsys):
    done = trained("--seeds", 3, fails=2)
    assert "expected 3 runs to finish, found 1 that failed" in done.status
    log = tmp_path / "safe/seed-2/log.txt"
    assert f"safe seed 2 failed: expected a good seed, found a bad one (log: {log})" in capsys.readouterr().err
    assert sorted(path.parent.name for path in tmp_path.glob("safe/*/result.json")) == ["seed-1", "seed-3"]
    again = trained("--seeds", 3)
    assert again.status == 0 and "from epoch 1" in again.logs["safe/seed-2"]


def test_data_of_other_classes_is_refused_before_anything_is_trained(trained, tmp_path):
    voc = write_voc(tmp_path / "voc")
    assert "expected the lab's 8 categories, found Pascal VOC 2012 with 21 classes" in trained("--data", voc).status
    assert not list(tmp_path.glob("safe*"))


def test_other_settings_start_again_and_keep_the_older_run_aside(trained, tmp_path, capsys):
    assert trained("--seeds", 1).status == 0
    again = trained("--seeds", 1, "-p", "LEARNING_RATE", "3e-3")
    assert again.logs["safe/seed-1"].startswith("from epoch 0")
    assert (tmp_path / "safe/seed-1.previous/result.json").exists()
    assert "seed-1.previous" in capsys.readouterr().err
    assert len(results.read_results(tmp_path)[0].runs) == 1
    assert json.loads((tmp_path / "safe/seed-1/result.json").read_text())["settings"]["LEARNING_RATE"] == 3e-3


def test_a_finished_run_that_was_put_aside_is_not_written_over(trained, tmp_path):
    for rate in ("1e-3", "3e-3"):
        assert trained("--seeds", 1, "-p", "LEARNING_RATE", rate).status == 0
    before = {path: path.read_bytes() for path in tmp_path.glob("safe/*/*.json")}
    again = trained("--seeds", 1, "-p", "LEARNING_RATE", "4e-3")
    assert "found a finished one there too: check --data, --epochs and -p" in again.status
    assert {path: path.read_bytes() for path in tmp_path.glob("safe/*/*.json")} == before and len(before) == 8


def test_ablations_share_the_recipes_runs(trained, tmp_path, capsys, monkeypatch):
    recipe = {**headless.notebook_settings(variants.NOTEBOOK), "EMA": 2, "WEIGHT_DECAY": 0, "WARM_UP": 0.1}
    monkeypatch.setattr(headless, "notebook_settings", lambda notebook: recipe)
    assert trained("--seeds", 1).status == 0
    (tmp_path / "safe/seed-1/log.txt").unlink()
    done = trained("--seeds", 1, "--ablation", "no EMA", "--ablation", "no weight decay", name="ablations")
    assert done.status == 0 and set(done.logs) == {"safe-no-EMA/seed-1"}
    output = capsys.readouterr()
    assert "left out: no weight decay, as the recipe has these settings already" in output.err
    assert re.search(r"\| no EMA +\| +1 \|", output.out) and "+0.00" in output.out
    assert json.loads((tmp_path / "safe-no-EMA/seed-1/result.json").read_text())["settings"]["EMA"] == 0


def test_each_block_is_a_variant_of_the_rung(trained, tmp_path):
    assert trained("--seeds", 1, "-p", "BRANCHES", 2, name="blocks").status == 0
    settings = {path.parts[-3]: json.loads(path.read_text())["settings"] for path in tmp_path.glob("*/*/result.json")}
    assert set(settings) == {"safe", *(f"safe,block={block}" for block in OTHERS)}
    own, other = settings["safe"], settings["safe,block=grouped"]
    assert (own["NETWORK"], own["BRANCHES"], own["RUNG"][-1]) == (None, 2, "separable")
    assert other["NETWORK"] == \
        "frontier.blocks:grouped(rung=((16, 24, 48), (1, 2, 4), 1, True, 'grouped'), branches=2)"
    assert other["BRANCHES"] == 0 and other["STORE"] == own["STORE"]   # of a file's deploy, so any network's


def test_ctrl_c_ends_all_at_once_and_the_same_command_goes_on(tmp_path, sample):
    arguments = [sys.executable, "-c", DRIVER, fake(4, pause=0.4), SCORE, "train", "safe", "--seeds", "2", "--jobs",
                 "2", "--epochs", "4", "--data", str(sample), "--folder", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FRONTIER_TEST": str(tmp_path)}
    process = subprocess.Popen(arguments, cwd=ROOT, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
                               text=True, encoding="utf-8")
    deadline = time.monotonic() + 300
    while len(list(tmp_path.glob("safe/*/checkpoint.pth"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert stderr.splitlines()[-1] == "stopped by Ctrl-C: the same command goes on from the last finished epochs"
    assert not [entry for entry in Path("/proc").iterdir() if entry.name.isdecimal() and marked(entry, tmp_path)]

    again = subprocess.run(arguments, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300,
                           check=False)
    assert again.returncode == 0, again.stderr
    logs = [path.read_text() for path in tmp_path.glob("safe/*/log.txt")]
    assert len(logs) == 2 and all(re.search(r"from epoch [1-3] ", log) for log in logs)


def marked(process: Path, folder: Path) -> bool:
    """Whether the process, a folder of /proc, was started by the test in `folder`."""
    try:
        return f"FRONTIER_TEST={folder}".encode() in (process / "environ").read_bytes()
    except OSError:
        return False


@pytest.mark.parametrize(("arguments", "parts"), [
    (("train", "safe", "-p", "SEED", "3"), ("found SEED", "check -p")),
    (("train", "safe", "-p", "START", "pruned.pth"), ("found START", "check -p")),
    (("train", "safe", "-p", "NONSENSE", "3"), ("found NONSENSE", "check -p")),
    (("ablations", "safe", "--ablation", "magic"), ("expected an ablation of", "'magic'")),
    (("levers", "safe", "--lever", "magic"), ("expected an ablation of", "'magic'")),
    (("train", "safe", "--data", "/nowhere"), ("expected a data folder", "/nowhere")),
    (("show",), ("expected finished runs", "found none")),
])
def test_bad_input_ends_in_one_line(arguments, parts, tmp_path, capsys):
    with pytest.raises(LabError) as caught:
        command.main([*arguments, "--folder", str(tmp_path)])
    renamed = "note: python -m frontier levers is python -m frontier ablations now"
    assert (renamed in capsys.readouterr().err) == (arguments[0] == "levers")
    assert all(part in str(caught.value) for part in parts) and "\n" not in str(caught.value)


def test_the_command_plans_and_ends_in_one_line(here):
    assert here(command.main, "plan", "8/8/8,0/0/1").stdout.count("| 8/8/8,0/0/1 |") == 2
    assert_one_line_error(here(command.main, "plan", "nothing"), "expected a rung", "'nothing'")


def test_settings_are_read_from_the_notebook():
    settings = headless.notebook_settings(variants.NOTEBOOK)
    assert settings["DEVICE"] == "auto" and settings["FLIP"] == 0.5 and tuple(settings["SCALE"]) == (0.75, 1.75)
    assert literal("/some/path") == "/some/path" and literal("1e-3") == 1e-3


def test_every_ablation_changes_settings_of_the_notebook():
    settings = headless.notebook_settings(variants.NOTEBOOK)
    assert {name for changes in variants.ABLATIONS.values() for name in changes} <= set(settings)


# --- the table ----------------------------------------------------------------------------------------------------


def write_results(folder, row: str, mious, macs: int, kb: float, **more):
    for seed, miou in enumerate(mious, 1):
        place = folder / row.replace("/", "-").replace(" ", "-") / f"seed-{seed}"
        place.mkdir(parents=True)
        content = {"row": row, "seed": seed, "flops": macs, "size_kb": kb, "miou": miou, "last_miou": miou - 0.002,
                   "settings": {"EPOCHS": 5, "SEED": seed}, "data": "x", **more}
        (place / "result.json").write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def made_up(tmp_path):
    write_results(tmp_path, "safe", [0.684, 0.686, 0.682], 20_000_000, 72.0)
    write_results(tmp_path, "lean", [0.671, 0.669, 0.667], 9_000_000, 32.0)
    write_results(tmp_path, "stretch", [0.664, 0.658, 0.661], 5_000_000, 15.0)    # passes, but not by a spread
    write_results(tmp_path, "tiny", [0.70], 1_000_000, 4.0)                       # one seed tells no spread
    write_results(tmp_path, "lean no EMA", [0.661, 0.659, 0.657], 9_000_000, 32.0, ablation="no EMA", base="lean",
                  changes={"EMA": 0})
    return tmp_path


def cells(text: str, name: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {name} ")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_table_by_hand(made_up):
    text = results.show(made_up)
    fom = (9_000_000 * 32.0) ** 2
    assert cells(text, "lean")[1:9] == ["3", "9,000,000", "32.000", "0.6690", "0.0020", "0.6670", f"{fom / 0.019:.3e}",
                                        f"{fom / 0.021:.3e}"]
    assert cells(text, "tiny")[4:6] == ["0.7000", "-"]
    # 0.669 -> 0.659: a point less; each mean's error is 0.002 / sqrt 3, the difference's sqrt 2 times that
    assert cells(text, "no EMA")[2:] == ["0.6590", "0.0020", "-1.00", f"{0.2 * (2 / 3) ** 0.5:.2f}"]
    assert "Recommended: lean, the smallest FoM" in text and "0.6690 - 0.0020 = 0.6670" in text
    assert "Note:" not in text
    assert (made_up / "table.md").read_text(encoding="utf-8") == text + "\n"
    assert Image.open(made_up / "frontier.png").size[0] > 1000
    assert (made_up / "frontier.svg").read_text(encoding="utf-8").count("lean") >= 3


def test_older_runs_say_lever(made_up, undrawn):
    for path in made_up.glob("lean-no-EMA/*/result.json"):
        path.write_text(path.read_text().replace('"ablation"', '"lever"'))
    assert cells(results.show(made_up), "no EMA")[2:] == ["0.6590", "0.0020", "-1.00", "0.16"]


def test_without_a_rung_that_is_sure_the_nearest_is_named(made_up):
    rungs = {result.name: result for result in results.read_results(made_up)}
    line = results.recommend([rungs["stretch"], rungs["lean no EMA"]])
    assert line.startswith("No recommendation") and "stretch comes nearest with 0.6610 - 0.0030 = 0.6580" in line
    assert "two seeds or more" in results.recommend([rungs["tiny"]])


def test_rows_that_are_not_comparable_are_noted(made_up, undrawn):
    path = made_up / "lean/seed-3/result.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "settings": {"EPOCHS": 9, "SEED": 3}}))
    assert "Note: lean seed 1 and lean seed 3 differ in EPOCHS" in results.show(made_up)
    path.write_text("{")
    with pytest.raises(LabError, match=r"found no row in .*result\.json: delete it"):
        results.read_results(made_up)


def test_an_image_is_timed_on_the_deployed_network(made_up):
    torch.manual_seed(0)
    network = load_file(ROOT / "network2/network.py")
    torch.save(network.deploy(network.LowComplexityNet()).state_dict(), made_up / "safe/seed-1/model_task2.pth")
    rungs = {result.name: result for result in results.read_results(made_up)}
    threads = torch.get_num_threads()
    torch.set_num_threads(2)  # other than the one that is timed
    try:
        assert 0.1 < results.milliseconds(rungs["safe"]) < 10_000 and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert results.milliseconds(rungs["lean"]) is None


def test_what_is_timed_is_a_copy_in_eval_mode():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1), torch.nn.BatchNorm2d(2)).train()
    modes = []
    network[1].register_forward_pre_hook(lambda module, _: modes.append(module.training))
    assert time_network(network, (8, 8), passes=1) > 0
    assert set(modes) == {False} and network.training and network[1].num_batches_tracked == 0


def test_tables_are_markdown():
    assert markdown([["a", "b"], ["long", "1"]]).splitlines() == ["| a    | b |", "|:-----|--:|", "| long | 1 |"]


def test_the_figure_shows_every_rung():
    rungs = [{"name": name, "macs": macs, "kb": kb, "miou": miou, "spread": spread} for name, macs, kb, miou, spread in
             (("safe", 2e7, 72.0, 0.685, 0.004), ("lean", 9e6, 32.0, 0.669, 0.003), ("stretch", 5e6, 15.0, 0.64, None))]
    figure = plot_frontier(rungs)
    for ax in figure.axes:
        assert {text.get_text() for text in ax.texts} >= {"safe", "lean", "stretch"}
    left, _, plane = figure.axes
    assert left.get_xscale() == plane.get_xscale() == plane.get_yscale() == "log"
    (line,) = [line for line in plane.lines if line.get_linestyle() == "--"][:1]
    products = line.get_xdata() * line.get_ydata()   # MACs x KB is the same along it, and its FoM a power of 10
    assert products[0] == pytest.approx(products[1])
    assert np.log10(products[0] ** 2 / 0.015) % 1 == pytest.approx(0, abs=1e-9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    assert np.asarray(Image.open(buffer)).std() > 0
    plot_frontier(rungs[:1]).savefig(buffer, format="svg")
