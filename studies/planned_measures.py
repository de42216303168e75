"""Which measurements a study makes of its trainings: D_pred where its table asks for it, and what `measure` lists."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from studies.measurement import MeasurementSpec
from studies.measures import KINDS, SAMPLED, predictions_compare
from studies.spec import Measure, MethodUse, Network, Schedule, StudySpec
from studies.trial import Setting, TeacherRef

if TYPE_CHECKING:
    from studies.expand import PlannedRow

D_PRED = Measure(kind="d_pred")


@dataclass(frozen=True)
class PlannedMeasurement:
    """A measurement before its trainings are done.

    id: unique among the study's jobs ("d_pred/ld/seed-0"). row: id of the row that it measures. detector, teacher: ids of trials.
    """

    id: str
    title: str
    kind: str
    row: str
    seed: int
    detector: str
    teacher: str | None
    options: dict[str, Any]
    distillers: tuple[MethodUse, ...] = ()

    def resolve(
        self, setting: StudySpec | Setting, detector: TeacherRef, teacher: TeacherRef | None, schedule: Schedule
    ) -> MeasurementSpec:
        """What is measured, with the checkpoints at hand. schedule: of the detector's training, which says how many images it looked at."""
        return MeasurementSpec.model_validate(
            {
                "kind": self.kind,
                "dataset": setting.dataset,
                "scale": setting.scale,
                "detector": detector,
                "teacher": teacher,
                "distillers": self.distillers,
                "options": self.options,
                "limit": images_looked_at(schedule),
                "threads": setting.resources.cpus,
                "gpus": setting.resources.visible_gpus,
            }
        ).resolved()


def images_looked_at(schedule: Schedule) -> int | None:
    """How many images of the validation split a training looked at, and so do measurements of it; None: all."""
    return schedule.max_iterations and schedule.max_iterations * (schedule.batch_size or 1)


@dataclass(frozen=True)
class Measurable:
    """A row with the teacher that is known for it, whether it learns from it or not."""

    row: PlannedRow
    teacher: PlannedRow | None


def misfit(measure: Measure, student: Network, teacher: Network | None, distillers: Sequence[MethodUse]) -> str | None:
    """Why a kind cannot measure such a row, or None."""
    if KINDS[measure.kind].teacher == "needed" and teacher is None:
        return f"{measure.kind} compares a student with its teacher, which this arm does not have"
    if measure.kind == "d_pred" and teacher and not predictions_compare((student.detector, student.form), (teacher.detector, teacher.form)):
        return "d_pred compares a one-stage student with a one-stage teacher that predicts at the same cells and anchors"
    if measure.kind == "sampling" and not SAMPLED & {use.id for use in distillers}:
        return f"sampling reads the weights of {', '.join(sorted(SAMPLED))}, and this arm has none of them"
    return None


def measures_of(study: StudySpec) -> list[Measure]:
    """What the study asks for, D_pred of its table first."""
    return [*([D_PRED] if "D_pred" in study.metrics else []), *study.measure]


def concerns(measure: Measure, row: PlannedRow) -> bool:
    """Whether a row is one of those that are to be measured, where it fits."""
    if measure.arms is not None:
        return row.role != "teacher" and row.id.partition("~")[0] in measure.arms
    return row.role != "teacher" or KINDS[measure.kind].teacher == "none"


def planned_measurements(study: StudySpec, rows: Sequence[Measurable]) -> list[PlannedMeasurement]:
    """All measurements of a study, each once."""
    made: dict[str, PlannedMeasurement] = {}  # by content
    names: set[str] = set()
    for measure in measures_of(study):
        for each in rows:
            for planned in _of_row(measure, each) if concerns(measure, each.row) else ():
                content = json.dumps([planned.kind, planned.detector, planned.teacher, planned.options], sort_keys=True)
                if content not in made:
                    made[content] = replace(planned, id=_free(planned, names))
                    names.add(made[content].id)
    return list(made.values())


def measured_by(row: PlannedRow, teacher: str | None, measurements: Sequence[PlannedMeasurement]) -> tuple[str, ...]:
    """Ids of the measurements that complete a row's metrics: D_pred of its trainings with its teacher (id of the teacher's trial)."""
    found = {m.detector: m.id for m in measurements if m.kind == "d_pred" and m.teacher == teacher}
    return tuple(found[trial] for trial in row.trials if trial in found)


def _of_row(measure: Measure, each: Measurable) -> Iterator[PlannedMeasurement]:
    row, kind = each.row, KINDS[measure.kind]
    if misfit(measure, row.network, each.teacher.network if each.teacher else None, row.distillers):
        return
    options = kind.options.model_validate(measure.options).model_dump(mode="json")
    told = f"{kind.short} at {options['threshold']:g}" if options.get("threshold") else kind.short
    teacher = each.teacher.trials[0] if each.teacher and kind.teacher != "none" else None
    for trial in row.trials if kind.every_seed else row.trials[:1]:
        seed = int(trial.rpartition("-")[2])
        yield PlannedMeasurement(
            id=f"{measure.kind}/{trial}",
            title=f"{told}: {row.title} · seed {seed}",
            kind=measure.kind,
            row=row.id,
            seed=seed,
            detector=trial,
            teacher=teacher,
            options=options,
            distillers=row.distillers if measure.kind == "sampling" else (),
        )


def _free(planned: PlannedMeasurement, names: set[str]) -> str:
    """The id, or one with a number where another measurement of that kind has it."""
    number, name = 1, planned.id
    while name in names:
        number += 1
        name = f"{planned.kind}~{number}/{planned.detector}"
    return name
