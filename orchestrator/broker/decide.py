"""The broker: one pure function from a situation to grants. Its rules, in the order in which they speak:

misfit       what fits on no node waits, with the reason, and holds up nobody
quota        an owner's devices at once, and device-hours a month, at whose end their trials leave; so many studies at once, but for one
             that may preempt
priority     the higher first. A study without devices gains a point for every AGEING seconds that higher ones have had some: its next
             trial comes before theirs and is left alone by those that it came before, so none starves
fair share   among equals the owner who had the smallest share of the cluster lately
age, path    then the older study; in it the trial with the longest chain behind it, teachers before students
reservation  the first trial that finds no room keeps its place: later ones start only where they do not delay it (EASY backfilling)
preemption   for a study of higher priority, trials of lower priority leave at their next checkpoint; in the order, too, it stands before
             them, or what they leave would be given back to them
"""

import heapq
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.broker.cluster import Free, Need, Placement, fits, give, holds_all, misfit, place, take, whole
from orchestrator.broker.situation import Decision, Grant, Owner, Preemption, QueuedStudy, ReadyTrial, RunningTrial, Situation

AGEING = 6 * 3600.0  # seconds without devices, while studies of higher priority have some, that are worth a point of priority
ONE_AGE = 3600.0  # seconds; studies that came within the same stretch of so many are of one age
UNKNOWN_SECONDS = 3600.0  # of a trial whose like was never measured
LEAVING_SECONDS = 600.0  # that a trial takes at most to its next checkpoint, once it was asked to leave
OVERTAKERS = 100  # trials behind the first blocked one that are looked at: one decision stays short however long the queue is


def decide(situation: Situation) -> Decision:
    """Grants, preemptions and reasons to wait. Equal situations give equal decisions."""
    return _Round(situation).decide()


@dataclass(frozen=True)
class _Reservation:
    """The place of the first blocked trial: when it can start, and what is left to others then."""

    start: float
    left: Free


_Place = tuple[float, float, float, int, ReadyTrial]


def _place(study: QueuedStudy, trial: ReadyTrial) -> _Place:
    """Where a study's next trial stands among its owner's: the older study first, the longest chain among those of one age."""
    return (study.submitted // ONE_AGE, -trial.path, study.submitted, trial.id, trial)


class _Round:
    """One decision in the making."""

    def __init__(self, situation: Situation) -> None:
        self.situation = situation
        self.active = {trial.study for trial in situation.running}
        self.now = situation.now
        self.capacity = whole(situation.nodes)
        self.free: Free = dict(situation.nodes)
        self.used = {study.owner: self._owner(study.owner).used for study in situation.studies.values()}
        self.devices: dict[str, float] = defaultdict(float)  # at once, by owner
        self.grants: list[Grant] = []
        self.running = list(situation.running)  # with what is granted here
        self.preemptions: list[Preemption] = []
        self.waits: dict[int, str] = {}
        self.starts: dict[int, float] = {}
        self.lacking: dict[int, None] = {}  # studies, in the order in which they were come to
        self.refused: dict[int, set[Need]] = defaultdict(set)  # by study: what is not to be asked for again in this round
        self.misfits: dict[Need, str | None] = {}
        self.shares: dict[Need, float] = {}  # of the cluster
        self.full: set[Need] = set()  # what found no room; there is never more of it within a round
        self.reservation: _Reservation | None = None
        self.promised: Free | None = None  # free once those that leave have left, less what it is promised to
        self.lowest = min((self._standing(running) for running in situation.running), default=0)
        for trial in situation.running:
            take(self.free, trial.need, trial.nodes)
            self._count(trial.study, trial.need, trial.remaining)

    def decide(self) -> Decision:
        overtakers = 0
        self._end_hours()
        for trial in self._in_order():
            self._consider(trial)
            overtakers += self.reservation is not None
            if overtakers > OVERTAKERS:
                break
        given = {grant.trial for grant in self.grants}
        for study, trials in self.situation.ready.items():
            if study not in self.waits and any(trial.id not in given for trial in trials):
                self._wait(study, "waits for its turn", lacks=True)
        return Decision(tuple(self.grants), tuple(self.preemptions), self.waits, self.starts, tuple(self.lacking), self._overtaken())

    def _overtaken(self) -> dict[int, float]:
        """Studies that have no devices now while some of higher priority do, and since when that is so."""
        highest = max((self._priority(study) for study in self.active), default=0)
        waiting = [study for study in self.situation.ready if study not in self.active and self._priority(study) < highest]
        since = {study: self.situation.studies[study].overtaken for study in waiting}
        return {study: self.now if began is None else began for study, began in since.items()}

    def _end_hours(self) -> None:
        """Trials of owners whose device-hours are used up are to leave, and go on next month."""
        for running in self.situation.running:
            left = self._owner(self.situation.studies[running.study].owner).hours_left
            if left is not None and left <= 0 and not running.leaving:
                self.preemptions.append(Preemption(running.id, None))

    # --- the order

    def _in_order(self) -> Iterator[ReadyTrial]:
        """The ready trials. Shares change with every grant, of one owner: so a heap of owners in each class of priority, each with a heap
        of the next trials of its studies. A study that waiting has moved up is in its own class again once it has devices."""
        classes: dict[int, dict[str, list[_Place]]] = defaultdict(lambda: defaultdict(list))
        following = {study: self._trials_of(study) for study in self.situation.ready}
        for study_id, trials in following.items():
            trial = next(trials, None)
            if trial:
                study = self.situation.studies[study_id]
                classes[self._rank(study)][study.owner].append(_place(study, trial))
        while classes:
            rank = max(classes)
            queues = classes.pop(rank)
            for queue in queues.values():
                heapq.heapify(queue)
            owners = [(self._share(owner), owner) for owner in queues]
            heapq.heapify(owners)
            while owners:
                _, owner = heapq.heappop(owners)
                *_, trial = heapq.heappop(queues[owner])
                if trial.need not in self.refused[trial.study]:
                    yield trial
                after = next(following[trial.study], None)
                if after:
                    study = self.situation.studies[trial.study]
                    behind = self._rank(study)
                    heapq.heappush((queues if behind == rank else classes[behind])[owner], _place(study, after))
                if queues[owner]:
                    heapq.heappush(owners, (self._share(owner), owner))

    def _trials_of(self, study: int) -> Iterator[ReadyTrial]:
        for trial in self.situation.ready[study]:
            if trial.need not in self.refused[study]:
                yield trial

    def _rank(self, study: QueuedStudy) -> int:
        """Its priority, with what waiting has added."""
        return study.priority + self._points(study)

    def _points(self, study: QueuedStudy) -> int:
        if study.overtaken is None or study.id in self.active:
            return 0
        return int(max(0.0, self.now - study.overtaken) // AGEING)

    def _share(self, owner: str) -> float:
        return self.used[owner] / self._owner(owner).weight

    def _owner(self, owner: str) -> Owner:
        return self.situation.owners.get(owner, Owner())

    # --- one trial

    def _consider(self, trial: ReadyTrial) -> None:
        misfit = self._misfit(trial.need)
        refused = misfit or self._over_quota(trial) or self._too_many(trial)
        if refused:
            self._refuse(trial, refused, lacks=misfit is not None)
            return
        where = None if trial.need in self.full else place(trial.need, self.free)
        if where is None:
            self.full.add(trial.need)
            self._refuse(trial, "waits for devices", lacks=True)
            self._preempt_for(trial)
            if self.reservation is None:
                self._reserve(trial)
        elif self._delays(trial, where):
            self._wait(trial.study, "waits behind a trial that came first", lacks=True)
        else:
            self._grant(trial, where)

    def _wait(self, study: int, why: str, lacks: bool) -> None:
        self.waits.setdefault(study, why)
        if lacks:
            self.lacking[study] = None

    def _refuse(self, trial: ReadyTrial, why: str, lacks: bool) -> None:
        self._wait(trial.study, why, lacks)
        self.refused[trial.study].add(trial.need)

    def _misfit(self, need: Need) -> str | None:
        if need not in self.misfits:
            self.misfits[need] = misfit(need, self.situation.nodes)
        return self.misfits[need]

    def _over_quota(self, trial: ReadyTrial) -> str | None:
        owner = self.situation.studies[trial.study].owner
        limits = self._owner(owner)
        if limits.devices is not None and self.devices[owner] + trial.need.devices > limits.devices:
            return f"{owner} may have {limits.devices:g} {'device' if limits.devices == 1 else 'devices'} at once"
        if limits.hours_left is not None and limits.hours_left <= 0:
            return f"the device-hours of {owner} for this month are used up"
        return None

    def _too_many(self, trial: ReadyTrial) -> str | None:
        most = self.situation.most_studies
        if most is None or trial.study in self.active or len(self.active) < most or self._priority(trial.study) > self.lowest:
            return None
        return f"no more than {most} studies run at once"

    def _grant(self, trial: ReadyTrial, where: Placement) -> None:
        take(self.free, trial.need, where)
        if self.promised is not None:
            take(self.promised, trial.need, where)
        if self.reservation and self.now + _seconds(trial.seconds) > self.reservation.start:
            take(self.reservation.left, trial.need, where)
        self.grants.append(Grant(trial.id, where, self._points(self.situation.studies[trial.study])))
        self.active.add(trial.study)
        self.running.append(RunningTrial(trial.id, trial.study, trial.need, where, self.now, trial.seconds))
        self._count(trial.study, trial.need, trial.seconds)

    def _count(self, study: int, need: Need, seconds: float | None) -> None:
        """Counts a trial for its owner with all the time that it will take, so that a long one is not followed by another at once."""
        owner = self.situation.studies[study].owner
        if need not in self.shares:
            self.shares[need] = need.total.share_of(self.capacity)
        self.used[owner] += self.shares[need] * _seconds(seconds)
        self.devices[owner] += need.devices

    # --- who came first

    def _reserve(self, trial: ReadyTrial) -> None:
        """Keeps the place of the first trial that finds no room: when enough will be free, and what else is free then."""
        free = dict(self.free)
        ends = sorted((self._end(running), running.id, running) for running in self.running)
        for index, (start, _, running) in enumerate(ends):
            give(free, running.need, running.nodes)
            where = place(trial.need, free)
            if where:
                for _, _, later in (each for each in ends[index + 1 :] if each[0] <= start):
                    give(free, later.need, later.nodes)
                take(free, trial.need, where)
                self.reservation = _Reservation(start, free)
                self.starts[trial.study] = start
                return

    def _end(self, running: RunningTrial) -> float:
        leaves = running.leaving or any(preemption.trial == running.id for preemption in self.preemptions)
        return self.now + min(_seconds(running.remaining), LEAVING_SECONDS if leaves else float("inf"))

    def _delays(self, trial: ReadyTrial, where: Placement) -> bool:
        """Whether a trial would take what others were promised, or what the reservation needs when its time comes."""
        if self.promised is not None and not fits(trial.need, where, self.promised):
            return True
        if self.reservation is None or self.now + _seconds(trial.seconds) <= self.reservation.start:
            return False
        return not fits(trial.need, where, self.reservation.left)

    def _preempt_for(self, trial: ReadyTrial) -> None:
        """Asks the least important and youngest trials of lower priority to leave, as few as make room; none where that makes none."""
        priority = self._priority(trial.study)
        if priority <= self.lowest:
            return
        asked = {preemption.trial for preemption in self.preemptions}
        if self.promised is None:
            self.promised = dict(self.free)
            for running in self.situation.running:
                if running.leaving or running.id in asked:
                    give(self.promised, running.need, running.nodes)
        lower = [r for r in self.situation.running if not r.leaving and r.id not in asked and self._standing(r) < priority]
        lower.sort(key=lambda running: (self._standing(running), -running.started, running.id))
        free, victims = dict(self.promised), []
        while place(trial.need, free) is None:
            if not lower:
                return
            victims.append(lower.pop(0))
            give(free, victims[-1].need, victims[-1].nodes)
        for running in tuple(victims):  # one that turns out not to be needed stays
            take(free, running.need, running.nodes)
            if holds_all(free) and place(trial.need, free):
                victims.remove(running)
            else:
                give(free, running.need, running.nodes)
        where = place(trial.need, free)
        assert where is not None
        take(free, trial.need, where)
        self.promised = free
        self.preemptions.extend(Preemption(victim.id, trial.id) for victim in victims)

    def _priority(self, study: int) -> int:
        return self.situation.studies[study].priority

    def _standing(self, running: RunningTrial) -> int:
        """What a study has to be above to get a trial's devices."""
        return self._priority(running.study) + running.points


def _seconds(known: float | None) -> float:
    return UNKNOWN_SECONDS if known is None else known
