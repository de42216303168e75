"""A study locked for one transaction: its state moves by `machine.advance` alone, and what follows from a move is written.

Nothing here grows with the study but what a move itself changes: the machine is shown the trial that an event is about, the numbers
of those around it, and how many trials are in which state.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import bindparam, case, delete, func, insert, literal, select, update
from sqlalchemy.orm import Session

from orchestrator import machine
from orchestrator.machine import Group, StudyState, TrialState
from orchestrator.records.database import Database
from orchestrator.records.errors import Superseded
from orchestrator.records.groups import LAST_LACKING, members
from orchestrator.records.rows import locked_study, trial_row
from orchestrator.records.schema import MEASUREMENT, DeviceGrant, Event, Lease, Need, Outbox, Trial, table_of

# Rows that nobody looks at again in their transaction: no objects are made of them.
_TELL, _SEND = insert(table_of(Event)), insert(table_of(Outbox))
_END_LEASE = delete(table_of(Lease)).where(Lease.trial_id == bindparam("trial"))
_END_GRANT = delete(table_of(DeviceGrant)).where(DeviceGrant.trial_id == bindparam("trial"))
_SHOWN = (TrialState.RUNNING, TrialState.FAILED, *machine.KEPT)  # MLflow is told of a trial in these states


class Units(Database):
    """Opens units of work."""

    @contextmanager
    def _unit(self, study_id: int, attempt: int | None = None) -> Iterator["Unit"]:
        """One transaction on a study. attempt: who asks, where only the driver of the live attempt may. Raises NoSuchStudy, Superseded."""
        with self._writes.begin() as session:
            unit = Unit(session, study_id, self.now())
            if attempt is not None:
                unit.require(attempt)
            yield unit


class Unit:
    """A study in a transaction; `advance` moves it and writes what follows from that."""

    def __init__(self, session: Session, study_id: int, now: int) -> None:
        self.session = session
        self.now = now
        self.study, self.attempt = locked_study(session, study_id)
        self._lack_more: set[str] = set()  # trials that are needed by others which lack more than that
        self._trials: dict[str, Trial] = {}

    def require(self, attempt: int) -> None:
        """Raises Superseded unless this attempt is the live one."""
        if self.attempt != attempt:
            raise Superseded(f"attempt {attempt} of study {self.study.id} is over")

    def trial(self, name: str) -> Trial:
        """Raises machine.IllegalMove where there is none."""
        if name not in self._trials:
            row = trial_row(self.session, self.study.id, name)
            if row is None:
                raise machine.IllegalMove(self._with_story(self._shown()), f"it has no trial {name!r}")
            self._trials[name] = row
        return self._trials[name]

    def advance(self, happened: machine.Event) -> None:
        shown = self._shown(happened)
        try:
            moved, changes = machine.advance(shown, happened)
        except machine.IllegalMove as refused:
            raise machine.IllegalMove(self._with_story(shown), refused.why) from None
        self.study.stalls, self.study.searching = moved.stalls, moved.searching
        if moved.counts != shown.counts:
            self.study.counts = {state.value: count for state, count in moved.counts.items()}
        for change in changes:
            match change:
                case machine.StudyChange():
                    self._study_changed(change)
                case machine.TrialChange():
                    self._trial_changed(change)
                case machine.GroupChange():
                    self._group_changed(change)
        self._lower_lacking()

    # --- what the machine is shown

    def _shown(self, happened: machine.Event | None = None) -> machine.Study:
        study = self.study
        name = getattr(happened, "trial", None)
        return machine.Study(
            label=f"study {study.id} ({study.name})",
            state=study.state,
            counts={TrialState(state): count for state, count in study.counts.items()},
            trials={name: self._around(name, happened)} if name else {},
            startable=self._number(Group.STARTABLE) if isinstance(happened, machine.ResumeRequested) else 0,
            first_reason=self._first_reason() if isinstance(happened, _ENDINGS) else None,
            stalls=study.stalls,
            searching=study.searching,
            driven=self.attempt is not None,
            reason=study.reason,
        )

    def _around(self, name: str, happened: machine.Event | None) -> machine.Trial:
        row = self.trial(name)
        good = isinstance(happened, machine.TrialFinished | machine.TrialCached)
        given_up = isinstance(happened, machine.TrialFailed | machine.TrialStopped)
        return machine.Trial(
            state=row.state,
            losses=row.losses,
            reason=row.reason,
            failure=row.failure,  # type: ignore[arg-type]
            students=self._students(row) if good else 0,
            dependents=self._number(Group.DEPENDENTS, row) if given_up else 0,
        )

    def _students(self, row: Trial) -> int:
        """How many trials wait for this one last; notes whether others need it that lack more."""
        last = func.sum(case((LAST_LACKING, 1), else_=0))
        numbers = select(func.count(), last).select_from(Need).join(Trial, Trial.id == Need.trial_id)
        needing, students = self.session.execute(numbers.where(Need.needed_id == row.id)).one()
        if needing > (students or 0):
            self._lack_more.add(row.name)
        return students or 0

    def _number(self, group: Group, of: Trial | None = None) -> int:
        found = self.session.scalar(select(func.count()).select_from(Trial).where(*members(self.study.id, group, of)))
        return found or 0

    def _first_reason(self) -> str | None:
        failed = select(Trial.reason).where(Trial.study_id == self.study.id, Trial.state == TrialState.FAILED)
        return self.session.scalar(failed.order_by(Trial.position).limit(1))

    # --- what follows from a move

    def _study_changed(self, change: machine.StudyChange) -> None:
        self.study.state, self.study.reason = change.state, change.reason
        self.study.finished = self.now if change.state.final else None
        if change.state.final:
            self.study.overtaken = None
        if change.state.final or change.state == StudyState.QUEUED:  # no driver, nobody trains
            self.session.execute(delete(Lease).where(Lease.study_id == self.study.id))
            self.session.execute(delete(DeviceGrant).where(DeviceGrant.study_id == self.study.id))
        self.event("study", {"state": change.state, "reason": change.reason})
        if change.state != StudyState.QUEUED:
            self.tell_mlflow(None)

    def _trial_changed(self, change: machine.TrialChange) -> None:
        row, trial = self.trial(change.name), change.trial
        row.state, row.reason, row.failure, row.losses = trial.state, trial.reason, trial.failure, trial.losses
        self.forget_sign(row)
        if trial.state == TrialState.RUNNING:
            row.started = row.started or self.now
        else:
            if change.before in (TrialState.READY, TrialState.RUNNING) and trial.state != TrialState.CACHED:
                self._pass_devices_on(row)
            self.session.execute(_END_LEASE, {"trial": row.id})
            self.session.execute(_END_GRANT, {"trial": row.id})
        row.finished = self.now if trial.state.final else None
        told: dict[str, Any] = {"trial": row.name, "state": trial.state, "before": change.before}
        told |= {"reason": trial.reason, "failure": trial.failure, "losses": trial.losses}
        self.event("trial", told | ({"metrics": row.metrics} if trial.state.good else {}))
        if row.role != MEASUREMENT and trial.state in _SHOWN:
            self.tell_mlflow(row)
        if trial.state.final:
            self.tell_mlflow(None)  # the table on the parent run

    def _pass_devices_on(self, row: Trial) -> None:
        """Who shared the devices of a trial that leaves has them now: the first of those, and the others beside it."""
        beside = list(self.session.scalars(select(DeviceGrant).where(DeviceGrant.beside == row.id).order_by(DeviceGrant.trial_id)))
        if not beside:
            return
        for grant in beside:
            grant.beside = beside[0].trial_id if grant is not beside[0] else None
        self.session.flush()

    def _lower_lacking(self) -> None:
        """Of the trials that need what has its results now; those that lacked nothing else have moved as a group before."""
        for name in self._lack_more:
            needing = select(Need.trial_id).where(Need.needed_id == self.trial(name).id)
            fewer = update(Trial).where(Trial.id.in_(needing), Trial.lacking > 0).values(lacking=Trial.lacking - 1)
            self.session.execute(fewer, execution_options={"synchronize_session": False})
        self._lack_more.clear()

    def _group_changed(self, change: machine.GroupChange) -> None:
        of = self.trial(change.of) if change.of else None
        chosen = members(self.study.id, change.group, of)
        if change.state in (TrialState.CANCELLED, *_SHOWN):
            # MLflow has no run of a cancelled trial that never started.
            known = [Trial.role != MEASUREMENT, *([Trial.started.is_not(None)] if change.state == TrialState.CANCELLED else [])]
            rows = select(Trial.study_id, Trial.id, literal(self.now)).where(*chosen, *known)
            self.session.execute(insert(Outbox).from_select(["study_id", "trial_id", "time"], rows))
        became: dict[str, Any] = {"state": change.state, "lacking": 0}
        if change.group != Group.STUDENTS:  # who waited has neither a reason nor an end, and there may be ten thousand of them
            ended = self.now if change.state.final else None
            became = {"state": change.state, "reason": change.reason, "failure": change.failure, "losses": 0, "finished": ended}
        moved = update(Trial).where(*chosen).values(**became)
        self.session.execute(moved, execution_options={"synchronize_session": False})
        told = {"group": change.group, "state": change.state, "count": change.count, "reason": change.reason, "failure": change.failure}
        self.event("trials", told | ({"of": change.of} if change.of else {}))
        if change.state.final:
            self.tell_mlflow(None)

    def forget_sign(self, trial: Trial) -> None:
        """Its last sign of life, and the event that told of it: there is one a trial at most."""
        if trial.sign:
            self.session.execute(delete(Event).where(Event.id == trial.sign["event"]))
            trial.sign = None

    def event(self, kind: str, data: dict[str, Any]) -> None:
        """Events, and rows of the outbox, have ids in the order in which they are added."""
        self.session.execute(_TELL, {"study_id": self.study.id, "kind": kind, "data": data, "time": self.now})

    def note(self, text: str) -> None:
        self.event("note", {"text": text})

    def tell_mlflow(self, trial: Trial | None, epoch: int | None = None) -> None:
        row = {"study_id": self.study.id, "trial_id": trial.id if trial else None, "epoch": epoch, "time": self.now}
        self.session.execute(_SEND, row)

    def _with_story(self, shown: machine.Study) -> machine.Study:
        """The study with its last events, for a message."""
        kinds = ("study", "trial", "trials", "note")
        query = select(Event).where(Event.study_id == self.study.id, Event.kind.in_(kinds)).order_by(Event.id.desc()).limit(8)
        story = [_sentence(event) for event in self.session.scalars(query)]
        return machine.Study(shown.label, shown.state, shown.counts, story=tuple(reversed(story)))


_ENDINGS = (machine.AllTrialsEnded, machine.Stopped, machine.AttemptLost)


def _sentence(happened: Event) -> str:
    data = happened.data
    match happened.kind:
        case "note":
            return str(data["text"])
        case "trial":
            who = f"trial {data['trial']}"
        case "trials":
            who = f"{data['count']} trials"
        case _:
            who = "study"
    return f"{who} {data['state']}" + (f" ({data['reason']})" if data.get("reason") else "")
