"""What it costs to build and to render the table of a study: 300 and 3,000 rows of three seeds, with published numbers.

    python benchmarks/table.py [--rows 300 3000]

Prints the time of `build`, best of three, and of each format. Rows come in groups of ten that share a baseline; three metrics.
"""

import argparse
import random
import time
from collections.abc import Callable

from orchestrator.machine import StudyState, TrialState
from orchestrator.records.schema import Study, Trial
from orchestrator.reporting.build import build
from orchestrator.reporting.rendering import FORMATS, render
from studies.presentation import Column, Presentation, Published, Row

METRICS, SEEDS, GROUP = ("AP", "AP50", "AP75"), 3, 10


def a_study(rows: int) -> tuple[Study, Presentation, list[Trial]]:
    """A finished study of so many rows."""
    drawn = random.Random(0)
    layout, trials = [], []
    for number in range(rows):
        first = number // GROUP * GROUP
        names = tuple(f"arm{number}/seed-{seed}" for seed in range(SEEDS))
        layout.append(
            Row(
                id=f"arm{number}",
                title=f"Arm {number}",
                group=f"Group {first}",
                role="baseline" if number == first else "distilled",
                trials=names,
                baseline=None if number == first else f"arm{first}",
                published={metric: Published(value=round(drawn.uniform(30, 45), 1), tolerance=0.2) for metric in METRICS},
            )
        )
        for seed, name in enumerate(names):
            metrics = {metric: drawn.uniform(30, 45) for metric in METRICS}
            environment = {"training_code": "a" * 64, "torch": "2.9.1", "device": "cpu, 1 threads"}
            trials.append(Trial(name=name, seed=seed, state=TrialState.FINISHED, metrics=metrics, environment=environment))
    columns = tuple(Column(metric=metric, title=metric) for metric in METRICS)
    study = Study(id=1, name="benchmark", spec={"dataset": "digits", "scale": "nano"}, state=StudyState.FINISHED)
    return study, Presentation(title="benchmark", columns=columns, rows=tuple(layout)), trials


def seconds(work: Callable[[], object], times: int = 3) -> float:
    """The best of several."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=int, nargs="+", default=[300, 3000])
    for rows in arguments.parse_args().rows:
        study, presentation, trials = a_study(rows)
        print(f"{rows} rows x {SEEDS} seeds: build {seconds(lambda: build(study, presentation, trials)):.3f} s")  # noqa: B023
        table = build(study, presentation, trials)
        print("  " + ", ".join(f"{form} {seconds(lambda: render(table, form), 1):.3f} s" for form in FORMATS))  # noqa: B023


if __name__ == "__main__":
    main()
