"""The page of one trial: what it was, how it went epoch by epoch, why it failed, and what it finds on images beside its teacher."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse

from api.dependencies import SettingsOf
from api.pages.dependencies import MLflowOf, ReadingOf
from api.pages.reading import Reading
from api.pages.web import HEADERS, page, router
from api.problems import not_found
from api.studies.endpoints import StudyId
from orchestrator.figures.boxes import is_right
from orchestrator.figures.documents import Document, read
from orchestrator.records.schema import Trial
from orchestrator.reporting.links import run_page
from orchestrator.storage.files import TrialFiles

TAIL = 8_000  # bytes of a log
MOST_OF_RESULT = 1_000_000  # bytes of the file that lists a measurement's files
LOGS = {"error.txt": "Error", "output.log": "Output"}  # files of a trial's folder and what they are
IMAGES = 4
BOXES = 60  # of an image
EPOCHS = 60  # that are listed; the chart has all
routes: APIRouter = router()


@dataclass(frozen=True)
class Box:
    """A box on an image, xyxy in its pixels. kind: object, right or false."""

    at: tuple[float, float, float, float]
    name: str
    kind: str


@dataclass(frozen=True)
class Panel:
    """An image with the boxes of one network, or the objects."""

    title: str
    boxes: list[Box]

    @property
    def told(self) -> str:
        """ "5 right, 2 false"."""
        right = sum(box.kind == "right" for box in self.boxes)
        return f"{right} right, {len(self.boxes) - right} false"


@dataclass(frozen=True)
class Picture:
    """An image of the validation split with its panels. file, measurement: where its pixels are."""

    position: int
    width: int
    height: int
    measurement: str
    file: str
    panels: list[Panel]


@routes.get("/studies/{study_id}/trials/{name:path}")
def trial(request: Request, study_id: StudyId, name: str, reading: ReadingOf, settings: SettingsOf, mlflow: MLflowOf) -> Response:
    """All of it on one page."""
    study = reading.study(study_id)
    found, arm = reading.trial(study_id, name)
    points = reading.points(found)
    epochs = sorted({epoch for values in points.values() for epoch in values})
    source = reading.trial_by_id(found.source_id) if found.source_id else None
    return page(
        request,
        "trial.html",
        study=study,
        trial=found,
        arm=arm,
        metrics=sorted(points, key=order_of),
        points=points,
        epochs=epochs[-EPOCHS:],
        earlier=max(0, len(epochs) - EPOCHS),
        source=source,
        logs=logs_of(reading.store.files, found),
        files=digests_of(reading.store.files, found),
        pictures=pictures_of(reading, found),
        mlflow=run_page(mlflow, study.experiment, found.run),
        last_event=reading.last_event(study_id),
    )


@routes.get("/studies/{study_id}/points")
def points(study_id: StudyId, reading: ReadingOf, trial: Annotated[str, Query(max_length=300)]) -> JSONResponse:
    """All metrics of a trial by epoch, for its chart."""
    found, _ = reading.trial(study_id, trial)
    known = reading.points(found)
    epochs = sorted({epoch for values in known.values() for epoch in values})
    rows = [{"id": name, "title": name, "mean": [known[name].get(epoch) for epoch in epochs]} for name in sorted(known, key=order_of)]
    return JSONResponse({"epochs": epochs, "rows": rows}, headers={"Cache-Control": "no-store"})


@routes.get("/studies/{study_id}/picture")
def picture(
    study_id: StudyId,
    reading: ReadingOf,
    measurement: Annotated[str, Query(max_length=300)],
    file: Annotated[str, Query(max_length=100)],
) -> FileResponse:
    """An image that a measurement keeps: only those that its document names."""
    document = read(reading.trial(study_id, measurement)[0], reading.store.files)
    names = {image["file"] for image in document.content.get("images", ())} if document else set()
    if document is None or file not in names:
        raise not_found("picture", file)
    try:
        path = document.path(file)
    except (ValueError, FileNotFoundError):
        raise not_found("picture", file) from None
    return FileResponse(path, media_type="image/png", headers=HEADERS | {"Cache-Control": "private, max-age=86400"})


def order_of(metric: str) -> tuple[int, str]:
    """Accuracy first, then losses, then the rest."""
    return (0 if metric.startswith("AP") else 1 if metric.startswith("loss") else 2, metric)


def logs_of(files: TrialFiles, trial: Trial) -> dict[str, str]:
    """The ends of what the trial has written, by what it is."""
    ends = {title: _end_of(files, trial.folder, name) for name, title in LOGS.items()} if trial.folder else {}
    return {title: end for title, end in ends.items() if end}


def _end_of(files: TrialFiles, folder: str, name: str) -> str:
    """Its last TAIL bytes as text, from a whole line on."""
    size = files.size(folder, name)
    text = files.read(folder, name, max(0, size - TAIL), TAIL).decode(errors="replace")
    return text if size <= TAIL else text.partition("\n")[2] or text


def digests_of(files: TrialFiles, trial: Trial) -> dict[str, str]:
    """sha256 of its files by name, as they were recorded."""
    found = {Path(trial.checkpoint).name: trial.checkpoint_sha256} if trial.checkpoint and trial.checkpoint_sha256 else {}
    if trial.folder:
        try:
            listed = json.loads(files.read(trial.folder, "result.json", 0, MOST_OF_RESULT) or b"{}").get("files", {})
        except ValueError:
            listed = {}
        found |= {str(name): str(digest) for name, digest in listed.items()} if isinstance(listed, dict) else {}
    return found


def pictures_of(reading: Reading, trial: Trial) -> list[Picture]:
    """Images with the boxes of the trial and of its teacher, where `detections` was measured of them."""
    wanted = {trial.teacher: "teacher", trial.name: "student" if trial.teacher else "detector"}
    measured = [
        (each, document) for each in reading.measurements_of(trial.study_id, "detections") if (document := read(each, reading.store.files))
    ]
    usual = [(each, document) for each, document in measured if document.options.get("threshold") is None and document.detector in wanted]
    own = next(((each.name, document) for each, document in usual if document.detector == trial.name), None)
    if own is None:
        return []
    panels = sorted(((wanted[document.detector], document) for _, document in usual), key=lambda each: each[0] != "teacher")
    return [_picture(image, *own, panels) for image in own[1].content["images"][:IMAGES]]


def _picture(image: dict[str, Any], measurement: str, own: Document, documents: Sequence[tuple[str, Document]]) -> Picture:
    classes = own.content["classes"]
    panels = [Panel("objects", [Box(_corners(each), classes[each["label"]], "object") for each in image["objects"]])]
    for title, document in documents:
        same = next((each for each in document.content["images"] if each["position"] == image["position"]), None)
        if same is not None:
            panels.append(Panel(title, [_found(each, image["objects"], classes) for each in same["detections"][:BOXES]]))
    return Picture(image["position"], image["width"], image["height"], measurement, image["file"], panels)


def _found(each: dict[str, Any], objects: Sequence[dict[str, Any]], classes: Sequence[str]) -> Box:
    kind = "right" if is_right(each, objects) else "false"
    return Box(_corners(each), f"{classes[each['label']]} {each['score']:.2f}", kind)


def _corners(each: dict[str, Any]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (round(float(value), 1) for value in each["box"])
    return x0, y0, x1, y1
