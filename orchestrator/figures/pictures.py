"""Pictures on images, from the documents of measurements: attention, sampling weights, and detections side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from orchestrator.figures import attention, detections, sampling
from orchestrator.figures.documents import Document
from orchestrator.figures.style import number
from orchestrator.reporting.table import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Measured = Callable[[str], Iterable[tuple[Row, list[Document]]]]
MOST_NETWORKS, MOST_IMAGES, MOST_ROWS = 8, 4, 10  # of one picture


def of_measurements(measured: Measured) -> dict[str, Callable[[], Figure]]:
    """The pictures whose measurements are there, by name. measured: rows with their documents of a kind."""
    found: dict[str, Callable[[], Figure]] = {}
    if attended := list(measured("attention")):
        found["attention"] = partial(_attention, attended)
    if sampled := list(measured("sampling")):
        found["sampling"] = partial(_sampling, sampled)
    columns = [(row.title, document) for row, documents in measured("detections") for document in documents]
    usual = [(title, document) for title, document in columns if document.options["threshold"] is None]
    if usual:
        found["detections"] = partial(_detections, usual)
    compared = {title for title, document in columns if document.options["threshold"] is not None}
    if compared:
        found["suppression"] = partial(
            _detections, [(_under(title, document), document) for title, document in columns if title in compared]
        )
    return found


def _under(title: str, document: Document) -> str:
    threshold = document.options["threshold"]
    return f"{title}, NMS {'as usual' if threshold is None else number(threshold)}"


def _attention(measured: Sequence[tuple[Row, list[Document]]]) -> Figure:
    """The finest level of each network on each image; a teacher once."""
    rows: dict[tuple[int, str], attention.Attended] = {}
    for row, documents in measured:
        document = documents[0]
        maps = document.maps("attention.npz")
        for image in document.content["images"][:MOST_IMAGES]:
            for role in reversed(document.content["roles"]):
                title = row.title if role == "student" else "teacher"
                at = {t: maps[f"{role}/{image['position']}/0/{t:g}"] for t in document.content["temperatures"]}
                if (image["position"], title) not in rows:
                    rows[image["position"], title] = attention.Attended(title, document.image(image["file"]), at)
    ordered = sorted(rows, key=lambda key: key[0])  # image by image
    return attention.draw([rows[key] for key in ordered][:MOST_ROWS])


def _sampling(measured: Sequence[tuple[Row, list[Document]]]) -> Figure:
    by_image: dict[int, list[sampling.Sampled]] = {}
    for row, documents in measured[:MOST_NETWORKS]:
        document = documents[0]
        maps = document.maps("sampling.npz")
        for image in document.content["images"][:MOST_IMAGES]:
            for method in document.content["methods"]:
                levels = [maps[f"{method}/{image['position']}/{level}"] for level in range(len(document.content["strides"]))]
                title = row.title if len(document.content["methods"]) == 1 else f"{row.title}: {method}"
                boxes = [each["box"] for each in image["objects"]]
                panel = sampling.Sampled(title, document.image(image["file"]), boxes, levels, (image["covered"][0], image["covered"][1]))
                by_image.setdefault(image["position"], []).append(panel)
    return sampling.draw([panels for _, panels in sorted(by_image.items())])


def _detections(columns: Sequence[tuple[str, Document]]) -> Figure:
    """The images that all of these networks were shown."""
    columns = columns[:MOST_NETWORKS]
    shown = [{image["position"]: image for image in document.content["images"]} for _, document in columns]
    positions = sorted(set.intersection(*(set(images) for images in shown)))[:MOST_IMAGES]
    first = columns[0][1]
    seen = [
        detections.Seen(
            image=first.image(shown[0][position]["file"]),
            objects=shown[0][position]["objects"],
            found=[(title, images[position]["detections"]) for (title, _), images in zip(columns, shown, strict=True)],
        )
        for position in positions
    ]
    return detections.draw(seen, first.content["classes"])
