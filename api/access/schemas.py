"""Tokens and acts as they are asked for and answered."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.access.schema import Scope

Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]


class NewToken(BaseModel):
    """A token as it is asked for."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Name = Field(description="what it is for", examples=["nightly job"])
    owner: Name | None = Field(None, description="whose it is: what it submits is theirs [who asks]")
    scope: Annotated[Scope, Field(strict=False)] = Field(Scope.SUBMIT, description="each holds those before it")
    days: Annotated[int, Field(ge=1, le=3650)] | None = Field(90, description="until it expires; null: never")


class TokenAnswer(BaseModel):
    """A token, without its secret."""

    id: int
    name: str
    owner: str
    scope: Scope
    from_file: bool = Field(description="the operator's, from the service's token file")
    created: datetime
    expires: datetime | None
    used: datetime | None = Field(description="last use, up to a minute late")
    revoked: datetime | None


class MadeToken(TokenAnswer):
    """A new token."""

    token: str = Field(description="its secret, which is told this once")


class TokenList(BaseModel):
    """All tokens, oldest first."""

    items: list[TokenAnswer]


class LinkAnswer(BaseModel):
    """A link that opens the pages once."""

    path: str = Field(description="behind the service's address")
    expires: datetime


class ActAnswer(BaseModel):
    """Something that somebody changed."""

    id: int
    time: datetime
    owner: str = Field(description="who")
    token: int = Field(description="with which token")
    action: str = Field(description="study.submit, study.cancel, schedule.add, token.revoke, ...")
    subject: str = Field(description='to what: "study 3"')
    detail: dict[str, Any]


class ActPage(BaseModel):
    """Some acts, newest first. `next`: the cursor of the following page, null on the last."""

    items: list[ActAnswer]
    next: str | None
