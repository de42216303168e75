"""What a run in MLflow says of its study or trial: the identity that it is found by, its tags and its parameters."""

from typing import Any

from orchestrator.machine import TrialState
from orchestrator.records.schema import Study, Trial

ID_TAG = "retort.id"


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


def trial_tags(study: Study, trial: Trial, arm: str) -> dict[str, str]:
    """What a run says about itself besides its numbers. arm: name of the trial's."""
    taught = (trial.spec or {}).get("teacher")
    known = {
        "study": str(study.id),
        "arm": arm,
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
        "precision": spec.get("precision", "fp32"),
        **schedule,
        "scaled_lr": schedule["lr"] * schedule["batch_size"] / schedule["reference_batch"],
    }
    if spec["teacher"]:
        params |= {f"teacher.{part}": spec["teacher"]["network"][part] for part in ("detector", "backbone")}
    for use in spec["distillers"]:
        params |= {f"{use['id']}.{name}": use.get(name) for name in ("weight", "per_device_images")}
        params |= {f"{use['id']}.{name}": value for name, value in use["options"].items()}
    return {name: str(value) for name, value in params.items() if value is not None}
