"""A cluster whose nodes come late and go: raylets of their own on this machine, killed and joining while a real study trains."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.faults.conftest import Bench, first_epoch, running

PORTS = ("dashboard-agent-listen-port", "dashboard-agent-grpc-port", "metrics-export-port", "runtime-env-agent-port")


@pytest.fixture(scope="module")
def cluster(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A stack whose one node has one CPU, where nodes may join."""
    with running(tmp_path_factory.mktemp("nodes") / "home", data, 1, {"RETORT_NODES_MAY_JOIN": "1"}) as bench:
        yield bench


@contextmanager
def node(bench: Bench) -> Iterator[psutil.Process]:
    """A node of two CPUs that joins the cluster; gives its process."""
    with ExitStack() as taken:
        probes = [taken.enter_context(socket.socket()) for _ in PORTS]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        ports = [f"--{name}={probe.getsockname()[1]}" for name, probe in zip(PORTS, probes, strict=True)]
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--address", f"127.0.0.1:{bench.stack.ports['ray']}"]
    options = ["--node-ip-address=127.0.0.1", "--num-cpus=2", "--object-store-memory=134217728", "--disable-usage-stats", *ports]
    with subprocess.Popen([*start, *options], env=bench.stack.environment(), stdout=subprocess.DEVNULL) as process:
        try:
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(60)
            if process.poll() is None:
                end_at_once(psutil.Process(process.pid))


def end_at_once(process: psutil.Process) -> None:
    """What a power cut does to a node: all its processes are gone."""
    for each in [process, *process.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            each.kill()


@pytest.mark.slow
def test_a_study_waits_for_its_node_outlives_it_and_goes_on_on_another(cluster: Bench) -> None:
    wide = {"resources": {"cpus": 2}}
    study = cluster.submit("nodes come and go", **wide)
    waits = cluster.await_event(study, lambda event: event.kind == "note" and event.data["text"].startswith("waiting for a node"))
    assert waits.data["text"].endswith("a trial wants 2 CPUs on one node, and no node has so many (a node has 1 CPUs)")
    with node(cluster) as first:
        cluster.await_event(study, first_epoch)
        with node(cluster):
            end_at_once(first)
            cluster.await_event(study, lambda event: event.kind == "trial" and event.data["losses"] == 1)
            assert cluster.await_end(study).state.value == "finished"
            assert len(cluster.store.attempts(study)) == 1
            undisturbed = cluster.submit("on one node", force=True, **wide)
            assert cluster.await_end(undisturbed).state.value == "finished"
            cluster.hold_against(study, undisturbed)
