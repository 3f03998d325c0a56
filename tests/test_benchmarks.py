"""Benchmarks: what is compared is equal, the arithmetic is right, and the command runs. Nothing here is timed."""
import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import assert_one_line_error, run_command

from benchmarks import classroom, gpu, metric, report
from benchmarks.__main__ import BENCHMARKS, main
from benchmarks.data import Data, Naive
from benchmarks.measure import Cost, Goal, Road, Table, measure, require
from benchmarks.setup import QUICK, Cores, Setup, all_cores, hold
from utils.lab import LabError


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    setup = Setup(tmp_path_factory.mktemp("benchmarks"), QUICK)
    yield setup
    setup.close()


class Stopwatch:
    """A clock that only stubs move: a call of `stub(name, costs)` takes its next cost in CPU, twice that in wall."""

    def __init__(self):
        self.time, self.calls = Cost(100.0, 1000.0), []

    def __call__(self) -> Cost:
        return self.time

    def stub(self, name, *costs):
        left = list(costs)

        def run():
            self.calls.append(name)
            cost = left.pop(0)
            self.time = Cost(self.time.cpu + cost, self.time.wall + 2 * cost)
        return run


# --- measuring ----------------------------------------------------------------------------------------------------


def test_rounds_are_interleaved_and_every_second_one_reversed():
    clock = Stopwatch()
    roads = [Road(name, clock.stub(name, 1, 1, 1)) for name in "abc"]
    measure("stub", "", "", roads, 3, clock=clock)
    assert "".join(clock.calls) == "abc" "cba" "abc"


def test_medians_ratios_and_goals():
    clock = Stopwatch()
    table = measure("stub", "three stubs", "a piece", [
        Road("ours", clock.stub("ours", 4.0, 1.0, 2.0), units=2),
        Road("theirs", clock.stub("theirs", 30.0, 50.0, 40.0), goal=Goal(at_least=40)),
        Road("slow", clock.stub("slow", 42.0, 42.0, 42.0), goal=Goal(at_most=40, by="wall")),
        Road("absent", missing="pip install absent", goal=Goal(at_least=2))], 3, clock=clock)
    assert [row.median for row in table.rows[:3]] == [(1.0, 2.0), (40.0, 80.0), (42.0, 84.0)]
    assert [table.ratio(row) for row in table.rows] == [(1, 1), (40, 40), (42, 42), None]
    assert [table.verdict(row) for row in table.rows] == ["", "met", "MISSED", "not measured"]
    assert table.rows[0].spread == 0.75 and table.rows[1].spread == 0.25
    text = report.format_table(table)
    assert "ours *" in text and "not measured: pip install absent" in text and "MISSED" in text
    content = json.loads(json.dumps(report.table_json(table)))
    assert content["rows"][1]["rounds"] == [{"cpu": cost, "wall": 2 * cost} for cost in (30.0, 50.0, 40.0)]
    assert content["rows"][1]["ratio"] == {"cpu": 40, "wall": 40}


def test_a_road_may_bring_its_own_cost():
    clock = Stopwatch()
    table = measure("stub", "", "", [Road("apart", lambda: Cost(6.0, 9.0), 2), Road("here", clock.stub("here", 3.0))],
                    1, clock=clock)
    assert table.rows[0].costs == [(3.0, 4.5)]
    assert table.ratio(table.rows[1]) == pytest.approx((1.0, 6 / 4.5))


def test_holding_to_one_core_ends_with_the_block():
    before, threads = all_cores(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(KeyError), hold(Cores(before.numbers[-1:], 1)):
            assert torch.get_num_threads() == 1
            assert not before.numbers or os.sched_getaffinity(0) == {before.numbers[-1]}
            raise KeyError
        assert (all_cores(), torch.get_num_threads()) == (before, 2)
    finally:
        torch.set_num_threads(threads)


@pytest.fixture
def graded(tmp_path, monkeypatch):
    """The table of a class, with a grader and a script that only say an mIoU; the places of the grader's caches."""
    places = []
    monkeypatch.setattr(classroom, "grade", lambda *_, **__: places.append(os.environ["LAB_CACHE"]))
    monkeypatch.setattr(classroom, "read_records", lambda _: [{"student": "1", "tasks": {"2": {"miou": 0.5}}}])

    def run(script: float) -> tuple[Table, list[str]]:
        monkeypatch.setattr(classroom.subprocess, "run", lambda *_, **__: SimpleNamespace(
            stdout=f"Final IoU = {script:.6f}\n"))
        return classroom._whole_class(Setup(tmp_path, QUICK), tmp_path, tmp_path, Path("1"), ""), places

    return run


@pytest.mark.parametrize("before", [None, "of the class"])
def test_a_class_is_graded_with_a_cache_of_its_own_and_the_users_comes_back(graded, tmp_path, monkeypatch, before):
    if before:
        monkeypatch.setenv("LAB_CACHE", before)
    table, places = graded(0.5)
    assert os.environ.get("LAB_CACHE") == before
    assert all(Path(place).is_relative_to(tmp_path) for place in places) and len(places) == 1
    assert [len(row.costs) for row in table.rows] == [1, 1]


def test_a_class_that_the_scripts_score_otherwise_is_no_result(graded):
    with pytest.raises(LabError, match=r"the grader's mIoU to be the script's, found 0\.5 and 0\.4"):
        graded(0.4)


# --- what is compared is the same ---------------------------------------------------------------------------------


def test_competitors_that_disagree_raise():
    require(True, "nothing")
    with pytest.raises(LabError, match="expected one matrix, found others"):
        require(False, "one matrix")


@pytest.fixture
def small(monkeypatch):
    """The matrix benchmark on few pixels, without data."""
    target, pred = (torch.randint(8, (2, 16, 16), dtype=torch.uint8) for _ in range(2))
    monkeypatch.setattr(metric, "_pictures", lambda setup: (target, pred))
    return target, pred


def test_a_wrong_matrix_is_not_measured(small, monkeypatch, tmp_path):
    monkeypatch.setattr(metric, "_own", lambda kind, target, pred: Road(f"wrong, {kind}", lambda: np.eye(8)))
    with pytest.raises(LabError, match="exact confusion matrix from wrong"):
        metric.matrix(Setup(tmp_path, QUICK))


def test_missing_competitors_are_named(small, monkeypatch, tmp_path):
    monkeypatch.setattr(metric.importlib.util, "find_spec", lambda name: None)
    text = "\n".join(map(report.format_table, metric.matrix(Setup(tmp_path, QUICK))))
    assert "not measured: pip install torchmetrics" in text
    assert "not measured: pip install scikit-learn" in text


def test_the_naive_road_is_checked_against_the_lab(setup, monkeypatch):
    assert setup.data.checked
    item = Naive.__getitem__
    monkeypatch.setattr(Naive, "__getitem__", lambda self, index: (item(self, index)[0], item(self, index)[1] * 0))
    del setup.data.checked
    with pytest.raises(LabError, match="label of"):
        assert setup.data.checked


def test_pairs_that_are_given_must_be_of_cityscapes_size(sample, tmp_path):
    with pytest.raises(LabError, match=r"1024 x 2048, .* found 512 x 1024 in .*png"):
        Data(tmp_path, 1, 1, sample)


def test_pairs_that_are_given_are_copied(setup, tmp_path):
    data = Data(tmp_path, 1, 3, setup.data.root)
    assert len(data.pairs) == 1 and data.checked
    assert all(np.array_equal(row, data.decoded[0][0]) for row in data.stored().arrays[0])
    assert len(data.stored()) == 3


# --- the second process, and a GPU's benchmarks on the CPU --------------------------------------------------------


def test_gpu_tables_work_where_a_cpu_stands_for_the_gpu(setup):
    step, stall, data_step = gpu.gpu(setup, torch.device("cpu"))
    assert [len(table.rows) for table in (step, stall, data_step)] == [2, 3, 4]
    assert all(row.costs for table in (step, stall, data_step) for row in table.rows)


def _raises(error):
    def fail():
        raise error
    return {"fail": fail, "tell": lambda: torch.get_num_threads()}


def test_what_fails_in_the_second_process_is_raised_here(setup):
    setup.tuned.prepare(_raises, LabError("expected this, found that"))
    with pytest.raises(LabError, match="expected this, found that"):
        setup.tuned.call("fail", setup.one)
    setup.tuned.prepare(_raises, ValueError("a fault"))
    with pytest.raises(RuntimeError, match="ValueError: a fault"):
        setup.tuned.call("fail", setup.one)
    assert setup.tuned.call("tell", setup.one) == 1
    assert setup.tuned.road("tell", setup.one)().wall > 0


# --- the command --------------------------------------------------------------------------------------------------


def test_quick_run_of_everything(tmp_path):
    result = run_command("-m", "benchmarks", "--quick", "--json", tmp_path / "new" / "figures.json")
    assert result.status == 0, result.stderr
    content = json.loads((tmp_path / "new" / "figures.json").read_text(encoding="utf-8"))
    assert list(dict.fromkeys(table["name"] for table in content["benchmarks"])) == list(BENCHMARKS)
    assert content["quick"] and content["machine"]["torch"] == torch.__version__ and content["data"]["pairs"] == 2
    for table in content["benchmarks"]:
        assert table["reference"] in [row["name"] for row in table["rows"]]
        for row in table["rows"]:
            assert row["name"] in result.stdout
            assert row["verdict"] in (("met", "MISSED", "not measured") if row["goal"] else ("",))
            assert row.get("missing") or (row["seconds"]["cpu"] >= 0 < row["seconds"]["wall"] and row["rounds"])
    assert "mean PNG" in result.stdout and "goals:" in result.stdout


@pytest.mark.parametrize(("arguments", "found"), [
    (["nonsense"], "found 'nonsense'"), (["matrix", "--rounds", "0"], "--rounds of at least 1, found 0"),
    (["--data", "nowhere"], "found none at nowhere"), (["argmax", "--json", os.devnull + "/x"], "to write")])
def test_bad_input_ends_in_one_line(arguments, found, here):
    assert_one_line_error(here(main, *arguments), "expected", found)


def test_names_pick_benchmarks(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["benchmarks", "argmax", "--quick", "--json", str(tmp_path / "figures.json")])
    main()
    shown = capsys.readouterr().out
    assert "argmax(1)" in shown and "sample:" not in shown and "data:" not in shown
    assert {table["name"] for table in json.loads((tmp_path / "figures.json").read_text())["benchmarks"]} == {"argmax"}
