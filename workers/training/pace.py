"""How fast an epoch goes: images, seconds, and how much of them the network waits for its images."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

TINY = 1e-9  # least time that is divided by, in seconds


class Pace:
    """Images of an epoch, the seconds that went into it (of all processes that worked on it), and those of them spent waiting.

    Time counts while it is `running`, and while it waits: members of a group share their process and their waits.
    """

    def __init__(self) -> None:
        self.images = 0
        self.waited = 0.0
        self.spent = 0.0  # seconds, but for those since it has been running
        self.trained: float | None = None  # seconds until its evaluation, once that has begun
        self.began: float | None = None

    @property
    def seconds(self) -> float:
        return self.spent + (0.0 if self.began is None else time.perf_counter() - self.began)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Inside, its time counts."""
        self.began = time.perf_counter()
        try:
            yield
        finally:
            self.spent, self.began = self.seconds, None

    def given(self, images: int, waited: float) -> None:
        """A batch of so many images has come, after a wait of so many seconds."""
        self.images += images
        self.waited += waited
        self.spent += waited

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
        self.images, self.waited, self.spent = state["images"], state["waited"], state["seconds"]


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
