"""One trial, start to end: data, networks, training by mmengine's Runner, evaluation, checkpoints.

    for epoch:                      # mmengine's EpochBasedTrainLoop
        seed everything by (seed, epoch)
        for batch: losses = student + distillers; step
        evaluate; report; write the checkpoint to resume from
    export the plain detector

Because every epoch starts from its own seed, a trial that was killed continues from its last checkpoint with the numbers
of one that was not.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmdet.registry import DATASETS as DATASET_TYPES
from mmengine.evaluator import Evaluator
from mmengine.registry import DefaultScope
from torch import nn

from studies.catalog import METRICS, start_of
from studies.recipes import RECIPES, Pretraining
from studies.trial import TrialFailure, TrialSpec
from workers.data import dataset_config, evaluator_config, input_size, manifest_of, skipped
from workers.detectors import build, describe, load_checkpoint
from workers.epochs import EpochHook, seed_everything
from workers.failures import failures_named
from workers.files import file_sha256, write_atomically, write_checkpoint
from workers.loading import evaluation_loader, loader_processes, training_loader
from workers.optimisation import optimisation
from workers.pretraining import load_pretrained, pretrained
from workers.process import compute_threads, device_for, environment, quiet
from workers.progress import EXPORT, RESULT, EpochReport, Progress, TrialResult, detector_of, exported, finished, learns_masks
from workers.runner import TrialRunner
from workers.starts import load_backbone, load_detector
from workers.weights import Store, store_beside


def run_trial(spec: TrialSpec, folder: Path, data: Path, report: Callable[[EpochReport], None]) -> TrialResult:
    """Trains `spec` and returns its result; continues from what is in `folder`.

    folder: the trial's own directory. data: where prepared datasets are. report: called after every epoch; after a
    resumption first again for the epochs that are done. Raises TrialFailure.
    """
    folder.mkdir(parents=True, exist_ok=True)
    progress = Progress.load(folder)
    for done in progress.history:
        report(done)
    result = finished(folder)
    if result:
        return result
    with failures_named(int(spec.full_schedule.images_at_once)), compute_threads(spec.threads), quiet():
        manifest = manifest_of(spec.dataset, data, spec.on_broken)
        pretraining = _pretraining(spec)
        taught = pretrained(spec.network, pretraining, data) if pretraining else None
        model = _networks(spec, len(manifest["classes"]), store_beside(data), taught)
        runner = _runner(spec, folder, data, manifest, model, progress, report)
        if spec.weights:
            runner.val()
        else:
            runner.train()
        return _export(model, folder, progress, spec, manifest, store_beside(data), taught)


def _networks(spec: TrialSpec, classes: int, store: Store, taught: Path | None = None) -> Any:
    """The model that trains: the plain detector, or the student with teacher and distillers around it.

    At paper scale it starts from the weights that the papers' networks start from, at nano from a backbone that was pretrained here.
    """
    device = device_for(spec.gpus)
    seed_everything(spec.seed, 0)
    student = build(spec.network, classes)
    start = _start(spec)
    if spec.weights:
        load_detector(student, spec.weights, store)
    elif start and start.startswith("imagenet/"):
        load_backbone(student, start, store)
    elif start:
        load_detector(student, start, store, other_classes=True)
    elif taught:
        load_pretrained(student, taught)
    if spec.teacher is None:
        return student.to(device)
    from workers.distill import DistilledDetector

    path = Path(spec.teacher.checkpoint)
    teacher = build(spec.teacher.network, classes)
    load_checkpoint(teacher, path, "teacher")
    if file_sha256(path) != spec.teacher.sha256:
        raise TrialFailure("user", f"the teacher's checkpoint is not the one that was planned: {path} has another sha256")
    seed_everything(spec.seed, 0)
    infos = describe(spec.network, student), describe(spec.teacher.network, teacher)
    return DistilledDetector(student, teacher.to(device), spec.distillers, infos).to(device)


def _start(spec: TrialSpec) -> str | None:
    """Name of the weights that the network has before it trains; None where all of it is drawn."""
    taken = start_of(spec.network.detector, spec.network.backbone, spec.network.form) if spec.scale == "paper" else None
    return spec.weights or taken


def _pretraining(spec: TrialSpec) -> Pretraining | None:
    """How the backbone has learnt before, where this machine teaches it."""
    return RECIPES[str(spec.full_schedule.recipe)].pretraining if spec.scale == "nano" and not spec.weights else None


def _runner(
    spec: TrialSpec,
    folder: Path,
    data: Path,
    manifest: dict[str, Any],
    model: Any,
    progress: Progress,
    report: Callable[[EpochReport], None],
) -> TrialRunner:
    schedule = spec.full_schedule
    assert schedule.epochs
    assert schedule.recipe
    recipe = RECIPES[schedule.recipe]
    assert schedule.batch_size
    images = schedule.max_iterations and schedule.max_iterations * schedule.batch_size
    masks = learns_masks(detector_of(model, spec)) and (manifest["masks"] or not spec.weights)  # taken weights learn nothing
    with DefaultScope.overwrite_default_scope("mmdet"):
        train, val = (DATASET_TYPES.build(dataset_config(spec, data, split, manifest, recipe, images, masks)) for split in ("train", "val"))
    if len(train) < schedule.batch_size:
        raise TrialFailure(
            "data", f"dataset {spec.dataset!r} has {len(train)} annotated training images; one batch takes {schedule.batch_size}"
        )
    parts = schedule.accumulate or 1
    if schedule.batch_size % parts:
        raise TrialFailure("user", f"schedule.accumulate: {schedule.batch_size} images are no {parts} equal parts; choose a divisor")
    loaders = loader_processes(spec.gpus)
    one_shape = not input_size(spec, recipe)[1]
    return TrialRunner(
        model=model,
        work_dir=str(folder / "log"),
        train_dataloader=training_loader(train, spec.seed, schedule.batch_size // parts, one_shape, loaders, parts),
        val_dataloader=evaluation_loader(val, loaders),
        val_evaluator=Evaluator(evaluator_config(spec.dataset, data, masks)),
        train_cfg={"by_epoch": True, "max_epochs": schedule.epochs, "val_interval": 1},
        val_cfg={},
        **optimisation(schedule, spec.network),
        default_hooks={"timer": None, "logger": None, "checkpoint": None, "runtime_info": None},
        custom_hooks=[EpochHook(spec, folder, skipped(manifest), recipe, progress, report)],
        visualizer={"type": "Visualizer", "vis_backends": []},
        log_level="ERROR",
        default_scope="mmdet",
        randomness={"seed": spec.seed},
        experiment_name=f"{folder.name[:12]}-{uuid.uuid4().hex[:8]}",  # mmengine keeps one log per name and process
    )


def _export(
    model: nn.Module, folder: Path, progress: Progress, spec: TrialSpec, manifest: dict[str, Any], store: Store, taught: Path | None
) -> TrialResult:
    write_checkpoint({"state_dict": exported(model, spec)}, folder / EXPORT)
    result = {
        "metrics": {k: v for k, v in progress.history[-1].metrics.items() if k in METRICS},
        "checkpoint_sha256": file_sha256(folder / EXPORT),
        "seconds": sum(each.metrics["epoch_seconds"] for each in progress.history),
        "environment": _environment(spec, manifest, store, taught),
    }
    write_atomically(json.dumps(result, indent=1).encode(), folder / RESULT)
    stored = finished(folder)
    assert stored is not None
    return stored


def _environment(spec: TrialSpec, manifest: dict[str, Any], store: Store, taught: Path | None) -> dict[str, str]:
    images, left_out = manifest["images"], len(manifest["broken"])
    dataset = f"{images['train']} + {images['val']} images, {left_out} broken images or annotations left out"
    start = store.entries().get(_start(spec) or "")  # a store that was emptied meanwhile must not cost a finished training
    weights = {"weights": f"{start.name} ({start.sha256})"} if start else {}
    if taught and taught.exists():
        weights = {"weights": f"pretrained here/{taught.stem} ({file_sha256(taught)})"}
    return {**environment(spec.gpus, spec.threads), "dataset": dataset, **weights}
