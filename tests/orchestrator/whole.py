"""A study with all its trials in memory: it shows the machine what a database would, and writes the machine's changes as one would.

Everything is counted anew from all trials each time; what the store keeps by small steps is held against this.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from orchestrator import machine
from orchestrator.machine import Group, GroupChange, StudyChange, StudyState, Trial, TrialChange, TrialState


@dataclass
class Whole:
    """needs: by trial the trials whose results it needs, each behind those."""

    needs: dict[str, tuple[str, ...]]
    trials: dict[str, Trial] = field(default_factory=dict)
    study: machine.Study = field(default_factory=lambda: machine.Study("study 1 (a try)", StudyState.QUEUED, {}))

    def __post_init__(self) -> None:
        for name, needs in self.needs.items():
            self.trials.setdefault(name, Trial(TrialState.WAITING if needs else TrialState.READY))

    @property
    def counts(self) -> dict[TrialState, int]:
        return dict(Counter(trial.state for trial in self.trials.values()))

    def states(self) -> dict[str, str]:
        return {name: str(trial.state) for name, trial in self.trials.items()}

    def shown(self, event: machine.Event) -> machine.Study:
        name = getattr(event, "trial", None)
        around = {}
        if name in self.trials:
            students = [each for each in self.students(name) if self.lacking(each) == [name]]
            around = {name: replace(self.trials[name], students=len(students), dependents=len(list(self.dependents(name))))}
        reasons = [trial.reason for trial in self.trials.values() if trial.state == TrialState.FAILED]
        startable = [each for each in self.trials if not self.trials[each].state.kept and not self.lacking(each)]
        first = reasons[0] if reasons else None
        return replace(self.study, counts=self.counts, trials=around, startable=len(startable), first_reason=first)

    @property
    def state(self) -> StudyState:
        return self.study.state

    def after(self, *events: machine.Event) -> "Whole":
        """A copy, moved."""
        moved = Whole(self.needs, dict(self.trials), self.study)
        for event in events:
            moved.advance(event)
        return moved

    def advance(self, event: machine.Event) -> list[machine.Change]:
        """Raises IllegalMove and then nothing has changed."""
        moved, changes = machine.advance(self.shown(event), event)
        for change in changes:
            self._write(change)
        assert moved.counts == self.counts, "the machine's counts are those of all trials"
        self.study = moved
        return changes

    def grow(self, needs: dict[str, tuple[str, ...]]) -> None:
        """A search asks for further trials. Raises IllegalMove and then nothing has changed."""
        added = Whole(self.needs | needs, dict(self.trials))
        added.trials |= {name: Trial(TrialState.WAITING if added.lacking(name) else TrialState.READY) for name in needs}
        event = machine.TrialsAdded(Counter(added.trials[name].state for name in needs))
        self.study, _ = machine.advance(self.shown(event), event)
        self.needs, self.trials = added.needs, added.trials
        assert self.study.counts == self.counts, "the machine's counts are those of all trials"

    def _write(self, change: machine.Change) -> None:
        match change:
            case StudyChange():
                self.study = replace(self.study, state=change.state, reason=change.reason)
            case TrialChange():
                assert self.trials[change.name].state == change.before
                self.trials[change.name] = replace(change.trial, students=0, dependents=0)
            case GroupChange():
                members = list(self.members(change.group, change.of))
                assert len(members) == change.count
                for name in members:
                    self.trials[name] = Trial(change.state, reason=change.reason, failure=change.failure)

    # --- who is who

    def lacking(self, name: str) -> list[str]:
        return [needed for needed in self.needs[name] if not self.trials[needed].state.good]

    def students(self, name: str) -> Iterator[str]:
        return (each for each, needs in self.needs.items() if name in needs and self.trials[each].state == TrialState.WAITING)

    def dependents(self, name: str) -> Iterator[str]:
        below = {name}
        for each, needs in self.needs.items():
            if below & set(needs):
                below.add(each)
                if self.trials[each].state == TrialState.WAITING:
                    yield each

    def members(self, group: Group, of: str | None) -> Iterator[str]:
        match group:
            case Group.STUDENTS:
                assert of
                return (each for each in self.students(of) if not self.lacking(each))
            case Group.DEPENDENTS:
                assert of
                return self.dependents(of)
            case Group.RUNNING:
                return (name for name, trial in self.trials.items() if trial.state == TrialState.RUNNING)
            case Group.OPEN:
                return (name for name, trial in self.trials.items() if not trial.state.final)
            case Group.STARTABLE:
                return (name for name, trial in self.trials.items() if not trial.state.kept and not self.lacking(name))
            case Group.LACKING:
                return (name for name, trial in self.trials.items() if not trial.state.kept and self.lacking(name))
