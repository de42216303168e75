"""How long a person waits before anything trains: `retort up`, a study's first trial on a warm stack, and the next trial of a warm process.

    python benchmarks/startup.py [--studies 3] [--trials 6] [--slots 1]

A stack of its own, in a new home (`up` twice: with nothing there yet, and again). Studies of short trainings without a teacher, one after
the other. First trial: from the submission until Tune starts it, and until its process is at work, its imports done. Next trial: from the
end of one in the database until its process is at the next.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from orchestration import finished, study_of

from orchestrator.outputs import TRIAL_OUTPUT
from orchestrator.records.store import Store
from studies.spec import StudySpec


def at_work(folder: Path) -> float:
    """Milliseconds since 1970 of the first line of a trial's output, written by the process that trains it."""
    with (folder / TRIAL_OUTPUT).open() as lines:
        return 1000 * datetime.fromisoformat(next(lines).split()[0]).timestamp()


def waits(store: Store, home: Path, spec: StudySpec, slots: int) -> tuple[float, float, list[float]]:
    """Seconds from the submission until the first trial is started, and until it is at work; and those between the trials of a slot."""
    study, trials = finished(store, spec)
    trials.sort(key=lambda trial: trial.started or 0)
    works = {trial.id: at_work(home / "trials" / str(trial.folder)) for trial in trials}
    ends = sorted(trial.finished or 0 for trial in trials)
    begins = sorted(works.values())[slots:]
    first = trials[0]
    assert first.started
    between = [(begin - end) / 1000 for begin, end in zip(begins, ends, strict=False)]
    return (first.started - study.created) / 1000, (works[first.id] - study.created) / 1000, between


def told(what: str, seconds: Sequence[float]) -> None:
    print(f"{what:44s} {statistics.median(seconds):6.2f} s   {min(seconds):.2f} to {max(seconds):.2f}, {len(seconds)} times", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=3)
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--slots", type=int, default=1)
    asked = parser.parse_args()
    from workers.datasets import prepare

    with tempfile.TemporaryDirectory(prefix="retort-benchmark-") as folder:
        home = Path(folder) / "home"
        home.mkdir()
        prepare("digits", home / "data")
        command = [sys.executable, "-m", "api.command.cli"]
        environment = {**os.environ, "RETORT_HOME": str(home)}
        try:
            for which in ("nothing there", "again"):
                began = time.monotonic()
                up = [*command, "up", "--ports", "auto", "--cpus", str(asked.slots)]
                done = subprocess.run(up, env=environment, capture_output=True, text=True, check=True)
                told(f"up, {which}", [time.monotonic() - began])
                print("\n".join(f"    {line}" for line in (done.stdout + done.stderr).splitlines() if "ready after" in line))
                if which == "nothing there":
                    subprocess.run([*command, "down"], env=environment, capture_output=True, check=True)
            store = Store(f"sqlite:///{home}/retort.db")
            seeds = [range(number * asked.trials, (number + 1) * asked.trials) for number in range(asked.studies + 1)]
            specs = [study_of("start-up", of_study, {"epochs": 1, "max_iterations": 20}) for of_study in seeds]
            runs = [waits(store, home, spec, asked.slots) for spec in specs]
            told("first trial of the first study, at work", [runs[0][1]])
            told("first trial, started", [started for started, _, _ in runs[1:]])
            told("first trial, at work", [works for _, works, _ in runs[1:]])
            told("next trial of a warm process, at work", [seconds for _, _, between in runs for seconds in between])
        finally:
            subprocess.run([*command, "down"], env=environment, capture_output=True, check=False)


if __name__ == "__main__":
    main()
