"""A study loaded and locked for one transaction: its state moves by `machine.advance` alone, and what follows from a move is written."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from orchestrator import machine
from orchestrator.machine import StudyState, TrialState
from orchestrator.records.database import Database
from orchestrator.records.errors import Superseded
from orchestrator.records.rows import live_attempt, study_row, trial_rows
from orchestrator.records.schema import MEASUREMENT, Event, Lease, Outbox, Trial


class Units(Database):
    """Opens units of work."""

    @contextmanager
    def _unit(self, study_id: int, attempt: int | None = None) -> Iterator["Unit"]:
        with self._writes.begin() as session:
            unit = Unit(session, study_id, self.now())
            if attempt is not None:
                live = live_attempt(session, study_id)
                if live is None or live.number != attempt:
                    raise Superseded(f"attempt {attempt} of study {study_id} is over")
            yield unit


class Unit:
    """A study loaded and locked for one transaction; `advance` moves it and writes what follows from that."""

    def __init__(self, session: Session, study_id: int, now: int) -> None:
        self.session = session
        self.now = now
        self.study = study_row(session, study_id, lock=True)
        self.trials = trial_rows(session, study_id)
        self.machine = machine.Study(
            label=f"study {self.study.id} ({self.study.name})",
            state=StudyState(self.study.state),
            trials={name: _as_known(trial) for name, trial in self.trials.items()},
            stalls=self.study.stalls,
            driven=live_attempt(session, study_id) is not None,
            reason=self.study.reason,
        )

    def advance(self, happened: machine.Event) -> None:
        try:
            self.machine, changes = machine.advance(self.machine, happened)
        except machine.IllegalMove as refused:
            raise machine.IllegalMove(_with_story(self.session, self.machine), refused.why) from None
        self.study.stalls = self.machine.stalls
        for change in changes:
            if isinstance(change, machine.StudyChange):
                self._study_changed(change)
            else:
                self._trial_changed(change)

    def _study_changed(self, change: machine.StudyChange) -> None:
        self.study.state, self.study.reason = change.state, change.reason
        self.study.finished = self.now if change.state.final else None
        if change.state.final or change.state == StudyState.QUEUED:  # no driver, nobody trains
            self.session.execute(delete(Lease).where(Lease.study_id == self.study.id))
        self.event("study", {"state": change.state, "reason": change.reason})
        if change.state != StudyState.QUEUED:
            self.tell_mlflow(None)

    def _trial_changed(self, change: machine.TrialChange) -> None:
        row, trial = self.trials[change.name], change.trial
        row.state, row.reason, row.failure, row.losses = trial.state, trial.reason, trial.failure, trial.losses
        if trial.state == TrialState.RUNNING:
            row.started, row.finished = row.started or self.now, None
        else:
            self.session.execute(delete(Lease).where(Lease.trial_id == row.id))
        row.finished = self.now if trial.state.final else None
        self.event(
            "trial",
            {
                "trial": row.name,
                "state": trial.state,
                "before": change.before,
                "reason": trial.reason,
                "failure": trial.failure,
                "losses": trial.losses,
            }
            | ({"metrics": row.metrics} if trial.state.good else {}),
        )
        shown = trial.state in (TrialState.RUNNING, TrialState.FAILED) or trial.state.good
        if row.role != MEASUREMENT and (shown or (row.started is not None and trial.state == TrialState.CANCELLED)):
            self.tell_mlflow(row)
        if trial.state.final:
            self.tell_mlflow(None)  # the table on the parent run

    def event(self, kind: str, data: dict[str, Any]) -> None:
        self.session.add(Event(study_id=self.study.id, kind=kind, data=data, time=self.now))
        self.session.flush()  # ids in the order of happening

    def note(self, text: str) -> None:
        self.event("note", {"text": text})

    def tell_mlflow(self, trial: Trial | None, epoch: int | None = None) -> None:
        self.session.add(Outbox(study_id=self.study.id, trial_id=trial.id if trial else None, epoch=epoch, time=self.now))
        self.session.flush()


def _as_known(trial: Trial) -> machine.Trial:
    return machine.Trial(TrialState(trial.state), trial.needs, trial.losses, trial.reason, trial.failure)  # type: ignore[arg-type]


def _with_story(session: Session, study: machine.Study) -> machine.Study:
    """The study with its last events, for a message."""
    query = select(Event).where(Event.kind.in_(("study", "trial", "note"))).order_by(Event.id.desc()).limit(8)
    number = int(study.label.split()[1])
    told = [_told(event) for event in session.scalars(query.where(Event.study_id == number))]
    return machine.Study(study.label, study.state, study.trials, study.stalls, study.driven, study.reason, tuple(reversed(told)))


def _told(happened: Event) -> str:
    data = happened.data
    if happened.kind == "note":
        return str(data["text"])
    who = f"trial {data['trial']}" if happened.kind == "trial" else "study"
    return f"{who} {data['state']}" + (f" ({data['reason']})" if data.get("reason") else "")
