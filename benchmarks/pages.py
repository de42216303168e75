"""Sizes and times of every page on a database of 20,000 trials, one study of 10,000 among them: docs/results/pages.md.

    python -m benchmarks.pages

The service runs as a process of its own on SQLite. `first` is the first answer after a trial of the study has changed, when its table is
built anew; `then` the mean of the ten that follow; both as CPU time of the service, which others on the machine do not change, and the
median of the ten as seconds on the clock. Chromium's numbers are of an
empty cache: bytes that came over the wire for the page with all it loads, and the time from the request to the end of its load event.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import httpx
import psutil

from orchestrator.reporting.rendering.markdown import grid
from tests.browser.chromium import Browser, Service, serving
from tests.browser.filled import fill_large

OUT = Path(__file__).resolve().parent.parent / "docs" / "results" / "pages.md"


def pages(large: int) -> dict[str, str]:
    """Paths of the pages by name. large: id of the study of 10,000 trials."""
    return {
        "studies": "/studies",
        "studies, searched": "/studies?text=fitnet&state=finished",
        "study of 10,000 trials": f"/studies/{large}",
        "the same, sorted, second page of rows": f"/studies/{large}?sort=AP&rows=2",
        "the same, page 150 of its trials": f"/studies/{large}?trials=150",
        "study of 250 trials": f"/studies/{large + 1}",
        "trial": f"/studies/{large}/trials/arm-7/seed-3",
        "40 rows compared": "/compare?" + "&".join(f"row={large}:arm-{number}" for number in range(40)),
        "studies compared": f"/compare?study={large}&study={large + 1}",
        "tables": "/tables",
        "table": "/tables/ld2022/table-4",
        "schedules": "/schedules",
        "schedule": "/schedules/1",
        "queue": "/queue",
        "status": "/status",
        "submit": "/submit?table=digits",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT)
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as home, serving(Path(home), fill_large) as service:
        browser = Browser(service.url)
        try:
            browser.log_in(service.token)
            large = service.filled.large
            body = [_measured(service, browser, large, name, path) for name, path in pages(large).items()]
        finally:
            browser.driver.quit()
    header = ["page", "first, CPU s", "then, CPU s", "then, s", "HTML, kB", "over the wire, kB", "loaded in Chromium, s"]
    load = f"{os.getloadavg()[1]:.0f}"
    out.write_text("\n".join([_HEAD.format(machine=platform.machine(), cores=os.cpu_count(), load=load), *grid(header, body)]) + "\n")


_HEAD = """# Pages: sizes and times

`python -m benchmarks.pages`: a database (SQLite) of 20,000 trials in 48 studies, one of them of 10,000 trials and 200 rows; the service and
Chromium on a machine ({machine}) of {cores} cores with a load of {load}. `first` is the first answer after a trial of the study has
changed, `then` the ten after it: CPU time of the service, and the median on the clock, which that load lengthens. Over the wire came
everything that the page needs, with an empty cache.
"""


def _measured(service: Service, browser: Browser, large: int, name: str, path: str) -> list[str]:
    with httpx.Client(base_url=service.url, headers={"Authorization": f"Bearer {service.token}"}, trust_env=False) as client:
        service.filled.turn(large)
        client.get("/queue")  # the connection stands
        process = psutil.Process(service.pid)
        first, *times = [_seconds(client, process, path) for _ in range(11)]
        size = len(client.get(path).content)
    browser.driver.execute_cdp_cmd("Network.clearBrowserCache", {})
    browser.driver.get_log("performance")
    browser.open(path)
    loaded = browser.until("const e = performance.getEntriesByType('navigation')[0]; return e.loadEventEnd && e.loadEventEnd / 1000")
    time.sleep(1)  # for what scripts fetch after that
    messages = (json.loads(entry["message"])["message"] for entry in browser.driver.get_log("performance"))
    wire = sum(each["params"]["encodedDataLength"] for each in messages if each["method"] == "Network.loadingFinished")
    cpu, clock = statistics.mean(each[0] for each in times), statistics.median(each[1] for each in times)
    return [name, f"{first[0]:.2f}", f"{cpu:.2f}", f"{clock:.2f}", f"{size / 1000:.0f}", f"{wire / 1000:.0f}", f"{loaded:.2f}"]


def _seconds(client: httpx.Client, process: psutil.Process, path: str) -> tuple[float, float]:
    """CPU time of the service for one answer (the system counts hundredths), and the clock's."""
    used, began = process.cpu_times(), time.perf_counter()
    client.get(path).raise_for_status()
    now = process.cpu_times()
    return now.user + now.system - used.user - used.system, time.perf_counter() - began


if __name__ == "__main__":
    main()
