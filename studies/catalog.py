"""The names a spec may use for detectors, backbones, datasets and metrics, with the facts that decide what fits what.

Plain data, so that the service can validate and answer without torch; `workers` builds the real networks.
"""

from dataclasses import dataclass
from typing import Literal

Scale = Literal["smoke", "nano", "paper"]
SCALES: dict[str, str] = {
    "smoke": "a few iterations on nano networks; proves the path, measures nothing",
    "nano": "narrow networks on the embedded digits; learns in CPU minutes",
    "paper": "the paper's networks, data and schedule",
}


@dataclass(frozen=True)
class Detector:
    """A detector family. `traits` name what its head offers to a distiller (see `TRAITS`)."""

    id: str
    title: str
    paper: str
    traits: frozenset[str]


# What a distiller may ask of a detector; the text completes "its head has ...".
TRAITS: dict[str, str] = {
    "neck": "feature pyramid outputs",
    "dense_logits": "class logits at every cell of every level",
    "distribution": "box sides predicted as distributions over bins",
    "anchors": "anchor boxes",
    "points": "anchor-free points",
    "roi_head": "an RPN and a RoI head",
}

DETECTORS: dict[str, Detector] = {
    d.id: d
    for d in (
        Detector(
            "gfl",
            "GFL",
            "Li et al., Generalized Focal Loss, NeurIPS 2020",
            frozenset({"neck", "dense_logits", "distribution", "anchors"}),
        ),
        Detector(
            "retinanet",
            "RetinaNet",
            "Lin et al., Focal Loss for Dense Object Detection, ICCV 2017",
            frozenset({"neck", "dense_logits", "anchors"}),
        ),
    )
}


@dataclass(frozen=True)
class Backbone:
    """A backbone network. `detectors` lists the families it is offered for (None: all)."""

    id: str
    title: str


BACKBONES: dict[str, Backbone] = {
    b.id: b
    for b in (
        Backbone("resnet18", "ResNet-18"),
        Backbone("resnet34", "ResNet-34"),
        Backbone("resnet50", "ResNet-50"),
        Backbone("resnet101", "ResNet-101"),
    )
}


@dataclass(frozen=True)
class Dataset:
    """A dataset: number of classes and image counts of its splits (None: not counted yet)."""

    id: str
    title: str
    classes: int
    train_images: int | None
    val_images: int | None


DATASETS: dict[str, Dataset] = {
    d.id: d
    for d in (
        Dataset("digits", "Digits: scenes of handwritten digits, made here from 1,797 real scans", 10, 2_000, 300),
        Dataset("coco", "COCO 2017", 80, 118_287, 5_000),
        Dataset("voc", "PASCAL VOC: 2007 and 2012 trainval, tested on 2007 test", 20, 16_551, 4_952),
        Dataset("cityscapes", "Cityscapes instances, fine annotations", 8, 2_975, 500),
    )
}

# Metric name -> what it is. In percent by COCO's definition, where nothing else is said. `err_*`: points of AP at IoU 0.50
# that one kind of error costs, by COCO's error analysis; with AP50 they add up to 100.
METRICS: dict[str, str] = {
    "AP": "mean average precision over IoU 0.50:0.95",
    "AP50": "average precision at IoU 0.50",
    "AP75": "average precision at IoU 0.75",
    "APs": "average precision of small objects (area < 32^2)",
    "APm": "average precision of medium objects",
    "APl": "average precision of large objects (area > 96^2)",
    "AP60": "average precision at IoU 0.60",
    "AP70": "average precision at IoU 0.70",
    "AP80": "average precision at IoU 0.80",
    "AP90": "average precision at IoU 0.90",
    "mAP07": "mean average precision at IoU 0.50, PASCAL VOC 2007's definition with 11 recalls",
    "mask_AP": "AP of masks",
    "mask_AP50": "AP50 of masks",
    "mask_AP75": "AP75 of masks",
    "mask_APs": "APs of masks",
    "mask_APm": "APm of masks",
    "mask_APl": "APl of masks",
    "D_pred": "mean absolute difference of teacher's and student's class probabilities, before suppression (0 to 1)",
    "err_localisation": "AP points lost to boxes that find their object at IoU 0.10 but not at 0.50",
    "err_similar": "AP points lost to a class of the same supercategory",
    "err_other": "AP points lost to a class of another supercategory",
    "err_background": "AP points lost to detections on no object",
    "err_missed": "AP points lost to objects that nothing found",
}
