"""What orchestration costs: makespan of a study against (sum of its training times / slots), beside plain Ray Tune on the same trials.

    python benchmarks/orchestration.py [--trials 20] [--epochs 1] [--slots 2]

Both run on the same embedded stack, one after the other, each trial on one CPU, with the backbone that nano pretrains once at hand. A
training time is what the trial itself measures (steps and evaluation); everything else counts as overhead: submitting, process starts,
imports of mmdet, building networks, recording.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studies.expand import expand
from studies.parse import parse_study
from studies.spec import StudySpec
from studies.submission import as_submission

if TYPE_CHECKING:  # the process of plain Tune starts without the database
    from orchestrator.records.schema import Study, Trial
    from orchestrator.records.store import Store


def study_of(name: str, seeds: Sequence[int], schedule: dict[str, int]) -> StudySpec:
    """One arm without a teacher, a trial a seed: nothing waits for another."""
    return parse_study(
        {
            "name": name,
            "dataset": "digits",
            "scale": "nano",
            "schedule": schedule,
            "seeds": list(seeds),
            "student": {"detector": "gfl", "backbone": "resnet18"},
            "arms": [{"id": "student"}],
        }
    )


def finished(store: "Store", spec: StudySpec) -> "tuple[Study, list[Trial]]":
    """Submits a study and waits for its end; ends this program where a trial of it has failed."""
    study, _ = store.create_study(as_submission(spec))
    while not store.study(study.id).state.final:
        time.sleep(0.1)
    trials = store.trials(study.id)
    if any(trial.state.value != "finished" for trial in trials):
        sys.exit(f"trials failed: {[trial.reason for trial in trials if trial.reason]}")
    return store.study(study.id), trials


def by_retort(spec: StudySpec, store: "Store") -> tuple[float, list[float], float]:
    """Makespan from submission to the study's end, the training times, and the time until the first trial started; seconds."""
    study, trials = finished(store, spec)
    assert study.finished
    first = min(trial.started or study.finished for trial in trials)
    return (study.finished - study.created) / 1000, [trial.seconds or 0.0 for trial in trials], (first - study.created) / 1000


def by_plain_tune(spec: StudySpec, home: Path, slots: int, environment: dict[str, str]) -> tuple[float, list[float]]:
    """Makespan of a process that does nothing but run the same trials in one Tuner with warm actors, and the training times; seconds."""
    specs = [trial.resolve(spec, None).model_dump(mode="json") for trial in expand(spec).trials]
    with tempfile.TemporaryDirectory(dir=home) as folder:
        task = Path(folder) / "task.json"
        task.write_text(json.dumps({"specs": specs, "folder": folder, "data": str(home / "data"), "slots": slots}))
        began = time.monotonic()
        run = subprocess.run([sys.executable, __file__, "--plain", str(task)], env=environment, capture_output=True, text=True, check=False)
        makespan = time.monotonic() - began
        if run.returncode:
            sys.exit(run.stderr)
        return makespan, json.loads(run.stdout.splitlines()[-1])


def plain(task: dict[str, Any]) -> list[float]:
    """Ray Tune as its manual shows it; the training times of all trials."""
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    import ray
    from ray import tune

    ray.init(address=os.environ["RETORT_RAY"], logging_level="warning", log_to_driver=False)

    def train(config: dict[str, Any]) -> None:
        from studies.trial import TrialSpec
        from workers.training.trial import run_trial

        number = config["number"]
        folder = Path(task["folder"]) / str(number)
        spec = TrialSpec.model_validate(task["specs"][number])
        result = run_trial(spec, folder, Path(task["data"]), lambda done: tune.report(done.metrics))
        tune.report({"seconds": result.seconds})

    tuner = tune.Tuner(
        tune.with_resources(train, {"cpu": 1}),
        param_space={"number": tune.grid_search(list(range(len(task["specs"]))))},
        tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=task["slots"]),
        run_config=tune.RunConfig(storage_path=task["folder"], verbose=0),
    )
    return [result.metrics["seconds"] for result in tuner.fit()]


def told(name: str, makespan: float, seconds: list[float], slots: int) -> float:
    ideal = sum(seconds) / slots
    print(
        f"{name:16s} makespan {makespan:7.1f} s   ideal {ideal:7.1f} s   ratio {makespan / ideal:.3f}   overhead {makespan - ideal:5.1f} s"
    )
    return makespan / ideal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--slots", type=int, default=2, help="CPUs given to Ray")
    parser.add_argument("--plain", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plain:
        print(json.dumps(plain(json.loads(options.plain.read_text()))))
        return
    from api.embedded import supervision
    from orchestrator.records.store import Store
    from workers.datasets import prepare

    spec = study_of(f"orchestration benchmark, {options.trials} trials", range(options.trials), {"epochs": options.epochs})
    with tempfile.TemporaryDirectory(prefix="retort-benchmark-") as folder:
        home = Path(folder) / "home"
        home.mkdir()
        prepare(spec.dataset, home / "data")
        stack, _ = supervision.up(home, {}, auto=True, cpus=options.slots, say=print)
        try:
            environment = stack.environment()
            store = Store(environment["RETORT_DATABASE_URL"])
            finished(store, study_of("pretraining", [options.trials], {"epochs": 1, "max_iterations": 1}))
            makespan, seconds, first = by_retort(spec, store)
            ours = told("Retort", makespan, seconds, options.slots)
            print(f"{'':16s} first trial started after {first:.1f} s")
            theirs = told("plain Ray Tune", *by_plain_tune(spec, home, options.slots, environment), options.slots)
            print(f"Retort / plain Ray Tune: {ours / theirs:.3f}")
        finally:
            supervision.down(home, say=lambda _: None)


if __name__ == "__main__":
    main()
