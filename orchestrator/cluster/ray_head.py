"""`ray start --head --block` whose expendable processes are started again alone: `python -m orchestrator.cluster.ray_head OPTIONS...`.

Ray's own loop kills the whole head, and every trial with it, when its dashboard, log monitor, autoscaler's monitor or client server dies,
though no training needs them. The head's store (gcs) and the raylet with its agents are what it stands on: their death still ends it.
"""

import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import psutil
from ray._private.node import Node
from ray._private.ray_constants import (
    PROCESS_TYPE_DASHBOARD,
    PROCESS_TYPE_LOG_MONITOR,
    PROCESS_TYPE_MONITOR,
    PROCESS_TYPE_RAY_CLIENT_SERVER,
)
from ray.scripts.scripts import cli

ORDERLY = (0, signal.SIGTERM, -signal.SIGTERM, 128 + signal.SIGTERM)  # statuses that `ray start --block` thinks nothing of
MOST_RESTARTS, WITHIN_SECONDS = 10, 300.0  # one that dies more often than that has a cause that a new head may be without

STARTS: dict[str, Callable[[Any], None]] = {
    PROCESS_TYPE_DASHBOARD: lambda node: node.start_api_server(include_dashboard=True, raise_on_failure=True),
    PROCESS_TYPE_LOG_MONITOR: lambda node: node.start_log_monitor(),
    PROCESS_TYPE_MONITOR: lambda node: node.start_monitor(),
    PROCESS_TYPE_RAY_CLIENT_SERVER: lambda node: node.start_ray_client_server(),
}


class Restarts:
    """Stands in for `Node.dead_processes`, which `ray start --block` asks every second: reports only deaths that end the head."""

    def __init__(self, dead_processes: Callable[[Any], list[tuple[str, Any]]]) -> None:
        self._dead_processes = dead_processes
        self._times: deque[float] = deque(maxlen=MOST_RESTARTS)
        self._missing: dict[str, Any] = {}  # those that died and could not be started again yet

    def __call__(self, node: Any) -> list[tuple[str, Any]]:
        fatal = []
        for kind, process in [*self._dead_processes(node), *self._missing.items()]:
            if kind in STARTS and self._allowed():
                self._restart(node, kind, process)
            else:
                fatal.append((kind, _as_fatal(process)))
        return fatal

    def _allowed(self) -> bool:
        return len(self._times) < MOST_RESTARTS or time.monotonic() - self._times[0] > WITHIN_SECONDS

    def _restart(self, node: Any, kind: str, process: Any) -> None:
        self._times.append(time.monotonic())
        print(f"Ray's {kind} ended with {process.returncode}; starting it again", flush=True)
        node.all_processes.pop(kind, None)
        self._missing.pop(kind, None)
        _end_orphans(node.get_session_dir_path())
        try:
            STARTS[kind](node)
        except Exception as error:
            print(f"Ray's {kind} does not start: {error}", file=sys.stderr, flush=True)
            self._missing[kind] = process


def _as_fatal(process: Any) -> Any:
    """A process whose end Ray does not overlook: a raylet whose agent was killed ends in good order, which `ray start` takes for a stop
    that somebody wanted, and goes on without any node."""
    if process.returncode in ORDERLY:
        process.returncode = 1
    return process


def _end_orphans(session: str) -> None:
    """Ends what a dead dashboard has left: the processes of its modules, which hold its port."""
    for process in psutil.process_iter():
        try:
            if process.ppid() == 1 and "dashboard" in (line := " ".join(process.cmdline())) and session in line:
                process.kill()
        except psutil.Error:
            continue


def main() -> None:
    restarts = Restarts(Node.dead_processes)
    Node.dead_processes = lambda node: restarts(node)
    cli(["start", "--head", "--block", *sys.argv[1:]])


if __name__ == "__main__":
    main()
