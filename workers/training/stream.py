"""The batches that a training learns from, in an order that follows from (seed, epoch) alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from workers.datasets.loading import training_loader


class Stream:
    """Batches of a training dataset (see `workers.datasets.loading.training_loader`), epoch by epoch."""

    def __init__(
        self, dataset: Any, seed: int, batch_size: int, one_shape: bool, loaders: int, parts: int, share: tuple[int, int] = (0, 1)
    ) -> None:
        self.seed = seed
        self.loader: Any = training_loader(dataset, seed, batch_size, one_shape, loaders, parts, share)

    def __len__(self) -> int:
        """Batches of an epoch."""
        return len(self.loader)

    def epoch(self, epoch: int, skip: int) -> Iterator[Any]:
        """The batches of an epoch, counted from 0, but for the first `skip`. Draws from torch's generator once, now."""
        self.loader.batch_sampler.begin(epoch, skip)
        return iter(self.loader)
