"""The graph that feeds a driver's Tuner: order, reuse, and what becomes of failures."""

from dataclasses import replace
from pathlib import Path

from orchestrator.driving.graph import SIGN_SECONDS
from orchestrator.driving.trials.order import Order
from orchestrator.driving.tuning import KEPT_SECONDS, GraphSearcher, Searcher
from orchestrator.machine import TrialState
from orchestrator.records.store import Store
from tests.orchestrator.conftest import ALONE, PUPIL, TEACHER, Driven, a_study, grant_all, graph_of, next_of, train_next, trained


def test_the_graph_gives_the_teacher_then_the_baseline_then_the_student(store: Store, tmp_path: Path) -> None:
    driven = Driven.start(store, tmp_path)
    graph = graph_of(driven, a_study())
    first, second = next_of(graph), next_of(graph)
    assert first
    assert second
    assert (first.trial, second.trial, next_of(graph)) == (TEACHER, ALONE, None)
    assert first.folder == str(tmp_path / "trials" / str(driven.trial(TEACHER).key))


def test_a_student_is_given_its_teachers_checkpoint_and_its_sha_decides_the_key(store: Store, tmp_path: Path) -> None:
    driven = Driven.start(store, tmp_path)
    graph = graph_of(driven, a_study())
    orders = [train_next(graph, driven) for _ in range(3)]
    assert graph.ended
    assert orders[2].trial == PUPIL
    assert orders[2].spec["teacher"]["sha256"] == f"sha of {TEACHER}"
    assert orders[2].spec["teacher"]["checkpoint"] == driven.trial(TEACHER).checkpoint


def test_a_study_trained_before_is_settled_without_training(store: Store, tmp_path: Path) -> None:
    trained(store, tmp_path, a_study())
    driven = Driven.start(store, tmp_path, a_study(name="again"))
    assert graph_of(driven, a_study(name="again")).settle()
    assert {trial.state for trial in store.trials(driven.id)} == {TrialState.CACHED}


def test_on_a_full_disk_no_trial_is_started_which_is_told_once_and_over_when_there_is_room(store: Store, tmp_path: Path) -> None:
    driven = Driven.start(store, tmp_path)
    graph = graph_of(driven, a_study())
    graph.settings = replace(graph.settings, least_free=2**60)
    assert [next_of(graph), graph.next()] == [None, None]
    assert not graph.settle()
    (note,) = [event.data["text"] for event in store.events(driven.id) if event.kind == "note" and "disk" in event.data["text"]]
    assert note.startswith(f"the disk of {tmp_path} has ")
    assert note.endswith(f" MB left, less than {2**40}: no trial is started until there is room")
    graph.settings = replace(graph.settings, least_free=0)
    order = next_of(graph)
    assert order
    assert order.trial == TEACHER


def test_what_settle_claimed_is_handed_out(store: Store, tmp_path: Path) -> None:
    driven = Driven.start(store, tmp_path)
    graph = graph_of(driven, a_study())
    assert not graph.settle()
    assert not graph.settle()
    order = next_of(graph)
    assert order
    assert order.trial == TEACHER


def test_forced_trials_have_folders_of_their_own(store: Store, tmp_path: Path) -> None:
    trained(store, tmp_path, a_study())
    forced = trained(store, tmp_path, a_study(force=True))
    folders = [trial.folder for trial in store.trials(forced.id)]
    assert all(folder and "-forced-" in folder for folder in folders)
    assert {trial.state for trial in store.trials(forced.id)} == {TrialState.FINISHED}


def test_a_failure_a_trial_reports_ends_it_and_a_lost_process_does_not(store: Store, tmp_path: Path) -> None:
    driven = Driven.start(store, tmp_path)
    graph = graph_of(driven, a_study())
    teacher, alone = next_of(graph), next_of(graph)
    assert teacher
    assert alone
    graph.started(TEACHER)
    graph.started(ALONE)
    graph.lost(ALONE, "its process died")
    graph.reported(TEACHER, {"failure": "nan", "reason": "the loss became NaN"})
    again = next_of(graph)
    assert again
    assert again == replace(alone, fence=again.fence)
    assert again.fence > alone.fence
    assert driven.trial(PUPIL).reason == f"it needs {TEACHER}, which failed: the loss became NaN"


def test_a_sign_of_life_inside_an_epoch_is_stored_now_and_then_and_is_no_epoch(store: Store, tmp_path: Path) -> None:
    driven = Driven.start(store, tmp_path)
    graph = graph_of(driven, a_study())
    assert next_of(graph)
    graph.started(TEACHER)
    for step in (50, 100):
        sign = {"epoch": 1, "epochs": 4, "step": step, "steps": 120, "metrics": {"loss": 1.5, "lr": 0.01}}
        graph.reported(TEACHER, sign | {"training_iteration": 1})  # Tune adds fields of its own
    (told,) = (event.data for event in store.events(driven.id) if event.kind == "step")
    assert (told["step"], told["metrics"]) == (50, {"loss": 1.5, "lr": 0.01})  # the next one came too soon
    graph.signs[TEACHER] -= SIGN_SECONDS
    graph.reported(TEACHER, sign)
    (told,) = (event.data for event in store.events(driven.id) if event.kind == "step")
    assert told == {"trial": TEACHER, **sign}
    assert driven.trial(TEACHER).epoch == 0


def test_nothing_is_handed_out_that_was_not_granted(store: Store, tmp_path: Path) -> None:
    driven = Driven.start(store, tmp_path)
    graph = graph_of(driven, a_study())
    assert graph.next() is None
    (trial,) = (trial for trial in store.ready_trials(driven.id) if trial.name == ALONE)
    store.carry_out({trial.id: ["a"]}, [])
    graph._look_due = 0.0
    order = graph.next()
    assert order
    assert order.trial == ALONE
    graph._look_due = 0.0
    assert graph.next() is None


def test_a_trial_that_makes_room_is_ready_again_without_devices_and_without_a_loss(store: Store, tmp_path: Path) -> None:
    driven = Driven.start(store, tmp_path)
    graph = graph_of(driven, a_study())
    order = next_of(graph)
    assert order
    graph.started(TEACHER)
    graph.reported(TEACHER, {"epoch": 1, "epochs": 4, "metrics": {"AP": 9.0}})
    store.carry_out({}, [driven.trial(TEACHER).id])
    assert graph.leaving() == [TEACHER]
    graph.reported(TEACHER, {"left": True})
    trial = driven.trial(TEACHER)
    assert (trial.state, trial.losses, trial.epoch) == (TrialState.READY, 0, 1)
    assert TEACHER not in [each.name for each in store.granted_trials(driven.id)]
    graph._look_due = 0.0
    other = graph.next()
    assert other
    assert other.trial == ALONE
    again = next_of(graph)
    assert again
    assert (again.trial, again.folder) == (TEACHER, order.folder)


def test_one_that_is_ended_because_it_did_not_make_room_counts_no_loss(store: Store, tmp_path: Path) -> None:
    driven = Driven.start(store, tmp_path)
    graph = graph_of(driven, a_study())
    assert next_of(graph)
    graph.started(TEACHER)
    store.carry_out({}, [driven.trial(TEACHER).id])
    assert graph.leaving() == [TEACHER]
    graph.lost(TEACHER, "its process died")
    assert (driven.trial(TEACHER).state, driven.trial(TEACHER).losses) == (TrialState.READY, 0)


def test_a_trial_on_a_node_that_leaves_makes_room_too(store: Store, tmp_path: Path) -> None:
    driven = Driven.start(store, tmp_path)
    graph = graph_of(driven, a_study())
    assert next_of(graph)
    graph.started(TEACHER)
    assert graph.leaving(["of another study", TEACHER]) == [TEACHER]
    graph.reported(TEACHER, {"left": True})
    assert (driven.trial(TEACHER).state, driven.trial(TEACHER).losses) == (TrialState.READY, 0)


def test_a_trial_that_is_asked_before_anybody_took_it_just_loses_its_devices(store: Store, tmp_path: Path) -> None:
    driven = Driven.start(store, tmp_path)
    grant_all(store, driven.id)
    store.carry_out({}, [driven.trial(TEACHER).id])
    assert [trial.name for trial in store.granted_trials(driven.id)] == [ALONE]


def test_what_an_equal_of_another_study_finished_meanwhile_is_taken_over_without_devices(store: Store, tmp_path: Path) -> None:
    first, second = Driven.start(store, tmp_path), Driven.start(store, tmp_path)
    ours, theirs = graph_of(first, a_study()), graph_of(second, a_study())
    assert theirs.next() is None
    assert {trial.study_id for trial in store.waiting_trials(64)} == {first.id, second.id}
    order = next_of(ours)
    assert store.is_shared(second.id)
    assert TEACHER not in [store.trial_by_id(trial.id).name for trial in store.waiting_trials(64) if trial.study_id == second.id]
    assert order
    train_next(ours, first, order)
    theirs._served_due = 0.0
    assert theirs.next() is None
    assert second.trial(TEACHER).state == TrialState.CACHED


def test_an_idle_process_is_kept_for_a_moment_and_let_go_when_nothing_is_granted(store: Store, tmp_path: Path) -> None:
    driven = Driven.start(store, tmp_path)
    graph = graph_of(driven, a_study())
    searcher = GraphSearcher(graph, warm=True)
    for _ in range(2):
        train_next(graph, driven)
    store.carry_out({}, [driven.trial(PUPIL).id])  # what it was granted is taken back
    assert searcher.suggest("3") is None
    graph.changed -= 2 * KEPT_SECONDS
    assert searcher.suggest("3") == Searcher.FINISHED


def test_idle_processes_are_let_go_once_the_last_trial_is_handed_out(store: Store, tmp_path: Path) -> None:
    driven = Driven.start(store, tmp_path)
    graph = graph_of(driven, a_study())
    warm, cold = GraphSearcher(graph, warm=True), GraphSearcher(graph, warm=False)
    for _ in range(2):
        train_next(graph, driven)
    grant_all(store, driven.id)
    graph._look_due = 0.0
    assert Order.of(warm.suggest("3")).trial == PUPIL
    assert warm.suggest("4") == Searcher.FINISHED
    assert cold.suggest("4") is None  # should this one be lost, it is tried again at once


def test_an_order_survives_tunes_config() -> None:
    order = Order("fitnet/seed-0", {"a": {"b": [1, None]}}, "/folder", "/data", "digest")
    assert Order.of(order.config()) == order


def test_a_study_being_cancelled_hands_out_nothing_and_gives_tune_its_turn(store: Store, tmp_path: Path) -> None:
    many = a_study(arms=[{"id": "student"}], seeds=list(range(50)))
    other = a_study(arms=[{"id": f"student-{n}", "distiller": "fitnet", "weight": 1.0 + n} for n in range(3)], seeds=list(range(50)))
    for spec in (many, other):
        driven = Driven.start(store, tmp_path, spec)
        graph = graph_of(driven, spec)
        grant_all(store, driven.id)
        store.request_cancel(driven.id)
        assert graph.next() is None
        assert not graph.claimed


def test_the_graph_holds_what_was_granted_not_the_study(store: Store, tmp_path: Path) -> None:
    spec = a_study(arms=[{"id": f"fitnet-{n}", "distiller": "fitnet", "weight": 1.0 + n} for n in range(10)], seeds=list(range(50)))
    driven = Driven.start(store, tmp_path, spec)
    graph = graph_of(driven, spec)
    train_next(graph, driven)
    first, second, *_ = store.ready_trials(driven.id)
    store.carry_out({first.id: ["a"], second.id: ["a"]}, [])
    graph._look_due = 0.0
    assert graph.next()
    assert (graph.open, len(graph.claimed), len(graph.orders)) == (500, 2, 1)
    assert graph.waiting
