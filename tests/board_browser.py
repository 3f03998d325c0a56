"""Headless Chromium for the board's tests: pages at a width, pictures, and what the console says."""
import base64
import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from selenium import webdriver

BROWSER, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage")


class Browser(webdriver.Chrome):
    """Chromium with what the board's tests do."""

    def visit(self, address: str, width: int = 1300) -> None:
        self.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                             {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False})
        self.get(address)

    def photograph(self, path: Path) -> Path:
        """The whole page as a PNG."""
        size = self.execute_script("const e = document.documentElement; return [e.scrollWidth, e.scrollHeight]")
        width = self.execute_script("return window.innerWidth")
        shot = self.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": {
            "x": 0, "y": 0, "width": max(size[0], width), "height": min(size[1], 6000), "scale": 1}})
        path.write_bytes(base64.b64decode(shot["data"]))
        return path

    def console(self) -> list[str]:
        return [entry["message"] for entry in self.get_log("browser")]


@contextlib.contextmanager
def browser(profile: Path, *, scripts: bool = True) -> Iterator[Browser]:
    """A browser with a profile of its own; without `scripts` JavaScript is off."""
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    if not scripts:
        options.add_experimental_option("prefs", {"profile.managed_default_content_settings.javascript": 2})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Browser(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()
