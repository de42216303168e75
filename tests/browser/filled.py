"""A database as work leaves it: studies that ran, run, wait and failed, put there by the moves of their drivers.

`python -m tests.browser.filled FOLDER` makes one to look at; with `--large` one of 20,000 trials.
"""

import io
import json
import math
import random as chance
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from orchestrator.machine import TrialState
from orchestrator.records.leases import Known
from orchestrator.records.schema import Event, Place, Point, Study, Trial
from orchestrator.records.store import Store
from orchestrator.schedules.store import Schedules
from studies.expand import expand
from studies.measurement import MeasurementSpec
from studies.parse import parse_study
from studies.spec import StudySpec
from studies.submission import read_submission
from studies.trial import TeacherRef, TrialSpec
from tests.orchestrator.conftest import Driven as Moves
from tests.orchestrator.conftest import graph_of
from tests.orchestrator.searching import formulas

MARKUP = '<img src=x onerror="alert(1)"> & <b>bold</b> {{ 7 * 7 }}'
EPOCHS = 6
TABLE = "ld2022/table-4"


@dataclass
class Clock:
    """Seconds since 1970, moved by hand."""

    seconds: float

    def __call__(self) -> float:
        return self.seconds


@dataclass
class Driven:
    """A study with the moves of its driver. printed: what its table's source prints, by the trial's name."""

    store: Store
    clock: Clock
    id: int
    random: chance.Random
    folder: Path
    attempt: int = 0
    planned: dict[str, Any] = field(default_factory=dict)
    printed: dict[str, dict[str, float]] = field(default_factory=dict)
    fences: dict[str, int] = field(default_factory=dict)  # of the leases it holds

    def __post_init__(self) -> None:
        self.spec = parse_study(self.store.study(self.id).spec)
        self.planned = {trial.id: trial for trial in expand(StudySpec.model_validate(self.store.study(self.id).spec)).trials}
        rows = self.store.presentation(self.id).rows
        self.printed = {name: {m: each.value for m, each in row.published.items()} for row in rows for name in row.trials}

    def start(self) -> None:
        attempt = self.store.new_attempt(self.id)
        assert attempt is not None
        self.attempt = attempt.number
        self.store.start_attempt(self.id, self.attempt)

    def begin(self, name: str) -> None:
        planned = self.planned[name]
        teacher = TeacherRef(network=self.planned[planned.teacher].network, checkpoint="/t", sha256="0" * 64) if planned.teacher else None
        spec = planned.resolve(self.spec, teacher)
        key = f"{spec.key('digest', 'code')[:48]}{self.id:016d}"
        self.claim(name, spec, key)

    def claim(self, name: str, spec: TrialSpec | MeasurementSpec, key: str) -> None:
        """The devices and the lease of a trial, and its start."""
        trial = self.store.trial(self.id, name)
        assert trial
        self.store.carry_out({trial.id: ["10.0.0.1"]}, [])
        claimed = self.store.claim(self.id, self.attempt, name, Known(spec, key, key, "digest"), {"git_sha": "0123abc"}, reuse=False)
        assert claimed.fence is not None
        self.fences[name] = claimed.fence
        self.store.start_trial(self.id, self.attempt, name, claimed.fence)

    def epoch(self, name: str, epoch: int, ap: float, epochs: int = EPOCHS) -> None:
        self.clock.seconds += 20
        metrics = {"AP": ap, "AP50": ap * 1.4, "AP75": ap * 1.05, "loss": 2.0 / epoch, "loss_cls": 1.1 / epoch, "loss_bbox": 0.9 / epoch}
        self.store.record_epoch(
            self.id, self.attempt, name, epoch, epochs, metrics | {"lr": 0.01, "epoch_seconds": 20.0}, self.fences[name]
        )

    def results(self, name: str, lower: float = 0.0) -> dict[str, float]:
        """What a trial comes to: the printed numbers where there are any; else teachers are better, and each method by its own."""
        printed, planned = self.printed[name], self.planned[name]
        near = self.random.gauss(0, 0.25) - lower
        if printed:
            return {metric: value + near - (2 if metric == "AP90" else 0) for metric, value in printed.items()}
        base = {"teacher": 44.0, "baseline": 36.0, "distilled": 36.8 + sum(map(ord, planned.row)) % 7 / 2}[planned.role] + near
        return {"AP": base, "AP50": base * 1.4, "AP75": base * 1.05}

    def finish(self, name: str, metrics: dict[str, float]) -> None:
        folder = self.folder / f"{self.id}-{name.replace('/', '-')}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.pth").write_bytes(b"weights")
        self.store.finish_trial(
            self.id,
            self.attempt,
            name,
            metrics=metrics,
            checkpoint=str(folder / "model.pth"),
            checkpoint_sha256="c0ffee" * 10 + "0123",
            best_checkpoint=str(folder / "model.pth"),
            seconds=20.0 * EPOCHS,
            environment={"torch": "2.9.1", "device": "NVIDIA H200"},
            fence=self.fences[name],
        )

    def train(self, name: str, epochs: int = EPOCHS, lower: float = 0.0) -> None:
        metrics = self.results(name, lower)
        self.begin(name)
        for epoch in range(1, epochs + 1):
            self.epoch(name, epoch, metrics["AP"] * (1 - math.exp(-epoch / 2)) + self.random.gauss(0, 0.2), epochs)
        self.finish(name, metrics)

    def fail(self, name: str, reason: str) -> None:
        self.begin(name)
        self.epoch(name, 1, 12.0)
        self.store.fail_trial(self.id, self.attempt, name, "nan", reason, self.fences[name])

    def look(self, name: str) -> None:
        """A measurement of `detections`: an image with one object that is found, and for students a false box beside it."""
        trial = next(each for each in self.store.trials(self.id) if each.name == name)
        assert trial.measurement
        network = self.planned[trial.measurement["detector"]].network
        made = MeasurementSpec(
            kind="detections",
            dataset="digits",
            scale="nano",
            detector=TeacherRef(network=network, checkpoint="/d", sha256="0" * 64),
            options=trial.measurement["options"],
        )
        key = f"{self.id}-{name.replace('/', '-')}"
        self.claim(name, made, key)
        folder = self.folder / key
        folder.mkdir(parents=True)
        (folder / "image-3.png").write_bytes(scene())
        found = [{"box": [31, 29, 72, 71], "label": 7, "score": 0.91}]
        if trial.teacher is None and "teacher" not in trial.measurement["detector"]:
            found.append({"box": [80, 10, 110, 44], "label": 1, "score": 0.44})
        image = {"position": 3, "file": "image-3.png", "width": 128, "height": 96, "detections": found}
        content = {"classes": list("0123456789"), "images": [image | {"objects": [{"box": [30, 30, 70, 70], "label": 7}]}]}
        (folder / "document.json").write_text(json.dumps(content))
        self.store.finish_trial(
            self.id,
            self.attempt,
            name,
            metrics={"boxes": float(len(found))},
            checkpoint=str(folder / "document.json"),
            checkpoint_sha256="d0c" * 21,
            best_checkpoint=None,
            seconds=1.0,
            environment={},
            fence=self.fences[name],
        )

    def conclude(self) -> None:
        self.store.conclude(self.id, self.attempt)


@dataclass
class Filled:
    """A store with its clock, and how studies come into it."""

    store: Store
    clock: Clock
    folder: Path
    random: chance.Random = field(default_factory=lambda: chance.Random(0))
    large: int = 0  # id of the study of 10,000 trials, once there is one

    def submit(self, data: dict[str, Any]) -> Driven:
        self.clock.seconds += 60
        study, _ = self.store.create_study(read_submission(data))
        return Driven(self.store, self.clock, study.id, self.random, self.folder)

    def turn(self, study: int) -> None:
        """A trial of a study comes to another end than it had."""
        with Session(self.store.engine) as session, session.begin():
            trial = session.scalars(select(Trial).where(Trial.study_id == study, Trial.finished.is_not(None)).limit(1)).one()
            trial.metrics = {name: value + 1 for name, value in (trial.metrics or {}).items()}
            trial.finished = (trial.finished or 0) + 1
            session.add(Event(study_id=study, kind="trial", data={"trial": trial.name, "state": trial.state}, time=self.store.now()))

    def finished(self, data: dict[str, Any], epochs: int = EPOCHS, failing: str = "") -> Driven:
        driven = self.submit(data)
        driven.start()
        for name in driven.planned:
            if name == failing:
                driven.fail(name, "the loss became NaN in epoch 2: lower schedule.lr, which is 0.01")
            else:
                driven.train(name, epochs)
        for trial in self.store.trials(driven.id):
            if trial.measurement:
                driven.look(trial.name)
        driven.conclude()
        return driven

    def searched(self, spec: StudySpec) -> None:
        """A search that tries its combinations and confirms the best, on trainings that are formulas."""
        driven = self.submit(spec.model_dump(mode="json"))
        driven.start()
        driven.folder.mkdir(parents=True, exist_ok=True)
        moves = Moves(self.store, driven.id, driven.folder, driven.attempt)
        graph = graph_of(moves, spec)
        while not graph.ended:
            self.clock.seconds += 60
            self.store.carry_out({trial.id: ["10.0.0.1"] for trial in self.store.ready_trials(driven.id, limit=1)}, [])
            formulas.train(graph, moves)
        driven.conclude()

    def schedule(self, data: dict[str, Any]) -> None:
        """An hourly schedule with two runs; in the second a method is three points worse."""
        schedules = Schedules(self.store)
        made = schedules.add(data, "0 * * * *", source="my-study.yaml")
        for lower in (0.0, 3.0):
            self.clock.seconds += 3600
            schedules.act(made.id)
            study = schedules.runs(made.id, 1)[0].run.study_id
            assert study is not None
            driven = Driven(self.store, self.clock, study, self.random, self.folder)
            driven.start()
            for name, planned in driven.planned.items():
                driven.train(name, 2, lower if planned.row == "fitnet" else 0.0)
            driven.conclude()
            for schedule_id, due in schedules.unsettled():
                schedules.settle(schedule_id, due)


def spec(name: str, seeds: int = 3, **changes: Any) -> dict[str, Any]:
    """A study of four arms on the digits."""
    return {
        "name": name,
        "dataset": "digits",
        "seeds": list(range(seeds)),
        "teacher": {"detector": "gfl", "backbone": "resnet34"},
        "student": {"detector": "gfl", "backbone": "resnet18"},
        "arms": [
            {"id": "student", "title": "student alone"},
            {"id": "fitnet", "distiller": "fitnet"},
            {"id": "ld", "distiller": "ld"},
            {"id": "pdf", "distiller": "pdf_distil", "title": MARKUP},
        ],
    } | changes


def fill(folder: Path, url: str | None = None, now: float | None = None) -> Filled:
    """Eight studies: a paper's table that finished, one with a failed trial and markup in its titles, one half-way, one waiting, one
    cancelled, two of a schedule, and one with a search. They were submitted on the day before `now`."""
    clock = Clock((now or time.time()) - 86_400)
    made = Filled(Store(url or f"sqlite:///{folder / 'retort.db'}", clock), clock, folder / "trials")
    made.finished({"table": TABLE, "scale": "paper", "seeds": [0, 1]}, epochs=2)
    pictures = [{"kind": "detections", "options": {"images": [3]}}]
    made.finished(spec(f"Does anything help? {MARKUP}", measure=pictures), failing="ld/seed-2")
    clock.seconds = (now or time.time()) - 1500
    half = made.submit(spec("LD and FitNet on the digits, half-way"))
    half.start()
    names = list(half.planned)
    for name in names[:4]:
        half.train(name)
    half.begin(names[4])
    half.epoch(names[4], 1, 9.0)
    half.epoch(names[4], 2, 17.5)
    waits = made.submit(spec("Waits for its turn", seeds=1))
    made.store.set_places([Place(study_id=waits.id, number=1, reason="needs 4 GPUs on a node; the largest has 2", expected=None)])
    stopped = made.submit(spec("Was not wanted any more", seeds=1))
    made.store.request_cancel(stopped.id)
    clock.seconds = (now or time.time()) - 4 * 3600
    made.schedule(spec("Every hour", arms=[{"id": "student"}, {"id": "fitnet", "distiller": "fitnet"}]))
    made.searched(formulas.a_search())
    clock.seconds = now or time.time()
    return made


def scene() -> bytes:
    """A PNG of 128 x 96 pixels."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (128, 96), (176, 182, 188))
    ImageDraw.Draw(image).rectangle((30, 30, 70, 70), fill=(240, 240, 235), outline=(40, 44, 50))
    ImageDraw.Draw(image).text((46, 44), "7", fill=(20, 24, 28))
    kept = io.BytesIO()
    image.save(kept, "PNG")
    return kept.getvalue()


def fill_large(made: Filled) -> None:
    """A study of 10,000 trainings, and forty of 250. They are finished all at once: the moves of a driver would take hours."""
    arms = [
        {"id": f"arm-{number}", "distiller": "fitnet", "weight": 1 + number / 10, "title": f"FitNet x {number}"} for number in range(199)
    ]
    for count, seeds in ((200, 50), *[(25, 10)] * 40):
        driven = made.submit(spec(f"Weights of FitNet, {count * seeds:,} trials", seeds, arms=[{"id": "student"}, *arms[: count - 1]]))
        driven.start()
        _finish_at_once(made, driven)
        made.large = made.large or driven.id


def _finish_at_once(made: Filled, driven: Driven) -> None:
    changed, points = [], []
    now = made.store.now()
    for trial in made.store.trials(driven.id):
        metrics = driven.results(trial.name)
        environment = {"torch": "2.9.1", "device": "NVIDIA H200", "git_sha": "0123abc"}
        times = {"started": now + trial.position * 1000, "finished": now + trial.position * 1000 + 4000}
        done = {"metrics": metrics, "environment": environment, "epoch": 3, "epochs": 3, "seconds": 60.0, "state": TrialState.FINISHED}
        changed.append({"id": trial.id, **done, **times})
        points += [
            {"trial_id": trial.id, "epoch": e, "name": m, "value": v * e / 3, "time": now} for m, v in metrics.items() for e in (1, 2, 3)
        ]
    with Session(made.store.engine) as session, session.begin():
        session.execute(update(Trial), changed)
        session.execute(insert(Point), points)
        session.execute(update(Study).where(Study.id == driven.id).values(counts={TrialState.FINISHED.value: len(changed)}))
    driven.conclude()


def main() -> None:
    """Fills a folder."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    made = fill(folder)
    if "--large" in sys.argv:
        fill_large(made)
    made.store.close()


if __name__ == "__main__":
    main()
