"""A headless Chromium before a real service of its own, over a database of studies. Where there is no browser, one line says so."""

import base64
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.browser.filled import TABLE, Filled, fill

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CHROMEDRIVER = shutil.which("chromedriver")
if not (CHROMIUM and CHROMEDRIVER):
    collect_ignore_glob = ["test_*.py"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not (CHROMIUM and CHROMEDRIVER):
        terminalreporter.write_line(
            "The browser tests were left out: there is no chromium with chromedriver (apt install chromium chromium-driver)."
        )


@dataclass
class Service:
    """A service of its own process. filled: the database behind it. token: the operator's."""

    url: str
    filled: Filled
    token: str


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    home = tmp_path_factory.mktemp("home")
    filled = fill(home)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "--factory", "api.app:create_app", "--port", str(port), "--log-level", "warning"]
    environment = {**os.environ, "RETORT_HOME": str(home), "RETORT_DATABASE_URL": f"sqlite:///{home}/retort.db"}
    process = subprocess.Popen([*command, "--timeout-graceful-shutdown", "1"], env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            assert process.poll() is None, "the service ended"
            try:
                if httpx.get(f"{url}/readyz", trust_env=False).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.1)
        yield Service(url, filled, (home / "token").read_text().strip())
    finally:
        process.terminate()
        process.wait()
        filled.store.close()


class Browser:
    """Chromium at the pages of a service. Everything it asked for and complained of is kept until `asked` and `complaints` give it."""

    def __init__(self, url: str) -> None:
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(CHROMEDRIVER)))
        self.url = url
        self.size(1440)

    def size(self, width: int, height: int = 900) -> None:
        """A window of so many CSS pixels; narrow ones are phones."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def scheme(self, name: str) -> None:
        """What the system prefers: light or dark."""
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": name}]})

    def open(self, path: str) -> None:
        self.driver.get(self.url + path)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def all(self, selector: str) -> list[Any]:
        return list(self.driver.find_elements("css selector", selector))

    def one(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def text(self, selector: str = "main") -> str:
        """What is shown of the first such element, in one read."""
        return str(self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector))

    def until(self, script: str, *arguments: Any) -> Any:
        """What a script returns as soon as it is something."""
        from selenium.webdriver.support.wait import WebDriverWait

        return WebDriverWait(self.driver, 15, 0.05).until(lambda _: self.run(script, *arguments))

    def press(self, *keys: str) -> None:
        """Keys, to what has the focus."""
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def focused(self) -> str:
        """The text of what has the focus."""
        return str(self.run("return document.activeElement.innerText ?? ''")).strip()

    def complaints(self) -> list[str]:
        """What the console was told since the last time: errors, and what the Content-Security-Policy refused."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def asked(self) -> list[str]:
        """The addresses that were asked for since the last time."""
        import json

        messages = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))
        return [each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"]

    def picture(self, width: int, height: int) -> bytes:
        """A PNG of the page from its top."""
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
        return base64.b64decode(shot["data"])


@pytest.fixture(scope="session")
def chromium(service: Service) -> Iterator[Browser]:
    browser = Browser(service.url)
    made = httpx.post(f"{service.url}/v1/links", headers={"Authorization": f"Bearer {service.token}"}, trust_env=False)
    browser.open(made.json()["path"])
    browser.until("return location.pathname === '/studies'")
    yield browser
    browser.driver.quit()


@pytest.fixture
def browser(chromium: Browser) -> Browser:
    """A browser that remembers nothing of the test before."""
    chromium.size(1440)
    chromium.scheme("light")
    chromium.open("/static/icon.svg")
    chromium.run("localStorage.clear()")
    chromium.complaints()
    chromium.asked()
    return chromium


AXE = (Path(__file__).parent / "axe" / "axe-4.14.1.min.js").read_text()
PAGES = {
    "studies": "/studies",
    "a study": "/studies/2",
    "a paper's table as a study": "/studies/1?sort=AP50",
    "a running study": "/studies/3",
    "a trial that failed": "/studies/2/trials/ld/seed-2",
    "a trial with images": "/studies/2/trials/fitnet/seed-0",
    "rows compared": "/compare?row=2:student&row=2:ld&row=2:fitnet",
    "studies compared": "/compare?study=2&study=3",
    "tables": "/tables",
    "a table": f"/tables/{TABLE}",
    "a table that was not run": "/tables/zhang2021/table-3?scale=paper",
    "schedules": "/schedules",
    "a schedule": "/schedules/1",
    "the queue": "/queue",
    "the status": "/status",
    "the editor": "/submit?table=digits",
    "an error": "/studies/9999",
}
