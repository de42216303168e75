"""The counted costs of `studies.costs` are those of the networks that are built, at the input they are trained on."""

import pytest

from benchmarks.count_costs import counted
from studies.costs import cost_of
from studies.spec import Network

SMALL = [
    ("faster_rcnn", "resnet18", None),
    ("grid_rcnn", "resnet18", None),
    ("mask_rcnn", "resnet50", None),
    ("cascade_mask_rcnn", "resnet50", None),
    ("retinanet", "regnetx_800mf", None),
    ("fcos", "shufflenetv2_0.5", "pdf_fpn"),
    ("atss", "resnet50", "distribution"),
    ("gfl", "resnet18", "ciou"),
    ("fsaf", "resnet50", None),
    ("reppoints", "resnet50", None),
    ("yolov3", "darknet53", None),
    ("ssd", "vgg16", None),
]


@pytest.mark.parametrize(("detector", "backbone", "form"), SMALL)
def test_a_network_costs_what_is_written_down(detector: str, backbone: str, form: str | None) -> None:
    network = Network(detector=detector, backbone=backbone, form=form)
    entry, known = counted(network), cost_of(network)
    assert known is not None
    assert (tuple(entry["size"]), entry["image"], entry["rois"], entry["parameters"]) == (
        known.size,
        known.image,
        known.rois,
        known.parameters,
    )
