"""Drives one attempt of a study, as a Ray Job: `python -m orchestrator.driving.driver STUDY ATTEMPT`, or `... SUBMISSION`, which loads
and waits until an attempt is given to it.

One Tuner in the main thread is fed from the study's graph; whatever happens to a trial is in the database before anything follows
from it. A driver may be killed at any line: the next attempt starts from the database and the trials' own checkpoints.
"""

import logging
import os
import shutil
import signal
import sys
import time
from contextlib import nullcontext

from orchestrator import logs
from orchestrator.driving.graph import LOOK_SECONDS, Graph
from orchestrator.driving.pulse import PREPARATION_SECONDS, Pulse
from orchestrator.driving.trials.trainable import prepare_dataset
from orchestrator.machine import OPEN, IllegalMove, StudyState
from orchestrator.outputs import driver_log, driver_output, written_to
from orchestrator.records.errors import Superseded
from orchestrator.records.locks import alone
from orchestrator.records.store import Store
from orchestrator.settings import Settings, settings
from orchestrator.storage.files import opened_files
from orchestrator.storage.mirror import mirrored
from orchestrator.storage.storage import Storage
from studies.trial import Setting, TrialFailure

PATIENCE_SECONDS = 150.0  # so long a database may be locked or away without a driver or its trials coming to harm
log = logging.getLogger("orchestrator.driving.driver")  # run as a module it has no name of its own


def drive(study_id: int, attempt: int) -> None:
    """Runs an attempt to its end. Raises Superseded when another attempt has taken over."""
    configured = settings()
    store = Store(configured.database, patience=PATIENCE_SECONDS, files=opened_files(configured))
    try:
        study = store.start_attempt(study_id, attempt)
    except IllegalMove as refused:
        if refused.state != StudyState.CANCELLING:
            raise
        store.stopped(study_id, attempt)
        return
    pulse = Pulse(store, study_id, attempt)
    pulse.start()
    over = "its job was asked to stop"
    try:
        if _train(store, study_id, attempt, Setting.model_validate(study.spec), configured, pulse):
            over = "it has no devices for now"
    except TrialFailure as failed:
        store.fail_study(study_id, attempt, failed.sentence)
        return
    except KeyboardInterrupt:
        pass
    counts = store.counts(study_id)
    if not any(counts[state] for state in OPEN) and not store.study(study_id).searching:
        store.conclude(study_id, attempt)
    elif store.study(study_id).state == StudyState.CANCELLING:
        store.stopped(study_id, attempt)
    else:
        store.end_attempt(study_id, attempt, over, planned=True)


def _train(store: Store, study_id: int, attempt: int, setting: Setting, settings: Settings, pulse: Pulse) -> bool:
    """Until every trial has its end, or SIGINT, or (True) there is nothing to do without further devices. Ray is not even imported when
    equal trials have done everything."""
    digest = _dataset(store, study_id, setting.dataset, settings, pulse)
    graph = Graph(store, study_id, attempt, setting, digest, settings)
    # A Tuner ends, and gives its devices back, when it has nothing more to hand out; what is granted later comes after it.
    while not graph.settle():
        pulse.beat()
        if not graph.orders:
            if store.study(study_id).state == StudyState.CANCELLING:
                return False
            if graph.done_for_now():
                return True
            time.sleep(LOOK_SECONDS)
            continue
        _connect(settings)
        from orchestrator.driving.tuning import tuner  # imports Tune

        try:
            tuner(graph, pulse).fit()
        finally:
            _forget_notes(settings, study_id, attempt)
        if graph.claimed:
            return False  # interrupted
    return False


def _dataset(store: Store, study_id: int, name: str, settings: Settings, pulse: Pulse) -> str:
    """Digest of the dataset, which is made or checked once, by one driver. Raises TrialFailure."""
    if store.dataset_digest(name) is None:
        store.note(study_id, f"preparing dataset {name}")
    with alone(store.engine, f"dataset-{name}", waiting=pulse.beat):
        pulse.beat(PREPARATION_SECONDS)
        digest = prepare_dataset(name, settings, store.dataset_digest(name))
        store.record_dataset(name, digest)
    return digest


def _forget_notes(settings: Settings, study_id: int, attempt: int) -> None:
    """Removes what Tune has noted, for the database has everything. Of this attempt and those before it: a later one may be at work."""
    for number in range(1, attempt + 1):
        shutil.rmtree(settings.home / "tune" / f"study-{study_id}-a{number}", ignore_errors=True)


def _connect(settings: Settings) -> None:
    """Joins the Ray cluster, once."""
    import ray

    if not ray.is_initialized():
        ray.init(address=settings.ray, logging_level="warning", log_to_driver=False)
        # At its end Tune misses the files of results that it is told not to write.
        logging.getLogger("ray.tune.analysis.experiment_analysis").setLevel(logging.ERROR)


def _stand_by(submission: str, settings: Settings) -> tuple[int, int]:
    """Loads what a driver needs, and waits for the attempt that it is given. Its process is then called as any other driver."""
    from ray._raylet import setproctitle  # type: ignore[attr-defined]  # compiled, without types

    from orchestrator.driving import tuning  # noqa: F401 - imports Tune
    from orchestrator.driving.standby import await_attempt

    _connect(settings)
    study_id, attempt = await_attempt(Store(settings.database, patience=PATIENCE_SECONDS), submission)
    setproctitle(" ".join((*sys.orig_argv[:-1], str(study_id), str(attempt))))
    return study_id, attempt


def main() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job's shell may have left it ignored
    configured = settings()
    if len(sys.argv) == 2:
        study_id, attempt = _stand_by(sys.argv[1], configured)
    else:
        study_id, attempt = (int(argument) for argument in sys.argv[1:])
    output = driver_output(configured, study_id, attempt)
    sent = mirrored(Storage(configured.store), driver_log(study_id, attempt), output) if configured.store else nullcontext()
    try:
        with sent, written_to(output):
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
