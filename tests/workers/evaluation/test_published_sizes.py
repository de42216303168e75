"""Parameters and multiply-adds of our networks against every such cell of the papers' tables."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from studies.catalog import ZOO
from studies.inputs import PDF
from studies.spec import Network
from workers.detectors import build
from workers.evaluation.costs import CLASSES, SIZES, Counter, counted_size, images_per_second, measure, on_paper, parameter_counts

CLASSIFIER = 2048 * 1000 + 1000  # weights of ResNet-50's ImageNet layer
PUBLISHED = yaml.safe_load((Path(__file__).parent / "published_sizes.yaml").read_text())


def title(row: dict[str, Any]) -> str:
    return "-".join(row["network"].values())


@pytest.mark.parametrize("row", PUBLISHED, ids=title)
def test_our_network_has_the_published_size(row: dict[str, Any]) -> None:
    told = measure(Network(**row["network"]), "paper", SIZES["paper"])
    counted = told["trainable_parameters"] + (CLASSIFIER if row["rule"] == "trainable+classifier" else 0)
    if "explained" in row:
        assert abs(counted / 1e6 - row["params"]) > 1, f"the cell matches now, it needs no explanation: {row['explained']}"
        return
    assert counted / 1e6 == pytest.approx(row["params"], abs=0.02)
    if "flops" in row:
        assert told["multiply_adds"]["total"] / 1e9 == pytest.approx(row["flops"], rel=0.005)


def test_one_cell_alone_is_explained_instead_of_matched() -> None:
    assert [title(row) for row in PUBLISHED if "explained" in row] == ["grid_rcnn-resnet18"]


def test_multiply_adds_are_counted_at_the_papers_sizes_and_below_at_one() -> None:
    plain, pdf, ssd = (
        Network(detector=detector, backbone=backbone, form=form)
        for detector, backbone, form in (("gfl", "resnet50", None), ("fcos", "resnet18", "pdf_fpn"), ("ssd", "vgg16", None))
    )
    assert [counted_size(network, "paper") for network in (plain, pdf, ssd)] == [(800, 1280), PDF, (512, 512)]
    assert {counted_size(network, scale) for network in (plain, pdf, ssd) for scale in ("smoke", "nano")} == {(128, 128)}


def test_what_is_counted_on_paper_is_what_is_built() -> None:
    network = Network(detector="retinanet", backbone="resnet18", width=8)
    told = measure(network, "nano")
    model: Any = build(network, CLASSES["nano"]).eval()
    assert told["parameters"] == sum(p.numel() for p in model.parameters())
    with torch.no_grad(), Counter(model) as counter:
        model.bbox_head(model.extract_feat(torch.randn(1, 3, *told["size"])))
    assert told["multiply_adds"]["total"] == counter.total
    assert told["multiply_adds"]["total"] == sum(told["multiply_adds"][part] for part in ("backbone", "neck", "head"))


def test_multiply_adds_of_single_modules() -> None:
    model = nn.Sequential(
        nn.Conv2d(4, 6, 3, padding=1, groups=2), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.ConvTranspose2d(6, 2, 2, 2)
    )
    with Counter(model) as counter:
        model(torch.randn(1, 4, 8, 8))
    cells = 8 * 8
    conv = cells * 6 * (2 * 9 + 1)
    transposed = cells // 4 * 6 * (2 * 2 * 2) + cells * 2
    assert counter.total == conv + 2 * 6 * cells + 6 * cells + 6 * cells + transposed
    assert not any(m._forward_hooks for m in model)


def test_images_per_second_come_with_their_spread() -> None:
    told = images_per_second(Network(detector="retinanet", backbone="resnet18", width=4), 3, (64, 64), repeats=2)
    assert told["images_per_second"] > 0
    assert told["spread"] >= 0


def test_the_command_says_what_it_measured() -> None:
    command = [
        sys.executable,
        "-m",
        "workers.evaluation.costs",
        "retinanet",
        "resnet50",
        "--form",
        "distribution",
        "--size",
        "160x192",
        "--json",
    ]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert told["parameters"] > told["trainable_parameters"] > 39e6


def test_the_command_refuses_a_backbone_of_another_family() -> None:
    command = [sys.executable, "-m", "workers.evaluation.costs", "yolov3", "resnet50"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "YOLOv3 is not offered on ResNet-50; its backbones: darknet53" in result.stderr


@pytest.mark.parametrize(("detector", "backbone"), ZOO)
def test_the_catalogue_states_the_parameters_of_its_zoo_models(detector: str, backbone: str) -> None:
    counted = parameter_counts(on_paper(Network(detector=detector, backbone=backbone), CLASSES["paper"]))
    assert counted["trainable_parameters"] / 1e6 == pytest.approx(ZOO[detector, backbone].parameters, abs=0.0051)
