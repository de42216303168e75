"""The service's client: one method a route, problems raised with their fields, events as an iterator that can go on where it ended."""

import json
import os
import time
import uuid
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import httpx

from api.embedded.stack import load_stack
from api.profiles import NoSuchProfile, Profile, read_profile
from studies.home import retort_home

_RETRY_SECONDS = 10.0  # how long a request that may be repeated waits for a service that restarts
_CHECKS_SECONDS = 180.0  # the service gives a silent node a minute
_GARBAGE_SECONDS = 3600.0  # large files take their time to go
_TRIALS_A_PAGE = 1000
_MOST_WAITS = 3  # for a token's next minute
_SILENCE_SECONDS = 40.0  # the event stream says something every 15 s, if only that it is there


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


class Client:
    """A connection to one service. Raises Unreachable and Refused."""

    def __init__(self, url: str | None = None, token: str | None = None, profile: str | None = None) -> None:
        meant = Profile(url, token or service_token(url.rstrip("/"))) if url else service(profile)
        self.url = meant.url.rstrip("/")
        self._compared = False
        token = token or meant.token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False)

    def submit(self, spec: Any, idempotency_key: str | None = None) -> dict[str, Any]:
        """Submit a study once, however often the connection breaks."""
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        return self._json("POST", "/v1/studies", json=spec, headers=headers)

    def plan(self, spec: Any) -> dict[str, Any]:
        """What the study would run."""
        return self._json("POST", "/v1/studies:plan", json=spec)

    def plans(self, specs: list[Any]) -> dict[str, Any]:
        """What several studies would run, one after the other."""
        return self._json("POST", "/v1/plans", json={"studies": specs})

    def studies(self, cursor: str | None = None, limit: int = 50) -> dict[str, Any]:
        """A page of studies, newest first."""
        return self._json("GET", "/v1/studies", params={"limit": limit, **({"cursor": cursor} if cursor else {})})

    def study(self, study: int) -> dict[str, Any]:
        """One study."""
        return self._json("GET", f"/v1/studies/{study}")

    def trials(self, study: int, names: Sequence[str] = ()) -> list[dict[str, Any]]:
        """All its trials, teachers first, or those of these names; page by page."""
        asked: dict[str, Any] = {"limit": _TRIALS_A_PAGE, **({"name": list(names)} if names else {})}
        page = self._json("GET", f"/v1/studies/{study}/trials", params=asked)
        trials: list[dict[str, Any]] = page["items"]
        while page["next"]:
            page = self._json("GET", f"/v1/studies/{study}/trials", params={**asked, "cursor": page["next"]})
            trials += page["items"]
        return trials

    def tables(self) -> list[dict[str, Any]]:
        """The papers' tables, each at every scale it was run at."""
        items: list[dict[str, Any]] = self._send("GET", "/v1/tables").json()["items"]
        return items

    def table(self, study: int, form: str = "md") -> str:
        """Its table as text."""
        return self._send("GET", f"/v1/studies/{study}/table", params={"format": form}).text

    def figures(self, study: int) -> list[dict[str, Any]]:
        """Its pictures: name, and where each is as svg and png."""
        items: list[dict[str, Any]] = self._json("GET", f"/v1/studies/{study}/figures")["items"]
        return items

    def file(self, path: str) -> bytes:
        """What the service has at a path of its own."""
        return self._send("GET", path).content

    def logs(self, study: int, trial: str | None = None, cursor: str | None = None) -> dict[str, Any]:
        """A piece of what its drivers, or one of its trials, printed."""
        wanted = {"trial": trial, "cursor": cursor}
        return self._json("GET", f"/v1/studies/{study}/logs", params={name: value for name, value in wanted.items() if value is not None})

    def cancel(self, study: int) -> dict[str, Any]:
        """Stop it gracefully, keeping what is trained."""
        return self._json("POST", f"/v1/studies/{study}:cancel")

    def resume(self, study: int) -> dict[str, Any]:
        """Queue what is not finished again."""
        return self._json("POST", f"/v1/studies/{study}:resume")

    def resend(self) -> int:
        """Tell MLflow what was set aside; how many changes these are."""
        rows: int = self._json("POST", "/v1/outbox:resend")["rows"]
        return rows

    def garbage(self, after: float | None = None) -> dict[str, Any]:
        """What is stored and no longer needed. after: days, in place of the policy's for files."""
        return self._json("GET", "/v1/garbage", params=_given(after=after), timeout=_GARBAGE_SECONDS)

    def collect_garbage(self, after: float | None = None) -> dict[str, Any]:
        """Remove it; what went."""
        return self._json("POST", "/v1/garbage:collect", params=_given(after=after), timeout=_GARBAGE_SECONDS)

    def add_schedule(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """A new schedule."""
        return self._json("POST", "/v1/schedules", json=wanted)

    def schedules(self) -> list[dict[str, Any]]:
        """All schedules, oldest first."""
        items: list[dict[str, Any]] = self._json("GET", "/v1/schedules")["items"]
        return items

    def schedule(self, schedule: int) -> dict[str, Any]:
        """One schedule with its runs, newest first."""
        return self._json("GET", f"/v1/schedules/{schedule}")

    def pause_schedule(self, schedule: int) -> dict[str, Any]:
        """Submit nothing of it until it is resumed."""
        return self._json("POST", f"/v1/schedules/{schedule}:pause")

    def resume_schedule(self, schedule: int) -> dict[str, Any]:
        """Submit again what is due from now on."""
        return self._json("POST", f"/v1/schedules/{schedule}:resume")

    def remove_schedule(self, schedule: int) -> None:
        """Submit nothing of it any more; its studies stay."""
        self._send("DELETE", f"/v1/schedules/{schedule}")

    def alive(self) -> dict[str, Any]:
        """What the service says of itself: that it lives, and its version."""
        return self._json("GET", "/healthz")

    def ready(self) -> dict[str, Any]:
        """Whether it can serve, and how the orchestrator is. Raises Refused where its database does not answer."""
        return self._json("GET", "/readyz")

    def checks(self) -> list[dict[str, Any]]:
        """What the service finds of its deployment; takes as long as the slowest node."""
        items: list[dict[str, Any]] = self._json("POST", "/v1/checks", timeout=_CHECKS_SECONDS)["items"]
        return items

    def tokens(self) -> list[dict[str, Any]]:
        """All tokens, oldest first."""
        items: list[dict[str, Any]] = self._json("GET", "/v1/tokens")["items"]
        return items

    def create_token(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """A new token, with its secret in `token`."""
        return self._json("POST", "/v1/tokens", json=wanted)

    def revoke_token(self, token: int) -> dict[str, Any]:
        """Answer nothing to it any more."""
        return self._json("DELETE", f"/v1/tokens/{token}")

    def link(self) -> str:
        """An address that opens the pages once."""
        return self.url + str(self._json("POST", "/v1/links")["path"])

    def audit(self, cursor: str | None = None, limit: int = 50, subject: str | None = None) -> dict[str, Any]:
        """A page of who changed what, newest first."""
        asked = {"limit": limit, "cursor": cursor, "subject": subject}
        return self._json("GET", "/v1/audit", params={name: value for name, value in asked.items() if value is not None})

    def webhooks(self) -> list[dict[str, Any]]:
        """All webhooks, oldest first."""
        items: list[dict[str, Any]] = self._json("GET", "/v1/webhooks")["items"]
        return items

    def webhook(self, webhook: int) -> dict[str, Any]:
        """One webhook with its last messages, newest first."""
        return self._json("GET", f"/v1/webhooks/{webhook}")

    def add_webhook(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """A new webhook, with what its messages are signed with in `secret`."""
        return self._json("POST", "/v1/webhooks", json=wanted)

    def remove_webhook(self, webhook: int) -> None:
        """Tell it nothing more."""
        self._send("DELETE", f"/v1/webhooks/{webhook}")

    def catalog(self, what: str) -> list[dict[str, Any]]:
        """The names of one kind that a spec may use."""
        items: list[dict[str, Any]] = self._json("GET", f"/v1/catalog/{what}")["items"]
        return items

    def events(self, study: int, after: int = 0) -> Iterator[StreamedEvent]:
        """The events after number `after`, as they happen; ends when the study is at rest.

        Raises Unreachable when the connection breaks: ask again, after the last event seen.
        """
        timeout = httpx.Timeout(30, read=_SILENCE_SECONDS)
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
        try:
            with self._http.stream("GET", f"/v1/studies/{study}/events", headers=headers, timeout=timeout) as response:
                if response.status_code != 200:
                    response.read()
                    raise _refusal(response)
                yield from _events(response.iter_lines())
        except httpx.HTTPError as error:
            raise Unreachable(self._nothing(error)) from None

    def _json(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        data: dict[str, Any] = self._send(method, path, **options).json()
        return data

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Repeat what may be repeated until the service is back (reads, and whatever carries an idempotency key)."""
        repeatable = method == "GET" or "Idempotency-Key" in options.get("headers", {})
        deadline, waits = time.monotonic() + _RETRY_SECONDS, 0
        while True:
            try:
                response = self._http.request(method, path, **options)
            except httpx.HTTPError as error:
                if not repeatable or time.monotonic() > deadline:
                    raise Unreachable(self._nothing(error)) from None
                time.sleep(0.3)
                continue
            if response.status_code == 503 and repeatable and time.monotonic() < deadline:
                time.sleep(0.3)
                continue
            if response.status_code == 429 and waits < _MOST_WAITS:  # refused before anything was done: may be repeated, whatever it is
                waits += 1
                time.sleep(min(60.0, float(response.headers.get("Retry-After", 1))))
                continue
            self._compare(response)
            if response.is_error:
                raise _refusal(response)
            return response

    def _compare(self, response: httpx.Response) -> None:
        """Say once when the service is of another version."""
        there, here = response.headers.get("retort-version"), version("retort")
        if there and there != here and not self._compared:
            told = f"the service at {self.url} is Retort {there}, this is {here}; what one of them does not know may fail"
            warnings.warn(told, OtherVersion, stacklevel=4)
        self._compared = True

    def _nothing(self, error: Exception) -> str:
        if isinstance(error, httpx.ConnectError):
            return f"nothing answers at {self.url}; start it with `retort up`"
        return f"the connection to {self.url} broke ({error or type(error).__name__})"


def _given(**options: Any) -> dict[str, Any]:
    """Those that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def _refusal(response: httpx.Response) -> Refused:
    try:
        return Refused(response.json())
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError):
        return Refused({"status": response.status_code, "detail": f"{response.url} answers {response.status_code}: {response.text[:200]}"})


def _events(lines: Iterator[str]) -> Iterator[StreamedEvent]:
    """Server-sent events from the lines of a stream (an empty line ends an event, a colon opens a comment)."""
    fields: dict[str, str] = {}
    for line in lines:
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif "data" in fields:
            yield StreamedEvent(int(fields.get("id", 0)), fields.get("event", "message"), json.loads(fields["data"]))
            fields = {}
