"""What trains: a model with its optimizer, the schedule of its learning rate and the moving average of its weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_

from studies.recipes import RECIPES, optimizer_of
from studies.trial import TrialSpec
from workers.detectors.mixup import mix_until
from workers.training.averaging import WeightAverage
from workers.training.networks import exported
from workers.training.optimisation import optimisation, optimizer_for
from workers.training.precision import Precision
from workers.training.together import Together


class Member:
    """A model that learns from batches which it is given; it knows neither where they come from nor what is measured of it.

    model: a plain mmdet detector, or a student with teacher and distillers around it. batches: so many make an epoch.
    """

    def __init__(self, model: Any, spec: TrialSpec, batches: int, together: Together | None = None) -> None:
        schedule, network = spec.full_schedule, spec.network
        assert schedule.recipe
        assert schedule.epochs
        recipe, self.epochs = RECIPES[schedule.recipe], schedule.epochs
        self.model, self.distilled = model, bool(spec.distillers)
        self.parallel = (together or Together()).parallel(model, self.detector)
        self.parts = schedule.accumulate or 1  # batches that make a step
        self.batches = 0  # trained on so far
        config = optimisation(schedule, network)
        with DefaultScope.overwrite_default_scope("mmdet"):
            self.optimizer = optimizer_for(model, config["optim_wrapper"])
            self.schedulers = [self._scheduler(each, batches) for each in config["param_scheduler"]]
        self.clip: float | None = config["optim_wrapper"].get("clip_grad", {}).get("max_norm")
        self.backbone_lr = optimizer_of(recipe, network.detector, network.backbone, network.form).backbone_lr
        self.mixes = recipe.images == "pdf"
        self.average = WeightAverage(self.detector, schedule.average, recipe.average_ramp) if schedule.average else None
        self.precision = Precision(spec.precision, [self.detector, *([model.teacher] if self.distilled else [])], self.device)

    def _scheduler(self, config: dict[str, Any], batches: int) -> Any:
        """mmengine's scheduler of the learning rate, which steps with every batch or with every epoch."""
        end = self.epochs if config["by_epoch"] else self.epochs * batches
        return PARAM_SCHEDULERS.build({"end": end} | config, default_args={"optimizer": self.optimizer, "epoch_length": batches})

    @property
    def detector(self) -> nn.Module:
        """The plain detector inside the model."""
        detector: nn.Module = self.model.student if self.distilled else self.model
        return detector

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def lr(self) -> float:
        """The learning rate; the first group is the backbone's, which may have a share of it only."""
        return float(self.optimizer.param_groups[0]["lr"] / self.backbone_lr)

    @property
    def between_steps(self) -> bool:
        """Whether no part of a step is waiting for the others."""
        return self.batches % self.parts == 0

    def begin_epoch(self, epoch: int) -> None:
        """epoch: from 0."""
        self.model.train()
        if self.mixes:
            mix_until(self.model, epoch, self.epochs)

    def prepare(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A batch of the loader as the model takes it. Images are on their way to a GPU while the step before still runs there."""
        images = [image.to(self.device, non_blocking=True) for image in batch["inputs"]]
        data: dict[str, Any] = self.model.data_preprocessor({**batch, "inputs": images}, True)
        return data

    def learn(self, data: dict[str, Any]) -> dict[str, Tensor]:
        """Trains on one batch that was prepared: a step, or a part of one. Gives the losses, scalars, `loss` being their sum."""
        if self.distilled:
            self.model.iteration = self.batches // self.parts
        self.batches += 1
        with self._gradients_kept():
            with self.precision.autocast():
                outputs = self.parallel(**data, mode="loss")
            total, losses = self.model.parse_losses(outputs)
            self.precision.backward(total / self.parts)
        if self.between_steps:
            self._step()
            if self.average:
                self.average.update()
        for scheduler in self.schedulers:
            if not scheduler.by_epoch:
                scheduler.step()
        return dict(losses)

    def _gradients_kept(self) -> AbstractContextManager[None]:
        """Where a step has parts, the processes average the gradients of all of them at once, behind the last."""
        if self.between_steps or not isinstance(self.parallel, DistributedDataParallel):
            return nullcontext()
        kept: AbstractContextManager[None] = self.parallel.no_sync()
        return kept

    def _step(self) -> None:
        if self.clip:
            self.precision.unscaled(self.optimizer)
            # In the order of the optimizer's groups, as mmengine clips: another order sums the norm in another order.
            clip_grad_norm_([p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None], self.clip)
        self.precision.step(self.optimizer)
        self.optimizer.zero_grad()

    def forget_teacher(self) -> None:
        """Lets go of what the teacher saw, which other members of the same one may have asked for too."""
        if self.distilled:
            self.model.taught_by.forget()

    def end_epoch(self) -> None:
        for scheduler in self.schedulers:
            if scheduler.by_epoch:
                scheduler.step()

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the model has its averaged weights, where there are any: those that are evaluated and exported."""
        if self.average:
            self.average.swap()
        try:
            yield
        finally:
            if self.average:
                self.average.swap()

    def exported(self) -> dict[str, Tensor]:
        """The plain detector's state without adapters or teacher, to be written at once."""
        return exported(self.detector)

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on and that processes have in common. To be asked between steps."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "schedulers": [_plain(scheduler.state_dict()) for scheduler in self.schedulers],
            "scaler": self.precision.scaler.state_dict(),
            "batches": self.batches,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        if self.average:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        for scheduler, saved in zip(self.schedulers, state["schedulers"], strict=True):
            scheduler.load_state_dict(saved)
        if state.get("scaler"):  # empty but in float16
            self.precision.scaler.load_state_dict(state["scaler"])
        self.batches = state["batches"]


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """A scheduler's state without what cannot be loaded safely (it is rebuilt from the schedule)."""
    return {k: v for k, v in state.items() if isinstance(v, (int, float, str, bool, list, tuple, type(None)))}
