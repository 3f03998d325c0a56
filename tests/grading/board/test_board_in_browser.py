"""The board in a real browser: hand in, watch the rank change, sort, phone width; and all of it without JavaScript.

Chromium and its driver are Debian's packages; without them this is skipped.
"""
import socket
import threading
from pathlib import Path

import pytest
import torch
from made_board import NETWORK, made_board, made_result, scored

pytest.importorskip("selenium.webdriver", reason="selenium is not installed: make test installs it")
import uvicorn
from board_browser import BROWSER, DRIVER, browser
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from grading.board import queue
from grading.board.protocol import PatientProtocol

if not (BROWSER and DRIVER):
    pytest.skip("no Chromium here: apt install chromium chromium-driver", allow_module_level=True)
ADA, GRACE = "31355501", "31355502"
SECONDS = 60


@pytest.fixture
def made(tmp_path):
    """A board on a port of this machine, with two who are ranked."""
    found = made_board(tmp_path / "board")
    scored(found, GRACE, "0", kb=200)
    scored(found, ADA, "0", kb=300)
    listening = socket.create_server(("127.0.0.1", 0))
    found.address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    server = uvicorn.Server(uvicorn.Config(found.app, http=PatientProtocol, ws="none", access_log=False,
                                           log_level="critical", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield found
    server.should_exit = True
    thread.join(20)


@pytest.fixture
def files(tmp_path) -> tuple[Path, Path]:
    paths = tmp_path / "network.py", tmp_path / "model.pth"
    paths[0].write_text(NETWORK)
    torch.save({"conv.weight": torch.zeros(8, 3, 1, 1), "conv.bias": torch.arange(8.0)}, paths[1])
    return paths


def enter(driver, made, number: str) -> None:
    driver.visit(f"{made.address}/enter/{made.links[number].rpartition('/')[2]}")
    driver.find_element(By.CSS_SELECTOR, "button.main").click()
    WebDriverWait(driver, SECONDS).until(lambda _: driver.find_elements(By.LINK_TEXT, "Board"))


def hand_in(driver, made, files: tuple[Path, Path]) -> str:
    """Hands two files in by the page; what the page says of it."""
    driver.visit(f"{made.address}/me")
    for name, path in zip(("network", "weights"), files, strict=True):
        driver.find_element(By.NAME, name).send_keys(str(path))
    driver.find_element(By.CSS_SELECTOR, ".handin button").click()
    found = WebDriverWait(driver, SECONDS).until(lambda _: driver.find_elements(By.CSS_SELECTOR, ".told, .why"))
    return found[0].text


def ranks(driver) -> list[str]:
    return [cell.text for cell in driver.find_elements(By.CSS_SELECTOR, "#board tbody th")]


def nick(made, number: str) -> str:
    return made.store.one("SELECT nick FROM people WHERE number = ?", number)["nick"]


def axe(driver) -> list[str]:
    """What axe-core finds on the page that some people cannot use."""
    package = pytest.importorskip("axe_selenium_python", reason="axe-selenium-python is not installed")
    source = next(Path(package.__file__).parent.rglob("axe.min.js")).read_text(encoding="utf-8")
    driver.execute_cdp_cmd("Runtime.evaluate", {"expression": source})
    # An older axe-core does not know that HTML allows <div> within <dl>.
    found = driver.execute_async_script(
        "const done = arguments[0]; axe.run({rules: {dlitem: {enabled: false}, 'definition-list': {enabled: false}}})"
        ".then((found) => done(found.violations))")
    return [f"{one['id']}: {one['nodes'][0]['html'][:120]} {one['nodes'][0]['failureSummary'][:200]}" for one in found]


def test_hand_in_and_watch_the_rank_change(made, files, tmp_path):
    with browser(tmp_path / "profile") as driver:
        enter(driver, made, ADA)
        assert "accepted, place 1 in the queue" in hand_in(driver, made, files)
        driver.visit(f"{made.address}/")
        assert ranks(driver)[0] == nick(made, GRACE)
        driver.execute_script("window.stays = 1")
        made_result(made, queue.claim(made.store), kb=100)
        WebDriverWait(driver, SECONDS).until(lambda _: ranks(driver)[0].startswith(nick(made, ADA)))
        assert driver.execute_script("return window.stays") == 1, "the page was not loaded again"

        driver.find_element(By.CSS_SELECTOR, '#board th[data-column="5"] button').click()  # KB, the smallest first
        driver.find_element(By.CSS_SELECTOR, '#board th[data-column="5"] button').click()
        assert ranks(driver)[0] == nick(made, GRACE)
        scored(made, "reference", "0", kb=50)
        WebDriverWait(driver, SECONDS).until(lambda _: len(ranks(driver)) == 3)
        assert ranks(driver)[0] == nick(made, GRACE), "a page that renews itself stays sorted"

        graces = made.store.one("SELECT handin FROM results WHERE student = ?", GRACE)["handin"]
        pages = [("/", ADA), ("/me", ADA), (f"/me/{graces}", GRACE),
                 ("/enter/x", None), ("/teacher", "teacher")]
        scored(made, GRACE, "odd", state="COST_UNVERIFIED")
        for page, who in pages:
            if who:
                driver.visit(f"{made.address}/enter/x")  # a live page would go on asking, now as nobody
                driver.delete_all_cookies()
                enter(driver, made, who)
            for width in (1300, 400):
                driver.visit(made.address + page, width)
                assert driver.execute_script("return document.documentElement.scrollWidth") <= width, (page, width)
            assert axe(driver) == [], page
        assert driver.console() == []


def test_everything_works_without_javascript(made, files, tmp_path):
    with browser(tmp_path / "profile", scripts=False) as driver:
        enter(driver, made, ADA)
        assert "accepted, place 1" in hand_in(driver, made, files)
        driver.find_element(By.CSS_SELECTOR, '[action$="/back"] button').click()
        WebDriverWait(driver, SECONDS).until(lambda _: made.store.one(
            "SELECT state FROM handins ORDER BY place DESC")["state"] == "replaced")
        field = driver.find_element(By.NAME, "nick")
        field.clear()
        field.send_keys("Ada")
        driver.find_element(By.CSS_SELECTOR, '[action="/me/nick"] button').click()
        WebDriverWait(driver, SECONDS).until(lambda _: nick(made, ADA) == "Ada")
        driver.visit(f"{made.address}/")
        assert ranks(driver) == [nick(made, GRACE), "Ada you"]
        driver.delete_all_cookies()
        enter(driver, made, "teacher")
        driver.find_element(By.CSS_SELECTOR, '[action="/teacher/pause"] button').click()
        WebDriverWait(driver, SECONDS).until(lambda _: made.store.get("paused") == "1")
