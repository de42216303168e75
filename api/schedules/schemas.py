"""Schedules as they are asked for and answered."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from orchestrator.machine import StudyState
from orchestrator.schedules.due import Misfire, Overlap
from orchestrator.schedules.times import BadTime, check_cron, check_zone
from studies.spec import refuse


def _cron(value: str) -> str:
    try:
        return check_cron(value)
    except BadTime as error:
        raise refuse("bad_cron", str(error)) from None


def _zone(value: str) -> str:
    try:
        return check_zone(value)
    except BadTime as error:
        raise refuse("bad_zone", str(error)) from None


class NewSchedule(BaseModel):
    """A schedule as it is asked for."""

    model_config = ConfigDict(extra="forbid")

    study: dict[str, Any] = Field(description="the spec of the study, kept as it is now")
    cron: Annotated[str, Field(max_length=200), AfterValidator(_cron)] = Field(
        description="minute, hour, day of month, month, day of week", examples=["0 2 * * 6"]
    )
    tz: Annotated[str, Field(max_length=64), AfterValidator(_zone)] = Field(
        "UTC", description="zone of the time zone database", examples=["Europe/Paris"]
    )
    misfire: Misfire = Field(Misfire.ONCE, description="missed times: once for all of them, or skip")
    overlap: Overlap = Field(Overlap.SKIP, description="while the study before is running: skip, queue (one), or replace it")
    fresh: bool = Field(False, description="train again in spite of finished equals")
    name: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")] | None = Field(
        None, description="[the study's]"
    )
    source: Annotated[str, Field(max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$")] | None = Field(
        None, description="what the spec was read from: the id of a shipped study, or a file"
    )


class MovedAnswer(BaseModel):
    """A metric of a row that moved by more than its noise since the run before."""

    row: str
    title: str
    metric: str
    before: float
    now: float | None = Field(description="null: no result any more")
    noise: float
    seeds: int = Field(description="how many seeds both runs have")
    worse: bool


class RunAnswer(BaseModel):
    """What became of a due time."""

    due: datetime
    times: int = Field(description="how many due times it stands for: missed ones make one run")
    outcome: Literal["submitted", "waiting", "skipped", "replaced"]
    reason: str | None
    study: int | None
    state: StudyState | None = Field(description="of the study")
    against: int | None = Field(description="the study of the run before, which it was compared with")
    moved: list[MovedAnswer] | None = Field(description="null: not compared (yet)")


class ScheduleAnswer(BaseModel):
    """A schedule."""

    id: int
    name: str
    owner: str | None = Field(description="whose its studies are; null: from before there were tokens")
    source: str | None
    dataset: str
    scale: str
    cron: str
    tz: str
    misfire: Misfire
    overlap: Overlap
    fresh: bool
    paused: bool
    created: datetime
    next: list[datetime] = Field(description="the next three times, with the zone's offsets; empty while it is paused")
    last: RunAnswer | None


class ScheduleDetail(ScheduleAnswer):
    """A schedule with its study and its last runs, newest first."""

    spec: dict[str, Any]
    runs: list[RunAnswer]


class ScheduleList(BaseModel):
    """All schedules, oldest first."""

    items: list[ScheduleAnswer]


def schedule_schemas() -> dict[str, Any]:
    """JSON schema of a new schedule, whose body the endpoint reads itself."""
    schema = NewSchedule.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas: dict[str, Any] = schema.pop("$defs", {})
    schema["properties"]["study"] = {"$ref": "#/components/schemas/StudySpec"}
    return {**schemas, "NewSchedule": schema}
