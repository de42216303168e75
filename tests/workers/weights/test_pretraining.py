"""A backbone pretrained at nano has learnt to tell digits apart, is made once, and is where trials start from."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from studies.recipes import RECIPES, Pretraining
from studies.spec import Network
from studies.trial import TrialSpec
from workers.detectors import build
from workers.files import file_sha256
from workers.training.trial import run_trial
from workers.weights import pretraining
from workers.weights.pretraining import backbone_config, crops, load_pretrained, pretrained

SHORT = Pretraining(crops=400, size=32, steps=60, batch=32)
GFL = Network(detector="gfl", backbone="resnet18", width=8)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipe `nano` with a pretraining of seconds."""
    monkeypatch.setitem(RECIPES, "nano", replace(RECIPES["nano"], pretraining=SHORT))


def test_crops_show_one_digit_each_and_repeat() -> None:
    images, labels = crops(SHORT)
    assert images.shape == (400, 32, 32, 3)
    assert np.bincount(labels, minlength=10).min() > 15
    assert np.array_equal(images, crops(SHORT)[0])
    assert not np.array_equal(images[:100], crops(SHORT, "val")[0][:100])


def test_a_backbone_learns_to_tell_digits_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[pretraining.Classifier] = []

    class Kept(pretraining.Classifier):
        def __init__(self, *parts: Any) -> None:
            super().__init__(*parts)
            made.append(self)

    monkeypatch.setattr(pretraining, "Classifier", Kept)
    recipe = Pretraining(crops=2000, size=32, steps=250)
    pretraining.pretrain(backbone_config(GFL), recipe)
    images, labels = (torch.from_numpy(array) for array in crops(replace(recipe, crops=500), "val"))
    with torch.no_grad():
        right = (made[0].eval()(images).argmax(1) == labels).float().mean()
    assert right > 0.4  # a guess has 0.1


def test_it_is_made_once_also_by_two_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []
    real = pretraining.pretrain
    monkeypatch.setattr(pretraining, "pretrain", lambda *given: runs.append(1) or real(*given))
    threads = [threading.Thread(target=pretrained, args=(GFL, SHORT, tmp_path)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(runs) == 1
    assert pretrained(GFL, SHORT, tmp_path).exists()
    assert len(runs) == 1


def test_an_interrupted_one_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pretraining, "pretrain", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pretrained(GFL, SHORT, tmp_path)
    assert not list(tmp_path.rglob("*.pth"))


def test_it_repeats_to_the_last_bit_and_leaves_the_generator_alone(tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    paths = [pretrained(GFL, SHORT, tmp_path / name) for name in "ab"]
    assert torch.equal(torch.rand(2), expected)
    assert file_sha256(paths[0]) == file_sha256(paths[1])


@pytest.mark.parametrize(
    ("detector", "backbone", "form"),
    [
        ("retinanet", "resnext101_64x4d", None),
        ("retinanet", "regnetx_800mf", None),
        ("fcos", "shufflenetv2_0.5", "pdf_fpn"),
        ("yolov3", "darknet53", None),
        ("ssd", "vgg16", None),
        ("gfl", "resnet101_dcn", None),
        ("mask_rcnn", "resnet50", None),
    ],
)
def test_every_kind_of_backbone_is_taught_and_loaded(tmp_path: Path, detector: str, backbone: str, form: str | None) -> None:
    network = Network(detector=detector, backbone=backbone, form=form, width=8)
    path = pretrained(network, replace(SHORT, crops=64, steps=2, batch=8), tmp_path)
    model: Any = build(network, 10)
    load_pretrained(model, path)
    taught = torch.load(path, weights_only=True)["state_dict"]
    own = model.backbone.state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in taught.items())
    assert all("conv_offset" in name for name in own.keys() - taught.keys())


def test_detectors_on_one_backbone_share_its_file_and_widths_do_not(tmp_path: Path) -> None:
    recipe = replace(SHORT, crops=32, steps=2, batch=8)
    retinanet = Network(detector="retinanet", backbone="resnet18", width=8)
    wide = Network(detector="gfl", backbone="resnet18", width=16)
    assert pretrained(GFL, recipe, tmp_path) == pretrained(retinanet, recipe, tmp_path) != pretrained(wide, recipe, tmp_path)


def test_a_trial_at_nano_starts_from_it_and_records_it(tmp_path: Path, data: Path, short: None) -> None:
    spec = TrialSpec(dataset="digits", scale="nano", network=GFL, schedule={"epochs": 1, "max_iterations": 2}, seed=0)
    told = run_trial(spec, tmp_path, data, lambda epoch: None).environment["weights"]
    path = pretrained(GFL, SHORT, data)
    assert told == f"pretrained here/{path.stem} ({file_sha256(path)})"


def test_how_it_was_pretrained_is_part_of_a_trials_identity() -> None:
    spec = TrialSpec(dataset="digits", scale="nano", network=GFL, schedule={}, seed=0)
    before = spec.key("digest", "code")
    nano = RECIPES["nano"]
    assert nano.pretraining
    try:
        RECIPES["nano"] = replace(nano, pretraining=replace(nano.pretraining, steps=nano.pretraining.steps + 1))
        assert spec.key("digest", "code") != before
    finally:
        RECIPES["nano"] = nano
