"""Makes a detector of one's own known to this machine: its mmdet config file becomes plain data, once, by hand.

The file is Python and runs here, as mmdet's tools run it; what trials and the service read later is the YAML file that it leaves.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml

from studies.own_detectors import OwnDetector, OwnDetectorError, path_of
from workers.detectors.configs import parts, register, scope, set_classes
from workers.detectors.reading import head_outputs
from workers.distillation.captures import dense_head
from workers.files import write_atomically

SIDE, CLASSES = 256, 3  # of the image and for the classes that a detector is tried on


def register_detector(name: str, config: Path, title: str | None = None) -> OwnDetector:
    """Registers the detector of an mmdet config file under `$RETORT_HOME/detectors`, if it runs. Raises OwnDetectorError."""
    path = path_of(name)
    if path.exists():
        raise OwnDetectorError(f"a detector {name!r} is registered already; a name keeps its content, so choose another, or remove {path}")
    found = _read(config)
    model = plain(found.model)
    for part in parts(model):
        if isinstance(part.get("init_cfg"), dict) and part["init_cfg"].get("type") == "Pretrained":
            part["init_cfg"] = None  # a trial starts from the store of weights and downloads nothing
    imports = tuple((found.get("custom_imports") or {}).get("imports") or ())
    traits, strides = described(model)
    own = OwnDetector(title=title or name, source=config.name, traits=traits, strides=strides, model=model, imports=imports)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(yaml.safe_dump(own.model_dump(mode="json"), sort_keys=False).encode(), path)
    return own


def _read(config: Path) -> Any:
    from mmengine.config import Config

    register()
    if not config.is_file():
        raise OwnDetectorError(f"there is no file {config}")
    try:
        found = Config.fromfile(str(config))
    except Exception as error:
        raise OwnDetectorError(f"{config} is no mmdet config: {' '.join(str(error).split())[:300]}") from error
    if not isinstance(found.get("model"), dict):
        raise OwnDetectorError(f"{config} has no `model`")
    return found


def plain(value: Any) -> Any:
    """A config's value as JSON has it."""
    if isinstance(value, dict):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise OwnDetectorError(f"its model config holds {value!r}, which is no plain data; write numbers, texts, lists and mappings")


def described(config: dict[str, Any]) -> tuple[frozenset[str], tuple[int, ...]]:
    """What a model config's head offers (`catalog.TRAITS`), and the strides of its pyramid, seen on a picture. Raises OwnDetectorError."""
    from mmdet.registry import MODELS
    from mmengine.config import ConfigDict

    made = ConfigDict(config)
    set_classes(made, CLASSES)
    try:
        with scope():
            model = MODELS.build(made)
        model.eval()
        with torch.no_grad():
            levels = model.extract_feat(torch.zeros(1, 3, SIDE, SIDE))
            head = dense_head(model)
            outputs = head(levels) if hasattr(head, "prior_generator") else None
    except Exception as error:
        raise OwnDetectorError(
            f"its network cannot be built and run: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        ) from error
    if not hasattr(model, "neck"):
        raise OwnDetectorError("its network has no `neck`, whose outputs methods read")
    return frozenset({"neck", *_traits(model, head, outputs)}), tuple(SIDE // int(level.shape[-1]) for level in levels)


def _traits(model: Any, head: Any, outputs: Any) -> set[str]:
    """What is sure of the head: class logits, RoIs, masks. What its priors mean to a method's own assignment is not."""
    traits = set[str]()
    try:
        logits = head_outputs(head, outputs)["logits"] if outputs is not None else None
    except (AttributeError, TypeError, ValueError):
        logits = None
    if logits and all(level.shape[1] % head.num_classes == 0 for level in logits):
        traits.add("dense_logits")
    if hasattr(model, "roi_head"):
        traits |= {"roi_head"} | ({"masks"} if model.roi_head.with_mask else set())
    return traits
