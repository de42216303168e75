"""The route of figures for Prometheus. They are computed from the database when asked for: the loops and drivers are other processes."""

from collections.abc import Iterable, Mapping, Sequence

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from api.access.callers import needs
from api.dependencies import StoreOf
from orchestrator.access.schema import Scope
from orchestrator.machine import StudyState, TrialState
from orchestrator.records.gauges import Gauges
from orchestrator.records.schema import Heartbeat

router = APIRouter(tags=["health"], dependencies=[needs(Scope.READ)])


class Figures(Collector):
    """One answer. loops: the heartbeats; now: milliseconds since 1970."""

    def __init__(self, gauges: Gauges, loops: Sequence[Heartbeat], now: int) -> None:
        self.gauges, self.loops, self.now = gauges, loops, now

    def collect(self) -> Iterable[Metric]:
        found = self.gauges
        yield _by("retort_studies", "studies by state", "state", {state.value: found.studies.get(state, 0) for state in StudyState})
        yield _by("retort_trials", "trials and measurements by state", "state", {s.value: found.trials.get(s, 0) for s in TrialState})
        yield GaugeMetricFamily("retort_queue_age_seconds", "age of the study that is queued longest", found.queue_age)
        yield GaugeMetricFamily("retort_outbox_rows", "what MLflow has yet to be told", found.outbox)
        yield GaugeMetricFamily("retort_outbox_age_seconds", "age of the oldest of it", found.outbox_age)
        yield GaugeMetricFamily("retort_outbox_set_aside_rows", "what MLflow refused, kept for another try", found.outbox_set_aside)
        yield GaugeMetricFamily("retort_leases", "trials that a driver holds", len(found.lease_ages))
        yield GaugeMetricFamily("retort_lease_age_seconds", "longest time since a lease was renewed", max(found.lease_ages, default=0.0))
        yield GaugeMetricFamily("retort_images_per_second", "of all running trials, by their last epochs", found.images_per_second)
        ages = {loop.name: max(0.0, (self.now - loop.time) / 1000) for loop in self.loops}
        yield _by("retort_loop_age_seconds", "since a loop of the orchestrator was last seen", "loop", ages)
        yield _by("retort_loop_round_seconds", "longest of a loop's last rounds", "loop", {loop.name: loop.seconds for loop in self.loops})
        yield _by(
            "retort_loop_troubles",
            "failed rounds since the orchestrator started",
            "loop",
            {loop.name: loop.troubles for loop in self.loops},
        )
        yield _by("retort_loop_in_trouble", "1 while its last round failed", "loop", {loop.name: bool(loop.trouble) for loop in self.loops})


@router.get("/metrics", response_class=Response)
def metrics(store: StoreOf) -> Response:
    """Figures in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Figures(store.gauges(), store.heartbeats(), store.now()))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def _by(name: str, what: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, what, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
