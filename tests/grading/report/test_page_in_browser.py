"""The report in a real browser: headless Chromium opens the pages from disk, sorts, types, and runs no student's code.

Chromium and its driver are Debian's packages (apt install chromium chromium-driver); without them this is skipped.
"""
import base64
import json
import shutil
from pathlib import Path

import pytest
from made_records import ATTACK, made_class, slug_of, write_class

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: make test installs it")
from PIL import Image  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

from grading.report.build import report  # noqa: E402

BROWSER, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
if not (BROWSER and DRIVER):
    pytest.skip("no Chromium here: apt install chromium chromium-driver", allow_module_level=True)
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage")


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_class(folder)
    report(folder)
    report(folder, public=True)
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def visit(browser, path: Path, width: int = 1280) -> list[str]:
    """Opens a page; returns the addresses of all that was requested. Fails on any message on the console."""
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False})
    browser.get(path.as_uri())
    browser.execute_script("for (const image of document.images) image.loading = 'eager'")
    assert browser.execute_async_script(
        "const done = arguments[0];"
        "Promise.all([...document.images].map((image) => image.decode())).then(() => done(true), () => done(false))")
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    # The browser's own first tab may still be asking for its icons.
    return [message["params"]["request"]["url"] for message in messages if message["method"] ==
            "Network.requestWillBeSent" and not message["params"]["documentURL"].startswith("chrome:")]


def screenshot(browser, path: Path) -> Image.Image:
    """The whole page as an image."""
    size = browser.execute_script("const e = document.documentElement; return [e.scrollWidth, e.scrollHeight]")
    shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": {
        "x": 0, "y": 0, "width": size[0], "height": min(size[1], 8000), "scale": 1}})
    path.write_bytes(base64.b64decode(shot["data"]))
    return Image.open(path).convert("RGB")


def column(browser, index: int) -> list[str]:
    return browser.execute_script("const rows = [...document.querySelectorAll('#board tbody tr')];"
                                  "return rows.map((row) => row.cells[arguments[0]].dataset.value)", index)


def headings(browser) -> list:
    return browser.find_elements(By.CSS_SELECTOR, "#board th[data-column]")


def test_pages_ask_for_nothing_outside_and_run_nothing(browser, out):
    for path in (out / "index.html", out / "students" / f"{slug_of(made_class()[8])}.html", out / "pairs" / "1.html",
                 out / "students" / "31350000.html", out / "public" / "index.html"):
        asked = visit(browser, path)
        assert asked and all(url.startswith(out.as_uri() + "/") for url in asked), asked
        assert browser.execute_script("return window.hacked") is None
        assert "hacked" not in browser.title.replace(ATTACK, "").replace(ATTACK[:60], "")


def test_a_click_sorts_and_the_next_one_turns_it_round(browser, out):
    visit(browser, out / "index.html")
    kinds = set()
    for index, heading in enumerate(headings(browser)):
        numeric = heading.get_dom_attribute("data-kind") == "number"
        kinds.add(numeric)
        directions = []
        for _ in range(2):
            heading.find_element(By.TAG_NAME, "button").click()
            found = column(browser, index)
            filled = [value for value in found if value != ""]
            assert sorted(found) == sorted([*filled, *[""] * (len(found) - len(filled))])
            assert found == [*filled, *[""] * (len(found) - len(filled))], "empty cells come last, either way"
            directions.append(heading.get_dom_attribute("aria-sort"))
            if numeric:
                values = [float(value) for value in filled]
                assert values == sorted(values, reverse=directions[-1] == "descending")
            sorted_by = browser.find_elements(By.CSS_SELECTOR, "#board th[aria-sort]")
            assert [other.get_dom_attribute("data-column") for other in sorted_by] == [str(index)]
        assert set(directions) == {"ascending", "descending"}
    assert kinds == {True, False}
    assert len(column(browser, 0)) == 26


def test_numbers_sort_as_numbers_and_the_best_comes_first(browser, out):
    visit(browser, out / "index.html")
    by_title = {heading.text.split()[0]: heading for heading in headings(browser)}
    by_title["KB"].find_element(By.TAG_NAME, "button").click()
    sizes = sorted(record["tasks"]["2"]["size_kb"] for record in made_class() if record["tasks"]["2"]["size_kb"])
    place = int(by_title["KB"].get_dom_attribute("data-column"))
    assert [float(value) for value in column(browser, place) if value] == pytest.approx(sizes)
    assert by_title["KB"].get_dom_attribute("aria-sort") == "ascending"
    by_title["Total"].find_element(By.TAG_NAME, "button").click()
    assert by_title["Total"].get_dom_attribute("aria-sort") == "descending"


def test_the_keyboard_is_enough(browser, out):
    visit(browser, out / "index.html")
    body = browser.switch_to.active_element
    seen = []
    for _ in range(40):
        body.send_keys(Keys.TAB)
        body = browser.switch_to.active_element
        seen.append(body.tag_name)
        if body.tag_name == "button" and body.text.startswith("Student"):
            break
    else:
        pytest.fail(f"Tab never reached a heading: {seen}")
    heading = body.find_element(By.XPATH, "..")
    for key, direction in ((Keys.ENTER, "ascending"), (Keys.SPACE, "descending")):
        body.send_keys(key)
        assert heading.get_dom_attribute("aria-sort") == direction
        assert browser.switch_to.active_element == body, "the focus stays where it was"
    outline = browser.execute_script("return getComputedStyle(arguments[0]).outlineStyle", body)
    assert outline == "solid"
    browser.find_element(By.CSS_SELECTOR, "#board tbody a").send_keys(Keys.ENTER)
    assert "/students/" in browser.current_url
    assert browser.execute_script("return window.hacked") is None


def test_the_filter_shows_what_it_is_asked_for(browser, out):
    visit(browser, out / "index.html")
    field = browser.find_element(By.CSS_SELECTOR, "input[type=search]")
    for words, expected in (("timeout", 1), ("flagged subclass", 2), ("", 26), ("no such word", 0)):
        field.clear()
        field.send_keys(words + " ")
        rows = browser.find_elements(By.CSS_SELECTOR, "#board tbody tr:not([hidden])")
        assert len(rows) == expected, words
    assert browser.find_element(By.ID, "board-count").text == "0 of 26"


def test_points_lead_to_the_students(browser, out):
    visit(browser, out / "index.html")
    links = browser.find_elements(By.CSS_SELECTOR, "svg.wide a")
    measured = [record for record in made_class() if record["tasks"]["2"]["flops"]]
    assert len(links) == len(measured) - 1  # one lies too far out, and is named below
    browser.execute_script("arguments[0].focus()", links[-1])
    links[-1].send_keys(Keys.ENTER)
    assert "/students/3135" in browser.current_url


def test_the_students_page_shows_the_log_as_text(browser, out):
    visit(browser, out / "students" / f"{slug_of(made_class()[8])}.html")
    log = browser.find_elements(By.CSS_SELECTOR, "details.log")[-1]
    assert log.get_property("open")
    shown = log.find_element(By.TAG_NAME, "pre").text
    assert ATTACK in shown and "</pre></details><script>" in shown and "\\x07" in shown
    assert browser.find_element(By.TAG_NAME, "h1").text == ATTACK
    assert len(browser.find_elements(By.TAG_NAME, "script")) == 0


def test_the_policy_stops_what_escaping_would_have_missed(browser, out, tmp_path):
    page = (out / "index.html").read_text(encoding="utf-8")
    spoilt = tmp_path / "spoilt.html"
    spoilt.write_text(page.replace("<main>", f"<main>{ATTACK}<b onclick='window.hacked = 5' id='x'>x</b>"), "utf-8")
    browser.get(spoilt.as_uri())
    browser.find_element(By.ID, "x").click()
    assert browser.execute_script("return window.hacked") is None
    assert any("Content Security Policy" in entry["message"] for entry in browser.get_log("browser"))


@pytest.mark.parametrize("width", [1280, 400])
def test_pages_fit_their_window_and_are_drawn(browser, out, tmp_path, width):
    for name in ("index.html", "students/31350000.html", "pairs/1.html"):
        visit(browser, out / name, width)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width, name
        image = screenshot(browser, tmp_path / f"{Path(name).stem}-{width}.png")
        assert width - 20 < image.width <= width and len(image.getcolors(1 << 24)) > 100
    if width == 1280:
        visit(browser, out / "index.html", width)
        wide, shown = browser.execute_script(
            "const e = document.querySelector('.scroll'); return [e.scrollWidth, e.clientWidth]")
        assert wide <= shown, "the whole leaderboard is seen without scrolling"
