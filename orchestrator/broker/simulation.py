"""The broker on a simulated clock and cluster: whole weeks of a shared cluster in seconds.

The decisions are the broker's own, and every study moves through the state machine; only the training is made up: a trial takes the time
that it was given. Nothing here waits.
"""

import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from orchestrator import machine
from orchestrator.broker.cluster import Need, Placement, Resources, whole
from orchestrator.broker.decide import decide
from orchestrator.broker.paths import chains
from orchestrator.broker.situation import Decision, Owner, QueuedStudy, ReadyTrial, RunningTrial, Situation, in_order
from orchestrator.broker.usage import after
from orchestrator.machine import StudyState, TrialState


@dataclass(frozen=True)
class SimulatedTrial:
    """needs: names of the trials of the study that it waits for. estimate: what the broker is told of `seconds`; None: the truth."""

    name: str
    need: Need
    seconds: float
    needs: tuple[str, ...] = ()
    estimate: float | None = None


@dataclass(frozen=True)
class SimulatedStudy:
    """A study that comes at `submitted`. Its trials stand behind those that they need."""

    id: int
    owner: str
    submitted: float
    trials: tuple[SimulatedTrial, ...]
    priority: int = 0


@dataclass(frozen=True)
class Span:
    """A trial on its devices from `start` to `end`, in seconds. preempted: it made room and went on later."""

    study: int
    owner: str
    trial: str
    need: Need
    nodes: Placement
    start: float
    end: float
    preempted: bool


@dataclass
class Outcome:
    """What a simulation showed. ended: when each study was finished. refused: why a study never got devices."""

    spans: list[Span] = field(default_factory=list)
    ended: dict[int, float] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    decisions: int = 0

    @property
    def makespan(self) -> float:
        return max(self.ended.values(), default=0.0)

    def first_start(self, study: int) -> float:
        return min(span.start for span in self.spans if span.study == study)


@dataclass
class _Running:
    study: int
    trial: SimulatedTrial
    nodes: Placement
    started: float
    ends: float  # when it ends, or leaves
    points: int
    leaving: bool = False


class Simulation:
    """A cluster with its queue. tick: seconds between two looks of the broker. leave: seconds from a request to leave to the checkpoint."""

    def __init__(
        self,
        nodes: Mapping[str, Resources],
        studies: Sequence[SimulatedStudy],
        owners: Mapping[str, Owner] | None = None,
        tick: float = 1.0,
        leave: float = 600.0,
    ) -> None:
        self.nodes, self.owners, self.tick, self.leave = nodes, dict(owners or {}), tick, leave
        self.plans = {study.id: study for study in studies}
        self.queued = {study.id: QueuedStudy(study.id, study.owner, study.priority, study.submitted) for study in studies}
        self.capacity = whole(nodes)
        self.shares = {need: need.total.share_of(self.capacity) for need in {trial.need for study in studies for trial in study.trials}}
        self.outcome = Outcome()
        self.now = 0.0
        self.arrivals = sorted(studies, key=lambda study: (study.submitted, study.id), reverse=True)
        self.studies: dict[int, machine.Study] = {}
        self.ready: dict[int, list[ReadyTrial]] = {}
        self.lacking: dict[int, dict[str, int]] = {}  # by study and trial: results that it waits for
        self.running: dict[int, _Running] = {}
        self.ends: list[tuple[float, int]] = []  # heap of (when, running trial)
        self.left: dict[int, dict[str, float]] = {study.id: {t.name: t.seconds for t in study.trials} for study in studies}
        self.numbers = {key: n for n, key in enumerate((study.id, trial.name) for study in studies for trial in study.trials)}
        self.named = {n: key for key, n in self.numbers.items()}
        self.trials = {(study.id, trial.name): trial for study in studies for trial in study.trials}
        self.paths: dict[int, dict[str, float]] = {}
        self.used: dict[str, float] = defaultdict(float)
        self.hours: dict[str, float] = defaultdict(float)  # device-hours that owners have had
        self.overtaken: Mapping[int, float] = {}

    def run(self, until: float = float("inf")) -> Outcome:
        """Plays on until nothing is left to do, or `until`."""
        while self.now < until and (self.arrivals or self.running or any(self.ready.values())):
            self._arrive()
            decision = self._decide()
            self._carry_out(decision)
            if not self.running and not self.arrivals:
                self.outcome.refused |= {study: decision.waits[study] for study, trials in self.ready.items() if trials}
                break
            self._pass_time(until)
        for number in list(self.running):
            self._stop(number, preempted=True)
        return self.outcome

    # --- what happens

    def _arrive(self) -> None:
        while self.arrivals and self.arrivals[-1].submitted <= self.now:
            plan = self.arrivals.pop()
            startable = [trial.name for trial in plan.trials if not trial.needs]
            counts = {TrialState.READY: len(startable), TrialState.WAITING: len(plan.trials) - len(startable)}
            study = machine.Study(f"study {plan.id}", StudyState.QUEUED, counts)
            self.studies[plan.id] = machine.advance(study, machine.AttemptStarted())[0]
            self.lacking[plan.id] = {trial.name: len(trial.needs) for trial in plan.trials}
            told = {trial.name: trial.seconds if trial.estimate is None else trial.estimate for trial in plan.trials}
            self.paths[plan.id] = chains(told, {trial.name: trial.needs for trial in plan.trials})
            self.ready[plan.id] = []
            self._make_ready(plan.id, startable)

    def _make_ready(self, study: int, names: Sequence[str]) -> None:
        order = {trial.name: place for place, trial in enumerate(self.plans[study].trials)}
        made = []
        for name in names:
            trial = self.trials[study, name]
            worked = trial.seconds - self.left[study][name]
            estimate = (trial.seconds if trial.estimate is None else trial.estimate) - worked
            made.append(ReadyTrial(self.numbers[study, name], study, trial.need, max(estimate, 1.0), self.paths[study][name], order[name]))
        self.ready[study] = in_order([*self.ready[study], *made])

    def _advance(self, study: int, event: machine.Event, *around: tuple[str, machine.Trial]) -> None:
        """Moves a study, which is shown the trials that the event is about."""
        self.studies[study], _ = machine.advance(replace(self.studies[study], trials=dict(around)), event)

    def _finish(self, study: int, name: str) -> None:
        lacking = self.lacking[study]
        waiting = [trial.name for trial in self.plans[study].trials if name in trial.needs]
        for student in waiting:
            lacking[student] -= 1
        released = [student for student in waiting if not lacking[student]]
        self._advance(study, machine.TrialFinished(name), (name, machine.Trial(TrialState.RUNNING, students=len(released))))
        self._make_ready(study, released)

    def _decide(self) -> Decision:
        self.outcome.decisions += 1
        running = tuple(
            RunningTrial(
                number,
                each.study,
                each.trial.need,
                each.nodes,
                each.started,
                max(1.0, self._told_end(each) - self.now),
                each.leaving,
                each.points,
            )
            for number, each in self.running.items()
        )
        concerned = {*(s for s, trials in self.ready.items() if trials), *(each.study for each in self.running.values())}
        studies = {study: replace(self.queued[study], overtaken=self.overtaken.get(study)) for study in concerned}
        names = {study.owner for study in studies.values()}
        owners = {name: self._owner(name) for name in names}
        decision = decide(Situation(self.now, self.nodes, studies, {s: t for s, t in self.ready.items() if t}, running, owners))
        self.overtaken = decision.overtaken
        return decision

    def _owner(self, name: str) -> Owner:
        """As the broker is told. Owners are made with the hours that they have at the beginning; all is in one month."""
        owner = self.owners.get(name, Owner())
        left = None if owner.hours_left is None else owner.hours_left - self.hours[name]
        return replace(owner, used=self.used[name], hours_left=left)

    def _told_end(self, each: _Running) -> float:
        worked = each.trial.seconds - self.left[each.study][each.trial.name]
        return each.started + (each.trial.seconds if each.trial.estimate is None else each.trial.estimate) - worked

    def _carry_out(self, decision: Decision) -> None:
        for grant in decision.grants:
            study, name = self.named[grant.trial]
            self.ready[study] = [trial for trial in self.ready[study] if trial.id != grant.trial]
            self._advance(study, machine.TrialStarted(name), (name, machine.Trial(TrialState.READY)))
            ends = self.now + self.left[study][name]
            self.running[grant.trial] = _Running(study, self.trials[study, name], grant.nodes, self.now, ends, grant.points)
            heapq.heappush(self.ends, (ends, grant.trial))
        for preemption in decision.preemptions:
            each = self.running[preemption.trial]
            each.leaving = True
            if each.ends > self.now + self.leave:
                each.ends = self.now + self.leave
                heapq.heappush(self.ends, (each.ends, preemption.trial))

    def _pass_time(self, until: float) -> None:
        """To the first tick at which something has ended or arrived."""
        coming = [self.ends[0][0]] if self.ends else []
        coming += [self.arrivals[-1].submitted] if self.arrivals else []
        share: dict[str, float] = defaultdict(float)
        devices: dict[str, float] = defaultdict(float)
        for each in self.running.values():
            share[self.plans[each.study].owner] += self.shares[each.trial.need]
            devices[self.plans[each.study].owner] += each.trial.need.devices
        left = {owner: self._owner(owner).hours_left or 0.0 for owner in devices}
        coming += [self.now + hours * 3600 / devices[owner] for owner, hours in left.items() if hours > 0]
        ticks = -(-(min(coming) - self.now) // self.tick)
        then = min(self.now + max(1.0, ticks) * self.tick, until)
        for owner in {*self.used, *share}:
            self.used[owner] = after(self.used[owner], share[owner], then - self.now)
            self.hours[owner] += devices[owner] * (then - self.now) / 3600
        self.now = then
        while self.ends and self.ends[0][0] <= self.now:
            ended, number = heapq.heappop(self.ends)
            running = self.running.get(number)
            if running and running.ends == ended:
                self._stop(number, preempted=ended < running.started + self.left[running.study][running.trial.name])

    def _stop(self, number: int, preempted: bool) -> None:
        running = self.running.pop(number)
        study, name = running.study, running.trial.name
        end = min(running.ends, self.now)
        owner = self.plans[study].owner
        self.outcome.spans.append(Span(study, owner, name, running.trial.need, running.nodes, running.started, end, preempted))
        if preempted:
            self.left[study][name] -= end - running.started
            self._advance(study, machine.TrialPreempted(name), (name, machine.Trial(TrialState.RUNNING)))
            self._make_ready(study, [name])
            return
        self._finish(study, name)
        if not self.studies[study].count(machine.OPEN):
            self._advance(study, machine.AllTrialsEnded())
            self.outcome.ended[study] = end
            del self.ready[study], self.studies[study]
