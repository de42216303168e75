"""How a service is asked: repeated while it may be, waited for, and refused in its own words. Steps only, no connection."""

import json
import time
import warnings
from importlib.metadata import version
from typing import Any

import httpx

from api.exchange import Pause, Request, Steps

_RETRY_SECONDS = 10.0  # how long a request that may be repeated waits for a service that restarts
_MOST_WAITS = 3  # for a token's next minute


class OtherVersion(UserWarning):
    """Client and service are of two versions; the text says which."""


class Unreachable(Exception):
    """Nothing answers where the service should be."""


class Refused(Exception):
    """The service answered with a problem document."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.status = int(document.get("status", 0))
        self.kind = str(document.get("type", "")).rsplit(":", 1)[-1]
        self.errors: list[dict[str, str]] = document.get("errors", [])
        self.title, self.detail = str(document.get("title", "")), str(document.get("detail", ""))
        super().__init__("\n".join(self.lines()))

    def lines(self) -> list[str]:
        """What is wrong, one "field: message" a line."""
        return [f"{e['field']}: {e['message']}" if e["field"] else e["message"] for e in self.errors] or [self.detail or self.title]


class Asking:
    """One who asks the service at `url`."""

    url: str
    _compared = False

    def _items(self, method: str, path: str, **options: Any) -> Steps[list[dict[str, Any]]]:
        items: list[dict[str, Any]] = (yield from self._json(method, path, **options))["items"]
        return items

    def _json(self, method: str, path: str, **options: Any) -> Steps[dict[str, Any]]:
        data: dict[str, Any] = (yield from self._send(method, path, **options)).json()
        return data

    def _send(self, method: str, path: str, **options: Any) -> Steps[httpx.Response]:
        """Repeat what may be repeated until the service is back (reads, and whatever carries an idempotency key)."""
        repeatable = method == "GET" or "Idempotency-Key" in options.get("headers", {})
        deadline, waits = time.monotonic() + _RETRY_SECONDS, 0
        while True:
            try:
                response: httpx.Response = yield Request(method, path, options)
            except httpx.HTTPError as error:
                if not repeatable or time.monotonic() > deadline:
                    raise self.unreachable(error) from None
                yield Pause(0.3)
                continue
            if response.status_code == 503 and repeatable and time.monotonic() < deadline:
                yield Pause(0.3)
                continue
            if response.status_code == 429 and waits < _MOST_WAITS:  # refused before anything was done: may be repeated, whatever it is
                waits += 1
                yield Pause(min(60.0, float(response.headers.get("Retry-After", 1))))
                continue
            self._compare(response)
            if response.is_error:
                raise refusal(response)
            return response

    def _compare(self, response: httpx.Response) -> None:
        """Say once when the service is of another version."""
        there, here = response.headers.get("retort-version"), version("retort")
        if there and there != here and not self._compared:
            told = f"the service at {self.url} is Retort {there}, this is {here}; what one of them does not know may fail"
            warnings.warn(told, OtherVersion, stacklevel=2)
        self._compared = True

    def unreachable(self, error: httpx.HTTPError) -> Unreachable:
        """What an error of the connection means, and what to do."""
        if isinstance(error, httpx.ConnectError):
            return Unreachable(f"nothing answers at {self.url}; start it with `retort up`")
        return Unreachable(f"the connection to {self.url} broke ({error or type(error).__name__})")


def refusal(response: httpx.Response) -> Refused:
    """The problem document of an answer, or what stands in for one."""
    try:
        return Refused(response.json())
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError):
        return Refused({"status": response.status_code, "detail": f"{response.url} answers {response.status_code}: {response.text[:200]}"})
