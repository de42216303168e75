"""Which of Ray's processes are started again alone, and when the head is let end. Ray itself dies in tests/faults."""

from types import SimpleNamespace
from typing import Any

from orchestrator.cluster import ray_head
from orchestrator.cluster.ray_head import MOST_RESTARTS, Restarts


class Head:
    """What `ray start` holds of its node: process tables, and methods that start what is missing."""

    def __init__(self) -> None:
        self.all_processes: dict[str, list[Any]] = {}
        self.started: list[str] = []
        self.broken = False

    def get_session_dir_path(self) -> str:
        return "/no/such/session"

    def start_log_monitor(self) -> None:
        if self.broken:
            raise RuntimeError("no port")
        self.started.append("log_monitor")
        self.all_processes["log_monitor"] = []


DEAD = SimpleNamespace(returncode=-9)


def test_an_expendable_process_is_started_again_and_what_the_head_stands_on_is_not() -> None:
    head = Head()
    restarts = Restarts(lambda node: [("log_monitor", DEAD), ("raylet", DEAD)])
    assert restarts(head) == [("raylet", DEAD)]
    assert head.started == ["log_monitor"]


def test_a_raylet_that_ended_in_good_order_ends_the_head_too() -> None:
    for status in (0, -15, 143):
        raylet = SimpleNamespace(returncode=status)
        ((kind, process),) = Restarts(lambda node, ended=raylet: [("raylet", ended)])(Head())
        assert (kind, process.returncode) == ("raylet", 1)


def test_one_that_does_not_start_is_tried_again_and_one_that_never_does_ends_the_head() -> None:
    head = Head()
    head.broken = True
    died = [("log_monitor", DEAD)]
    restarts = Restarts(lambda node: [died.pop()] if died else [])
    assert restarts(head) == []
    assert head.started == []
    head.broken = False
    assert restarts(head) == []
    assert head.started == ["log_monitor"]
    head.broken = True
    died.append(("log_monitor", DEAD))
    reported = [restarts(head) for _ in range(MOST_RESTARTS)]
    assert reported[-1] == [("log_monitor", DEAD)]


def test_the_names_of_ray_that_this_leans_on_are_there() -> None:
    from ray._private.node import Node

    for name in ("dead_processes", "start_api_server", "start_log_monitor", "start_monitor", "start_ray_client_server"):
        assert callable(getattr(Node, name))
    assert set(ray_head.STARTS) == {"dashboard", "log_monitor", "monitor", "ray_client_server"}
