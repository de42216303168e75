"""What a group saves: the training of K students of one teacher together, over that of each alone, and over what is left of it at best.

    python benchmarks/group.py                  # CPU: GFL R18 <- R34 at nano; RetinaNet R18 <- R50 at 2 x 256^2, steps alone
    python benchmarks/group.py --rounds 5 --steps 40
    python benchmarks/group.py --device cuda --members 4    # R50 <- R101, 8 x 1333x800, bf16, steps

Trainings: `run_trial` of each member and `run_group` of all, in turn within a round, on the digits; an epoch's training without its
evaluation. "at best": one stream of data and one teacher forward, as the mean trial alone has them, and the rest of every trial alone.
Steps: the same on one random batch, without data. On a CPU the process's own CPU time is measured, so that other work on the machine
falls out; the median over rounds is printed, with the least and the greatest.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from distill_step import CPU, GPU, Setting, batch, distilled, get_ready, seconds, taught_by, training_step

from studies.catalog import DETECTORS
from studies.methods import methods
from studies.spec import MethodUse
from studies.trial import TrialFailure, TrialSpec
from workers.datasets import prepare
from workers.distillation.student import DistilledDetector
from workers.distillation.teacher import Teacher
from workers.training.loop import Outcome, Told
from workers.training.member import Member
from workers.training.result import TrialResult
from workers.training.trial import Seat, run_group, run_trial

METHODS = ["fitnet", "cwd", "pkd", "ld", "mgd", "pdf_distil", "fgd", "frs"]
WARM_UP = 3  # steps on random batches before any is timed


@dataclass
class Spent:
    """Seconds of a training. total: without evaluation. data: loading and preparing. teacher: its forward passes."""

    total: float = 0.0
    data: float = 0.0
    teacher: float = 0.0
    students: list[float] = field(default_factory=list)  # alone: the rest of each


@contextmanager
def timed(owner: type, name: str, spent: Callable[[float], None]) -> Iterator[None]:
    """Inside, the seconds of every call of a method are told."""
    method = getattr(owner, name)

    def watched(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        try:
            return method(*args, **kwargs)
        finally:
            spent(time.perf_counter() - began)

    setattr(owner, name, watched)
    try:
        yield
    finally:
        setattr(owner, name, method)


def trial(method: str, teacher: dict[str, Any], steps: int) -> TrialSpec:
    schedule = {"recipe": "nano", "epochs": 1, "batch_size": 8, "max_iterations": steps}
    network = {"detector": "gfl", "backbone": "resnet18", "width": 8}
    spec = {"dataset": "digits", "scale": "nano", "network": network, "schedule": schedule, "seed": 0, "teacher": teacher}
    return TrialSpec.model_validate(spec | {"distillers": [MethodUse(id=method)]})


def trained(specs: list[TrialSpec], folder: Path, data: Path, together: bool) -> tuple[Spent, list[str]]:
    """What the trainings cost, and the digests of what they made."""
    spent, digests = Spent(), []
    images = int(specs[0].schedule.max_iterations or 0) * int(specs[0].schedule.batch_size or 0)

    def on_data(more: float) -> None:
        spent.data += more

    def on_teacher(more: float) -> None:
        spent.teacher += more

    def run(each: list[TrialSpec]) -> None:
        epochs: list[Any] = []
        ends: list[Outcome] = []
        waits: list[float] = []
        seats = [Seat(spec, folder / spec.methods[0], Told(epochs.append, lambda step: None, ends.append)) for spec in each]
        before = spent.data + spent.teacher
        with timed(Member, "prepare", on_data), timed(Teacher, "look", on_teacher), given(waits):
            run_group(seats, data)
        spent.data += sum(waits)
        for end in ends:
            assert isinstance(end, TrialResult), end
            digests.append(end.checkpoint_sha256)
        total = sum(images / epoch.metrics["images_per_second"] for epoch in epochs)
        spent.total += total
        spent.students.append(total - (spent.data + spent.teacher - before))

    for each in [specs] if together else [[spec] for spec in specs]:
        run(each)
    return spent, digests


@contextmanager
def given(waits: list[float]) -> Iterator[None]:
    """Inside, what members are given of their waits for images is noted."""
    from workers.training.pace import Pace

    method = Pace.given

    def noted(self: Pace, images: int, waited: float) -> None:
        waits.append(waited)
        method(self, images, waited)

    Pace.given = noted  # type: ignore[method-assign]
    try:
        yield
    finally:
        Pace.given = method  # type: ignore[method-assign]


def trainings(members: int, steps: int, rounds: int, data: Path) -> None:
    """GFL R18 <- R34 at nano on the digits."""
    prepare("digits", data)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        network = {"detector": "gfl", "backbone": "resnet34", "width": 16}
        schedule = {"recipe": "nano", "epochs": 1, "batch_size": 8, "max_iterations": 4}
        of_teacher = {"dataset": "digits", "scale": "nano", "network": network, "schedule": schedule, "seed": 0}
        result = run_trial(TrialSpec.model_validate(of_teacher), folder / "teacher", data, lambda epoch: None)
        teacher = {"network": network, "checkpoint": str(result.checkpoint), "sha256": result.checkpoint_sha256}
        specs = [trial(method, teacher, steps) for method in METHODS[:members]]
        trained(specs[:1], folder / "warm", data, together=False)
        found = []
        for number in range(rounds):
            alone, its_digests = trained(specs, folder / f"alone-{number}", data, together=False)
            group, digests = trained(specs, folder / f"group-{number}", data, together=True)
            assert sorted(digests) == sorted(its_digests), "a member of the group is not what it is alone"
            at_best = (alone.data + alone.teacher) / members + sum(alone.students)
            found.append((group.total / alone.total, group.total / at_best, alone, group))
            print(f"  round {number + 1}: {found[-1][0]:.3f} of the separate trials, {found[-1][1]:.3f} of the best", flush=True)
        told("GFL resnet18 <- resnet34 (nano), 8 x 128x128", members, [each[:2] for each in found])
        alone = found[len(found) // 2][2]
        count = members * steps
        print(f"  alone, ms a step: data {1e3 * alone.data / count:.1f}, teacher {1e3 * alone.teacher / count:.1f}, ", end="")
        print(f"student {1e3 * sum(alone.students) / count:.1f}; equal digests, alone and together, in every round")


def steps_of(setting: Setting, members: int, device: str, rounds: int) -> None:
    """One random batch, step by step."""
    precision = (lambda: torch.autocast("cuda", torch.bfloat16)) if device == "cuda" else nullcontext
    data = batch(setting, device)

    families = DETECTORS[setting.student.detector], DETECTORS[setting.teacher.detector]
    fitting = [name for name in METHODS if methods()[name].misfit(*families, methods()[name].options()) is None][:members]
    alone = [distilled(setting, MethodUse(id=method), device) for method in fitting]
    shared = taught_by(setting, device)
    together = [distilled(setting, MethodUse(id=method), device, shared) for method in fitting]
    alone_steps, group_steps = ([training_step(model, data, precision) for model in models] for models in (alone, together))

    def group() -> None:
        for step in group_steps:
            step()
        shared.forget()

    def teach(model: DistilledDetector) -> None:
        with precision():
            model.taught_by.look(data["inputs"], model.exact_head)

    for _ in range(WARM_UP):
        for step in (*alone_steps, group):
            step()
    found = []
    for _ in range(rounds):
        each = [seconds(step, device) for step in alone_steps]
        teacher = [seconds(lambda model=model: teach(model), device) for model in alone]
        whole = seconds(group, device)
        found.append((whole / sum(each), whole / (sum(each) - sum(teacher) + max(teacher))))
    told(setting.title, len(fitting), found)


def told(title: str, members: int, found: list[tuple[float, float]]) -> None:
    print(f"\n{title}, K = {members}, {len(found)} rounds")
    for what, place in (("the separate trials", 0), ("one stream, one teacher forward and K student steps", 1)):
        ratios = [each[place] for each in found]
        print(f"  {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}) of {what}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--members", type=int, default=6)
    parser.add_argument("--steps", type=int, default=30, help="of each training")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", type=Path, default=Path(tempfile.gettempdir()) / "retort-benchmark-data")
    given = parser.parse_args()
    get_ready(given.device)
    try:
        if given.device == "cpu":
            trainings(given.members, given.steps, given.rounds, given.data)
        for setting in GPU[:2] if given.device == "cuda" else CPU[:2]:
            steps_of(setting, given.members, given.device, given.rounds)
    except TrialFailure as failed:
        sys.exit(str(failed))


if __name__ == "__main__":
    main()
