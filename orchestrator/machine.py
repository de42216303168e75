"""The life of a study as one pure function: `advance(study, event) -> (study, changes)`. No database, no clock, no Ray.

Everything that acts records what happened by passing an event here and storing the changes; a move that makes no sense
raises `IllegalMove`, which tells the study's story.

    study:  queued -> running -> finished | failed            trial:  waiting -> ready -> running -> finished | failed
               \\        \\-> cancelling -> cancelled                              \\-> cached | stopped
                \\-> cancelled                                          any without an end -> cancelled
    resume: cancelled, failed or finished with gaps -> queued, and its missing trials back to waiting or ready
    search: a study that searches gets further trials while it runs, and is not over before its search is
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from studies.trial import FailureKind

MAX_STALLS = 10  # attempts lost in a row, none with a new epoch, after which a study fails: the jobs loop takes minutes for so many
MAX_LOSSES = 3  # times a lost trial process is tried again


class StudyState(StrEnum):
    QUEUED = "queued"  # wants a driver
    RUNNING = "running"  # a driver is at work
    CANCELLING = "cancelling"  # its driver has been asked to stop
    CANCELLED = "cancelled"  # stopped with its state kept
    FINISHED = "finished"  # every trial has an end, one at least with results
    FAILED = "failed"  # could not be run, or every trial failed

    @property
    def final(self) -> bool:
        return self in (StudyState.CANCELLED, StudyState.FINISHED, StudyState.FAILED)


class TrialState(StrEnum):
    WAITING = "waiting"  # for the checkpoints that it needs
    READY = "ready"  # can start as soon as a device is free
    RUNNING = "running"  # in a trial process
    FINISHED = "finished"  # trained here
    CACHED = "cached"  # took the results of an equal trial
    STOPPED = "stopped"  # ended early by its search, having no promise; its epochs remain
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def good(self) -> bool:
        """Has results."""
        return self in (TrialState.FINISHED, TrialState.CACHED)

    @property
    def kept(self) -> bool:
        """Came to a good end, so that a resume leaves it as it is."""
        return self.good or self == TrialState.STOPPED

    @property
    def final(self) -> bool:
        return self.kept or self in (TrialState.FAILED, TrialState.CANCELLED)


OPEN = tuple(state for state in TrialState if not state.final)
GOOD = tuple(state for state in TrialState if state.good)
KEPT = tuple(state for state in TrialState if state.kept)


@dataclass(frozen=True)
class Trial:
    """The trial that an event is about, with those around it that may move with it."""

    state: TrialState
    losses: int = 0  # times its process was lost since the last resume
    reason: str | None = None  # one sentence when failed
    failure: FailureKind | None = None  # class of failure when failed
    students: int = 0  # waiting trials that lack nothing but this one's result
    dependents: int = 0  # waiting trials that need this one's result, or that of a trial that does, and so on


@dataclass(frozen=True)
class Study:
    """What the machine is shown of a study: itself, how many trials are in which state, and what the event at hand is about."""

    label: str  # "study 3 (Does LD beat FitNet?)", for messages
    state: StudyState
    counts: Mapping[TrialState, int]  # how many of its trials are in each state; absent: none
    trials: Mapping[str, Trial] = field(default_factory=dict)  # by name, those that the event names
    startable: int = 0  # trials without a result that lack no other's; to be known for ResumeRequested
    first_reason: str | None = None  # why the first failed trial failed; to be known where a study may end
    stalls: int = 0  # attempts lost in a row without a new epoch
    searching: bool = False  # its search may add trials yet
    driven: bool = False  # an attempt was handed to Ray and its end is not recorded yet
    reason: str | None = None  # one sentence when failed
    story: tuple[str, ...] = ()  # what happened last, oldest first

    def count(self, states: Iterable[TrialState]) -> int:
        """How many trials are in one of these states."""
        return sum(self.counts.get(state, 0) for state in states)


# --- events: what happened


@dataclass(frozen=True)
class AttemptStarted:
    """A driver came up. Trials an earlier driver left running are ready again: their processes died with it."""


@dataclass(frozen=True)
class AttemptLost:
    """A driver ended without having finished the study. planned: it was asked to (the stack goes down, its devices are wanted), which
    says nothing against the study."""

    reason: str
    planned: bool = False


@dataclass(frozen=True)
class CancelRequested:
    """Somebody wants the study stopped."""


@dataclass(frozen=True)
class Stopped:
    """The driver of a study that is being cancelled has ended."""


@dataclass(frozen=True)
class ResumeRequested:
    """Somebody wants the missing trials trained."""


@dataclass(frozen=True)
class TrialClaimed:
    """A driver takes the lease of a trial; nothing moves yet."""

    trial: str


@dataclass(frozen=True)
class LeaseLost:
    """Another holds the lease of a trial that a driver thought its own: it is ready again, and that is no loss of its own."""

    trial: str


@dataclass(frozen=True)
class TrialStarted:
    trial: str


@dataclass(frozen=True)
class EpochDone:
    """A trial reported an epoch that was not known yet: the study moves on."""

    trial: str


@dataclass(frozen=True)
class TrialFinished:
    trial: str


@dataclass(frozen=True)
class TrialCached:
    """An equal trial is finished, its results serve."""

    trial: str


@dataclass(frozen=True)
class TrialFailed:
    """A trial cannot go on; `infra` is tried again up to MAX_LOSSES times."""

    trial: str
    failure: FailureKind
    reason: str


@dataclass(frozen=True)
class TrialPreempted:
    """A trial made room for another after its checkpoint: it goes on later, and that is no loss."""

    trial: str


@dataclass(frozen=True)
class TrialStopped:
    """Its search gives a trial up, which has no promise and which no other needs; that is a good end."""

    trial: str


@dataclass(frozen=True)
class TrialsAdded:
    """A search asks for further trials: how many are in which state from the beginning."""

    counts: Mapping[TrialState, int]


@dataclass(frozen=True)
class SearchEnded:
    """The study's search adds nothing any more."""


@dataclass(frozen=True)
class AllTrialsEnded:
    """The driver has nothing left to do."""


@dataclass(frozen=True)
class StudyFailed:
    """The study cannot be run at all (its dataset cannot be made, say)."""

    reason: str


Event = (
    AttemptStarted
    | AttemptLost
    | CancelRequested
    | Stopped
    | ResumeRequested
    | TrialClaimed
    | LeaseLost
    | TrialStarted
    | EpochDone
    | TrialFinished
    | TrialCached
    | TrialFailed
    | TrialPreempted
    | TrialStopped
    | TrialsAdded
    | SearchEnded
    | AllTrialsEnded
    | StudyFailed
)


# --- changes: what to store


@dataclass(frozen=True)
class StudyChange:
    """The study entered `state`."""

    state: StudyState
    reason: str | None


@dataclass(frozen=True)
class TrialChange:
    """Trial `name` is now `trial`; it was in state `before`."""

    name: str
    before: TrialState
    trial: Trial


class Group(StrEnum):
    """Trials that move together, by what they have in common."""

    RUNNING = "running"  # those in a trial process
    OPEN = "open"  # those without an end
    STARTABLE = "startable"  # those without a result that lack no other's
    LACKING = "lacking"  # those without a result that lack another's
    STUDENTS = "students"  # of a trial: those that waited for it last
    DEPENDENTS = "dependents"  # of a trial: those that need it, directly or not, and have no end


@dataclass(frozen=True)
class GroupChange:
    """All `count` trials of a group are now in `state`, without losses. of: the trial whose students or dependents they are."""

    group: Group
    state: TrialState
    count: int
    of: str | None = None
    reason: str | None = None
    failure: FailureKind | None = None


Change = StudyChange | TrialChange | GroupChange


class IllegalMove(Exception):
    """An event that cannot happen in this state. Says what the study is, what was tried, and what happened before."""

    def __init__(self, study: Study, why: str) -> None:
        story = "; ".join(study.story) or "nothing yet"
        super().__init__(f"{study.label} is {study.state}: {why} (its story: {story})")
        self.why = why
        self.state = study.state


def advance(study: Study, event: Event) -> tuple[Study, list[Change]]:
    """The study after `event`, and what changed, in order. Raises IllegalMove and then nothing has changed."""
    move = _Move(study)
    _RULES[type(event)](move, event)
    told = (*study.story, _sentence(event))[-10:]
    return replace(move.study, story=told), move.changes


class _Move:
    """A study being moved: the rules below change it step by step and every step leaves a Change."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.changes: list[Change] = []

    def refuse(self, why: str) -> IllegalMove:
        return IllegalMove(self.study, why)

    def need(self, *states: StudyState, to: str) -> None:
        if self.study.state not in states:
            raise self.refuse(f"{to} needs a study that is {' or '.join(states)}")

    def go(self, state: StudyState, reason: str | None = None) -> None:
        if (state, reason) != (self.study.state, self.study.reason):
            self.study = replace(self.study, state=state, reason=reason, driven=self.study.driven and not state.final)
            self.changes.append(StudyChange(state, reason))

    def trial(self, name: str, *states: TrialState, to: str) -> Trial:
        trial = self.study.trials.get(name)
        if trial is None:
            raise self.refuse(f"it has no trial {name!r}")
        if trial.state not in states:
            raise self.refuse(f"trial {name!r} is {trial.state}; {to} needs {' or '.join(states)}")
        return trial

    def put(self, name: str, trial: Trial) -> None:
        before = self.study.trials[name].state
        self.study = replace(self.study, trials={**self.study.trials, name: trial})
        self._count({before: 1}, trial.state)
        self.changes.append(TrialChange(name, before, trial))

    def put_group(self, change: GroupChange, before: Mapping[TrialState, int]) -> None:
        """before: in which states the group's trials were."""
        if change.count:
            self._count(before, change.state)
            self.changes.append(change)

    def put_all(self, group: Group, states: tuple[TrialState, ...], state: TrialState) -> None:
        """Every trial in one of `states`, which is what `group` is."""
        self.put_group(GroupChange(group, state, self.study.count(states)), {each: self.study.count((each,)) for each in states})

    def _count(self, before: Mapping[TrialState, int], after: TrialState) -> None:
        counts = Counter(self.study.counts)
        counts.subtract(before)
        counts[after] += sum(before.values())
        self.study = replace(self.study, counts={state: count for state, count in counts.items() if count})

    def all_ended(self) -> bool:
        return not self.study.count(OPEN) and not self.study.searching


_DRIVEN = (StudyState.RUNNING, StudyState.CANCELLING)


def _attempt_started(move: _Move, event: AttemptStarted) -> None:
    move.need(StudyState.QUEUED, StudyState.RUNNING, to="starting an attempt")
    move.study = replace(move.study, driven=True)
    _let_go(move)
    move.go(StudyState.RUNNING)


def _let_go(move: _Move) -> None:
    """Trials whose processes died with their driver are ready again; that is no loss of their own."""
    move.put_all(Group.RUNNING, (TrialState.RUNNING,), TrialState.READY)


def _attempt_lost(move: _Move, event: AttemptLost) -> None:
    move.need(StudyState.QUEUED, StudyState.RUNNING, StudyState.CANCELLING, to="losing an attempt")
    move.study = replace(move.study, driven=False)
    if move.study.state == StudyState.CANCELLING:
        _stopped(move, Stopped())
        return
    move.study = replace(move.study, stalls=move.study.stalls + (not event.planned))
    if not event.planned and move.study.stalls >= MAX_STALLS:
        _study_failed(move, StudyFailed(f"{MAX_STALLS} attempts in a row were lost without a new epoch, the last one: {event.reason}"))
        return
    _let_go(move)
    move.go(StudyState.QUEUED)


def _cancel_requested(move: _Move, event: CancelRequested) -> None:
    move.need(StudyState.QUEUED, StudyState.RUNNING, StudyState.CANCELLING, to="cancelling")
    if move.study.driven:
        move.go(StudyState.CANCELLING)
    else:
        _cancel(move)


def _stopped(move: _Move, event: Stopped) -> None:
    move.need(StudyState.CANCELLING, to="having stopped")
    move.study = replace(move.study, driven=False)
    if move.all_ended():
        _conclude(move)
    else:
        _cancel(move)


def _cancel(move: _Move) -> None:
    move.put_all(Group.OPEN, OPEN, TrialState.CANCELLED)
    move.go(StudyState.CANCELLED)


def _resume_requested(move: _Move, event: ResumeRequested) -> None:
    move.need(StudyState.CANCELLED, StudyState.FAILED, StudyState.FINISHED, to="resuming")
    kept = {state: count for state, count in move.study.counts.items() if state.kept}
    startable, missing = move.study.startable, sum(move.study.counts.values()) - sum(kept.values())
    if not missing and not move.study.searching:
        raise move.refuse("nothing is missing, every trial has its results")
    groups = (
        GroupChange(Group.STARTABLE, TrialState.READY, startable),
        GroupChange(Group.LACKING, TrialState.WAITING, missing - startable),
    )
    move.changes += [group for group in groups if group.count]
    move.study = replace(move.study, counts=kept | {group.state: group.count for group in groups if group.count})
    move.study = replace(move.study, stalls=0)
    move.go(StudyState.QUEUED)


def _trial_claimed(move: _Move, event: TrialClaimed) -> None:
    move.need(StudyState.RUNNING, to="claiming a trial")
    move.trial(event.trial, TrialState.READY, to="claiming it")


def _lease_lost(move: _Move, event: LeaseLost) -> None:
    move.need(*_DRIVEN, to="losing a lease")
    trial = move.trial(event.trial, TrialState.READY, TrialState.RUNNING, to="losing its lease")
    if trial.state == TrialState.RUNNING:
        move.put(event.trial, replace(trial, state=TrialState.READY))


def _trial_started(move: _Move, event: TrialStarted) -> None:
    move.need(*_DRIVEN, to="starting a trial")  # one that was on its way when the study was cancelled may still arrive
    trial = move.trial(event.trial, TrialState.READY, to="starting it")
    move.put(event.trial, replace(trial, state=TrialState.RUNNING))


def _epoch_done(move: _Move, event: EpochDone) -> None:
    move.need(*_DRIVEN, to="recording an epoch")
    move.trial(event.trial, TrialState.RUNNING, to="recording an epoch")
    move.study = replace(move.study, stalls=0)


def _trial_finished(move: _Move, event: TrialFinished) -> None:
    move.need(*_DRIVEN, to="finishing a trial")
    trial = move.trial(event.trial, TrialState.RUNNING, to="finishing it")
    move.put(event.trial, replace(trial, state=TrialState.FINISHED))
    _release(move, event.trial, trial)


def _trial_cached(move: _Move, event: TrialCached) -> None:
    move.need(*_DRIVEN, to="reusing a result")
    trial = move.trial(event.trial, TrialState.READY, to="reusing a result")
    move.put(event.trial, replace(trial, state=TrialState.CACHED))
    _release(move, event.trial, trial)


def _release(move: _Move, name: str, trial: Trial) -> None:
    """Trials that waited for this one last are ready."""
    move.study = replace(move.study, stalls=0)
    move.put_group(GroupChange(Group.STUDENTS, TrialState.READY, trial.students, name), {TrialState.WAITING: trial.students})


def _trial_failed(move: _Move, event: TrialFailed) -> None:
    move.need(*_DRIVEN, to="failing a trial")
    trial = move.trial(event.trial, TrialState.READY, TrialState.RUNNING, to="failing it")
    if event.failure == "infra" and trial.losses < MAX_LOSSES:
        move.put(event.trial, replace(trial, state=TrialState.READY, losses=trial.losses + 1))
        return
    reason = event.reason if event.failure != "infra" else f"lost {trial.losses + 1} times, the last time: {event.reason}"
    move.put(event.trial, replace(trial, state=TrialState.FAILED, reason=reason, failure=event.failure))
    why = f"it needs {event.trial}, which failed: {reason}"  # so cannot be done, whatever lies between
    change = GroupChange(Group.DEPENDENTS, TrialState.FAILED, trial.dependents, event.trial, why, event.failure)
    move.put_group(change, {TrialState.WAITING: trial.dependents})


def _trial_preempted(move: _Move, event: TrialPreempted) -> None:
    move.need(*_DRIVEN, to="preempting a trial")
    trial = move.trial(event.trial, TrialState.RUNNING, to="preempting it")
    move.put(event.trial, replace(trial, state=TrialState.READY))


def _trial_stopped(move: _Move, event: TrialStopped) -> None:
    move.need(*_DRIVEN, to="stopping a trial")
    trial = move.trial(event.trial, TrialState.READY, TrialState.RUNNING, to="stopping it")
    if trial.dependents:
        raise move.refuse(f"others wait for what {event.trial} comes to")  # and would wait for ever
    move.put(event.trial, replace(trial, state=TrialState.STOPPED))
    move.study = replace(move.study, stalls=0)


def _trials_added(move: _Move, event: TrialsAdded) -> None:
    move.need(StudyState.RUNNING, to="adding trials")
    if not move.study.searching:
        raise move.refuse("only a search adds trials, and this study has none that goes on")
    counts = Counter(move.study.counts) + Counter(event.counts)
    move.study = replace(move.study, counts={state: count for state, count in counts.items() if count})


def _search_ended(move: _Move, event: SearchEnded) -> None:
    move.need(*_DRIVEN, to="ending its search")
    move.study = replace(move.study, searching=False)


def _all_trials_ended(move: _Move, event: AllTrialsEnded) -> None:
    move.need(*_DRIVEN, to="finishing")
    if not move.all_ended():
        raise move.refuse("its search goes on" if move.study.searching else "there are trials without an end")
    _conclude(move)


def _conclude(move: _Move) -> None:
    """Finished with at least one good trial, else failed with the first reason."""
    if move.study.count(GOOD):
        move.go(StudyState.FINISHED)
    else:
        move.go(StudyState.FAILED, f"no trial succeeded, the first one: {move.study.first_reason or 'no reason known'}")


def _study_failed(move: _Move, event: StudyFailed) -> None:
    move.need(StudyState.QUEUED, *_DRIVEN, to="failing")
    move.put_all(Group.OPEN, OPEN, TrialState.CANCELLED)
    move.go(StudyState.FAILED, event.reason)


_RULES: dict[type, Callable[..., None]] = {
    AttemptStarted: _attempt_started,
    AttemptLost: _attempt_lost,
    CancelRequested: _cancel_requested,
    Stopped: _stopped,
    ResumeRequested: _resume_requested,
    TrialClaimed: _trial_claimed,
    LeaseLost: _lease_lost,
    TrialStarted: _trial_started,
    EpochDone: _epoch_done,
    TrialFinished: _trial_finished,
    TrialCached: _trial_cached,
    TrialFailed: _trial_failed,
    TrialPreempted: _trial_preempted,
    TrialStopped: _trial_stopped,
    TrialsAdded: _trials_added,
    SearchEnded: _search_ended,
    AllTrialsEnded: _all_trials_ended,
    StudyFailed: _study_failed,
}


def _sentence(event: Event) -> str:
    """An event as the story tells it: "TrialFailed fitnet/seed-0 nan the loss became NaN"."""
    return " ".join([type(event).__name__, *(str(value) for value in vars(event).values())])
