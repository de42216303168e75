"""`retort trial`: one trial of a study in this very process, with a progress bar; the debugger's door."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from studies.expand import PlannedTrial
from studies.home import retort_home
from studies.spec import StudySpec

if TYPE_CHECKING:
    from workers.trial import EpochReport


def run_here(study: StudySpec, arm: str, seed: int, console: Console) -> None:
    """Train, show every epoch, print the final metrics and where the checkpoint is. Raises TrialFailure."""
    from workers.local import run_locally

    bars: dict[str, TaskID] = {}
    told = TextColumn("{task.fields[told]}")
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), told, TimeElapsedColumn(), console=console
    ) as progress:

        def report(trial: PlannedTrial, epoch: "EpochReport") -> None:
            if trial.id not in bars:
                bars[trial.id] = progress.add_task(trial.title, total=epoch.epochs, told="")
            progress.update(bars[trial.id], completed=epoch.epoch, told=f"AP {epoch.metrics.get('AP', 0.0):.1f}")

        result, folder = run_locally(study, arm, seed, retort_home(), report)
    for name in study.metrics:
        console.print(f"{name:<5} {result.metrics[name]:6.2f}")
    console.print(f"detector: {result.checkpoint}\nfolder:   {folder}", soft_wrap=True)
