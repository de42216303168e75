"""PDF-Distil's RetinaNet and FCOS: their backbones without stem pooling, context module, FPN or PAFPN, and unshared heads.

    context = ReLU(C4 + up(C5) + mean over cells of C5), each through a 1x1 block     C4 has stride 8, C5 stride 16
    pyramid = a chain of 3x3 blocks on it, all but the first of stride 2              4 levels, strides 8 to 64
    FPN     = 3x3 blocks on 1x1 laterals summed top-down; PAFPN: its levels summed bottom-up, through 3x3 blocks again

A block is convolution, batch norm and ReLU. Every level has heads of its own: a 3x3 block and a 3x3 convolution. Targets are
assigned by Mutual Guidance. Source: Zhang et al., PDF-Distil, BMVC 2021, section 4.1; released code zhanghengdev/MutualGuide@85219f9
models/{student_detector,teacher_detector}.py, models/neck/*.py, models/backbone/*.py, utils/box/prior_box.py. Its later
depthwise blocks for ShuffleNetV2 are not used.
"""

import math
from typing import Any

import torch
from mmcv.ops import batched_nms
from mmdet.models.backbones import ResNet
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.nn import functional as F

from studies.spec import Network
from workers.detectors.families import NORMALISATION
from workers.detectors.mixup import mixtures
from workers.detectors.mutual_guidance import corners, decode, detection_loss
from workers.geometry.levels import flatten_levels

STRIDES = (8, 16, 32, 64)
PRIOR_SCALE = 3  # side of a prior in strides: 24 pixels at stride 8
STEMS = {"shufflenetv2_0.5": (24, 48, 96, 192), "shufflenetv2_1.0": (24, 116, 232, 464)}  # channels of stem and stages
WIDTH, NANO_SHARE = {"resnet": 256, "shufflenet": 128}, 8  # channels of neck and heads; at nano an eighth


def pdf_config(network: Network, classes: int) -> Any:
    """The mmdet model config of a network in the form `pdf_fpn` or `pdf_pafpn`."""
    from mmengine.config import ConfigDict

    base = network.width or 64
    kind = "shufflenet" if network.backbone in STEMS else "resnet"
    width = WIDTH[kind] // (NANO_SHARE if network.width else 1)
    if kind == "shufflenet":
        stages = tuple(max(4, channels * base // 64 // 2 * 2) for channels in STEMS[network.backbone])
        backbone: dict[str, Any] = {"type": "UnpooledShuffleNetV2", "channels": stages}
    else:
        stages = tuple(base * 2**stage for stage in range(4))
        depth = int(network.backbone.removeprefix("resnet"))
        backbone = {"type": "UnpooledResNet", "depth": depth, "base_channels": base, "stem_channels": base, "norm_eval": False}
    return ConfigDict(
        type="SingleStageDetector",
        data_preprocessor={"type": "MixingPreprocessor", "pad_size_divisor": 64, **NORMALISATION},
        backbone=backbone,
        neck={
            "type": "ContextPyramid",
            "in_channels": stages[2:],
            "out_channels": width,
            "bottom_up": network.form == "pdf_pafpn",
        },
        bbox_head={"type": "UnsharedHead", "num_classes": classes, "in_channels": width, "anchors": network.detector == "retinanet"},
        test_cfg={"score_thr": 0.01, "nms": {"type": "nms", "iou_threshold": 0.5, "class_agnostic": True}, "max_per_img": 100},
    )


def block(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, active: bool = True) -> nn.Sequential:
    """Convolution, batch norm and, where `active`, ReLU."""
    layers = [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2), nn.BatchNorm2d(outputs, momentum=0.01)]
    return nn.Sequential(*layers, *[nn.ReLU(inplace=True)] * active)


@MODELS.register_module()
class UnpooledResNet(ResNet):
    """ResNet without max-pooling in its stem; gives C4 (stride 8) and C5 (stride 16)."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(out_indices=(2, 3), **settings)
        self.maxpool = nn.Identity()


class ShuffleUnit(nn.Module):
    """A unit of ShuffleNetV2 (Ma et al., ECCV 2018): half of the channels pass, the other half is convolved, then both mix.

    A unit of stride 2 convolves all channels in both halves.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        half = outputs // 2
        self.stride = stride

        def depthwise(channels: int) -> list[nn.Module]:
            return [nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False), nn.BatchNorm2d(channels)]

        def pointwise(channels: int) -> list[nn.Module]:
            return [nn.Conv2d(channels, half, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU(inplace=True)]

        self.passing = nn.Sequential(*depthwise(inputs), *pointwise(inputs)) if stride > 1 else nn.Identity()
        self.convolved = nn.Sequential(*pointwise(inputs if stride > 1 else half), *depthwise(half), *pointwise(half))

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, 1) if self.stride == 1 else (x, x)
        both = torch.stack([self.passing(left), self.convolved(right)], 2)  # interleaved: the shuffle
        return both.flatten(1, 2)


@MODELS.register_module()
class UnpooledShuffleNetV2(BaseModule):
    """ShuffleNetV2 without max-pooling in its stem; gives its last two stages (strides 8 and 16).

    channels: of the stem and the three stages.
    """

    def __init__(self, channels: tuple[int, int, int, int], init_cfg: Any = None) -> None:
        super().__init__(init_cfg)
        stem = channels[0]
        self.stem = nn.Sequential(nn.Conv2d(3, stem, 3, 2, 1, bias=False), nn.BatchNorm2d(stem), nn.ReLU(inplace=True))
        self.stages = nn.ModuleList(
            nn.Sequential(ShuffleUnit(inputs, outputs, 2), *(ShuffleUnit(outputs, outputs, 1) for _ in range(units - 1)))
            for inputs, outputs, units in zip(channels, channels[1:], (4, 8, 4), strict=False)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first, second, third = self.stages
        middle = second(first(self.stem(x)))
        return middle, third(middle)


@MODELS.register_module()
class ContextPyramid(BaseModule):
    """Context module, pyramid and FPN (`bottom_up`: PAFPN); see the module."""

    def __init__(self, in_channels: tuple[int, int], out_channels: int, bottom_up: bool, init_cfg: Any = None) -> None:
        super().__init__(init_cfg)
        self.in_channels, self.out_channels, self.num_outs = in_channels, out_channels, len(STRIDES)
        (fine, coarse), width, levels = in_channels, out_channels, range(len(STRIDES))
        self.context = nn.ModuleList(block(channels, width, 1, active=False) for channels in (fine, coarse, coarse))
        self.chain = nn.ModuleList(block(width, width, stride=1 if level == 0 else 2) for level in levels)
        self.laterals = nn.ModuleList(block(width, width, 1) for _ in levels)
        self.outputs = nn.ModuleList(block(width, width) for _ in levels)
        self.steps = nn.ModuleList(block(width, width, stride=2) for _ in levels[1:]) if bottom_up else None
        self.refined = nn.ModuleList(block(width, width) for _ in levels) if bottom_up else None

    def forward(self, x: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        fine, coarse = x
        near, far, whole = self.context
        wide = F.interpolate(far(coarse), size=fine.shape[-2:], mode="nearest")
        maps = (near(fine) + wide + self._whole(whole, coarse)).relu()
        levels = [maps := step(maps) for step in self.chain]
        sums = [lateral(level) for lateral, level in zip(self.laterals, levels, strict=True)]
        for low in reversed(range(len(sums) - 1)):
            sums[low] = sums[low] + F.interpolate(sums[low + 1], size=sums[low].shape[-2:], mode="nearest")
        outputs = [smooth(level) for smooth, level in zip(self.outputs, sums, strict=True)]
        if self.steps is None or self.refined is None:
            return tuple(outputs)
        for index, step in enumerate(self.steps):
            outputs[index + 1] = outputs[index + 1] + step(outputs[index])
        return tuple(refine(level) for refine, level in zip(self.refined, outputs, strict=True))

    def _whole(self, project: nn.Module, coarse: Tensor) -> Tensor:
        """The image's mean feature through its block; a batch of one has no variance, so it is normalised as at test time."""
        mean = coarse.mean((2, 3), keepdim=True)
        if len(mean) > 1 or not self.training:
            return project(mean)
        project.eval()
        result = project(mean)
        project.train()
        return result


class Priors:
    """The priors of a cell: six boxes of a RetinaNet, one of an FCOS; centred, sides a multiple of the stride.

    Level by level, cell by cell, prior by prior, like the head's outputs.
    """

    def __init__(self, anchors: bool) -> None:
        self.strides = [(stride, stride) for stride in STRIDES]
        root = math.sqrt(2)
        shapes = [(1.0, 1.0), (root, 1 / root), (1 / root, root)]
        self.shapes = [(w * size, h * size) for size in (1.0, root) for w, h in shapes] if anchors else [(1.0, 1.0)]
        self.num_base_priors = [len(self.shapes)] * len(STRIDES)
        self._made: dict[Any, tuple[Tensor, Tensor]] = {}

    def relative(self, sizes: list[tuple[int, int]], device: Any) -> tuple[Tensor, Tensor]:
        """(P, 4) centre x, centre y, width, height in [0, 1] of the input, for levels of the given (height, width) in cells; and the
        input's (width, height, width, height) in pixels. Kept, so that a step copies nothing to the device."""
        key = (*sizes, str(device))
        if key not in self._made:
            self._made[key] = self._relative(sizes).to(device), self._pixels(sizes).repeat(2).to(device)
        return self._made[key]

    def _relative(self, sizes: list[tuple[int, int]]) -> Tensor:
        levels = []
        for (height, width), (stride, _) in zip(sizes, self.strides, strict=True):
            y, x = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij")
            sides = torch.tensor(self.shapes) * PRIOR_SCALE * stride / self._pixels(sizes)
            centres = torch.stack([x, y], 2).view(-1, 1, 2).expand(-1, len(sides), 2)
            levels.append(torch.cat([centres, sides.expand(len(centres), -1, 2)], 2).reshape(-1, 4))
        return torch.cat(levels).clamp(0, 1)

    def _pixels(self, sizes: list[tuple[int, int]]) -> Tensor:
        height, width = sizes[0]
        return torch.tensor([width, height]) * STRIDES[0]

    def grid_priors(self, sizes: list[tuple[int, int]], device: Any = "cpu", **_: Any) -> list[Tensor]:
        """Per level (H_l*W_l*A, 4) xyxy in pixels, as mmdet's prior generators give them."""
        priors, frame = self.relative(sizes, device)
        boxes = corners(priors) * frame
        return list(boxes.split([h * w * len(self.shapes) for h, w in sizes]))


@MODELS.register_module()
class UnsharedHead(BaseModule):
    """Class and box heads of every level for itself, trained with Mutual Guidance.

    anchors: RetinaNet's six boxes, the assignment of the ACCV paper and Balanced L1 on coded boxes; else FCOS's one prior, the
    dynamic assignment of points, and GIoU.
    """

    def __init__(
        self, num_classes: int, in_channels: int, anchors: bool, train_cfg: Any = None, test_cfg: Any = None, init_cfg: Any = None
    ) -> None:
        super().__init__(init_cfg)
        self.num_classes, self.in_channels, self.anchors, self.test_cfg = num_classes, in_channels, anchors, test_cfg
        self.prior_generator = Priors(anchors)
        count = len(self.prior_generator.shapes)
        self.boxes = self._heads(count * 4)
        self.classes = self._heads(count * num_classes)

    def _heads(self, outputs: int) -> nn.ModuleList:
        width = self.in_channels
        return nn.ModuleList(nn.Sequential(block(width, width), nn.Conv2d(width, outputs, 3, padding=1)) for _ in STRIDES)

    def init_weights(self) -> None:
        """Last convolutions near zero; every class starts at a probability of 0.01."""
        for heads, bias in ((self.boxes, 0.0), (self.classes, -math.log(99))):
            for head in heads:
                nn.init.normal_(head[-1].weight, std=0.01)  # type: ignore[index]
                nn.init.constant_(head[-1].bias, bias)  # type: ignore[index]

    def forward(self, x: tuple[Tensor, ...]) -> tuple[list[Tensor], list[Tensor]]:
        """Class logits (N, A*K, H_l, W_l) and coded boxes (N, A*4, H_l, W_l) per level."""
        return [h(f) for h, f in zip(self.classes, x, strict=True)], [h(f) for h, f in zip(self.boxes, x, strict=True)]

    def _flat(self, x: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Logits (N, P, K), coded boxes (N, P, 4), priors (P, 4), and the input's (width, height, width, height)."""
        logits, deltas = self(x)
        sizes = [(int(m.shape[-2]), int(m.shape[-1])) for m in logits]
        flat = flatten_levels(logits, self.num_classes).float(), flatten_levels(deltas, 4).float()
        return *flat, *self.prior_generator.relative(sizes, logits[0].device)

    def loss(self, x: tuple[Tensor, ...], batch_data_samples: list[Any]) -> dict[str, Tensor]:
        """Box and class loss of a batch; of mixed images, those of either image's objects in its share."""
        logits, deltas, priors, frame = self._flat(x)
        form, box_loss = ("accv", "balanced_l1") if self.anchors else ("dynamic", "giou")
        boxes, labels = [], []
        for share, instances in mixtures(batch_data_samples):
            gt_boxes = [getattr(i.bboxes, "tensor", i.bboxes) / frame for i in instances]
            box, label = detection_loss(deltas, logits, priors, gt_boxes, [i.labels for i in instances], form, self.anchors, box_loss)  # type: ignore[arg-type]
            boxes.append(share * box)
            labels.append(share * label)
        return {"loss_cls": torch.stack(labels).sum(), "loss_bbox": torch.stack(boxes).sum()}

    def predict(self, x: tuple[Tensor, ...], batch_data_samples: list[Any], rescale: bool = False) -> list[InstanceData]:
        """Detections per image, in pixels of the input, or with `rescale` of the original image."""
        logits, deltas, priors, frame = self._flat(x)
        return [
            self._detections(z, decode(d, priors) * frame, sample.metainfo, rescale)
            for z, d, sample in zip(logits.sigmoid(), deltas, batch_data_samples, strict=True)
        ]

    def _detections(self, scores: Tensor, boxes: Tensor, meta: dict[str, Any], rescale: bool) -> InstanceData:
        height, width = meta["img_shape"][:2]
        boxes = boxes.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height]))
        if rescale:
            boxes = boxes / boxes.new_tensor(meta["scale_factor"]).repeat(2)
        where, labels = (scores > self.test_cfg.score_thr).nonzero(as_tuple=True)
        detections, kept = batched_nms(boxes[where], scores[where, labels], labels, dict(self.test_cfg.nms))
        kept = kept[: self.test_cfg.max_per_img]
        return InstanceData(bboxes=detections[: len(kept), :4], scores=detections[: len(kept), 4], labels=labels[kept])
