"""Projects the database into MLflow: the outbox says what has changed, and each changed run is brought to what the database says now.

Every request may be sent twice without a trace: runs are found by a tag before they are made, points carry the time of their
recording, and everything else is a setting. So a relay that dies anywhere is simply started again.
"""

import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

# MLflow's client would hide an outage behind minutes of its own retries; the relay's loop does the waiting.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from orchestrator.figures import error_types
from orchestrator.figures.study import Material, pictures_of
from orchestrator.figures.style import FORMATS as PICTURE_FORMATS
from orchestrator.figures.style import rendered
from orchestrator.machine import StudyState, TrialState
from orchestrator.reporting.build import build
from orchestrator.reporting.rendering import FORMATS, render
from orchestrator.reporting.rendering.markdown import text
from orchestrator.schedules import telling
from orchestrator.schema import Outbox, Study, Trial
from orchestrator.settings import Settings
from orchestrator.store import Store
from studies.inert import one_line
from studies.trial import ERROR_CURVES

log = logging.getLogger(__name__)
T = TypeVar("T")
METRICS_PER_REQUEST = 1000  # what MLflow takes
METRIC_KEYS = 40  # per run: more make MLflow's pages slow
ID_TAG = "retort.id"
# Tells MLflow that an experiment trains models; its pages are for language models otherwise.
MODEL_TRAINING = {"mlflow.experimentKind": "custom_model_development"}
REFUSED = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE", "RESOURCE_ALREADY_EXISTS"}  # asking again will not help
STUDY_STATUS = {StudyState.FINISHED: "FINISHED", StudyState.FAILED: "FAILED", StudyState.CANCELLED: "KILLED"}
TRIAL_STATUS = {
    TrialState.FINISHED: "FINISHED",
    TrialState.CACHED: "FINISHED",
    TrialState.FAILED: "FAILED",
    TrialState.CANCELLED: "KILLED",
}


def mlflow_client(uri: str) -> MlflowClient:
    return MlflowClient(tracking_uri=uri)


class Relay:
    """Empties the outbox into MLflow."""

    name = "relay"
    interval = 0.5

    def __init__(self, store: Store, client: MlflowClient, places: Settings) -> None:
        self.store, self.client, self.places = store, client, places

    def step(self) -> None:
        while rows := self.store.outbox():
            troubles = []
            for study_id in dict.fromkeys(row.study_id for row in rows):
                try:
                    self._send_study(study_id, [row for row in rows if row.study_id == study_id])
                except Exception as trouble:  # one study's trouble keeps no other from being shown
                    troubles.append(trouble)
            if troubles:
                raise troubles[0]

    def _send_study(self, study_id: int, rows: Sequence[Outbox]) -> None:
        study = self._with_run(self.store.study(study_id))
        for trial_id in dict.fromkeys(row.trial_id for row in rows if row.trial_id is not None):
            mine = [row for row in rows if row.trial_id == trial_id]
            self._deliver(study, f"trial {trial_id}", mine, lambda t=trial_id, m=mine: self._send_trial(study, t, m))
        own = [row for row in rows if row.trial_id is None]
        if own:
            self._deliver(study, "the study", own, lambda: self._show_study(study))

    def _deliver(self, study: Study, what: str, rows: Sequence[Outbox], send: Any) -> None:
        """Sends, then forgets the rows; what MLflow refuses for good is told to the study's watchers and forgotten too."""
        try:
            send()
        except MlflowException as error:
            if error.error_code not in REFUSED:
                raise
            log.warning("MLflow refuses %s of study %d: %s", what, study.id, error)
            self.store.note(study.id, f"MLflow refuses {what}: {' '.join(str(error).split())[:300]}")
        self.store.sent([row.id for row in rows])

    # --- trials

    def _send_trial(self, study: Study, trial_id: int, rows: Sequence[Outbox]) -> None:
        trial = self.store.trial_by_id(trial_id)
        if trial.spec is None and trial.state != TrialState.FAILED:
            return
        run, made = self._trial_run(study, trial)
        epochs = list(range(1, trial.epoch + 1)) if made else sorted({row.epoch for row in rows if row.epoch is not None})
        self._send_points(run, trial, epochs)
        if made or any(row.epoch is None for row in rows):
            self._show_trial(study, trial, run)

    def _trial_run(self, study: Study, trial: Trial) -> tuple[str, bool]:
        """The run of a trial and whether it is new to us (then all its points are to be sent)."""
        if trial.run and self._exists(trial.run):
            return trial.run, False
        tags = {"mlflow.parentRunId": study.run or "", **trial_tags(study, trial)}
        run = self._find_or_create(study, trial_identity(study, trial), trial.title, tags, trial.started or study.created)
        self.store.set_trial_run(trial.id, run)
        self.client.log_batch(run, params=[Param(name, value) for name, value in list(trial_params(trial).items())[:100]])
        return run, True

    def _send_points(self, run: str, trial: Trial, epochs: Sequence[int]) -> None:
        points = self.store.points_of(trial.id, epochs)
        names = set(sorted({point.name for point in points}, key=_importance)[:METRIC_KEYS])
        metrics = [Metric(point.name, point.value, point.time, point.epoch) for point in points if point.name in names]
        for batch in in_batches(metrics, METRICS_PER_REQUEST):
            self.client.log_batch(run, metrics=batch)

    def _show_trial(self, study: Study, trial: Trial, run: str) -> None:
        """Tags, status and best checkpoint as they are now."""
        tags = trial_tags(study, trial)
        self.client.log_batch(run, tags=[RunTag(name, value) for name, value in tags.items()])
        status = TRIAL_STATUS.get(trial.state, "RUNNING")
        best = Path(trial.best_checkpoint) if trial.best_checkpoint else None
        if trial.state == TrialState.FINISHED and best and best.is_file() and not self.client.list_artifacts(run, "checkpoint"):
            self.client.log_artifact(run, str(best), "checkpoint")
        curves = error_types.read(trial)
        if curves and not any(item.path == ERROR_CURVES for item in self.client.list_artifacts(run)):
            self.client.log_figure(run, error_types.draw([(trial.title, {"all": curves})]), "error_curves.png")
            self.client.log_dict(run, dict(curves), ERROR_CURVES)
        self._set_status(run, status, trial.finished)

    # --- studies

    def _with_run(self, study: Study) -> Study:
        """The study with its parent run, made where it has none."""
        if study.run and self._exists(study.run):
            return study
        experiment = self._experiment(study.name)
        study.experiment = experiment
        study.run = self._find_or_create(study, study_identity(study), f"{study.name} #{study.id}", study_tags(study), study.created)
        self.store.set_study_run(study.id, experiment, study.run)
        return study

    def _show_study(self, study: Study) -> None:
        """Description, status and, once it is over, the table in all formats. Read anew: its trials have their runs by now."""
        study = self.store.study(study.id)
        assert study.run
        trials = self.store.trials(study.id)
        made = build(study, self.store.presentation(study.id), trials, self.places.mlflow_ui)
        made = replace(made, notes=[*made.notes, *telling.table_notes(self.store, study.id)])
        urls = {run.trial: run.url for row in made.rows for run in (*row.runs, *row.measurements)}
        links = "\n".join(f"- [{text(one_line(trial.title))}]({url}): {trial.state}" for trial in trials if (url := urls.get(trial.name)))
        self.client.set_tag(study.run, "mlflow.note.content", f"{render(made, 'md')}\n{links}\n")
        tags = study_tags(study) | telling.tags(self.store, study.id)
        self.client.log_batch(study.run, tags=[RunTag(name, value) for name, value in tags.items()])
        if study.state.final:
            for format in FORMATS:
                self.client.log_text(study.run, render(made, format), f"table.{format}")
            self._show_pictures(study)
        self._set_status(study.run, STUDY_STATUS.get(study.state, "RUNNING"), study.finished)

    def _show_pictures(self, study: Study) -> None:
        """The study's pictures, beside its table. One that cannot be drawn keeps no other from being shown."""
        with tempfile.TemporaryDirectory() as folder:
            for name, draw in pictures_of(Material.of(self.store, study.id)).items():
                try:
                    drawn = draw()
                    for format in PICTURE_FORMATS:
                        (Path(folder) / f"{name}.{format}").write_bytes(rendered(drawn, format))
                except Exception:
                    log.exception("study %s: its picture %s cannot be drawn", study.id, name)
            self.client.log_artifacts(study.run, folder, "figures")

    def _experiment(self, name: str) -> str:
        """MLflow's experiment of that name, brought back where somebody deleted it."""
        found = self.client.get_experiment_by_name(name)
        if found is None:
            return str(self.client.create_experiment(name, tags=MODEL_TRAINING))
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    # --- runs

    def _find_or_create(self, study: Study, identity: str, name: str, tags: dict[str, str], start: int) -> str:
        assert study.experiment
        found = self.client.search_runs([study.experiment], f"tags.`{ID_TAG}` = '{identity}'", max_results=1)
        if found:
            return str(found[0].info.run_id)
        run = self.client.create_run(study.experiment, start_time=start, tags={**tags, ID_TAG: identity}, run_name=name)
        return str(run.info.run_id)

    def _exists(self, run: str) -> bool:
        try:
            return bool(self.client.get_run(run).info.lifecycle_stage == "active")
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise

    def _set_status(self, run: str, status: str, end: int | None) -> None:
        if status == "RUNNING":
            self.client.update_run(run, status=status)
        else:
            self.client.set_terminated(run, status, end)


class Reaper:
    """Ends runs that MLflow shows as running though the database knows better: their relay died, or they lost their trial."""

    name = "reaper"
    interval = 15.0

    def __init__(self, store: Store, client: MlflowClient) -> None:
        self.store, self.client = store, client
        self._strange: set[str] = set()  # runs no trial owned last time; one being made right now looks the same

    def step(self) -> None:
        strange = set()
        for run in self._running():
            owner = self.store.owner_of_run(run.info.run_id)
            if owner is None:
                strange.add(run.info.run_id)
                if run.info.run_id in self._strange:
                    log.info("run %s belongs to no trial any more", run.info.run_id)
                    self.client.set_terminated(run.info.run_id, "KILLED")
            elif owner.final and not self.store.outbox(1):
                self.store.tell_mlflow_again(owner.study_id, owner.trial_id)
        self._strange = strange

    def _running(self) -> Iterator[Any]:
        """Running runs of this database's studies (their identity starts with the study's)."""
        mine = {study_identity(study): study.experiment for study in self.store.studies_with_run()}
        for experiments in in_batches(sorted({experiment for experiment in mine.values() if experiment}), 50):
            runs = self.client.search_runs(experiments, "attributes.status = 'RUNNING'", max_results=1000)
            yield from (run for run in runs if run.data.tags.get(ID_TAG, "").partition("/")[0] in mine)


def study_identity(study: Study) -> str:
    """What a study's run is found by. With the time of its creation, for ids start anew in a new database."""
    return f"study-{study.id}-{study.created}"


def trial_identity(study: Study, trial: Trial) -> str:
    """What a trial's run is found by; a trial whose key changed gets a new run."""
    return f"{study_identity(study)}/{trial.id}-{(trial.key or 'never-started')[:12]}"


def study_tags(study: Study) -> dict[str, str]:
    return {
        **_source(study),
        "study": str(study.id),
        "dataset": study.spec["dataset"],
        "scale": study.spec["scale"],
        "state": str(study.state),
        **({"reason": study.reason} if study.reason else {}),
    }


def _source(study: Study) -> dict[str, str]:
    """What MLflow's pages show as the source of a run."""
    return {"mlflow.source.name": f"Retort study {study.id}", "mlflow.source.type": "JOB"}


def trial_tags(study: Study, trial: Trial) -> dict[str, str]:
    """What a run says about itself besides its numbers."""
    taught = (trial.spec or {}).get("teacher")
    known = {
        "study": str(study.id),
        "arm": trial.name.removesuffix(f"/seed-{trial.seed}"),
        "seed": str(trial.seed),
        "role": trial.role,
        "state": str(trial.state),
        "trial_key": trial.key,
        "dataset": study.spec["dataset"],
        "dataset_digest": trial.dataset_digest,
        "teacher": trial.teacher,
        "teacher_sha256": taught["sha256"] if taught else None,
        "checkpoint_sha256": trial.checkpoint_sha256,
        "failure": trial.failure,
        "reason": trial.reason,
        "reused": "an equal trial was finished; these are its results" if trial.state == TrialState.CACHED else None,
        "mlflow.source.git.commit": (trial.environment or {}).get("git_sha"),
        **_source(study),
        **(trial.environment or {}),
    }
    return {name: str(value)[:5000] for name, value in known.items() if value is not None}


def trial_params(trial: Trial) -> dict[str, str]:
    """The resolved spec, flat; options under the name of their distiller ("fitnet.region"). Read as it was stored: what it names may have
    left the catalogue since."""
    spec = trial.spec
    if spec is None:
        return {}
    schedule = spec["schedule"]
    params: dict[str, Any] = {
        "detector": spec["network"]["detector"],
        "backbone": spec["network"]["backbone"],
        "distiller": "+".join(use["id"] for use in spec["distillers"]) or None,
        **{name: spec[name] for name in ("scale", "seed", "threads", "gpus")},
        **schedule,
        "scaled_lr": schedule["lr"] * schedule["batch_size"] / schedule["reference_batch"],
    }
    if spec["teacher"]:
        params |= {f"teacher.{part}": spec["teacher"]["network"][part] for part in ("detector", "backbone")}
    for use in spec["distillers"]:
        params |= {f"{use['id']}.{name}": use.get(name) for name in ("weight", "per_device_images")}
        params |= {f"{use['id']}.{name}": value for name, value in use["options"].items()}
    return {name: str(value) for name, value in params.items() if value is not None}


def in_batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Consecutive slices of at most `size` items."""
    return (items[start : start + size] for start in range(0, len(items), size))


def _importance(name: str) -> tuple[int, str]:
    """Average precision first, then the losses, then the rest."""
    return (0 if name.startswith("AP") else 1 if name.startswith("loss") else 2, name)
