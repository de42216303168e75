"""`retort trial`: one trial of a study in this very process, with a progress bar; the debugger's door."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from studies.catalog import DECIMALS
from studies.expand import PlannedTrial, expand
from studies.home import retort_home
from studies.spec import StudySpec

if TYPE_CHECKING:
    from workers.training.progress import EpochReport, StepReport
    from workers.training.result import TrialResult


def run_here(study: StudySpec, arm: str, seed: int, console: Console) -> tuple["TrialResult", Path]:
    """Train and show every epoch; the result and the trial's folder. Raises TrialFailure."""
    from workers.local import run_locally

    shown = TextColumn("{task.fields[told]}")
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), shown, TimeElapsedColumn(), console=console
    ) as progress:
        steps = _steps(study, arm, seed)
        bars = {trial.id: progress.add_task(trial.title, total=None, told="", start=trial is steps[0]) for trial in steps}

        def report(trial: PlannedTrial, epoch: "EpochReport") -> None:
            progress.update(bars[trial.id], total=epoch.epochs, completed=epoch.epoch, told=f"AP {epoch.metrics.get('AP', 0.0):.1f}")
            if epoch.epoch == epoch.epochs and trial.id != steps[-1].id:
                progress.start_task(bars[steps[-1].id])

        def report_step(trial: PlannedTrial, step: "StepReport") -> None:
            told = f"{step.step}/{step.steps}, loss {step.metrics['loss']:.3f}, {step.metrics['images_per_second']:.1f} images/s"
            progress.update(bars[trial.id], total=step.epochs, completed=step.epoch - 1, told=told)

        return run_locally(study, arm, seed, retort_home(), report, report_step)


def result_lines(study: StudySpec, result: "TrialResult", folder: Path) -> list[str]:
    """The final metrics, and where the checkpoint is."""
    lines = []
    for name in study.metrics:
        value = result.metrics.get(name)
        told = "none, it does not apply here" if value is None else f"{value:6.{DECIMALS.get(name, 2)}f}"
        lines.append(f"{name:<5} {told}")
    return [*lines, f"detector: {result.checkpoint}", f"folder:   {folder}"]


def profile_here(study: StudySpec, arm: str, seed: int, console: Console) -> tuple[Path, list[str]]:
    """Train for a few steps; where their trace is, and what to say of it. Raises TrialFailure."""
    from workers.local import profile_locally

    with console.status("a few steps of the trial, after its teacher's training"):
        trace, spec = profile_locally(study, arm, seed, retort_home(), lambda trial, epoch: None)
    device = "GPU" if spec.gpus else f"{spec.threads} CPU thread{'s' if spec.threads > 1 else ''}"
    of = f" of the first of {spec.processes} processes" if spec.processes > 1 else ""
    return trace, [str(trace), f"a trace of a few steps{of} on {device}: open it at https://ui.perfetto.dev"]


def _steps(study: StudySpec, arm: str, seed: int) -> list[PlannedTrial]:
    """The trial and, before it, its teacher; none where the study has no such trial."""
    expansion = expand(study)
    wanted = expansion.trial(arm, seed)
    teacher = [trial for trial in expansion.trials if wanted and trial.id == wanted.teacher]
    return [*teacher, wanted] if wanted else []
