"""Long runs of the board as its own process: load, kill -9, two weeks in fast motion. Each prints its figures.

    python tests/board_runs.py load FOLDER            100 students x 5 hand-ins in bursts, while two real trials run
    python tests/board_runs.py fair FOLDER            the same bursts with trials of a moment: who waits how long
    python tests/board_runs.py kills FOLDER           kill -9 of server or worker at 50 random moments
    python tests/board_runs.py weeks FOLDER           40 students who improve for two weeks; pictures at four moments

FOLDER is made, and what a run leaves is in it. The long tests of tests/grading/board call the same functions.
"""
import contextlib
import csv
import http.client
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
os.environ.setdefault("OMP_NUM_THREADS", "1")

from made_board import packed  # noqa: E402

from grading.board.store import Store  # noqa: E402

STUB = "board_runs:stub"
OPEN = "SELECT COUNT(*) FROM handins WHERE state IN ('waiting', 'running')"


def stub(task, network, weights, staged, targets, names, level, limits, gpu=None, threads=1):
    """A trial that takes a moment and runs nothing: its figures stand in the network file, as `# miou macs kb`."""
    import numpy as np

    from grading.records import empty_task
    from utils.complexity import figure_of_merit

    time.sleep(float(os.environ.get("STUB_SECONDS", "0.05")))
    said = network.read_text(encoding="utf-8").rpartition("#")[2].split()
    miou, macs, kb = (float(word) for word in said) if len(said) == 3 else (0.7, 1e8, 300.0)
    record = empty_task("OK", "") | {"miou": miou, "flops": int(macs), "size_kb": kb, "seconds": 0.05,
                                     "fom": figure_of_merit(int(macs), kb, miou)}
    return record, np.array(targets), None


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Server:
    """`serve` on BOARD as its own process, on a free port of this machine. trial: in place of the sandboxed one."""

    def __init__(self, folder: Path, data: Path, students: int, jobs: int = 2, trial: str = "", *more: str) -> None:
        self.board, self.port, self.folder = folder / "board", free_port(), folder
        folder.mkdir(parents=True, exist_ok=True)
        roster = folder / "roster.csv"
        roster.write_text("number,name\n" + "".join(f"{31355501 + place},Name-{place}\n" for place in range(students)))
        args = ["serve", str(self.board), "--data", str(data), "--roster", str(roster), "--port", str(self.port),
                "--address", f"http://127.0.0.1:{self.port}", "--jobs", str(jobs), "--device", "cpu", *more]
        start = "import sys; from grading.__main__ import main; from utils.terminal import run_main; run_main(main)"
        if trial:  # which is no option
            start = ("import sys, argparse; old = argparse.ArgumentParser.parse_args\n"
                     "def parse(self, *a):\n    args = old(self, *a); args.trial = " + repr(trial) + "; return args\n"
                     "argparse.ArgumentParser.parse_args = parse\n" + start)
        self.command = [sys.executable, "-c", start, *args]
        self.log = (folder / "server.log").open("ab")
        self.process: subprocess.Popen | None = None

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(30)
        self.process.kill()
        self.process.wait()
        self.log.close()

    def start(self) -> None:
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
        self.process = subprocess.Popen(self.command, cwd=ROOT, env=environment, stdout=self.log, stderr=self.log,
                                        start_new_session=True)
        wait_for(lambda: self.process.poll() is not None or self.answers(), 120, "the server's first answer")
        assert self.process.poll() is None, (self.folder / "server.log").read_text()

    def answers(self) -> bool:
        try:
            return self.ask("GET", "/static/icon.svg")[0] == 200
        except OSError:
            return False

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        """Status and body of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except http.client.HTTPException as error:
            raise OSError(str(error)) from None
        finally:
            connection.close()

    def tokens(self) -> dict[str, str]:
        with (self.board / "links.csv").open(encoding="utf-8-sig", newline="") as file:
            return {row["number"]: row["link"].rpartition("/")[2] for row in csv.DictReader(file)}

    def worker(self) -> int:
        """The worker's process id, 0 where there is none."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        for pid in path.read_text().split() if path.exists() else ():
            with contextlib.suppress(OSError):
                if b"grading.board.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return int(pid)
        return 0


def wait_for(condition: Callable[[], object], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.1)


def small_data(folder: Path) -> Path:
    """A drawn sample of a few images."""
    from sample.draw import draw_sample

    data = folder / "data"
    return data if data.exists() else draw_sample(data, train=1, val=2)


def tiny_zip(folder: Path, text: str) -> bytes:
    """A real, tiny hand-in; `text` makes it another."""
    import torch
    from made_board import NETWORK

    path = folder / "tiny.pth"
    if not path.exists():
        torch.save({"conv.weight": torch.zeros(8, 3, 1, 1), "conv.bias": torch.arange(8.0)}, path)
    return packed("", f"{NETWORK}# {text}\n", path.read_bytes())


def count(store: Store, query: str) -> int:
    return store.read(query)[0][0]


# --- load ---------------------------------------------------------------------------------------------------------


def load(folder: Path, students: int = 100, each: int = 5, burst: int = 20, pause: float = 1.0, trial: str = "",
         patience: float = 0.0) -> dict:
    """Bursts of hand-ins, each student looking at two pages after each; the times of all requests.

    trial: "" for the sandboxed one. patience: seconds to wait until all are scored, 0 for not at all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    random.seed(1)
    times: dict[str, list[float]] = defaultdict(list)
    accepted, lock = {}, threading.Lock()
    zips = {(student, turn): tiny_zip(folder, f"{student} {turn}") if not trial else packed(f"{student} {turn}")
            for student in range(students) for turn in range(each)}
    with Server(folder, small_data(folder), students, 2, trial) as server:
        tokens, store = list(server.tokens().values()), Store(server.board)
        # Two trials run before the first burst.
        for extra in range(2):
            server.ask("POST", "/api/handin", tiny_zip(folder, f"before {extra}"),
                       Authorization=f"Bearer {tokens[extra]}")
        wait_for(lambda: count(store, "SELECT COUNT(*) FROM handins WHERE state != 'waiting'") == 2, 300, "two trials")

        def one(job: tuple[int, int]) -> None:
            student = job[0]
            bearer = {"Authorization": f"Bearer {tokens[student]}"}
            for name, request in (("hand in", ("POST", "/api/handin", zips[job])), ("own page", ("GET", "/me")),
                                  ("board", ("GET", "/"))):
                begin = time.monotonic()
                status, body = server.ask(*request, **bearer)
                with lock:
                    times[name].append(time.monotonic() - begin)
                    assert status == 200, (status, body)
                    if name == "hand in":
                        accepted[json.loads(body)["id"]] = time.time()

        jobs = [(student, turn) for turn in range(each) for student in random.sample(range(students), students)]
        begin = time.monotonic()
        with ThreadPoolExecutor(burst) as pool:
            for first in range(0, len(jobs), burst):
                list(pool.map(one, jobs[first:first + burst]))
                time.sleep(pause)
        busy = time.monotonic() - begin
        known = {row["id"] for row in store.read("SELECT id FROM handins")}
        figures = {"hand-ins": len(accepted), "seconds": round(busy, 1), "lost": len(accepted.keys() - known),
                   "scored meanwhile": count(store, "SELECT COUNT(*) FROM results"),
                   **{f"{name} p50/p95/max ms": "/".join(f"{1000 * value:.0f}" for value in spread(found))
                      for name, found in times.items()},
                   "all p95 ms": round(1000 * spread([one for found in times.values() for one in found])[1])}
        if patience:
            wait_for(lambda: not count(store, OPEN),
                     patience, "all to be scored")
            rows = store.read("SELECT student, began - accepted AS wait FROM handins WHERE id IN (SELECT handin FROM "
                              "results)")
            waits = defaultdict(list)
            for row in rows:
                waits[row["student"]].append(row["wait"])
            means = [statistics.fmean(found) for found in waits.values()]
            figures |= {"scored": count(store, "SELECT COUNT(*) FROM results"),
                        "twice": count(store, "SELECT COUNT(*) - COUNT(DISTINCT handin) FROM results"),
                        "mean wait of a student, median s": round(statistics.median(means), 1),
                        "longest / median": round(max(means) / statistics.median(means), 2)}
    return figures


def spread(found: list[float]) -> tuple[float, float, float]:
    found = sorted(found)
    return found[len(found) // 2], found[int(0.95 * (len(found) - 1))], found[-1]


# --- faults -------------------------------------------------------------------------------------------------------


def kills(folder: Path, times: int = 50, students: int = 10, each: int = 6, trial: str = STUB, seed: int = 1,
          gap: float = 14.0) -> dict:
    """Kills server or worker `times` times, at random moments up to `gap` seconds apart, while students hand in."""
    chance = random.Random(seed)
    accepted, refused, ended, lock = set(), 0, threading.Event(), threading.Lock()
    killed: dict[str, int] = defaultdict(int)
    os.environ["STUB_SECONDS"] = "2"  # so that trials are under way
    server = Server(folder, small_data(folder), students, 2, trial)
    with server:
        tokens = list(server.tokens().values())

        def keep_handing_in(student: int) -> None:
            nonlocal refused
            turn = 0
            while turn < each and not ended.is_set():
                try:
                    status, body = server.ask("POST", "/api/handin", packed(f"{student} {turn}"),
                                              Authorization=f"Bearer {tokens[student]}")
                    assert status == 200, (status, body)
                    with lock:
                        accepted.add(json.loads(body)["id"])
                    turn += 1
                    time.sleep(chance.uniform(0, gap * times / each))
                except OSError:  # nobody there, or gone in the middle: the same again, which is the same hand-in
                    with lock:
                        refused += 1
                    time.sleep(0.3)

        threads = [threading.Thread(target=keep_handing_in, args=(student,)) for student in range(students)]
        for thread in threads:
            thread.start()
        for _ in range(times):
            time.sleep(chance.uniform(0.1, gap))
            pid, what = (server.worker(), "worker") if chance.random() < 0.5 else (server.process.pid, "server")
            if not pid:
                pid, what = server.process.pid, "server"
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed[what] += 1
            if what == "server":
                server.process.wait()
                server.start()
        for thread in threads:
            thread.join()
        store = Store(server.board)
        wait_for(lambda: not count(store, OPEN), 600,
                 "all to be scored")
        status, page = server.ask("GET", "/")
        assert status == 200 and page.rstrip().endswith(b"</html>")
    scored = [row["handin"] for row in store.read("SELECT handin FROM results")]
    folders = {path.name for path in (server.board / "handins").iterdir()}
    return {"killed": dict(killed), "requests that met nobody": refused, "accepted": len(accepted),
            "scored": len(scored), "accepted and not scored": len(accepted - set(scored)),
            "scored twice": len(scored) - len(set(scored)),
            "failed": count(store, "SELECT COUNT(*) FROM handins WHERE state = 'failed'"),
            "most starts of one": count(store, "SELECT MAX(starts) FROM handins"),
            "half-written files": len(list(server.board.rglob(".*.part"))),
            "folders without a hand-in": len(folders - {row["id"] for row in store.read("SELECT id FROM handins")})}


# --- two weeks ----------------------------------------------------------------------------------------------------


def weeks(folder: Path, students: int = 40, moments: tuple[int, ...] = (1, 4, 9, 14)) -> list[Path]:
    """Two weeks in fast motion: 40 students who improve, some flagged; pictures of the board at four moments."""
    shutil.rmtree(folder, ignore_errors=True)
    chance, pictures = random.Random(7), []
    skill = [chance.gauss(0, 1) for _ in range(students)]
    begin = time.time() - 14 * 86400
    with Server(folder, small_data(folder), students, 2, STUB) as server:
        store, tokens = Store(server.board), list(server.tokens().values())
        teacher = (server.board / "teacher-links.txt").read_text().splitlines()
        reference = teacher[1].rpartition("/")[2]
        for day in range(1, 15):
            if day == 1:
                hand_in_network(server, reference, 0.678, 1.95e9, 1522.0, "reference")
            for student in range(students):
                if chance.random() > 0.25 + 0.03 * day + 0.1 * skill[student]:
                    continue
                progress = (day / 14) * chance.uniform(0.6, 1.3) * (1 + 0.25 * skill[student])
                macs, kb = 10 ** (9.4 - 1.3 * progress + chance.gauss(0, 0.1)), 10 ** (3.3 - 0.9 * progress)
                miou = min(0.74, 0.62 + 0.07 * progress + chance.gauss(0, 0.012))
                hand_in_network(server, tokens[student], miou, macs, kb, f"{student} {day}")
            wait_for(lambda: not count(store, OPEN), 600, "the day's hand-ins")
            with store.change() as db:  # the day is over: its results are dated back
                db.execute("UPDATE results SET scored = ? + (rowid % 97) * 800 WHERE scored > ?",
                           (begin + (day - 1) * 86400, time.time() - 86400 / 2 if day < 14 else time.time() + 1))
                db.execute("UPDATE handins SET accepted = ?, ended = ? + 40, began = ? WHERE ended > ?",
                           (*[begin + (day - 1) * 86400] * 3, time.time() - 86400 / 2))
                if day == 6:
                    db.execute("UPDATE results SET state = 'COST_UNVERIFIED' WHERE handin IN (SELECT handin FROM "
                               "results ORDER BY fom IS NULL, fom LIMIT 2)")
                if day == 9:
                    db.execute("UPDATE results SET verdict = 'withdrawn', reason = 'the weights are those of another "
                               "student, both were heard' WHERE handin IN (SELECT handin FROM results WHERE state = "
                               "'OK' ORDER BY fom IS NULL, fom LIMIT 1)")
            if day in moments:
                pictures += photograph(server, folder, f"day{day:02d}", tokens[3], teacher[0].rpartition("/")[2])
    return pictures


def hand_in_network(server: Server, token: str, miou: float, macs: float, kb: float, text: str) -> None:
    status, body = server.ask("POST", "/api/handin", packed(text, f"# {text}\n# {miou:.6f} {macs:.0f} {kb:.3f}"),
                              Authorization=f"Bearer {token}")
    assert status == 200, body


def photograph(server: Server, folder: Path, name: str, token: str, teacher: str) -> list[Path]:
    """Pictures of the board, a student's page and the teacher's, 1300 and 400 pixels wide."""
    from board_browser import browser

    taken = []
    with browser(folder / "profile") as driver:
        for who, pages in ((token, ("/", "/me")), (teacher, ("/teacher",))):
            driver.get(f"http://127.0.0.1:{server.port}/enter/{who}")
            driver.find_element("css selector", "button.main").click()
            for page in pages:
                for width in (1300, 400):
                    driver.visit(f"http://127.0.0.1:{server.port}{page}", width)
                    taken.append(driver.photograph(folder / f"{name}{page.replace('/', '-')}-{width}.png"))
    return taken


if __name__ == "__main__":
    kind, place = sys.argv[1], Path(sys.argv[2])
    print(json.dumps({"load": lambda: load(place), "fair": lambda: load(place, trial=STUB, patience=900, pause=0.2),
                      "kills": lambda: kills(place), "weeks": lambda: [str(path) for path in weeks(place)]}[kind](),
                     indent=1))
