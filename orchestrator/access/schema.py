"""The tables of access. Of every secret only its SHA-256 is stored; times are milliseconds since 1970 (UTC)."""

from enum import StrEnum
from typing import Any

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from orchestrator.records.schema import Base, Id, state_of


class Scope(StrEnum):
    """What a token allows; each holds those before it."""

    READ = "read"  # look at everything but tokens, webhooks and the audit
    SUBMIT = "submit"  # and submit studies and schedules, cancel and resume one's own
    ADMIN = "admin"  # and those of others, tokens, webhooks, the audit

    def holds(self, other: "Scope") -> bool:
        """Whether who has this scope may do what asks for `other`."""
        order = list(Scope)
        return order.index(self) >= order.index(other)


class Token(Base):
    """A token of the service. It stays when it is revoked: the audit refers to it."""

    __tablename__ = "token"
    __table_args__ = {"sqlite_autoincrement": True}

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    owner: Mapped[str] = mapped_column(String(200))  # whose it is; what is submitted with it is theirs
    scope: Mapped[Scope] = mapped_column(state_of(Scope))
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    from_file: Mapped[bool] = mapped_column(default=False)  # the operator's, in the service's token file: another there takes its place
    created: Mapped[int]
    expires: Mapped[int | None]
    used: Mapped[int | None]  # last use, up to a minute late
    revoked: Mapped[int | None]


class Pass(Base):
    """What opens pages in the name of a token: a link that opens them once, or the session of a browser, which holds it as a cookie."""

    __tablename__ = "pass"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    token_id: Mapped[int] = mapped_column(ForeignKey("token.id", ondelete="CASCADE"), index=True)
    once: Mapped[bool]  # a link: gone with its first use
    expires: Mapped[int] = mapped_column(index=True)


class Act(Base):
    """Something that somebody changed."""

    __tablename__ = "act"
    __table_args__ = (Index(None, "subject", "id"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    time: Mapped[int]
    token_id: Mapped[int] = mapped_column(ForeignKey("token.id"))
    owner: Mapped[str] = mapped_column(String(200))  # of the token, then
    action: Mapped[str] = mapped_column(String(32))  # study.submit, schedule.pause, token.revoke, ...
    subject: Mapped[str] = mapped_column(String(64))  # what it was done to: "study 3"
    detail: Mapped[dict[str, Any]]
