"""Backbones pretrained at nano, as ImageNet's are at paper scale: once on a machine, by telling single digits apart, for all its trials.

A file is named by everything that decides its content, so another network or recipe, or changed code, makes another file.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import workers.datasets.digits as digits
from studies.recipes import Pretraining
from studies.spec import Network
from workers.detectors.configs import config_of, model_config, register, scope
from workers.detectors.families import NORMALISATION
from workers.files import write_checkpoint

CONTEXT = (0.8, 1.2)  # side of a crop over the longer side of the digit's box
UNTAUGHT = {"dcn", "stage_with_dcn", "init_cfg", "num_stages"}  # settings that plain backbones of one kind do not differ in
SHIFT = 0.1  # most that a crop's middle is off the digit's, over its side


def pretrained(network: Network, recipe: Pretraining, data: Path) -> Path:
    """The file with the backbone's weights under `data`; made if it is not there, while other processes wait."""
    path = pretrained_file(network, recipe, data)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            write_checkpoint({"state_dict": pretrain(backbone_config(network), recipe)}, path)
    return path


def pretrained_file(network: Network, recipe: Pretraining, data: Path) -> Path:
    """Where the backbone's weights are under `data`, or will be."""
    name = f"{network.backbone.removesuffix('_dcn')}-{_digest(backbone_config(network), recipe)}.pth"
    return data / "pretrained" / name


def load_pretrained(detector: Any, path: Path) -> None:
    """Gives a detector's backbone the weights of a file; the offsets of deformable convolutions, which it has none of, stay zero."""
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    missing, unknown = detector.backbone.load_state_dict(state, strict=False)
    if unknown or any("conv_offset" not in name for name in missing):
        raise ValueError(f"{path.name} is of another backbone: {[*unknown, *missing][0]!r} first")


def backbone_config(network: Network) -> dict[str, Any]:
    """The mmdet config of a network's backbone, its deformable convolutions plain."""
    config = model_config(network, digits.CLASSES).backbone.to_dict()
    return {key: value for key, value in config.items() if key not in UNTAUGHT}


def pretrain(config: dict[str, Any], recipe: Pretraining) -> dict[str, Tensor]:
    """The weights of a backbone that has learnt to tell digits apart. One CPU thread, and torch's generator as it was."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            return _trained(config, recipe)
    finally:
        torch.set_num_threads(before)


def _trained(config: dict[str, Any], recipe: Pretraining) -> dict[str, Tensor]:
    from mmdet.registry import MODELS

    register()
    images, labels = (torch.from_numpy(array) for array in crops(recipe))
    with scope():
        backbone = MODELS.build(config_of(config))
        backbone.init_weights()
    classifier = Classifier(backbone, recipe.size)
    layers = sum(isinstance(module, nn.Conv2d) for module in backbone.modules())
    steps = min(recipe.steps, recipe.layer_steps // layers)
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, total_steps=steps, pct_start=0.1)
    classifier.train()
    for _ in range(steps):
        chosen = torch.randint(len(images), (recipe.batch,))
        loss = nn.functional.cross_entropy(classifier(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return {name: tensor.detach().clone() for name, tensor in backbone.state_dict().items()}


class Classifier(nn.Module):
    """A backbone, the mean of its last map, and one layer: images (N, S, S, 3) uint8 BGR -> logits (N, 10)."""

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, size: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.register_buffer("mean", torch.tensor(NORMALISATION["mean"]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(NORMALISATION["std"]).view(1, 3, 1, 1))
        backbone.eval()
        with torch.no_grad():
            channels = backbone(torch.zeros(1, 3, size, size))[-1].shape[1]
        self.classify = nn.Linear(channels, digits.CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        planes = (images.flip(-1).permute(0, 3, 1, 2).float() - self.mean) / self.std
        logits: Tensor = self.classify(self.backbone(planes)[-1].mean((2, 3)))
        return logits


def crops(recipe: Pretraining, split: str = "train") -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Digits (N, S, S, 3) uint8 BGR cut out of scenes of the split's scans, and their classes (N,)."""
    scans, labels, pools = digits.scans_of_splits()
    rng = np.random.default_rng([recipe.seed, recipe.crops])
    cut: list[NDArray[np.uint8]] = []
    classes: list[int] = []
    while len(cut) < recipe.crops:
        scene, objects = digits.compose(rng, scans, labels, pools[split])
        cut += [crop(rng, scene, each["bbox"], recipe.size) for each in objects]
        classes += [each["category_id"] for each in objects]
    return np.stack(cut[: recipe.crops]), np.array(classes[: recipe.crops], np.int64)


def crop(rng: np.random.Generator, scene: NDArray[np.uint8], box: list[int], size: int) -> NDArray[np.uint8]:
    """A square around a box (xywh) with some context, scaled to `size`; beyond the scene its border goes on."""
    import cv2

    side = max(box[2:]) * rng.uniform(*CONTEXT)
    corner = np.array(box[:2]) + np.array(box[2:]) / 2 - side / 2 + rng.uniform(-SHIFT, SHIFT, 2) * side
    scale = size / side
    transform = np.column_stack([np.eye(2) * scale, -corner * scale])
    cut: NDArray[np.uint8] = cv2.warpAffine(scene, transform, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return cut


def _digest(config: dict[str, Any], recipe: Pretraining) -> str:
    """Of the network, the recipe and the code that composes, cuts out and trains; its first 12 digits."""
    sources = [Path(path).read_text() for path in (__file__, digits.__file__)]
    content = json.dumps([config, asdict(recipe), sources], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]
