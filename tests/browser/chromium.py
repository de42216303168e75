"""A service in a process of its own over a filled database, and a headless Chromium before it: for tests, screenshots and measurements."""

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.browser.filled import Filled, fill

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CHROMEDRIVER = shutil.which("chromedriver")


@dataclass
class Service:
    """A service of its own process. filled: the database behind it. token: the operator's. pid: of the process."""

    url: str
    filled: Filled
    token: str
    pid: int


@contextmanager
def serving(home: Path, more: Callable[[Filled], None] = lambda _: None) -> Iterator[Service]:
    """A service over the studies of `filled.fill`, and what `more` adds to them."""
    filled = fill(home)
    more(filled)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "--factory", "api.app:create_app", "--port", str(port), "--log-level", "warning"]
    environment = {**os.environ, "RETORT_HOME": str(home), "RETORT_DATABASE_URL": f"sqlite:///{home}/retort.db"}
    process = subprocess.Popen([*command, "--timeout-graceful-shutdown", "1"], env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        while not _ready(url):
            assert process.poll() is None, "the service ended"
            time.sleep(0.1)
        yield Service(url, filled, (home / "token").read_text().strip(), process.pid)
    finally:
        process.terminate()
        process.wait()
        filled.store.close()


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


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

    def log_in(self, token: str) -> None:
        """By a link that opens the pages once."""
        made = httpx.post(f"{self.url}/v1/links", headers={"Authorization": f"Bearer {token}"}, trust_env=False)
        self.open(made.json()["path"])
        self.until("return location.pathname === '/studies'")

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

        return WebDriverWait(self.driver, 60, 0.05).until(lambda _: self.run(script, *arguments))

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
        messages = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))
        return [each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"]

    def picture(self, width: int, height: int) -> bytes:
        """A PNG of the page from its top."""
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
        return base64.b64decode(shot["data"])
