"""How much a table at nano can say: per family one teacher, five seeds of the student alone, three of each method.

    python -m benchmarks.nano_noise                        # all three families, an hour or two on one core
    python -m benchmarks.nano_noise --families gfl --home .retort
    python -m benchmarks.nano_noise --families             # trains nothing; draws and prints what is there

Trials are those of a study (`workers.local`) and are kept under `--home`, so a run that is stopped goes on where it was. Prints the
table and writes the learning curves to docs/results/nano-curves.svg. CPU seconds count the trial's own process, evaluations included,
and no pretraining of backbones, which is timed by itself.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from orchestrator.table import half_width
from studies.expand import PlannedTrial
from studies.recipes import RECIPES
from studies.spec import StudySpec
from workers.datasets import prepare
from workers.local import run_locally
from workers.pretraining import pretrained
from workers.progress import EpochReport

RESULTS = Path(__file__).parent.parent / "docs" / "results"
FITNET = {"id": "fitnet", "title": "FitNet", "distiller": "fitnet", "weight": 2.5, "options": {"average": "cells"}}
METHODS: dict[str, list[dict[str, Any]]] = {
    "gfl": [
        FITNET,
        {"id": "pdf-distil", "title": "PDF-Distil", "distiller": "pdf_distil"},
        {"id": "ld", "title": "LD", "distiller": "ld"},
    ],
    "retinanet": [FITNET],
    "faster_rcnn": [FITNET],
}
ALONE, DISTILLED = range(5), range(3)  # seeds


@dataclass(frozen=True)
class Trained:
    """A finished training. role: "teacher", "student" or a method's id. curve: AP after every epoch."""

    family: str
    role: str
    seed: int
    curve: list[float]
    metrics: dict[str, float]
    cpu_seconds: float


def study_of(family: str) -> StudySpec:
    """The study of a family, whose every number but the seeds is the default of the scale."""
    return StudySpec.model_validate(
        {
            "name": f"How much nano can say, {family}",
            "dataset": "digits",
            "seeds": list(ALONE),
            "teacher": {"detector": family, "backbone": "resnet34"},
            "student": {"detector": family, "backbone": "resnet18"},
            "arms": [{"id": "student"}, *METHODS[family]],
        }
    )


def train(family: str, home: Path, log: Path) -> None:
    """Trains what the log does not have yet of a family, and appends to it."""
    study, known = study_of(family), {(each.family, each.role, each.seed) for each in read(log)}
    for arm, seeds in {"student": ALONE} | {method["id"]: DISTILLED for method in METHODS[family]}.items():
        for seed in seeds:
            if (family, arm, seed) in known:
                continue
            curves: dict[str, list[EpochReport]] = {}
            started, spent = time.process_time(), dict[str, float]()

            def told(trial: PlannedTrial, epoch: EpochReport, spent: dict[str, float] = spent, started: float = started) -> None:
                curves.setdefault(trial.id, []).append(epoch)
                spent[trial.id] = time.process_time() - started - sum(s for other, s in spent.items() if other != trial.id)

            run_locally(study, arm, seed, home, told)
            for name, epochs in curves.items():
                role = "teacher" if name.startswith("teacher") else arm
                if (family, role, seed if role == arm else 0) in known:
                    continue
                known.add((family, role, seed if role == arm else 0))
                keep = {k: v for k, v in epochs[-1].metrics.items() if k.startswith(("AP", "loss", "err"))}
                done = Trained(family, role, seed, [e.metrics["AP"] for e in epochs], keep, spent[name])
                with log.open("a") as file:
                    file.write(json.dumps(vars(done)) + "\n")
                print(f"{family} {role} seed {seed}: AP {done.curve[-1]:.1f}, {done.cpu_seconds:.0f} s", flush=True)
