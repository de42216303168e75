"""Measurements as jobs of a study's graph: ready behind what they measure, keyed by checkpoints, reused, and no trainings."""

from pathlib import Path
from typing import Any

from orchestrator.driving.trials.order import Order
from orchestrator.machine import TrialState
from orchestrator.plan import plan
from orchestrator.records.store import Store
from studies.submission import as_submission
from tests.orchestrator.conftest import ALONE, PUPIL, TEACHER, Driven, a_study, graph_of, next_of, train_next

ASKED: dict[str, Any] = {"metrics": ["AP", "D_pred"], "measure": [{"kind": "nms", "options": {"threshold": 0.9}, "arms": ["fitnet"]}]}
MEASURED = ["d_pred/student/seed-0", "d_pred/fitnet/seed-0", "nms/fitnet/seed-0"]


def started(store: Store, folder: Path, **changes: Any) -> tuple[Driven, Any]:
    spec = a_study(**(ASKED | changes))
    driven = Driven.start(store, folder, spec)
    return driven, graph_of(driven, spec)


def measure_next(graph: Any, driven: Driven, order: Order) -> object:
    """A measurement's life as the driver sees it."""
    graph.started(order.trial)
    document = driven.folder / f"{driven.id}-{order.trial.replace('/', '-')}.json"
    document.write_text("{}")
    result = {"metrics": {"D_pred": 0.1}, "checkpoint": str(document), "checkpoint_sha256": "d0c", "best_checkpoint": None}
    graph.reported(order.trial, {"result": {**result, "seconds": 1.0, "environment": {}}})
    return order


def run_all(graph: Any, driven: Driven) -> None:
    while not graph.settle():
        order = next_of(graph)
        (train_next if order.job == "training" else measure_next)(graph, driven, order)


def test_they_come_behind_what_they_measure_with_its_checkpoints(store: Store, tmp_path: Path) -> None:
    driven, graph = started(store, tmp_path)
    assert [trial.name for trial in store.trials(driven.id)] == [TEACHER, ALONE, PUPIL, *MEASURED]
    train_next(graph, driven)
    train_next(graph, driven)
    orders = [next_of(graph), next_of(graph)]  # the student and its measurement: its teacher is there, the pupil is not
    assert [order.trial for order in orders] == [PUPIL, MEASURED[0]]
    assert orders[1].job == "measurement"
    assert orders[1].spec["kind"] == "d_pred"
    assert orders[1].spec["detector"]["sha256"] == f"sha of {ALONE}"
    assert orders[1].spec["teacher"]["sha256"] == f"sha of {TEACHER}"
    train_next(graph, driven, orders[0])
    measure_next(graph, driven, orders[1])
    rest = [next_of(graph), next_of(graph)]
    assert [order.trial for order in rest] == MEASURED[1:]
    assert rest[1].spec["options"] == {"threshold": 0.9}
    assert "teacher" not in rest[1].spec or rest[1].spec["teacher"] is None
    for order in rest:
        measure_next(graph, driven, order)
    assert graph.ended


def test_another_study_takes_them_over(store: Store, tmp_path: Path) -> None:
    driven, graph = started(store, tmp_path)
    run_all(graph, driven)
    store.conclude(driven.id, driven.attempt)
    again, graph = started(store, tmp_path, name="again")
    assert graph.settle()
    assert {trial.state for trial in store.trials(again.id)} == {TrialState.CACHED}
    assert again.trial(MEASURED[0]).metrics == {"D_pred": 0.1}


def test_they_are_no_trainings(store: Store, tmp_path: Path) -> None:
    driven, graph = started(store, tmp_path)
    run_all(graph, driven)
    assert store.trial_counts([driven.id])[driven.id] == {TrialState.FINISHED: 3}
    assert [trial.role for trial in store.history("digits", "nano")].count("measurement") == 0
    assert "training_code" not in (driven.trial(MEASURED[0]).environment or {})
    told = {row.trial_id for row in store.outbox()}
    assert driven.trial(MEASURED[0]).id not in told
    store.record_dataset("digits", "digest")
    found = plan(as_submission(a_study(**ASKED, name="planned")), store)
    assert (len(found.steps), found.to_run, len(found.measurements), found.to_measure) == (3, 0, 3, 0)


def test_a_plan_reuses_them_and_tells_the_time_of_those_like_them(store: Store, tmp_path: Path) -> None:
    store.record_dataset("digits", "digest")
    driven, graph = started(store, tmp_path)
    run_all(graph, driven)
    store.conclude(driven.id, driven.attempt)
    asked = [*ASKED["measure"], {"kind": "nms", "options": {"threshold": 0.5}, "arms": ["fitnet"]}, {"kind": "errors", "arms": ["fitnet"]}]
    found = plan(as_submission(a_study(**(ASKED | {"measure": asked}))), store)
    assert [(step.measurement.kind, step.reuses, step.seconds, step.basis) for step in found.measurements] == [
        ("d_pred", True, 0.0, None),
        ("d_pred", True, 0.0, None),
        ("nms", True, 0.0, None),
        ("nms", False, 1.0, "measured"),  # like the other threshold's
        ("errors", False, None, None),  # never made before
    ]
    assert (found.to_measure, found.unknown, found.device_seconds) == (2, 1, 1.0)
    forced = plan(as_submission(a_study(**ASKED, force=True)), store)
    assert (forced.to_measure, [step.key for step in forced.measurements]) == (3, [None] * 3)


def test_a_failed_training_takes_its_measurements_with_it_and_no_other(store: Store, tmp_path: Path) -> None:
    driven, graph = started(store, tmp_path)
    train_next(graph, driven)
    next_of(graph)
    next_of(graph)
    graph.started(PUPIL)
    graph.reported(PUPIL, {"failure": "nan", "reason": "the loss became NaN"})
    states = {trial.name: trial.state for trial in store.trials(driven.id)}
    assert states[MEASURED[1]] == states[MEASURED[2]] == TrialState.FAILED
    assert states[MEASURED[0]] == TrialState.WAITING
    assert driven.trial(MEASURED[1]).reason == f"it needs {PUPIL}, which failed: the loss became NaN"
