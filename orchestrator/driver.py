"""Drives one attempt of a study, as a Ray Job: `python -m orchestrator.driver STUDY ATTEMPT`.

One Tuner in the main thread is fed from the study's graph; whatever happens to a trial is in the database before anything follows
from it. A driver may be killed at any line: the next attempt starts from the database and the trials' own checkpoints.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

# Tune reads these at import: no result files, no progress tables, no state snapshots of its own.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "86400")
os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")
os.environ.setdefault("TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S", "86400")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")

import ray
from ray import tune
from ray.tune.search import Searcher

from orchestrator.machine import IllegalMove, StudyState, TrialState
from orchestrator.plan import code_version, study_methods, teacher_ref
from orchestrator.schema import Trial
from orchestrator.settings import Settings, settings
from orchestrator.store import Claim, Store, Superseded
from orchestrator.trainable import Order, import_workers, prepare_dataset, train
from studies.expand import PlannedTrial, expand
from studies.spec import StudySpec
from studies.trial import TrialFailure, TrialSpec

HEARTBEAT_SECONDS = 5.0
ASK_AGAIN_SECONDS = 1.0  # how often a trial that another study trains is asked for


class Graph:
    """The study as its driver sees it: which trial is next, and what became of each. Writes through to the store."""

    def __init__(self, store: Store, study_id: int, attempt: int, spec: StudySpec, digest: str, places: Settings) -> None:
        self.store, self.study_id, self.attempt = store, study_id, attempt
        self.spec, self.digest, self.places = spec, digest, places
        self.planned: dict[str, PlannedTrial] = {trial.id: trial for trial in expand(spec)}
        self.claimed: set[str] = set()  # handed to Tune, end not seen yet
        self.ask_again: dict[str, float] = {}  # trials another study trains -> when to look again
        self.source = source_of_code()
        self.trials: dict[str, Trial] = {}
        self.refresh()

    def refresh(self) -> None:
        self.trials = {trial.name: trial for trial in self.store.trials(self.study_id)}

    @property
    def ended(self) -> bool:
        return all(trial.state.final for trial in self.trials.values())

    def next(self) -> Order | None:
        """The next trial to train; None while there is none: all are running, waiting, or being trained by another study."""
        for name in [name for name, trial in self.trials.items() if trial.state == TrialState.READY]:
            if name in self.claimed or self.ask_again.get(name, 0.0) > time.monotonic():
                continue
            order = self._claim(name)
            if order:
                return order
        return None

    def _claim(self, name: str) -> Order | None:
        try:
            spec = self._resolve(self.planned[name])
            code = code_version(study_methods(spec))
        except ValueError as error:
            self.failed(name, "user", str(error))
            return None
        key = spec.key(self.digest, code)
        folder = f"{key}-forced-{self.trials[name].id}" if self.spec.force else key
        environment = {**self.source, "code_version": code}
        claim = self.store.claim(self.study_id, self.attempt, name, spec, key, folder, self.digest, environment, reuse=not self.spec.force)
        if claim == Claim.HELD:
            self.claimed.add(name)
            return Order(name, spec.model_dump(mode="json"), str(self.places.trials / folder), str(self.places.data))
        if claim == Claim.CACHED:
            self.refresh()
        else:
            self.ask_again[name] = time.monotonic() + ASK_AGAIN_SECONDS
        return None

    def _resolve(self, planned: PlannedTrial) -> TrialSpec:
        return planned.resolve(self.spec, teacher_ref(self.trials[planned.teacher]) if planned.teacher else None)

    def started(self, name: str) -> None:
        self.store.start_trial(self.study_id, self.attempt, name)
        self.refresh()

    def reported(self, name: str, result: dict[str, Any]) -> None:
        """An epoch, the result, or the failure that `trainable.train` reports."""
        if "epoch" in result:
            self.store.record_epoch(self.study_id, self.attempt, name, result["epoch"], result["epochs"], result["metrics"])
        elif "result" in result:
            self.store.finish_trial(self.study_id, self.attempt, name, **result["result"])
            self.claimed.discard(name)
            self.refresh()
        elif "failure" in result:
            self.failed(name, result["failure"], result["reason"])

    def lost(self, name: str, reason: str) -> None:
        """The trial's process died, or raised what is no TrialFailure."""
        if name in self.claimed:
            self.failed(name, "infra", reason)

    def failed(self, name: str, failure: Any, reason: str) -> None:
        self.store.fail_trial(self.study_id, self.attempt, name, failure, reason)
        self.claimed.discard(name)
        self.refresh()


class GraphSearcher(Searcher):
    """Gives Tune the next ready trial of the graph; None while there is none, FINISHED when every trial has its end."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph

    def suggest(self, trial_id: str) -> Any:
        order = self.graph.next()
        if order:
            return order.config()
        return Searcher.FINISHED if self.graph.ended else None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        pass  # the callback below has recorded it

    def save(self, checkpoint_path: str) -> None:
        pass  # the database is the state

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a study is resumed from the database")


class Recorder(tune.Callback):
    """Writes what Tune reports into the graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.graph.started(Order.of(trial.config).trial)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:
        self.graph.reported(Order.of(trial.config).trial, result)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.graph.lost(Order.of(trial.config).trial, _cause(trial))


def _cause(trial: Any) -> str:
    """Why Tune gave a trial up, as one sentence."""
    error = trial.get_error()
    cause = getattr(error, "cause", None) or error
    if isinstance(cause, ray.exceptions.RayActorError):
        return "its process died"
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return f"its process raised {lines[-1][:500]}" if lines else "its process failed without a word"


def source_of_code() -> dict[str, str]:
    """Git commit of this checkout and whether it has changes; empty when the code is installed without git."""
    root = Path(__file__).resolve().parent.parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root:
            return {}
        return {"git_sha": git("rev-parse", "HEAD"), "git_dirty": "true" if git("status", "--porcelain") else "false"}
    except (OSError, subprocess.CalledProcessError):
        return {}


def drive(study_id: int, attempt: int) -> None:
    """Runs an attempt to its end. Raises Superseded when another attempt has taken over."""
    places = settings()
    store = Store(places.database)
    try:
        study = store.start_attempt(study_id, attempt)
    except IllegalMove as refused:
        if refused.state == StudyState.CANCELLING:
            store.stopped(study_id, attempt)
            return
        raise
    spec = StudySpec.model_validate(study.spec)
    heart = threading.Thread(target=_beat, args=(store, study_id), daemon=True)
    heart.start()
    try:
        connect(places, spec)
        digest = _dataset(store, study_id, spec.dataset, places.data)
        slots = _slots(spec)
        tuner(Graph(store, study_id, attempt, spec, digest, places), slots).fit()
    except TrialFailure as failed:
        store.fail_study(study_id, attempt, failed.sentence)
        return
    except KeyboardInterrupt:
        pass
    if store.study(study_id).state == StudyState.CANCELLING:
        store.stopped(study_id, attempt)
    elif all(trial.state.final for trial in store.trials(study_id)):
        store.conclude(study_id, attempt)
    else:
        raise SystemExit("interrupted without a request to cancel: the next attempt goes on from here")


def connect(places: Settings, spec: StudySpec) -> None:
    """Joins the Ray cluster. CPU trial processes import what they need as soon as they are there."""
    hook = {} if spec.resources.gpus else {"worker_process_setup_hook": import_workers}
    ray.init(address=places.ray, runtime_env=hook or None, logging_level="warning", log_to_driver=False)


def tuner(graph: Graph, slots: int) -> tune.Tuner:
    """The Tuner of an attempt. Tune only runs trials here: it retries nothing, keeps no state, prints nothing."""
    resources = graph.spec.resources
    return tune.Tuner(
        tune.with_resources(train, {"cpu": resources.cpus, "gpu": resources.gpus}),
        tune_config=tune.TuneConfig(
            search_alg=GraphSearcher(graph),
            num_samples=-1,
            max_concurrent_trials=slots,
            # A warm process saves the imports; one that held a GPU may hold its memory still.
            reuse_actors=resources.gpus == 0,
            trial_name_creator=lambda trial: trial.trial_id,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name=f"study-{graph.study_id}-a{graph.attempt}",
            storage_path=str(graph.places.home / "tune"),
            failure_config=tune.FailureConfig(max_failures=0),
            callbacks=[Recorder(graph)],
            verbose=0,
        ),
    )


def _dataset(store: Store, study_id: int, name: str, data: Path) -> str:
    if store.dataset_digest(name) is None:
        store.note(study_id, f"preparing dataset {name}")
    digest = prepare_dataset(name, data)
    if store.dataset_digest(name) != digest:
        store.record_dataset(name, digest)
        store.note(study_id, f"dataset {name} is ready, digest {digest[:12]}")
    return digest


def _slots(spec: StudySpec) -> int:
    """How many trials the cluster can hold at once. Raises TrialFailure when not even one."""
    there = ray.cluster_resources()
    for what, wanted in (("CPU", spec.resources.cpus), ("GPU", spec.resources.gpus)):
        if wanted > there.get(what, 0):
            raise TrialFailure("user", f"a trial wants {wanted} {what}s, the whole cluster has {there.get(what, 0):g}")
    by_device = [int(there[what] // wanted) for what, wanted in (("CPU", spec.resources.cpus), ("GPU", spec.resources.gpus)) if wanted]
    return min(by_device)


def _beat(store: Store, study_id: int) -> None:
    """Keeps the study's leases while this process lives."""
    while True:
        time.sleep(HEARTBEAT_SECONDS)
        try:
            store.keep_leases(study_id)
        except Exception as error:
            print(f"heartbeat: {error}", file=sys.stderr)


def main() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job's shell may have left it ignored
    study_id, attempt = (int(argument) for argument in sys.argv[1:])
    try:
        drive(study_id, attempt)
    except Superseded as over:
        sys.exit(str(over))


if __name__ == "__main__":
    main()
