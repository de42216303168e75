"""The route of the deployment's checks. It starts a small job on every node, so it is a POST and takes seconds."""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.access.callers import needs
from api.dependencies import SettingsOf, StoreOf
from orchestrator.access.schema import Scope
from orchestrator.cluster import deployment


class Check(BaseModel):
    """One thing that was looked at."""

    name: str
    found: str
    mend: str = Field(description="what to do; empty where it is well")


class Checks(BaseModel):
    """All that was looked at."""

    items: list[Check]


router = APIRouter(tags=["health"], dependencies=[needs(Scope.ADMIN)])


@router.post("/v1/checks")
def check(store: StoreOf, settings: SettingsOf) -> Checks:
    """Looks at database, MLflow, Ray and every node: devices, code, shared state, clocks."""
    return Checks(items=[Check(name=each.name, found=each.found, mend=each.mend) for each in deployment.checks(store, settings)])
