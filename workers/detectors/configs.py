"""Turns a spec's network into an mmdet config and builds it: the zoo's own config, re-backboned, and resized for `nano` and forms.

`nano` keeps the graph of the zoo's network (levels, strides, head depth, losses, assignment) and shrinks channels, so that
what is learnt about a method on it is learnt on the same code path.
"""

from __future__ import annotations

import importlib
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from studies.catalog import REGISTERED, ZOO, channels_of, family_of, of_pdf_distil, start_of
from studies.own_detectors import OwnDetectorError, read_own_detector
from studies.spec import Network
from studies.trial import TrialFailure
from workers.detectors import families
from workers.detectors.families import ALWAYS, BACKBONES, IN_FORM, INPUTS, NANO, NORMALISATION, RESIZED_AS_A_WHOLE, STAGES

FULL_WIDTH = 64  # base channels of the published backbones
NECK_SHARE = 8  # neck and head at nano: an eighth, 32 of 256 channels
# Keys of zoo configs that count channels, or groups of channels, of necks and heads.
WIDTHS = frozenset(
    {"in_channels", "out_channels", "feat_channels", "fc_out_channels", "conv_out_channels", "point_feat_channels", "num_groups"}
)

_CHANNELS: dict[str, tuple[int, ...]] = {}  # a backbone's config -> channels of its outputs


def zoo_config(path: str) -> Any:
    """A config of mmdet's model zoo, from the files installed with the library."""
    return deepcopy(_zoo_file(path))


@cache  # a trial asks for it four times, and a warm process has trial after trial
def _zoo_file(path: str) -> Any:
    import mmdet
    from mmengine.config import Config

    return Config.fromfile(str(Path(mmdet.__file__).parent / ".mim" / "configs" / path))


def model_config(network: Network, classes: int) -> Any:
    """The mmdet model config (ConfigDict) of a network with `classes` outputs, without pretrained weights named in it."""
    if of_pdf_distil(network.form):
        from workers.detectors.pdf import pdf_config

        return pdf_config(network, classes)
    declared = family_of(network.detector)
    if declared.config == REGISTERED:
        return registered_config(network.detector, classes)
    if declared.config:
        return config_of(named(declared.config)(network, classes))
    pair = network.detector, network.backbone
    base = network.detector, families.BASE.get(network.detector, families.USUAL_BASE)
    return fitted(zoo_config(ZOO[pair if pair in ZOO else base].config).model, network, classes, own_backbone=pair in ZOO)


def fitted(config: Any, network: Network, classes: int, own_backbone: bool = False) -> Any:
    """A zoo's model config made into that of a network, in place: on its backbone, in its form, of its width, with `classes` outputs.

    own_backbone: whether the config is on the network's backbone already.
    """
    if not own_backbone:
        config.backbone = config_of(STAGES | BACKBONES[network.backbone])
    config.backbone.init_cfg = None
    start = start_of(network.detector, network.backbone, network.form) or ""
    if start.startswith("imagenet/"):
        config.data_preprocessor.update(INPUTS.get(start, NORMALISATION))
    set_classes(config, classes)
    merge(config, ALWAYS.get(network.detector, {}))
    if network.form in IN_FORM:
        merge(config, IN_FORM[network.form][network.detector])
    times = channels_of(network.form)
    resized = bool(network.width) or times > 1
    if resized:
        resize(config, network.detector, times * (network.width or FULL_WIDTH))
    if network.width:
        thin_proposals(config)
        merge(config, NANO.get(network.detector, {}))
        config.data_preprocessor.update(NORMALISATION)
    if resized or not own_backbone:
        connect(config)
    return config


def from_zoo(path: str, network: Network, classes: int) -> Any:
    """The model config of a network of a package's own family (`Detector.config`) from a config of mmdet's zoo, whatever its backbone."""
    return fitted(zoo_config(path).model, network, classes)


def registered_config(name: str, classes: int) -> Any:
    """The model config of a detector that is registered on this machine, with `classes` outputs. Raises TrialFailure("user")."""
    try:
        own = read_own_detector(name)
    except OwnDetectorError as error:
        raise TrialFailure("user", str(error)) from error
    for module in own.imports:
        importlib.import_module(module)
    config = config_of(own.model)
    set_classes(config, classes)
    return config


def named(reference: str) -> Any:
    """What "module:name" of an installed package refers to."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


def config_of(values: dict[str, Any]) -> Any:
    """A mapping as mmengine's ConfigDict, which mmdet expects throughout."""
    from mmengine.config import ConfigDict

    return ConfigDict(values)


def merge(config: Any, change: dict[str, Any]) -> None:
    """Merges a nested mapping into a config in place; a part with `_delete_` replaces what was there."""
    from mmengine.config import Config

    for name, value in Config._merge_a_into_b(change, config).items():
        config[name] = config_of(value) if isinstance(value, dict) else value


def set_classes(config: Any, classes: int) -> None:
    """Sets `num_classes` wherever a part of the config has it."""
    for part in parts(config):
        if "num_classes" in part:
            part.num_classes = classes


def parts(value: Any) -> list[Any]:
    """All mappings inside a config, itself first."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [value] * isinstance(value, dict) + [part for item in inner for part in parts(item)]


def resize(config: Any, detector: str, width: int) -> None:
    """Gives a zoo config another width in place: backbone of base channels `width`, neck and heads to match, trained from scratch."""
    resize_backbone(config.backbone, width)
    numerator, denominator = (width, FULL_WIDTH) if detector in RESIZED_AS_A_WHOLE else (1, NECK_SHARE)

    def scaled(value: Any) -> Any:
        return type(value)(map(scaled, value)) if isinstance(value, (list, tuple)) else value * numerator // denominator

    for name in ("neck", "rpn_head", "bbox_head", "roi_head"):
        for part in parts(config.get(name)):
            part.update({key: scaled(part[key]) for key in WIDTHS & part.keys()})


def thin_proposals(config: Any) -> None:
    """An eighth of the proposals and of the RoIs that train, as 128 pixels hold few; they are most of a two-stage step on a CPU."""
    train, test = config.get("train_cfg") or {}, config.get("test_cfg") or {}
    for cut in filter(None, (train.get("rpn_proposal"), test.get("rpn"))):
        cut.update(nms_pre=cut.nms_pre // NECK_SHARE, max_per_img=cut.max_per_img // NECK_SHARE)
    stages = train.get("rcnn") or []
    for stage in stages if isinstance(stages, list) else [stages]:
        stage.sampler.num //= NECK_SHARE


def resize_backbone(backbone: Any, width: int) -> None:
    """Gives a backbone's config the base channels `width` instead of 64; nothing of it is frozen."""
    share = width / FULL_WIDTH
    if backbone.type in {"ResNet", "ResNeXt"}:
        backbone.update(base_channels=width, stem_channels=width, frozen_stages=-1, norm_eval=False)
        backbone.norm_cfg.requires_grad = True
        if backbone.type == "ResNeXt":
            backbone.groups = int(backbone.groups * share)  # groups of the same width
    elif backbone.type == "RegNet":
        arch = BACKBONES["regnetx_800mf"]["arch"]
        backbone.arch = config_of(
            arch | {"w0": max(8, round(arch["w0"] * share / 8) * 8), "wa": arch["wa"] * share, "group_w": int(arch["group_w"] * share)}
        )
        backbone.update(stem_channels=int(32 * share), frozen_stages=-1, norm_eval=False)
    else:
        backbone.update(type=f"Resized{backbone.type}", width=width)
        if backbone.type == "ResizedDarknet":
            backbone.norm_eval = False


def connect(config: Any) -> None:
    """Tells the neck the channels that its backbone gives."""
    channels = backbone_channels(config.backbone)
    neck = config.neck
    if neck.type == "SSDNeck":
        levels = len(channels) + len(neck.level_strides)
        neck.in_channels = channels
        neck.out_channels = config.bbox_head.in_channels = (*channels, *neck.out_channels[len(channels) : levels])
    else:
        neck.in_channels = list(reversed(channels) if neck.type == "YOLOV3Neck" else channels)


def backbone_channels(backbone: Any) -> tuple[int, ...]:
    """Channels of a backbone's outputs, by running it on shapes alone, once a process; nothing is drawn from torch's generator."""
    from mmdet.registry import MODELS

    asked = repr(backbone)
    if asked not in _CHANNELS:
        register()
        with torch.random.fork_rng(devices=()), scope(), torch.device("meta"):
            outputs = MODELS.build(backbone)(torch.empty(1, 3, 64, 64))
        _CHANNELS[asked] = tuple(int(output.shape[1]) for output in outputs)
    return _CHANNELS[asked]


def register() -> None:
    """Makes mmdet's parts, and ours, known by name."""
    from mmdet.utils import register_all_modules

    import workers.detectors.distribution
    import workers.detectors.parts
    import workers.detectors.pdf  # noqa: F401
    from workers.detectors.deformable import use_sampling

    register_all_modules(init_default_scope=False)
    use_sampling()


def scope() -> Any:
    """A context in which names in configs are mmdet's."""
    from mmengine.registry import DefaultScope

    return DefaultScope.overwrite_default_scope("mmdet")


def build(network: Network, classes: int, frozen_stages: int | None = None) -> nn.Module:
    """The network with freshly drawn weights (from torch's global generator).

    frozen_stages: first stages of its backbone that do not train, with the stem; None: as its config has it.
    """
    from mmdet.registry import MODELS

    from workers.detectors.assigning.heads import assign_in_batches

    register()
    config = model_config(network, classes)
    if frozen_stages or (frozen_stages is not None and "frozen_stages" in config.backbone):
        config.backbone.frozen_stages = frozen_stages or -1  # to mmdet 0 is the stem alone
    with scope():
        model = MODELS.build(config)
        model.init_weights()
    still_offsets(model)
    assign_in_batches(model)
    return model


def still_offsets(model: nn.Module) -> None:
    """Lets deformable convolutions start as plain ones (Dai et al. 2017, 2.1): where mmdet draws a whole backbone it draws offsets too, of
    pixels, through which gradients grow two- to threefold a layer."""
    from mmcv.ops import DeformConv2dPack, ModulatedDeformConv2dPack

    for module in model.modules():
        if isinstance(module, (DeformConv2dPack, ModulatedDeformConv2dPack)):
            module.init_offset()


def sized_by_classes(network: Network) -> frozenset[str]:
    """Names of the tensors of a network whose size follows from the number of classes."""
    few, more = (build(network, classes).state_dict() for classes in (2, 3))
    return frozenset(name for name in few if few[name].shape != more[name].shape)


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
