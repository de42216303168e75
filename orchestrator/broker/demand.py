"""What Ray's autoscaler is told: the devices of the trials that run, and of those that wait for nothing else than devices.

Trials that wait in our queue are unknown to Ray, so that without this no node would ever come for them.
"""

import json
import shlex
import sys
import time
from collections import defaultdict
from pathlib import Path

from orchestrator.broker.cluster import Need
from orchestrator.broker.situation import Decision, Owner, Situation
from orchestrator.cluster.ray_api import RayCluster
from orchestrator.settings import Settings

AGAIN_SECONDS = 30.0  # between two words to the autoscaler, each of which takes a process
MOST = 500  # bundles in one

Bundle = dict[str, float]  # what one process needs, by Ray's names


def bundles(situation: Situation, decision: Decision) -> list[Bundle]:
    """What the cluster should hold at once; empty while every trial that may run has its devices. Owners' quotas hold here too."""
    granted = {grant.trial for grant in decision.grants}
    waiting = [trial for study in decision.lacking for trial in situation.ready[study] if trial.id not in granted]
    if not waiting:
        return []
    held: dict[str, float] = defaultdict(float)
    needs: list[Need] = []

    def count(study: int, need: Need) -> None:
        held[situation.studies[study].owner] += need.devices
        needs.append(need)

    for running in situation.running:
        count(running.study, running.need)
    for trial in (trial for trials in situation.ready.values() for trial in trials if trial.id in granted):
        count(trial.study, trial.need)
    for trial in waiting:
        name = situation.studies[trial.study].owner
        owner = situation.owners.get(name, Owner())
        spent = owner.hours_left is not None and owner.hours_left <= 0
        if not spent and (owner.devices is None or held[name] + trial.need.devices <= owner.devices):
            count(trial.study, trial.need)
    return [_bundle(need) for need in needs for _ in range(need.workers)][:MOST]


def _bundle(need: Need) -> Bundle:
    parts = {"CPU": need.each.cpus, "GPU": need.each.gpus, "memory": need.each.memory * 2**30}
    return {name: amount for name, amount in parts.items() if amount}


class Demand:
    """Tells the autoscaler, where it has changed. What was asked for last stands in Ray, so a new orchestrator tells it once."""

    def __init__(self, ray: RayCluster, settings: Settings) -> None:
        self._ray, self._settings = ray, settings
        self._told: list[Bundle] | None = None
        self._due = 0.0

    def tell(self, wanted: list[Bundle]) -> None:
        """Raises RayUnreachable, RayAnswer and NoCredentials."""
        wanted = sorted(wanted, key=json.dumps)
        if wanted == self._told or time.monotonic() < self._due:
            return
        environment = {**self._settings.environment(), "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        entrypoint = f"exec {sys.executable} -P -m orchestrator.cluster.asking {shlex.quote(json.dumps(wanted))}"
        self._ray.submit(entrypoint, f"nodes-for-the-queue-{time.time_ns()}", environment)
        self._told, self._due = wanted, time.monotonic() + AGAIN_SECONDS
