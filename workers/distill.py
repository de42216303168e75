"""The distillation step: student and teacher run forward once each, and distillers turn what was recorded into losses.

Recording works by forward hooks, so mmdet's models and losses stay as they are; nothing of the teacher is part of the
student's state or optimizer.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from studies.catalog import in_form
from studies.methods import methods
from studies.methods.base import device_shares
from studies.spec import MethodUse
from workers.detectors import assignment, head_outputs
from workers.distillers.base import Distiller, NetworkInfo, Outputs, RoIOutputs, Step, Targets
from workers.inputs import preprocessor_of
from workers.mixup import mixtures
from workers.roi import RoIRecorder, on_same_rois


class Recorder:
    """Keeps the outputs of the latest forward pass of one detector. Call `take` once per step."""

    def __init__(self, model: Any, captures: frozenset[str]) -> None:
        self.head = model.rpn_head if hasattr(model, "rpn_head") else model.bbox_head
        self.kept: dict[str, Any] = {}
        self.targets: Targets | None = None
        model.neck.register_forward_hook(self._keeper("neck"))
        self.head.register_forward_hook(self._keeper("head"))
        if "backbone" in captures:
            model.backbone.register_forward_hook(self._keeper("backbone"))
        if "pre_relu" in captures:
            self.kept["pre_relu"] = {}
            for name in model.backbone.res_layers:
                self._record_pre_relu(getattr(model.backbone, name)[-1], name)
        if "tower" in captures:
            self.kept["tower"] = {}
            for branch in ("cls", "reg"):
                self._record_tower(branch, getattr(self.head, f"{branch}_convs"))
        if "targets" in captures:
            self._record_targets()

    def _keeper(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            self.kept[name] = output

        return keep

    def _record_pre_relu(self, block: Any, name: str) -> None:
        """Keeps the input of the block's last ReLU; the ReLU gets a copy, since it works in place."""
        calls = 2 if hasattr(block, "norm2") and not hasattr(block, "norm3") else 3
        seen = 0

        def keep(module: nn.Module, inputs: tuple[Tensor]) -> Tensor | None:
            nonlocal seen
            seen += 1
            if seen % calls:
                return None
            self.kept["pre_relu"][name] = inputs[0]
            return inputs[0].clone()

        block.relu.register_forward_pre_hook(keep)

    def _record_tower(self, branch: str, convs: Any) -> None:
        """Keeps the features of a head tower before the activation of the conv that cross-head distillation reads."""
        from workers.distillers.crosskd import tower_index

        levels: list[Tensor] = self.kept["tower"].setdefault(branch, [])

        def keep(module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
            levels.append(inputs[0])
            return inputs[0].clone()

        convs[tower_index(self.head)].activate.register_forward_pre_hook(keep)

    def _record_targets(self) -> None:
        """Keeps what the head's own assignment gives to its loss, by wrapping `get_targets` on this instance."""
        assign = self.head.get_targets

        def recorded(*args: Any, **kwargs: Any) -> Any:
            result = assign(*args, **kwargs)
            self.targets = assignment(result, images=len(self.kept["neck"][0]))
            return result

        self.head.get_targets = recorded

    def take(self) -> Outputs:
        """The outputs since the last call, in float32; forgets them."""
        tower = {branch: _float(tuple(levels)) for branch, levels in self.kept.get("tower", {}).items()}
        outputs = Outputs(
            backbone=_float(self.kept.pop("backbone", ())),
            neck=_float(self.kept.pop("neck")),
            pre_relu=_float(tuple(self.kept.get("pre_relu", {}).values())),
            tower=tower,
        )
        if "head" in self.kept:
            for name, maps in head_outputs(self.head, self.kept.pop("head")).items():
                setattr(outputs, name, maps if maps is None else _float(maps))
        for levels in self.kept.get("tower", {}).values():
            levels.clear()
        return outputs

    def take_targets(self) -> Targets:
        """The student's assignment of this step."""
        assert self.targets is not None, "targets were not recorded: name 'targets' in the distiller's captures"
        return self.targets


def _float(maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return tuple(m.float() for m in maps)


def scale_losses(losses: dict[str, Any], factors: dict[str, float]) -> None:
    """Multiplies the losses that `factors` names and that there are, in place; mmdet gives a tensor or one per level."""
    for name in factors.keys() & losses.keys():
        value, factor = losses[name], factors[name]
        losses[name] = [v * factor for v in value] if isinstance(value, (list, tuple)) else value * factor


def _resolved(use: MethodUse, student: NetworkInfo, teacher: NetworkInfo) -> MethodUse:
    """A distiller with nothing left open for these networks."""
    ours, theirs = (in_form(network.detector, network.form, network.backbone) for network in (student, teacher))
    return use.resolved(ours, theirs)


def build_distiller(use: MethodUse, student: NetworkInfo, teacher: NetworkInfo) -> Distiller:
    """The distiller a spec names, with its options settled for these networks."""
    method = methods()[use.id]
    module, name = method.implementation.split(":")
    options = method.options.model_validate(_resolved(use, student, teacher).options)
    distiller: Distiller = getattr(importlib.import_module(module), name)(options, student, teacher)
    return distiller


def over_devices(distiller: Distiller, step: Step, per_device: int | None) -> dict[str, Tensor]:
    """The losses of a distiller as devices with at most `per_device` images of the step would average them; None: all at once.

    Each device counts alike, as in the mean of gradients that devices take, also where it has fewer images than another.
    """
    sizes = [step.images] if per_device is None else device_shares(step.images, per_device)
    if len(sizes) == 1:
        return distiller(step)
    parts = [distiller(part) for part in step.parts(sizes)]
    return {name: torch.stack([losses[name] for losses in parts]).mean() for name in parts[0]}


class DistilledDetector(BaseModel):
    """A student that trains on its own losses plus those of its distillers.

    The state holds `student.*` and `distillers.*`; the teacher is kept outside (in a tuple, so that torch does not
    register it), in eval mode, without gradients.
    """

    def __init__(self, student: Any, teacher: Any, uses: list[MethodUse], infos: tuple[NetworkInfo, NetworkInfo]) -> None:
        super().__init__(data_preprocessor=preprocessor_of(student, teacher))
        self.student = student
        self._outside = (teacher.eval().requires_grad_(False),)
        distillers = [build_distiller(use, *infos) for use in uses]
        self.distillers = nn.ModuleList(distillers)
        self.weighted = list(zip(distillers, (_resolved(use, *infos) for use in uses), strict=True))
        self.iteration = 0  # set by the training loop before each step
        captures = frozenset[str]().union(*(d.captures for d in distillers))
        self.teacher_head = any(d.reads_head for d in distillers)
        self.exact_head = any(d.exact_head for d in distillers)
        self.recorder = Recorder(student, captures)
        self.teacher_recorder = Recorder(teacher, captures - {"targets", "roi"})
        self.roi_recorder = RoIRecorder(student) if "roi" in captures else None
        for distiller in distillers:
            distiller.inherit(student, teacher)
        self._anchors: dict[tuple[tuple[int, int], ...], list[Tensor]] = {}

    @property
    def teacher(self) -> Any:
        return self._outside[0]

    def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = "tensor", teacher_inputs: Tensor | None = None) -> Any:
        """mmdet's: losses, predictions or raw outputs of the student. teacher_inputs: the same images where the teacher takes others."""
        taught = inputs if teacher_inputs is None else teacher_inputs
        if mode != "loss":
            result = self.student(inputs, data_samples, mode=mode)
            self.recorder.take()  # nothing of a prediction is left for the next training step
            return result
        with self.roi_recorder or nullcontext():
            losses = self.student(inputs, data_samples, mode="loss")
        with torch.no_grad():
            levels = self.teacher.extract_feat(taught)
            if self.exact_head:
                with torch.autocast(inputs.device.type, enabled=False):
                    self.teacher_recorder.head(_float(levels))
            elif self.teacher_head:
                self.teacher_recorder.head(levels)
            student_rois, teacher_rois = self._rois(levels)
        for distiller, _ in self.weighted:
            scale_losses(losses, distiller.own_loss_factors())
        with torch.autocast(inputs.device.type, enabled=False):
            step = replace(self._step(inputs), student_rois=student_rois, teacher_rois=teacher_rois)
            of_method: dict[str, Tensor] = {}
            for share, instances in mixtures(data_samples):
                of_objects = replace(step, gt_boxes=[_boxes(i) for i in instances], gt_labels=[i.labels for i in instances])
                for name, value in self._distilled(of_objects).items():
                    of_method[name] = of_method[name] + share * value if name in of_method else share * value
        for name in of_method.keys() & losses.keys():
            raise ValueError(f"the detector and a distiller both give {name!r}; a loss has a name of its own, loss_...")
        return losses | of_method

    def _distilled(self, step: Step) -> dict[str, Tensor]:
        """The losses of all distillers, ramped and weighted."""
        losses: dict[str, Tensor] = {}
        for distiller, use in self.weighted:
            ramp = min(1.0, self.iteration / distiller.ramp_iterations) if distiller.ramp_iterations else 1.0
            for name, value in over_devices(distiller, step, use.per_device_images).items():
                if not name.startswith("loss") or name in losses:
                    raise ValueError(f"{type(distiller).__name__} gives {name!r}; a loss has a name of its own, loss_...")
                losses[name] = use.weight * ramp * value
        return losses

    def _rois(self, levels: tuple[Tensor, ...]) -> tuple[RoIOutputs | None, RoIOutputs | None]:
        """The student's RoI outputs and the teacher's on the same proposals, where a distiller reads them."""
        if self.roi_recorder is None:
            return None, None
        student = self.roi_recorder.take()
        return student, on_same_rois(self.teacher, levels, student)

    def _step(self, inputs: Tensor) -> Step:
        """The outputs of both networks; objects are set by the caller."""
        student = self.recorder.take()
        return Step(
            student=student,
            teacher=self.teacher_recorder.take(),
            gt_boxes=[],
            gt_labels=[],
            image_shape=(int(inputs.shape[-2]), int(inputs.shape[-1])),
            iteration=self.iteration,
            anchors=lambda: self._anchors_of(student),
            targets=self.recorder.take_targets,
        )

    def _anchors_of(self, outputs: Outputs) -> list[Tensor]:
        """Anchors per level, (H_l*W_l*A, 4) xyxy pixels; kept per feature size."""
        sizes = tuple((int(m.shape[-2]), int(m.shape[-1])) for m in outputs.logits)
        if sizes not in self._anchors:
            self._anchors[sizes] = self.recorder.head.prior_generator.grid_priors(sizes, device=outputs.logits[0].device)
        return self._anchors[sizes]


def _boxes(instances: Any) -> Tensor:
    boxes = instances.bboxes
    return getattr(boxes, "tensor", boxes)  # mmdet's HorizontalBoxes or a plain tensor
