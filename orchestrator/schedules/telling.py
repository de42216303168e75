"""What a study's table and its MLflow run say of the schedule that made it."""

from orchestrator.records.store import Store
from orchestrator.schedules import times
from orchestrator.schedules.compare import Moved
from orchestrator.schedules.store import Schedules

_TAG_CHARACTERS = 5000  # what MLflow takes


def table_notes(store: Store, study_id: int) -> list[str]:
    """Lines below the table: which run it is, and what moved since the one before. None for a study that a person submitted."""
    found = Schedules(store).run_of_study(study_id)
    if found is None:
        return []
    schedule, run = found
    told = f"Run of schedule {schedule.id}, due {times.told(run.due, schedule.zone)}"
    if run.moved is None or run.against is None:
        return [f"{told}."]
    if not run.moved:
        return [f"{told}. Nothing moved more than its noise since study {run.against}."]
    noise = "noise is the 95% t interval of the differences seed by seed, with one seed 0.2"
    return [f"{told}. Moved since study {run.against} by more than the noise ({noise}):", *map(_line, map(Moved.of, run.moved))]


def _line(moved: Moved) -> str:
    return f"{'WORSE' if moved.worse else 'better'}: {moved.sentence()}"


def tags(store: Store, study_id: int) -> dict[str, str]:
    """`schedule`, and from the second finished run on `regression`: "none", or what moved, the worse first ("worse: ...")."""
    found = Schedules(store).run_of_study(study_id)
    if found is None:
        return {}
    schedule, run = found
    known = {"schedule": str(schedule.id)}
    if run.moved is not None:
        moved = [Moved.of(each) for each in run.moved]
        sides = {side: [m.sentence() for m in moved if m.worse == worse] for side, worse in (("worse", True), ("better", False))}
        told = " | ".join(f"{side}: {'; '.join(sentences)}" for side, sentences in sides.items() if sentences)
        known["regression"] = (told or "none")[:_TAG_CHARACTERS]
    return known
