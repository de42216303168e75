"""Whether the parts of a deployment find each other: what `retort doctor` shows. Each check says what was found and how to mend it.

Nodes are asked by a small job each, pinned to its node, so that a cluster full of trials answers as well.
"""

import contextlib
import json
import secrets
import shutil
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import text

from orchestrator.cluster.probe import MARK, note_of
from orchestrator.cluster.ray_api import Node, RayAnswer, RayCluster, RayUnreachable
from orchestrator.credentials import NoCredentials
from orchestrator.records.migrations import newest
from orchestrator.records.store import Store
from orchestrator.settings import Settings
from orchestrator.storage.storage import Storage, StorageError
from studies.code import code_version

PROBE_SECONDS = 90.0  # a node has so long to answer: it starts a Python process for it
CLOCK_SECONDS = 5.0  # clocks may differ by so much; leases are of 30


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. mend: what to do; empty where it is well."""

    name: str
    found: str
    mend: str = ""


def checks(store: Store, settings: Settings) -> list[Check]:
    """All checks that the service can make. Takes seconds, PROBE_SECONDS where a node does not answer."""
    with contextlib.closing(RayCluster(settings.ray_jobs)) as cluster:
        return [*_database(store), _mlflow(settings), *_ray(cluster, settings)]


def _database(store: Store) -> list[Check]:
    with store.engine.connect() as connection:
        revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        found = Check("database", f"{store.engine.dialect.name}, revision {revision}")
        if revision != newest():
            mend = "run the same version of Retort everywhere: the database is of another one"
            found = Check("database", f"revision {revision}, this version of Retort knows {newest()}", mend)
        if connection.dialect.name != "postgresql":
            return [found]
        asked = time.time()
        there = connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one()
        return [found, _clock("clock of the database", float(there), asked, time.time())]


def _mlflow(settings: Settings) -> Check:
    mend = "start MLflow; RETORT_MLFLOW is its address, and its --allowed-hosts must name that host and port"
    try:
        answer = httpx.get(f"{settings.mlflow}/version", timeout=10, trust_env=False)
    except httpx.HTTPError as error:
        return Check("MLflow", f"{settings.mlflow} does not answer ({error or type(error).__name__})", mend)
    if answer.is_error:
        return Check("MLflow", f"{settings.mlflow} answers {answer.status_code}: {answer.text[:100]}", mend)
    ours = version("mlflow-skinny")
    same = answer.text.strip() == ours
    return Check(
        "MLflow", f"{settings.mlflow}, version {answer.text.strip()}", "" if same else f"run MLflow {ours}, the version of the client"
    )


def _ray(cluster: RayCluster, settings: Settings) -> list[Check]:
    try:
        nodes = cluster.nodes()
    except (RayUnreachable, RayAnswer, NoCredentials) as error:
        mend = "start Ray's head; RETORT_RAY_JOBS is its dashboard's address, RAY_AUTH_TOKEN_PATH the file with its token"
        return [Check("Ray", str(error), mend)]
    return [_devices(nodes), *_nodes(cluster, nodes, settings)]


def _devices(nodes: list[Node]) -> Check:
    slots = [node for node in nodes if node.devices["CPU"] or node.devices["GPU"]]
    cores, gpus = (sum(node.devices[what] for node in nodes) for what in ("CPU", "GPU"))
    kinds = sorted({kind for node in nodes for kind in node.kinds})
    count = "1 node" if len(nodes) == 1 else f"{len(nodes)} nodes"
    found = ", ".join([f"{count}, {len(slots)} of them train: {cores:g} CPUs", f"{gpus:g} GPUs", *kinds])
    return Check("Ray", found, "" if slots else "start a worker node: no trial can run")


def _nodes(cluster: RayCluster, nodes: list[Node], settings: Settings) -> list[Check]:
    """Each node's answer: the same code, the state folder, the database, the clock."""
    name = secrets.token_hex(8)
    folder = settings.home / "probes" / name
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        return [Check("state folder", f"{folder} cannot be made ({error.strerror})", "let the service's user write to RETORT_HOME")]
    try:
        started = time.time()
        probes = [(node, f"probe-{name}-{number}", folder / str(number)) for number, node in enumerate(nodes)]
        for node, submission, own in probes:
            own.mkdir()
            _ask(cluster, node, submission, own, settings)
        return [check for node, submission, own in probes for check in _answer(cluster, node, submission, own, settings, started)]
    except (RayUnreachable, RayAnswer, NoCredentials) as error:
        return [Check("nodes", str(error), "see that Ray's head stays up, and ask again")]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _ask(cluster: RayCluster, node: Node, submission: str, folder: Path, settings: Settings) -> None:
    environment = {**settings.environment(), "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    entrypoint = f"exec {sys.executable} -P -m orchestrator.cluster.probe {folder}"
    cluster.submit(entrypoint, submission, environment, {f"node:{node.address}": 0.001})


def _answer(cluster: RayCluster, node: Node, submission: str, folder: Path, settings: Settings, asked: float) -> list[Check]:
    name = f"node {node.host}" if node.host == node.address else f"node {node.host} ({node.address})"
    while (job := cluster.job(submission)) is None or not job.ended:
        if time.time() > asked + PROBE_SECONDS:
            cluster.stop(submission)
            return [Check(name, f"did not answer within {PROBE_SECONDS:g} s", "see that node's log, or restart it")]
        time.sleep(0.5)
    said = _said(cluster.log(submission))
    if said is None:
        mend = "the node needs the same image, or the same Python and Retort at the same path, as the service"
        return [Check(name, f"cannot run Retort: {(job.message.strip().splitlines() or ['no reason given'])[-1]}", mend)]
    return [_node(name, node, said, folder, settings.store), _clock(f"clock of {name}", said["time"], asked, time.time())]


def _said(log: str) -> dict[str, Any] | None:
    for line in log.splitlines():
        if line.startswith(MARK):
            with contextlib.suppress(json.JSONDecodeError):
                return dict(json.loads(line.removeprefix(MARK)))
    return None


def _node(name: str, node: Node, said: dict[str, Any], folder: Path, store: str) -> Check:
    ours = version("retort")
    if said["version"] != ours or said["code"] != code_version():
        return Check(name, f"runs Retort {said['version']}, the service {ours}, with other code", "run the same version everywhere")
    if store:
        if trouble := said["state"] or _not_seen(store, folder):
            mend = (
                "give the node the store's address and credentials in its own environment, and whatever library opens it (docs/storage.md)"
            )
            return Check(name, f"does not reach the store: {trouble}", mend)
    elif said["state"] or not (folder / "answer").exists():
        mend = "mount one folder as RETORT_HOME on the service and all nodes, writable by the user that runs them (in the images: 10001)"
        return Check(name, f"does not share the state folder: {said['state'] or 'what it writes is not seen here'}", mend)
    if said["database"]:
        mend = "the database's address must hold on the node, and its password's file be readable there (RETORT_DATABASE_PASSWORD_FILE)"
        return Check(name, f"cannot open the database: {said['database']}", mend)
    devices = ", ".join(f"{count:g} {what}s" for what, count in node.devices.items() if count)
    role = f"{'head; ' if node.head else ''}{devices or 'trains nothing'}"
    return Check(name, f"{role}; same code, {'reaches the store' if store else 'shares the state'}, reaches the database")


def _not_seen(store: str, folder: Path) -> str:
    """Empty where this machine finds in the store what the node left there; else what is wrong."""
    name, note = note_of(folder)
    try:
        storage = Storage(store)
        found = note in storage.notes(name)
        storage.take_note_away(name, note)
    except (StorageError, ValueError) as error:
        return f"nor does the service: {error}"
    return "" if found else "what it writes there is not seen here"


def _clock(name: str, there: float, asked: float, seen: float) -> Check:
    """there: what the clock said at some moment between `asked` and `seen`, all in seconds since 1970."""
    ahead = max(there - seen, 0.0) + min(there - asked, 0.0)
    if abs(ahead) <= CLOCK_SECONDS:
        return Check(name, "agrees with the service's")
    return Check(name, f"is {ahead:+.0f} s off the service's", "run a time service (chrony) on that machine")
