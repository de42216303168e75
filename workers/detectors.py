"""Builds the catalogue's detectors as mmdet models: the zoo's own config, re-backboned, and narrowed for `nano`.

`nano` keeps the graph of the zoo's network (levels, strides, head depth, losses, assignment) and shrinks channels, so that
what is learnt about a method on it is learnt on the same code path.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from studies.spec import Network
from studies.trial import TrialFailure
from workers.distillers.base import NetworkInfo

ZOO = {
    "gfl": "gfl/gfl_r50_fpn_1x_coco.py",
    "retinanet": "retinanet/retinanet_r50_fpn_1x_coco.py",
}
RESNET_DEPTHS = {"resnet18": 18, "resnet34": 34, "resnet50": 50, "resnet101": 101}
NANO_CHANNELS = 32  # of neck and head
NANO_INPUT = 128  # pixels
BASIC_DEPTHS = {18, 34}  # ResNets of two-convolution blocks, whose outputs are not widened fourfold


def zoo_config(path: str) -> Any:
    """A config of mmdet's model zoo, from the files installed with the library."""
    import mmdet
    from mmengine.config import Config

    return Config.fromfile(str(Path(mmdet.__file__).parent / ".mim" / "configs" / path))


def model_config(network: Network, classes: int) -> Any:
    """The mmdet model config (ConfigDict) of a network with `classes` outputs, without pretrained weights named in it."""
    config = zoo_config(ZOO[network.detector]).model
    depth = RESNET_DEPTHS[network.backbone]
    base = network.width or 64
    config.backbone.depth = depth
    config.backbone.init_cfg = None
    expansion = 1 if depth in BASIC_DEPTHS else 4
    config.neck.in_channels = [base * expansion * 2**stage for stage in range(4)]
    config.bbox_head.num_classes = classes
    if network.width:
        narrow(config, network.width)
    return config


def narrow(config: Any, width: int) -> None:
    """Shrinks a zoo config in place: backbone base channels `width`, neck and head NANO_CHANNELS, trained from scratch."""
    config.backbone.update(base_channels=width, stem_channels=width, frozen_stages=-1, norm_eval=False)
    config.neck.out_channels = NANO_CHANNELS
    head = config.bbox_head
    head.update(in_channels=NANO_CHANNELS, feat_channels=NANO_CHANNELS)
    if head.type == "GFLHead":
        # The zoo's 32 groups of 8 channels would be single channels here, and vanish on a 1x1 level.
        head.norm_cfg = {"type": "GN", "num_groups": 4, "requires_grad": True}


def build(network: Network, classes: int) -> nn.Module:
    """The network with freshly drawn weights (from torch's global generator)."""
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    from mmengine.registry import DefaultScope

    register_all_modules(init_default_scope=False)
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = MODELS.build(model_config(network, classes))
        model.init_weights()
    return model


def load_checkpoint(model: nn.Module, path: Path, what: str) -> None:
    """Loads an exported detector (`{"state_dict": ...}`) into `model`, exactly. Raises TrialFailure("user") if it does not fit."""
    if not path.exists():
        raise TrialFailure("user", f"the {what}'s checkpoint is missing: {path}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    except Exception as error:
        raise TrialFailure("user", f"the {what}'s checkpoint cannot be read: {path} ({type(error).__name__})") from error
    own = model.state_dict()
    missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    misshapen = [k for k in own.keys() & state.keys() if own[k].shape != state[k].shape]
    if missing or unknown or misshapen:
        first = (missing or unknown or misshapen)[0]
        raise TrialFailure(
            "user",
            f"the {what}'s checkpoint is of another network: {len(missing)} tensors missing, {len(unknown)} unknown, "
            f"{len(misshapen)} of another shape, {first!r} first",
        )
    model.load_state_dict(state)


def describe(network: Network, model: Any) -> NetworkInfo:
    """What distillers need to know of a built mmdet model."""
    two_stage = hasattr(model, "rpn_head")
    head = model.rpn_head if two_stage else model.bbox_head
    neck = model.neck
    levels = neck.num_outs
    generator = head.prior_generator
    reg_max = getattr(head, "reg_max", None)
    return NetworkInfo(
        detector=network.detector,
        backbone=network.backbone,
        stages="two" if two_stage else "one",
        neck_channels=(neck.out_channels,) * levels,
        backbone_channels=tuple(neck.in_channels),
        strides=tuple(int(stride[0]) for stride in generator.strides),
        classes=head.num_classes,
        anchors_per_cell=getattr(generator, "num_base_priors", [1])[0],
        bins=reg_max + 1 if isinstance(reg_max, int) and head.__class__.__name__ != "FCOSHead" else None,
        model=model,
    )


def head_outputs(detector: nn.Module, outputs: tuple[Any, ...]) -> dict[str, tuple[Tensor, ...] | None]:
    """Names the parts of a dense head's output: logits, boxes, centerness, each a tuple over levels."""
    logits, boxes, *rest = (tuple(part) for part in outputs)
    return {"logits": logits, "boxes": boxes, "centerness": rest[0] if rest else None}
