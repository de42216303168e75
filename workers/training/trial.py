"""One trial, start to end, or several of one teacher as a group: data and networks, the training (`workers.training.loop`), and what each
leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import DATASETS as DATASET_TYPES
from mmengine.registry import DefaultScope
from torch import Tensor, distributed

from studies.recipes import RECIPES
from studies.trial import TrialFailure, TrialSpec
from workers.datasets.images import dataset_config, evaluator_config, input_size, manifest_of, skipped
from workers.datasets.loading import evaluation_loader, loader_processes
from workers.files import file_sha256, write_atomically
from workers.process import allow_open_files, compute_threads, environment, quiet
from workers.training.evaluating import Evaluation
from workers.training.launch import Start, run_processes
from workers.training.loop import Group, Intervals, Outcome, Told, Training
from workers.training.member import Member
from workers.training.networks import exported, networks, pretraining_of, start_weights, teacher_of
from workers.training.pace import Pace
from workers.training.profile import Profile
from workers.training.progress import EpochReport, Progress, StepReport
from workers.training.result import SPEC, TrialResult, finished, write_result
from workers.training.stream import Stream
from workers.training.together import Together
from workers.weights.pretraining import pretrained
from workers.weights.store import Store, store_beside


@dataclass(frozen=True)
class Seat:
    """A trial of a group: what it trains, in which folder of its own, and who is told of it."""

    spec: TrialSpec
    folder: Path
    told: Told


def run_trial(
    spec: TrialSpec,
    folder: Path,
    data: Path,
    report: Callable[[EpochReport], None],
    report_step: Callable[[StepReport], None] = lambda step: None,
    intervals: Intervals = Intervals(),  # noqa: B008  (frozen)
    profile: Path | None = None,
    start: Start | None = None,
) -> TrialResult:
    """Trains `spec` and returns its result; continues from what is in `folder`.

    folder: the trial's own directory. data: where prepared datasets are. report: called after every epoch; after a
    resumption first again for the epochs that are done. report_step: called now and then inside an epoch. profile: file for a trace of a
    few steps. start: of the processes of a trial of several, which run it (`run_processes`); called in one of them, once they have met, it
    is that one's part. Raises TrialFailure, and Left where it was asked to make room.
    """
    ends: list[Outcome] = []
    seat = Seat(spec, folder, Told(report, report_step, ends.append))
    if distributed.is_initialized():
        folder.mkdir(parents=True, exist_ok=True)
        _train([(seat, Progress(folder, distributed.get_rank()))], data, intervals, profile)
    elif progress := _taken_up(seat):
        if spec.processes > 1:
            return run_processes(spec, folder, data, report, report_step, profile, start)
        _train([(seat, progress)], data, intervals, profile)
    if isinstance(ends[0], TrialResult):
        return ends[0]
    raise ends[0]


def run_group(seats: Sequence[Seat], data: Path, intervals: Intervals = Intervals()) -> None:  # noqa: B008  (frozen)
    """Trains several trials of one `TrialSpec.group` over one stream of batches, with one forward pass of their teacher a step.

    Each goes on from what is in its folder, and is told of its epochs and steps and in the end of its result, or of the TrialFailure or
    Left that it ended with, as soon as it has; it comes to what it comes to alone. One that finds no memory beside the others is trained
    alone, once they have ended.
    """
    groups = {seat.spec.group for seat in seats}
    if len(seats) > 1 and (len(groups) > 1 or None in groups):
        raise ValueError("trials of a group have one teacher, and data, seed, batches and epochs in common")
    crowded: list[Seat] = []

    def in_company(seat: Seat) -> Seat:
        def end(outcome: Outcome) -> None:
            if isinstance(outcome, TrialFailure) and outcome.kind == "oom":
                crowded.append(seat)
            else:
                seat.told.end(outcome)

        return replace(seat, told=replace(seat.told, end=end))

    company = [in_company(seat) if len(seats) > 1 else seat for seat in seats]
    to_train = [(seat, progress) for seat in company if (progress := _taken_up(seat))]
    if to_train:
        _train(to_train, data, intervals, None)
    for seat in crowded:
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        _train([(seat, Progress(seat.folder))], data, intervals, None)


def _taken_up(seat: Seat) -> Progress | None:
    """How far a trial is, of which it tells again; None where it is at its end, which is told."""
    seat.folder.mkdir(parents=True, exist_ok=True)
    write_atomically(seat.spec.model_dump_json(indent=1).encode(), seat.folder / SPEC)  # for whoever comes upon the folder
    progress = Progress(seat.folder)
    for done in progress.history:
        seat.told.epoch(done)
    result = finished(seat.folder)
    if result:
        seat.told.end(result)
        return None
    return progress


def _train(seats: Sequence[tuple[Seat, Progress]], data: Path, intervals: Intervals, profile: Path | None) -> None:
    """The training of trials that are not finished, or this process's part in that of one; their ends are told."""
    together, spec = Together(), seats[0][0].spec
    images_at_once = int(spec.full_schedule.images_at_once) // spec.processes
    group = Group([seat.told for seat, _ in seats], images_at_once, together, Profile(profile) if profile else None)
    with group.ending(*group.open), compute_threads(spec.threads), quiet():
        allow_open_files()
        manifest, store = manifest_of(spec.dataset, data, spec.on_broken), store_beside(data)
        classes = len(manifest["classes"])
        teacher = cache(lambda: teacher_of(spec, classes))
        images: _Images | None = None
        for seat, progress in seats:
            with group.ending(seat.told):
                pretraining = pretraining_of(seat.spec)
                taught = pretrained(seat.spec.network, pretraining, data) if pretraining else None
                model = networks(seat.spec, classes, store, taught, teacher)
                images = images or _Images(seat.spec, data, manifest, together, masks=_learns_masks(model, seat.spec, manifest))
                evaluation = images.evaluation(seat.spec, seat.folder)
                written = partial(_written, seat.folder, together, progress, _environment(seat.spec, manifest, store, taught))
                if seat.spec.weights:
                    _evaluate(model, evaluation, progress, seat.told.epoch if together.first else lambda done: None)
                    group.end(seat.told, written(exported(model)))
                    continue
                member = Member(model, seat.spec, len(images.stream), together)
                group.add(Training(member, len(images.stream), evaluation, progress, seat.told, written, intervals, together))
        if images and group.trainings:
            group.run(images.stream)


def _written(
    folder: Path, together: Together, progress: Progress, surroundings: dict[str, str], detector: dict[str, Tensor]
) -> TrialResult:
    """The result, which the first process writes and the others find."""
    if together.first:
        write_result(folder, detector, progress.history, surroundings)
    together.gathered(None)  # the others wait
    result = finished(folder)
    assert result is not None
    return result


def _evaluate(model: Any, evaluation: Evaluation, progress: Progress, report: Callable[[EpochReport], None]) -> None:
    """Measures a detector whose weights were taken, as one epoch."""
    pace = Pace()
    with pace.running():
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
    """The images of a trial, or of a group's: those they train on and those they are measured on."""

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

    @cached_property
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

    @cached_property
    def tests(self) -> Any:
        """Loader of the validation images."""
        return evaluation_loader(self._dataset("val"), self.loaders, self.share)

    def evaluation(self, spec: TrialSpec, folder: Path) -> Evaluation:
        """What is measured of a trial on the validation images."""
        metric = evaluator_config(spec.dataset, self.data, self.masks)
        return Evaluation(spec, self.tests, metric, folder, skipped(self.manifest), self.together)


def _environment(spec: TrialSpec, manifest: dict[str, Any], store: Store, taught: Path | None) -> dict[str, str]:
    images, left_out = manifest["images"], len(manifest["broken"])
    dataset = f"{images['train']} + {images['val']} images, {left_out} broken images or annotations left out"
    start = store.entries().get(start_weights(spec) or "")  # a store that was emptied must not cost a training
    weights = {"weights": f"{start.name} ({start.sha256})"} if start else {}
    if taught and taught.exists():
        weights = {"weights": f"pretrained here/{taught.stem} ({file_sha256(taught)})"}
    return {**environment(spec.gpus, spec.threads), "dataset": dataset, **weights}
