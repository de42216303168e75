"""A cluster whose nodes come late and go: raylets of their own on this machine, killed and joining while a real study trains."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from orchestrator.machine import TrialState
from tests.faults.conftest import EPOCHS, Bench, first_epoch, running

PORTS = ("dashboard-agent-listen-port", "dashboard-agent-grpc-port", "metrics-export-port", "runtime-env-agent-port")
# As `ray start`, which takes 127.0.0.1 for the machine's outer address, where nobody listens.
NODE = """
import ray._private.services
ray._private.services.resolve_ip_for_localhost = lambda address: address
from ray.scripts.scripts import main
main()
"""


@pytest.fixture(scope="module")
def cluster(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A stack whose one node has one CPU, and whose Ray is told what more is needed."""
    with running(tmp_path_factory.mktemp("nodes") / "home", data, 1, {"RETORT_AUTOSCALER": "1"}) as bench:
        yield bench


@contextmanager
def node(bench: Bench, **variables: str) -> Iterator[psutil.Process]:
    """A node of two CPUs that joins the cluster; gives its process. variables: of its own environment."""
    with ExitStack() as taken:
        probes = [taken.enter_context(socket.socket()) for _ in PORTS]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        ports = [f"--{name}={probe.getsockname()[1]}" for name, probe in zip(PORTS, probes, strict=True)]
    start = [sys.executable, "-c", NODE, "start", "--block", "--address", f"127.0.0.1:{bench.stack.ports['ray']}"]
    options = ["--node-ip-address=127.0.0.1", "--num-cpus=2", "--object-store-memory=134217728", "--disable-usage-stats", *ports]
    cluster = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"}  # it joins no head else that stays on loopback
    with subprocess.Popen([*start, *options], env=bench.stack.environment() | cluster | variables, stdout=subprocess.DEVNULL) as process:
        try:
            with suppress(subprocess.TimeoutExpired):
                pytest.fail(f"the node ended at once, with status {process.wait(2)}")
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


def announce_its_end(bench: Bench, node: str) -> None:
    """What a spot instance's notice comes to: Ray is told that a node will be gone in two minutes."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "drain-node", f"--address=127.0.0.1:{bench.stack.ports['ray']}"]
    why = ["--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=it is taken back", "--deadline-remaining-seconds=120"]
    subprocess.run([*command, f"--node-id={node}", *why], env=bench.stack.environment(), check=True)


def demanded(bench: Bench) -> Any:
    """What Ray's autoscaler knows to be wanted of the cluster: bundles with their numbers."""
    token = Path(bench.stack.token).read_text().strip()
    told = httpx.get(f"{bench.stack.url('dashboard')}/api/cluster_status", headers={"Authorization": f"Bearer {token}"}, trust_env=False)
    return told.json()["data"]["clusterStatus"]["loadMetricsReport"]["requestDemand"]


@pytest.mark.slow
def test_a_study_waits_for_its_node_outlives_it_and_goes_on_on_another(cluster: Bench) -> None:
    wide = {"resources": {"cpus": 2}}
    study = cluster.submit("nodes come and go", **wide)
    waits = cluster.await_event(study, lambda event: event.kind == "note" and event.data["text"].startswith("waits"))
    assert waits.data["text"] == "waits: needs 2 CPUs on a node; the largest has 1"
    cluster.await_that(study, lambda: demanded(cluster) == [[{"CPU": 2.0}, 2]])  # teacher and baseline
    with node(cluster) as first:
        cluster.await_event(study, first_epoch)
        with node(cluster):
            end_at_once(first)
            cluster.await_event(study, lambda event: event.kind == "trial" and event.data["losses"] == 1)
            assert cluster.await_end(study).state.value == "finished"
            assert cluster.store.study(study).stalls == 0
            undisturbed = cluster.submit("on one node", force=True, **wide)
            assert cluster.await_end(undisturbed).state.value == "finished"
            cluster.hold_against(study, undisturbed)


@pytest.mark.slow
def test_trials_leave_a_node_that_announces_its_end_and_lose_nothing(cluster: Bench) -> None:
    schedule = {"recipe": "smoke", "epochs": EPOCHS, "batch_size": 4, "max_iterations": 12}
    study = cluster.submit("on a spot instance", resources={"cpus": 2}, seeds=[5], schedule=schedule)
    with node(cluster):
        cluster.await_event(study, first_epoch)
        (at_work,) = [trial for trial in cluster.store.trials(study) if trial.state == TrialState.RUNNING]
        process = json.loads((Path(cluster.stack.home) / "trials" / str(at_work.folder) / "process.json").read_text())
        announce_its_end(cluster, process["node"])
        cluster.await_event(study, lambda event: event.kind == "note" and "makes room" in event.data["text"])
        with node(cluster):
            assert cluster.await_end(study).state.value == "finished"
    assert [trial.losses for trial in cluster.store.trials(study)] == [0] * 4
    assert cluster.store.study(study).stalls == 0
    rooms = [event for event in cluster.store.events(study) if event.kind == "note" and "makes room" in event.data["text"]]
    assert len(rooms) <= 2  # none begins anew on the node that is about to go
