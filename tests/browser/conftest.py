"""A headless Chromium before a real service of its own, over a database of studies. Where there is no browser, one line says so."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.chromium import CHROMEDRIVER, CHROMIUM, Browser, Service, serving
from tests.browser.filled import TABLE

if not (CHROMIUM and CHROMEDRIVER):
    collect_ignore_glob = ["test_*.py"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not (CHROMIUM and CHROMEDRIVER):
        terminalreporter.write_line(
            "The browser tests were left out: there is no chromium with chromedriver (apt install chromium chromium-driver)."
        )


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("home")) as running:
        yield running


@pytest.fixture(scope="session")
def chromium(service: Service) -> Iterator[Browser]:
    browser = Browser(service.url)
    browser.log_in(service.token)
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
    "a study's figures": "/studies/2/figures",
    "a study with a search": "/studies/8",
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
