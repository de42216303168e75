"""A trial of a study here and now, in this process: no Ray, no database. The debugger's door."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from studies.code import code_version
from studies.expand import PlannedTrial, expand
from studies.spec import StudySpec
from studies.trial import TeacherRef, TrialFailure
from workers.datasets import prepare
from workers.folder import alone_in
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
    expansion = expand(study)
    planned = {trial.id: trial for trial in expansion.trials}
    wanted = expansion.trial(arm, seed)
    if wanted is None:
        raise TrialFailure(
            "user", f"no trial of row {arm} with seed {seed} in this study; its rows: {', '.join(row.id for row in expansion.rows)}"
        )
    digest = prepare(study.dataset, home / "data")

    def run(trial: PlannedTrial, teacher: TeacherRef | None) -> tuple[TrialResult, Path]:
        spec = trial.resolve(study, teacher)
        folder = home / "trials" / spec.key(digest, code_version(spec.methods))
        with alone_in(folder):
            return run_trial(spec, folder, home / "data", lambda epoch: report(trial, epoch), lambda step: report_step(trial, step)), folder

    if wanted.teacher is None:
        return run(wanted, None)
    teacher = planned[wanted.teacher]
    taught, _ = run(teacher, None)
    return run(wanted, TeacherRef(network=teacher.network, checkpoint=str(taught.checkpoint), sha256=taught.checkpoint_sha256))
