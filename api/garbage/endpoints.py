"""Routes of garbage: what may go by the service's policy, and its removal."""

from collections.abc import Iterable
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from api.access.callers import AuditOf, HolderOf, needs
from api.dependencies import SettingsOf, StoreOf
from orchestrator.access.schema import Scope
from orchestrator.garbage.garbage import Found, Garbage, Kind
from orchestrator.garbage.policy import Policy

router = APIRouter(prefix="/v1", tags=["health"], dependencies=[needs(Scope.ADMIN)])
LARGEST = 20  # that are named


class Sum(BaseModel):
    """All of one kind."""

    kind: Kind
    count: int = Field(description="trials, folders, attempts or studies")
    bytes: int
    rows: int = Field(description="of the database")
    largest: list[str] = Field(description=f"names of the largest ones, at most {LARGEST}")


class GarbageAnswer(BaseModel):
    """What may go, or went."""

    items: list[Sum]
    bytes: int
    policy: dict[str, float | None] = Field(description="days after which each kind may go; null: never")


After = Annotated[
    float | None, Query(ge=0, le=100_000, description="days, in place of the policy's, for the kinds of files that may go at all")
]


def _garbage(store: StoreOf, settings: SettingsOf, after: After = None) -> Garbage:
    return Garbage(store, settings, Policy.from_environment().after(after))


GarbageOf = Annotated[Garbage, Depends(_garbage)]


@router.get("/garbage")
def garbage(garbage: GarbageOf) -> GarbageAnswer:
    """What nobody needs any more, by the policy. Nothing changes."""
    return _told(garbage, garbage.find())


@router.post("/garbage:collect")
def collect(garbage: GarbageOf, holder: HolderOf, audit: AuditOf) -> GarbageAnswer:
    """Remove it. What somebody comes to need meanwhile stays."""
    garbage.empty()
    told = _told(garbage, filter(None, map(garbage.remove, garbage.find())))
    audit.note(holder, "garbage.collect", "garbage", bytes=told.bytes, rows=sum(each.rows for each in told.items))
    return told


def _told(garbage: Garbage, found: Iterable[Found]) -> GarbageAnswer:
    kinds: dict[Kind, list[Found]] = {}
    for each in found:
        kinds.setdefault(each.kind, []).append(each)
    items = [
        Sum(
            kind=kind,
            count=len(kinds[kind]),
            bytes=sum(each.bytes for each in kinds[kind]),
            rows=sum(each.rows for each in kinds[kind]),
            largest=[each.name for each in sorted(kinds[kind], key=lambda each: -(each.bytes or each.rows))[:LARGEST]],
        )
        for kind in Kind
        if kind in kinds
    ]
    return GarbageAnswer(items=items, bytes=sum(item.bytes for item in items), policy=garbage.policy.days())
