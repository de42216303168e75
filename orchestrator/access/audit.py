"""Who did what, in the database: every change that somebody asked for is an act."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import sessionmaker

from orchestrator.access.schema import Act
from orchestrator.access.tokens import Holder
from orchestrator.records.store import Store


class Audit:
    """The acts of a store, on its clock."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._reads = sessionmaker(store.engine, expire_on_commit=False)
        self._writes = sessionmaker(store.engine.execution_options(retort_writes=True), expire_on_commit=False)

    def note(self, holder: Holder, action: str, subject: str, **detail: Any) -> None:
        """`holder` has done this."""
        with self._writes.begin() as session:
            session.add(
                Act(
                    time=self.store.now(),
                    token_id=holder.token_id,
                    owner=holder.owner,
                    action=action,
                    subject=subject,
                    detail=detail,
                )
            )

    def acts(self, cursor: int | None = None, limit: int = 50, subject: str | None = None) -> list[Act]:
        """Newest first; `cursor`: only those with a smaller id. subject: what they were done to ("study 3")."""
        query = select(Act).order_by(Act.id.desc()).limit(limit)
        query = query if cursor is None else query.where(Act.id < cursor)
        with self._reads() as session:
            return list(session.scalars(query if subject is None else query.where(Act.subject == subject)))
