"""The life of studies and trials: what may follow what, and what always holds."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import machine
from orchestrator.machine import IllegalMove, StudyState, Trial, TrialChange, TrialState
from tests.orchestrator.whole import Whole

TRIALS: dict[str, tuple[str, ...]] = {
    "teacher": (),
    "alone": (),
    "pupil": ("teacher",),
    "pupil2": ("teacher",),
}


def new_study() -> Whole:
    return Whole(TRIALS)


def after(study: Whole, *events: machine.Event) -> Whole:
    return study.after(*events)


def states(study: Whole) -> dict[str, str]:
    return study.states()


def events_of(names: st.SearchStrategy[str]) -> st.SearchStrategy[machine.Event]:
    """Anything that may happen to a study with trials of these names."""
    return st.one_of(
        st.sampled_from(
            [
                machine.AttemptStarted(),
                machine.AttemptLost("killed"),
                machine.CancelRequested(),
                machine.Stopped(),
                machine.ResumeRequested(),
                machine.AllTrialsEnded(),
                machine.SearchEnded(),
                machine.StudyFailed("no dataset"),
            ]
        ),
        st.builds(machine.TrialClaimed, names),
        st.builds(machine.LeaseLost, names),
        st.builds(machine.TrialStarted, names),
        st.builds(machine.EpochDone, names),
        st.builds(machine.TrialFinished, names),
        st.builds(machine.TrialCached, names),
        st.builds(machine.TrialStopped, names),
        st.builds(machine.TrialFailed, names, st.sampled_from(["nan", "oom", "data", "user", "infra"]), st.just("because")),
    )


events = events_of(st.sampled_from([*TRIALS, "nobody"]))


@given(st.lists(events, max_size=40), st.booleans())
def test_whatever_happens_a_study_stays_consistent(happened: list[machine.Event], driven: bool) -> None:
    study = new_study()
    study.study = replace(study.study, driven=driven)
    for event in happened:
        before = dict(study.trials)
        try:
            study.advance(event)
        except IllegalMove:
            assert study.trials == before
            continue
        for name, trial in study.trials.items():
            if trial.state == TrialState.WAITING:
                assert study.lacking(name)
            if trial.state in (TrialState.READY, TrialState.RUNNING, TrialState.FINISHED, TrialState.CACHED):
                assert not study.lacking(name)
            if before[name].state.kept:
                assert trial == before[name]
            assert (trial.reason is not None) == (trial.state == TrialState.FAILED)
            assert trial.losses <= machine.MAX_LOSSES
        if study.state.final:
            assert all(trial.state.final for trial in study.trials.values())
        if study.state == StudyState.QUEUED:
            assert not any(trial.state == TrialState.RUNNING for trial in study.trials.values())


@given(st.lists(events, max_size=25))
def test_from_wherever_it_got_a_study_can_be_brought_to_its_end(happened: list[machine.Event]) -> None:
    study = new_study()
    for event in happened:
        try:
            study = after(study, event)
        except IllegalMove:
            continue
    if study.state == StudyState.CANCELLING:
        study = after(study, machine.Stopped())
    if not study.state.final:
        study = trained_to_the_end(study)
    if not all(trial.state.kept for trial in study.trials.values()):
        study = trained_to_the_end(after(study, machine.ResumeRequested()))
    assert study.state == StudyState.FINISHED
    assert all(trial.state.kept for trial in study.trials.values())


def trained_to_the_end(study: Whole) -> Whole:
    """A new attempt in which every trial that can be trained is."""
    study = after(study, machine.AttemptStarted())
    while ready := [name for name, trial in study.trials.items() if trial.state == TrialState.READY]:
        study = after(study, machine.TrialStarted(ready[0]), machine.EpochDone(ready[0]), machine.TrialFinished(ready[0]))
    return after(study, machine.AllTrialsEnded())


def test_students_wait_for_their_teacher_and_baselines_do_not() -> None:
    study = after(new_study(), machine.AttemptStarted(), machine.TrialStarted("teacher"))
    assert states(study) == {"teacher": "running", "alone": "ready", "pupil": "waiting", "pupil2": "waiting"}
    study = after(study, machine.TrialFinished("teacher"))
    assert states(study) == {"teacher": "finished", "alone": "ready", "pupil": "ready", "pupil2": "ready"}


def test_a_trial_that_others_wait_for_is_not_stopped() -> None:
    study = after(new_study(), machine.AttemptStarted())
    with pytest.raises(IllegalMove, match="others wait for what teacher comes to"):
        study.advance(machine.TrialStopped("teacher"))
    study.advance(machine.TrialStopped("alone"))
    assert states(study) == {"teacher": "ready", "alone": "stopped", "pupil": "waiting", "pupil2": "waiting"}


def test_a_cached_teacher_teaches_like_a_finished_one() -> None:
    study = after(new_study(), machine.AttemptStarted(), machine.TrialCached("teacher"))
    assert states(study)["pupil"] == "ready"


def test_students_of_a_failed_teacher_fail_with_its_reason_and_the_others_go_on() -> None:
    study = after(new_study(), machine.AttemptStarted(), machine.TrialStarted("teacher"))
    study = after(study, machine.TrialFailed("teacher", "nan", "the loss became NaN"))
    assert states(study) == {"teacher": "failed", "alone": "ready", "pupil": "failed", "pupil2": "failed"}
    assert study.trials["pupil"].reason == "it needs teacher, which failed: the loss became NaN"
    study = after(study, machine.TrialStarted("alone"), machine.TrialFinished("alone"), machine.AllTrialsEnded())
    assert study.state == StudyState.FINISHED


def test_a_lost_process_is_tried_three_times_again_and_nothing_else_is_tried_again() -> None:
    study = after(new_study(), machine.AttemptStarted())
    for losses in (1, 2, 3):
        study = after(study, machine.TrialStarted("alone"), machine.TrialFailed("alone", "infra", "its process died"))
        assert study.trials["alone"] == Trial(TrialState.READY, losses=losses)
    study = after(study, machine.TrialStarted("alone"), machine.TrialFailed("alone", "infra", "its process died"))
    assert study.trials["alone"].state == TrialState.FAILED
    assert study.trials["alone"].reason == "lost 4 times, the last time: its process died"
    study = after(study, machine.TrialStarted("teacher"), machine.TrialFailed("teacher", "oom", "out of memory"))
    assert study.trials["teacher"].state == TrialState.FAILED


def test_a_lost_driver_costs_its_trials_nothing() -> None:
    study = after(new_study(), machine.AttemptStarted(), machine.TrialStarted("teacher"), machine.AttemptLost("killed"))
    assert study.state == StudyState.QUEUED
    assert study.trials["teacher"] == Trial(TrialState.READY)


def test_ten_attempts_without_a_new_epoch_fail_the_study() -> None:
    study = new_study()
    for _ in range(9):
        study = after(study, machine.AttemptStarted(), machine.AttemptLost("killed"))
        assert study.state == StudyState.QUEUED
    study = after(study, machine.AttemptLost("no such interpreter"))
    assert study.state == StudyState.FAILED
    assert study.study.reason == "10 attempts in a row were lost without a new epoch, the last one: no such interpreter"


def test_planned_stops_are_no_losses_however_many() -> None:
    study = after(new_study(), machine.AttemptStarted(), machine.AttemptLost("killed"))
    for _ in range(12):
        study = after(study, machine.AttemptStarted(), machine.TrialStarted("teacher"), machine.AttemptLost("down", planned=True))
    assert study.state == StudyState.QUEUED
    assert study.study.stalls == 1
    assert study.trials["teacher"] == Trial(TrialState.READY)


def test_a_planned_stop_of_a_study_that_is_being_cancelled_cancels_it() -> None:
    study = after(new_study(), machine.AttemptStarted(), machine.CancelRequested(), machine.AttemptLost("down", planned=True))
    assert study.state == StudyState.CANCELLED


def test_a_new_epoch_between_two_losses_starts_the_count_anew() -> None:
    study = new_study()
    for _ in range(12):
        study = after(study, machine.AttemptStarted(), machine.TrialStarted("alone"), machine.EpochDone("alone"))
        study = after(study, machine.AttemptLost("killed"))
    assert study.state == StudyState.QUEUED
    assert study.study.stalls == 1


def test_cancelling_an_undriven_study_takes_effect_at_once_and_a_driven_one_waits_for_its_driver() -> None:
    assert after(new_study(), machine.CancelRequested()).state == StudyState.CANCELLED
    study = new_study()
    study.study = replace(study.study, driven=True)
    study = after(study, machine.CancelRequested())
    assert study.state == StudyState.CANCELLING
    study = after(study, machine.Stopped())
    assert study.state == StudyState.CANCELLED
    assert set(states(study).values()) == {"cancelled"}


def test_cancelling_twice_changes_nothing_the_second_time() -> None:
    study = after(new_study(), machine.AttemptStarted(), machine.CancelRequested())
    assert study.advance(machine.CancelRequested()) == []


def test_a_study_that_ends_while_being_cancelled_is_finished() -> None:
    study = after(new_study(), machine.AttemptStarted(), machine.TrialCached("teacher"), machine.TrialCached("alone"))
    study = after(study, machine.TrialCached("pupil"), machine.TrialStarted("pupil2"), machine.CancelRequested())
    study = after(study, machine.TrialFinished("pupil2"), machine.Stopped())
    assert study.state == StudyState.FINISHED


def test_resuming_keeps_results_and_forgets_failures() -> None:
    study = after(new_study(), machine.AttemptStarted(), machine.TrialStarted("teacher"), machine.TrialFinished("teacher"))
    study = after(study, machine.TrialFailed("pupil", "user", "does not fit"), machine.CancelRequested(), machine.Stopped())
    assert states(study) == {"teacher": "finished", "alone": "cancelled", "pupil": "failed", "pupil2": "cancelled"}
    study = after(study, machine.ResumeRequested())
    assert study.state == StudyState.QUEUED
    assert states(study) == {"teacher": "finished", "alone": "ready", "pupil": "ready", "pupil2": "ready"}
    assert study.trials["pupil"].reason is None


def test_a_complete_study_has_nothing_to_resume() -> None:
    study = after(new_study(), machine.AttemptStarted(), *(machine.TrialCached(name) for name in TRIALS), machine.AllTrialsEnded())
    with pytest.raises(IllegalMove, match="nothing is missing"):
        study.advance(machine.ResumeRequested())


def test_a_study_without_one_good_trial_has_failed() -> None:
    study = after(new_study(), machine.AttemptStarted(), machine.TrialFailed("teacher", "user", "too wide"))
    study = after(study, machine.TrialFailed("alone", "nan", "the loss became NaN"), machine.AllTrialsEnded())
    assert (study.state, study.study.reason) == (StudyState.FAILED, "no trial succeeded, the first one: too wide")


def test_an_illegal_move_tells_the_story() -> None:
    study = after(new_study(), machine.AttemptStarted(), machine.TrialStarted("alone"))
    with pytest.raises(IllegalMove) as refused:
        study.advance(machine.TrialStarted("alone"))
    assert str(refused.value) == (
        "study 1 (a try) is running: trial 'alone' is running; starting it needs ready (its story: AttemptStarted; TrialStarted alone)"
    )


def test_a_change_names_the_state_before() -> None:
    study = after(new_study(), machine.AttemptStarted())
    changes = study.advance(machine.TrialStarted("alone"))
    assert changes == [TrialChange("alone", TrialState.READY, Trial(TrialState.RUNNING))]


def test_a_measurement_waits_for_all_that_it_needs_and_fails_with_the_first_of_them() -> None:
    study = Whole({"teacher": (), "alone": (), "d_pred": ("alone", "teacher")})
    study = after(study, machine.AttemptStarted(), machine.TrialCached("alone"))
    assert states(study)["d_pred"] == "waiting"
    assert states(after(study, machine.TrialCached("teacher")))["d_pred"] == "ready"
    failed = after(study, machine.TrialFailed("teacher", "oom", "out of memory"))
    assert failed.trials["d_pred"].reason == "it needs teacher, which failed: out of memory"
    resumed = after(after(failed, machine.AllTrialsEnded()), machine.ResumeRequested())
    assert states(resumed) == {"teacher": "ready", "alone": "cached", "d_pred": "waiting"}


def searching() -> Whole:
    """A study that runs and has a search that goes on."""
    study = new_study().after(machine.AttemptStarted())
    study.study = replace(study.study, searching=True)
    return study


def test_a_search_adds_trials_to_a_study_that_runs() -> None:
    study = searching()
    study.grow({"ld~1": ("teacher",), "ld~2": ()})
    assert (states(study)["ld~1"], states(study)["ld~2"]) == ("waiting", "ready")
    ended = study.after(machine.TrialStarted("teacher"), machine.TrialFinished("teacher"))
    assert states(ended)["ld~1"] == "ready"


def test_a_study_is_not_over_before_its_search_is() -> None:
    study = searching()
    for name in ("teacher", "alone", "pupil", "pupil2"):
        study.advance(machine.TrialStarted(name))
        study.advance(machine.TrialFinished(name))
    with pytest.raises(IllegalMove, match="its search goes on"):
        study.advance(machine.AllTrialsEnded())
    study.advance(machine.SearchEnded())
    study.advance(machine.AllTrialsEnded())
    assert study.state == StudyState.FINISHED


def test_only_a_search_that_goes_on_adds_trials_and_only_while_the_study_runs() -> None:
    with pytest.raises(IllegalMove, match="only a search adds trials"):
        new_study().after(machine.AttemptStarted()).grow({"ld~1": ()})
    with pytest.raises(IllegalMove, match="adding trials needs a study that is running"):
        searching().after(machine.CancelRequested()).grow({"ld~1": ()})


def test_a_trial_without_promise_has_a_good_end_that_a_resume_leaves_alone() -> None:
    study = searching().after(machine.TrialStarted("alone"), machine.EpochDone("alone"), machine.TrialStopped("alone"))
    assert states(study)["alone"] == "stopped"
    cancelled = study.after(machine.CancelRequested(), machine.Stopped())
    assert (states(cancelled)["alone"], states(cancelled)["teacher"]) == ("stopped", "cancelled")
    assert states(cancelled.after(machine.ResumeRequested()))["alone"] == "stopped"


def test_a_cancelled_search_goes_on_though_no_trial_is_missing() -> None:
    study = searching()
    for name in ("teacher", "alone", "pupil", "pupil2"):
        study.advance(machine.TrialStarted(name))
        study.advance(machine.TrialFinished(name))
    cancelled = study.after(machine.CancelRequested(), machine.Stopped())
    assert cancelled.state == StudyState.CANCELLED
    assert cancelled.after(machine.ResumeRequested()).state == StudyState.QUEUED
