"""Which pictures a stored study has, drawn from its table, epochs and the documents of its measurements."""

import json
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest

from orchestrator.figures import error_types
from orchestrator.figures.factors import factors_of
from orchestrator.figures.study import Material, gains_of, pairs_of, pictures_of
from orchestrator.figures.style import rendered
from orchestrator.records.store import Store
from orchestrator.storage.files import SharedFolder
from studies.submission import read_submission
from tests.orchestrator.conftest import ALONE, PUPIL, TEACHER, Driven, a_study

IMAGE = {"position": 1, "id": 7, "file": "image-1.png", "width": 40, "height": 30, "covered": [32, 40]}
CURVES = {name: [0.1 + 0.1 * rank] * 101 for rank, name in enumerate(error_types.LABELS)}
BOX = {"box": [5.0, 5.0, 20.0, 20.0], "label": 0}


def content(kind: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, float]]:
    """(document, maps, metrics) as `workers.measuring` leaves them."""
    images = [IMAGE | {"objects": [BOX | {"crowd": False}]}]
    if kind == "errors":
        return {"curves": {"all": CURVES, "small": CURVES}}, {}, {"err_missed_all": 10.0}
    if kind == "costs":
        return {}, {}, {f"{what}_{part}": 1.0 for what in ("Params", "FLOPs") for part in ("backbone", "neck", "head")}
    if kind == "attention":
        maps = {f"{role}/1/0/{t}": np.ones((4, 5), np.float32) for role in ("student", "teacher") for t in ("0.1", "1")}
        return {"images": images, "roles": ["student", "teacher"], "temperatures": [0.1, 1.0], "levels": 1}, maps, {}
    if kind == "sampling":
        maps = {"fgfi/1/0": np.full((4, 5), 0.04, np.float32), "fgfi/1/1": np.full((2, 2), 0.05, np.float32)}
        return {"images": images, "methods": ["fgfi"], "strides": [8, 16]}, maps, {"foreground_fgfi": 0.5}
    assert kind == "detections"
    found = [image | {"detections": [BOX | {"score": 0.9}]} for image in images]
    return {"classes": ["cat"], "images": found}, {}, {"boxes": 1.0}


def measured(driven: Driven) -> None:
    """All measurements of a study, as their processes would leave them."""
    for trial in driven.store.trials(driven.id):
        if trial.measurement is None:
            continue
        kind = trial.measurement["kind"]
        document, maps, metrics = content(kind)
        folder = driven.folder / trial.name.replace("/", "-")
        folder.mkdir()
        (folder / "document.json").write_text(json.dumps(document))
        if maps:
            np.savez_compressed(folder / f"{kind}.npz", **maps)
        matplotlib.image.imsave(folder / "image-1.png", np.random.default_rng(0).random((30, 40, 3)))
        driven.begin(trial.name)
        result = {"checkpoint": str(folder / "document.json"), "checkpoint_sha256": "d0c", "best_checkpoint": None}
        fence = driven.fences[trial.name]
        driven.store.finish_trial(
            driven.id, driven.attempt, trial.name, fence=fence, metrics=metrics, seconds=1.0, environment={}, **result
        )


KINDS = [{"kind": kind} for kind in ("errors", "costs", "attention", "detections")]
ASKED: dict[str, Any] = {
    "arms": [{"id": "student"}, {"id": "fitnet", "title": "taught $5$", "distiller": "fgfi"}],
    "measure": [*KINDS, {"kind": "sampling"}, {"kind": "detections", "options": {"threshold": 0.95}, "arms": ["fitnet"]}],
}


def test_every_measurement_has_its_picture(store: Store, tmp_path: Path) -> None:
    driven = Driven.start(store, tmp_path, a_study(**ASKED))
    for name, ap in ((TEACHER, 30.0), (ALONE, 20.0), (PUPIL, 22.5)):
        driven.train(name, AP=ap)
    measured(driven)
    material = Material.of(store, driven.id)
    found = pictures_of(material)
    assert list(found) == ["learning-curves", "gains", "errors", "components", "attention", "sampling", "detections", "suppression"]
    assert [(gain.title, gain.gain) for gain in gains_of(material)] == [("taught $5$", 2.5)]
    figures = {name: draw() for name, draw in found.items()}
    for figure in figures.values():
        assert len(rendered(figure, "png")) > 5000
    assert len(figures["errors"].axes) == 3 * 2  # teacher, student, pupil; all and small objects
    assert [axis.get_title() for axis in figures["attention"].axes[:3]] == ["image", "T = 0.1", "T = 1"]
    assert figures["detections"].axes[1].get_title().endswith("1 right, 0 false")
    assert "NMS as usual" in figures["suppression"].axes[1].get_title().replace("\n", " ")
    assert "NMS 0.95" in figures["suppression"].axes[2].get_title().replace("\n", " ")


def test_documents_that_are_gone_cost_only_their_picture(store: Store, tmp_path: Path) -> None:
    driven = Driven.start(store, tmp_path, a_study(**ASKED))
    for name in (TEACHER, ALONE, PUPIL):
        driven.train(name)
    measured(driven)
    for path in tmp_path.glob("attention-*/document.json"):
        path.unlink()
    assert "attention" not in pictures_of(Material.of(store, driven.id))


def test_a_sweep_has_the_arm_s_own_value_among_each_factor_s(store: Store, tmp_path: Path) -> None:
    search = {"space": {"options.temperature": {"sweep": [1, 20]}, "weight": {"sweep": [2.0]}}}
    driven = Driven.start(store, tmp_path, a_study(arms=[{"id": "student"}, {"id": "ld", "distiller": "ld"}], search=search))
    for rank, trial in enumerate(store.trials(driven.id)):
        driven.train(trial.name, AP=20.0 + rank)
    material = Material.of(store, driven.id)
    factors = {factor.title: {point.value: point.mean for point in factor.points} for factor in _factors(material)}
    assert factors == {"temperature": {10.0: 22.0, 1: 23.0, 20: 24.0}, "weight": {1.0: 22.0, 2.0: 25.0}}
    assert "sensitivity" in pictures_of(material)


def _factors(material: Material) -> Any:
    return factors_of(material.rows, "AP", lambda row: material.arm(row).detail)


def test_students_of_several_teachers_are_paired_with_them(store: Store, tmp_path: Path) -> None:
    arms: list[dict[str, Any]] = [{"id": "student"}]
    for backbone in ("resnet34", "resnet50"):
        arms.append({"id": backbone, "distiller": "fitnet", "teacher": {"detector": "gfl", "backbone": backbone}})
    driven = Driven.start(store, tmp_path, a_study(arms=arms))
    for rank, trial in enumerate(store.trials(driven.id)):
        driven.train(trial.name, AP=20.0 + rank)
    pairs, alone = pairs_of(Material.of(store, driven.id))
    at = {trial.name: trial.metrics["AP"] for trial in store.trials(driven.id) if trial.metrics}
    assert [(pair.teacher_ap, pair.student_ap) for pair in pairs] == [
        (at["teacher/gfl-resnet34/seed-0"], at["resnet34/seed-0"]),
        (at["teacher/gfl-resnet50/seed-0"], at["resnet50/seed-0"]),
    ]
    assert alone == {pairs[0].student: at[ALONE]}
    assert pairs[0].student.startswith("GFL ResNet-18")
    assert "teachers" in pictures_of(Material.of(store, driven.id))


@pytest.mark.parametrize("file", ["../secret.npz", "/etc/passwd"])
def test_a_document_reads_no_file_outside_its_folder(tmp_path: Path, file: str) -> None:
    from orchestrator.figures.documents import Document

    with pytest.raises(ValueError, match="is no file of a trial"):
        Document("attention", "a", {}, {}, {}, str(tmp_path / "document.json"), SharedFolder(tmp_path)).maps(file)


def test_rows_of_several_groups_with_one_title_are_told_apart(store: Store) -> None:
    study, _ = store.create_study(read_submission({"table": "pdf-distil2021/table-2", "scale": "smoke"}))
    titles = [row.title for row in Material.of(store, study.id).table.shown]
    assert len(set(titles)) == len(titles) == 28
    assert "ResNet18-FPN-FCOS: w/ Fitnet" in titles
    assert "Teacher ResNet34-PAFPN-FCOS" in titles
