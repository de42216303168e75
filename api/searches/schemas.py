"""The best of a search as it is answered."""

from typing import Any

from pydantic import BaseModel, Field


class GoalAnswer(BaseModel):
    """What a search is for."""

    metric: str
    over: str = Field(description="mean: of the seeds; lower: the worse end of their 95% interval")
    searched: float = Field(description="the value that chose it, on the search's seeds")
    confirmed: float | None = Field(description="the mean over fresh seeds; null before there is one")
    half_width: float | None = Field(description="of its 95% interval")


class BestAnswer(BaseModel):
    """A combination that nothing beats; of a search with several objectives one of the Pareto front."""

    arm: str
    title: str
    number: int = Field(description="it was tried as this one, from 1")
    values: dict[str, Any]
    goals: list[GoalAnswer]


class BestList(BaseModel):
    """The best of every searched arm, so far or for good."""

    final: bool = Field(description="whether the searches are over")
    items: list[BestAnswer]
    spec: dict[str, Any] = Field(description="the study with the best values filled in, and no search")
