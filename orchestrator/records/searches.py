"""What a search has tried, as it is recorded: combinations as they are drawn, their ends, and the trials that a study gets for them.

Drawings and ends of a study's searches are numbered through, so that their order can be told again.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import func, select

from orchestrator import machine
from orchestrator.machine import StudyState, TrialState
from orchestrator.records.growth import add_trials, additions
from orchestrator.records.leases import holds
from orchestrator.records.patience import patient
from orchestrator.records.queries import Queries
from orchestrator.records.schema import Event, Suggestion, Trial
from orchestrator.records.unit import Unit, Units
from orchestrator.searching.tried import End, Outcome, Training, Tried
from studies.expand import Grown
from studies.presentation import Presentation, Row


class Searches(Queries, Units):
    """Units of work of a study's search, and what it is made from anew."""

    @patient
    def tried(self, study_id: int) -> dict[str, list[Tried]]:
        """By arm what was tried of it, in order."""
        found: dict[str, list[Tried]] = {}
        query = select(Suggestion).where(Suggestion.study_id == study_id).order_by(Suggestion.arm, Suggestion.number)
        with self._reads() as session:
            for row in session.scalars(query):
                found.setdefault(row.arm, []).append(as_tried(row))
        return found

    @patient
    def epochs_in_order(self, study_id: int, metric: str) -> list[tuple[str, int, int, float]]:
        """Trial, epoch, of how many, and the metric, of every epoch that was trained in this study, in the order in which they came."""
        query = select(Event.data).where(Event.study_id == study_id, Event.kind == "epoch").order_by(Event.id)
        with self._reads() as session:
            told = [data for data in session.scalars(query) if metric in data["metrics"]]
        return [(data["trial"], data["epoch"], data["epochs"], data["metrics"][metric]) for data in told]

    @patient
    def trainings(self, study_id: int, names: Iterable[str], metric: str) -> dict[str, tuple[Training, int]]:
        """What became of these trials, and when they ended (0 while they have not). metric: that whose epochs are wanted."""
        wanted = list(names)
        epochs = self.epochs_of(study_id, metric)
        query = select(Trial.name, Trial.state, Trial.metrics, Trial.finished).where(Trial.study_id == study_id, Trial.name.in_(wanted))
        with self._reads() as session:
            return {
                name: (Training(state.final, state == TrialState.STOPPED, metrics, epochs.get(name, {})), finished or 0)
                for name, state, metrics, finished in session.execute(query)
            }

    @patient
    def record_drawing(self, study_id: int, attempt: int, arm: str, number: int, values: Mapping[str, Any], grown: Grown) -> Tried | None:
        """A combination was drawn: its trials join the study. None where the study is being cancelled. Raises Superseded."""
        with self._unit(study_id, attempt) as unit:
            if unit.study.state != StudyState.RUNNING:
                return None
            known = unit.session.get(Suggestion, (study_id, arm, number))
            if known is None:  # else it was recorded, and the answer was lost
                known = Suggestion(study_id=study_id, arm=arm, number=number, row=grown.row.id, values=dict(values))
                known.trials, known.asked = list(grown.row.trials), _next(unit)
                unit.session.add(known)
                unit.note(f"{grown.row.title} is tried")
                _grow(unit, grown)
            return as_tried(known)

    @patient
    def record_end(self, study_id: int, attempt: int, arm: str, number: int, end: End) -> Tried:
        """All trials of a combination have their ends. Raises Superseded."""
        with self._unit(study_id, attempt) as unit:
            known = unit.session.get_one(Suggestion, (study_id, arm, number))
            if known.told is None:
                known.told, known.outcome = _next(unit), end.outcome
                known.goals, known.epochs = list(end.goals), {str(epoch): value for epoch, value in end.by_epoch.items()}
            return as_tried(known)

    @patient
    def record_found(self, study_id: int, attempt: int, arm: str, found: Sequence[tuple[Grown, Row]]) -> bool:
        """A search has its best: rows of the table, with their trials on fresh seeds. False where the study is being cancelled."""
        with self._unit(study_id, attempt) as unit:
            if unit.study.state != StudyState.RUNNING:
                return False
            presentation = Presentation.model_validate(unit.study.presentation)
            if any(search.arm == arm and search.found for search in presentation.searches):
                return True
            for grown, _ in found:
                _grow(unit, grown)
            unit.study.presentation = _with_rows(presentation, arm, [row for _, row in found]).model_dump(mode="json")
            return True

    @patient
    def end_search(self, study_id: int, attempt: int) -> None:
        """Nothing is added to the study any more."""
        with self._unit(study_id, attempt) as unit:
            if unit.study.searching:
                unit.advance(machine.SearchEnded())

    @patient
    def stop_trials(self, study_id: int, attempt: int, names: Iterable[str], fences: Mapping[str, int]) -> list[str]:
        """Gives trials up that have no promise: one that runs under its lease (fences, by name), or that is not started. Gives those that
        are stopped now. Raises Superseded, LeaseLost."""
        stopped = []
        with self._unit(study_id, attempt) as unit:
            for name in names:
                trial = unit.trial(name)
                mine = holds(unit, trial, fences[name]) if name in fences else trial.state == TrialState.READY
                if mine and trial.state in (TrialState.READY, TrialState.RUNNING):
                    unit.advance(machine.TrialStopped(name))
                    stopped.append(name)
        return stopped


def as_tried(row: Suggestion) -> Tried:
    """A recorded combination."""
    end = None
    if row.told is not None:
        assert row.outcome
        end = End(Outcome(row.outcome), tuple(row.goals or ()), {int(epoch): value for epoch, value in (row.epochs or {}).items()})
    return Tried(row.number, row.row, row.values, tuple(row.trials), row.asked, row.told, end)


def _next(unit: Unit) -> int:
    """The next place in the history of a study's searches."""
    last = func.max(func.coalesce(Suggestion.told, 0)), func.max(Suggestion.asked)
    told, asked = unit.session.execute(select(*last).where(Suggestion.study_id == unit.study.id)).one()
    return max(told or 0, asked or 0) + 1


def _grow(unit: Unit, grown: Grown) -> None:
    added = add_trials(unit.session, unit.study.id, additions(grown))
    if added:
        unit.advance(machine.TrialsAdded(added))
        unit.event("trials", {"group": "added", "state": TrialState.READY, "count": sum(added.values()), "reason": None, "failure": None})


def _with_rows(presentation: Presentation, arm: str, rows: Sequence[Row]) -> Presentation:
    """The layout with an arm's best behind its default."""
    place = next(index for index, row in enumerate(presentation.rows) if row.id == arm) + 1
    searches = [
        search.model_copy(update={"found": tuple(row.id for row in rows)}) if search.arm == arm else search
        for search in presentation.searches
    ]
    both = (*presentation.rows[:place], *rows, *presentation.rows[place:])
    return presentation.model_copy(update={"rows": both, "searches": tuple(searches)})
