"""Routes of the outbox."""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.access.callers import needs
from api.dependencies import StoreOf
from orchestrator.access.schema import Scope

router = APIRouter(prefix="/v1/outbox:resend", tags=["health"], dependencies=[needs(Scope.ADMIN)])


class Resent(BaseModel):
    """What is to be sent after all."""

    rows: int = Field(description="how many changes that were set aside MLflow is told now")


@router.post("", status_code=202)
def resend(store: StoreOf) -> Resent:
    """Tell MLflow what it could not be told before and what was therefore set aside."""
    return Resent(rows=store.send_again())
