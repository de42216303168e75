"""What a trial does around mmengine's training loop, epoch by epoch."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from studies.recipes import Recipe, optimizer_of
from studies.trial import ERROR_CURVES, TrialFailure, TrialSpec
from workers.averaging import WeightAverage
from workers.files import write_atomically
from workers.measure import costs
from workers.mixup import mix_until
from workers.progress import EpochReport, Progress, detector_of

NAN_CHECK_INTERVAL = 50  # steps between looks at the loss; a look makes the device wait


class EpochHook(Hook):
    """What a trial does around mmengine's loop: seeds, sums losses on the device, reports, writes and reads the checkpoint."""

    def __init__(
        self,
        spec: TrialSpec,
        folder: Path,
        constants: dict[str, float],
        recipe: Recipe,
        progress: Progress,
        report: Callable[[EpochReport], None],
    ) -> None:
        self.spec, self.folder, self.constants, self.recipe, self.progress, self.report = spec, folder, constants, recipe, progress, report
        self.average: WeightAverage | None = None
        self.sums: dict[str, Tensor] = {}
        self.losses: dict[str, float] = {}
        self.steps = self.images = 0
        self.started = self.trained = time.perf_counter()

    def before_train(self, runner: Runner) -> None:
        if self.recipe.average:
            self.average = WeightAverage(detector_of(runner.model, self.spec), self.recipe.average)
        if self.progress.state:
            self.progress.restore(runner, self.average)

    def before_train_epoch(self, runner: Runner) -> None:
        seed_everything(self.spec.seed, runner.epoch + 1)
        if self.recipe.images == "pdf":
            mix_until(runner.model, runner.epoch, runner.max_epochs)
        self.sums, self.steps, self.images = {}, 0, 0
        self.started = time.perf_counter()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        if self.spec.distillers:
            runner.model.iteration = runner.iter // runner.optim_wrapper._accumulative_counts  # steps, not forward passes

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        for name, value in outputs.items():
            self.sums[name] = self.sums[name] + value.detach() if name in self.sums else value.detach().clone()
        if self.average:
            self.average.update()
        self.steps += 1
        self.images += len(data_batch["inputs"])
        if self.steps % NAN_CHECK_INTERVAL == 0:
            self._losses()

    def after_train_epoch(self, runner: Runner) -> None:
        self.losses = self._losses()
        self.trained = time.perf_counter()

    def before_val_epoch(self, runner: Runner) -> None:
        """Everything is measured once, after the last epoch; the epochs before it get their AP."""
        if self.average:
            self.average.swap()
        if self.spec.weights or runner.epoch >= runner.max_epochs:
            runner.val_evaluator.metrics[0].thorough = True

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        ended = time.perf_counter()
        measured = {**(metrics or {}), **self.constants}
        if runner.val_evaluator.metrics[0].thorough:
            detector = detector_of(runner.model, self.spec)
            measured |= costs(self.spec.network, self.spec.scale, detector, runner.val_dataloader.dataset)
        curves = runner.val_evaluator.metrics[0].curves
        if curves:
            write_atomically(json.dumps(curves).encode(), self.folder / ERROR_CURVES)
        measured.update(self.losses)
        measured["epoch_seconds"] = ended - self.started
        if self.spec.weights:
            done = EpochReport(1, 1, measured)
            self.progress.add(done, runner.model, self.spec, self.folder)
        else:
            measured["images_per_second"] = self.images / (self.trained - self.started)
            network = self.spec.network
            of_backbone = optimizer_of(self.recipe, network.detector, network.backbone, network.form).backbone_lr
            measured["lr"] = runner.optim_wrapper.get_lr()["lr"][0] / of_backbone  # the first group is the backbone's
            done = EpochReport(runner.epoch, runner.max_epochs, measured)
            self.progress.add(done, runner.model, self.spec, self.folder)
            if self.average:
                self.average.swap()
            self.progress.save(runner, self.average, self.folder)
        self.report(done)

    def after_train(self, runner: Runner) -> None:
        """What is exported is what was evaluated."""
        if self.average:
            self.average.swap()

    def _losses(self) -> dict[str, float]:
        """Mean losses so far. Raises TrialFailure("nan") naming the losses that are not finite."""
        means = {name: float(total) / self.steps for name, total in self.sums.items()}
        bad = [name for name, mean in means.items() if not math.isfinite(mean) and (name != "loss" or len(means) == 1)]
        if bad:
            raise TrialFailure("nan", f"{', '.join(sorted(bad))} became NaN or infinite; lower the learning rate or the distiller's weight")
        return means


def seed_everything(seed: int, epoch: int) -> None:
    """Seeds python, numpy and torch from (seed, epoch); epoch 0 is the drawing of the weights."""
    mixed = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
    random.seed(mixed)
    np.random.seed(mixed)
    torch.manual_seed(mixed)
