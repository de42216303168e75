"""The processes that train one trial together, each on a share of every batch, and what they tell one another.

Whoever starts them makes torch's process group first; without one a process is alone, and nothing here costs it anything.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")


class Together:
    """This process among those that train with it. rank: its number, from 0. world: how many there are.

    Decisions and results are the first one's. They travel between CPUs, so that a GPU is not waited for.
    """

    def __init__(self) -> None:
        several = distributed.is_available() and distributed.is_initialized()
        self.rank, self.world = (distributed.get_rank(), distributed.get_world_size()) if several else (0, 1)
        self.group: Any = distributed.new_group(backend="gloo") if self.world > 1 else None

    @property
    def first(self) -> bool:
        """Whether it is the one that reports and writes."""
        return self.rank == 0

    def agreed(self, *decisions: bool) -> tuple[bool, ...]:
        """The first one's decisions: what follows from clocks and files is decided once."""
        if self.world == 1:
            return decisions
        told = torch.tensor(decisions, dtype=torch.uint8)
        distributed.broadcast(told, 0, group=self.group)
        return tuple(bool(each) for each in told.tolist())

    def summed(self, totals: Tensor) -> Tensor:
        """The sum of a tensor over all."""
        if self.world == 1:
            return totals
        total = totals.cpu()
        distributed.all_reduce(total, group=self.group)
        return total

    def gathered(self, own: T) -> list[T]:
        """What each has, in the order of their numbers; everybody gets it."""
        if self.world == 1:
            return [own]
        found: list[Any] = [None] * self.world
        distributed.all_gather_object(found, own, group=self.group)
        return found

    def from_first(self, value: T) -> T:
        """What the first one has."""
        if self.world == 1:
            return value
        told: list[Any] = [value]
        distributed.broadcast_object_list(told, 0, group=self.group)
        found: T = told[0]
        return found

    def parallel(self, model: nn.Module, detector: nn.Module) -> nn.Module:
        """The model as it learns with the others: gradients are averaged, norms of the detector that train see all images of a batch."""
        if self.world == 1:
            return model
        for module in detector.modules():
            if type(module) is nn.BatchNorm2d and any(parameter.requires_grad for parameter in module.parameters()):
                module.__class__ = SharedBatchNorm
        device = next(model.parameters()).device
        return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None, forward_sync_buffers=False)


class SumOfAll(torch.autograd.Function):
    """The sum of a tensor over all processes, whose gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        total = own.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return SumOfAll.forward(ctx, gradients[0])


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch norm over the images of all processes; torch's own (SyncBatchNorm) knows GPUs alone. Every process has as many cells."""

    def forward(self, features: Tensor) -> Tensor:
        if not self.training:
            return super().forward(features)
        assert self.momentum is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        count = features.numel() // features.shape[1] * distributed.get_world_size()
        own = torch.stack([features.sum((0, 2, 3)), features.square().sum((0, 2, 3))]) / count
        mean, square = SumOfAll.apply(own)
        variance = (square - mean.square()).clamp(min=0)
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / max(count - 1, 1)), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        shift = self.bias - mean * scale
        return features * scale[:, None, None] + shift[:, None, None]
