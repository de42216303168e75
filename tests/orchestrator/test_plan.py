"""Plans: what would run, what is reused, what it costs; and the identity of the code."""

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator import plan as planning
from orchestrator.graph import Graph
from orchestrator.machine import TrialState
from orchestrator.order import Order
from orchestrator.plan import code_version, plan
from orchestrator.settings import Settings
from orchestrator.store import Store
from studies.spec import StudySpec
from tests.orchestrator.conftest import ALONE, PUPIL, TEACHER, Driven, a_study


def graph_of(driven: Driven, spec: StudySpec) -> Graph:
    places = Settings(driven.folder, "", "", "", "", "", 1)
    return Graph(driven.store, driven.id, driven.attempt, spec, "digest", places)


def train_next(graph: Graph, driven: Driven) -> Order:
    """One trial's life as the driver sees it; gives its order."""
    order = graph.next()
    assert order
    graph.started(order.trial)
    graph.reported(order.trial, {"epoch": 1, "epochs": 1, "metrics": {"AP": 9.0}})
    checkpoint = driven.folder / f"{driven.id}-{order.trial.replace('/', '-')}.pth"
    checkpoint.write_bytes(b"")
    result = {
        "metrics": {"AP": 9.0},
        "checkpoint": str(checkpoint),
        "checkpoint_sha256": f"sha of {order.trial}",
        "best_checkpoint": str(checkpoint),
        "seconds": 40.0 if order.trial == PUPIL else 10.0,
        "environment": {},
    }
    graph.reported(order.trial, {"result": result})
    return order


def trained(store: Store, folder: Path, spec: StudySpec) -> Driven:
    """A study that ran to its end."""
    driven = Driven.start(store, folder, spec)
    graph = graph_of(driven, spec)
    while not graph.settle():
        train_next(graph, driven)
    store.conclude(driven.id, driven.attempt)
    return driven


def test_without_dataset_no_key_is_known(store: Store) -> None:
    made = plan(a_study(), store)
    assert [(step.trial.id, step.key, step.reuses, step.seconds) for step in made.steps] == [
        (TEACHER, None, False, None),
        (ALONE, None, False, None),
        (PUPIL, None, False, None),
    ]
    assert (made.to_run, made.unknown, made.device) == (3, 3, "cpu")


def test_with_dataset_the_keys_of_all_but_students_are_known(store: Store) -> None:
    store.record_dataset("digits", "digest")
    keys = [step.key for step in plan(a_study(), store).steps]
    assert [key is not None for key in keys] == [True, True, False]


def test_what_was_trained_is_reused_by_another_study(store: Store, tmp_path: Path) -> None:
    store.record_dataset("digits", "digest")
    trained(store, tmp_path, a_study())
    made = plan(a_study(name="another"), store)
    assert [step.reuses for step in made.steps] == [True, True, True]
    assert (made.to_run, made.device_seconds) == (0, 0.0)
    more = plan(a_study(seeds=[0, 1]), store)
    assert [step.reuses for step in more.steps] == [True, True, False, True, False]


def test_nothing_is_reused_when_forced_or_when_what_decides_the_numbers_differs(store: Store, tmp_path: Path) -> None:
    store.record_dataset("digits", "digest")
    trained(store, tmp_path, a_study())
    assert plan(a_study(force=True), store).to_run == 3
    assert plan(a_study(resources={"cpus": 2}), store).to_run == 3
    assert plan(a_study(schedule={"epochs": 7}), store).to_run == 3
    store.record_dataset("digits", "another digest")
    assert plan(a_study(), store).to_run == 3


def test_time_is_estimated_from_equal_networks_and_methods(store: Store, tmp_path: Path) -> None:
    store.record_dataset("digits", "digest")
    trained(store, tmp_path, a_study())
    made = plan(a_study(seeds=[5]), store)
    assert [step.seconds for step in made.steps] == [0.0, 10.0, 40.0]
    assert (made.device_seconds, made.unknown) == (50.0, 0)
    new = a_study(seeds=[5], arms=[{"id": "ld", "distiller": "ld"}])
    assert plan(new, store).steps[1].seconds == 25.0  # never seen: the mean of what differs only in its distillers
    assert plan(a_study(resources={"cpus": 2}), store).steps[0].seconds is None


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
    assert again == alone
    assert driven.trial(PUPIL).reason == "its teacher failed: the loss became NaN"


def test_an_order_survives_tunes_config() -> None:
    order = Order("fitnet/seed-0", {"a": {"b": [1, None]}}, "/folder", "/data")
    assert Order.of(order.config()) == order


def test_the_code_version_follows_every_source_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("studies", "workers")}
    for folder in folders.values():
        folder.mkdir()
        (folder / "a.py").write_text("a = 1")
    monkeypatch.setattr(planning, "_folder", folders.__getitem__)
    first = code_version()
    assert code_version() == first
    (folders["workers"] / "a.py").write_text("a = 2")
    second = code_version()
    (folders["workers"] / "a.py").rename(folders["workers"] / "b.py")
    third = code_version()
    (folders["workers"] / "notes.txt").write_text("not code")
    assert len({first, second, third}) == 3
    assert code_version() == third


def test_planning_needs_neither_torch_nor_ray() -> None:
    told = "import sys, orchestrator.plan, orchestrator.table; print({'torch', 'ray', 'mlflow', 'mmdet'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"


def test_the_driver_comes_up_without_torch_and_without_tune() -> None:
    told = "import sys, orchestrator.driver; print({'torch', 'ray', 'mlflow', 'mmdet', 'alembic'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"
