"""A trial of a study here and now, in this process: no Ray, no database. The debugger's door."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from studies.code import code_version
from studies.expand import PlannedTrial, expand
from studies.spec import StudySpec
from studies.trial import TeacherRef, TrialFailure, TrialSpec
from workers.datasets import prepare
from workers.folder import alone_in
from workers.training.profile import STEPS, WARM_UP
from workers.training.progress import EpochReport, StepReport
from workers.training.result import TrialResult
from workers.training.trial import run_trial


def run_locally(
    study: StudySpec,
    arm: str,
    seed: int,
    home: Path,
    report: Callable[[PlannedTrial, EpochReport], None],
    report_step: Callable[[PlannedTrial, StepReport], None] = lambda trial, step: None,
) -> tuple[TrialResult, Path]:
    """Runs the trial of one row and seed, its teacher first; both continue from what earlier runs left under `home`.

    arm: row id as `expand` gives it (the arm's id, with sampled values for a searched arm). report: told the planned
    trial and the epoch. report_step: likewise, now and then inside an epoch. Returns the result and the
    trial's folder. Raises TrialFailure.
    """
    wanted, spec = _with_teacher(study, arm, seed, home, report, report_step)
    return _run(wanted, spec, home, report, report_step)


def profile_locally(
    study: StudySpec, arm: str, seed: int, home: Path, report: Callable[[PlannedTrial, EpochReport], None]
) -> tuple[Path, TrialSpec]:
    """A trace of a few steps of such a trial, after its teacher's training; nothing of the trial itself is kept. Raises TrialFailure.

    Returns the trace's file and what was profiled.
    """
    wanted, spec = _with_teacher(study, arm, seed, home, report, lambda trial, step: None)
    if spec.weights:
        raise TrialFailure("user", f"row {arm} is taken with its weights and does not train: there are no steps to look at")
    cut = spec.schedule.model_copy(update={"epochs": 1, "max_iterations": WARM_UP + STEPS, "accumulate": 1})
    trace = home / "profiles" / f"{_key(spec, home)}.json.gz"
    trace.parent.mkdir(parents=True, exist_ok=True)
    trace.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=trace.parent, prefix=".trial-") as folder:
        run_trial(
            spec.model_copy(update={"schedule": cut}), Path(folder), home / "data", lambda epoch: report(wanted, epoch), profile=trace
        )
    if not trace.exists():
        raise TrialFailure("data", f"an epoch of {study.dataset!r} has no more than {WARM_UP} batches: too few to look at")
    return trace, spec


def _with_teacher(
    study: StudySpec,
    arm: str,
    seed: int,
    home: Path,
    report: Callable[[PlannedTrial, EpochReport], None],
    report_step: Callable[[PlannedTrial, StepReport], None],
) -> tuple[PlannedTrial, TrialSpec]:
    """The trial of a row and seed as it trains, after its teacher's training where it has one. Raises TrialFailure."""
    expansion = expand(study)
    planned = {trial.id: trial for trial in expansion.trials}
    wanted = expansion.trial(arm, seed)
    if wanted is None:
        raise TrialFailure(
            "user", f"no trial of row {arm} with seed {seed} in this study; its rows: {', '.join(row.id for row in expansion.rows)}"
        )
    if wanted.teacher is None:
        return wanted, wanted.resolve(study, None)
    teacher = planned[wanted.teacher]
    taught, _ = _run(teacher, teacher.resolve(study, None), home, report, report_step)
    ref = TeacherRef(network=teacher.network, checkpoint=str(taught.checkpoint), sha256=taught.checkpoint_sha256)
    return wanted, wanted.resolve(study, ref)


def _run(
    trial: PlannedTrial,
    spec: TrialSpec,
    home: Path,
    report: Callable[[PlannedTrial, EpochReport], None],
    report_step: Callable[[PlannedTrial, StepReport], None],
) -> tuple[TrialResult, Path]:
    folder = home / "trials" / _key(spec, home)
    with alone_in(folder):
        return run_trial(spec, folder, home / "data", lambda epoch: report(trial, epoch), lambda step: report_step(trial, step)), folder


def _key(spec: TrialSpec, home: Path) -> str:
    return spec.key(prepare(spec.dataset, home / "data"), code_version(spec.methods))
