"""What the database refers to in the folders of trials, and the rows of it that nobody needs any more."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Select, delete, func, select, text
from sqlalchemy.orm import Session, sessionmaker

from orchestrator.machine import GOOD, StudyState, TrialState
from orchestrator.records.schema import MEASUREMENT, Attempt, Event, Lease, Outbox, Point, Study, Trial
from orchestrator.records.store import Store
from studies.measures import LEARNT

AT_ONCE = 500  # names in a statement: there is room for so many in every database
ROWS_AT_ONCE = 2000  # that are deleted in one transaction, which takes some milliseconds
AT_REST = tuple(state for state in StudyState if state.final)


@dataclass(frozen=True)
class Held:
    """What the database says of a trial's folder. referred: whether anything is known of it. done: when the training in it came to its
    end, in milliseconds since 1970, where nobody will ever go on from its last state; else None."""

    referred: bool
    done: int | None


class References:
    """The database as it stands behind the files."""

    def __init__(self, store: Store) -> None:
        self._reads = sessionmaker(store.engine)
        self._writes = sessionmaker(store.engine.execution_options(retort_writes=True))

    def held(self, folders: Sequence[str]) -> dict[str, Held]:
        """By name of the folder, at most AT_ONCE of them."""
        with self._reads() as session:
            return _held(session, folders)

    @contextmanager
    def unclaimed(self, folder: str) -> Iterator[Held]:
        """The same of one folder, which no driver can claim for as long as the block lasts; it should be short."""
        with self._writes.begin() as session:
            if session.get_bind().dialect.name == "postgresql":  # SQLite has one writer at a time, and this is one
                session.execute(text("LOCK TABLE lease IN SHARE MODE"))
            yield _held(session, [folder])[folder]

    def checkpoint_folders(self) -> set[str]:
        """Names of the folders that results point into, whosever trial they are."""
        found: set[str] = set()
        with self._reads() as session:
            for column in (Trial.checkpoint, Trial.best_checkpoint):
                found |= {Path(path).parent.name for path in session.scalars(select(column).where(column.is_not(None)).distinct()) if path}
        return found

    def over(self, study_id: int, attempt: int, before: int) -> bool:
        """Whether an attempt ended before that time, or was never known."""
        with self._reads() as session:
            row = session.get(Attempt, (study_id, attempt))
            return row is None or (row.ended is not None and row.ended < before)

    # --- rows

    def old_events(self, before: int) -> dict[int, int]:
        """How many events of trials and epochs there are, by study, of those that came to rest before that time."""
        query = select(Event.study_id, func.count()).join(Study).where(*_old_events(before)).group_by(Event.study_id)
        return self._counted(query)

    def old_points(self, before: int) -> dict[int, int]:
        """Likewise how many points of all epochs but each trial's last."""
        query = select(Trial.study_id, func.count()).select_from(Point).join(Trial).join(Study).where(*_old_points(before))
        return self._counted(query.group_by(Trial.study_id))

    def delete_events(self, study_id: int, before: int) -> int:
        """Deletes some of `old_events`; 0 when none are left."""
        some = select(Event.id).join(Study).where(*_old_events(before), Event.study_id == study_id).limit(ROWS_AT_ONCE)
        return self._deleted(delete(Event).where(Event.id.in_(some)))

    def delete_points(self, study_id: int, before: int) -> int:
        """Deletes those of `old_points` of one trial; 0 when none are left."""
        one = select(Point.trial_id).join(Trial).join(Study).where(*_old_points(before), Trial.study_id == study_id).limit(1)
        with self._reads() as session:
            trial = session.get(Trial, session.scalar(one) or 0)
        if trial is None:
            return 0
        return self._deleted(delete(Point).where(Point.trial_id == trial.id, Point.epoch < trial.epoch))

    def _counted(self, query: Select[int, int]) -> dict[int, int]:
        with self._reads() as session:
            return dict(session.execute(query.order_by(text("1"))).tuples().all())

    def _deleted(self, statement: Any) -> int:
        with self._writes.begin() as session:
            rows: int = session.execute(statement, execution_options={"synchronize_session": False}).rowcount  # type: ignore[attr-defined]
        return rows


def _old_events(before: int) -> tuple[Any, ...]:
    return Study.state.in_(AT_REST), Study.finished < before, Event.kind.in_(("trial", "trials", "epoch", "step"))


def _old_points(before: int) -> tuple[Any, ...]:
    """Of trials with results, whose final metrics are kept elsewhere, and of which MLflow knows everything."""
    untold = select(Outbox.id).where(Outbox.trial_id == Trial.id).exists()
    return Study.state.in_(AT_REST), Study.finished < before, Trial.state.in_(GOOD), Point.epoch < Trial.epoch, ~untold


def _held(session: Session, folders: Sequence[str]) -> dict[str, Held]:
    leased = set(session.scalars(select(Lease.folder).where(Lease.folder.in_(folders))))
    rows = select(Trial.folder, Trial.state, Trial.finished, Trial.role, Trial.spec, Study.state).join(Study)
    known: dict[str, list[Any]] = {}
    for row in session.execute(rows.where(Trial.folder.in_(folders))):
        known.setdefault(row[0], []).append(row)
    return {name: Held(name in known or name in leased, None if name in leased else _done(known.get(name, []))) for name in folders}


def _done(rows: Sequence[Any]) -> int | None:
    ends = [finished for _, state, finished, role, _, study in rows if state == TrialState.FINISHED and role != MEASUREMENT and study.final]
    running = any(state == TrialState.RUNNING for _, state, *_ in rows)
    read_later = any({use["id"] for use in (spec or {}).get("distillers", ())} & LEARNT for *_, spec, _ in rows)
    return None if running or read_later else max(ends, default=None)
