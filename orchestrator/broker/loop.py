"""The broker at work: it looks at the database and at Ray's nodes, decides, and writes down who may have devices and who waits for what."""

import logging
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from orchestrator.broker.accounts import counted, told
from orchestrator.broker.cluster import Free, Need, Resources, misfit, place, take, whole
from orchestrator.broker.decide import decide
from orchestrator.broker.demand import Demand, bundles
from orchestrator.broker.estimates import Estimates
from orchestrator.broker.forecast import forecast
from orchestrator.broker.sharing import members
from orchestrator.broker.situation import Decision, QueuedStudy, ReadyTrial, RunningTrial, Situation, in_order
from orchestrator.cluster.ray_api import RayCluster
from orchestrator.records.owners import Used
from orchestrator.records.queue import Asked, GrantedTrial, OpenStudy, WaitingTrial
from orchestrator.records.schema import Owner, Place
from orchestrator.records.store import Store
from orchestrator.settings import Settings

log = logging.getLogger(__name__)
NODES_SECONDS = 5.0  # how often Ray is asked for its nodes
NEW_SECONDS = 0.5  # the same while it has none: it has just been started
COUNT_SECONDS = 10.0  # and what owners have had is written down
PLACES_SECONDS = 2.0  # and the queue, where it has changed
MOST_OF_A_STUDY = 64  # ready trials that are looked at in a round
PAUSED, SHARED = "paused", "waits for the results of equal trials that another study trains"


class Broker:
    """The loop of the service that grants devices. Killed at any line, it finds its way from the database."""

    name = "broker"
    interval = 0.5
    listens = True

    def __init__(self, store: Store, settings: Settings) -> None:
        self.store, self.settings, self._ray = store, settings, RayCluster(settings.ray_jobs)
        self.estimates, self.demand = Estimates(store), Demand(self._ray, settings)
        self._nodes: dict[str, Resources] = {}
        self._asked: dict[int, Asked] = {}  # by study
        self._misfits: dict[int, str] = {}  # by study: why it can run nowhere, as it was told last
        self._held: Sequence[RunningTrial] = ()  # at the last look
        self._owner_of: Mapping[int, str] = {}  # by study, likewise
        self._nodes_due = self._count_due = self._places_due = 0.0
        self._places: list[tuple[int, str, int | None]] | None = None  # as they were written last

    def step(self) -> None:
        studies = {study.id: study for study in self.store.open_studies()}
        self._know(studies)
        if studies and time.monotonic() >= self._nodes_due:
            self._nodes = _nodes(self._ray)
            self._nodes_due = time.monotonic() + (NODES_SECONDS if self._nodes else NEW_SECONDS)
        situation = self._situation(studies)
        decision = decide(situation)
        paused = [trial.id for trial in situation.running if studies[trial.study].paused and not trial.leaving]
        grants = {grant.trial: grant.nodes for grant in decision.grants}
        if grants or paused or decision.preemptions:
            together = members(situation, decision, [id for id, asked in self._asked.items() if _groups(asked)])
            points = {grant.trial: grant.points for grant in decision.grants}
            leave = [*paused, *(preemption.trial for preemption in decision.preemptions)]
            self.store.carry_out(grants, leave, together, points)
            log.info("granted %s, asked %s to leave", sorted(grants), sorted({p.trial for p in decision.preemptions}.union(paused)))
        overtaken = {id: round(decision.overtaken[id] * 1000) if id in decision.overtaken else None for id in studies}
        if changed := {id: since for id, since in overtaken.items() if since != studies[id].overtaken}:
            self.store.set_overtaken(changed)
        if self.settings.autoscaler:
            self.demand.tell(bundles(situation, decision))
        if time.monotonic() >= self._places_due:
            self._show(studies, situation, decision)

    def _know(self, studies: Mapping[int, OpenStudy]) -> None:
        """Looks up what new studies ask for, and forgets those that are over."""
        new = studies.keys() - self._asked.keys()
        self._asked = {id: asked for id, asked in self._asked.items() if id in studies} | (self.store.asked_for(new) if new else {})
        self.estimates.forget_all_but(set(studies))

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
        used = self._count(rows, running, {study.id: study.owner for study in studies.values()}, now)
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

    def _count(self, rows: Sequence[Owner], running: Sequence[RunningTrial], owner_of: Mapping[int, str], now: int) -> dict[str, Used]:
        """What owners have had by now, also by trials that have left since the last look; written down when some have, and now and then."""
        held = {trial.id: trial for trial in (*self._held, *running)}
        owners = {**self._owner_of, **owner_of}
        used = counted(rows, list(held.values()), owners, whole(self._nodes), now)
        if held and (held.keys() != {trial.id for trial in running} or time.monotonic() >= self._count_due):
            self.store.count_usage({name: used[name] for name in {owners[trial.study] for trial in held.values()}})
            self._count_due = time.monotonic() + COUNT_SECONDS
        self._held, self._owner_of = running, owner_of
        return used

    def _ready(self, study: OpenStudy, trial: WaitingTrial) -> ReadyTrial:
        known = self.estimates.of(study.id, self._asked[study.id], trial.id)
        seconds = None if known.seconds is None else known.seconds * _left(trial.epoch, trial.epochs)
        return ReadyTrial(trial.id, study.id, self._need(study), seconds, known.path, trial.position)

    def _running(self, study: OpenStudy, trial: GrantedTrial, now: float) -> RunningTrial:
        seconds, since = self.estimates.of(study.id, self._asked[study.id], trial.id).seconds, trial.granted / 1000
        remaining = None
        if seconds is not None:
            left = seconds * _left(trial.epoch, trial.epochs) * trial.together
            remaining = left if trial.epoch else max(left - (now - since), seconds / 20)
        leaving = trial.leaving is not None
        return RunningTrial(trial.id, study.id, self._need(study), trial.nodes, since, remaining, leaving, trial.points)

    def _need(self, study: OpenStudy) -> Need:
        resources = self._asked[study.id].resources
        return Need(
            Resources(float(resources["cpus"] * resources.get("workers", 1)), float(resources["gpus"]), float(resources.get("memory", 0)))
        )

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
        self._tell_misfits(studies, decision)
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

    def _tell_misfits(self, studies: dict[int, OpenStudy], decision: Decision) -> None:
        """Those who watch a study are told what no node has: it may have to wait for a person."""
        misfits = {id: why for id in decision.waits if (why := misfit(self._need(studies[id]), self._nodes))}
        for study, why in misfits.items():
            if self._misfits.get(study) != why:
                self.store.note(study, f"waits: {why}")
        self._misfits = misfits


def _nodes(ray: RayCluster) -> dict[str, Resources]:
    """What each node offers to trials."""
    found: dict[str, Resources] = {}
    for node in ray.nodes():
        name = node.address if node.address not in found else f"{node.address} ({len(found)})"
        found[name] = Resources(node.devices["CPU"], node.devices["GPU"], node.memory)
    return found


def _groups(asked: Asked) -> bool:
    """Whether trials of a study may train as groups: whole devices are shared, and no promise of memory is made for one alone."""
    resources = asked.resources
    return (
        resources.get("group") == "auto"
        and float(resources["gpus"]) in (0.0, 1.0)
        and resources.get("workers", 1) == 1
        and not resources.get("memory")
    )


def _queued(study: OpenStudy) -> QueuedStudy:
    overtaken = None if study.overtaken is None else study.overtaken / 1000
    return QueuedStudy(study.id, study.owner, study.priority, study.created / 1000, overtaken)


def _left(epoch: int, epochs: int | None) -> float:
    """What is left of a trial, from 0 to 1."""
    return 1.0 - epoch / epochs if epochs else 1.0


def _whole_minutes(start: float | None) -> int | None:
    """A time in seconds as milliseconds, to the minute: an estimate says no more, and is not written anew each second."""
    return None if start is None else round(start / 60) * 60_000
