"""How fast an epoch goes: images, seconds, and how much of them the network waits for its images."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterable, Iterator
from typing import Any

import torch

TINY = 1e-9  # least time that is divided by, in seconds


class Pace:
    """Images of an epoch, the seconds since it began (of all processes that worked on it), and those of them spent waiting."""

    def __init__(self) -> None:
        self.images = 0
        self.waited = 0.0
        self.before = 0.0  # seconds that an earlier process spent on this epoch
        self.trained: float | None = None  # seconds until its evaluation, once that has begun
        self.began = time.perf_counter()

    @property
    def seconds(self) -> float:
        return self.before + time.perf_counter() - self.began

    def timed(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The batches, counted, and the time each lets wait."""
        asked = time.perf_counter()
        for batch in batches:
            self.waited += time.perf_counter() - asked
            self.images += len(batch["inputs"])
            yield batch
            asked = time.perf_counter()

    def end_training(self) -> None:
        """What follows is evaluation, and changes no rate of the training."""
        self.trained = self.seconds

    @property
    def images_per_second(self) -> float:
        return self.images / max(self.trained or self.seconds, TINY)

    @property
    def data_share(self) -> float:
        """Of the training's time, spent waiting for images: 0 to 1."""
        return self.waited / max(self.trained or self.seconds, TINY)

    def state_dict(self) -> dict[str, Any]:
        return {"images": self.images, "waited": self.waited, "seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.images, self.waited, self.before = state["images"], state["waited"], state["seconds"]
        self.began = time.perf_counter()


class Due:
    """Says that something is due again: after so many seconds, or, where `steps` is given, after so many calls."""

    def __init__(self, seconds: float, steps: int | None = None) -> None:
        self.seconds, self.steps = seconds, steps
        self.calls, self.last = 0, time.monotonic()

    def __call__(self) -> bool:
        """To be asked after every step."""
        self.calls += 1
        if self.calls != self.steps and time.monotonic() - self.last < self.seconds:
            return False
        self.calls, self.last = 0, time.monotonic()
        return True


def memory() -> float:
    """The most memory that this process has had, in GiB: the device's where it trains on one, else its own."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_reserved() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
