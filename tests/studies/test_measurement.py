"""A measurement's identity: checkpoints by content, options spelled out, and code that no training shares."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from studies import code
from studies.code import code_version
from studies.measurement import RUNNER, MeasurementSpec, measurement_code
from studies.measures import KINDS

NETWORK = {"detector": "gfl", "backbone": "resnet18", "width": 8}
STUDENT = {"network": NETWORK, "checkpoint": "/a/model.pth", "sha256": "aa"}
TEACHER = {"network": NETWORK | {"backbone": "resnet34"}, "checkpoint": "/t/model.pth", "sha256": "bb"}


def spec(kind: str = "attention", **fields: Any) -> MeasurementSpec:
    return MeasurementSpec.model_validate({"kind": kind, "dataset": "digits", "scale": "nano", "detector": STUDENT} | fields)


def key(made: MeasurementSpec, digest: str = "d", version: str = "v") -> str:
    return made.key(digest, version)


def test_equal_content_has_one_key_wherever_the_checkpoint_lies() -> None:
    assert key(spec()) == key(spec(detector=STUDENT | {"checkpoint": "/b/model.pth"}))
    assert key(spec()) == key(spec(options={"images": [0, 1, 2, 3]}))  # the default, spelled out


def test_what_decides_the_numbers_is_in_the_key() -> None:
    others = [
        spec(options={"images": [0]}),
        spec(options={"temperatures": [0.2]}),
        spec(detector=STUDENT | {"sha256": "cc"}),
        spec(teacher=TEACHER),
        spec(teacher=TEACHER | {"sha256": "dd"}),
        spec(limit=10),
        spec(scale="smoke"),
        spec("detections"),
    ]
    keys = {key(each) for each in [spec(), *others]} | {key(spec(), "e"), key(spec(), "d", "w")}
    assert len(keys) == len(others) + 3


@pytest.mark.parametrize(
    ("kind", "fields", "sentence"),
    [
        ("d_pred", {}, "no teacher is given"),
        ("errors", {"teacher": TEACHER}, "leave the teacher out"),
        ("sampling", {"teacher": TEACHER}, "distillers"),
        ("costs", {"distillers": [{"id": "ld"}]}, "distillers"),
    ],
)
def test_what_does_not_fit_the_kind_is_refused(kind: str, fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        spec(kind, **fields)


def test_options_are_refused_by_name() -> None:
    for options, named in (({"images": [1, 1]}, "options.images"), ({"image": [1]}, "options.image"), ({"images": []}, "options.images")):
        with pytest.raises(ValueError, match=named):
            spec(options=options).resolved()


def test_every_kind_has_code_that_is_found() -> None:
    versions = {measurement_code(kind.id) for kind in KINDS.values()}
    assert len(versions) == len(KINDS)


def test_an_edit_of_a_measurement_changes_no_training_and_no_other_measurement(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = code._source

    def edited(module: str) -> Path | None:
        """The source of a module, with another ending where it is the one that was edited."""
        path = real(module)
        if path is None or module not in changed:
            return path
        copy = tmp_path / f"{module}.py"
        copy.write_bytes(path.read_bytes() + b"\n# edited\n")
        return copy

    changed = set[str]()
    monkeypatch.setattr(code, "_source", edited)
    training = code_version(["pdf_distil"])
    before = {kind: measurement_code(kind) for kind in KINDS}  # type: ignore[arg-type]
    for kind in KINDS.values():
        changed = {kind.module}
        assert code_version(["pdf_distil"]) == training
        assert {name for name, version in before.items() if measurement_code(name) != version} == {kind.id}  # type: ignore[arg-type]
    changed = {RUNNER}
    assert code_version(["pdf_distil"]) == training
    assert all(measurement_code(name) != version for name, version in before.items())  # type: ignore[arg-type]
    for module in ("workers.training.trial", "workers.training.loop", "workers.training.optimisation"):
        changed = {module}
        assert code_version(["pdf_distil"]) != training
        assert all(measurement_code(name) == version for name, version in before.items())  # type: ignore[arg-type]
