"""Routes of the outbox."""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.access.callers import AuditOf, HolderOf, needs
from api.dependencies import StoreOf
from orchestrator.access.schema import Scope

router = APIRouter(prefix="/v1/outbox:resend", tags=["health"], dependencies=[needs(Scope.ADMIN)])


class Resent(BaseModel):
    """What is to be sent after all."""

    rows: int = Field(description="how many changes that were set aside MLflow is told now")


@router.post("", status_code=202)
def resend(store: StoreOf, holder: HolderOf, audit: AuditOf) -> Resent:
    """Tell MLflow what it could not be told before and what was therefore set aside."""
    rows = store.send_again()
    audit.note(holder, "outbox.resend", "outbox", rows=rows)
    return Resent(rows=rows)
