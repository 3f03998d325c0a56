"""The board's pages and addresses: hand in, ranks, what each may see. Without a network, and with made-up results."""
import io
import json
import re
import zipfile

import pytest
import torch
from conftest import run_command
from made_board import client, form, hand_in, made_board, packed, scored, token

from grading.board import queue, uploads
from grading.course import read_course
from grading.report.build import report

ADA, GRACE, EMMY = "31355501", "31355502", "31355503"


@pytest.fixture
def made(tmp_path):
    return made_board(tmp_path / "board")


@pytest.fixture
def reserved(tmp_path):
    """A board that scores on a part of a reserved set."""
    return made_board(tmp_path / "board", exact=False)


def names(page: str) -> list[str]:
    """Rank and nickname of the rows of the standings."""
    table = page.partition('id="board"')[2].partition("</table>")[0]
    return [re.search(r'data-value="(\d*)".*?<bdi>(.*?)</bdi>', row, re.DOTALL).groups()
            for row in table.partition("<tbody>")[2].split("<tr")[1:]]


def nick(made, number: str) -> str:
    return made.store.one("SELECT nick FROM people WHERE number = ?", number)["nick"]


def upload(browser, content: bytes, **fields: str):
    return browser.post("/me/handin", data={"form": form(browser), **fields}, files={"zip": ("x.zip", content)})


def bearer(made, number: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(made, number)}"}


def test_a_link_enters_with_one_button(made):
    browser = client(made)
    page = browser.get(made.links[ADA])
    assert page.status_code == 200 and "set-cookie" not in page.headers and page.text.count("<button") == 1
    answer = browser.post("/enter", data={"token": token(made, ADA)})
    cookie = answer.headers["set-cookie"]
    assert (answer.status_code, answer.headers["location"]) == (303, "/me")
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Secure" not in cookie
    assert nick(made, ADA) in browser.get("/me").text
    browser.post("/leave", data={"form": form(browser)})
    assert browser.get("/me").status_code == 401


def test_a_board_behind_tls_has_secure_cookies(made):
    made.access.secure = True
    assert "Secure" in client(made).post("/enter", data={"token": token(made, ADA)}).headers["set-cookie"]


def test_a_hand_in_by_the_page_is_told_its_place(made):
    hand_in(made, GRACE, "before")
    browser = client(made, ADA)
    answer = upload(browser, packed())
    assert answer.status_code == 303 and answer.headers["location"].startswith("/me?told=")
    assert "accepted, place 2 in the queue" in browser.get(answer.headers["location"]).text
    assert "place 2" in browser.get("/me").text


def test_two_files_by_the_page(made, tmp_path):
    torch.save({"conv.weight": torch.zeros(8, 3, 1, 1)}, tmp_path / "w.pth")
    browser = client(made, ADA)
    answer = browser.post("/me/handin", data={"form": form(browser)}, files={
        "network": ("../../evil name.py", b"import torch\n"), "weights": ("<b>", (tmp_path / "w.pth").read_bytes())})
    handin = answer.headers["location"].partition("=")[2]
    inside = made.folder / "handins" / handin / "in"
    assert sorted(path.name for path in inside.iterdir()) == ["model_task2.pth", "network_task2.py"]
    page = browser.get(f"/me/{handin}").text
    assert "network_task2.py" in page and "evil" not in page


def test_a_hand_in_by_a_program(made):
    browser = client(made)
    answer = browser.post("/api/handin", content=packed(), headers=bearer(made, ADA))
    assert answer.status_code == 200 and answer.json()["told"].startswith("accepted, place 1")
    status = browser.get("/api/me", headers=bearer(made, ADA)).json()
    assert [one["state"] for one in status["handins"]] == ["waiting"]
    again = browser.post("/api/handin", content=packed(), headers=bearer(made, ADA)).json()
    assert again["id"] == answer.json()["id"], "the same upload once more is the same hand-in"
    newer = browser.post("/api/handin?replace=1", content=packed("newer"), headers=bearer(made, ADA)).json()
    states = {one["id"]: one["state"] for one in browser.get("/api/me", headers=bearer(made, ADA)).json()["handins"]}
    assert states == {again["id"]: "replaced", newer["id"]: "waiting"}
    assert len(list((made.folder / "handins").iterdir())) == 2 and not list((made.folder / "incoming").iterdir())


@pytest.mark.parametrize("content, words", [
    (b"no zip", "found a damaged one or another file"), (b"", "found a damaged one or another file"),
    (packed()[:200], "damaged"), (None, "expected network_task2.py and model_task2.pth in the zip, found a.txt")])
def test_what_is_no_hand_in_is_refused_in_a_line(made, content, words):
    if content is None:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a.txt", "x")
        content = file.getvalue()
    answer = client(made).post("/api/handin", content=content, headers=bearer(made, ADA))
    assert answer.status_code == 422 and words in answer.json()["error"]
    assert not list((made.folder / "handins").iterdir()) and not list((made.folder / "incoming").iterdir())


def test_files_are_read_before_they_are_accepted(made, monkeypatch):
    monkeypatch.setattr(uploads, "JUDGING", 120.0)  # the process that reads starts with the board, and takes a while
    monkeypatch.setattr(uploads, "JUDGES", 1)
    with client(made, ADA) as browser:
        answer = browser.post("/me/handin", data={"form": form(browser)}, files={
            "network": ("n.py", b"def load_model(:\n"), "weights": ("w.pth", b"no weights")})
    assert answer.status_code == 422 and "expected Python" in answer.text
    assert not list((made.folder / "handins").iterdir())


def test_the_board_ranks_by_fom(made):
    scored(made, ADA, "0", kb=300)
    scored(made, GRACE, "0", kb=200)
    scored(made, EMMY, "0", kb=100, miou=0.6)
    page = client(made).get("/").text
    assert names(page) == [("1", nick(made, GRACE)), ("2", nick(made, ADA)), ("", nick(made, EMMY))]
    scored(made, ADA, "1", kb=150)
    scored(made, ADA, "2", kb=400)
    page = client(made).get("/").text
    assert names(page)[0] == ("1", nick(made, ADA)), "the best counts"
    assert not any(name in page for name in (ADA, GRACE, "Name-"))


def test_the_last_counts_where_the_course_says_so(tmp_path):
    course = tmp_path / "course.toml"
    course.write_text('[board]\ncounts = "last"\n')
    made = made_board(tmp_path / "board", course=course)
    scored(made, ADA, "0", kb=100)
    scored(made, GRACE, "0", kb=200)
    scored(made, ADA, "1", kb=300)
    assert names(client(made).get("/").text)[0] == ("1", nick(made, GRACE))


def test_the_reference_has_a_row_and_no_rank(made):
    scored(made, "reference", "0", kb=1)
    scored(made, ADA, "0")
    page = client(made).get("/").text
    assert names(page) == [("", "reference"), ("1", nick(made, ADA))] and "the course's own" in page


def test_unverified_waits_and_withdrawn_keeps_its_reason(made):
    handin = scored(made, ADA, "0", kb=10, state="COST_UNVERIFIED")
    scored(made, GRACE, "0", kb=100)
    teacher = client(made, "teacher")
    page = client(made).get("/").text
    assert names(page) == [("1", nick(made, GRACE)), ("", nick(made, ADA))] and "unverified" in page
    key = form(teacher, "/teacher")
    assert teacher.post("/teacher/decide", data={"form": key, "handin": handin, "verdict": "confirm"}
                        ).status_code == 422, "not without a reason"
    teacher.post("/teacher/decide", data={"form": key, "handin": handin, "verdict": "confirm", "reason": "I looked"})
    assert names(client(made).get("/").text)[0] == ("1", nick(made, ADA))
    teacher.post("/teacher/decide", data={"form": key, "handin": handin, "verdict": "withdraw", "reason": "<i>copied"})
    page = client(made).get("/").text
    assert names(page) == [("1", nick(made, GRACE))] and "&lt;i&gt;copied" in page and "<i>" not in page
    assert (made.folder / "handins" / handin / "report" / "records" / f"{ADA}.json").exists(), "evidence is kept"
    assert "&lt;i&gt;copied" in client(made, ADA).get(f"/me/{handin}").text
    teacher.post("/teacher/decide", data={"form": key, "handin": handin, "verdict": "restore", "reason": "was not"})
    assert names(client(made).get("/").text)[1] == ("", nick(made, ADA))


def test_own_page_shows_all_where_the_split_is_public(made):
    handin = scored(made, ADA, "0", miou=0.712345)
    image = made.folder / "handins" / handin / "report" / "images" / ADA / "task2_0.png"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"\x89PNG")
    page = client(made, ADA).get(f"/me/{handin}").text
    assert "0.712345" in page and "Confusion matrix" in page and "IoU by category" in page and "ready" in page
    assert client(made, ADA).get(f"/me/{handin}/image/task2_0.png").content == b"\x89PNG"


def test_a_reserved_part_shows_three_digits_and_no_more(reserved):
    handin = scored(reserved, ADA, "0", miou=0.7129, macs=10**8, kb=300.0)
    image = reserved.folder / "handins" / handin / "report" / "images" / ADA / "task2_0.png"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"\x89PNG")
    browser = client(reserved, ADA)
    for page in (browser.get(f"/me/{handin}").text, browser.get("/me").text, browser.get("/").text,
                 json.dumps(browser.get("/api/me").json())):
        assert "0.712" in page and "0.7129" not in page and "0.713" not in page
        assert "Confusion" not in page and "IoU by category" not in page
        fom = 10**16 * 300.0**2 / (0.712 - 0.65)  # of the digits shown: an exact one would tell the others
        assert f"{fom:.3e}".replace("e+", "e") in page
        assert f"{10**16 * 300.0**2 / (0.7129 - 0.65):.3e}".replace("e+", "e") not in page
    content = browser.get(f"/me/{handin}/receipt").json()["content"]
    assert content["miou"] == 0.712 and content["fom"] == pytest.approx(10**16 * 300.0**2 / (0.712 - 0.65))
    assert "confusion" not in json.dumps(content) and "0.7129" not in json.dumps(content)
    assert browser.get(f"/me/{handin}/image/task2_0.png").status_code == 404
    assert "Name-" not in browser.get("/").text


def test_a_nickname_is_seen_and_is_no_other(made):
    browser = client(made, ADA)
    for wrong in ("", "x" * 25, "a\u202eb", "\x07", nick(made, GRACE), nick(made, GRACE).upper(), "reference"):
        assert browser.post("/me/nick", data={"form": form(browser), "nick": wrong}).status_code == 422, wrong
    name = '<script>alert(1)</script>'[:24]
    assert browser.post("/me/nick", data={"form": form(browser), "nick": name}).status_code == 303
    scored(made, ADA, "0")
    page = client(made).get("/").text
    assert "&lt;script&gt;" in page and "<script>alert" not in page


def test_files_come_back_to_their_owner_as_a_download(made):
    handin = hand_in(made, ADA, "0")
    answer = client(made, ADA).get(f"/me/{handin}/file/handin.zip")
    assert answer.content == packed("0") and answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_receipt_is_genuine_and_its_owners(made, tmp_path):
    waiting = hand_in(made, ADA, "1")
    assert client(made, ADA).get(f"/me/{waiting}/receipt").status_code == 404
    queue.take_back(made.store, waiting, ADA)
    handin = scored(made, ADA, "0", miou=0.712345)
    answer = client(made, ADA).get(f"/me/{handin}/receipt")
    assert answer.headers["content-disposition"] == f'attachment; filename="receipt-{handin}.json"'
    assert client(made, GRACE).get(f"/me/{handin}/receipt").status_code == 404
    content = answer.json()["content"]
    assert content["miou"] == 0.712345 and content["student"] == ADA and content["handin"] == handin
    path = tmp_path / "receipt.json"
    path.write_bytes(answer.content)
    told = run_command("-m", "grading", "verify", path)
    assert told.status == 0 and told.stdout.startswith(f"genuine: {ADA}, graded ") and "mIoU 0.712345" in told.stdout
    path.write_text(answer.text.replace("0.712345", "0.812345"), encoding="utf-8")
    told = run_command("-m", "grading", "verify", path)
    assert told.status == 2 and told.stdout.startswith("miou was changed")


def test_the_teacher_sees_who_has_no_baseline(made):
    scored(made, ADA, "0")
    page = client(made, "teacher").get("/teacher").text
    missing = page.partition('id="missing-title"')[2].partition("</section>")[0]
    assert ADA not in missing and GRACE in missing and "Name-1" in missing and EMMY in missing


def test_a_pause_and_a_message(made):
    teacher = client(made, "teacher")
    key = form(teacher, "/teacher")
    teacher.post("/teacher/pause", data={"form": key, "paused": "1"})
    teacher.post("/teacher/message", data={"form": key, "message": "no class <today>"})
    page = client(made, ADA).get("/me").text
    assert "the teacher has paused it" in page and "no class &lt;today&gt;" in page
    teacher.post("/teacher/pause", data={"form": key, "paused": "0"})
    assert made.store.get("paused") == ""


def test_a_new_link_ends_the_older_one(made):
    teacher, browser = client(made, "teacher"), client(made, ADA)
    page = teacher.post("/teacher/link", data={"form": form(teacher, "/teacher"), "number": ADA}).text
    link = re.search(r"http://127.0.0.1:8000/enter/([\w-]+)", page)
    assert browser.get("/me").status_code == 403
    assert client(made).post("/enter", data={"token": link[1]}).status_code == 303


def test_the_export_makes_grades(made):
    scored(made, ADA, "0", kb=300, miou=0.7)
    best = scored(made, ADA, "1", kb=100, miou=0.7)
    scored(made, ADA, "2", kb=200, miou=0.7)
    withdrawn = scored(made, GRACE, "0", kb=10)
    scored(made, GRACE, "1", kb=150, state="FLAGGED")
    confirmed = scored(made, EMMY, "0", kb=50, state="COST_UNVERIFIED")
    teacher = client(made, "teacher")
    key = form(teacher, "/teacher")
    for handin, verdict in ((withdrawn, "withdraw"), (confirmed, "confirm")):
        teacher.post("/teacher/decide", data={"form": key, "handin": handin, "verdict": verdict, "reason": "because"})
    page = teacher.post("/teacher/export", data={"form": key}).text
    assert "3 students" in page
    out = made.folder / "export"
    report(out / "report", read_course())
    rows = (out / "report" / "grades.csv").read_text(encoding="utf-8-sig").splitlines()
    rank = rows[0].split(",").index("rank")
    ranks = {row.split(",")[0]: row.split(",")[rank] for row in rows[1:]}
    assert ranks == {ADA: "2", EMMY: "1", GRACE: ""}
    assert (out / "submissions" / ADA / "network_task2.py").exists()
    zipped = made.folder / "handins" / best / "in" / "handin.zip"
    with zipfile.ZipFile(zipped) as archive:
        assert (out / "submissions" / ADA / "model_task2.pth").read_bytes() == archive.read("model_task2.pth")
    before = sorted(path for path in out.rglob("*.json"))
    teacher.post("/teacher/export", data={"form": key})
    assert sorted(path for path in out.rglob("*.json"))[:1] and not list(made.folder.glob(".export-*"))
    assert before


def test_no_address_of_another_room_is_served(made):
    browser = client(made, ADA)
    for path in ("/static/../board.sqlite", "/static/board.sqlite", "/static/..%2fboard.sqlite", "/links.csv", "/docs"):
        assert browser.get(path).status_code == 404
