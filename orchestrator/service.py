"""The orchestrator as a process: `python -m orchestrator.service` runs its loops until SIGINT or SIGTERM.

It holds nothing that is not in the database: kill it and start it again at any time.
"""

import signal
import threading

from orchestrator import logs, loops
from orchestrator.broker.loop import Broker
from orchestrator.driving.jobs import Jobs
from orchestrator.records.store import Store
from orchestrator.relaying.client import mlflow_client
from orchestrator.relaying.reaper import Reaper
from orchestrator.relaying.relay import Relay
from orchestrator.schedules.loop import Cron
from orchestrator.settings import settings
from orchestrator.webhooks.loop import Telling


def main() -> None:
    logs.configure()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    configured = settings()
    store = Store(configured.database)
    client = mlflow_client(configured.mlflow)
    running: list[loops.Loop] = [
        Broker(store, configured),
        Jobs(store, configured),
        Relay(store, client, configured),
        Reaper(store, client),
        Cron(store),
        Telling(store),
    ]
    store.forget_loops([loop.name for loop in running])
    threads = [threading.Thread(target=loops.run, args=(loop, store, stop), name=loop.name, daemon=True) for loop in running]
    for thread in threads:
        thread.start()
    stop.wait()
    for thread in threads:
        thread.join(timeout=10)


if __name__ == "__main__":
    main()
