"""The contract of the store, for every database it runs on."""

import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

import orchestrator.access.schema
import orchestrator.webhooks.schema  # noqa: F401  (both for the tables they add)
from orchestrator import machine
from orchestrator.machine import MAX_STALLS, IllegalMove, StudyState, TrialState
from orchestrator.records.errors import IdempotencyMismatch, NoSuchStudy, Superseded
from orchestrator.records.leases import Claim
from orchestrator.records.schema import Base
from orchestrator.records.store import Store
from studies.submission import as_submission
from tests.orchestrator.conftest import ALONE, PUPIL, TEACHER, Clock, Driven, a_study


def test_migrations_give_exactly_the_schema_of_the_models(store: Store) -> None:
    with store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_processes_that_start_together_migrate_once(url: str) -> None:
    opened: list[Store] = []
    threads = [threading.Thread(target=lambda: opened.append(Store(url))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 4
    assert opened[0].create_study(as_submission(a_study()))[1]
    for store in opened:
        store.close()


def test_a_new_study_has_its_arms_and_trials(store: Store) -> None:
    study, created = store.create_study(as_submission(a_study(seeds=[0, 1])))
    assert created
    assert store.study(study.id).state is StudyState.QUEUED
    assert [arm.name for arm in store.arms(study.id)] == ["teacher/gfl-resnet34", "student", "fitnet"]
    assert [(trial.name, trial.state.value, trial.teacher) for trial in store.trials(study.id)] == [
        (TEACHER, "ready", None),
        ("student/seed-0", "ready", None),
        ("student/seed-1", "ready", None),
        ("fitnet/seed-0", "waiting", TEACHER),
        ("fitnet/seed-1", "waiting", TEACHER),
    ]
    assert store.trial_counts([study.id])[study.id] == {TrialState.READY: 3, TrialState.WAITING: 2}


def test_the_same_idempotency_key_makes_one_study(store: Store) -> None:
    first, created = store.create_study(as_submission(a_study()), "k")
    again, created_again = store.create_study(as_submission(a_study()), "k")
    assert (created, created_again, again.id) == (True, False, first.id)
    with pytest.raises(IdempotencyMismatch):
        store.create_study(as_submission(a_study(name="another")), "k")


def test_one_idempotency_key_from_many_threads_makes_one_study(store: Store) -> None:
    made: list[tuple[int, bool]] = []

    def submit() -> None:
        study, created = store.create_study(as_submission(a_study()), "k")
        made.append((study.id, created))

    threads = [threading.Thread(target=submit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({study_id for study_id, _ in made}) == 1
    assert sorted(created for _, created in made) == [False] * 7 + [True]


def test_studies_come_newest_first_in_pages(store: Store) -> None:
    ids = [store.create_study(as_submission(a_study(name=f"study {n}")))[0].id for n in range(5)]
    page = store.studies(limit=2)
    assert [study.id for study in page] == [ids[4], ids[3]]
    assert [study.id for study in store.studies(cursor=page[-1].id, limit=10)] == [ids[2], ids[1], ids[0]]


def test_an_unknown_study_is_refused_everywhere(store: Store) -> None:
    for ask in (store.study, store.trials, store.arms, store.points, store.events, store.request_cancel, store.request_resume):
        with pytest.raises(NoSuchStudy):
            ask(7)


def test_a_trial_from_claim_to_result(driven: Driven, clock: Clock) -> None:
    driven.begin(TEACHER)
    clock.seconds += 60
    assert driven.epoch(TEACHER, 1, AP=11.5, loss=2.25)
    clock.seconds += 60
    driven.epoch(TEACHER, 2, AP=20.0, loss=1.5)
    driven.finish(TEACHER, AP=20.0)
    trial = driven.trial(TEACHER)
    assert (trial.state, trial.epoch, trial.epochs, trial.metrics) == (TrialState.FINISHED, 2, 2, {"AP": 20.0})
    assert trial.environment == {"git_sha": "abc", "torch": "2"}
    assert (trial.started, trial.finished) == (1_000_000_000, 1_000_120_000)
    points = driven.store.points(driven.id, TEACHER)
    assert [(p.epoch, p.name, p.value, p.time) for p in points] == [
        (1, "AP", 11.5, 1_000_060_000),
        (1, "loss", 2.25, 1_000_060_000),
        (2, "AP", 20.0, 1_000_120_000),
        (2, "loss", 1.5, 1_000_120_000),
    ]
    assert driven.trial(PUPIL).state == TrialState.READY


def test_an_epoch_reported_again_changes_nothing(driven: Driven, clock: Clock) -> None:
    driven.begin(ALONE)
    driven.epoch(ALONE, 1)
    before = (len(driven.store.events(driven.id)), len(driven.store.outbox()), driven.store.points(driven.id)[0].time)
    clock.seconds += 5
    assert not driven.epoch(ALONE, 1)
    assert (len(driven.store.events(driven.id)), len(driven.store.outbox()), driven.store.points(driven.id)[0].time) == before


def test_a_metric_that_is_no_number_is_left_out(driven: Driven) -> None:
    driven.begin(ALONE)
    driven.epoch(ALONE, 1, AP=1.0, APl=float("nan"))
    assert [point.name for point in driven.store.points(driven.id)] == ["AP"]


def test_an_epoch_of_a_trial_that_does_not_run_is_refused_and_leaves_nothing(driven: Driven) -> None:
    assert driven.claim(ALONE) == Claim.HELD
    before = len(driven.store.events(driven.id))
    with pytest.raises(IllegalMove):
        driven.epoch(ALONE, 1)
    assert driven.store.points(driven.id) == []
    assert len(driven.store.events(driven.id)) == before


def test_a_refused_move_tells_what_happened_before(driven: Driven) -> None:
    driven.train(ALONE)
    with pytest.raises(IllegalMove, match=r"attempt 1 started.*trial student/seed-0 running; trial student/seed-0 finished"):
        driven.claim(ALONE)


def test_events_are_read_from_where_one_stopped(driven: Driven) -> None:
    seen = driven.store.events(driven.id)
    driven.begin(ALONE)
    driven.epoch(ALONE, 1, AP=3.0)
    new = driven.store.events(driven.id, after=seen[-1].id)
    assert [(event.kind, event.data.get("state"), event.data.get("epoch")) for event in new] == [
        ("trial", "running", None),
        ("epoch", None, 1),
    ]
    assert driven.store.events(driven.id, after=new[-1].id) == []


def test_an_equal_finished_trial_is_reused_with_its_points(driven: Driven, store: Store, clock: Clock, tmp_path: Path) -> None:
    driven.train(ALONE, "same", AP=33.0)
    recorded = [(p.epoch, p.name, p.value, p.time) for p in store.points(driven.id, ALONE)]
    clock.seconds += 100
    other = Driven.start(store, tmp_path, a_study(name="another"))
    assert other.claim(ALONE, "same") == Claim.CACHED
    trial = other.trial(ALONE)
    assert (trial.state, trial.metrics, trial.seconds, trial.source_id) == (TrialState.CACHED, {"AP": 33.0}, 30.0, driven.trial(ALONE).id)
    assert [(p.epoch, p.name, p.value, p.time) for p in store.points(other.id, ALONE)] == recorded
    assert sorted(row.epoch for row in store.outbox() if row.trial_id == trial.id and row.epoch) == [1, 2]


def test_a_result_whose_checkpoint_is_gone_is_trained_again(driven: Driven, store: Store, tmp_path: Path) -> None:
    driven.train(ALONE, "same")
    checkpoint = driven.trial(ALONE).checkpoint
    assert checkpoint
    Path(checkpoint).unlink()
    assert store.finished_trials(["same"]) == {}
    assert Driven.start(store, tmp_path).claim(ALONE, "same") == Claim.HELD


def test_force_trains_in_spite_of_an_equal_result(driven: Driven, store: Store, tmp_path: Path) -> None:
    driven.train(ALONE, "same")
    assert Driven.start(store, tmp_path).claim(ALONE, "same", reuse=False) == Claim.HELD


def test_two_studies_never_train_the_same_at_once(driven: Driven, store: Store, clock: Clock, tmp_path: Path) -> None:
    driven.begin(TEACHER, "same")
    other = Driven.start(store, tmp_path)
    assert other.claim(TEACHER, "same") == Claim.BUSY
    clock.seconds += 20
    store.keep_leases(driven.id, driven.attempt)
    clock.seconds += 20
    assert other.claim(TEACHER, "same") == Claim.BUSY
    driven.finish(TEACHER)
    assert other.claim(TEACHER, "same") == Claim.CACHED


def test_equal_trials_of_one_study_train_once(driven: Driven) -> None:
    driven.begin(TEACHER, "same")
    assert driven.claim(ALONE, "same") == Claim.BUSY
    driven.finish(TEACHER)
    assert driven.claim(ALONE, "same") == Claim.CACHED


def test_the_lease_of_a_silent_driver_is_taken_over(driven: Driven, store: Store, clock: Clock, tmp_path: Path) -> None:
    driven.begin(TEACHER, "same")
    other = Driven.start(store, tmp_path)
    clock.seconds += 31
    assert other.claim(TEACHER, "same") == Claim.HELD


def test_a_failed_or_lost_trial_gives_its_lease_back(driven: Driven, store: Store, tmp_path: Path) -> None:
    other = Driven.start(store, tmp_path)
    driven.begin(TEACHER, "same")
    driven.fail(TEACHER, "nan", "the loss became NaN")
    assert other.claim(TEACHER, "same") == Claim.HELD
    store.end_attempt(other.id, other.attempt, "killed")
    assert driven.claim(ALONE, "same") == Claim.HELD


def test_a_trial_whose_key_changed_starts_over(driven: Driven, store: Store) -> None:
    driven.begin(ALONE, "old code")
    driven.epoch(ALONE, 1)
    assert store.set_trial_run(driven.trial(ALONE).id, "run", "old code")
    driven.fail(ALONE, "infra", "its process died")
    driven.begin(ALONE, "new code")
    trial = driven.trial(ALONE)
    assert (trial.epoch, trial.run, store.points(driven.id, ALONE)) == (0, None, [])


def test_a_lost_trial_keeps_its_points(driven: Driven, store: Store) -> None:
    driven.begin(ALONE)
    driven.epoch(ALONE, 1)
    driven.fail(ALONE, "infra", "its process died")
    assert driven.trial(ALONE).state == TrialState.READY
    driven.begin(ALONE)
    assert len(store.points(driven.id, ALONE)) == 1


def test_only_one_attempt_is_open_at_a_time(store: Store) -> None:
    study, _ = store.create_study(as_submission(a_study()))
    first = store.new_attempt(study.id)
    assert first
    assert first.submission == f"study-{study.id}-a1"
    assert store.new_attempt(study.id) is None


def test_a_lost_attempt_is_followed_by_the_next(driven: Driven, store: Store) -> None:
    driven.begin(TEACHER)
    store.end_attempt(driven.id, 1, "killed")
    assert store.study(driven.id).state == StudyState.QUEUED
    assert driven.trial(TEACHER).state == TrialState.READY
    second = store.new_attempt(driven.id)
    assert second
    assert second.number == 2
    with pytest.raises(Superseded):
        driven.begin(TEACHER)
    store.end_attempt(driven.id, 1, "seen again")
    assert store.live_attempt(driven.id) is not None


def test_ten_lost_attempts_fail_the_study(store: Store) -> None:
    study, _ = store.create_study(as_submission(a_study()))
    for number in range(1, MAX_STALLS + 1):
        opened = store.new_attempt(study.id)
        assert opened
        store.end_attempt(study.id, number, "no such interpreter")
    study = store.study(study.id)
    assert study.state == StudyState.FAILED
    assert study.reason
    assert "no such interpreter" in study.reason
    assert store.new_attempt(study.id) is None


def test_cancel_and_resume_a_driven_study(driven: Driven, store: Store) -> None:
    driven.train(TEACHER)
    driven.begin(ALONE)
    assert store.request_cancel(driven.id).state == StudyState.CANCELLING
    assert store.stopped(driven.id, 1).state == StudyState.CANCELLED
    assert [trial.state.value for trial in store.trials(driven.id)] == ["finished", "cancelled", "cancelled"]
    assert store.live_attempt(driven.id) is None
    resumed = store.request_resume(driven.id)
    assert (resumed.state, resumed.finished) == (StudyState.QUEUED, None)
    assert [trial.state.value for trial in store.trials(driven.id)] == ["finished", "ready", "ready"]


def test_a_study_whose_driver_is_killed_while_cancelling_is_cancelled(driven: Driven, store: Store) -> None:
    store.request_cancel(driven.id)
    store.end_attempt(driven.id, 1, "killed")
    assert store.study(driven.id).state == StudyState.CANCELLED


def test_a_study_being_cancelled_starts_no_more_trials_but_takes_what_was_on_its_way(driven: Driven, store: Store) -> None:
    assert driven.claim(ALONE) == Claim.HELD
    store.request_cancel(driven.id)
    assert driven.claim(TEACHER) == Claim.BUSY
    driven.start_trial(ALONE)
    assert driven.epoch(ALONE, 1)
    assert store.stopped(driven.id, driven.attempt).state == StudyState.CANCELLED
    assert driven.trial(ALONE).state == TrialState.CANCELLED


def test_a_complete_study_is_finished_and_its_attempt_too(driven: Driven, store: Store) -> None:
    for name in (TEACHER, ALONE, PUPIL):
        driven.train(name)
    study = store.conclude(driven.id, 1)
    assert study.state == StudyState.FINISHED
    assert store.attempts(driven.id)[0].outcome == "done"
    with pytest.raises(IllegalMove, match="nothing is missing"):
        store.request_resume(driven.id)


def test_concluding_too_early_is_refused(driven: Driven, store: Store) -> None:
    with pytest.raises(IllegalMove, match="trials without an end"):
        store.conclude(driven.id, 1)


def test_a_study_without_dataset_fails_with_the_reason(driven: Driven, store: Store) -> None:
    study = store.fail_study(driven.id, 1, "the dataset cannot be made")
    assert (study.state, study.reason) == (StudyState.FAILED, "the dataset cannot be made")


def test_history_knows_dataset_and_scale(driven: Driven, store: Store) -> None:
    driven.train(ALONE)
    assert [trial.name for trial in store.history("digits", "nano")] == [ALONE]
    assert store.history("digits", "paper") == []


def test_sent_rows_leave_the_outbox(driven: Driven, store: Store) -> None:
    driven.begin(ALONE)
    rows = store.outbox()
    store.sent([row.id for row in rows[:1]])
    assert [row.id for row in store.outbox()] == [row.id for row in rows[1:]]


def test_a_run_knows_whose_it_is_and_whether_that_is_over(driven: Driven, store: Store) -> None:
    driven.train(ALONE)
    store.set_study_run(driven.id, "1", "parent")
    assert store.set_trial_run(driven.trial(ALONE).id, "child", f"key of {ALONE}")
    child, parent = store.owner_of_run("child"), store.owner_of_run("parent")
    assert child
    assert parent
    assert (child.trial_id, child.final) == (driven.trial(ALONE).id, True)
    assert (parent.trial_id, parent.final) == (None, False)
    assert store.owner_of_run("nobody's") is None


def test_writers_in_many_threads_wait_for_each_other(driven: Driven, store: Store) -> None:
    driven.begin(ALONE)
    threads = [threading.Thread(target=driven.epoch, args=(ALONE, epoch)) for epoch in range(1, 21)]
    threads += [threading.Thread(target=store.beat, args=(f"loop {n}",)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.points(driven.id, ALONE)) == 20
    assert len(store.heartbeats()) == 20


def test_an_event_of_the_machine_moves_the_rows(driven: Driven, store: Store) -> None:
    assert [event.data["state"] for event in store.events(driven.id) if event.kind == "study"] == ["queued", "running"]
    assert store.study(driven.id).started == 1_000_000_000
    assert machine.StudyState(store.study(driven.id).state).final is False
