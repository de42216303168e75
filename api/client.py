"""The service's client: a connection that blocks (the command's) or is awaited, and the events of a study as an iterator."""

import json
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from api.asking import OtherVersion, Refused, Unreachable, refusal
from api.calls import Calls
from api.embedded.stack import load_stack
from api.exchange import Awaiting, Blocking, Steps, run_awaiting, run_blocking
from api.profiles import NoSuchProfile, Profile, read_profile
from studies.home import retort_home

__all__ = ["AsyncClient", "Client", "OtherVersion", "Refused", "StreamedEvent", "Unreachable", "service", "service_token"]

T = TypeVar("T")
_SILENCE_SECONDS = 40.0  # the event stream says something every 15 s, if only that it is there


@dataclass(frozen=True)
class StreamedEvent:
    """One event of a study: `id` rises; `kind` is study, trial, epoch, note or regression."""

    id: int
    kind: str
    data: dict[str, Any]


def service(profile: str | None = None) -> Profile:
    """The service that is meant: of the profile, else $RETORT_URL, else $RETORT_PROFILE, else the stack of this home; no guess beyond, it
    may be somebody else's. Raises Unreachable."""
    named = profile or (None if os.environ.get("RETORT_URL") else os.environ.get("RETORT_PROFILE"))
    try:
        if named:
            return read_profile(named)
    except NoSuchProfile as error:
        raise Unreachable(str(error)) from None
    if url := os.environ.get("RETORT_URL"):
        return Profile(url, service_token(url))
    stack = load_stack()
    if stack is None:
        raise Unreachable(f"nothing is up ($RETORT_HOME is {retort_home()}); start it with `retort up`, or set RETORT_URL")
    return Profile(stack.url("api"), service_token(stack.url("api")))


def service_token(url: str) -> str | None:
    """The token for a service: $RETORT_TOKEN, else that of this home's stack where it is its service; no other is shown it."""
    if token := os.environ.get("RETORT_TOKEN"):
        return token
    stack = load_stack()
    return stack.operator_token() if stack and stack.url("api") == url else None


class Client(Calls, Blocking):
    """A connection to one service."""

    def __init__(self, url: str | None = None, token: str | None = None, profile: str | None = None) -> None:
        self.url, options = _connection(url, token, profile)
        self._http = httpx.Client(**options)

    def run(self, steps: Steps[T]) -> T:
        """What the steps come to."""
        return run_blocking(steps, self._http)

    def close(self) -> None:
        """Let go of the connection."""
        self._http.close()

    def events(self, study: int, after: int = 0) -> Iterator[StreamedEvent]:
        """The events after number `after`, as they happen; ends when the study is at rest.

        Raises Unreachable when the connection breaks: ask again, after the last event seen.
        """
        reader = _EventReader()
        try:
            with self._http.stream("GET", f"/v1/studies/{study}/events", **_listening(after)) as response:
                if response.status_code != 200:
                    response.read()
                    raise refusal(response)
                yield from filter(None, map(reader.event, response.iter_lines()))
        except httpx.HTTPError as error:
            raise self.unreachable(error) from None


class AsyncClient(Calls, Awaiting):
    """The same for `await`."""

    def __init__(self, url: str | None = None, token: str | None = None, profile: str | None = None) -> None:
        self.url, options = _connection(url, token, profile)
        self._http = httpx.AsyncClient(**options)

    async def run(self, steps: Steps[T]) -> T:
        """What the steps come to."""
        return await run_awaiting(steps, self._http)

    async def close(self) -> None:
        """Let go of the connection."""
        await self._http.aclose()

    async def events(self, study: int, after: int = 0) -> AsyncIterator[StreamedEvent]:
        """As `Client.events`."""
        reader = _EventReader()
        try:
            async with self._http.stream("GET", f"/v1/studies/{study}/events", **_listening(after)) as response:
                if response.status_code != 200:
                    await response.aread()
                    raise refusal(response)
                async for line in response.aiter_lines():
                    if event := reader.event(line):
                        yield event
        except httpx.HTTPError as error:
            raise self.unreachable(error) from None


def _connection(url: str | None, token: str | None, profile: str | None) -> tuple[str, dict[str, Any]]:
    """Where the service is, and what httpx is to know of it."""
    meant = Profile(url, token or service_token(url.rstrip("/"))) if url else service(profile)
    address, token = meant.url.rstrip("/"), token or meant.token
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return address, {"base_url": address, "headers": headers, "timeout": 30, "trust_env": False}


def _listening(after: int) -> dict[str, Any]:
    headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
    return {"headers": headers, "timeout": httpx.Timeout(30, read=_SILENCE_SECONDS)}


class _EventReader:
    """Server-sent events from the lines of a stream (an empty line ends an event, a colon opens a comment)."""

    def __init__(self) -> None:
        self._fields: dict[str, str] = {}

    def event(self, line: str) -> StreamedEvent | None:
        """The event that this line ends."""
        if line:
            name, _, value = line.partition(":")
            self._fields[name] = value.removeprefix(" ")
            return None
        fields, self._fields = self._fields, {}
        return (
            StreamedEvent(int(fields.get("id", 0)), fields.get("event", "message"), json.loads(fields["data"]))
            if "data" in fields
            else None
        )
