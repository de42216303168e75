"""What moved between two runs: noise worked out by hand, and what a run says of itself at its end."""

from pathlib import Path
from typing import Any

import pytest

from orchestrator.machine import TrialState
from orchestrator.records.leases import Known
from orchestrator.records.schema import Trial
from orchestrator.records.store import Store
from orchestrator.schedules.compare import Moved, Results, compare
from orchestrator.schedules.loop import Cron
from orchestrator.schedules.settle import cause
from orchestrator.schedules.store import Schedules
from orchestrator.schedules.telling import table_notes, tags
from studies.submission import as_submission
from tests.orchestrator.conftest import ALONE, PUPIL, TEACHER, Clock, Driven, a_study, grant_all, trial_spec


def row(metric: str = "AP", **by_seed: float) -> list[Results]:
    return [Results("fitnet", "FitNet", {metric: {int(seed[1:]): value for seed, value in by_seed.items()}})]


def test_equal_numbers_have_not_moved() -> None:
    assert compare(row(s0=40.0, s1=41.0), row(s0=40.0, s1=41.0)) == []
    assert compare(row(s0=40.0), row(s0=40.0)) == []


def test_a_difference_moved_when_it_exceeds_the_interval_of_the_seeds_own_differences() -> None:
    # differences -3, -4, -5: mean -4, deviation 1; t(0.975; 2) = 4.302653; 4.302653 / sqrt(3) = 2.484138
    (moved,) = compare(row(s0=40.0, s1=45.0, s2=50.0), row(s0=37.0, s1=41.0, s2=45.0))
    assert (moved.before, moved.now, moved.seeds, moved.worse) == (45.0, 41.0, 3, True)
    assert moved.noise == pytest.approx(2.484138, abs=1e-6)
    assert moved.sentence() == "FitNet: AP 45.0 -> 41.0 (-4.0, noise 2.48)"
    # differences +1, -4, -3: mean -2, deviation 2.6458; 4.302653 * 2.6458 / sqrt(3) = 6.57
    assert compare(row(s0=40.0, s1=45.0, s2=50.0), row(s0=41.0, s1=41.0, s2=47.0)) == []


def test_seeds_that_agree_to_the_digit_are_held_against_what_a_table_prints() -> None:
    assert compare(row(s0=40.0, s1=41.0), row(s0=40.04, s1=41.04)) == []
    (moved,) = compare(row(s0=40.0, s1=41.0), row(s0=40.06, s1=41.06))
    assert (moved.noise, moved.worse) == (0.05, False)
    assert moved.sentence() == "FitNet: AP 40.50 -> 40.56 (+0.06, noise 0.05)"


def test_one_seed_is_held_against_the_tolerance() -> None:
    assert compare(row(s0=40.0), row(s0=40.2)) == []
    (moved,) = compare(row(s0=40.0), row(s0=39.7))
    assert (moved.noise, moved.worse) == (0.2, True)


def test_only_seeds_that_both_runs_have_are_compared() -> None:
    assert compare(row(s0=40.0, s1=90.0), row(s0=40.1, s2=10.0)) == []
    assert compare(row(s0=40.0), row(s1=10.0)) == []


def test_a_row_without_results_any_more_is_told() -> None:
    (moved,) = compare(row(s0=40.0), [Results("fitnet", "FitNet", {"AP": {}})])
    assert (moved.now, moved.worse, moved.sentence()) == (None, True, "FitNet: AP 40.0 -> no result")
    assert compare([], row(s0=40.0)) == []


@pytest.mark.parametrize(
    ("metric", "before", "now", "worse"),
    [
        ("Params", 2.0, 2.000001, True),
        ("FLOPs", 2.0, 1.9, False),
        ("D_pred", 0.1, 0.103, True),
        ("err_missed", 10.0, 9.0, False),
        ("AP50", 10.0, 9.0, True),
    ],
)
def test_each_metric_has_its_better_side(metric: str, before: float, now: float, worse: bool) -> None:
    (moved,) = compare(row(metric, s0=before), row(metric, s0=now))
    assert moved.worse is worse


def test_speed_is_of_the_machine_and_not_compared() -> None:
    assert compare(row("FPS", s0=100.0), row("FPS", s0=10.0)) == []
    assert compare(row("D_pred", s0=0.1), row("D_pred", s0=0.1015)) == []


def test_a_finding_is_stored_and_read_again() -> None:
    moved = Moved("fitnet", "FitNet", "AP", 40.0, 39.0, 0.2, 1)
    assert moved.as_data()["worse"] is True
    assert Moved.of(moved.as_data()) == moved


# --- at the end of a run


class Night:
    """A schedule of every minute whose runs are driven to their end."""

    def __init__(self, store: Store, clock: Clock, folder: Path, **changes: Any) -> None:
        self.store, self.clock, self.folder = store, clock, folder
        self.schedules = Schedules(store)
        self.id = self.schedules.add(a_study(metrics=["AP"]).model_dump(mode="json"), "* * * * *", "Europe/Paris", **changes).id

    def run(self, codes: dict[str, str], **aps: float) -> int:
        """The next run: each trial is claimed with the key of its code, and trained to its AP where nothing equal is finished."""
        self.clock.seconds += 60
        Cron(self.store).step()
        study = self.store.studies()[0].id
        attempt = self.store.new_attempt(study)
        assert attempt
        self.store.start_attempt(study, attempt.number)
        driven = Driven(self.store, study, self.folder, attempt.number)
        for name, code in codes.items():
            self._trial(driven, name, code, aps.get(name.partition("/")[0].replace("-", "_"), 20.0))
        self.store.conclude(study, attempt.number)
        Cron(self.store).step()
        return study

    def _trial(self, driven: Driven, name: str, code: str, ap: float) -> None:
        key = f"{name} of {code}"
        known = Known(trial_spec(), key, f"{key} {driven.id}", "digest")
        grant_all(self.store, driven.id)
        claimed = self.store.claim(driven.id, driven.attempt, name, known, {"git_sha": "abc", "code_version": code}, reuse=True)
        if claimed.fence is not None:
            driven.fences[name] = claimed.fence
            driven.start_trial(name)
            driven.epoch(name, 1)
            driven.finish(name, AP=ap)

    def told(self, study: int, kind: str) -> list[str]:
        return [event.data["text"] for event in self.store.events(study) if event.kind == kind and "attempt" not in event.data["text"]]


OLD = {TEACHER: "old", ALONE: "old", PUPIL: "old"}


def test_a_run_trains_what_changed_says_so_and_tells_what_moved(store: Store, clock: Clock, tmp_path: Path) -> None:
    night = Night(store, clock, tmp_path)
    first = night.run(OLD, fitnet=40.0)
    assert night.told(first, "note") == [f"schedule 1: 3 of 3 trials trained (no result in the run before: {TEACHER}, {ALONE}, {PUPIL})"]
    assert tags(store, first) == {"schedule": "1"}
    again = night.run(OLD)
    assert night.told(again, "note") == [
        "schedule 1: 0 of 3 trials trained, 3 reused: neither code nor data of these changed",
        f"nothing moved more than its noise since study {first}",
    ]
    assert tags(store, again) == {"schedule": "1", "regression": "none"}
    changed = night.run(OLD | {PUPIL: "new"}, fitnet=35.0)
    assert night.told(changed, "note") == [
        f"schedule 1: 1 of 3 trials trained (its code changed: {PUPIL}), 2 reused: neither code nor data of these changed"
    ]
    assert night.told(changed, "regression") == [f"worse than study {again}: fitnet: AP 40.0 -> 35.0 (-5.0, noise 0.20)"]
    assert tags(store, changed)["regression"] == "worse: fitnet: AP 40.0 -> 35.0 (-5.0, noise 0.20)"
    notes = table_notes(store, changed)
    assert notes[0].startswith("Run of schedule 1, due 1970-01-12 14:49 CET. Moved since study 2 by more than the noise")
    assert notes[1:] == ["WORSE: fitnet: AP 40.0 -> 35.0 (-5.0, noise 0.20)"]


def test_it_is_told_once_however_often_the_loop_comes_round(store: Store, clock: Clock, tmp_path: Path) -> None:
    night = Night(store, clock, tmp_path)
    night.run(OLD, fitnet=40.0)
    study = night.run(OLD | {PUPIL: "new"}, fitnet=45.0)
    events = len(store.events(study))
    for _ in range(3):
        Cron(store).step()
    assert len(store.events(study)) == events
    assert night.told(study, "regression") == ["better than study 1: fitnet: AP 40.0 -> 45.0 (+5.0, noise 0.20)"]
    assert store.outbox()[-1].study_id == study


def test_a_run_that_came_to_nothing_is_skipped_by_the_next_comparison(store: Store, clock: Clock, tmp_path: Path) -> None:
    night = Night(store, clock, tmp_path)
    first = night.run(OLD, fitnet=40.0)
    clock.seconds += 60
    Cron(store).step()
    cancelled = store.studies()[0].id
    store.request_cancel(cancelled)
    Cron(store).step()
    assert night.told(cancelled, "note") == ["schedule 1: 0 of 3 trials trained, 3 without a result"]
    assert tags(store, cancelled) == {"schedule": "1"}
    night.run(OLD)
    (newest, *_) = night.schedules.runs(night.id)
    assert (newest.run.against, newest.run.moved) == (first, [])


def test_a_study_of_a_person_has_no_schedule(store: Store) -> None:
    study, _ = store.create_study(as_submission(a_study()))
    assert (table_notes(store, study.id), tags(store, study.id)) == ([], {})


def test_why_a_trial_was_trained() -> None:
    def trial(**changes: Any) -> Trial:
        known = {"key": "k", "dataset_digest": "d", "environment": {"code_version": "c"}, "spec": {"teacher": {"sha256": "a"}}}
        return Trial(state=TrialState.FINISHED, **(known | changes))

    assert cause(trial(), None) == "no result in the run before"
    assert cause(trial(dataset_digest="e"), trial()) == "its data changed"
    assert cause(trial(environment={"code_version": "e"}), trial()) == "its code changed"
    assert cause(trial(spec={"teacher": {"sha256": "b"}}), trial()) == "its teacher changed"
    assert cause(trial(key="l"), trial()) == "its recipe changed"
    assert cause(trial(), trial()) == "what it needs was gone"
