"""The service's loops: trouble is told once and survived; nothing is needed but the database."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import event

from orchestrator import loops
from orchestrator.driving.jobs import LOOKING_DRIVERS, Jobs
from orchestrator.machine import StudyState
from orchestrator.records.schema import Attempt, Study
from orchestrator.records.store import Store
from orchestrator.settings import Settings, settings
from studies.submission import as_submission
from tests.orchestrator.conftest import Driven, a_study, grant_all
from tests.orchestrator.dashboard import Dashboard, serving

NOWHERE = "http://127.0.0.1:1"


def nowhere(folder: Path) -> Settings:
    return Settings(folder, f"sqlite:///{folder}/retort.db", NOWHERE, NOWHERE, "127.0.0.1:1", NOWHERE, 1)


def test_while_ray_is_away_studies_wait_and_their_watchers_are_told_once(store: Store, tmp_path: Path) -> None:
    study, _ = store.create_study(as_submission(a_study()))
    jobs = Jobs(store, nowhere(tmp_path))
    for _ in range(3):
        with pytest.raises(ConnectionError, match=NOWHERE):
            jobs.step()
    notes = [event.data["text"] for event in store.events(study.id) if event.kind == "note"]
    assert notes == [f"Ray cannot be reached at {NOWHERE}; trying again"]
    assert [attempt.number for attempt in store.attempts(study.id)] == [1]
    assert store.study(study.id).state.value == "queued"


def test_a_study_cancelled_while_ray_is_away_is_cancelled_when_it_never_ran(store: Store, tmp_path: Path) -> None:
    study, _ = store.create_study(as_submission(a_study()))
    assert store.request_cancel(study.id).state.value == "cancelled"
    Jobs(store, nowhere(tmp_path)).step()


@pytest.fixture
def ray() -> Iterator[Dashboard]:
    with serving(Dashboard()) as dashboard:
        yield dashboard


def jobs_of(store: Store, folder: Path, ray: Dashboard) -> Jobs:
    return Jobs(store, replace(nowhere(folder), ray_jobs=ray.url))


def test_a_study_that_nobody_has_looked_at_gets_a_driver_without_devices_a_few_at_a_time(
    store: Store, ray: Dashboard, tmp_path: Path
) -> None:
    ids = [store.create_study(as_submission(a_study(name=f"study {n}")))[0].id for n in range(LOOKING_DRIVERS + 2)]
    jobs = jobs_of(store, tmp_path, ray)
    jobs.step()
    jobs.step()
    assert [len(store.attempts(study_id)) for study_id in ids] == [1] * LOOKING_DRIVERS + [0, 0]
    grant_all(store, ids[-1])
    jobs.step()
    assert [len(store.attempts(study_id)) for study_id in ids] == [1] * LOOKING_DRIVERS + [0, 1], "devices are not kept waiting"


def test_a_study_whose_driver_went_for_want_of_devices_gets_another_with_devices_alone(
    store: Store, ray: Dashboard, tmp_path: Path
) -> None:
    driven = Driven.start(store, tmp_path)
    store.end_attempt(driven.id, 1, "it has no devices for now", planned=True)
    jobs = jobs_of(store, tmp_path, ray)
    jobs.step()
    assert len(store.attempts(driven.id)) == 1
    grant_all(store, driven.id)
    jobs.step()
    assert len(store.attempts(driven.id)) == 2


def test_one_studys_trouble_keeps_no_other_from_its_driver(store: Store, ray: Dashboard, tmp_path: Path) -> None:
    ids = [store.create_study(as_submission(a_study(name=f"study {n}")))[0].id for n in range(3)]
    for study_id in ids:
        grant_all(store, study_id)
    ray.broken = f"study-{ids[0]}-a1"
    jobs = jobs_of(store, tmp_path, ray)
    for _ in range(2):
        with pytest.raises(RuntimeError, match=f"study {ids[0]}: Ray answers 500 to POST /api/jobs/: no room in study-404."):
            jobs.step()
    assert set(ray.submitted) == {f"study-{ids[1]}-a1", f"study-{ids[2]}-a1"}
    assert [store.study(study_id).stalls for study_id in ids] == [0, 0, 0]


def test_a_thousand_queued_studies_cost_the_loop_few_statements(store: Store, ray: Dashboard, tmp_path: Path) -> None:
    with store._writes.begin() as session:
        for number in range(1000):
            session.add(Study(name=f"study {number}", spec={}, state=StudyState.QUEUED, counts={}, created=0))
        session.flush()
        for number in range(1000):
            session.add(Attempt(study_id=number + 1, number=1, submission=f"{number}", created=0, ended=1))
    jobs = jobs_of(store, tmp_path, ray)
    statements: list[str] = []
    event.listen(store.engine, "before_cursor_execute", lambda *said: statements.append(said[2]))
    jobs.step()
    assert len([each for each in statements if each.startswith("SELECT")]) <= 3
    assert len(store.queued_studies()) == 1000


class Flaky:
    """Fails twice, then works."""

    name = "flaky"
    interval = 0.001

    def __init__(self, store: Store, stop: threading.Event) -> None:
        self.store, self.stop, self.rounds = store, stop, 0
        self.told: list[str] = []

    def step(self) -> None:
        self.rounds += 1
        self.told += [beat.trouble for beat in self.store.heartbeats()]
        if self.rounds <= 2:
            raise OSError("the disk\nis full")
        if self.rounds == 4:
            self.stop.set()


def test_a_loop_tells_its_trouble_and_that_it_is_over(store: Store) -> None:
    stop = threading.Event()
    flaky = Flaky(store, stop)
    loops.run(flaky, store, stop)
    assert flaky.told[0] == "OSError: the disk is full"
    assert [beat.trouble for beat in store.heartbeats()] == [""]


def test_settings_describe_themselves_to_another_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RETORT_HOME", str(tmp_path))
    monkeypatch.setenv("RETORT_RAY_JOBS", NOWHERE)
    mine = settings()
    assert mine.database == f"sqlite:///{tmp_path}/retort.db"
    for name, value in mine.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir("/")
    assert settings() == mine
