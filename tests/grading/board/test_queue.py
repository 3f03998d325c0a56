"""The queue by itself: who is next, what counts, and that nothing is lost or scored twice."""
import time

import pytest
from made_board import hand_in, made_board, made_result

from grading.board import queue
from grading.board.store import DAY, Store, now
from utils.lab import LabError

ADA, GRACE, EMMY = "31355501", "31355502", "31355503"


@pytest.fixture
def made(tmp_path):
    return made_board(tmp_path / "board")


def drain(made) -> list[tuple[str, str]]:
    """Works through the queue, one after the other: (student, id)."""
    order = []
    while row := queue.claim(made.store):
        order.append((row["student"], row["id"]))
        made_result(made, row)
    return order


def states(made) -> dict[str, str]:
    return {row["id"]: row["state"] for row in made.store.read("SELECT id, state FROM handins")}


def test_students_take_turns(made):
    first = [hand_in(made, ADA, str(k)) for k in range(3)]
    hand_in(made, GRACE, "0")
    hand_in(made, EMMY, "0")
    order = drain(made)
    assert [student for student, _ in order] == [ADA, GRACE, EMMY, ADA, ADA]
    assert [handin for student, handin in order if student == ADA] == first


def test_one_of_a_student_runs_at_a_time(made):
    hand_in(made, ADA, "0")
    hand_in(made, ADA, "1")
    assert queue.claim(made.store)["student"] == ADA
    assert queue.claim(made.store) is None
    hand_in(made, GRACE, "0")
    assert queue.claim(made.store)["student"] == GRACE


def test_who_has_had_no_turn_is_before_those_who_have(made):
    for k in range(4):
        hand_in(made, ADA, str(k))
    made_result(made, queue.claim(made.store))
    hand_in(made, GRACE, "late")
    assert queue.claim(made.store)["student"] == GRACE


def test_the_quota_counts_results_and_what_waits(made):
    for k in range(2):
        hand_in(made, ADA, str(k), quota=2)
    with pytest.raises(LabError, match="at most 2 hand-ins a day, found 0 scored today and 2"):
        hand_in(made, ADA, "2", quota=2)
    newer = hand_in(made, ADA, "3", replace=True, quota=2)
    assert sorted(states(made).values()) == ["replaced", "replaced", "waiting"] and states(made)[newer] == "waiting"
    drain(made)
    hand_in(made, ADA, "4", quota=2)
    drain(made)
    with pytest.raises(LabError, match="found 2 scored today and 0"):
        hand_in(made, ADA, "5", quota=2)


def test_what_the_grader_failed_is_given_back_and_then_waits_for_a_person(made):
    handin = hand_in(made, ADA, "0", quota=1)
    hand_in(made, GRACE, "0")
    for _ in range(queue.MOST_FAULTS):
        row = queue.claim(made.store)
        assert row["id"] == handin, "the turn is given back as well"
        queue.give_back(made.store, handin, "a fault of ours")
    assert states(made)[handin] == "failed" and queue.used_today(made.store, ADA) == 0
    assert hand_in(made, ADA, "1", quota=1), "a failed one costs no quota"


def test_equal_files_are_one_hand_in(made):
    handin = hand_in(made, ADA, "0")
    row = queue.claim(made.store)
    for moment in ("running", "done"):
        assert states(made)[handin] == moment
        assert queue.accept(made.store, ADA, "another", f"{ADA}0", 100, 10, False) == handin
        if moment == "running":
            made_result(made, row)
    assert queue.accept(made.store, GRACE, "hers", f"{ADA}0", 100, 10, False) == "hers"


def test_a_dead_worker_loses_nothing_and_nothing_is_scored_twice(made):
    handin = hand_in(made, ADA, "0")
    hand_in(made, GRACE, "0")
    row = queue.claim(made.store)
    assert queue.give_back_all(Store(made.folder)) == 1
    assert queue.give_back_all(made.store) == 0
    again = queue.claim(made.store)
    assert again["id"] == handin and again["starts"] == 1
    record = made_result(made, again)
    assert not queue.finish(made.store, row["id"], record), "the first worker comes late"
    assert made.store.one("SELECT COUNT(*) AS n FROM results")["n"] == 1


def test_what_ends_every_worker_is_tried_less_and_less(made):
    handin = hand_in(made, ADA, "0")
    hand_in(made, GRACE, "0")
    order = []
    for _ in range(queue.MOST_STARTS + 3):
        row = queue.claim(made.store)
        order.append(row["student"])
        if row["student"] == GRACE:
            made_result(made, row)
            continue
        queue.give_back_all(made.store)
        if states(made)[handin] == "failed":
            break
    assert order[:4] == [ADA, ADA, ADA, GRACE] and states(made)[handin] == "failed"


def test_the_plan_is_the_queues_own_order(made):
    for student, count in ((ADA, 3), (GRACE, 1), (EMMY, 2)):
        for k in range(count):
            hand_in(made, student, str(k))
    plan = queue.plan(made.store, 1)
    assert [plan[handin][0] for _, handin in drain(made)] == [1, 2, 3, 4, 5, 6]
    assert [round(at) for _, at in sorted(plan.values())] == [k * queue.FIRST_GUESS for k in range(6)]


def test_the_expected_wait_follows_from_what_trials_took(made):
    for k in range(4):
        hand_in(made, ADA, str(k))
    row = queue.claim(made.store)
    made_result(made, row)
    with made.store.change() as db:
        db.execute("UPDATE handins SET began = 1000, ended = 1012 WHERE id = ?", (row["id"],))
    assert sorted(at for _, at in queue.plan(made.store, 2).values()) == [0, 12, 24], "one of a student at a time"


def test_time_does_not_run_backward(made, monkeypatch):
    with made.store.change() as db:
        before = now(db)
    monkeypatch.setattr(time, "time", lambda: before - 3600)
    with made.store.change() as db:
        assert now(db) == before
    monkeypatch.setattr(time, "time", lambda: before - 2 * DAY)
    with made.store.change() as db:
        assert now(db) == before - 2 * DAY, "a clock that was wrong by days is put right"


def test_a_change_that_fails_changes_nothing(made):
    version = made.store.get("version")
    with pytest.raises(ZeroDivisionError), made.store.change() as db:
        db.execute("DELETE FROM people")
        raise ZeroDivisionError
    assert made.store.get("version") == version and made.store.one("SELECT COUNT(*) AS n FROM people")["n"] == 5
