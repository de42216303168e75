"""What a driver and the broker ask of the database does not grow with the study: counted in steps of SQLite's machine, not in time."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import event

from orchestrator.records.store import Store
from tests.orchestrator.conftest import Driven, a_study, graph_of

STEPS = 10  # of SQLite's machine between two countings
SEEDS = 20
SMALL, LARGE = 40, 400  # students of one teacher


class Counted:
    """A store that counts the steps of all its statements."""

    def __init__(self, file: Path) -> None:
        self.store = Store(f"sqlite:///{file}")
        self._steps = 0
        event.listen(self.store.engine, "connect", lambda connection, _: connection.set_progress_handler(self._count, STEPS))
        self.store.close()  # the connections that are there count nothing

    def _count(self) -> int:
        self._steps += STEPS
        return 0

    def steps(self, act: Callable[[], Any]) -> int:
        """How many steps `act` costs."""
        before = self._steps
        act()
        return self._steps - before


def costs(students: int, folder: Path) -> dict[str, int]:
    """Steps of what is done again and again while a study of so many students runs."""
    counted = Counted(folder / f"{students}.db")
    store = counted.store
    arms = [{"id": f"fitnet-{number}", "distiller": "fitnet", "weight": 1.0 + number} for number in range(students // SEEDS)]
    spec = a_study(seeds=list(range(SEEDS)), arms=arms)
    driven = Driven.start(store, folder, spec)
    graph = graph_of(driven, spec)

    def lives(count: int) -> None:
        for _ in range(count):
            (trial,) = store.ready_trials(driven.id, limit=1)
            store.carry_out({trial.id: ["a"]}, [])
            graph._look_due = 0.0
            order = graph.next()
            assert order
            graph.started(order.trial)
            graph.reported(order.trial, {"epoch": 1, "epochs": 1, "metrics": {"AP": 9.0}})
            checkpoint = driven.folder / "checkpoint.pth"
            checkpoint.write_bytes(b"")
            files = {"checkpoint": str(checkpoint), "checkpoint_sha256": f"sha of {order.trial}", "best_checkpoint": str(checkpoint)}
            graph.reported(order.trial, {"result": {"metrics": {"AP": 9.0}, **files, "seconds": 1.0, "environment": {}}})

    def equals() -> None:
        graph._served_due = 0.0
        assert graph.next() is None

    lives(2)  # the teacher's end makes all students ready, which are then looked at once
    while graph._new:
        graph._take_over()
    graph._all_due = math.inf  # nor does it look at all of them while this is counted
    return {
        "three trials' lives": counted.steps(lambda: lives(3)),
        "a look for equals that have finished": counted.steps(equals),
        "the broker's look": counted.steps(lambda: store.waiting_trials(8)),
    }


def test_what_is_asked_while_a_study_runs_does_not_grow_with_it(tmp_path: Path) -> None:
    small, large = costs(SMALL, tmp_path), costs(LARGE, tmp_path)
    assert all(small.values())
    assert {what: steps for what, steps in large.items() if steps > 1.5 * small[what]} == {}
