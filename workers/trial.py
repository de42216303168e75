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

import contextlib
import hashlib
import io
import json
import logging
import math
import os
import random
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.registry import DATASETS as DATASET_TYPES
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import Tensor, nn

from studies.catalog import METRICS, channels_of
from studies.spec import Schedule
from studies.trial import TrialFailure, TrialSpec
from workers.data import UnreadableImage, dataset_config, evaluator_config, manifest_of, skipped
from workers.detectors import build, describe, load_checkpoint
from workers.weights import Store, load_backbone, load_detector, store_beside

LIBRARIES = ("torch", "onedl-mmdetection", "onedl-mmcv", "onedl-mmengine", "numpy", "faster-coco-eval")
NAN_CHECK_INTERVAL = 50  # steps between looks at the loss; a look makes the device wait
RESUME, EXPORT, BEST, RESULT = "last.pt", "model.pth", "best.pth", "result.json"
CURVES = "error_curves.json"  # precision at recalls 0 to 1 in steps of 0.01, after the last epoch, by what is forgiven


@dataclass(frozen=True)
class EpochReport:
    """What a trial tells after each epoch. `epoch` counts from 1.

    metrics: AP... in percent, after the last epoch all that applies of `studies.catalog.METRICS`; `skipped_images` and
    `skipped_annotations` where the dataset has broken ones; `loss` and `loss_*` as means over the epoch's steps;
    `images_per_second` of training; `epoch_seconds` with evaluation; `lr` at the epoch's end.
    """

    epoch: int
    epochs: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class TrialResult:
    """A finished trial. `checkpoint` is the plain detector after the last epoch, `best_checkpoint` that of the best AP."""

    metrics: dict[str, float]
    checkpoint: Path
    checkpoint_sha256: str
    best_checkpoint: Path
    seconds: float
    environment: dict[str, str]


def run_trial(spec: TrialSpec, folder: Path, data: Path, report: Callable[[EpochReport], None]) -> TrialResult:
    """Trains `spec` and returns its result; continues from what is in `folder`.

    folder: the trial's own directory. data: where prepared datasets are. report: called after every epoch; after a
    resumption first again for the epochs that are done. Raises TrialFailure.
    """
    folder.mkdir(parents=True, exist_ok=True)
    progress = Progress.load(folder)
    for done in progress.history:
        report(done)
    finished = _finished(folder)
    if finished:
        return finished
    with _failures_named(), _threads(spec.threads), _quiet():
        manifest = manifest_of(spec.dataset, data, spec.on_broken)
        model = _networks(spec, len(manifest["classes"]), store_beside(data))
        runner = _runner(spec, folder, data, manifest, model, progress, report)
        if spec.weights:
            load_detector(model, spec.weights, store_beside(data))
            runner.val()
        else:
            runner.train()
        return _export(model, folder, progress, spec, manifest)


def _networks(spec: TrialSpec, classes: int, store: Store) -> Any:
    """The model that trains: the plain detector, or the student with teacher and distillers around it.

    At paper scale the backbone starts from ImageNet, as the papers' do, where there are such weights: none are of other channels.
    """
    device = _device(spec)
    _seed(spec.seed, 0)
    student = build(spec.network, classes)
    if spec.scale == "paper" and not spec.weights and channels_of(spec.network.form) == 1:
        load_backbone(student, spec.network.backbone, store)
    if spec.teacher is None:
        return student.to(device)
    from workers.distill import DistilledDetector

    path = Path(spec.teacher.checkpoint)
    teacher = build(spec.teacher.network, classes)
    load_checkpoint(teacher, path, "teacher")
    if file_sha256(path) != spec.teacher.sha256:
        raise TrialFailure("user", f"the teacher's checkpoint is not the one that was planned: {path} has another sha256")
    _seed(spec.seed, 0)
    infos = describe(spec.network, student), describe(spec.teacher.network, teacher)
    return DistilledDetector(student, teacher.to(device), spec.distillers, infos).to(device)


def _runner(
    spec: TrialSpec,
    folder: Path,
    data: Path,
    manifest: dict[str, Any],
    model: Any,
    progress: Progress,
    report: Callable[[EpochReport], None],
) -> Runner:
    schedule = spec.schedule
    assert schedule.epochs
    assert schedule.batch_size
    images = schedule.max_iterations and schedule.max_iterations * schedule.batch_size
    masks = _learns_masks(_detector(model, spec))
    with DefaultScope.overwrite_default_scope("mmdet"):
        train, val = (
            DATASET_TYPES.build(dataset_config(spec.dataset, data, split, manifest, images, spec.scale, masks))
            for split in ("train", "val")
        )
    if len(train) < schedule.batch_size:
        raise TrialFailure(
            "data", f"dataset {spec.dataset!r} has {len(train)} annotated training images; one batch takes {schedule.batch_size}"
        )
    loader = {"num_workers": 4, "persistent_workers": True} if spec.gpus else {"num_workers": 0}
    return Runner(
        model=model,
        work_dir=str(folder / "log"),
        train_dataloader={
            "batch_size": schedule.batch_size,
            "sampler": {"type": "DefaultSampler", "shuffle": True, "seed": spec.seed},
            "drop_last": True,
            "dataset": train,
            **loader,
        },
        val_dataloader={
            "batch_size": 16,
            "sampler": {"type": "DefaultSampler", "shuffle": False},
            "dataset": val,
            **loader,
        },
        val_evaluator=Evaluator(evaluator_config(spec.dataset, data, masks)),
        train_cfg={"by_epoch": True, "max_epochs": schedule.epochs, "val_interval": 1},
        val_cfg={},
        **_optimisation(schedule),
        default_hooks={"timer": None, "logger": None, "checkpoint": None, "runtime_info": None},
        custom_hooks=[EpochHook(spec, folder, skipped(manifest), progress, report)],
        visualizer={"type": "Visualizer", "vis_backends": []},
        log_level="ERROR",
        default_scope="mmdet",
        randomness={"seed": spec.seed},
        experiment_name=f"{folder.name[:12]}-{uuid.uuid4().hex[:8]}",  # mmengine keeps one log per name and process
    )


def _optimisation(schedule: Schedule) -> dict[str, Any]:
    """Optimizer and learning-rate schedule of the nano recipe: AdamW, linear warm-up, cosine to zero."""
    warm_up = 50
    return {
        "optim_wrapper": {
            "type": "OptimWrapper",
            "optimizer": {"type": "AdamW", "lr": schedule.lr, "weight_decay": 0.05, "fused": True},
            "clip_grad": {"max_norm": 10.0},
        },
        "param_scheduler": [
            {"type": "LinearLR", "start_factor": 0.01, "by_epoch": False, "begin": 0, "end": warm_up},
            {"type": "CosineAnnealingLR", "T_max": schedule.epochs, "by_epoch": True, "convert_to_iter_based": True, "eta_min": 0.0},
        ],
    }


class EpochHook(Hook):
    """What a trial does around mmengine's loop: seeds, sums losses on the device, reports, writes and reads the checkpoint."""

    def __init__(
        self, spec: TrialSpec, folder: Path, constants: dict[str, float], progress: Progress, report: Callable[[EpochReport], None]
    ) -> None:
        self.spec, self.folder, self.constants, self.progress, self.report = spec, folder, constants, progress, report
        self.sums: dict[str, Tensor] = {}
        self.losses: dict[str, float] = {}
        self.steps = self.images = 0
        self.started = self.trained = time.perf_counter()

    def before_train(self, runner: Runner) -> None:
        if self.progress.state:
            self.progress.restore(runner)

    def before_train_epoch(self, runner: Runner) -> None:
        _seed(self.spec.seed, runner.epoch + 1)
        self.sums, self.steps, self.images = {}, 0, 0
        self.started = time.perf_counter()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        if self.spec.distillers:
            runner.model.iteration = runner.iter

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        for name, value in outputs.items():
            self.sums[name] = self.sums[name] + value.detach() if name in self.sums else value.detach().clone()
        self.steps += 1
        self.images += len(data_batch["inputs"])
        if self.steps % NAN_CHECK_INTERVAL == 0:
            self._losses()

    def after_train_epoch(self, runner: Runner) -> None:
        self.losses = self._losses()
        self.trained = time.perf_counter()

    def before_val_epoch(self, runner: Runner) -> None:
        """Everything is measured once, after the last epoch; the epochs before it get their AP."""
        if self.spec.weights or runner.epoch >= runner.max_epochs:
            runner.val_evaluator.metrics[0].thorough = True
            if self.spec.distillers:
                runner.model.differences = []

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        ended = time.perf_counter()
        measured = {**(metrics or {}), **self.constants}
        curves = runner.val_evaluator.metrics[0].curves
        if curves:
            write_atomically(json.dumps(curves).encode(), self.folder / CURVES)
        if self.spec.distillers and runner.model.differences:
            measured["D_pred"] = float(torch.cat(runner.model.differences).mean())
        measured.update(self.losses)
        measured["epoch_seconds"] = ended - self.started
        if self.spec.weights:
            done = EpochReport(1, 1, measured)
            self.progress.add(done, runner.model, self.spec, self.folder)
        else:
            measured["images_per_second"] = self.images / (self.trained - self.started)
            measured["lr"] = runner.optim_wrapper.get_lr()["lr"][0]
            done = EpochReport(runner.epoch, self.spec.schedule.epochs or runner.epoch, measured)
            self.progress.add(done, runner.model, self.spec, self.folder)
            self.progress.save(runner, self.folder)
        self.report(done)

    def _losses(self) -> dict[str, float]:
        """Mean losses so far. Raises TrialFailure("nan") naming the losses that are not finite."""
        means = {name: float(total) / self.steps for name, total in self.sums.items()}
        bad = [name for name, mean in means.items() if not math.isfinite(mean) and (name != "loss" or len(means) == 1)]
        if bad:
            raise TrialFailure("nan", f"{', '.join(sorted(bad))} became NaN or infinite; lower the learning rate or the distiller's weight")
        return means


class Progress:
    """The epochs a trial has behind it, and the state to continue from. One file, replaced as a whole."""

    def __init__(self, state: dict[str, Any] | None) -> None:
        self.state = state
        self.history = [EpochReport(**entry) for entry in state["history"]] if state else []

    @classmethod
    def load(cls, folder: Path) -> Progress:
        path = folder / RESUME
        return cls(torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None)

    def restore(self, runner: Runner) -> None:
        """Puts weights, optimizer, schedulers and counters back into a runner that is about to train."""
        assert self.state is not None
        runner.model.load_state_dict(self.state["model"])
        runner.optim_wrapper.load_state_dict(self.state["optimizer"])
        for scheduler, saved in zip(runner.param_schedulers, self.state["schedulers"], strict=True):
            scheduler.load_state_dict(saved)
        runner.train_loop._epoch = self.state["epoch"]
        runner.train_loop._iter = self.state["iteration"]
        self.state = None  # free the memory

    def add(self, done: EpochReport, model: Any, spec: TrialSpec, folder: Path) -> None:
        """Notes an epoch, and writes the exported detector where it is the best so far."""
        self.history.append(done)
        best = max((each.metrics.get("AP", 0.0) for each in self.history[:-1]), default=-1.0)
        if done.metrics.get("AP", 0.0) > best:
            write_checkpoint({"state_dict": _exported(model, spec)}, folder / BEST)

    def save(self, runner: Runner, folder: Path) -> None:
        """Writes the state after an epoch, to continue from."""
        state = {
            "model": runner.model.state_dict(),
            "optimizer": runner.optim_wrapper.state_dict(),
            "schedulers": [_plain(scheduler.state_dict()) for scheduler in runner.param_schedulers],
            "epoch": runner.epoch,
            "iteration": runner.iter,
            "history": [asdict(each) for each in self.history],
        }
        write_checkpoint(state, folder / RESUME)


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """A scheduler's state without what cannot be loaded safely (it is rebuilt from the schedule)."""
    return {k: v for k, v in state.items() if isinstance(v, (int, float, str, bool, list, tuple, type(None)))}


def _exported(model: Any, spec: TrialSpec) -> dict[str, Tensor]:
    """The plain detector's state, without adapters or teacher."""
    return {name: tensor.detach().cpu() for name, tensor in _detector(model, spec).state_dict().items()}


def _detector(model: Any, spec: TrialSpec) -> nn.Module:
    """The plain detector inside the model that trains."""
    detector: nn.Module = model.student if spec.distillers else model
    return detector


def _learns_masks(detector: Any) -> bool:
    return bool(getattr(getattr(detector, "roi_head", None), "with_mask", False))


def _export(model: nn.Module, folder: Path, progress: Progress, spec: TrialSpec, manifest: dict[str, Any]) -> TrialResult:
    write_checkpoint({"state_dict": _exported(model, spec)}, folder / EXPORT)
    result = {
        "metrics": {k: v for k, v in progress.history[-1].metrics.items() if k in METRICS},
        "checkpoint_sha256": file_sha256(folder / EXPORT),
        "seconds": sum(each.metrics["epoch_seconds"] for each in progress.history),
        "environment": _environment(spec, manifest),
    }
    write_atomically(json.dumps(result, indent=1).encode(), folder / RESULT)
    finished = _finished(folder)
    assert finished is not None
    return finished


def _finished(folder: Path) -> TrialResult | None:
    """The result in `folder`, if the trial is complete and its checkpoint intact."""
    try:
        stored = json.loads((folder / RESULT).read_text())
        if file_sha256(folder / EXPORT) != stored["checkpoint_sha256"]:
            return None
    except (OSError, ValueError, KeyError):
        return None
    return TrialResult(checkpoint=folder / EXPORT, best_checkpoint=folder / BEST, **stored)


def _environment(spec: TrialSpec, manifest: dict[str, Any]) -> dict[str, str]:
    device = torch.cuda.get_device_name() if spec.gpus else f"cpu, {spec.threads} threads"
    images, left_out = manifest["images"], len(manifest["broken"])
    dataset = f"{images['train']} + {images['val']} images, {left_out} broken images or annotations left out"
    return {**{name: version(name) for name in LIBRARIES}, "device": device, "dataset": dataset}


def _device(spec: TrialSpec) -> torch.device:
    if not spec.gpus:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise TrialFailure("user", "the study asks for a GPU (resources.gpus) and none is visible to torch here")
    return torch.device("cuda")


def _seed(seed: int, epoch: int) -> None:
    """Seeds python, numpy and torch from (seed, epoch); epoch 0 is the drawing of the weights."""
    mixed = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
    random.seed(mixed)
    np.random.seed(mixed)
    torch.manual_seed(mixed)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Runs with exactly `count` compute threads: another count sums in another order."""
    import cv2

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    cv2.setNumThreads(0)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the libraries' chatter (weight initialisation, COCO indexing) out of the terminal."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("mmengine").setLevel(logging.ERROR)
        yield


@contextmanager
def _failures_named() -> Iterator[None]:
    """Turns what a training can die of into a TrialFailure with its class and one sentence."""
    try:
        yield
    except TrialFailure:
        raise
    except UnreadableImage as error:
        raise TrialFailure("data", error.sentence) from error
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise TrialFailure("oom", "the device ran out of memory; lower schedule.batch_size or give the trial more devices") from error
    except FileNotFoundError as error:
        raise TrialFailure("data", f"a file of the dataset is missing: {error.filename or error}") from error
    except OSError as error:
        raise TrialFailure("infra", f"{type(error).__name__}: {error}") from error
    except RuntimeError as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        # oneDNN's "could not create a primitive" (not: "a primitive descriptor") is what its allocations end with.
        if "can't allocate memory" in text or "out of memory" in text or text == "could not create a primitive":
            raise TrialFailure("oom", "the machine ran out of memory; lower schedule.batch_size") from error
        if "CUDA" in text or "NCCL" in text:
            raise TrialFailure("infra", text) from error
        raise TrialFailure("user", f"the network or a distiller cannot run: {text}") from error
    except (ValueError, TypeError, KeyError, AssertionError, AttributeError, IndexError) as error:
        raise TrialFailure("user", f"the network or a distiller cannot run: {type(error).__name__}: {error}") from error


def file_sha256(path: Path) -> str:
    """Digest of a file (hex)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_checkpoint(content: dict[str, Any], path: Path) -> None:
    """torch.save that is never seen half-written, and whose bytes do not depend on the file's name."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(buffer.getvalue(), path)


def write_atomically(content: bytes, path: Path) -> None:
    """Writes beside `path`, flushes to disk, then renames over it."""
    unfinished = path.with_name(f".{path.name}-{os.getpid()}")
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
