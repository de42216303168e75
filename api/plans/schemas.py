"""Plans of several studies as they are answered, and what is asked."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from api.studies.schemas import PlanSums

MOST = 100  # studies of a request
MOST_TRIALS = 20_000  # of them together


class PlansRequest(BaseModel):
    """Studies that run one after the other."""

    studies: list[dict[str, Any]] = Field(
        min_length=1, max_length=MOST, description="each as POST /v1/studies takes it: a spec, a table, or {table: ID, scale: paper}"
    )


class StudyShare(PlanSums):
    """A study, and what of it is left to run beside the studies before it."""

    name: str
    table: str | None = Field(description="id of the shipped table that it is")
    scale: str
    dataset: str
    device: Literal["cpu", "gpu"]
    trials: int
    shared: int = Field(description="trials that a study before it has too")
    reused: int = Field(description="of the others: an equal finished trial serves")


class PlanTotal(PlanSums):
    """All studies, every trial once."""

    trials: int
    reused: int


class PlansAnswer(BaseModel):
    """What the studies would run, in the order of the request."""

    studies: list[StudyShare]
    total: PlanTotal
    efficiency: str = Field(description="what estimates assume")
