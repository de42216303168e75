"""Webhooks and their deliveries as they are asked for and answered."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from orchestrator.webhooks.addresses import BadUrl, allowed_networks, check_url
from studies.spec import refuse

Kind = Literal["study.finished", "study.failed", "study.regression"]


def _url(value: str) -> str:
    try:
        return check_url(value, allowed_networks())
    except BadUrl as error:
        raise refuse("bad_url", str(error)) from None


class NewWebhook(BaseModel):
    """A webhook as it is asked for."""

    model_config = ConfigDict(extra="forbid")

    url: Annotated[str, Field(max_length=2000), AfterValidator(_url)] = Field(
        description="what is told, by POST", examples=["https://receiver.example/retort"]
    )
    events: list[Kind] = Field(["study.finished", "study.failed", "study.regression"], min_length=1, max_length=10, description="of what")


class WebhookAnswer(BaseModel):
    """A webhook, without its secret."""

    id: int
    url: str
    owner: str = Field(description="who added it")
    events: list[Kind]
    created: datetime


class MadeWebhook(WebhookAnswer):
    """A new webhook."""

    secret: str = Field(description="what its messages are signed with (Standard Webhooks), told this once")


class TryAnswer(BaseModel):
    """One try to send a message."""

    time: datetime
    status: int | None = Field(description="what the receiver answered; null: nothing")
    error: str | None


class DeliveryAnswer(BaseModel):
    """A message to a webhook."""

    message: str = Field(description="its id (header webhook-id)")
    event: Kind
    state: Literal["delivered", "waiting", "given up"]
    created: datetime
    next: datetime | None = Field(description="of the next try")
    tries: list[TryAnswer] = Field(description="oldest first")
    content: dict[str, Any]


class WebhookDetail(WebhookAnswer):
    """A webhook with its last messages, newest first."""

    deliveries: list[DeliveryAnswer]


class WebhookList(BaseModel):
    """All webhooks, oldest first."""

    items: list[WebhookAnswer]
