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
import logging
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from orchestrator.reporting.statistics import half_width
from studies.expand import PlannedTrial, expand
from studies.recipes import RECIPES
from studies.spec import StudySpec
from workers.datasets import prepare
from workers.local import run_locally
from workers.training.progress import EpochReport
from workers.weights.pretraining import pretrained

RESULTS = Path(__file__).parent.parent / "docs" / "results"
FITNET = {"id": "fitnet", "title": "FitNet", "distiller": "fitnet", "weight": 2.5, "options": {"average": "cells"}}
METHODS: dict[str, list[dict[str, Any]]] = {
    "gfl": [
        FITNET,
        {"id": "ld", "title": "LD", "distiller": "ld"},
        {"id": "pdf-distil", "title": "PDF-Distil", "distiller": "pdf_distil"},
    ],
    "retinanet": [FITNET],
    "faster_rcnn": [FITNET],
}
COLOURS = {"teacher": "black", "student": "tab:blue", "fitnet": "tab:orange", "ld": "tab:red", "pdf-distil": "tab:green"}
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
    study = study_of(family)
    data = home / "data"
    prepare(study.dataset, data)
    recipe = RECIPES["nano"].pretraining
    assert recipe
    for trial in expand(study).trials[:2]:  # the teacher and a student
        started = time.process_time()
        pretrained(trial.network, recipe, data)
        print(f"{trial.network.backbone} of width {trial.network.width} pretrained: {time.process_time() - started:.0f} s", flush=True)
    wanted = [("student", seed) for seed in ALONE] + [(method["id"], seed) for method in METHODS[family] for seed in DISTILLED]
    for arm, seed in wanted:
        known = {(each.family, each.role, each.seed) for each in read(log)}
        if (family, arm, seed) in known:
            continue
        curves: dict[str, list[EpochReport]] = {}
        times: dict[str, float] = {}
        last = time.process_time()

        def told(trial: PlannedTrial, epoch: EpochReport, curves: dict[str, list[EpochReport]] = curves, times: Any = times) -> None:
            nonlocal last
            curves.setdefault(trial.role, []).append(epoch)
            times[trial.role] = times.get(trial.role, 0.0) + time.process_time() - last
            last = time.process_time()

        run_locally(study, arm, seed, home, told)
        for role, epochs in curves.items():
            name, its_seed = ("teacher", 0) if role == "teacher" else (arm, seed)
            if (family, name, its_seed) not in known:
                write(log, Trained(family, name, its_seed, [e.metrics["AP"] for e in epochs], kept(epochs[-1]), times[role]))


def kept(epoch: EpochReport) -> dict[str, float]:
    return {name: value for name, value in epoch.metrics.items() if name.startswith(("AP", "loss", "err_"))}


def write(log: Path, done: Trained) -> None:
    with log.open("a") as file:
        file.write(json.dumps(asdict(done)) + "\n")
    print(f"{done.family} {done.role} {done.seed}: AP {done.curve[-1]:.1f}, {done.cpu_seconds:.0f} s", flush=True)


def read(log: Path) -> list[Trained]:
    """What earlier runs have trained."""
    return [Trained(**json.loads(line)) for line in log.read_text().splitlines()] if log.exists() else []


def table(found: list[Trained]) -> Iterator[str]:
    """The table of the page, line by line."""
    yield "| family | | AP of every seed | mean | standard deviation | AP75 / AP50 | AP gained | AP50 gained | AP75 gained | CPU seconds |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for family in dict.fromkeys(each.family for each in found):
        of_family = sorted((each for each in found if each.family == family), key=lambda each: each.seed)
        alone = {each.seed: each.metrics for each in of_family if each.role == "student"}
        for role in sorted({each.role for each in of_family}, key=list(COLOURS).index):
            trained = [each for each in of_family if each.role == role]
            aps = [each.metrics["AP"] for each in trained]
            deviation = f"{statistics.stdev(aps):.2f}" if len(aps) > 1 else ""
            ratio = statistics.mean(each.metrics["AP75"] / each.metrics["AP50"] for each in trained)
            seconds = statistics.mean(each.cpu_seconds for each in trained)
            gains = " | ".join(gained(trained, alone, metric) for metric in ("AP", "AP50", "AP75"))
            yield (
                f"| {family} | {role} | {' '.join(f'{ap:.1f}' for ap in aps)} | {statistics.mean(aps):.1f} | {deviation} | {ratio:.2f} "
                f"| {gains} | {seconds:.0f} |"
            )


def gained(trained: list[Trained], alone: dict[int, dict[str, float]], metric: str) -> str:
    """What trainings have above the student alone: a teacher above its mean, a method seed by seed with its 95% interval."""
    role = trained[0].role
    if role == "student" or not alone:
        return ""
    if role == "teacher":
        return f"{trained[0].metrics[metric] - statistics.mean(metrics[metric] for metrics in alone.values()):+.1f}"
    gains = [each.metrics[metric] - alone[each.seed][metric] for each in trained if each.seed in alone]
    half = half_width(gains)
    return (f"{statistics.mean(gains):+.1f}" if gains else "") + ("" if half is None else f" ±{half:.1f}")


def draw(found: list[Trained], path: Path) -> None:
    """The learning curves, a panel a family: every training is a line, in the colour of its role."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "retort"  # the same curves give the same file
    from matplotlib import pyplot

    families = list(dict.fromkeys(each.family for each in found))
    figure, panels = pyplot.subplots(1, len(families), figsize=(4.5 * len(families), 3.6), sharey=True, squeeze=False, layout="constrained")
    for panel, family in zip(panels[0], families, strict=True):
        named = set[str]()
        for each in (each for each in found if each.family == family):
            label = None if each.role in named else each.role
            named.add(each.role)
            panel.plot(range(1, len(each.curve) + 1), each.curve, color=COLOURS[each.role], label=label, linewidth=1, marker=".", alpha=0.8)
        panel.set(title=family, xlabel="epoch", ylim=(0, None))
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("AP")
    panels[0][0].legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="*", choices=list(METHODS), default=list(METHODS), help="which to train")
    parser.add_argument("--home", type=Path, default=Path(".retort"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("mmengine").setLevel(logging.ERROR)
    log = given.home / "nano-noise.jsonl"
    for family in given.families:
        train(family, given.home, log)
    found = sorted(read(log), key=lambda each: list(METHODS).index(each.family))
    if not found:
        sys.exit(f"nothing is trained in {given.home} yet")
    print("\n".join(table(found)))
    draw(found, RESULTS / "nano-curves.svg")


if __name__ == "__main__":
    main()
