"""One trial, start to end: its data and networks, the training (`workers.training.loop`), and what it leaves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmdet.registry import DATASETS as DATASET_TYPES
from mmengine.registry import DefaultScope
from torch import distributed

from studies.recipes import RECIPES
from studies.trial import TrialFailure, TrialSpec
from workers.datasets.images import dataset_config, evaluator_config, input_size, manifest_of, skipped
from workers.datasets.loading import evaluation_loader, loader_processes
from workers.failures import failures_named
from workers.files import file_sha256, write_atomically
from workers.process import allow_open_files, compute_threads, environment, quiet
from workers.training.evaluating import Evaluation
from workers.training.launch import run_processes
from workers.training.loop import Intervals, Told, Training
from workers.training.member import Member
from workers.training.networks import exported, networks, pretraining_of, start_weights
from workers.training.pace import Pace
from workers.training.profile import Profile
from workers.training.progress import EpochReport, Progress, StepReport
from workers.training.result import SPEC, TrialResult, finished, write_result
from workers.training.stream import Stream
from workers.training.together import Together
from workers.weights.pretraining import pretrained
from workers.weights.store import Store, store_beside


def run_trial(
    spec: TrialSpec,
    folder: Path,
    data: Path,
    report: Callable[[EpochReport], None],
    report_step: Callable[[StepReport], None] = lambda step: None,
    intervals: Intervals = Intervals(),  # noqa: B008  (frozen)
    profile: Path | None = None,
) -> TrialResult:
    """Trains `spec` and returns its result; continues from what is in `folder`.

    folder: the trial's own directory. data: where prepared datasets are. report: called after every epoch; after a
    resumption first again for the epochs that are done. report_step: called now and then inside an epoch. profile: file for a trace of a
    few steps. A trial of several processes is run by such; called in one of them, once they have met, it is that one's part. Raises
    TrialFailure, and Left where it was asked to make room.
    """
    folder.mkdir(parents=True, exist_ok=True)
    told = Told(report, report_step)
    if distributed.is_initialized():
        return _train(spec, folder, data, Progress(folder, distributed.get_rank()), told, intervals, profile)
    write_atomically(spec.model_dump_json(indent=1).encode(), folder / SPEC)  # for whoever comes upon the folder
    progress = Progress(folder)
    for done in progress.history:
        report(done)
    result = finished(folder)
    if result:
        return result
    if spec.processes > 1:
        return run_processes(spec, folder, data, report, report_step, profile)
    return _train(spec, folder, data, progress, told, intervals, profile)


def _train(
    spec: TrialSpec, folder: Path, data: Path, progress: Progress, told: Told, intervals: Intervals, profile: Path | None
) -> TrialResult:
    """The training of a trial that is not finished, or this process's part in it. Raises TrialFailure and Left."""
    together = Together()
    with failures_named(int(spec.full_schedule.images_at_once) // spec.processes), compute_threads(spec.threads), quiet():
        allow_open_files()
        manifest, store = manifest_of(spec.dataset, data, spec.on_broken), store_beside(data)
        pretraining = pretraining_of(spec)
        taught = pretrained(spec.network, pretraining, data) if pretraining else None
        model = networks(spec, len(manifest["classes"]), store, taught)
        images = _Images(spec, data, manifest, together, masks=_learns_masks(model, spec, manifest))
        evaluation = images.evaluation(folder)
        surroundings = _environment(spec, manifest, store, taught)
        if spec.weights:
            _evaluate(model, evaluation, progress, told.epoch if together.first else lambda done: None)
            return _left(folder, together, lambda: write_result(folder, exported(model), progress.history, surroundings))
        stream = images.stream()
        member = Member(model, spec, len(stream), together)
        watched = Profile(profile) if profile else None
        Training(member, stream, evaluation, progress, told, intervals, together, watched).run()
        with member.averaged():  # what is exported is what was evaluated
            return _left(folder, together, lambda: write_result(folder, member.exported(), progress.history, surroundings))


def _left(folder: Path, together: Together, write: Callable[[], TrialResult]) -> TrialResult:
    """The result, which the first process writes and the others find."""
    if together.first:
        write()
    together.gathered(None)  # the others wait
    result = finished(folder)
    assert result is not None
    return result


def _evaluate(model: Any, evaluation: Evaluation, progress: Progress, report: Callable[[EpochReport], None]) -> None:
    """Measures a detector whose weights were taken, as one epoch."""
    pace = Pace()
    measured = evaluation(model, model, thorough=True)
    done = EpochReport(1, 1, {**measured, "epoch_seconds": pace.seconds})
    progress.add(done, lambda: exported(model))
    report(done)


def _learns_masks(model: Any, spec: TrialSpec, manifest: dict[str, Any]) -> bool:
    """Whether masks are to be read and measured; weights that were taken learn nothing, so a dataset without masks will do."""
    detector = model.student if spec.distillers else model
    with_mask = bool(getattr(getattr(detector, "roi_head", None), "with_mask", False))
    return with_mask and (manifest["masks"] or not spec.weights)


class _Images:
    """The images of a trial: those it trains on and those it is measured on."""

    def __init__(self, spec: TrialSpec, data: Path, manifest: dict[str, Any], together: Together, masks: bool) -> None:
        self.spec, self.data, self.manifest, self.masks = spec, data, manifest, masks
        self.together, self.share = together, (together.rank, together.world)
        self.schedule = spec.full_schedule
        self.recipe = RECIPES[str(self.schedule.recipe)]
        self.loaders = loader_processes(spec.gpus, spec.threads)

    def _dataset(self, split: str) -> Any:
        limit = self.schedule.max_iterations and self.schedule.max_iterations * int(self.schedule.batch_size or 1)
        with DefaultScope.overwrite_default_scope("mmdet"):
            return DATASET_TYPES.build(dataset_config(self.spec, self.data, split, self.manifest, self.recipe, limit, self.masks))

    def stream(self) -> Stream:
        """Batches to train on. Raises TrialFailure where no batch can be had of the dataset."""
        size, parts = self.schedule.batch_size, self.schedule.accumulate or 1
        assert size
        dataset = self._dataset("train")
        if len(dataset) < size:
            told = f"dataset {self.spec.dataset!r} has {len(dataset)} annotated training images; one batch takes {size}"
            raise TrialFailure("data", told)
        if size % parts:
            raise TrialFailure("user", f"schedule.accumulate: {size} images are no {parts} equal parts; choose a divisor")
        one_shape = not input_size(self.spec, self.recipe)[1]
        return Stream(dataset, self.spec.seed, size // parts, one_shape, self.loaders, parts, self.share)

    def evaluation(self, folder: Path) -> Evaluation:
        """What is measured on the validation images."""
        metric = evaluator_config(self.spec.dataset, self.data, self.masks)
        loader = evaluation_loader(self._dataset("val"), self.loaders, self.share)
        return Evaluation(self.spec, loader, metric, folder, skipped(self.manifest), self.together)


def _environment(spec: TrialSpec, manifest: dict[str, Any], store: Store, taught: Path | None) -> dict[str, str]:
    images, left_out = manifest["images"], len(manifest["broken"])
    dataset = f"{images['train']} + {images['val']} images, {left_out} broken images or annotations left out"
    start = store.entries().get(start_weights(spec) or "")  # a store that was emptied must not cost a training
    weights = {"weights": f"{start.name} ({start.sha256})"} if start else {}
    if taught and taught.exists():
        weights = {"weights": f"pretrained here/{taught.stem} ({file_sha256(taught)})"}
    return {**environment(spec.gpus, spec.threads), "dataset": dataset, **weights}
