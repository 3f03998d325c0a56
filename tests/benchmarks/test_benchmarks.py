"""Benchmarks: what is compared is equal, the arithmetic is right, and the command runs. Nothing here is timed."""
import json
import os

import numpy as np
import pytest
import torch
from conftest import assert_one_line_error, run_command

from benchmarks import metric
from benchmarks.__main__ import BENCHMARKS, main
from benchmarks.data import QUICK, Data, Sizes, Usual
from benchmarks.gpu import gpu
from benchmarks.measure import CLOCKS, NotMeasuredError, Table, Timed, hold, require
from utils.lab import LabError


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return Data(tmp_path_factory.mktemp("benchmarks"), QUICK)


class Stopwatch:
    """A clock that only stubs move: a call of `stub(name, seconds)` takes its next seconds."""

    def __init__(self):
        self.time, self.calls = 100.0, []

    def __call__(self) -> float:
        return self.time

    def stub(self, name, *seconds):
        left = list(seconds)

        def run():
            self.calls.append(name)
            self.time += left.pop(0)
        return run


@pytest.fixture
def stopwatch(monkeypatch):
    stopwatch = Stopwatch()
    monkeypatch.setitem(CLOCKS, "stub", stopwatch)
    return stopwatch


# --- measuring ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("warm", "order"), [(False, "abccbaabc"), (True, "abcabccbaabc")])
def test_rounds_are_interleaved_and_every_second_one_reversed(warm, order, stopwatch):
    Table("stub", "", [Timed(name, stopwatch.stub(name, *[1] * 4)) for name in "abc"], "stub", warm=warm).measure(3)
    assert "".join(stopwatch.calls) == order


def test_medians_ratios_and_goals(stopwatch):
    table = Table("three stubs", "a piece", [
        Timed("ours", stopwatch.stub("ours", 4.0, 1.0, 2.0), units=2),
        Timed("theirs", stopwatch.stub("theirs", 30.0, 50.0, 40.0), at_least=40),
        Timed("slow", stopwatch.stub("slow", 42.0, 42.0, 42.0), at_most=40)], "stub", warm=False).measure(3)
    rows = json.loads(json.dumps(table.content()))
    assert [row["seconds"] for row in rows] == [row["ratio"] for row in rows] == [1, 40, 42]
    assert [row["spread"] for row in rows] == [0.75, 0.25, 0]
    assert [row["verdict"] for row in rows] == ["", "met", "MISSED"]
    assert rows[0]["rounds"] == [2.0, 0.5, 1.0]
    assert "theirs  40,000  25 %   40.0  >= 40  met" in str(table)


def test_cpu_time_counts_child_processes_and_no_waiting():
    started = CLOCKS["cpu"]()
    run_command("-c", "import time; time.sleep(1)\nwhile time.process_time() < 1: pass")
    assert 0.9 < CLOCKS["cpu"]() - started < 1.9


def test_holding_to_one_core_ends_with_the_block():
    before, threads = os.sched_getaffinity(0), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(KeyError), hold(1):
            assert torch.get_num_threads() == 1 == len(os.sched_getaffinity(0))
            raise KeyError
        assert (os.sched_getaffinity(0), torch.get_num_threads()) == (before, 2)
    finally:
        torch.set_num_threads(threads)


# --- what is compared is the same ---------------------------------------------------------------------------------


def test_competitors_that_disagree_raise():
    require(True, "nothing")
    with pytest.raises(LabError, match="expected one matrix, found others"):
        require(False, "one matrix")


@pytest.fixture
def small(monkeypatch):
    """The matrix benchmark on few pixels, without data."""
    images = [torch.randint(8, (2, 16, 16), dtype=torch.uint8) for _ in range(2)]
    monkeypatch.setattr(metric, "images", lambda data: images)


def test_a_wrong_matrix_is_not_measured(small, monkeypatch):
    monkeypatch.setattr(metric, "own", lambda target, pred: lambda: np.eye(8))
    with pytest.raises(LabError, match=r"exact confusion matrix from utils\.metric"):
        next(metric.matrix(None))


def test_a_missing_competitor_is_named(small, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn.metrics", None)
    with pytest.raises(NotMeasuredError, match=r"pip install -r requirements-dev.txt"):
        next(metric.matrix(None))


def test_the_usual_way_is_checked_against_the_lab(data, tmp_path, monkeypatch):
    assert len(data.decoded) == QUICK.pairs
    item = Usual.__getitem__
    monkeypatch.setattr(Usual, "__getitem__", lambda self, index: (item(self, index)[0], item(self, index)[1] * 0))
    with pytest.raises(LabError, match="usual label of"):
        assert Data(tmp_path, QUICK, data.root).decoded


def test_pairs_that_are_given_must_be_of_cityscapes_size(sample, tmp_path):
    with pytest.raises(LabError, match=r"1024 x 2048 .* found 512 x 1024 .*png"):
        assert Data(tmp_path, QUICK, sample).root


def test_pairs_that_are_given_are_used(data, tmp_path):
    given = Data(tmp_path, Sizes(pairs=1, rows=3), data.root)
    assert len(given.pairs) == 1 and len(given.rows()) == 3
    assert all(np.array_equal(row, given.decoded[0][0]) for row in given.rows().arrays[0])


def test_gpu_tables_work_where_a_cpu_stands_for_the_gpu(data):
    step, stall = (table.measure(1) for table in gpu(data, torch.device("cpu")))
    assert [len(table.rows) for table in (step, stall)] == [3, 3]
    assert all(row.seconds for table in (step, stall) for row in table.rows)


# --- the command --------------------------------------------------------------------------------------------------


def quick_run(tmp_path, *names):
    result = run_command("-m", "benchmarks", *names, "--quick", "--json", tmp_path / "new" / "figures.json")
    assert result.status == 0, result.stderr
    content = json.loads((tmp_path / "new" / "figures.json").read_text(encoding="utf-8"))
    assert content["quick"] and content["machine"]["torch"] == torch.__version__
    assert set(content["tables"]) == set(names or BENCHMARKS)
    for name, tables in content["tables"].items():
        assert tables or name in content["not measured"]
        for title, rows in tables.items():
            assert title in result.stdout
            assert name == "classroom" or any("floor" in row["name"] for row in rows), "a floor beside each ratio"
            for row in rows:
                assert row["name"] in result.stdout and row["seconds"] > 0
                assert row["verdict"] in (("met", "MISSED") if row["goal"] else ("",))
    return result


def test_quick_run_of_what_needs_no_sandbox(tmp_path):
    names = [name for name in BENCHMARKS if name != "classroom"]
    assert "a PNG has" in quick_run(tmp_path, *names).stdout


@pytest.mark.long
def test_quick_run_of_everything(tmp_path):
    quick_run(tmp_path)


@pytest.mark.parametrize(("arguments", "found"), [
    (["nonsense"], "found 'nonsense'"), (["matrix", "--rounds", "0"], "--rounds of at least 1, found 0"),
    (["--data", "nowhere"], "nowhere: pass"), (["argmax", "--json", os.devnull + "/x"], "to write")])
def test_bad_input_ends_in_one_line(arguments, found, here):
    assert_one_line_error(here(main, *arguments), "expected", found)
