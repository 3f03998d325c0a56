"""Attacks on the board by HTTP: others' tokens and files, guesses, cross-site forms, endless and slow requests."""
import contextlib
import io
import re
import socket
import threading
import time
import zipfile

import pytest
import uvicorn
from made_board import client, form, hand_in, made_board, packed, scored, token

from grading.board import protocol
from grading.board.access import MOST_FAILURES
from grading.board.protocol import HEADERS, PatientProtocol

ADA, GRACE = "31355501", "31355502"
ATTACK = '<script>alert(1)</script>"\'><img src=x onerror=alert(2)>'


@pytest.fixture
def made(tmp_path):
    return made_board(tmp_path / "board")


@pytest.fixture
def open_port(made, monkeypatch):
    """The board on a port of this machine, with short patience."""
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.5)
    monkeypatch.setattr(protocol, "SILENT_SECONDS", 0.5)
    monkeypatch.setattr(protocol, "BODY_SECONDS", 3.0)
    monkeypatch.setattr(protocol, "LARGEST_UPLOAD", 1 << 20)
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(made.app, http=PatientProtocol, ws="none", access_log=False, lifespan="off",
                                           log_level="critical", server_header=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield listening.getsockname()[1]
    server.should_exit = True
    thread.join(10)


def talk(port: int, *parts: bytes, seconds: float = 20.0) -> bytes:
    """Sends parts and reads until the server closes; nothing where it does not within `seconds`."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as line:
        with contextlib.suppress(OSError):
            for part in parts:
                line.sendall(part)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while found := line.recv(65536):
                answer += found
        return answer


def head(path: str, *more: str, method: str = "POST") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *more, "", ""]).encode()


def test_every_answer_has_the_headers(made):
    browser = client(made, ADA)
    for answer in (browser.get("/"), browser.get("/me"), browser.get("/nothing"), browser.get("/static/style.css"),
                   client(made).get("/me"), browser.post("/me/nick")):
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
    policy = HEADERS["Content-Security-Policy"]
    assert "unsafe" not in policy and "default-src 'none'" in policy
    for path in ("/", "/me", "/enter/x", "/nothing"):
        page = browser.get(path).text
        assert not re.search(r"<script(?! src=)|<style| style=| on\w+=", page), path


def test_others_see_and_change_nothing_of_mine(made):
    handin = scored(made, ADA, "0")
    waiting = hand_in(made, ADA, "1")
    other = client(made, GRACE)
    key = form(other)
    for path in (f"/me/{handin}", f"/me/{handin}/file/handin.zip", f"/me/{handin}/image/task2_0.png"):
        assert other.get(path).status_code == 404 and client(made).get(path).status_code == 401
        assert client(made, "teacher").get(path).status_code == 403, "to nobody but its owner"
    assert other.post(f"/me/{waiting}/back", data={"form": key}).status_code == 404
    assert made.store.one("SELECT state FROM handins WHERE id = ?", waiting)["state"] == "waiting"
    for path in ("/teacher", "/teacher/pause", "/teacher/export"):
        answer = other.get(path) if path == "/teacher" else other.post(path, data={"form": key, "paused": "1"})
        assert answer.status_code == 403
    assert made.store.get("paused") == ""


@pytest.mark.parametrize("name", ["..%2f..%2fboard.sqlite", "%2fetc%2fpasswd", "%2e%2e", "handin.zip%00.py", "report",
                                  "..%5chandin.zip"])
def test_no_path_leads_out_of_a_hand_in(made, name):
    handin = hand_in(made, ADA, "0")
    (made.folder / "handins" / handin / "in" / "link").symlink_to(made.folder / "links.csv")
    browser = client(made, ADA)
    assert browser.get(f"/me/{handin}/file/{name}").status_code == 404
    assert browser.get(f"/me/{handin}/file/link").status_code == 404
    assert browser.get(f"/me/..%2f{handin}").status_code == 404


def test_guessed_tokens_are_limited_by_address_and_right_ones_are_not(made):
    browser = client(made)
    statuses = [browser.post("/enter", data={"token": f"guess{k}"}).status_code for k in range(MOST_FAILURES + 3)]
    assert statuses == [403] * MOST_FAILURES + [429] * 3
    assert browser.get("/api/me", headers={"Authorization": "Bearer guess"}).status_code == 429
    assert browser.get("/api/me", headers={"Authorization": f"Bearer {token(made, ADA)}"}).status_code == 200


def test_tokens_are_not_in_the_state(made):
    client(made, ADA).get("/me")
    secret = token(made, ADA).encode()
    for path in made.folder.glob("board.sqlite*"):
        assert secret not in path.read_bytes()
    for name in ("links.csv", "teacher-links.txt"):
        assert (made.folder / name).stat().st_mode & 0o077 == 0


def test_another_sites_form_is_refused(made):
    browser = client(made, ADA)
    for headers, data in (({}, {"nick": "x"}), ({}, {"nick": "x", "form": "0" * 32}),
                          ({"Sec-Fetch-Site": "cross-site"}, {"nick": "x", "form": form(browser)}),
                          ({"Sec-Fetch-Site": "same-site"}, {"nick": "x", "form": form(browser)})):
        assert browser.post("/me/nick", data=data, headers=headers).status_code == 403
    assert form(client(made, GRACE)) != form(browser), "a form's key is its person's"
    answer = browser.post("/me/handin", data={"form": "0" * 32}, files={"zip": ("x.zip", packed())})
    assert answer.status_code == 403 and not list((made.folder / "handins").iterdir())
    assert browser.post("/api/handin", content=packed()).status_code == 401, "a cookie alone is no bearer's token"
    assert client(made).post("/enter", data={"token": token(made, ADA)}, headers={"Sec-Fetch-Site": "cross-site"}
                             ).status_code == 403


def test_another_host_is_not_answered(made):
    assert client(made).get("/", headers={"Host": "evil.example"}).status_code == 400


def test_names_that_attack_the_page(made):
    browser = client(made, ADA)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{ATTACK}.txt", "x")
    answer = browser.post("/me/handin", data={"form": form(browser)}, files={"zip": (ATTACK, file.getvalue())})
    assert answer.status_code == 422 and "<img" not in answer.text and "&lt;img" in answer.text
    assert "<img" not in browser.get("/enter/" + ATTACK.replace("/", "%2f")).text
    handin = scored(made, ADA, "0")
    with made.store.change() as db:
        db.execute("UPDATE results SET reason = ?, why = ?, verdict = 'withdrawn'", (ATTACK, ATTACK))
        db.execute("UPDATE people SET name = ?, nick = ? WHERE number = ?", (ATTACK, ATTACK, ADA))
        db.execute("INSERT INTO events VALUES (0, ?)", (ATTACK,))
    for visitor, path in ((browser, "/"), (browser, "/me"), (browser, f"/me/{handin}"),
                          (client(made, "teacher"), "/teacher")):
        page = visitor.get(path).text
        assert "<img src=x" not in page and "<script>alert" not in page, path
        assert "&lt;img" in page, path


def test_a_header_cannot_be_injected(made):
    browser = client(made, ADA)
    answer = browser.get("/me?told=x%0d%0aSet-Cookie:%20board=evil")
    assert answer.status_code == 200 and "set-cookie" not in answer.headers
    handin = hand_in(made, ADA, "0")
    answer = browser.get(f"/me/{handin}/file/x%0d%0aSet-Cookie:%20a=b")
    assert answer.status_code == 404 and "set-cookie" not in answer.headers


def zip_of(*names: str, size: int = 0, flags: int = 0) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, b"\0" * size)
    return file.getvalue()


@pytest.mark.parametrize(("content", "words"), [
    (zip_of("../network_task2.py", "model_task2.pth"), "names within the zip"),
    (zip_of("/network_task2.py", "model_task2.pth"), "names within the zip"),
    (zip_of("..\\network_task2.py", "model_task2.pth"), "names within the zip"),
    (zip_of("network_task2.py", "model_task2.pth", *(f"{k}.txt" for k in range(1001))), "expected seven files"),
    (zip_of(*(f"{'x' * 200}{k}" for k in range(6000))), "more members than can be listed"),
], ids=["up", "root", "windows", "many", "directory"])
def test_zips_that_attack_are_refused_unopened(made, content, words):
    answer = client(made).post("/api/handin", content=content, headers={"Authorization": f"Bearer {token(made, ADA)}"})
    assert answer.status_code == 422 and words in answer.json()["error"]
    assert not list((made.folder / "handins").iterdir())


def test_a_bomb_is_refused_by_what_it_claims(made):
    content = bytearray(zip_of("network_task2.py", "model_task2.pth", size=1000))
    place = content.rindex(b"PK\x01\x02")
    content[place + 24:place + 28] = (0xFFFFFF00).to_bytes(4, "little")  # 4 GB, says the list of members
    answer = client(made).post("/api/handin", content=bytes(content),
                               headers={"Authorization": f"Bearer {token(made, ADA)}"})
    assert answer.status_code == 422 and "expected seven files, found 2 of 4.0 GB" in answer.json()["error"]


def test_a_large_body_is_refused_whatever_it_says_of_itself(made, open_port):
    bearer = f"Authorization: Bearer {token(made, ADA)}"
    answer = talk(open_port, head("/api/handin", bearer, f"Content-Length: {1 << 40}"), b"x" * (2 << 20))
    assert b" 413 " in answer.split(b"\r\n")[0]
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    answer = talk(open_port, head("/api/handin", bearer, "Transfer-Encoding: chunked"), *[chunk] * 40)
    assert b" 413 " in answer.split(b"\r\n")[0], "endless"
    answer = talk(open_port, head("/enter", f"Content-Length: {1 << 20}",
                                  "Content-Type: application/x-www-form-urlencoded"), b"x" * (1 << 20))
    assert b" 413 " in answer.split(b"\r\n")[0], "a small form is no place for a large body"
    assert not list((made.folder / "incoming").iterdir())


def test_slow_requests_end(made, open_port):
    begin = time.monotonic()
    assert talk(open_port, b"GET / HTTP/1.1\r\nHost: 127") == b"", "a head that never ends"
    assert talk(open_port, b"") == b"", "a connection that says nothing"
    bearer = f"Authorization: Bearer {token(made, ADA)}"
    answer = talk(open_port, head("/api/handin", bearer, "Content-Length: 1000"), b"x")
    assert b" 408 " in answer.split(b"\r\n")[0], "a body that stops"
    assert time.monotonic() - begin < 15
    assert not list((made.folder / "incoming").iterdir())


def test_a_body_by_drops_ends(made, open_port):
    bearer, answer = f"Authorization: Bearer {token(made, ADA)}", b""
    with socket.create_connection(("127.0.0.1", open_port), timeout=20) as line:
        line.sendall(head("/api/handin", bearer, "Content-Length: 100000"))
        end = time.monotonic() + 20
        line.settimeout(0.2)
        while time.monotonic() < end:
            with contextlib.suppress(TimeoutError):
                answer = line.recv(65536)
                break
            line.sendall(b"x")
    assert b" 408 " in answer.split(b"\r\n")[0]


def test_a_slow_one_keeps_nobody_waiting(made, open_port):
    lines = [socket.create_connection(("127.0.0.1", open_port), timeout=20) for _ in range(50)]
    for line in lines:
        line.sendall(b"GET / HT")
    answer = talk(open_port, head("/", "Connection: close", method="GET"))
    assert b" 200 " in answer.split(b"\r\n")[0]
    for line in lines:
        with contextlib.suppress(ConnectionResetError):
            assert line.recv(10) == b""
        line.close()


def test_one_upload_of_a_student_at_a_time(made):
    with made.board.uploads.one_of(ADA):
        answer = client(made).post("/api/handin", content=packed(), headers={
            "Authorization": f"Bearer {token(made, ADA)}"})
    assert answer.status_code == 429 and "another of yours" in answer.json()["error"]


def test_a_full_disk_accepts_nothing_and_says_so(made, monkeypatch):
    monkeypatch.setattr("grading.board.worker.LEAST_FREE", 1 << 60)
    answer = client(made).post("/api/handin", content=packed(), headers={"Authorization": f"Bearer {token(made, ADA)}"})
    assert answer.status_code == 507 and "disk full" in answer.json()["error"]
    assert "the disk is full" in client(made).get("/").text


def test_a_locked_state_is_told_in_a_line(made, monkeypatch):
    import sqlite3

    monkeypatch.setattr("grading.board.store.PATIENCE", 0.1)
    other = sqlite3.connect(made.folder / "board.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        answer = client(made).post("/api/handin", content=packed(), headers={
            "Authorization": f"Bearer {token(made, ADA)}"})
        assert answer.status_code == 503 and "database is locked" in answer.json()["error"]
        assert not list((made.folder / "handins").iterdir()) and client(made).get("/").status_code == 200
    finally:
        other.execute("ROLLBACK")
    assert client(made).post("/api/handin", content=packed(), headers={
        "Authorization": f"Bearer {token(made, ADA)}"}).status_code == 200
