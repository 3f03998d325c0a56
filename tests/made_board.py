"""A board in a temporary folder: its state, its answers without a network in between, and made-up results."""
import csv
import io
import random
import zipfile
from pathlib import Path
from types import SimpleNamespace

from made_records import made_record
from starlette.testclient import TestClient

from grading.board import queue
from grading.board.access import Access, enroll
from grading.board.app import Board
from grading.board.store import Store
from grading.board.worker import home
from grading.course import read_course
from grading.intake.roster import Member, Roster
from grading.records import write_record
from utils.complexity import figure_of_merit

ADDRESS = "http://127.0.0.1:8000"
NETWORK = """import torch


def load_model(MODEL_PATH):
    model = torch.nn.Sequential()
    model.conv = torch.nn.Conv2d(3, 8, 1)
    model.load_state_dict(torch.load(MODEL_PATH, map_location="cpu", weights_only=True))
    return model
"""


def made_board(folder: Path, students: int = 3, exact: bool = True, course: Path | None = None) -> SimpleNamespace:
    """A new board with students 31355501, 31355502, ...: store, board, access, and `links` by number."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "handins").mkdir()
    store = Store(folder)
    access = Access(store, ADDRESS)
    enroll(store, access, Roster([Member(str(31355501 + place), f"Name-{place}") for place in range(students)]))
    links = {row["number"]: row["link"] for row in csv.DictReader((folder / "links.csv").open(encoding="utf-8-sig"))}
    for line in (folder / "teacher-links.txt").read_text(encoding="utf-8").splitlines():
        links.update([line.split(": ", 1)])
    board = Board(store, read_course(course), access, exact, "made-up images")
    return SimpleNamespace(folder=folder, store=store, board=board, access=access, links=links, app=board.app())


def client(made: SimpleNamespace, number: str | None = None) -> TestClient:
    """A browser, which has entered by a student's link."""
    found = TestClient(made.app, base_url=ADDRESS, follow_redirects=False)
    if number:
        answer = found.post("/enter", data={"token": token(made, number)})
        assert answer.status_code == 303, answer.text
    return found


def token(made: SimpleNamespace, number: str) -> str:
    return made.links[number].rpartition("/")[2]


def form(browser: TestClient, page: str = "/me") -> str:
    """What a person's forms carry, from the page."""
    return browser.get(page).text.partition('name="form" value="')[2].partition('"')[0]


def packed(text: str = "", network: str = NETWORK, weights: bytes = b"weights") -> bytes:
    """A zip with the two files of task 2; `text` makes it another."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("network_task2.py", network)
        archive.writestr("model_task2.pth", weights + text.encode())
    return file.getvalue()


def hand_in(made: SimpleNamespace, number: str, text: str, replace: bool = False, quota: int = 10) -> str:
    """Puts a hand-in into the queue without HTTP; the id."""
    folder = made.folder / "incoming" / f"made-{number}-{text}"
    folder.mkdir(parents=True)
    (folder / "handin.zip").write_bytes(packed(text))
    handin = made.board.uploads.keep(folder)
    return queue.accept(made.store, number, handin, f"{number}{text}", 100, quota, replace)


def made_result(made: SimpleNamespace, row: dict, miou: float = 0.7, macs: int = 10**8, kb: float = 300.0,
                state: str = "OK") -> dict:
    """Ends a running hand-in with a made-up record."""
    record = made_record(0, random.Random(1)) | {"student": row["student"], "slug": row["student"], "faults": []}
    record["tasks"]["2"] |= {"miou": miou, "flops": macs, "size_kb": kb, "state": state,
                             "fom": figure_of_merit(macs, kb, miou)}
    write_record(home(made.folder, row["id"]) / "report", row["student"], record)
    assert queue.finish(made.store, row["id"], record)
    return record


def scored(made: SimpleNamespace, number: str, text: str, **figures: object) -> str:
    """Hands in and scores at once; nothing else may wait."""
    handin = hand_in(made, number, text)
    row = queue.claim(made.store)
    assert row["id"] == handin
    made_result(made, row, **figures)
    return handin
