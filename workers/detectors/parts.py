"""Parts that mmdet lacks: DarkNet-53 and VGG-16 of another width, which no config can choose, and an SSD head that predicts.

These backbones are built at full width and every convolution is replaced by one of other channels, so the graph is the published one.
"""

from typing import Any

from mmdet.models.backbones import SSDVGG, Darknet
from mmdet.models.backbones.darknet import ResBlock
from mmdet.models.dense_heads import SSDHead
from mmdet.registry import MODELS
from torch import nn

FULL_WIDTH = 64  # channels of VGG-16's first convolutions, and of DarkNet-53's first stage


def resize(module: nn.Module, width: int) -> None:
    """Scales the channels of all convolutions and batch norms inside `module` by width / 64, in place; images keep three."""

    def scaled(channels: int) -> int:
        return channels if channels == 3 else channels * width // FULL_WIDTH

    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d):
            made: nn.Module = nn.Conv2d(
                scaled(child.in_channels),
                scaled(child.out_channels),
                child.kernel_size,  # type: ignore[arg-type]
                child.stride,  # type: ignore[arg-type]
                child.padding,  # type: ignore[arg-type]
                child.dilation,  # type: ignore[arg-type]
                bias=child.bias is not None,
            )
        elif isinstance(child, nn.BatchNorm2d):
            made = nn.BatchNorm2d(scaled(child.num_features), child.eps, child.momentum)
        else:
            resize(child, width)
            continue
        setattr(module, name, made)


@MODELS.register_module()
class ResizedDarknet(Darknet):
    """DarkNet-53 of `width` instead of 64 channels in its first stage."""

    def __init__(self, width: int, **settings: Any) -> None:
        super().__init__(**settings)
        resize(self, width)

    def init_weights(self) -> None:
        """mmdet's, and every residual block starts as the identity, as in mmdet's ResNets: 52 layers learn slowly from scratch."""
        super().init_weights()
        for module in self.modules():
            if isinstance(module, ResBlock):
                nn.init.zeros_(module.conv2.norm.weight)


@MODELS.register_module()
class ResizedSSDVGG(SSDVGG):
    """SSD's VGG-16 of `width` instead of 64 channels in its first convolutions."""

    def __init__(self, width: int, **settings: Any) -> None:
        super().__init__(**settings)
        resize(self, width)


@MODELS.register_module()
class PredictingSSDHead(SSDHead):
    """SSD's head. mmdet's prediction asks every head for its class loss, which SSD's, a function, never was."""

    loss_cls = None
