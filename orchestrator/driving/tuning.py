"""Ray Tune around a study's graph: a searcher that suggests what is ready, and a callback that records what happens."""

import logging
import os
from pathlib import Path
from typing import Any

# Tune reads these at import: no result files, no state snapshots, no warnings about a cluster that another study uses.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "86400")
os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")
os.environ.setdefault("TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S", "86400")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")

import ray
from ray import tune
from ray.tune.search import Searcher

from orchestrator.driving.deadlines import Watch
from orchestrator.driving.graph import Graph
from orchestrator.driving.order import Order
from orchestrator.driving.pulse import Pulse
from orchestrator.driving.trainable import train

log = logging.getLogger(__name__)


class GraphSearcher(Searcher):
    """Gives Tune the next ready trial of the graph, None while what trains here may bring one, FINISHED else.

    warm: Tune keeps an idle process, and its devices, until FINISHED. So that comes as soon as the last trial is handed out; should that
    one be lost, the driver starts another Tuner.
    """

    def __init__(self, graph: Graph, warm: bool) -> None:
        super().__init__()
        self.graph, self.warm = graph, warm

    def suggest(self, trial_id: str) -> Any:
        order = self.graph.next()
        if order:
            return order.config()
        more = self.graph.claimed and (self.graph.waiting or not self.warm)
        return None if more else Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        pass  # the callback below has recorded it

    def save(self, checkpoint_path: str) -> None:
        pass  # the database is the state

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a study is resumed from the database")


class Recorder(tune.Callback):
    """Writes what Tune reports into the graph, and watches over the trials' deadlines. pulse: told of every round of Tune's loop."""

    def __init__(self, graph: Graph, pulse: Pulse) -> None:
        self.graph, self.pulse = graph, pulse
        self.watch = Watch()

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self.pulse.beat()
        self.watch.look()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        order = Order.of(trial.config)
        log.info("started in %s", Path(order.folder).name, extra={"trial": order.trial})
        self.watch.started(order.trial, Path(order.folder))
        self.graph.started(order.trial)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:
        name = Order.of(trial.config).trial
        if "result" in result or "failure" in result:
            log.info("ended: %s", result.get("reason") or "with its result", extra={"trial": name})
            self.watch.over(name)
        else:
            self.watch.heard(name, epoch_ended="epoch" in result and "step" not in result)
        self.graph.reported(name, result)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        name = Order.of(trial.config).trial
        reason = self.watch.over(name) or _cause(trial)
        log.warning("lost: %s", reason, extra={"trial": name})
        self.graph.lost(name, reason)


def _cause(trial: Any) -> str:
    """Why Tune gave a trial up, as one sentence."""
    error = trial.get_pickled_error() or trial.get_error()  # the latter is Tune's text about it
    cause = getattr(error, "cause", None) or error
    if isinstance(cause, ray.exceptions.RayActorError):
        return "its process died"
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    if not lines or lines[-1] == "None":  # what Tune writes of a process that died before it could begin
        return "its process died before it began"
    return f"its process raised {lines[-1][:500]}"


def tuner(graph: Graph, pulse: Pulse) -> tune.Tuner:
    """The Tuner of an attempt. Tune only runs trials here: it retries nothing, keeps no state, prints nothing.

    As many run at once as the nodes hold, those that join later too: Tune always has one more trial waiting, which Ray's autoscaler sees.
    """
    resources = graph.setting.resources
    warm = resources.gpus == 0  # a warm process saves the imports; one that held a GPU may hold its memory still
    return tune.Tuner(
        tune.with_resources(train, {"cpu": resources.cpus, "gpu": resources.gpus}),
        tune_config=tune.TuneConfig(
            search_alg=GraphSearcher(graph, warm),
            num_samples=-1,
            reuse_actors=warm,
            trial_name_creator=lambda trial: trial.trial_id,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name=f"study-{graph.study_id}-a{graph.attempt}",
            storage_path=str(graph.settings.home / "tune"),
            failure_config=tune.FailureConfig(max_failures=0),
            callbacks=[Recorder(graph, pulse)],
            verbose=0,
        ),
    )
