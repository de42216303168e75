"""How much one token may ask for: requests a minute, and bytes of bodies a minute.

Counted in this process's memory: a limit guards the process from those who use it, and one that starts again has served nobody yet.
"""

import math
import time

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from api.access.settings import AccessSettings
from api.problems import ProblemError
from orchestrator.access.tokens import Holder

_BLOCK = 1000  # bytes that bodies are counted in


class Limits:
    """What is left to each token. Raises ProblemError 429, which says how long to wait."""

    def __init__(self, settings: AccessSettings) -> None:
        self._counter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._requests = RateLimitItemPerMinute(settings.requests, namespace="requests")
        self._blocks = RateLimitItemPerMinute(settings.body_bytes // _BLOCK, namespace="bodies")

    def take_request(self, holder: Holder) -> None:
        """One more request."""
        self._take(self._requests, holder, 1, f"{self._requests.amount:,} requests")

    def take_body(self, holder: Holder, size: int) -> None:
        """A body of so many bytes."""
        self._take(self._blocks, holder, math.ceil(size / _BLOCK), f"{self._blocks.amount * _BLOCK:,} bytes of bodies")

    def _take(self, item: RateLimitItem, holder: Holder, cost: int, told: str) -> None:
        if self._counter.hit(item, str(holder.token_id), cost=cost):
            return
        wait = max(1, math.ceil(self._counter.get_window_stats(item, str(holder.token_id)).reset_time - time.time()))
        refusal = ProblemError(
            429, "too-many-requests", "Too many requests", f"this token has had its {told} of a minute; try again in {wait} s"
        )
        refusal.headers["Retry-After"] = str(wait)
        raise refusal
