"""What searching with TPE and ASHA is worth: against random drawing with the same device time, over several seeds of the search.

    python benchmarks/search.py [--trials 40] [--seeds 0 1 2] [--only ld] [--out docs/results]

Needs a stack that is up ($RETORT_HOME). Each search is a study, and so is the random drawing beside it, which is let run without stopping
anything until it has had as many combinations as that device time pays for, at most those of the search; of these those count that ended
within it. Device time is that of the epochs trained by the search, stopped trainings included, without confirming.
Studies that are there already are not made again.
"""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.records.store import Store
from orchestrator.searching.tried import End, Outcome, Tried, best
from orchestrator.settings import settings
from studies.parse import parse_study
from studies.spec import Objective, StudySpec
from studies.submission import as_submission

TEACHER = {"detector": "gfl", "backbone": "resnet34"}
STUDENT = {"detector": "gfl", "backbone": "resnet18"}
RUNGS = {"scheduler": "asha"}
SEARCHES: dict[str, dict[str, Any]] = {
    "pdf_distil": {
        "arm": {"distiller": "pdf_distil"},
        "space": {
            "options.factor": {"loguniform": [0.1, 50]},
            "options.variant": {"choice": ["code", "paper"]},
            "weight": {"loguniform": [0.1, 10]},
        },
    },
    "ld": {
        "arm": {"distiller": "ld"},
        "space": {"options.temperature": {"loguniform": [1, 40]}, "weight": {"loguniform": [0.1, 10]}},
    },
    "pairs": {
        "arm": {"distiller": "fitnet"},
        "objective": ["AP", "Params"],
        "algorithm": "nsga2",
        "space": {
            "teacher.backbone": {"choice": ["resnet34", "resnet50", "resnet101"]},
            "student.backbone": {"choice": ["resnet18", "resnet34", "resnet50"]},
            "student.width": {"choice": [4, 8, 12, 16]},
        },
    },
}


def study_of(name: str, seed: int, trials: int, epochs: int, chance: bool, limit: int | None = None) -> StudySpec:
    """A search by its name, or the random drawing beside it. limit: steps of a student's epoch, confirmed with one seed then.

    Teachers are trained as the scale has it, so all searches share them.
    """
    asked = SEARCHES[name]
    objective = asked.get("objective", ["AP"])
    how = {"algorithm": "random"} if chance else {"algorithm": asked.get("algorithm", "tpe"), **(RUNGS if len(objective) == 1 else {})}
    search = {**how, "objective": objective, "space": asked["space"], "trials": trials, "seed": seed, "parallel": 2}
    schedule: dict[str, Any] = {"epochs": epochs}
    if limit:
        schedule["max_iterations"], search["confirm"] = limit, 1
    return parse_study(
        {
            "name": f"search benchmark: {name}, {'random' if chance else how['algorithm']}, seed {seed}",
            "dataset": "digits",
            "teacher": TEACHER,
            "student": STUDENT,
            "metrics": ["AP", "AP50", "AP75", "Params"],
            "arms": [{"id": name, "schedule": schedule, **asked["arm"]}],
            "search": search,
        }
    )


@dataclass(frozen=True)
class Run:
    """What a search came to. steps: (device seconds when a combination ended, its goals), of those that were done, in their order.
    shortest: device seconds of the quickest of those."""

    study: int
    steps: list[tuple[float, tuple[float, ...]]]
    seconds: float
    shortest: float
    tried: int
    stopped: int
    confirmed: float | None

    def within(self, seconds: float) -> list[tuple[float, ...]]:
        """Goals of the combinations that were done within so much device time."""
        return [goals for spent, goals in self.steps if spent <= seconds]


def run(store: Store, spec: StudySpec, key: str) -> Run:
    """Submits a study, or takes the one that an earlier call made, and waits for its end."""
    study, _ = store.create_study(as_submission(spec), f"{key}-{spec.name}")
    while not store.study(study.id).state.final:
        time.sleep(2)
    if store.study(study.id).state.value != "finished":
        sys.exit(f"study {study.id} {store.study(study.id).state}: {store.study(study.id).reason}")
    (tried,) = store.tried(study.id).values()
    return as_run(store, study.id, tried)


def as_run(store: Store, study: int, tried: Sequence[Tried]) -> Run:
    """The device time that each combination took, in the order of the ends."""
    took = {name: sum(by_epoch.values()) for name, by_epoch in store.epochs_of(study, "epoch_seconds").items()}
    spent, steps, whole = 0.0, [], []
    for each in sorted(tried, key=lambda one: one.told or 0):
        seconds = sum(took.get(name, 0.0) for name in each.trials)
        spent += seconds
        if each.end and each.end.outcome == Outcome.DONE:
            steps.append((spent, each.end.goals))
            whole.append(seconds)
    stopped = sum(each.end is not None and each.end.outcome == Outcome.STOPPED for each in tried)
    trials = {trial.name: trial for trial in store.trials(study)}
    values = [(trial.metrics or {}).get("AP") for name, trial in trials.items() if "~best-" in name]
    known = [value for value in values if value is not None]
    return Run(study, steps, spent, min(whole, default=spent), len(tried), stopped, sum(known) / len(known) if known else None)


def value(goals: list[tuple[float, ...]]) -> float:
    """The best AP, or of two goals the area that their front covers: AP above 0, Params below 10 (millions)."""
    if not goals:
        return 0.0
    if len(goals[0]) == 1:
        return max(goal[0] for goal in goals)
    tried = [Tried(n, "", {}, (), n, n, End(Outcome.DONE, goal)) for n, goal in enumerate(goals)]
    front = [each.end.goals for each in best(tried, [Objective(metric="AP"), Objective(metric="Params")]) if each.end]
    area, below = 0.0, 10.0
    for ap, params in sorted(front, key=lambda point: -point[1]):
        area, below = area + ap * max(0.0, below - params), min(below, params)
    return area


def draw(found: dict[str, dict[int, tuple[Run, Run]]], path: Path) -> None:
    """Best so far against device time: a panel a search, a line a seed."""
    from orchestrator.figures.style import COLOURS, grid, rendered

    figure, axes = grid(len(found), 3, 4.2, 3.2)
    for (name, pairs), axis in zip(found.items(), axes, strict=True):
        for n, pair in enumerate(pairs.values()):
            for colour, label, run_ in zip(COLOURS, ("searched", "random"), pair, strict=False):
                ends = [spent for spent, _ in run_.steps if spent <= pair[0].seconds]
                reached = [value(run_.within(spent)) for spent in ends]
                axis.step(ends, reached, where="post", color=colour, label=label if n == 0 else None)
        axis.set_title(name)
        axis.set_xlabel("device time, s")
        axis.set_ylabel("best AP so far" if name != "pairs" else "area of the front")
        axis.legend()
    path.write_bytes(rendered(figure, "svg"))


def report(found: dict[str, dict[int, tuple[Run, Run]]]) -> str:
    """A line a search and seed."""
    lines = [
        "| search | seed | tried (stopped) | device time | searched | random, same time | best confirmed | random's confirmed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, pairs in found.items():
        for seed, (searched, chance) in pairs.items():
            values = value(searched.within(searched.seconds)), value(chance.within(searched.seconds))
            confirmed = ["–" if each.confirmed is None else f"{each.confirmed:.2f}" for each in (searched, chance)]  # noqa: RUF001
            told = (f"{searched.tried} ({searched.stopped})", f"{searched.seconds:.0f} s", *(f"{each:.2f}" for each in values), *confirmed)
            lines.append(f"| {name} | {seed} | {' | '.join(told)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the search [0 1 2]")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument(
        "--limit",
        type=int,
        default=None,
        help="steps of a student's epoch [all]; fewer, where a search may not take a day, confirmed with one seed",
    )
    parser.add_argument("--only", choices=SEARCHES, action="append")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    asked = parser.parse_args()
    store = Store(settings().database)
    key = json.dumps([asked.trials, asked.epochs, asked.limit])
    found: dict[str, dict[int, tuple[Run, Run]]] = {}
    for name in asked.only or SEARCHES:
        for seed in asked.seeds:
            searched = run(store, study_of(name, seed, asked.trials, asked.epochs, False, asked.limit), key)
            paid = min(asked.trials, math.ceil(searched.seconds / searched.shortest))
            chance = run(store, study_of(name, seed, paid, asked.epochs, True, asked.limit), key)
            found.setdefault(name, {})[seed] = searched, chance
            print(report({name: found[name]}), file=sys.stderr, flush=True)
    asked.out.mkdir(parents=True, exist_ok=True)
    draw(found, asked.out / "search.svg")
    print(report(found))


if __name__ == "__main__":
    os.environ.setdefault("MPLBACKEND", "Agg")
    main()
