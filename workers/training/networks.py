"""The model that trains: the plain detector, or the student with teacher and distillers around it, each with its start weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from studies.catalog import AS_CONFIGURED, start_of
from studies.recipes import RECIPES, Pretraining
from studies.trial import TeacherRef, TrialFailure, TrialSpec
from workers.detectors import build, describe, load_checkpoint, sized_by_classes
from workers.detectors.layout import channels_last
from workers.distillation.student import DistilledDetector
from workers.distillation.teacher import Teacher
from workers.files import file_sha256
from workers.process import device_for
from workers.training.seeding import seed_everything
from workers.weights.pretraining import load_pretrained
from workers.weights.starts import load_backbone, load_detector
from workers.weights.store import Store


def networks(spec: TrialSpec, classes: int, store: Store, taught: Path | None = None, teacher: Callable[[], Teacher] | None = None) -> Any:
    """The model, on its device. taught: weights of a backbone that was pretrained here. teacher: gives its teacher, which others may
    have too; None: it gets one of its own. Raises TrialFailure.

    At paper scale it starts from the weights that the papers' networks start from, at nano from a backbone that was pretrained here.
    """
    seed_everything(spec.seed, 0)
    student = build(spec.network, classes, spec.schedule.frozen_stages)
    start = start_weights(spec)
    if spec.weights:
        load_detector(student, spec.weights, store)
    elif start and start.startswith("imagenet/"):
        load_backbone(student, start, store)
    elif start:
        load_detector(student, start, store, of_classes=sized_by_classes(spec.network))
    elif taught:
        load_pretrained(student, taught)
    if spec.teacher is None:
        return _placed(student, spec.gpus)
    taught_by = teacher() if teacher else teacher_of(spec, classes)
    seed_everything(spec.seed, 0)
    infos = describe(spec.network, student), describe(spec.teacher.network, taught_by.detector)
    return _placed(DistilledDetector(student, taught_by, spec.distillers, infos), spec.gpus)


def _placed(network: Any, gpus: int) -> Any:
    """A network on its device, laid out in memory as it computes there."""
    channels_last(network)
    return network.to(device_for(gpus))


def teacher_of(spec: TrialSpec, classes: int) -> Teacher:
    """The teacher of a trial, on its device. Raises TrialFailure where its checkpoint is not the one that was planned."""
    assert spec.teacher
    return Teacher(opened(spec.teacher, "teacher", classes, spec.gpus))


def opened(reference: TeacherRef, what: str, classes: int, gpus: int) -> Any:
    """The mmdet model of a checkpoint, on its device. what: its name in messages. Raises TrialFailure where it is not as planned."""
    path = Path(reference.checkpoint)
    detector = build(reference.network, classes)
    load_checkpoint(detector, path, what)
    if file_sha256(path) != reference.sha256:
        raise TrialFailure("user", f"the {what}'s checkpoint is not the one that was planned: {path} has another sha256")
    return _placed(detector, gpus)


def start_weights(spec: TrialSpec) -> str | None:
    """Name of the weights that the network has before it trains; None where all of it is drawn."""
    usual = start_of(spec.network.detector, spec.network.backbone, spec.network.form) if spec.scale == "paper" else None
    return spec.weights or spec.init or usual


def pretraining_of(spec: TrialSpec) -> Pretraining | None:
    """How the backbone has learnt before, where this machine teaches it."""
    drawn = start_weights(spec) is None and spec.network.backbone != AS_CONFIGURED
    return RECIPES[str(spec.full_schedule.recipe)].pretraining if spec.scale == "nano" and drawn else None


def exported(detector: nn.Module) -> dict[str, Tensor]:
    """A plain detector's state, to be written at once: on a CPU these are the tensors that train."""
    return {name: tensor.detach().cpu() for name, tensor in detector.state_dict().items()}
