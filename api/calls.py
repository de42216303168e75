"""What the service can be asked, one method a route."""

import uuid
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from api.asking import Asking
from api.exchange import Steps, call

_CHECKS_SECONDS = 180.0  # the service gives a silent node a minute
_GARBAGE_SECONDS = 3600.0  # large files take their time to go
_TRIALS_A_PAGE = 1000


class Calls(Asking):
    """Everything that can be asked. Every call raises Unreachable and Refused."""

    @call
    def submit(self, spec: Any, idempotency_key: str | None = None, priority: int = 0) -> Steps[dict[str, Any]]:
        """Submit a study once, however often the connection breaks."""
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        return self._json("POST", "/v1/studies", json=spec, headers=headers, params={"priority": priority} if priority else {})

    @call
    def plan(self, spec: Any) -> Steps[dict[str, Any]]:
        """What the study would run."""
        return self._json("POST", "/v1/studies:plan", json=spec)

    @call
    def plans(self, specs: list[Any]) -> Steps[dict[str, Any]]:
        """What several studies would run, one after the other."""
        return self._json("POST", "/v1/plans", json={"studies": specs})

    @call
    def studies(self, cursor: str | None = None, limit: int = 50, owner: str | None = None) -> Steps[dict[str, Any]]:
        """A page of studies, newest first; with `owner`, theirs alone."""
        asked = {"limit": limit, "cursor": cursor, "owner": owner}
        return self._json("GET", "/v1/studies", params={name: value for name, value in asked.items() if value is not None})

    @call
    def study(self, study: int) -> Steps[dict[str, Any]]:
        """One study."""
        return self._json("GET", f"/v1/studies/{study}")

    @call
    def trials(self, study: int, names: Sequence[str] = ()) -> Steps[list[dict[str, Any]]]:
        """All its trials, teachers first, or those of these names; page by page."""
        asked: dict[str, Any] = {"limit": _TRIALS_A_PAGE, **({"name": list(names)} if names else {})}
        page = yield from self._json("GET", f"/v1/studies/{study}/trials", params=asked)
        trials: list[dict[str, Any]] = page["items"]
        while page["next"]:
            page = yield from self._json("GET", f"/v1/studies/{study}/trials", params={**asked, "cursor": page["next"]})
            trials += page["items"]
        return trials

    @call
    def tables(self) -> Steps[list[dict[str, Any]]]:
        """The papers' tables, each at every scale it was run at."""
        return self._items("GET", "/v1/tables")

    @call
    def table(self, study: int, form: str = "md") -> Steps[str]:
        """Its table as text."""
        return (yield from self._send("GET", f"/v1/studies/{study}/table", params={"format": form})).text

    @call
    def figures(self, study: int) -> Steps[list[dict[str, Any]]]:
        """Its pictures: name, and where each is as svg and png."""
        return self._items("GET", f"/v1/studies/{study}/figures")

    @call
    def best(self, study: int) -> Steps[dict[str, Any]]:
        """What its searches found, and its spec with that filled in."""
        return self._json("GET", f"/v1/studies/{study}/best")

    @call
    def file(self, path: str) -> Steps[bytes]:
        """What the service has at a path of its own."""
        return (yield from self._send("GET", path)).content

    @call
    def logs(self, study: int, trial: str | None = None, cursor: str | None = None) -> Steps[dict[str, Any]]:
        """A piece of what its drivers, or one of its trials, printed."""
        wanted = {"trial": trial, "cursor": cursor}
        return self._json("GET", f"/v1/studies/{study}/logs", params={name: value for name, value in wanted.items() if value is not None})

    @call
    def cancel(self, study: int) -> Steps[dict[str, Any]]:
        """Stop it gracefully, keeping what is trained."""
        return self._json("POST", f"/v1/studies/{study}:cancel")

    @call
    def resume(self, study: int) -> Steps[dict[str, Any]]:
        """Queue what is not finished again."""
        return self._json("POST", f"/v1/studies/{study}:resume")

    @call
    def prioritize(self, study: int, priority: int) -> Steps[dict[str, Any]]:
        """Set its priority in the queue."""
        return self._json("POST", f"/v1/studies/{study}:prioritize", params={"priority": priority})

    @call
    def pause(self, study: int) -> Steps[dict[str, Any]]:
        """Grant it no devices."""
        return self._json("POST", f"/v1/studies/{study}:pause")

    @call
    def unpause(self, study: int) -> Steps[dict[str, Any]]:
        """Let it go on."""
        return self._json("POST", f"/v1/studies/{study}:unpause")

    @call
    def queue(self) -> Steps[list[dict[str, Any]]]:
        """The studies that wait for devices, the next one first."""
        return self._items("GET", "/v1/queue")

    @call
    def timeline(self, study: int) -> Steps[dict[str, Any]]:
        """When its trials had devices."""
        return self._json("GET", f"/v1/studies/{study}/timeline")

    @call
    def owners(self) -> Steps[list[dict[str, Any]]]:
        """What owners may have and have had, by name."""
        return self._items("GET", "/v1/owners")

    @call
    def set_quota(self, owner: str, quota: dict[str, Any]) -> Steps[dict[str, Any]]:
        """Set what an owner may have."""
        return self._json("PUT", f"/v1/owners/{quote(owner, safe='')}", json=quota)

    @call
    def resend(self) -> Steps[int]:
        """Tell MLflow what was set aside; how many changes these are."""
        return int((yield from self._json("POST", "/v1/outbox:resend"))["rows"])

    @call
    def garbage(self, after: float | None = None) -> Steps[dict[str, Any]]:
        """What is stored and no longer needed. after: days, in place of the policy's for files."""
        return self._json("GET", "/v1/garbage", params={} if after is None else {"after": after}, timeout=_GARBAGE_SECONDS)

    @call
    def collect_garbage(self, after: float | None = None) -> Steps[dict[str, Any]]:
        """Remove it; what went."""
        return self._json("POST", "/v1/garbage:collect", params={} if after is None else {"after": after}, timeout=_GARBAGE_SECONDS)

    @call
    def add_schedule(self, wanted: dict[str, Any]) -> Steps[dict[str, Any]]:
        """A new schedule."""
        return self._json("POST", "/v1/schedules", json=wanted)

    @call
    def schedules(self) -> Steps[list[dict[str, Any]]]:
        """All schedules, oldest first."""
        return self._items("GET", "/v1/schedules")

    @call
    def schedule(self, schedule: int) -> Steps[dict[str, Any]]:
        """One schedule with its runs, newest first."""
        return self._json("GET", f"/v1/schedules/{schedule}")

    @call
    def pause_schedule(self, schedule: int) -> Steps[dict[str, Any]]:
        """Submit nothing of it until it is resumed."""
        return self._json("POST", f"/v1/schedules/{schedule}:pause")

    @call
    def resume_schedule(self, schedule: int) -> Steps[dict[str, Any]]:
        """Submit again what is due from now on."""
        return self._json("POST", f"/v1/schedules/{schedule}:resume")

    @call
    def remove_schedule(self, schedule: int) -> Steps[None]:
        """Submit nothing of it any more; its studies stay."""
        yield from self._send("DELETE", f"/v1/schedules/{schedule}")

    @call
    def alive(self) -> Steps[dict[str, Any]]:
        """What the service says of itself: that it lives, and its version."""
        return self._json("GET", "/healthz")

    @call
    def ready(self) -> Steps[dict[str, Any]]:
        """Whether it can serve, and how the orchestrator is. Raises Refused where its database does not answer."""
        return self._json("GET", "/readyz")

    @call
    def checks(self) -> Steps[list[dict[str, Any]]]:
        """What the service finds of its deployment; takes as long as the slowest node."""
        return self._items("POST", "/v1/checks", timeout=_CHECKS_SECONDS)

    @call
    def tokens(self) -> Steps[list[dict[str, Any]]]:
        """All tokens, oldest first."""
        return self._items("GET", "/v1/tokens")

    @call
    def create_token(self, wanted: dict[str, Any]) -> Steps[dict[str, Any]]:
        """A new token, with its secret in `token`."""
        return self._json("POST", "/v1/tokens", json=wanted)

    @call
    def revoke_token(self, token: int) -> Steps[dict[str, Any]]:
        """Answer nothing to it any more."""
        return self._json("DELETE", f"/v1/tokens/{token}")

    @call
    def link(self) -> Steps[str]:
        """An address that opens the pages once."""
        return self.url + str((yield from self._json("POST", "/v1/links"))["path"])

    @call
    def audit(self, cursor: str | None = None, limit: int = 50, subject: str | None = None) -> Steps[dict[str, Any]]:
        """A page of who changed what, newest first."""
        asked = {"limit": limit, "cursor": cursor, "subject": subject}
        return self._json("GET", "/v1/audit", params={name: value for name, value in asked.items() if value is not None})

    @call
    def webhooks(self) -> Steps[list[dict[str, Any]]]:
        """All webhooks, oldest first."""
        return self._items("GET", "/v1/webhooks")

    @call
    def webhook(self, webhook: int) -> Steps[dict[str, Any]]:
        """One webhook with its last messages, newest first."""
        return self._json("GET", f"/v1/webhooks/{webhook}")

    @call
    def add_webhook(self, wanted: dict[str, Any]) -> Steps[dict[str, Any]]:
        """A new webhook, with what its messages are signed with in `secret`."""
        return self._json("POST", "/v1/webhooks", json=wanted)

    @call
    def remove_webhook(self, webhook: int) -> Steps[None]:
        """Tell it nothing more."""
        yield from self._send("DELETE", f"/v1/webhooks/{webhook}")

    @call
    def catalog(self, what: str) -> Steps[list[dict[str, Any]]]:
        """The names of one kind that a spec may use."""
        return self._items("GET", f"/v1/catalog/{what}")
