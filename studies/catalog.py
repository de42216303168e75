"""The names a spec may use for detectors, backbones, datasets and metrics, with the facts that decide what fits what.

Plain data, so that the service can validate and answer without torch; `workers` builds the real networks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

Scale = Literal["smoke", "nano", "paper"]
SCALES: dict[str, str] = {
    "smoke": "a few iterations on nano networks; proves the path, measures nothing",
    "nano": "narrow networks on the embedded digits; learns in CPU minutes",
    "paper": "the paper's networks, data and schedule",
}


# What a distiller may ask of a detector; the text completes "its head has ...".
TRAITS: dict[str, str] = {
    "neck": "feature pyramid outputs",
    "dense_logits": "class logits at every cell of every level",
    "distribution": "box sides predicted as distributions over bins",
    "anchors": "anchor boxes",
    "points": "anchor-free points",
    "roi_head": "an RPN and a RoI head",
    "masks": "a mask branch, which learns from instance masks",
}

# Backbones of four stages at strides 4 to 32, on which every feature pyramid stands.
PYRAMIDAL = (
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet101_dcn",
    "resnext101_32x4d",
    "resnext101_32x4d_dcn",
    "resnext101_64x4d",
    "regnetx_800mf",
)
ONE_STAGE, TWO_STAGE = (8, 16, 32, 64, 128), (4, 8, 16, 32, 64)  # strides of the pyramid's levels
TWO_STAGE_TRAITS = frozenset({"neck", "dense_logits", "anchors", "roi_head"})


@dataclass(frozen=True)
class Detector:
    """A detector family. `traits` name what its head offers to a distiller (see `TRAITS`).

    backbones: those it is offered on. strides: of its pyramid's levels, in the order of its outputs. config: of a family that is not of
    the catalogue, where its mmdet model config comes from: "module:function" of an installed package, called with (network, classes), or
    REGISTERED.
    """

    id: str
    title: str
    paper: str
    traits: frozenset[str]
    backbones: tuple[str, ...] = PYRAMIDAL
    strides: tuple[int, ...] = ONE_STAGE
    config: str | None = None


REGISTERED = "registered"  # `Detector.config` of a family that this machine has a file of, see `studies.own_detectors`
DETECTORS: dict[str, Detector] = {
    d.id: d
    for d in (
        Detector(
            "faster_rcnn",
            "Faster R-CNN",
            "Ren et al., Faster R-CNN, NeurIPS 2015; Lin et al., Feature Pyramid Networks, CVPR 2017",
            TWO_STAGE_TRAITS,
            strides=TWO_STAGE,
        ),
        Detector("cascade_rcnn", "Cascade R-CNN", "Cai and Vasconcelos, Cascade R-CNN, CVPR 2018", TWO_STAGE_TRAITS, strides=TWO_STAGE),
        Detector("dynamic_rcnn", "Dynamic R-CNN", "Zhang et al., Dynamic R-CNN, ECCV 2020", TWO_STAGE_TRAITS, strides=TWO_STAGE),
        Detector("grid_rcnn", "Grid R-CNN", "Lu et al., Grid R-CNN, CVPR 2019", TWO_STAGE_TRAITS, strides=TWO_STAGE),
        Detector("mask_rcnn", "Mask R-CNN", "He et al., Mask R-CNN, ICCV 2017", TWO_STAGE_TRAITS | {"masks"}, strides=TWO_STAGE),
        Detector(
            "cascade_mask_rcnn",
            "Cascade Mask R-CNN",
            "Cai and Vasconcelos, Cascade R-CNN: High Quality Object Detection and Instance Segmentation, TPAMI 2019",
            TWO_STAGE_TRAITS | {"masks"},
            strides=TWO_STAGE,
        ),
        Detector(
            "retinanet",
            "RetinaNet",
            "Lin et al., Focal Loss for Dense Object Detection, ICCV 2017",
            frozenset({"neck", "dense_logits", "anchors"}),
        ),
        Detector(
            "fsaf",
            "FSAF",
            "Zhu et al., Feature Selective Anchor-Free Module for Single-Shot Object Detection, CVPR 2019",
            frozenset({"neck", "dense_logits", "points"}),
        ),
        Detector("fcos", "FCOS", "Tian et al., FCOS, ICCV 2019", frozenset({"neck", "dense_logits", "points"})),
        Detector("reppoints", "RepPoints", "Yang et al., RepPoints, ICCV 2019", frozenset({"neck", "dense_logits", "points"})),
        Detector(
            "atss",
            "ATSS",
            "Zhang et al., Bridging the Gap Between Anchor-based and Anchor-free Detection, CVPR 2020",
            frozenset({"neck", "dense_logits", "anchors"}),
        ),
        Detector(
            "gfl",
            "GFL",
            "Li et al., Generalized Focal Loss, NeurIPS 2020",
            frozenset({"neck", "dense_logits", "distribution", "anchors"}),
        ),
        Detector("yolov3", "YOLOv3", "Redmon and Farhadi, YOLOv3, 2018", frozenset({"neck"}), ("darknet53",), (32, 16, 8)),
        Detector("ssd", "SSD", "Liu et al., SSD, ECCV 2016", frozenset({"neck"}), ("vgg16",), (8, 16, 32, 64, 128, 256, 512)),
    )
}


def detectors() -> dict[str, Detector]:
    """All families by id: the catalogue's, those of installed packages, and those registered on this machine."""
    from studies.own_detectors import own_detectors  # which is made of what this module declares

    return {**DETECTORS, **own_detectors()}


def family_of(detector: str) -> Detector:
    """The family of that id. Raises KeyError."""
    return DETECTORS[detector] if detector in DETECTORS else detectors()[detector]


@dataclass(frozen=True)
class Form:
    """A published change of a family's network, named by `form` of a spec's network.

    traits: what it adds to its head. backbones, strides: instead of the family's, where given.
    channels: how many times those of the family the backbone, neck and head have.
    starts: weights that a (detector, backbone) starts from at paper scale, where they are others than without the form.
    """

    id: str
    title: str
    paper: str
    detectors: tuple[str, ...]
    traits: frozenset[str] = frozenset()
    backbones: tuple[str, ...] | None = None
    strides: tuple[int, ...] | None = None
    channels: int = 1
    starts: Mapping[tuple[str, str], str] = field(default_factory=dict)


PDF_BACKBONES = ("resnet18", "resnet34", "shufflenetv2_0.5", "shufflenetv2_1.0")
PDF_PAPER = "Zhang et al., PDF-Distil, BMVC 2021"
FORMS: dict[str, Form] = {
    f.id: f
    for f in (
        Form(
            "distribution",
            "box sides as distributions over 17 bins",
            "Zheng et al., Localization Distillation for Dense Object Detection, CVPR 2022",
            ("retinanet", "fcos", "atss"),
            frozenset({"distribution"}),
            starts={("fcos", "resnet50"): "imagenet/resnet50_msra"},
        ),
        Form(
            "centre_sampling",
            "centre sampling, box sides in strides, centerness on the box tower, boxes learn by GIoU, as in the zoo's improved FCOS",
            "Tian et al., FCOS: A Simple and Strong Anchor-free Object Detector, TPAMI 2020",
            ("fcos",),
            starts={("fcos", "resnet50"): "imagenet/resnet50_msra"},
        ),
        Form(
            "ciou",
            "boxes learn by their complete IoU (CIoU), as in LD's released PASCAL VOC configs",
            "Zheng et al., Distance-IoU Loss, AAAI 2020",
            ("gfl",),
        ),
        Form(
            "cityscapes",
            "the model zoo's for Cityscapes: boxes learn by smooth L1, and all but the class layers starts from its COCO detector",
            "Chen et al., MMDetection, 2019",
            ("faster_rcnn", "mask_rcnn"),
            backbones=("resnet50",),
            starts={
                ("faster_rcnn", "resnet50"): "zoo/faster-rcnn_r50_fpn_1x_coco",
                ("mask_rcnn", "resnet50"): "zoo/mask-rcnn_r50_fpn_1x_coco",
            },
        ),
        Form(
            "pdf_fpn",
            "PDF-Distil's student: 320 pixels, no pooling in the stem, context module, FPN, heads not shared between levels",
            PDF_PAPER,
            ("retinanet", "fcos"),
            backbones=PDF_BACKBONES,
            strides=(8, 16, 32, 64),
        ),
        Form(
            "pdf_pafpn",
            "PDF-Distil's teacher: as pdf_fpn with a bottom-up path behind the FPN",
            PDF_PAPER,
            ("retinanet", "fcos"),
            backbones=PDF_BACKBONES,
            strides=(8, 16, 32, 64),
        ),
        Form(
            "doubled",
            "twice the channels in backbone, neck and head, trained from scratch",
            "Zhang and Ma, Improve Object Detection with Feature-based Knowledge Distillation, ICLR 2021",
            ("yolov3", "ssd"),
            channels=2,
        ),
    )
}


def in_form(detector: str, form: str | None, backbone: str | None = None) -> Detector:
    """The family as a form of it is: its traits, backbones and strides. With `backbone`, on that one alone."""
    family = family_of(detector)
    if form is not None:
        change = FORMS[form]
        family = replace(
            family,
            traits=family.traits | change.traits,
            backbones=change.backbones or family.backbones,
            strides=change.strides or family.strides,
        )
    return replace(family, backbones=(backbone,)) if backbone else family


def channels_of(form: str | None) -> int:
    """How many times the channels of its family a network in this form has."""
    return FORMS[form].channels if form else 1


# Networks of the zoo that start from Caffe's weights, which see BGR pixels as they are.
CAFFE = {("fcos", "resnet50"): "imagenet/resnet50_caffe", ("fcos", "resnet101"): "imagenet/resnet101_caffe"}


def start_of(detector: str, backbone: str, form: str | None) -> str | None:
    """Name of the weights that a network starts from at paper scale: of a whole detector, or imagenet/... of its backbone.

    None where there are none: ImageNet's have the published channels.
    """
    if form and (detector, backbone) in FORMS[form].starts:
        return FORMS[form].starts[detector, backbone]
    if backbone == AS_CONFIGURED or channels_of(form) != 1:
        return None
    return CAFFE.get((detector, backbone), f"imagenet/{backbone.removesuffix('_dcn')}")


def of_pdf_distil(form: str | None) -> bool:
    """Whether a form is one of PDF-Distil's networks, which have their own input, assignment and mixed images."""
    return form is not None and form.startswith("pdf_")


def misfit_of(detector: str, backbone: str, form: str | None) -> tuple[str, str] | None:
    """(field, sentence) where a network names parts that do not go together, else None."""
    title = family_of(detector).title
    if form is not None and detector not in FORMS[form].detectors:
        there = [name for name, f in FORMS.items() if detector in f.detectors]
        return "form", f"{title} has no form {form!r}; " + (f"its forms: {', '.join(there)}" if there else "leave `form` out")
    allowed = in_form(detector, form).backbones
    if backbone in allowed:
        return None
    told = title if form is None else f"{title} in the form {form!r}"
    return "backbone", f"{told} is not offered on {BACKBONES[backbone].title}; its backbones: {', '.join(allowed)}"


@dataclass(frozen=True)
class Backbone:
    """A backbone network. Which families stand on it is said by `Detector.backbones`."""

    id: str
    title: str


AS_CONFIGURED = "as_configured"
BACKBONES: dict[str, Backbone] = {
    b.id: b
    for b in (
        Backbone("resnet18", "ResNet-18"),
        Backbone("resnet34", "ResNet-34"),
        Backbone("resnet50", "ResNet-50"),
        Backbone("resnet101", "ResNet-101"),
        Backbone("resnet101_dcn", "ResNet-101 with deformable convolutions"),
        Backbone("resnext101_32x4d", "ResNeXt-101 32x4d"),
        Backbone("resnext101_32x4d_dcn", "ResNeXt-101 32x4d with deformable convolutions"),
        Backbone("resnext101_64x4d", "ResNeXt-101 64x4d"),
        Backbone("regnetx_800mf", "RegNetX-800MF"),
        Backbone("darknet53", "DarkNet-53"),
        Backbone("vgg16", "VGG-16"),
        Backbone("shufflenetv2_0.5", "ShuffleNetV2 0.5x"),
        Backbone("shufflenetv2_1.0", "ShuffleNetV2 1.0x"),
        Backbone(AS_CONFIGURED, "the backbone of its own config"),
    )
}


@dataclass(frozen=True)
class ZooModel:
    """A detector of mmdet's model zoo: its config, its trainable parameters in millions (as the papers print them), and what its
    authors measured on COCO val2017 in percent."""

    config: str
    parameters: float
    ap: float
    mask_ap: float | None = None


# (detector, backbone) -> the zoo's model, of the schedule whose AP the papers' tables take as baseline. Pairs that are not
# here are the family's ResNet-50 model (YOLOv3, SSD: their only one) on another backbone.
ZOO: dict[tuple[str, str], ZooModel] = {
    ("faster_rcnn", "resnet50"): ZooModel("faster_rcnn/faster-rcnn_r50_fpn_2x_coco.py", 41.53, 38.4),
    ("faster_rcnn", "resnet101"): ZooModel("faster_rcnn/faster-rcnn_r101_fpn_2x_coco.py", 60.52, 39.8),
    ("faster_rcnn", "resnet101_dcn"): ZooModel("dcn/faster-rcnn_r101-dconv-c3-c5_fpn_1x_coco.py", 61.81, 42.7),
    ("faster_rcnn", "resnext101_32x4d"): ZooModel("faster_rcnn/faster-rcnn_x101-32x4d_fpn_2x_coco.py", 60.16, 41.2),
    ("faster_rcnn", "resnext101_32x4d_dcn"): ZooModel("dcn/faster-rcnn_x101-32x4d-dconv-c3-c5_fpn_1x_coco.py", 62.73, 44.5),
    ("faster_rcnn", "resnext101_64x4d"): ZooModel("faster_rcnn/faster-rcnn_x101-64x4d_fpn_2x_coco.py", 99.25, 41.6),
    ("cascade_rcnn", "resnet50"): ZooModel("cascade_rcnn/cascade-rcnn_r50_fpn_20e_coco.py", 69.17, 41.0),
    ("cascade_rcnn", "resnet101"): ZooModel("cascade_rcnn/cascade-rcnn_r101_fpn_20e_coco.py", 88.16, 42.5),
    ("cascade_rcnn", "resnet101_dcn"): ZooModel("dcn/cascade-rcnn_r101-dconv-c3-c5_fpn_1x_coco.py", 89.45, 45.0),
    ("cascade_rcnn", "resnext101_32x4d"): ZooModel("cascade_rcnn/cascade-rcnn_x101-32x4d_fpn_20e_coco.py", 87.80, 43.7),
    ("cascade_rcnn", "resnext101_64x4d"): ZooModel("cascade_rcnn/cascade-rcnn_x101_64x4d_fpn_20e_coco.py", 126.89, 44.5),
    ("dynamic_rcnn", "resnet50"): ZooModel("dynamic_rcnn/dynamic-rcnn_r50_fpn_1x_coco.py", 41.53, 38.9),
    ("grid_rcnn", "resnet50"): ZooModel("grid_rcnn/grid-rcnn_r50_fpn_gn-head_2x_coco.py", 64.32, 40.4),
    ("grid_rcnn", "resnet101"): ZooModel("grid_rcnn/grid-rcnn_r101_fpn_gn-head_2x_coco.py", 83.31, 41.5),
    ("grid_rcnn", "resnext101_32x4d"): ZooModel("grid_rcnn/grid-rcnn_x101-32x4d_fpn_gn-head_2x_coco.py", 82.95, 42.9),
    ("grid_rcnn", "resnext101_64x4d"): ZooModel("grid_rcnn/grid-rcnn_x101-64x4d_fpn_gn-head_2x_coco.py", 122.04, 43.0),
    ("mask_rcnn", "resnet50"): ZooModel("mask_rcnn/mask-rcnn_r50_fpn_2x_coco.py", 44.17, 39.2, 35.4),
    ("mask_rcnn", "resnet101"): ZooModel("mask_rcnn/mask-rcnn_r101_fpn_2x_coco.py", 63.16, 40.8, 36.6),
    ("mask_rcnn", "resnet101_dcn"): ZooModel("dcn/mask-rcnn_r101-dconv-c3-c5_fpn_1x_coco.py", 64.45, 43.5, 38.9),
    ("mask_rcnn", "resnext101_32x4d"): ZooModel("mask_rcnn/mask-rcnn_x101-32x4d_fpn_2x_coco.py", 62.80, 42.2, 37.8),
    ("mask_rcnn", "resnext101_64x4d"): ZooModel("mask_rcnn/mask-rcnn_x101-64x4d_fpn_2x_coco.py", 101.89, 42.7, 38.1),
    ("cascade_mask_rcnn", "resnet50"): ZooModel("cascade_rcnn/cascade-mask-rcnn_r50_fpn_20e_coco.py", 77.10, 41.9, 36.5),
    ("cascade_mask_rcnn", "resnet101"): ZooModel("cascade_rcnn/cascade-mask-rcnn_r101_fpn_1x_coco.py", 96.09, 42.9, 37.3),
    ("cascade_mask_rcnn", "resnet101_dcn"): ZooModel("dcn/cascade-mask-rcnn_r101-dconv-c3-c5_fpn_1x_coco.py", 97.38, 45.8, 39.7),
    ("cascade_mask_rcnn", "resnext101_32x4d"): ZooModel("cascade_rcnn/cascade-mask-rcnn_x101-32x4d_fpn_20e_coco.py", 95.73, 45.0, 39.0),
    ("cascade_mask_rcnn", "resnext101_32x4d_dcn"): ZooModel(
        "dcn/cascade-mask-rcnn_x101-32x4d-dconv-c3-c5_fpn_1x_coco.py", 98.30, 47.3, 41.1
    ),
    ("cascade_mask_rcnn", "resnext101_64x4d"): ZooModel("cascade_rcnn/cascade-mask-rcnn_x101-64x4d_fpn_20e_coco.py", 134.82, 45.6, 39.5),
    ("retinanet", "resnet18"): ZooModel("retinanet/retinanet_r18_fpn_1x_coco.py", 21.25, 31.7),
    ("retinanet", "resnet50"): ZooModel("retinanet/retinanet_r50_fpn_2x_coco.py", 37.74, 37.4),
    ("retinanet", "resnet101"): ZooModel("retinanet/retinanet_r101_fpn_2x_coco.py", 56.74, 38.9),
    ("retinanet", "resnext101_32x4d"): ZooModel("retinanet/retinanet_x101-32x4d_fpn_2x_coco.py", 56.37, 40.1),
    ("retinanet", "resnext101_64x4d"): ZooModel("retinanet/retinanet_x101-64x4d_fpn_1x_coco.py", 95.46, 41.0),
    ("retinanet", "regnetx_800mf"): ZooModel("regnet/retinanet_regnetx-800MF_fpn_1x_coco.py", 17.22, 35.6),
    ("fsaf", "resnet50"): ZooModel("fsaf/fsaf_r50_fpn_1x_coco.py", 36.19, 37.4),
    ("fsaf", "resnet101"): ZooModel("fsaf/fsaf_r101_fpn_1x_coco.py", 55.19, 39.3),
    ("fsaf", "resnext101_64x4d"): ZooModel("fsaf/fsaf_x101-64x4d_fpn_1x_coco.py", 93.92, 42.4),
    ("fcos", "resnet50"): ZooModel("fcos/fcos_r50-caffe_fpn_gn-head_ms-640-800-2x_coco.py", 32.02, 38.5),
    ("fcos", "resnet101"): ZooModel("fcos/fcos_r101-caffe_fpn_gn-head_ms-640-800-2x_coco.py", 50.96, 40.8),
    ("fcos", "resnext101_64x4d"): ZooModel("fcos/fcos_x101-64x4d_fpn_gn-head_ms-640-800-2x_coco.py", 89.79, 42.6),
    ("reppoints", "resnet50"): ZooModel("reppoints/reppoints-moment_r50_fpn-gn_head-gn_2x_coco.py", 36.62, 38.6),
    ("reppoints", "resnet101"): ZooModel("reppoints/reppoints-moment_r101_fpn-gn_head-gn_2x_coco.py", 55.62, 40.5),
    ("reppoints", "resnet101_dcn"): ZooModel("reppoints/reppoints-moment_r101-dconv-c3-c5_fpn-gn_head-gn_2x_coco.py", 56.90, 42.9),
    ("reppoints", "resnext101_32x4d_dcn"): ZooModel("reppoints/reppoints-moment_x101-dconv-c3-c5_fpn-gn_head-gn_2x_coco.py", 57.83, 44.2),
    ("atss", "resnet50"): ZooModel("atss/atss_r50_fpn_1x_coco.py", 32.07, 39.4),
    ("atss", "resnet101"): ZooModel("atss/atss_r101_fpn_1x_coco.py", 51.06, 41.5),
    ("gfl", "resnet50"): ZooModel("gfl/gfl_r50_fpn_1x_coco.py", 32.22, 40.2),
    ("gfl", "resnet101"): ZooModel("gfl/gfl_r101_fpn_ms-2x_coco.py", 51.21, 44.7),
    ("gfl", "resnet101_dcn"): ZooModel("gfl/gfl_r101-dconv-c3-c5_fpn_ms-2x_coco.py", 52.49, 47.1),
    ("gfl", "resnext101_32x4d"): ZooModel("gfl/gfl_x101-32x4d_fpn_ms-2x_coco.py", 50.85, 45.9),
    ("gfl", "resnext101_32x4d_dcn"): ZooModel("gfl/gfl_x101-32x4d-dconv-c4-c5_fpn_ms-2x_coco.py", 53.25, 48.1),
    ("yolov3", "darknet53"): ZooModel("yolo/yolov3_d53_8xb8-ms-608-273e_coco.py", 61.95, 33.7),
    ("ssd", "vgg16"): ZooModel("ssd/ssd512_coco.py", 36.04, 29.5),
}


@dataclass(frozen=True)
class Dataset:
    """A dataset: number of classes, image counts of its splits and whether its objects have masks (None: not looked at yet)."""

    id: str
    title: str
    classes: int
    train_images: int | None
    val_images: int | None
    masks: bool | None


DATASETS: dict[str, Dataset] = {
    d.id: d
    for d in (
        Dataset("digits", "Digits: scenes of handwritten digits, made here from 1,797 real scans", 10, 3_000, 500, masks=True),
        Dataset("coco", "COCO 2017", 80, 118_287, 5_000, masks=True),
        Dataset("voc", "PASCAL VOC: 2007 and 2012 trainval, tested on 2007 test", 20, 16_551, 4_952, masks=False),
        Dataset("cityscapes", "Cityscapes instances, fine annotations", 8, 2_975, 500, masks=True),
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
    "Params": "trainable parameters in millions",
    "FLOPs": "multiply-adds of one image in milliards: of 128x128 pixels, at paper scale 800x1280 (SSD 512, YOLOv3 608, pdf_* 320)",
    "FPS": "images per second of prediction on the trial's device and threads, one image at a time, with suppression and without loading",
}
COUNTED = frozenset({"Params", "FLOPs"})  # they follow from the network alone
COSTS = COUNTED | {"FPS"}  # what a network costs, not how well it detects
DECIMALS = {"Params": 2, "FLOPs": 3, "D_pred": 4}  # as printed; a metric in percent has one
LOWER_IS_BETTER = ("D_pred", "err_")  # how the names of such metrics begin


def wants_less(metric: str) -> bool:
    """Whether a search is for small values of a metric: of errors, and of what a network needs."""
    return metric in COUNTED or metric.startswith(LOWER_IS_BETTER)
