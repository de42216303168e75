"""The orchestrator as a process: `python -m orchestrator.service` runs its loops until SIGINT or SIGTERM.

It holds nothing that is not in the database: kill it and start it again at any time.
"""

import logging
import signal
import threading

from orchestrator import loops
from orchestrator.jobs import Jobs
from orchestrator.relay import Reaper, Relay, mlflow_client
from orchestrator.schedules.loop import Cron
from orchestrator.settings import settings
from orchestrator.store import Store
from orchestrator.webhooks.loop import Telling


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    places = settings()
    store = Store(places.database)
    client = mlflow_client(places.mlflow)
    chores: list[loops.Chore] = [Jobs(store, places), Relay(store, client, places), Reaper(store, client), Cron(store), Telling(store)]
    threads = [threading.Thread(target=loops.run, args=(chore, store, stop), name=chore.name, daemon=True) for chore in chores]
    for thread in threads:
        thread.start()
    stop.wait()
    for thread in threads:
        thread.join(timeout=10)


if __name__ == "__main__":
    main()
