"""The graph that feeds a driver's Tuner: order, reuse, and what becomes of failures."""

from dataclasses import replace
from pathlib import Path

from orchestrator.driving.graph import ASKED_AT_ONCE, SIGN_SECONDS
from orchestrator.driving.order import Order
from orchestrator.driving.tuning import GraphSearcher, Searcher
from orchestrator.machine import TrialState
from orchestrator.records.store import Store
from tests.orchestrator.conftest import ALONE, PUPIL, TEACHER, Driven, a_study, graph_of, train_next, trained


def test_the_graph_gives_the_teacher_then_the_baseline_then_the_student(store: Store, tmp_path: Path) -> None:
    driven = Driven.start(store, tmp_path)
    graph = graph_of(driven, a_study())
    first, second = graph.next(), graph.next()
    assert first
    assert second
    assert (first.trial, second.trial, graph.next()) == (TEACHER, ALONE, None)
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


def test_what_settle_claimed_is_handed_out(store: Store, tmp_path: Path) -> None:
    driven = Driven.start(store, tmp_path)
    graph = graph_of(driven, a_study())
    assert not graph.settle()
    assert not graph.settle()
    order = graph.next()
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
    teacher, alone = graph.next(), graph.next()
    assert teacher
    assert alone
    graph.started(TEACHER)
    graph.started(ALONE)
    graph.lost(ALONE, "its process died")
    graph.reported(TEACHER, {"failure": "nan", "reason": "the loss became NaN"})
    again = graph.next()
    assert again
    assert again == replace(alone, fence=again.fence)
    assert again.fence > alone.fence
    assert driven.trial(PUPIL).reason == f"it needs {TEACHER}, which failed: the loss became NaN"


def test_a_sign_of_life_inside_an_epoch_is_stored_now_and_then_and_is_no_epoch(store: Store, tmp_path: Path) -> None:
    driven = Driven.start(store, tmp_path)
    graph = graph_of(driven, a_study())
    assert graph.next()
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


def test_idle_processes_are_let_go_once_the_last_trial_is_handed_out(store: Store, tmp_path: Path) -> None:
    driven = Driven.start(store, tmp_path)
    graph = graph_of(driven, a_study())
    warm, cold = GraphSearcher(graph, warm=True), GraphSearcher(graph, warm=False)
    orders = [warm.suggest("1"), warm.suggest("2")]
    assert [Order.of(order).trial for order in orders] == [TEACHER, ALONE]
    assert warm.suggest("3") is None  # the student waits for its teacher
    for order in orders:
        train_next(graph, driven, Order.of(order))
    assert Order.of(warm.suggest("3")).trial == PUPIL
    assert warm.suggest("4") == Searcher.FINISHED
    assert cold.suggest("4") is None  # should this one be lost, it is tried again at once
    graph.started(PUPIL)
    graph.lost(PUPIL, "its process died")
    assert Order.of(warm.suggest("4")).trial == PUPIL


def test_an_order_survives_tunes_config() -> None:
    order = Order("fitnet/seed-0", {"a": {"b": [1, None]}}, "/folder", "/data")
    assert Order.of(order.config()) == order


def test_a_study_being_cancelled_hands_out_nothing_and_gives_tune_its_turn(store: Store, tmp_path: Path) -> None:
    many = a_study(arms=[{"id": "student"}], seeds=list(range(50)))
    other = a_study(arms=[{"id": f"student-{n}", "distiller": "fitnet", "weight": 1.0 + n} for n in range(3)], seeds=list(range(50)))
    for spec in (many, other):
        driven = Driven.start(store, tmp_path, spec)
        graph = graph_of(driven, spec)
        store.request_cancel(driven.id)
        assert graph.next() is None
        assert len(graph.ask_again) <= ASKED_AT_ONCE
        assert not graph.claimed


def test_the_graph_holds_a_few_trials_not_the_study(store: Store, tmp_path: Path) -> None:
    spec = a_study(arms=[{"id": f"fitnet-{n}", "distiller": "fitnet", "weight": 1.0 + n} for n in range(10)], seeds=list(range(50)))
    driven = Driven.start(store, tmp_path, spec)
    graph = graph_of(driven, spec)
    train_next(graph, driven)
    train_next(graph, driven)
    assert graph.open == 499
    assert len(graph._ready) <= 64
    assert graph.waiting
