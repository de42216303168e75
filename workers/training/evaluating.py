"""What is measured of a network on the validation images: AP in every epoch, everything that applies at the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from mmengine.evaluator import Evaluator
from torch import nn
from torch.utils.data import DataLoader

from studies.trial import ERROR_CURVES, TrialSpec
from workers.evaluation.costs import costs
from workers.evaluation.precision import DetectionMetric
from workers.files import write_atomically


class Evaluation:
    """Measures a network with the weights that it has.

    every: epochs from one evaluation to the next. constants: metrics that are known beforehand, and told with every measurement.
    """

    def __init__(
        self, spec: TrialSpec, loader: DataLoader[Any], metric: DetectionMetric, folder: Path, constants: dict[str, float]
    ) -> None:
        self.spec, self.loader, self.metric, self.folder, self.constants = spec, loader, metric, folder, constants
        self.every = spec.full_schedule.val_interval or 1
        self.evaluator = Evaluator(metric)
        self.evaluator.dataset_meta = getattr(loader.dataset, "metainfo", None)

    def __call__(self, model: Any, detector: nn.Module, thorough: bool, alive: Callable[[], None] = lambda: None) -> dict[str, float]:
        """The metrics of a model's detections; thorough: all that there are, and the costs of the plain detector in it.

        alive: called after every batch.

        Leaves the model in eval mode, and the error curves, where they are measured, beside the trial.
        """
        self.metric.thorough = thorough
        model.eval()
        with torch.no_grad(), nullcontext() if thorough else without_masks(detector):
            for batch in self.loader:
                self.evaluator.process(data_samples=model.val_step(batch), data_batch=batch)
                alive()
        dataset: Any = self.loader.dataset
        measured = {**self.evaluator.evaluate(len(dataset)), **self.constants}
        if thorough:
            measured |= costs(self.spec.network, self.spec.scale, detector, dataset)
        if self.metric.curves:
            write_atomically(json.dumps(self.metric.curves).encode(), self.folder / ERROR_CURVES)
        return measured


@contextmanager
def without_masks(detector: nn.Module) -> Iterator[None]:
    """A detector that predicts boxes alone meanwhile: masks are measured at the end only, and on a CPU take most of an evaluation."""
    head: Any = getattr(detector, "roi_head", None)
    masks = getattr(head, "mask_head", None)
    if masks is None:
        yield
        return
    head.mask_head = None
    try:
        yield
    finally:
        head.mask_head = masks
