"""A study that searches, and trainings that are formulas: all of a search but the networks."""

from typing import Any

from orchestrator.driving.graph import Graph
from studies.parse import parse_study
from studies.spec import StudySpec
from tests.orchestrator.conftest import Driven, graph_of

EPOCHS = 9


def a_search(**changes: Any) -> StudySpec:
    data = {
        "name": "a search",
        "dataset": "digits",
        "schedule": {"epochs": EPOCHS},
        "teacher": {"detector": "gfl", "backbone": "resnet34"},
        "student": {"detector": "gfl", "backbone": "resnet18"},
        "metrics": ["AP", "Params"],
        "arms": [{"id": "student"}, {"id": "ld", "title": "LD", "distiller": "ld"}],
        "search": {
            "algorithm": "tpe",
            "scheduler": "asha",
            "trials": 12,
            "confirm": 2,
            "parallel": 1,
            "space": {"options.temperature": {"loguniform": [1, 40]}, "weight": {"uniform": [0.1, 2]}},
        }
        | changes,
    }
    return parse_study(data | ({"seeds": [0, 1]} if changes.get("parallel") == 3 else {}))


def metrics_of(spec: dict[str, Any], epoch: int) -> dict[str, float]:
    """What a training has after an epoch: the best are at temperature 12 and weight 1.4."""
    height = 40.0 + spec["seed"] / 10
    for use in spec["distillers"]:
        height += 8 - 6 * abs(use["weight"] - 1.4) - abs(use["options"].get("temperature", 40) - 12) / 8
    return {"AP": height * epoch / (epoch + 1), "Params": 0.1 + sum(use["weight"] for use in spec["distillers"])}


def grant_one(graph: Graph) -> None:
    """The one slot goes to the study's first trial that waits for it."""
    if graph.store.all_granted():
        return
    ready = graph.store.ready_trials(graph.study_id, limit=1)
    graph.store.carry_out({trial.id: ["a"] for trial in ready}, [])


def train(graph: Graph, driven: Driven) -> None:
    """One trial as its process and Tune report it; a resumed one tells its epochs again."""
    grant_one(graph)
    graph._look_due = graph._served_due = 0.0
    order = graph.next()
    if order is None:
        return
    graph.started(order.trial)
    for epoch in range(1, EPOCHS + 1):
        metrics = metrics_of(order.spec, epoch)
        stops = graph.stops(order.trial, epoch, EPOCHS, metrics)
        graph.reported(order.trial, {"epoch": epoch, "epochs": EPOCHS, "metrics": metrics})
        assert stops == (order.trial not in graph.claimed)
        if stops:
            return
    checkpoint = driven.folder / f"{order.trial.replace('/', '-')}.pth"
    checkpoint.write_bytes(b"")
    result = {"metrics": metrics_of(order.spec, EPOCHS), "checkpoint": str(checkpoint), "checkpoint_sha256": f"sha of {order.trial}"}
    graph.reported(order.trial, {"result": {**result, "best_checkpoint": None, "seconds": 1.0, "environment": {}}})


def drive(driven: Driven, spec: StudySpec) -> None:
    """One driver, to the end of the study."""
    graph = graph_of(driven, spec)
    while not graph.ended:
        train(graph, driven)
    driven.store.conclude(driven.id, driven.attempt)
