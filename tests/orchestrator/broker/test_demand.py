"""What Ray's autoscaler is told of those who wait."""

from dataclasses import replace
from pathlib import Path

from orchestrator.broker.cluster import Need, Resources
from orchestrator.broker.decide import decide
from orchestrator.broker.demand import Bundle, Demand, bundles
from orchestrator.broker.situation import Owner, Situation
from orchestrator.cluster.ray_api import RayCluster
from orchestrator.settings import Settings
from tests.orchestrator.broker.test_decide import ready, running, situation, study
from tests.orchestrator.dashboard import Dashboard, serving

WIDE = Need(Resources(1, 8, 32))


def wanted(of: Situation) -> list[Bundle]:
    return bundles(of, decide(of))


def test_nothing_is_asked_for_while_all_that_may_run_has_devices() -> None:
    assert wanted(situation([study(1)], [ready(n, 1) for n in range(3)], [running(9, 1)])) == []


def test_what_fits_on_no_node_is_asked_for_beside_what_runs() -> None:
    told = wanted(situation([study(1), study(2)], [ready(0, 1, WIDE)], [running(9, 2)]))
    assert told == [{"CPU": 1, "GPU": 1}, {"CPU": 1, "GPU": 8, "memory": 32 * 2**30}]


def test_a_full_cluster_asks_for_what_waits_and_a_gang_for_each_of_its_processes() -> None:
    gang = Need(Resources(1, 1), workers=2)
    at_work = [running(n, 1) for n in range(10, 14)]
    assert len(wanted(situation([study(1), study(2)], [ready(0, 2), ready(1, 2, gang)], at_work))) == 4 + 1 + 2


def test_who_waits_for_a_quota_asks_for_nothing() -> None:
    full = situation([study(1, "ada")], [ready(n, 1) for n in range(8)], owners={"ada": Owner(devices=6)})
    assert len(wanted(full)) == 6, "four that start now, and two more"
    misfit = situation([study(1, "ada")], [ready(0, 1, WIDE)], owners={"ada": Owner(hours_left=0.0)})
    assert wanted(misfit) == []
    assert wanted(replace(misfit, owners={"ada": Owner(devices=4)})) == []


def test_the_autoscaler_is_told_once_and_again_when_that_changes(tmp_path: Path) -> None:
    with serving(Dashboard()) as ray:
        settings = Settings(tmp_path, f"sqlite:///{tmp_path}/retort.db", "", "", "", ray.url, 1)
        demand = Demand(RayCluster(ray.url), settings)
        for asked in ([], [], [{"CPU": 1.0}]):  # what an orchestrator before it has asked for is taken back
            demand.tell(asked)
            demand._due = 0.0
        assert len(ray.submitted) == 2
        demand._due = float("inf")
        demand.tell([])
        assert len(ray.submitted) == 2, "soon enough"
