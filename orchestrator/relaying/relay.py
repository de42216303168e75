"""Projects the database into MLflow: the outbox says what has changed, and each changed run is brought to what the database says now.

Every request may be sent twice without a trace: runs are found by a tag before they are made, points carry the time of their
recording, and everything else is a setting. So a relay that dies anywhere is simply started again.
"""

import logging
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import DBAPIError

from orchestrator.figures import error_types
from orchestrator.figures.study import Material, pictures_of
from orchestrator.figures.style import FORMATS as PICTURE_FORMATS
from orchestrator.figures.style import rendered
from orchestrator.machine import StudyState, TrialState
from orchestrator.records.schema import Outbox, Study, Trial
from orchestrator.records.store import Store
from orchestrator.relaying.client import answers, in_batches
from orchestrator.relaying.runs import ID_TAG, study_identity, study_tags, trial_identity, trial_params, trial_tags
from orchestrator.relaying.view import DIFFERENCE, view_tags
from orchestrator.reporting.build import build
from orchestrator.reporting.links import experiment_page
from orchestrator.reporting.rendering import FORMATS, render
from orchestrator.reporting.rendering.markdown import text
from orchestrator.reporting.table import Table
from orchestrator.schedules import telling
from orchestrator.settings import Settings
from orchestrator.storage.storage import StorageError
from studies.inert import one_line
from studies.trial import ERROR_CURVES

log = logging.getLogger(__name__)
METRICS_PER_REQUEST = 1000  # what MLflow takes
DESCRIPTION_CHARACTERS = 8000  # what MLflow keeps of a tag
ROWS_A_TURN = 200  # of a study, before the next one has its turn
SHOWN_SHARE, SELDOM = 0.05, 12  # of the time is spent on showing a study that runs, as long as it is shown each SELDOM * show_seconds
METRIC_KEYS = 40  # per run: more make MLflow's pages slow
SIGN_KEYS = ("loss", "lr", "images_per_second", "data_share", "memory")  # of a sign of life
# Tells MLflow that an experiment trains models; its pages are for language models otherwise.
MODEL_TRAINING = {"mlflow.experimentKind": "custom_model_development"}
REFUSED = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE", "RESOURCE_ALREADY_EXISTS"}  # asking again will not help
STUDY_STATUS = {StudyState.FINISHED: "FINISHED", StudyState.FAILED: "FAILED", StudyState.CANCELLED: "KILLED"}
TRIAL_STATUS = {
    TrialState.FINISHED: "FINISHED",
    TrialState.CACHED: "FINISHED",
    TrialState.STOPPED: "FINISHED",
    TrialState.FAILED: "FAILED",
    TrialState.CANCELLED: "KILLED",
}


class Relay:
    """Empties the outbox into MLflow."""

    name = "relay"
    interval = 0.5
    listens = False

    def __init__(
        self, store: Store, client: MlflowClient, settings: Settings, show_seconds: float = 5.0, rest_seconds: float = 2.0
    ) -> None:
        """show_seconds: a study that runs is shown no more often, a large one up to SELDOM times less so. rest_seconds: a study with
        trouble of its own is tried again after this, then after twice this, and so on."""
        self.store, self.client, self.settings = store, client, settings
        self.show_seconds, self.rest_seconds = show_seconds, rest_seconds
        self._show_due: dict[int, float] = {}  # study that runs -> when it is shown again
        self._rests: dict[int, float] = {}  # study with trouble of its own -> when it is tried again

    def step(self) -> None:
        """A turn for every study that has something to tell, again and again until none has: a long one keeps no other waiting, nor does
        one in trouble. Raises when MLflow or the database is away."""
        while sum(self._turn(study_id) for study_id in self.store.studies_to_tell()):
            pass

    def _turn(self, study_id: int) -> int:
        """Sends some of what a study has to tell; how many rows that were."""
        if self._rests.get(study_id, 0.0) > time.monotonic():
            return 0
        rows = self.store.outbox(study_id, ROWS_A_TURN)
        study, sent = None, 0
        # The study itself last: it tells of its trials' runs, which are to be there.
        for trial_id in sorted(dict.fromkeys(row.trial_id for row in rows), key=lambda trial: trial is None):
            mine = [row for row in rows if row.trial_id == trial_id]
            try:
                study = study or self._with_run(self.store.study(study_id))
                if trial_id is not None:
                    self._send_trial(study, trial_id, mine)
                elif not self._show_study(study):
                    continue
                self.store.sent([row.id for row in mine])
                sent += len(mine)
            except DBAPIError:
                raise
            except Exception as trouble:
                self._fail(study_id, trial_id, mine if study else rows, trouble)
                if study is None:  # nothing of this study can be sent
                    break
        return sent

    def _fail(self, study_id: int, trial_id: int | None, rows: Sequence[Outbox], trouble: Exception) -> None:
        """Tries again later, or sets the rows aside. Raises `trouble` when MLflow or the files' store is away: it is nobody's own."""
        refused = isinstance(trouble, MlflowException) and trouble.error_code in REFUSED
        if isinstance(trouble, StorageError) or (not refused and not answers(self.client)):
            raise trouble
        what = "the study" if trial_id is None else f"trial {trial_id}"
        why = f"{what}: {type(trouble).__name__}: {' '.join(str(trouble).split())[:300]}"
        log.warning("study %s cannot be told to MLflow, %s", study_id, why, exc_info=not refused)
        self._rests[study_id] = time.monotonic() + self.rest_seconds * 2 ** max(row.tries for row in rows)
        if self.store.not_sent([row.id for row in rows], why, last=refused):
            self._rests.pop(study_id)
            self.store.note(study_id, f"MLflow could not be told and is not asked again: {why}")

    # --- trials

    def _send_trial(self, study: Study, trial_id: int, rows: Sequence[Outbox]) -> None:
        trial = self.store.trial_by_id(trial_id)
        if trial.spec is None and trial.state != TrialState.FAILED:
            return
        found = self._trial_run(study, trial)
        if found is None:
            return
        run, made = found
        epochs = list(range(1, trial.epoch + 1)) if made else sorted({row.epoch for row in rows if row.epoch})
        self._send_points(run, trial, epochs)
        if trial.sign:
            self._send_sign(run, trial.sign)
        if made or any(row.epoch is None for row in rows):
            self._show_trial(study, trial, run)

    def _trial_run(self, study: Study, trial: Trial) -> tuple[str, bool] | None:
        """The run of a trial and whether it is new to us (then all its points are to be sent); None where the trial starts over."""
        if trial.run and self._exists(trial.run):
            return trial.run, False
        tags = {"mlflow.parentRunId": study.run or "", **trial_tags(study, trial, self.store.arm_of(trial))}
        run = self._find_or_create(study, trial_identity(study, trial), trial.title, tags, trial.started or study.created)
        if not self.store.set_trial_run(trial.id, run, trial.key):
            return None
        self.client.log_batch(run, params=[Param(name, value) for name, value in list(trial_params(trial).items())[:100]])
        return run, True

    def _send_points(self, run: str, trial: Trial, epochs: Sequence[int]) -> None:
        points = self.store.points_of(trial.id, epochs)
        names = set(sorted({point.name for point in points}, key=_importance)[:METRIC_KEYS])
        metrics = [Metric(point.name, point.value, point.time, point.epoch) for point in points if point.name in names]
        for batch in in_batches(metrics, METRICS_PER_REQUEST):
            self.client.log_batch(run, metrics=batch)

    def _send_sign(self, run: str, sign: dict[str, Any]) -> None:
        """A few numbers from inside an epoch, by the number of steps; told twice, they are the same points."""
        step = (sign["epoch"] - 1) * sign["steps"] + sign["step"]
        known = {name: sign["metrics"][name] for name in SIGN_KEYS if name in sign["metrics"]}
        self.client.log_batch(run, metrics=[Metric(f"step/{name}", value, sign["time"], step) for name, value in known.items()])

    def _show_trial(self, study: Study, trial: Trial, run: str) -> None:
        """Tags, status and best checkpoint as they are now."""
        tags = trial_tags(study, trial, self.store.arm_of(trial))
        self.client.log_batch(run, tags=[RunTag(name, value) for name, value in tags.items()])
        status = TRIAL_STATUS.get(trial.state, "RUNNING")
        wanted = trial.best_checkpoint if trial.state == TrialState.FINISHED else None
        if wanted and not self.client.list_artifacts(run, "checkpoint") and (best := self.store.files.local(wanted)):
            self.client.log_artifact(run, str(best), "checkpoint")
        curves = error_types.read(trial, self.store.files)
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

    def _show_study(self, study: Study) -> bool:
        """Description, status and, once it is over, the table in all formats. Read anew: its trials have their runs by now. False where it
        was shown a moment ago: all its trials are read for this, so while it runs it is left for later."""
        began = time.monotonic()
        study = self.store.study(study.id)
        if not study.state.final and began < self._show_due.get(study.id, began):
            return False
        assert study.run
        trials = self.store.trials(study.id)
        made = build(study, self.store.presentation(study.id), trials, self.settings.mlflow_ui)
        made = replace(made, notes=[*made.notes, *telling.table_notes(self.store, study.id)])
        urls = {run.trial: run.url for row in made.rows for run in (*row.runs, *row.measurements)}
        links = "\n".join(f"- [{text(one_line(trial.title))}]({url}): {trial.state}" for trial in trials if (url := urls.get(trial.name)))
        description = f"{self._places(study)}{render(made, 'md')}\n{links}\n"
        self.client.set_tag(study.run, "mlflow.note.content", shortened(description))
        if len(description) > DESCRIPTION_CHARACTERS:
            self.client.log_text(study.run, description, "description.md")
        tags = study_tags(study) | telling.tags(self.store, study.id)
        self.client.log_batch(study.run, tags=[RunTag(name, value) for name, value in tags.items()])
        if study.state.final:
            for format in FORMATS:
                self.client.log_text(study.run, render(made, format), f"table.{format}")
            self._show_pictures(study)
            self._send_differences(made, trials)
        self._set_status(study.run, STUDY_STATUS.get(study.state, "RUNNING"), study.finished)
        now = time.monotonic()
        self._show_due[study.id] = now + min(max(self.show_seconds, (now - began) / SHOWN_SHARE), SELDOM * self.show_seconds)
        return True

    def _places(self, study: Study) -> str:
        """Markdown links to all runs of the study's experiment."""
        if not self.settings.mlflow_ui or not study.experiment:
            return ""
        table, charts = (experiment_page(self.settings.mlflow_ui, study.experiment, charts) for charts in (False, True))
        return f"All runs by arm: [table]({table}), [charts]({charts})\n\n"

    def _send_differences(self, table: Table, trials: Sequence[Trial]) -> None:
        """What each trial gains over its baseline of the same seed, in AP."""
        by_name = {trial.name: trial for trial in trials}
        for row in table.rows:
            gain = row.cells["AP"].gain if "AP" in row.cells else None
            for run in row.runs:
                trial = by_name[run.trial]
                if gain and trial.run and trial.finished and run.seed in gain.by_seed:
                    point = Metric(DIFFERENCE, gain.by_seed[run.seed], trial.finished, trial.epoch)
                    self.client.log_batch(trial.run, metrics=[point])

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
        tags = MODEL_TRAINING | view_tags()
        if found is None:
            return str(self.client.create_experiment(name, tags=tags))
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        for key, value in tags.items():
            self.client.set_experiment_tag(found.experiment_id, key, value)
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


def _importance(name: str) -> tuple[int, str]:
    """Average precision first, then the losses, then the rest."""
    return (0 if name.startswith("AP") else 1 if name.startswith("loss") else 2, name)


def shortened(description: str) -> str:
    """A description that MLflow would cut somewhere, cut between two lines, with a word on where the whole is."""
    if len(description) <= DESCRIPTION_CHARACTERS:
        return description
    more = "\n\nThe rest is in description.md, among the artifacts.\n"
    kept = description[: DESCRIPTION_CHARACTERS - len(more)]
    return kept[: kept.rfind("\n")] + more
