"""Drives one attempt of a study, as a Ray Job: `python -m orchestrator.driving.driver STUDY ATTEMPT`.

One Tuner in the main thread is fed from the study's graph; whatever happens to a trial is in the database before anything follows
from it. A driver may be killed at any line: the next attempt starts from the database and the trials' own checkpoints.
"""

import logging
import os
import shutil
import signal
import sys
import time
from typing import Any

from orchestrator import logs
from orchestrator.driving.graph import ASK_AGAIN_SECONDS, Graph
from orchestrator.driving.pulse import Pulse
from orchestrator.driving.trainable import prepare_dataset
from orchestrator.machine import OPEN, IllegalMove, StudyState
from orchestrator.outputs import driver_output, written_to
from orchestrator.records.errors import Superseded
from orchestrator.records.store import Store
from orchestrator.settings import Settings, settings
from studies.spec import Resources
from studies.trial import Setting, TrialFailure

PATIENCE_SECONDS = 150.0  # so long a database may be locked or away without a driver or its trials coming to harm
log = logging.getLogger("orchestrator.driving.driver")  # run as a module it has no name of its own


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
    pulse = Pulse(store, study_id, attempt)
    pulse.start()
    try:
        _train(store, study_id, attempt, Setting.model_validate(study.spec), configured, pulse)
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
        store.end_attempt(study_id, attempt, "its job was asked to stop", planned=True)


def _train(store: Store, study_id: int, attempt: int, setting: Setting, settings: Settings, pulse: Pulse) -> None:
    """Until every trial has its end, or SIGINT. Ray is not even imported when equal trials have done everything."""
    if store.dataset_digest(setting.dataset) is None:
        store.note(study_id, f"preparing dataset {setting.dataset}")
    digest = prepare_dataset(setting.dataset, settings.data)
    store.record_dataset(setting.dataset, digest)
    graph = Graph(store, study_id, attempt, setting, digest, settings)
    slots = None
    # A Tuner ends, and gives its devices back, when it has nothing more to hand out; what other studies train may come after it.
    while not graph.settle():
        pulse.beat()
        if graph.first is None:
            if store.study(study_id).state == StudyState.CANCELLING:
                return
            time.sleep(ASK_AGAIN_SECONDS)
            continue
        slots = slots or connect(settings, setting.resources)
        from orchestrator.driving.tuning import tuner  # imports Tune

        try:
            tuner(graph, slots, pulse).fit()
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


def main() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job's shell may have left it ignored
    study_id, attempt = (int(argument) for argument in sys.argv[1:])
    output = driver_output(settings(), study_id, attempt)
    try:
        with written_to(output):
            logs.configure(study=study_id, attempt=attempt)
            log.info("the driver is up, process %s", os.getpid())
            try:
                drive(study_id, attempt)
            except Superseded:
                raise
            except BaseException:
                log.exception("the driver fails")
                raise
            log.info("the driver is done")
    except Superseded as over:
        sys.exit(str(over))


if __name__ == "__main__":
    main()
