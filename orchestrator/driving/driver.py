"""Drives one attempt of a study, as a Ray Job: `python -m orchestrator.driving.driver STUDY ATTEMPT`.

One Tuner in the main thread is fed from the study's graph; whatever happens to a trial is in the database before anything follows
from it. A driver may be killed at any line: the next attempt starts from the database and the trials' own checkpoints.
"""

import shutil
import signal
import sys
import threading
import time
from typing import Any

from orchestrator.driving.graph import ASK_AGAIN_SECONDS, Graph
from orchestrator.driving.trainable import prepare_dataset
from orchestrator.machine import OPEN, IllegalMove, StudyState
from orchestrator.records.errors import Superseded
from orchestrator.records.store import Store
from orchestrator.settings import Settings, settings
from studies.spec import Resources
from studies.trial import Setting, TrialFailure

HEARTBEAT_SECONDS = 5.0
PATIENCE_SECONDS = 150.0  # so long a database may be locked or away without a driver or its trials coming to harm


def drive(study_id: int, attempt: int) -> None:
    """Runs an attempt to its end. Raises Superseded when another attempt has taken over."""
    configured = settings()
    store = Store(configured.database, patience=PATIENCE_SECONDS)
    try:
        study = store.start_attempt(study_id, attempt)
    except IllegalMove as refused:
        if refused.state != StudyState.CANCELLING:
            raise
        store.stopped(study_id, attempt)
        return
    threading.Thread(target=_beat, args=(store, study_id, attempt), daemon=True).start()
    try:
        _train(store, study_id, attempt, Setting.model_validate(study.spec), configured)
    except TrialFailure as failed:
        store.fail_study(study_id, attempt, failed.sentence)
        return
    except KeyboardInterrupt:
        pass
    counts = store.counts(study_id)
    if not any(counts[state] for state in OPEN):
        store.conclude(study_id, attempt)
    elif store.study(study_id).state == StudyState.CANCELLING:
        store.stopped(study_id, attempt)
    else:
        raise SystemExit("interrupted, though nobody asked to cancel: the next attempt goes on from here")


def _train(store: Store, study_id: int, attempt: int, setting: Setting, settings: Settings) -> None:
    """Until every trial has its end, or SIGINT. Ray is not even imported when equal trials have done everything."""
    if store.dataset_digest(setting.dataset) is None:
        store.note(study_id, f"preparing dataset {setting.dataset}")
    digest = prepare_dataset(setting.dataset, settings.data)
    store.record_dataset(setting.dataset, digest)
    graph = Graph(store, study_id, attempt, setting, digest, settings)
    slots = None
    # A Tuner ends, and gives its devices back, when it has nothing more to hand out; what other studies train may come after it.
    while not graph.settle():
        if graph.first is None:
            if store.study(study_id).state == StudyState.CANCELLING:
                return
            time.sleep(ASK_AGAIN_SECONDS)
            continue
        slots = slots or connect(settings, setting.resources)
        from orchestrator.driving.tuning import tuner  # imports Tune

        try:
            tuner(graph, slots).fit()
        finally:
            _forget_notes(settings, study_id, attempt)
        if graph.claimed:
            return  # interrupted


def _forget_notes(settings: Settings, study_id: int, attempt: int) -> None:
    """Removes what Tune has noted, for the database has everything. Of this attempt and those before it: a later one may be at work."""
    for number in range(1, attempt + 1):
        shutil.rmtree(settings.home / "tune" / f"study-{study_id}-a{number}", ignore_errors=True)


def connect(settings: Settings, resources: Resources) -> int:
    """Joins the Ray cluster and gives how many trials it can hold at once. Raises TrialFailure when not even one."""
    import ray

    ray.init(address=settings.ray, logging_level="warning", log_to_driver=False)
    return slots_in(ray.cluster_resources(), resources)


def slots_in(there: dict[str, Any], resources: Resources) -> int:
    """How many trials fit on these devices. Raises TrialFailure when not even one does."""
    wanted = {"CPU": resources.cpus, "GPU": resources.gpus}
    for what, count in wanted.items():
        if count > there.get(what, 0):
            raise TrialFailure("user", f"a trial wants {count} {what}s, the whole cluster has {there.get(what, 0):g}")
    return min(int(there[what] // count) for what, count in wanted.items() if count)


def _beat(store: Store, study_id: int, attempt: int) -> None:
    """Keeps the study's leases while this process lives."""
    while True:
        time.sleep(HEARTBEAT_SECONDS)
        try:
            store.keep_leases(study_id, attempt)
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
