"""The queue: round-robin over the students, one hand-in of each at a time, every step one transaction.

    waiting -> running -> done        a result was written, once
    running -> waiting                the worker died, or the grader failed: it is tried again, and costs no quota
    running -> failed                 the grader failed MOST_FAULTS times: a person looks, and may put it back
    waiting -> replaced               by a newer hand-in of the same student, or taken back
"""
import datetime
import heapq
import statistics
import time
from collections import defaultdict
from collections.abc import Callable

from grading.board.store import Store, now, tell
from utils.lab import LabError

MOST_FAULTS = 3
MOST_STARTS = 12     # a hand-in that ends the worker so often is not tried again by itself
FIRST_GUESS = 60.0   # seconds of a trial, before any has ended
RECENT = 20          # trials from which the time of the next is expected


def accept(store: Store, student: str, handin: str, sha256: str, size: int, quota: int, replace: bool) -> str:
    """Puts a hand-in, whose files are in their place, into the queue; the id of an equal one that is there already.

    replace: in place of those of the student's that wait. Raises LabError where the day's quota is used up.
    """
    with store.change() as db:
        row = db.execute("SELECT id FROM handins WHERE student = ? AND sha256 = ? AND state IN "
                         "('waiting', 'running', 'done')", (student, sha256)).fetchone()
        if row:
            return row["id"]
        if replace:
            db.execute("UPDATE handins SET state = 'replaced', note = 'replaced by a newer one' WHERE student = ? AND "
                       "state = 'waiting'", (student,))
        at = now(db)
        queued = db.execute("SELECT COUNT(*) FROM handins WHERE student = ? AND state IN ('waiting', 'running')",
                            (student,)).fetchone()[0]
        used = db.execute("SELECT COUNT(*) FROM results WHERE student = ? AND scored >= ?",
                          (student, midnight(at))).fetchone()[0]
        if used + queued >= quota:
            raise LabError(f"expected at most {quota} hand-ins a day, found {used} scored today and {queued} in the "
                           "queue: replace one that waits, or come back tomorrow")
        db.execute("INSERT INTO handins (id, student, sha256, bytes, accepted) VALUES (?, ?, ?, ?, ?)",
                   (handin, student, sha256, size, at))
    return handin


def midnight(at: float) -> float:
    """The beginning of the day, in this machine's time zone."""
    return datetime.datetime.fromtimestamp(at).replace(hour=0, minute=0, second=0, microsecond=0).timestamp()


def used_today(store: Store, student: str) -> int:
    """How many of the day's quota are used: trials that ended in a result."""
    return store.one("SELECT COUNT(*) AS n FROM results WHERE student = ? AND scored >= ?", student,
                     midnight(time.time()))["n"]


def claim(store: Store) -> dict | None:
    """Begins the next hand-in: of the student who was served longest ago, among those of whom none runs."""
    with store.change() as db:
        row = db.execute(
            "SELECT h.*, p.turn FROM handins h JOIN people p ON p.number = h.student WHERE h.state = 'waiting' AND NOT "
            "EXISTS (SELECT 1 FROM handins r WHERE r.state = 'running' AND r.student = h.student) "
            "ORDER BY h.starts / 3, p.turn, h.place LIMIT 1").fetchone()
        if row is None:
            return None
        turn = db.execute("SELECT MAX(turn) FROM people").fetchone()[0] + 1
        db.execute("UPDATE people SET turn = ? WHERE number = ?", (turn, row["student"]))
        db.execute("UPDATE handins SET state = 'running', began = ?, turn_before = ?, starts = starts + 1 WHERE id = ?",
                   (now(db), row["turn"], row["id"]))
    return dict(row)


def finish(store: Store, handin: str, record: dict) -> bool:
    """Writes the result of a running hand-in; False where it is not running (any more), and nothing is written."""
    task, first = record["tasks"]["2"], record["tasks"]["1"]
    with store.change() as db:
        row = db.execute("SELECT student FROM handins WHERE id = ? AND state = 'running'", (handin,)).fetchone()
        if row is None:
            return False
        at = now(db)
        db.execute("INSERT INTO results (handin, student, scored, state, why, miou, macs, kb, fom, miou1, seconds) "
                   "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                   (handin, row["student"], at, task["state"], task.get("why") or "", task.get("miou"),
                    task.get("flops"), task.get("size_kb"), task.get("fom"), first.get("miou"), record["seconds"]))
        db.execute("UPDATE handins SET state = 'done', ended = ?, note = '' WHERE id = ?", (at, handin))
    return True


def give_back(store: Store, handin: str, why: str) -> None:
    """Puts a hand-in back that the grader failed; after MOST_FAULTS times it waits for a person."""
    with store.change() as db:
        _restore(db, handin)
        db.execute("UPDATE handins SET faults = faults + 1, note = ?, state = CASE WHEN faults + 1 >= ? THEN 'failed' "
                   "ELSE 'waiting' END WHERE id = ? AND state = 'running'", (why[:500], MOST_FAULTS, handin))
        tell(db, f"the grader failed {handin}: {why[:500]}")


def give_back_all(store: Store) -> int:
    """Puts back what was running when a worker died; called by the next worker, which alone holds the lock."""
    with store.change() as db:
        rows = db.execute("SELECT id, starts FROM handins WHERE state = 'running'").fetchall()
        for row in rows:
            _restore(db, row["id"])
            db.execute("UPDATE handins SET state = ?, note = ? WHERE id = ?",
                       ("waiting", "interrupted, tried again", row["id"]) if row["starts"] < MOST_STARTS else
                       ("failed", f"ended the grader {MOST_STARTS} times", row["id"]))
    return len(rows)


def _restore(db: object, handin: str) -> None:
    """Gives the student back the turn that was taken for a trial without a result."""
    db.execute("UPDATE people SET turn = (SELECT turn_before FROM handins WHERE id = ?1) WHERE number = (SELECT "
               "student FROM handins WHERE id = ?1 AND state = 'running')", (handin,))


def take_back(store: Store, handin: str, student: str) -> bool:
    """Removes a student's own hand-in that still waits."""
    with store.change() as db:
        return db.execute("UPDATE handins SET state = 'replaced', note = 'taken back' WHERE id = ? AND student = ? AND "
                          "state = 'waiting'", (handin, student)).rowcount > 0


def plan(store: Store, jobs: int) -> dict[str, tuple[int, float]]:
    """The place from 1 and the expected seconds to the start of each hand-in that waits, by the queue's own rule."""
    waiting: dict[str, list[str]] = defaultdict(list)
    turns: dict[str, tuple[int, int]] = {}  # the student with the smallest is next
    for row in store.read("SELECT h.id, h.student, p.turn FROM handins h JOIN people p ON p.number = h.student WHERE "
                          "h.state = 'waiting' ORDER BY h.starts / 3, h.place"):
        waiting[row["student"]].append(row["id"])
        turns.setdefault(row["student"], (row["turn"], len(turns)))
    expected, running = _durations(store), []
    for row in store.read("SELECT student, began FROM handins WHERE state = 'running'"):
        usual, gone = expected(row["student"]), max(0.0, time.time() - row["began"])
        running.append((usual - gone if gone < usual else usual / 4, row["student"]))
    busy = {student for _, student in running}
    ready = [(turn, student) for student, turn in turns.items() if student not in busy]
    heapq.heapify(running)
    heapq.heapify(ready)
    idle, at, found, last = jobs - len(running), 0.0, {}, (1 << 40, 0)
    while True:
        while idle > 0 and ready:
            _, student = heapq.heappop(ready)
            found[waiting[student].pop(0)] = (len(found) + 1, at)
            turns[student] = last = (last[0] + 1, 0)
            heapq.heappush(running, (at + expected(student), student))
            idle -= 1
        if not running or not any(waiting.values()):
            return found
        at, student = heapq.heappop(running)
        idle += 1
        if waiting.get(student):
            heapq.heappush(ready, (turns[student], student))


def _durations(store: Store) -> Callable[[str], float]:
    """How many seconds a student's next trial is expected to take: as the student's last ones, or as all recent ones.
    """
    own: dict[str, list[float]] = defaultdict(list)
    rows = store.read("SELECT h.student, h.ended - h.began AS seconds FROM results r JOIN handins h ON h.id = r.handin "
                      "ORDER BY h.ended DESC LIMIT ?", 20 * RECENT)
    for row in rows:
        own[row["student"]].append(max(0.0, row["seconds"]))
    usual = statistics.fmean([max(0.0, row["seconds"]) for row in rows[:RECENT]]) if rows else FIRST_GUESS
    return lambda student: statistics.fmean(own[student][:3]) if own.get(student) else usual
