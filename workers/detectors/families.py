"""Facts of the detector families and backbones, as data: what differs from the zoo's config on another backbone, or at `nano`.

A change is a nested mapping that is merged into an mmdet model config.
"""

from typing import Any

Change = dict[str, Any]

NORMALISATION: Change = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "bgr_to_rgb": True}  # of ImageNet, RGB
# What the weights that backbones start from have seen, as mmdet's preprocessor takes it; of those that are not here: the above.
_AS_IT_IS: Change = {"std": [1.0, 1.0, 1.0], "bgr_to_rgb": False}
_CAFFE: Change = {"mean": [102.9801, 115.9465, 122.7717], **_AS_IT_IS}
INPUTS: dict[str, Change] = {
    "imagenet/resnet50_caffe": _CAFFE,
    "imagenet/resnet101_caffe": _CAFFE,
    "imagenet/resnet50_msra": {"mean": [103.53, 116.28, 123.675], **_AS_IT_IS},
    "imagenet/regnetx_800mf": {"mean": [103.53, 116.28, 123.675], "std": [57.375, 57.12, 58.395], "bgr_to_rgb": False},
    "imagenet/darknet53": {"mean": [0.0, 0.0, 0.0], "std": [255.0, 255.0, 255.0], "bgr_to_rgb": True},
    "imagenet/vgg16": {"mean": [123.675, 116.28, 103.53], "std": [1.0, 1.0, 1.0], "bgr_to_rgb": True},
}

# Backbones of a family's zoo config that another backbone replaces. FCOS: its ResNets have Caffe's weights and normalisation.
BASE = {"fcos": "resnext101_64x4d", "yolov3": "darknet53", "ssd": "vgg16"}
USUAL_BASE = "resnet50"

# What all backbones of four stages have in common, as in the zoo.
STAGES: Change = {
    "out_indices": (0, 1, 2, 3),
    "frozen_stages": 1,
    "norm_cfg": {"type": "BN", "requires_grad": True},
    "norm_eval": True,
    "style": "pytorch",
}
DEFORMABLE: Change = {
    "dcn": {"type": "DCN", "deform_groups": 1, "fallback_on_stride": False},
    "stage_with_dcn": (False, True, True, True),
}
BACKBONES: dict[str, Change] = {
    "resnet18": {"type": "ResNet", "depth": 18},
    "resnet34": {"type": "ResNet", "depth": 34},
    "resnet50": {"type": "ResNet", "depth": 50},
    "resnet101": {"type": "ResNet", "depth": 101},
    "resnet101_dcn": {"type": "ResNet", "depth": 101, **DEFORMABLE},
    "resnext101_32x4d": {"type": "ResNeXt", "depth": 101, "groups": 32, "base_width": 4},
    "resnext101_32x4d_dcn": {"type": "ResNeXt", "depth": 101, "groups": 32, "base_width": 4, **DEFORMABLE},
    "resnext101_64x4d": {"type": "ResNeXt", "depth": 101, "groups": 64, "base_width": 4},
    "regnetx_800mf": {"type": "RegNet", "arch": {"w0": 56, "wa": 35.73, "wm": 2.28, "group_w": 16, "depth": 16, "bot_mul": 1.0}},
}

# Families whose neck and head are as wide as their backbone and change with it. The others' have 32 channels at nano.
RESIZED_AS_A_WHOLE = frozenset({"yolov3", "ssd"})

# What every scale changes of the zoo's config.
ALWAYS: dict[str, Change] = {"ssd": {"bbox_head": {"type": "PredictingSSDHead"}}}

# Groups of eight channels, as in the paper's heads; these heads have 32 groups where a config does not say, which would be
# single channels at nano.
GROUPS: Change = {"norm_cfg": {"type": "GN", "num_groups": 4, "requires_grad": True}}

# Hidden layers of dense heads start at a standard deviation of 0.01, which suits 256 channels. With 32 each of four shrinks its input
# tenfold (or, under a norm, turns by a large angle at every step), and no class is learnt for a thousand steps.
KEEPING_SIZE = 0.083  # sqrt(2 / (9 * 32)), He et al. 2015


def sized(scores: str, *boxes: str, box_bias: float = 0.0) -> Change:
    """A head whose hidden layers keep the size of their input. Its last ones, by name, start as the zoo's."""
    last: list[Change] = [{"type": "Normal", "name": scores, "std": 0.01, "bias_prob": 0.01}]
    last += [{"type": "Normal", "name": name, "std": 0.01, "bias": box_bias} for name in boxes]
    return {"init_cfg": {"type": "Normal", "layer": "Conv2d", "std": KEEPING_SIZE, "override": last}}


# What nano changes besides widths, so that a family works on 128 pixels.
NANO: dict[str, Change] = {
    "fcos": {"bbox_head": GROUPS | sized("conv_cls", "conv_reg", "conv_centerness")},
    "atss": {"bbox_head": GROUPS | sized("atss_cls", "atss_reg", "atss_centerness")},
    "gfl": {"bbox_head": GROUPS | sized("gfl_cls", "gfl_reg")},
    "retinanet": {"bbox_head": sized("retina_cls", "retina_reg")},
    "fsaf": {"bbox_head": sized("retina_cls", "retina_reg", box_bias=0.25)},
    # anchors clustered by their overlap with the boxes of the digits, as the zoo's are with COCO's
    "yolov3": {
        "bbox_head": {
            "anchor_generator": {
                "base_sizes": [[(33, 53), (45, 56), (51, 69)], [(27, 32), (30, 40), (39, 44)], [(18, 27), (24, 26), (21, 35)]],
            }
        }
    },
    # the last two of seven levels would be smaller than a pixel
    "ssd": {
        "neck": {"level_strides": (2, 2, 2), "level_paddings": (1, 1, 1)},
        "bbox_head": {
            "anchor_generator": {
                "strides": [8, 16, 32, 64, 128],
                "ratios": [[2], [2, 3], [2, 3], [2, 3], [2]],
                "min_sizes": [10, 20, 40, 60, 80],
                "max_sizes": [20, 40, 60, 80, 100],
            }
        },
    },
}

# What a form changes of a family.
# distribution: LD's networks, whose box layer gives 17 logits per side. Zheng et al. 2022 (supplement, section 2); released code
# HikariTJU/LD configs/gfl/{retinagfl,fcos_gfl,atss_gfl}_*.py. ciou: configs/gfl/*_voc.py there.
# centre_sampling: the zoo's fcos_*-center-normbbox-centeronreg-giou. cityscapes: the zoo's configs/cityscapes.
SMOOTH: Change = {"roi_head": {"bbox_head": {"loss_bbox": {"_delete_": True, "type": "SmoothL1Loss", "beta": 1.0, "loss_weight": 1.0}}}}
CENTRE_SAMPLING: Change = {
    "bbox_head": {
        "center_sampling": True,
        "centerness_on_reg": True,
        "conv_bias": True,
        "loss_bbox": {"_delete_": True, "type": "GIoULoss", "loss_weight": 1.0},
    },
    "test_cfg": {"nms": {"type": "nms", "iou_threshold": 0.6}},
}
IN_FORM: dict[str, dict[str, Change]] = {
    "centre_sampling": {"fcos": {**CENTRE_SAMPLING, "bbox_head": CENTRE_SAMPLING["bbox_head"] | {"norm_on_bbox": True}}},
    "distribution": {
        "retinanet": {
            "bbox_head": {
                "type": "DistributionRetinaHead",
                "reg_decoded_bbox": True,
                "bbox_coder": {"_delete_": True, "type": "CentreDistanceCoder"},
                "loss_bbox": {"_delete_": True, "type": "GIoULoss", "loss_weight": 2.0},
            }
        },
        "fcos": {**CENTRE_SAMPLING, "bbox_head": CENTRE_SAMPLING["bbox_head"] | {"type": "DistributionFCOSHead"}},
        "atss": {
            "bbox_head": {
                "type": "DistributionATSSHead",
                "bbox_coder": {"_delete_": True, "type": "CentreDistanceCoder"},
            }
        },
    },
    "ciou": {"gfl": {"bbox_head": {"loss_bbox": {"_delete_": True, "type": "CIoULoss", "loss_weight": 2.0}}}},
    "cityscapes": {"faster_rcnn": SMOOTH, "mask_rcnn": SMOOTH},
}
