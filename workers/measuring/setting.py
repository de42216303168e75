"""What a measurement works on: the detectors with their checkpoints, and the validation images as their training saw them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import DATASETS as DATASET_TYPES
from mmengine.dataset import pseudo_collate
from mmengine.registry import DefaultScope
from torch import Tensor

from studies.measurement import MeasurementSpec
from studies.recipes import RECIPES
from studies.spec import Schedule
from studies.trial import TeacherRef, TrialFailure, TrialSpec
from workers.datasets.images import dataset_config, manifest_of
from workers.datasets.loading import evaluation_loader
from workers.detectors.inputs import preprocessor_of
from workers.evaluation.precision import ground_truth
from workers.process import device_for
from workers.training.networks import opened


@dataclass(frozen=True)
class Measured:
    """What a measurement found: numbers, a JSON document, and the names of the files that it wrote."""

    metrics: dict[str, float]
    document: dict[str, Any]
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class View:
    """One validation image before the networks: `inputs` (1, 3, H, W) as the detector takes them and `taught` as its teacher does,
    `sample` mmdet's, with its objects."""

    position: int
    inputs: Tensor
    taught: Tensor
    sample: Any


@dataclass(frozen=True)
class Setting:
    """A measurement about to be made in `folder`; detectors and images are opened when they are first asked for.

    Raises TrialFailure where a checkpoint, the dataset or an image is not what the spec says.
    """

    spec: MeasurementSpec
    folder: Path
    data: Path

    @property
    def options(self) -> Any:
        """The options of the spec's kind."""
        return self.spec.chosen

    @cached_property
    def manifest(self) -> dict[str, Any]:
        return manifest_of(self.spec.dataset, self.data, "skip")  # the training has decided what to do about broken images

    @property
    def classes(self) -> list[str]:
        names: list[str] = self.manifest["classes"]
        return names

    @property
    def annotations(self) -> str:
        """COCO's annotation file of the validation split."""
        return str(self.data / self.spec.dataset / "val.json")

    @cached_property
    def truth(self) -> tuple[Any, list[int]]:
        """COCO's ground truth of the validation split, and the category id of every label."""
        return ground_truth(self.annotations, self.classes)

    @cached_property
    def detector(self) -> Any:
        return self.opened(self.spec.detector, "detector")

    @cached_property
    def teacher(self) -> Any:
        assert self.spec.teacher is not None
        return self.opened(self.spec.teacher, "teacher")

    def opened(self, reference: TeacherRef, what: str) -> Any:
        """The mmdet model of a checkpoint as it trained, on the device, in eval mode, without gradients."""
        return opened(reference, what, len(self.classes), self.spec.gpus).eval().requires_grad_(False)

    @cached_property
    def preprocessor(self) -> Any:
        """What makes a collated batch a network's: the detector's own, or one that also gives the teacher its images."""
        made = preprocessor_of(self.detector, self.teacher) if self.spec.teacher else self.detector.data_preprocessor
        return made.to(device_for(self.spec.gpus))

    @cached_property
    def dataset(self) -> Any:
        """mmdet's validation split, at the detector's input size."""
        trial = TrialSpec(dataset=self.spec.dataset, scale=self.spec.scale, network=self.spec.detector.network, schedule=Schedule(), seed=0)
        recipe = RECIPES[str(trial.full_schedule.recipe)]
        with DefaultScope.overwrite_default_scope("mmdet"):
            return DATASET_TYPES.build(dataset_config(trial, self.data, "val", self.manifest, recipe, self.spec.limit))

    def batches(self) -> Iterator[Any]:
        """The validation split, batch by batch, as a training's validation has it."""
        workers = 4 if self.spec.gpus else 0
        yield from evaluation_loader(self.dataset, workers)

    def views(self) -> Iterator[View]:
        """The images that the options choose, one by one."""
        count = len(self.dataset)
        for position in self.options.images:
            if position >= count:
                raise TrialFailure("user", f"options.images: the validation split has images 0 to {count - 1}, there is no {position}")
            batch = self.preprocessor(pseudo_collate([self.dataset[position]]), False)
            yield View(position, batch["inputs"], batch.get("teacher_inputs", batch["inputs"]), batch["data_samples"][0])


def levels_of(model: Any, inputs: Tensor) -> tuple[Tensor, ...]:
    """The pyramid of images (N, 3, H, W), each level (N, C, H_l, W_l)."""
    with torch.no_grad():
        levels: tuple[Tensor, ...] = model.extract_feat(inputs)
    return levels
