"""Students of one teacher that share its devices as a group: who goes along, and what becomes of each when one of them ends."""

from pathlib import Path
from typing import Any

from orchestrator.broker.loop import _groups
from orchestrator.driving.graph import Graph
from orchestrator.driving.trials.order import Order
from orchestrator.machine import TrialState
from orchestrator.records.queue import Asked
from orchestrator.records.schema import DeviceGrant
from orchestrator.records.store import Store
from studies.spec import StudySpec
from tests.orchestrator.conftest import Driven, a_study, graph_of, train_next

METHODS = ("fitnet", "ld", "mgd", "cwd")
FIRST, SECOND, THIRD, FOURTH = (f"{method}/seed-0" for method in METHODS)


def students(**changes: Any) -> StudySpec:
    return a_study(arms=[{"id": method, "distiller": method} for method in METHODS], **changes)


def under_way(store: Store, folder: Path, spec: StudySpec | None = None) -> tuple[Driven, Graph]:
    """A study whose teacher is trained and whose students wait for devices."""
    spec = spec or students()
    driven = Driven.start(store, folder, spec)
    graph = graph_of(driven, spec)
    train_next(graph, driven)
    graph._served_due = 0.0
    assert graph.next() is None
    return driven, graph


def grant(driven: Driven, *names: str, members: int = 1) -> None:
    trials = [driven.trial(name).id for name in names]
    driven.store.carry_out({trial: ["a"] for trial in trials}, [], dict.fromkeys(trials, members))


def orders(graph: Graph) -> list[Order]:
    """All that the driver hands out now."""
    graph._look_due = graph._served_due = 0.0
    found = []
    while order := graph.next():
        found.append(order)
    return found


def names(order: Order) -> list[str]:
    return [each.trial for each in order.group]


def start(graph: Graph, order: Order) -> None:
    for each in order.group:
        graph.started(each.trial)


def grants(store: Store) -> dict[str, str | None]:
    """Who has devices, and beside whom."""
    with store._reads() as session:
        rows = {grant.trial_id: grant.beside for grant in session.query(DeviceGrant).all()}
    return {store.trial_by_id(trial).name: None if beside is None else store.trial_by_id(beside).name for trial, beside in rows.items()}


def finish(graph: Graph, folder: Path, name: str) -> None:
    checkpoint = folder / f"{name.replace('/', '-')}.pth"
    checkpoint.write_bytes(b"")
    stored = {"checkpoint": str(checkpoint), "checkpoint_sha256": name, "best_checkpoint": None}
    graph.reported(name, {"result": {"metrics": {"AP": 9.0}, "seconds": 1.0, "environment": {}, **stored}})


def test_students_of_one_teacher_go_along_with_the_one_that_was_granted_devices(store: Store, tmp_path: Path) -> None:
    driven, graph = under_way(store, tmp_path)
    grant(driven, FIRST, members=3)
    (order,) = orders(graph)
    assert names(order) == [FIRST, SECOND, THIRD]
    assert len({each.fence for each in order.group}) == 3
    assert grants(store) == {FIRST: None, SECOND: FIRST, THIRD: FIRST}
    assert Order.of(order.config()) == order
    start(graph, order)
    (held,) = store.all_granted()
    assert (held.together, store.devices_held()) == (3, {driven.id: 1})
    assert [trial.id for trial in store.waiting_trials(64)] == [driven.trial(FOURTH).id]
    grant(driven, SECOND, FOURTH)  # the broker decided this before it could see the group
    assert grants(store) == {FIRST: None, SECOND: FIRST, THIRD: FIRST, FOURTH: None}


def test_two_grants_share_those_that_wait(store: Store, tmp_path: Path) -> None:
    driven, graph = under_way(store, tmp_path)
    grant(driven, FIRST, SECOND, members=2)
    assert [names(order) for order in orders(graph)] == [[FIRST, THIRD], [SECOND, FOURTH]]


def test_without_leave_nobody_goes_along(store: Store, tmp_path: Path) -> None:
    driven, graph = under_way(store, tmp_path)
    grant(driven, FIRST)
    (order,) = orders(graph)
    assert names(order) == [FIRST]


def test_strangers_and_those_that_were_lost_before_do_not_go_along(store: Store, tmp_path: Path) -> None:
    spec = students(seeds=[0, 1])
    driven, graph = under_way(store, tmp_path, spec)
    grant(driven, SECOND)
    (lost,) = orders(graph)
    start(graph, lost)
    graph.lost(SECOND, "its process died")
    grant(driven, FIRST, members=8)
    (order,) = orders(graph)
    assert names(order) == [FIRST, THIRD, FOURTH]  # not those of seed 1, which see other batches
    grant(driven, SECOND, members=8)
    (order,) = orders(graph)
    assert names(order) == [SECOND]


def test_one_that_fails_or_ends_leaves_the_others_their_devices(store: Store, tmp_path: Path) -> None:
    driven, graph = under_way(store, tmp_path)
    grant(driven, FIRST, members=4)
    (order,) = orders(graph)
    start(graph, order)
    graph.reported(FIRST, {"failure": "nan", "reason": "the loss became NaN"})
    assert driven.trial(FIRST).state == TrialState.FAILED
    assert grants(store) == {SECOND: None, THIRD: SECOND, FOURTH: SECOND}
    finish(graph, tmp_path, FOURTH)
    assert grants(store) == {SECOND: None, THIRD: SECOND}
    finish(graph, tmp_path, SECOND)
    assert grants(store) == {THIRD: None}
    (held,) = store.all_granted()
    assert (held.nodes, held.together, held.held) == (("a",), 1, True)
    finish(graph, tmp_path, THIRD)
    assert grants(store) == {}
    assert graph.ended


def test_a_group_makes_room_together_and_counts_no_loss(store: Store, tmp_path: Path) -> None:
    driven, graph = under_way(store, tmp_path)
    grant(driven, FIRST, members=3)
    (order,) = orders(graph)
    start(graph, order)
    store.carry_out({}, [driven.trial(FIRST).id])
    assert sorted(graph.leaving()) == sorted(names(order))
    graph.reported(FIRST, {"left": True})
    graph.reported(SECOND, {"left": True})
    graph.lost(THIRD, "its process died")  # it did not come to its checkpoint in time
    assert [(driven.trial(name).state, driven.trial(name).losses) for name in names(order)] == [(TrialState.READY, 0)] * 3
    assert grants(store) == {}


def test_trials_of_a_group_whose_process_died_are_tried_again_one_by_one(store: Store, tmp_path: Path) -> None:
    driven, graph = under_way(store, tmp_path)
    grant(driven, FIRST, members=2)
    (order,) = orders(graph)
    start(graph, order)
    for name in names(order):
        graph.lost(name, "its process died")
    assert grants(store) == {}
    grant(driven, FIRST, SECOND, members=4)
    assert [names(order) for order in orders(graph)] == [[FIRST], [SECOND]]


def test_groups_are_of_whole_devices_and_where_no_memory_was_promised() -> None:
    def wants(**resources: Any) -> bool:
        return _groups(Asked({"cpus": 1, "gpus": 0, "group": "auto"} | resources, "digits", "nano"))

    assert wants()
    assert wants(gpus=1)
    assert not any(wants(**changes) for changes in ({"group": "off"}, {"gpus": 0.5}, {"gpus": 2}, {"workers": 2}, {"memory": 8}))
    assert not _groups(Asked({"cpus": 1, "gpus": 0}, "digits", "nano"))  # of a study from before there were groups
