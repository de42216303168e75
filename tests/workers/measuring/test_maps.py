"""Maps: spatial attention as FBKD reads it, and the weights that each distiller's own loss gives to cells."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from studies.trial import TrialFailure
from tests.workers.measuring.conftest import METHODS, Measure, uses
from tests.workers.measuring.test_d_pred import opened

Reference = dict[str, Any]


def test_attention_is_a_softmax_of_mean_absolute_features(measure: Measure, student: Reference, teacher: Reference, data: Path) -> None:
    result = measure("attention", detector=student, teacher=teacher, options={"images": [1], "temperatures": [0.1, 1]})
    maps = np.load(result.document.with_name("attention.npz"), allow_pickle=False)
    assert len(maps.files) == 2 * 5 * 2  # roles, levels, temperatures
    for name in maps.files:
        assert maps[name].mean() == pytest.approx(1, rel=1e-4)
    from PIL import Image

    pixels = np.array(Image.open(result.document.with_name("image-1.png")).convert("RGB"))[:, :, ::-1].copy()
    network = opened(teacher)
    batch = network.data_preprocessor({"inputs": [torch.tensor(pixels).permute(2, 0, 1)], "data_samples": None}, False)
    with torch.no_grad():
        features = network.extract_feat(batch["inputs"])[2][0]  # (C, H, W)
    expected = features.abs().mean(0).flatten().div(0.1).softmax(0) * features[0].numel()
    np.testing.assert_allclose(maps["teacher/1/2/0.1"].ravel(), expected.numpy(), rtol=1e-4)
    for role in ("student", "teacher"):
        assert 0 < result.metrics[f"entropy_{role}_0.1"] < result.metrics[f"entropy_{role}_1"] <= 1


def test_attention_of_a_detector_alone_needs_no_teacher(measure: Measure, student: Reference) -> None:
    result = measure("attention", detector=student, options={"images": [0, 3]})
    assert json.loads(result.document.read_text())["roles"] == ["student"]
    assert sorted(name for name in result.files if name.endswith(".png")) == ["image-0.png", "image-3.png"]


def test_each_distiller_s_weights_are_those_of_its_formula(measure: Measure, taught: Reference, teacher: Reference) -> None:
    result = measure("sampling", detector=taught, teacher=teacher, distillers=[use.model_dump() for use in uses()], options={"images": [0]})
    document = json.loads(result.document.read_text())
    assert document["methods"] == list(METHODS)
    maps = np.load(result.document.with_name("sampling.npz"), allow_pickle=False)
    whole = {name: np.concatenate([maps[f"{name}/0/{level}"].ravel() for level in range(5)]) for name in METHODS}
    for weights in whole.values():
        assert weights.sum() == pytest.approx(1, rel=1e-5)
        assert weights.min() > -1e-9

    from PIL import Image

    pixels = np.array(Image.open(result.document.with_name("image-0.png")).convert("RGB"))[:, :, ::-1].copy()
    probabilities, features = [], []
    for reference in (teacher, taught):
        network = opened(reference)
        batch = network.data_preprocessor({"inputs": [torch.tensor(pixels).permute(2, 0, 1)], "data_samples": None}, False)
        with torch.no_grad():
            levels = network.extract_feat(batch["inputs"])
            probabilities.append([p.sigmoid()[0] for p in network.bbox_head(levels)[0]])  # (K, H, W)
            features.append(levels)
    different = np.concatenate([(t - s).square().sum(0).sqrt().flatten().numpy() for t, s in zip(*probabilities, strict=True)])
    np.testing.assert_allclose(whole["pdf_distil"], different / different.sum(), rtol=1e-3, atol=1e-7)

    state = torch.load(Path(taught["checkpoint"]).parent / "last.pt", weights_only=True)["model"]
    certainty = []
    for level, ours in enumerate(features[1]):
        branch = {part: state[f"distillers.2.branches.{level}.{part}"] for part in ("weight", "bias")}
        variance = torch.nn.functional.conv2d(ours, **branch, padding=1).relu()
        certainty.append((1 / (variance.exp() + 1e-6)).sum(1).flatten())
    expected = torch.cat(certainty).numpy()
    np.testing.assert_allclose(whole["pad"], expected / expected.sum(), rtol=1e-4)

    values = np.unique(whole["defeat"].round(7))  # foreground 2, background 8, shares of one anchor in between: none
    assert len(values) == 2
    assert values[1] == pytest.approx(4 * values[0], rel=1e-3)
    sampled = [np.unique(maps[f"fgfi/0/{level}"].round(6)) for level in range(5)]
    assert max(len(values) for values in sampled) == 2  # in a level all cells near an object count alike, the others nothing
    assert min(values[0] for values in sampled) == 0


def test_methods_on_objects_sample_objects(measure: Measure, taught: Reference, teacher: Reference) -> None:
    metrics = measure("sampling", detector=taught, teacher=teacher, distillers=[use.model_dump() for use in uses()]).metrics
    assert set(metrics) == {f"foreground_{name}" for name in METHODS}
    assert metrics["foreground_fgfi"] > 1.2 * metrics["foreground_pad"] > metrics["foreground_defeat"]


def test_a_student_of_another_method_has_no_sampling_weights(measure: Measure, student: Reference, teacher: Reference) -> None:
    with pytest.raises(TrialFailure, match="was taught by fitnet"):
        measure("sampling", detector=student, teacher=teacher, distillers=[{"id": "fitnet", "options": {}}])


def test_pad_needs_what_trained_with_its_student(measure: Measure, student: Reference, teacher: Reference) -> None:
    with pytest.raises(TrialFailure, match="belongs to another training"):
        measure("sampling", detector=student, teacher=teacher, distillers=[uses()[2].model_dump()])
