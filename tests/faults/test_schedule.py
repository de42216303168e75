"""A schedule of every minute on a real stack whose service is killed again and again: none lost, none doubled."""

import time

import pytest

from api.embedded import supervisord
from orchestrator.schedules import times
from orchestrator.schedules.store import Schedules
from tests.faults.conftest import Bench

SPEC = {
    "name": "every minute",
    "dataset": "digits",
    "scale": "smoke",
    "teacher": {"detector": "gfl", "backbone": "resnet18"},
    "student": {"detector": "gfl", "backbone": "resnet18"},
    "arms": [{"id": "student"}, {"id": "ld", "distiller": "ld"}],
}
KILLS = 18  # one every ten seconds, at growing seconds of the minute
MINUTE = 60_000


def service(bench: Bench, action: str) -> None:
    """Ask the supervisor to start or stop the orchestrator."""
    getattr(supervisord.rpc(bench.stack, supervisord.WAITING_SECONDS), action)("orchestrator", True)


@pytest.mark.slow
def test_every_minute_with_the_service_killed_in_between(bench: Bench) -> None:
    schedules = Schedules(bench.store)
    schedule = schedules.add(SPEC, "* * * * *", "Europe/Paris")
    killed = 0
    for number in range(KILLS):
        time.sleep(9 + number % 3)
        for process in bench.processes("orchestrator.service"):
            process.kill()
            killed += 1
    while not bench.processes("orchestrator.service"):
        time.sleep(0.5)
    service(bench, "stopProcess")
    time.sleep(150)  # at least two times are missed
    service(bench, "startProcess")
    while schedules.schedule(schedule.id).due <= bench.store.now() or schedules.schedule(schedule.id).due == schedule.due:
        time.sleep(0.2)
    schedules.pause(schedule.id)
    runs = [each.run for each in reversed(schedules.runs(schedule.id, 1000))]
    told = [f"{times.told(run.due, 'Europe/Paris')} {run.times} {run.outcome.value} {run.study_id} {run.reason}" for run in runs]
    print("\n".join(told))
    covered = [run.due + n * MINUTE for run in runs for n in range(run.times)]
    assert covered == list(range(schedule.due, schedules.schedule(schedule.id).due, MINUTE))
    assert len(covered) >= 5
    assert killed >= KILLS // 2
    assert max(run.times for run in runs) >= 2
    made = sorted(run.study_id for run in runs if run.study_id)
    assert made == sorted(study.id for study in bench.store.studies(limit=200) if study.name == "every minute")
    for study in made:
        assert bench.await_end(study).state.value == "finished"
    states = [{trial.state.value for trial in bench.store.trials(study)} for study in made]
    assert states == [{"finished"}, *[{"cached"}] * (len(made) - 1)]
    bench.await_that(made[-1], lambda: not schedules.unsettled())
    (newest, *_) = [each.run for each in schedules.runs(schedule.id) if each.run.study_id]
    assert (newest.against, newest.moved) == (made[-2], [])
