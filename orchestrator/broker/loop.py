"""The broker at work: it looks at the database and at Ray's nodes, decides, and writes down who may have devices and who waits for what."""

import logging
import time
from collections import defaultdict
from dataclasses import replace

from orchestrator.broker.accounts import counted, told
from orchestrator.broker.cluster import Free, Need, Resources, place, take, whole
from orchestrator.broker.decide import decide
from orchestrator.broker.estimates import Estimate, Estimates
from orchestrator.broker.forecast import forecast
from orchestrator.broker.situation import Decision, QueuedStudy, ReadyTrial, RunningTrial, Situation, in_order
from orchestrator.driving.ray_api import RayCluster
from orchestrator.records.queue import GrantedTrial, OpenStudy, WaitingTrial
from orchestrator.records.schema import Place
from orchestrator.records.store import Store
from orchestrator.settings import Settings

log = logging.getLogger(__name__)
NODES_SECONDS = 5.0  # how often Ray is asked for its nodes
COUNT_SECONDS = 10.0  # and what owners have had is written down
PLACES_SECONDS = 2.0  # and the queue, where it has changed
MOST_OF_A_STUDY = 64  # ready trials that are looked at in a round
PAUSED, SHARED = "paused", "waits for the results of equal trials that another study trains"


class Broker:
    """The loop of the service that grants devices. Killed at any line, it finds its way from the database."""

    name = "broker"
    interval = 0.5

    def __init__(self, store: Store, settings: Settings, ray: RayCluster | None = None) -> None:
        self.store, self.settings, self._ray = store, settings, ray or RayCluster(settings.ray_jobs)
        self.estimates = Estimates(store)
        self._nodes: dict[str, Resources] = {}
        self._nodes_due = self._count_due = self._places_due = 0.0
        self._places: list[tuple[int, str, int | None]] | None = None  # as they were written last

    def step(self) -> None:
        studies = {study.id: study for study in self.store.open_studies()}
        self.estimates.forget_all_but(studies.keys() | set())
        if studies and time.monotonic() >= self._nodes_due:
            self._nodes = _nodes(self._ray)
            self._nodes_due = time.monotonic() + NODES_SECONDS
        situation = self._situation(studies)
        decision = decide(situation)
        paused = [trial.id for trial in situation.running if studies[trial.study].paused and not trial.leaving]
        grants = {grant.trial: grant.nodes for grant in decision.grants}
        if grants or paused or decision.preemptions:
            self.store.carry_out(grants, [*paused, *(preemption.trial for preemption in decision.preemptions)])
            log.info("granted %s, asked %s to leave", sorted(grants), sorted({p.trial for p in decision.preemptions}.union(paused)))
        if time.monotonic() >= self._places_due:
            self._show(studies, situation, decision)

    # --- the situation

    def _situation(self, studies: dict[int, OpenStudy]) -> Situation:
        now = self.store.now()
        granted = [trial for trial in self.store.all_granted() if trial.study_id in studies]
        running = self._placed([self._running(studies[trial.study_id], trial, now / 1000) for trial in granted])
        ready: dict[int, list[ReadyTrial]] = defaultdict(list)
        for trial in self.store.waiting_trials(MOST_OF_A_STUDY):
            if trial.study_id in studies:
                ready[trial.study_id].append(self._ready(studies[trial.study_id], trial))
        rows = self.store.owners()
        owner_of = {study.id: study.owner for study in studies.values()}
        used = counted(rows, running, owner_of, whole(self._nodes), now)
        if time.monotonic() >= self._count_due:
            self.store.count_usage({name: each for name, each in used.items() if each.lately})
            self._count_due = time.monotonic() + COUNT_SECONDS
        concerned = {*ready, *(trial.study for trial in running)}
        return Situation(
            now=now / 1000,
            nodes=self._nodes,
            studies={id: _queued(study) for id, study in studies.items() if id in concerned},
            ready={study: in_order(trials) for study, trials in ready.items()},
            running=tuple(running),
            owners=told(rows, used),
            most_studies=self.settings.concurrent_studies,
        )

    def _ready(self, study: OpenStudy, trial: WaitingTrial) -> ReadyTrial:
        known = self._estimate(study, trial.id)
        seconds = None if known.seconds is None else known.seconds * _left(trial.epoch, trial.epochs)
        return ReadyTrial(trial.id, study.id, _need(study), seconds, known.path, trial.position)

    def _running(self, study: OpenStudy, trial: GrantedTrial, now: float) -> RunningTrial:
        seconds, since = self._estimate(study, trial.id).seconds, trial.granted / 1000
        remaining = None
        if seconds is not None:
            left = seconds * _left(trial.epoch, trial.epochs)
            remaining = left if trial.epoch else max(left - (now - since), seconds / 20)
        leaving = trial.leaving is not None
        return RunningTrial(trial.id, study.id, _need(study), trial.nodes, since, remaining, leaving)

    def _estimate(self, study: OpenStudy, trial: int) -> Estimate:
        return self.estimates.of(study)[trial]

    def _placed(self, running: list[RunningTrial]) -> list[RunningTrial]:
        """Trials of which nobody noted where they are get a place where there is room."""
        free: Free = dict(self._nodes)
        for trial in running:
            take(free, trial.need, trial.nodes)
        found = []
        for trial in running:
            if not trial.nodes and (where := place(trial.need, free)):
                take(free, trial.need, where)
                trial = replace(trial, nodes=where)
            found.append(trial)
        return found

    # --- for those who look

    def _show(self, studies: dict[int, OpenStudy], situation: Situation, decision: Decision) -> None:
        """Writes down who waits for what, where that has changed."""
        starts = forecast(situation, decision) if decision.waits else {}
        holding = {trial.study for trial in situation.running} | {id for id in situation.ready if id not in decision.waits}
        waits = dict(decision.waits)
        for study in studies.values():
            if study.paused:
                waits[study.id] = PAUSED
            elif study.id not in waits and study.id not in holding:
                waits[study.id] = SHARED
        expected = {id: _whole_minutes(starts.get(id)) for id in waits}
        places = [(id, reason, expected[id]) for id, reason in waits.items()]
        if places != self._places:
            rows = enumerate(places, start=1)
            self.store.set_places([Place(study_id=id, number=n, reason=reason, expected=start) for n, (id, reason, start) in rows])
            self._places = places
        self._places_due = time.monotonic() + PLACES_SECONDS


def _nodes(ray: RayCluster) -> dict[str, Resources]:
    """What each node offers to trials."""
    found: dict[str, Resources] = {}
    for node in ray.nodes():
        name = node.address if node.address not in found else f"{node.address} ({len(found)})"
        found[name] = Resources(node.devices["CPU"], node.devices["GPU"])
    return found


def _queued(study: OpenStudy) -> QueuedStudy:
    return QueuedStudy(study.id, study.owner, study.priority, study.created / 1000)


def _need(study: OpenStudy) -> Need:
    return Need(Resources(float(study.resources.get("cpus", 1)), float(study.resources.get("gpus", 0))))


def _left(epoch: int, epochs: int | None) -> float:
    """What is left of a trial, from 0 to 1."""
    return 1.0 - epoch / epochs if epochs else 1.0


def _whole_minutes(start: float | None) -> int | None:
    """A time in seconds as milliseconds, to the minute: an estimate says no more, and is not written anew each second."""
    return None if start is None else round(start / 60) * 60_000
