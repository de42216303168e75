"""The orchestrator as a process: `python -m orchestrator.service` runs its loops until SIGINT or SIGTERM.

It holds nothing that is not in the database: kill it and start it again at any time. Of several one leads; another takes over.
"""

import logging
import os
import signal
import sys
import threading
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from orchestrator import logs, loops
from orchestrator.broker.loop import Broker
from orchestrator.driving.jobs import Jobs
from orchestrator.garbage.garbage import Garbage
from orchestrator.garbage.loop import Collector
from orchestrator.garbage.policy import Policy
from orchestrator.records.locks import Lock
from orchestrator.records.store import Store
from orchestrator.relaying.client import mlflow_client
from orchestrator.relaying.reaper import Reaper
from orchestrator.relaying.relay import Relay
from orchestrator.schedules.loop import Cron
from orchestrator.settings import settings
from orchestrator.storage.files import opened_files
from orchestrator.webhooks.loop import Telling

log = logging.getLogger(__name__)
ROUND_SECONDS = 2.0  # between two looks at who leads


def main() -> None:
    logs.configure()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    configured = settings()
    store = Store(configured.database, files=opened_files(configured))
    leadership = Lock(store.engine, "leader")
    if not _await_leadership(leadership, stop):
        return
    log.info("this orchestrator leads")
    client = mlflow_client(configured.mlflow)
    running: list[loops.Loop] = [
        Broker(store, configured),
        Jobs(store, configured),
        Relay(store, client, configured),
        Reaper(store, client),
        Cron(store),
        Telling(store),
        Collector(Garbage(store, configured, Policy.from_environment())),
    ]
    store.forget_loops([loop.name for loop in running])
    threads = [threading.Thread(target=loops.run, args=(loop, store, stop), name=loop.name, daemon=True) for loop in running]
    for thread in threads:
        thread.start()
    while leadership.holds() and not stop.is_set():
        _alive()
        stop.wait(ROUND_SECONDS)
    lost = not stop.is_set()
    stop.set()
    for thread in threads:
        thread.join(timeout=10)
    leadership.leave()
    if lost:
        sys.exit("the database let go of this orchestrator, another may lead: it ends, to be started anew")


def _await_leadership(leadership: Lock, stop: threading.Event) -> bool:
    """Waits until it leads; False where it was stopped before."""
    waiting = False
    while not stop.is_set():
        try:
            if leadership.take():
                return True
            _alive()
            if not waiting:
                log.info("another orchestrator leads; waiting to take over")
            waiting = True
        except SQLAlchemyError as error:
            log.warning("the database: %s", error)
        stop.wait(ROUND_SECONDS)
    return False


def _alive() -> None:
    """Touches the file that a container's health check looks at, where one is named."""
    if file := os.environ.get("RETORT_ALIVE_FILE"):
        Path(file).touch()


if __name__ == "__main__":
    main()
