"""`serve` and `handin submit` as commands: first start, one real hand-in to its score, wrong settings, Ctrl-C."""
import json
import re
import signal
import stat
import sys
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
from board_runs import Server, count, kills, load, tiny_zip, wait_for
from conftest import ROOT, assert_one_line_error, run_command, sandbox_level
from made_board import made_board, packed

from grading.__main__ import main
from grading.board import worker
from grading.board.serve import public_split
from grading.board.store import Store
from grading.part import SplitPart, make_part, read_part
from handin.__main__ import main as handin_main
from utils.lab import LabError


def test_a_real_hand_in_from_the_command_to_the_ranks(sample, tmp_path):
    """With the sandbox, the worker, and the student's own command."""
    sandbox_level()
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "Lab05_31355501.zip").write_bytes(tiny_zip(tmp_path, "real"))
    with Server(tmp_path / "room", sample, 2, 1) as server:
        link = f"http://127.0.0.1:{server.port}/enter/{server.tokens()['31355501']}"
        done = run_command("-m", "handin", "submit", "--link", link, "--wait", cwd=tmp_path, HOME=str(home))
        assert done.status == 0, done.stderr
        first, last = done.stdout.strip().splitlines()
        assert first.startswith("Lab05_31355501.zip: accepted, place 1 in the queue")
        # 3 x 8 products at each of 256 x 512 pixels; 32 numbers of 4 bytes; says vehicle, whatever it sees
        assert re.fullmatch(r"scored: mIoU 0\.\d{3}, 3.146 M MACs, 0.1 KB, unranked, proved", last)
        kept = home / ".lab05-board"
        assert kept.read_text().strip() == link and stat.S_IMODE(kept.stat().st_mode) == 0o600
        again = run_command("-m", "handin", "submit", tmp_path / "Lab05_31355501.zip", cwd=tmp_path, HOME=str(home))
        assert again.stdout.strip() == f"Lab05_31355501.zip: {last}", "once more is the same hand-in"
        assert b"3.146 M" in server.ask("GET", "/")[1]
        assert server.worker()
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(60) in (130, -signal.SIGINT)
    record = json.loads(next((server.board / "handins").glob("*/report/records/*.json")).read_text())
    assert record["student"] == "31355501" and record["tasks"]["2"]["proof"]["unproved"] == ""
    assert count(Store(server.board), "SELECT COUNT(*) FROM results") == 1


@pytest.mark.parametrize(("more", "words"), [
    (["--public-split", "most"], ["expected --public-split train, val, test, or a share such as 30%", "'most'"]),
    (["--public-split", "120%"], ["a share such as 30%"]),
    (["--address", "board.example"], ["expected an address such as https://", "'board.example'"]),
    (["--roster", "none.csv"], ["expected a roster as CSV", "none.csv"]),
    ([], ["expected --roster for a new board", "pass the class's CSV"])])
def test_wrong_settings_end_in_a_line(here, tmp_path, more, words):
    assert_one_line_error(here(main, "serve", tmp_path / "board", *more), *words)
    assert not (tmp_path / "board").exists()


def test_a_second_server_and_another_split_are_refused(here, tmp_path):
    made = made_board(tmp_path / "board")
    made.store.put(split="val")
    assert_one_line_error(here(main, "serve", made.folder, "--public-split", "30%"), "expected --public-split val")
    from filelock import FileLock

    with FileLock(made.folder / ".board.lock"):
        assert_one_line_error(here(main, "serve", made.folder), "found another that serves it")


def test_data_that_cannot_be_ends_the_worker_in_a_line(here, tmp_path, sample, monkeypatch):
    """Which ends the server with the same status."""
    monkeypatch.setattr(worker.os, "nice", lambda by: 0)
    made = made_board(tmp_path / "board")
    (tmp_path / "empty").mkdir()
    settings = worker.WorkerSettings(str(made.folder), str(tmp_path / "empty"), "val", 1, "cpu", None, None, True, None)
    assert_one_line_error(here(worker.main, json.dumps(asdict(settings))), "expected", str(tmp_path / "empty"))
    made.store.put(data="others")
    settings = replace(settings, data=str(sample))
    assert_one_line_error(here(worker.main, json.dumps(asdict(settings))), "expected the images that the board began")


def test_a_part_and_the_rest_are_all_images_and_stay_the_same(tmp_path):
    names = [f"city_{k:06d}_000019" for k in range(50)]
    part = make_part(tmp_path, 0.3)
    public, rest = part.choose(names), read_part(tmp_path, rest=True).choose(names)
    assert len(public) == 15 and sorted(public + rest) == list(range(50)) and public == sorted(public)
    assert make_part(tmp_path, 0.3).choose(names) == public
    assert SplitPart(b"another", 0.3).choose(names) != public
    assert stat.S_IMODE((tmp_path / "part.json").stat().st_mode) == 0o600
    with pytest.raises(LabError, match="30%, found 40%"):
        make_part(tmp_path, 0.4)
    with pytest.raises(LabError, match="found 0 of 1"):
        part.choose(names[:1])
    with pytest.raises(LabError, match="expected the secret of a board"):
        read_part(tmp_path / "elsewhere")


def test_public_splits():
    assert public_split("val") == ("val", 0.0) and public_split("30%") == (None, 0.3)


def test_submit_says_what_is_wrong_in_a_line(here, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: False))
    assert_one_line_error(here(handin_main, "submit"), "expected a Lab05_*.zip", "python -m handin pack")
    (tmp_path / "Lab05_31355501.zip").write_bytes(packed())
    assert_one_line_error(here(handin_main, "submit"), "expected your link to the board", "--link")
    assert_one_line_error(here(handin_main, "submit", "--link", "http://x"), "expected a link such as https://")
    link = "http://127.0.0.1:9/enter/" + "x" * 43
    assert_one_line_error(here(handin_main, "submit", "--link", link), "expected an answer from http://127.0.0.1:9",
                          "refused")


# --- long: make test-long ---


@pytest.mark.long
def test_a_hundred_students_in_bursts(tmp_path):
    found = load(tmp_path / "real", students=100)
    assert found["lost"] == 0 and found["hand-ins"] == 500 and found["all p95 ms"] < 500, found
    found = load(tmp_path / "fair", trial="board_runs:stub", patience=900, pause=0.2)
    assert found["scored"] == 502 and found["twice"] == 0 and found["longest / median"] <= 3, found


@pytest.mark.long
def test_fifty_kills(tmp_path):
    found = kills(tmp_path / "room")
    assert found["accepted"] == found["scored"] and sum(found["killed"].values()) == 50, found
    assert not any(found[name] for name in ("accepted and not scored", "scored twice", "failed",
                                            "half-written files", "folders without a hand-in")), found


@pytest.mark.long
def test_the_attacks_by_http(sample, tmp_path):
    """Every hostile hand-in of the suite, by HTTP: none takes the board with it, and no score is better than honest."""
    sandbox_level()
    attacks = sorted((ROOT / "tests/attacks").glob("*.py"))
    course = tmp_path / "course.toml"
    course.write_text("[board]\nquota = 1000\n")
    with Server(tmp_path / "room", sample, len(attacks), 2, "", "--wall", "60", "--course", str(course)) as server:
        store = Store(server.board)
        tiny_zip(tmp_path, "")
        weights = (tmp_path / "tiny.pth").read_bytes()
        sent = {}
        for path, token in zip(attacks, server.tokens().values(), strict=True):
            status, body = server.ask("POST", "/api/handin", packed("", path.read_text(encoding="utf-8"), weights),
                                      Authorization=f"Bearer {token}")
            if status == 200:
                sent[json.loads(body)["id"]] = path
            else:
                assert status == 422, (path, body)
        wait_for(lambda: not count(store, "SELECT COUNT(*) FROM handins WHERE state IN ('waiting', 'running')"), 3600,
                 "all attacks to end")
        assert server.ask("GET", "/")[0] == 200 and server.process.poll() is None
    rows = {row["handin"]: row for row in store.read("SELECT * FROM results")}
    for handin, path in sent.items():
        expected = re.search(r"# expect: ([A-Z_|]+)", path.read_text(encoding="utf-8"))[1].split("|")
        assert handin in rows, path.name
        state = rows[handin]["state"]
        assert state in expected or state in ("OK", "FLAGGED", "COST_UNVERIFIED"), (path.name, state, expected)
        assert state != "OK" or rows[handin]["miou"] < 0.2, (path.name, "these weights say one class")
