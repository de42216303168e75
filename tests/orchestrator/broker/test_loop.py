"""The broker's loop on a real database: what it grants, whom it asks to leave, and what it tells those who wait."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from orchestrator.broker.decide import AGEING
from orchestrator.broker.loop import Broker
from orchestrator.records.store import Store
from orchestrator.settings import Settings
from studies.submission import as_submission
from tests.orchestrator.conftest import ALONE, TEACHER, Clock, Driven, a_study
from tests.orchestrator.dashboard import Dashboard, serving


@dataclass
class Shop:
    """A store with its broker, whose every step looks at everything anew."""

    store: Store
    clock: Clock
    folder: Path
    cluster: Dashboard
    broker: Broker = field(init=False)

    def __post_init__(self) -> None:
        self.broker = Broker(self.store, Settings(self.folder, "", "", "", "", self.cluster.url, 32))

    def submit(self, owner: str = "ada", **changes: Any) -> int:
        return self.store.create_study(as_submission(a_study(**changes)), owner=owner)[0].id

    def step(self) -> None:
        self.broker._nodes_due = self.broker._places_due = self.broker._count_due = 0.0
        self.broker.step()

    def granted(self, study_id: int) -> list[str]:
        return [trial.name for trial in self.store.granted_trials(study_id)]

    def waits(self) -> dict[int, str]:
        return {study.id: place.reason for place, study in self.store.places()}


@pytest.fixture
def shop(store: Store, clock: Clock, tmp_path: Path) -> Iterator[Shop]:
    with serving(Dashboard()) as cluster:
        yield Shop(store, clock, tmp_path, cluster)


def test_free_devices_are_granted_at_once_and_no_more_than_there_are(shop: Shop) -> None:
    first = shop.submit()
    shop.step()
    assert shop.granted(first) == [TEACHER, ALONE]
    second = shop.submit(seeds=[0, 1])
    shop.step()
    shop.step()
    assert shop.granted(second) == []
    assert shop.waits() == {second: "waits for devices"}


def test_what_fits_on_no_node_waits_with_the_reason_until_a_node_joins(shop: Shop) -> None:
    study = shop.submit(resources={"cpus": 1, "gpus": 1})
    shop.step()
    shop.step()
    assert shop.waits() == {study: "needs 1 GPU on a node; the largest has 0"}
    notes = [event.data["text"] for event in shop.store.events(study) if event.kind == "note"]
    assert notes == ["waits: needs 1 GPU on a node; the largest has 0"], "once"
    shop.cluster.nodes["10.0.0.2"] = (8, 1)
    shop.step()
    assert shop.granted(study) == [TEACHER]


def test_trials_share_a_gpu_and_wait_for_memory(shop: Shop) -> None:
    shop.cluster.nodes = {"10.0.0.1": (8, 1)}
    shop.cluster.memory = 16
    shares = shop.submit(resources={"cpus": 1, "gpus": 0.5}, seeds=list(range(3)))
    shop.step()
    assert len(shop.granted(shares)) == 2
    large, wide = shop.submit("bob", resources={"cpus": 1, "memory": 64}), shop.submit("bob", resources={"cpus": 3, "workers": 4})
    shop.step()
    assert shop.waits()[large] == "needs 64 GiB memory on a node; the largest has 16 GiB"
    assert shop.waits()[wide] == "needs 12 CPUs on a node; the largest has 8"


def test_a_study_of_higher_priority_makes_others_leave_and_is_granted_what_they_had(shop: Shop) -> None:
    low = Driven.start(shop.store, shop.folder, a_study(resources={"cpus": 2}))
    shop.step()
    low_trial = low.trial(TEACHER)
    assert shop.granted(low.id) == [TEACHER]
    low.begin_granted(TEACHER)
    high = shop.submit(resources={"cpus": 2})
    shop.store.set_priority(high, 1)
    shop.step()
    assert shop.store.leaving_trials(low.id) == {TEACHER: shop.store.now()}
    assert shop.granted(high) == []
    shop.store.preempt_trial(low.id, 1, TEACHER, low.fences[TEACHER])
    shop.step()
    assert shop.granted(high) == [TEACHER]
    assert shop.store.trial_by_id(low_trial.id).losses == 0


def test_a_study_that_is_overtaken_is_known_as_such_until_it_has_devices(shop: Shop) -> None:
    whole = {"resources": {"cpus": 2}}
    low, high = shop.submit(**whole), shop.submit(**whole)
    shop.store.set_priority(high, 1)
    shop.step()
    assert shop.granted(high) == [TEACHER]
    began = shop.store.now()
    for _ in range(2):
        shop.clock.seconds += 1.5 * AGEING
        shop.step()
        assert shop.store.study(low).overtaken == began
    shop.cluster.nodes = {"10.0.0.1": (4, 0)}
    shop.step()
    assert shop.granted(low) == [TEACHER]
    assert [(each.study_id, each.points) for each in shop.store.all_granted()] == [(low, 3), (high, 0)]
    assert shop.store.study(low).overtaken is None


def test_a_paused_study_is_granted_nothing_and_its_trials_leave(shop: Shop) -> None:
    study = Driven.start(shop.store, shop.folder)
    shop.step()
    study.begin_granted(ALONE)
    shop.store.set_paused(study.id, True)
    shop.step()
    assert list(shop.store.leaving_trials(study.id)) == [ALONE]
    assert shop.granted(study.id) == []
    assert shop.waits() == {study.id: "paused"}
    shop.store.set_paused(study.id, False)
    shop.step()
    assert shop.granted(study.id) == [TEACHER]


def test_a_quota_of_devices_holds_and_device_hours_are_counted_and_end(shop: Shop) -> None:
    shop.store.set_quota("ada", devices=1, hours=2.0, weight=1.0)
    study = Driven(shop.store, shop.submit(), shop.folder)
    shop.step()
    assert shop.granted(study.id) == [TEACHER]
    assert shop.waits() == {study.id: "ada may have 1 device at once"}
    attempt = shop.store.new_attempt(study.id)
    assert attempt
    shop.store.start_attempt(study.id, attempt.number)
    study.begin_granted(TEACHER)
    shop.clock.seconds += 2.5 * 3600
    shop.step()
    (ada,) = shop.store.owners()
    assert (ada.name, ada.month_hours) == ("ada", 2.5)
    assert list(shop.store.leaving_trials(study.id)) == [TEACHER], "it goes on next month"
    shop.store.set_quota("ada", devices=None, hours=2.0, weight=1.0)
    shop.step()
    assert shop.waits() == {study.id: "the device-hours of ada for this month are used up"}


def test_devices_go_to_the_owner_who_had_less(shop: Shop) -> None:
    shop.cluster.nodes = {"10.0.0.1": (4, 0)}
    much, little = shop.submit("ada", seeds=list(range(8))), shop.submit("bob", seeds=list(range(8)))
    shop.step()
    assert (len(shop.granted(much)), len(shop.granted(little))) == (2, 2)


def test_a_study_whose_trials_another_trains_says_so(shop: Shop) -> None:
    first = Driven.start(shop.store, shop.folder)
    second = Driven.start(shop.store, shop.folder)
    for study in (first, second):
        study.know(TEACHER, "the same teacher")
        study.know(ALONE, "the same baseline")
    shop.cluster.nodes = {"10.0.0.1": (8, 0)}
    shop.store.carry_out({first.trial(name).id: ["10.0.0.1"] for name in (TEACHER, ALONE)}, [])
    shop.step()
    assert shop.granted(second.id) == []
    assert shop.waits() == {second.id: "waits for the results of equal trials that another study trains"}


def test_the_start_is_foretold_where_times_are_known(shop: Shop) -> None:
    first, second = shop.submit(resources={"cpus": 2}), shop.submit(resources={"cpus": 2})
    shop.step()
    (place,) = [place for place, study in shop.store.places() if study.id == second]
    assert place.expected is None, "nothing alike was trained here"
    assert (place.number, shop.granted(first)) == (1, [TEACHER])
