"""Ray Tune around a study's graph: a searcher that suggests what is granted, and a callback that records what happens."""

import contextlib
import logging
import os
import time
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
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from orchestrator.broker.decide import LEAVING_SECONDS
from orchestrator.driving.deadlines import Watch, end_process, node_of
from orchestrator.driving.graph import NEXT_SECONDS, Graph
from orchestrator.driving.pulse import Pulse
from orchestrator.driving.trials.order import Order
from orchestrator.driving.trials.trainable import train
from orchestrator.storage.storage import StorageError
from studies.trial import LEAVE_NOW

log = logging.getLogger(__name__)
KEPT_SECONDS = 2.5  # an idle process, and its devices, are kept so long for the study's next grant
AWAIT_SECONDS = 1.0  # a grant is awaited while Tune has nothing to do
ASK_SECONDS = 1.0  # between two looks for trials that are to make room
ENDS = {"result", "failure", "left"}  # what the last report of a trial has
MOST_AT_ONCE = 10_000  # trials; how many there are is the broker's to say


class GraphSearcher(Searcher):
    """Gives Tune the next trial that was granted, None while another may be, FINISHED else.

    warm: Tune keeps an idle process, and its devices, until FINISHED. So that comes as soon as the last trial is handed out, or when none
    is granted for KEPT_SECONDS; what comes later, the driver gives to another Tuner.
    """

    def __init__(self, graph: Graph, warm: bool) -> None:
        super().__init__()
        self.graph, self.warm = graph, warm

    def suggest(self, trial_id: str) -> Any:
        order = self.graph.next() or self._awaited()
        if order:
            return order.config()
        if self.graph.claimed:
            return None if self.graph.waiting or not self.warm else Searcher.FINISHED
        return None if self.graph.waiting and self.graph.still < KEPT_SECONDS else Searcher.FINISHED

    def _awaited(self) -> Order | None:
        """The next grant, if it comes within a second, where nothing is at work: Tune would sleep for a second until it asks again, and
        for another before it starts what it is given."""
        until = time.monotonic() + AWAIT_SECONDS
        while not self.graph.claimed and self.graph.waiting and (now := time.monotonic()) < until and self.graph.still < KEPT_SECONDS:
            time.sleep(min(NEXT_SECONDS, until - now))
            if order := self.graph.next():
                return order
        return None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        pass  # the callback below has recorded it

    def save(self, checkpoint_path: str) -> None:
        pass  # the database is the state

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a study is resumed from the database")


class Choosing(FIFOScheduler):
    """Tune's order of trials, first come first served. It ends the process that Tune keeps idle while others of the study run, or while a
    node is about to go (it would take the next trial there), and stops trainings of a search that have no promise."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        if self.graph.nodes_leave or time.monotonic() - self.graph.changed > KEPT_SECONDS:
            # Tune has no public way; its version is pinned, and tests/faults holds this against a real stack.
            tune_controller._tune_controller._cleanup_cached_actors(force_all=True)
        return super().choose_trial_to_run(tune_controller)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """result: flat, as Tune shows it."""
        if "epoch" not in result or "step" in result or not self.graph.searching:
            return str(TrialScheduler.CONTINUE)
        metrics = {name.removeprefix("metrics/"): value for name, value in result.items() if name.startswith("metrics/")}
        stops = self.graph.stops(Order.of(trial.config).trial, result["epoch"], result["epochs"], metrics)
        return str(TrialScheduler.STOP if stops else TrialScheduler.CONTINUE)


class Recorder(tune.Callback):
    """Writes what Tune reports into the graph, and watches over the trials' deadlines. pulse: told of every round of Tune's loop."""

    def __init__(self, graph: Graph, pulse: Pulse) -> None:
        self.graph, self.pulse = graph, pulse
        self.watch = Watch(lambda folder: end_process(folder, graph.store.files))
        self._leaving: dict[str, float] = {}  # trials asked to make room -> when
        self._look_due = 0.0

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self.pulse.beat()
        self.watch.look()
        if time.monotonic() >= self._look_due:
            self._ask_to_leave()
            self._look_due = time.monotonic() + ASK_SECONDS

    def _ask_to_leave(self) -> None:
        """Tells trials that are to make room, by a file; ends the processes of those that do not, whose last checkpoint is not old."""
        now = time.monotonic()
        leaving = self.graph.leaving(self._on_nodes_that_leave())
        self._leaving = {name: self._leaving.get(name, now) for name in leaving}
        for name, since in self._leaving.items():
            folder = self.graph.folders[name]
            if now - since > LEAVING_SECONDS:
                end_process(folder, self.graph.store.files)
            else:
                with contextlib.suppress(OSError, StorageError):  # its process has not come up yet, or the store is away: asked again
                    self.graph.store.files.leave_note(folder.name, LEAVE_NOW)

    def _on_nodes_that_leave(self) -> list[str]:
        """Trials at work on nodes that have announced their end (`ray drain-node`; a spot instance that is taken back)."""
        draining = ray._private.state.state.get_draining_nodes()  # Ray has no public way to ask; its version is pinned
        self.graph.nodes_leave = bool(draining)
        files = self.graph.store.files
        return [name for name, folder in self.graph.folders.items() if node_of(folder, files) in draining] if draining else []

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        for order in Order.of(trial.config).group:
            log.info("started in %s", Path(order.folder).name, extra={"trial": order.trial})
            self.watch.started(order.trial, Path(order.folder))
            self.graph.started(order.trial)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:
        name = result["trial"]
        if ENDS & result.keys():
            log.info(
                "ended: %s", result.get("reason") or ("it made room" if "left" in result else "with its result"), extra={"trial": name}
            )
            self.watch.over(name)
        else:
            for order in Order.of(trial.config).group:  # a word of one is a sign of life of all: they train in turn
                self.watch.heard(order.trial, epoch_ended=order.trial == name and "epoch" in result and "step" not in result)
        self.graph.reported(name, result)
        if name not in self.graph.claimed:  # it has no promise
            self.watch.over(name)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        lost = [order.trial for order in Order.of(trial.config).group if order.trial in self.graph.claimed]
        missed = [why for name in lost if (why := self.watch.over(name))]
        reason = missed[0] if missed else _cause(trial)
        for name in lost:
            log.warning("lost: %s", reason, extra={"trial": name})
            self.graph.lost(name, reason)


def _cause(trial: Any) -> str:
    """Why Tune gave a trial up, as one sentence."""
    error = trial.get_pickled_error() or trial.get_error()  # the latter is Tune's text about it
    cause = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    if isinstance(cause, ray.exceptions.RayActorError) or not lines or lines[-1] == "None":  # None: Tune did not see how
        return "its process died"
    return f"its process raised {lines[-1][:500]}"


def tuner(graph: Graph, pulse: Pulse) -> tune.Tuner:
    """The Tuner of an attempt. Tune only runs trials here: it retries nothing, keeps no state, prints nothing."""
    resources = graph.setting.resources
    warm = resources.gpus == 0  # a warm process saves the imports; one that held a GPU may hold its memory still
    return tune.Tuner(
        tune.with_resources(train, {"cpu": resources.all_cpus, "gpu": resources.gpus, "memory": resources.memory * 2**30}),
        tune_config=tune.TuneConfig(
            search_alg=GraphSearcher(graph, warm),
            scheduler=Choosing(graph),
            num_samples=-1,
            max_concurrent_trials=MOST_AT_ONCE,
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
