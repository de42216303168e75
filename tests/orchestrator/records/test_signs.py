"""Signs of life inside an epoch: the newest of a running trial is kept, once, everywhere; and nothing of it after the end."""

import pytest

from orchestrator.records.errors import LeaseLost
from orchestrator.records.signs import SIGN
from tests.orchestrator.conftest import TEACHER, Clock, Driven


def sign(driven: Driven, step: int, **metrics: float) -> None:
    told = {"epoch": 1, "epochs": 2, "step": step, "steps": 100, "metrics": metrics or {"loss": 2.0}}
    driven.store.record_sign(driven.id, driven.attempt, TEACHER, told, driven.fences[TEACHER])


def steps(driven: Driven) -> list[int]:
    return [event.data["step"] for event in driven.store.events(driven.id) if event.kind == "step"]


def test_only_the_newest_is_kept_and_mlflow_has_one_thing_to_be_told(driven: Driven) -> None:
    driven.begin(TEACHER)
    for step in (10, 20, 30):
        sign(driven, step)
    assert steps(driven) == [30]
    assert (driven.trial(TEACHER).sign or {})["step"] == 30
    assert len([row for row in driven.store.outbox(driven.id) if row.epoch == SIGN]) == 1
    driven.store.sent([row.id for row in driven.store.outbox(driven.id)])
    sign(driven, 40)
    assert [row.epoch for row in driven.store.outbox(driven.id)] == [SIGN]


def test_it_goes_with_the_end_of_the_trial_and_its_process(driven: Driven) -> None:
    driven.begin(TEACHER)
    sign(driven, 10)
    driven.fail(TEACHER, "infra", "its process died")
    assert steps(driven) == []
    assert driven.trial(TEACHER).sign is None
    driven.begin(TEACHER)
    sign(driven, 20)
    driven.finish(TEACHER)
    assert steps(driven) == []
    assert driven.trial(TEACHER).sign is None


def test_it_needs_the_lease_and_numbers_that_are_finite(driven: Driven, clock: Clock) -> None:
    driven.begin(TEACHER)
    sign(driven, 10, loss=float("nan"), lr=0.1)
    assert (driven.trial(TEACHER).sign or {})["metrics"] == {"lr": 0.1}
    clock.seconds += 31
    other = Driven.start(driven.store, driven.folder)
    other.begin(TEACHER)
    with pytest.raises(LeaseLost):
        sign(driven, 20)
    assert steps(driven) == [10]
