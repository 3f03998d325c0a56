"""Which cores this process may use, and work spread over them in threads."""
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from utils import machine
from utils.lab import LabError


@pytest.mark.parametrize("files, cores", [
    ({"cpu.max": "150000 100000\n"}, 2), ({"cpu.max": "max 100000\n"}, 8), ({"cpu.max": "50000 100000\n"}, 1),
    ({"cpu.max": "1600000 100000\n"}, 8), ({}, 8), ({"cpu.max": ""}, 8),
    ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
    ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
], ids=["1.5 cores", "max", "half a core", "more than there are", "no files", "empty", "v1", "v1 without limit"])
def test_cores_are_those_that_the_control_group_grants(tmp_path, monkeypatch, files, cores):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(machine, "Path", lambda mount: tmp_path)
    assert machine.available_cores() == cores


@pytest.fixture
def two_cores(monkeypatch) -> None:
    monkeypatch.setattr(machine, "available_cores", lambda: 2)


def test_threads_keep_the_order_and_run_a_few_items_ahead(two_cores):
    begun, pauses = [], np.random.default_rng(0).uniform(0, 0.003, 50)

    def work(item: int) -> int:
        begun.append(item)
        time.sleep(pauses[item])
        return item ** 2

    for index, result in enumerate(machine.in_threads(work, range(50))):
        assert result == index ** 2 and len(begun) <= index + 5
        time.sleep(0.001)
    assert index == 49 and sorted(begun) == list(range(50))


def test_an_exception_in_a_thread_is_raised_and_stops_the_others(two_cores):
    begun, before = [], threading.active_count()

    def work(item: int) -> int:
        begun.append(item)
        if item == 3:
            raise LabError("the fourth")
        return item

    got = []
    with pytest.raises(LabError, match="the fourth"):
        got.extend(machine.in_threads(work, range(1000)))
    assert max(begun) < 10 and threading.active_count() == before


def test_leaving_the_loop_stops_the_threads(two_cores, monkeypatch):
    begun, before, given_up, shutdown = [], threading.active_count(), threading.Event(), ThreadPoolExecutor.shutdown

    def work(item: int) -> None:
        begun.append(item)
        if item:
            given_up.wait(20)

    def shut(pool: ThreadPoolExecutor, wait: bool = True, **options: bool) -> None:
        shutdown(pool, wait=False, **options)
        given_up.set()  # only now do the two at work end
        shutdown(pool, wait=wait)

    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", shut)
    results = machine.in_threads(work, range(1000))
    next(results)
    results.close()
    # the fourth waited and was given up
    assert sorted(begun) in ([0, 1], [0, 1, 2]) and threading.active_count() == before


def test_nothing_to_do_is_nothing(two_cores):
    assert list(machine.in_threads(abs, [])) == []


FAKE_TORCH = """
class cuda:
    free = {free}
    device_count = lambda: len(cuda.free)

    def mem_get_info(index):
        if cuda.free[index] is None:
            raise RuntimeError("CUDA error: out of memory")
        return cuda.free[index], 80 << 30
"""


@pytest.mark.parametrize(("free", "expected"), [
    ([5 << 30, 70 << 30, 20 << 30], "cuda:1"), ([None, 1 << 20, None, 3 << 20], "cuda:3"), ([7, 7], "cuda:0"),
    ([None, None], "cuda:0"), ([9], "cuda"), ([], "cpu")])
def test_auto_is_the_gpu_with_the_most_free_memory(tmp_path, monkeypatch, free, expected):
    import torch

    (tmp_path / "torch.py").write_text(FAKE_TORCH.format(free=free))  # what the process that asks imports
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    current = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(free))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(free))
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: current.append(str(device)))
    monkeypatch.setattr(torch, "empty", lambda *_, **__: None)
    assert str(machine.pick_device("auto")) == expected
    assert current == [expected] * (":" in expected)


def test_gpus_that_do_not_answer_are_told(tmp_path, monkeypatch, capsys):
    import torch

    (tmp_path / "torch.py").write_text("raise ImportError('no driver')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch, "empty", lambda *_, **__: None)
    assert str(machine.pick_device("auto")) == "cuda:0"
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: expected the free memory of each GPU, found no answer")
