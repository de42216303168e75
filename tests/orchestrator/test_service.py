"""The service's loops: trouble is told once and survived; nothing is needed but the database."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from orchestrator import loops
from orchestrator.driving.jobs import LOOKING_DRIVERS, SURE_SECONDS, Jobs
from orchestrator.driving.pulse import DRIVER_SECONDS
from orchestrator.machine import StudyState, TrialState
from orchestrator.records.schema import Arm, Attempt, Study, Trial
from orchestrator.records.store import Store
from orchestrator.settings import Settings, settings
from studies.submission import as_submission
from tests.orchestrator.conftest import ALONE, PUPIL, TEACHER, Clock, Driven, a_study, grant_all
from tests.orchestrator.dashboard import Dashboard, serving
from tests.orchestrator.records.test_patience import impatient_sqlite

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


def test_a_driver_that_died_before_it_could_conclude_is_followed_by_one_that_does(store: Store, ray: Dashboard, tmp_path: Path) -> None:
    driven = Driven.start(store, tmp_path)
    for name in (TEACHER, ALONE, PUPIL):
        driven.train(name)
    store.end_attempt(driven.id, 1, "killed")
    jobs_of(store, tmp_path, ray).step()
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


@dataclass
class Watched:
    """A study whose driver is up, as the jobs loop sees it. clock: of the computer; steady: the one that is never set."""

    store: Store
    study: int
    jobs: Jobs
    ray: Dashboard
    clock: Clock
    steady: Clock

    def outcome_after(self, seconds: float) -> str | None:
        """The attempt's outcome, None while it goes on."""
        self.clock.seconds += seconds
        self.steady.seconds += seconds
        self.jobs.step()
        return self.store.attempts(self.study)[0].outcome


@pytest.fixture
def watched(store: Store, tmp_path: Path, clock: Clock) -> Iterator[Watched]:
    study, _ = store.create_study(as_submission(a_study()))
    steady = Clock(0.0)
    with serving(Dashboard()) as ray:
        jobs = Jobs(store, replace(nowhere(tmp_path), ray_jobs=ray.url), clock=steady)
        jobs.step()
        store.start_attempt(study.id, 1)
        store.driver_lives(study.id, 1)
        jobs.step()
        yield Watched(store, study.id, jobs, ray, clock, steady)


def test_a_driver_that_says_nothing_is_replaced_after_its_deadline(watched: Watched) -> None:
    assert watched.outcome_after(DRIVER_SECONDS) is None
    assert watched.outcome_after(1) == "its driver gave no sign of life for 241 s"
    assert watched.ray.stopped == [f"study-{watched.study}-a1"]


def test_a_study_whose_attempts_are_lost_again_and_again_rests_longer_and_longer_before_it_fails(watched: Watched) -> None:
    for number, rest in enumerate([0, 2, 4, 8, 16, 32, 60, 60, 60], start=2):
        watched.ray.submitted.clear()  # Ray has forgotten the job, as after the death of its head
        watched.outcome_after(0)
        grant_all(watched.store, watched.study)
        if rest:
            watched.outcome_after(rest - 1)
            assert len(watched.store.attempts(watched.study)) == number - 1
        watched.outcome_after(1 if rest else 0)
        assert len(watched.store.attempts(watched.study)) == number
        watched.store.start_attempt(watched.study, number)
    watched.ray.submitted.clear()
    watched.outcome_after(0)
    told = "10 attempts in a row were lost without a new epoch, the last one: Ray no longer knows it"
    assert watched.store.study(watched.study).reason == told


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_a_clock_that_is_set_makes_no_driver_silent_and_hides_no_silence(watched: Watched, jump: float) -> None:
    watched.clock.seconds += jump
    assert watched.outcome_after(0) is None
    assert watched.outcome_after(5) is None
    watched.store.driver_lives(watched.study, 1)
    assert watched.outcome_after(0) is None
    assert watched.outcome_after(DRIVER_SECONDS) is None
    assert watched.outcome_after(1) == "its driver gave no sign of life for 241 s"


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_drivers_that_a_locked_database_kept_silent_have_time_to_speak_again(watched: Watched, tmp_path: Path) -> None:
    impatient_sqlite(watched.store)
    with closing(sqlite3.connect(tmp_path / "retort.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for _ in range(3):
            with pytest.raises(OperationalError, match="locked"):
                watched.outcome_after(DRIVER_SECONDS)
        other.execute("ROLLBACK")
    assert watched.outcome_after(0) is None
    assert watched.outcome_after(SURE_SECONDS) is None
    assert watched.outcome_after(1) == f"its driver gave no sign of life for {3 * DRIVER_SECONDS + SURE_SECONDS + 1:.0f} s"


def test_a_service_that_was_away_itself_needs_no_whole_deadline_again(watched: Watched) -> None:
    """Its driver fell silent while nobody watched."""
    watched.jobs = Jobs(watched.store, watched.jobs.settings, clock=watched.steady)
    assert watched.outcome_after(1000) is None
    assert watched.outcome_after(SURE_SECONDS) is None
    assert watched.outcome_after(1) == f"its driver gave no sign of life for {1001 + SURE_SECONDS:.0f} s"


def test_a_thousand_queued_studies_cost_the_loop_few_statements(store: Store, ray: Dashboard, tmp_path: Path) -> None:
    with store._writes.begin() as session:
        for number in range(1000):
            session.add(Study(name=f"study {number}", spec={}, state=StudyState.QUEUED, counts={}, created=0))
        session.flush()
        for study_id in range(1, 1001):
            session.add(Attempt(study_id=study_id, number=1, submission=f"{study_id}", created=0, ended=1))
            session.add(Arm(study_id=study_id, position=0, name="student", title="student", role="baseline", detail={}))
        session.flush()
        for study_id in range(1, 1001):
            waits = {"position": 0, "name": "student/seed-0", "title": "student", "role": "baseline", "seed": 0, "state": TrialState.READY}
            session.add(Trial(study_id=study_id, arm_id=study_id, **waits))
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
    listens = False

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


class Listening:
    """Counts its rounds; the second one ends it."""

    name = "listening"
    interval = 60.0
    listens = True

    def __init__(self, stop: threading.Event) -> None:
        self.stop, self.rounds, self.began = stop, 0, threading.Event()

    def step(self) -> None:
        self.rounds += 1
        if self.rounds == 2:
            self.stop.set()
        self.began.set()


def test_a_loop_that_listens_steps_as_soon_as_something_happens(store: Store) -> None:
    stop = threading.Event()
    loop = Listening(stop)
    thread = threading.Thread(target=loops.run, args=(loop, store, stop))
    thread.start()
    assert loop.began.wait(30)
    assert not stop.wait(3 * loops.HEAR_SECONDS)
    store.create_study(as_submission(a_study()))
    assert stop.wait(30)  # its interval is twice that
    thread.join()
    assert loop.rounds == 2


def test_settings_describe_themselves_to_another_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RETORT_HOME", str(tmp_path))
    monkeypatch.setenv("RETORT_RAY_JOBS", NOWHERE)
    mine = settings()
    assert mine.database == f"sqlite:///{tmp_path}/retort.db"
    for name, value in mine.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir("/")
    assert settings() == mine
