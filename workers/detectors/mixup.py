"""Mixup: two images blended into one, whose losses are those of both images' objects in the same shares.

    x = s x_i + (1 - s) x_j,   L = s L(objects of i) + (1 - s) L(objects of j),   s ~ U(0, 1), j a permutation of the batch

One share s per batch, the same for detection and distillation losses. Source: Zhang et al., PDF-Distil, BMVC 2021, 4.1; released code
zhanghengdev/MutualGuide@a192256 distil_gauss.py (Beta(1, 1), until 80% of the training).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.registry import MODELS
from torch import Tensor

LAST = 0.8  # share of the epochs that mix


@MODELS.register_module()
class MixingPreprocessor(DetDataPreprocessor):
    """mmdet's preprocessor, which in training, while `mixing` is set, blends the images of a batch in pairs.

    A sample of a blended image keeps its own objects in `gt_instances`; its `mixed` is (its own share, the other image's place in the
    batch, the other's objects).
    """

    mixing = False

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """mmdet's batch: inputs (N, 3, H, W) and samples."""
        batch: dict[str, Any] = super().forward(data, training)
        if training and self.mixing:
            share = float(np.random.beta(1.0, 1.0))
            others = torch.randperm(len(batch["inputs"])).tolist()
            objects = [batch["data_samples"][other].gt_instances for other in others]
            for sample, other, its in zip(batch["data_samples"], others, objects, strict=True):
                sample.set_metainfo({"mixed": (share, other, its)})
            batch["inputs"] = blended(batch["inputs"], batch["data_samples"])
        return batch


def blended(inputs: Tensor, samples: list[Any]) -> Tensor:
    """The images (N, 3, H, W) mixed as their samples say; as they are where nothing is mixed."""
    mixed = [sample.metainfo.get("mixed") for sample in samples]
    if not mixed or mixed[0] is None:
        return inputs
    share = mixed[0][0]
    return share * inputs + (1 - share) * inputs[[other for _, other, _ in mixed]]


def mixtures(samples: list[Any]) -> Iterator[tuple[float, list[Any]]]:
    """(share, objects of every image): once with share 1 where nothing is mixed, else the images' own and their partners'."""
    mixed = [sample.metainfo.get("mixed") for sample in samples]
    if not mixed or mixed[0] is None:
        yield 1.0, [sample.gt_instances for sample in samples]
        return
    share = mixed[0][0]
    yield share, [sample.gt_instances for sample in samples]
    yield 1 - share, [objects for _, _, objects in mixed]


def mix_until(model: Any, epoch: int, epochs: int) -> None:
    """Sets whether the model's preprocessor mixes in an epoch (from 0) of a training with mixup."""
    for preprocessor in model.data_preprocessor.modules():
        if isinstance(preprocessor, MixingPreprocessor):
            preprocessor.mixing = epoch < LAST * epochs
