"""The distillation step: student and teacher run forward once each, and distillers turn what was recorded into losses.

Nothing of the teacher is part of the student's state or optimizer.
"""

from __future__ import annotations

import functools
import importlib
from dataclasses import replace
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from studies.catalog import in_form
from studies.methods import methods
from studies.methods.base import device_shares
from studies.spec import MethodUse
from workers.detectors.inputs import preprocessor_of
from workers.detectors.memory import memory_of, remember
from workers.detectors.mixup import mixtures
from workers.distillation.base import Distiller
from workers.distillation.captures import Capture, Recorder, RoIs, in_float, on_same_rois
from workers.distillation.step import NetworkInfo, Outputs, Step
from workers.distillation.teacher import Teacher


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

    The state holds `student.*` and `distillers.*`; the teacher is kept outside. teacher: an mmdet detector, or a Teacher that other
    students have too.
    """

    def __init__(self, student: Any, teacher: Any, uses: list[MethodUse], infos: tuple[NetworkInfo, NetworkInfo]) -> None:
        taught_by = teacher if isinstance(teacher, Teacher) else Teacher(teacher)
        super().__init__(data_preprocessor=preprocessor_of(student, taught_by.detector))
        self.student, self.taught_by = student, taught_by
        distillers = [build_distiller(use, *infos) for use in uses]
        self.distillers = nn.ModuleList(distillers)
        self.weighted = list(zip(distillers, (_resolved(use, *infos) for use in uses), strict=True))
        self.iteration = 0  # set by the training loop before each step
        self.exact_head = any(d.exact_head for d in distillers)
        self.recorder = Recorder(student, frozenset[type[Capture[Any]]]().union(*(d.captures for d in distillers)))
        self.taught_by.take_on(distillers)
        for distiller in distillers:
            distiller.inherit(student, self.teacher)
        self._anchors: dict[tuple[tuple[int, int], ...], list[Tensor]] = {}

    @property
    def teacher(self) -> Any:
        return self.taught_by.detector

    def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = "tensor", teacher_inputs: Tensor | None = None) -> Any:
        """mmdet's: losses, predictions or raw outputs of the student. teacher_inputs: the same images where the teacher takes others."""
        taught = inputs if teacher_inputs is None else teacher_inputs
        if mode != "loss":
            result = self.student(inputs, data_samples, mode=mode)
            self.recorder.forget()  # nothing of a prediction is left for the next training step
            return result
        losses = self.student(inputs, data_samples, mode="loss")
        neck, student = self.recorder.neck, self.recorder.take()
        levels, teacher = self.taught_by.look(taught, self.exact_head)
        if RoIs in student.captured:
            teacher = replace(teacher, captured=teacher.captured | {RoIs: on_same_rois(self.teacher, levels, student.of(RoIs))})
        for distiller, _ in self.weighted:
            scale_losses(losses, distiller.own_loss_factors())
        with torch.autocast(inputs.device.type, enabled=False):
            step = Step(
                student=student,
                teacher=teacher,
                gt_boxes=[],  # below
                gt_labels=[],
                image_shape=(int(inputs.shape[-2]), int(inputs.shape[-1])),
                iteration=self.iteration,
                anchors=lambda: self._anchors_of(student),
                data_samples=data_samples,
                own_losses=losses,
                gradients=functools.cache(lambda: self._gradients(losses, neck)),
                teacher_gradients=functools.cache(lambda: self._teacher_gradients(levels, taught, data_samples)),
            )
            of_method: dict[str, Tensor] = {}
            for share, instances in mixtures(data_samples):
                boxes, labels = [_boxes(each) for each in instances], [each.labels for each in instances]
                of_objects = replace(step, gt_boxes=boxes, gt_labels=labels)
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

    def _gradients(self, losses: dict[str, Any], neck: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Gradients of the student's own losses with respect to its pyramid; zero on a level that they do not depend on."""
        total, _ = self.parse_losses(losses)
        found = torch.autograd.grad(total, neck, retain_graph=True, allow_unused=True)
        return tuple(torch.zeros_like(level) if each is None else each.float() for each, level in zip(found, neck, strict=True))

    def _teacher_gradients(self, levels: tuple[Tensor, ...], inputs: Tensor, data_samples: Any) -> tuple[Tensor, ...]:
        """Likewise of the teacher's losses with respect to its pyramid `levels`. The teacher remembers nothing of them."""
        memory = memory_of(self.teacher)
        with torch.enable_grad():
            neck = tuple(level.requires_grad_() for level in in_float(level.detach() for level in levels))
            losses = losses_on(self.teacher, neck, inputs, data_samples)
            found = self._gradients(losses, neck)
        remember(self.teacher, memory)
        self.taught_by.recorder.forget()
        return found

    def _anchors_of(self, outputs: Outputs) -> list[Tensor]:
        """Anchors per level, (H_l*W_l*A, 4) xyxy pixels; kept per feature size."""
        sizes = tuple((int(m.shape[-2]), int(m.shape[-1])) for m in outputs.logits)
        if sizes not in self._anchors:
            self._anchors[sizes] = self.recorder.head.prior_generator.grid_priors(sizes, device=outputs.logits[0].device)
        return self._anchors[sizes]


def losses_on(detector: Any, levels: tuple[Tensor, ...], inputs: Tensor, data_samples: Any) -> dict[str, Any]:
    """The losses of an mmdet detector in eval mode whose pyramid is given instead of being made from the images.

    Some heads (FCOS', RepPoints', Grid R-CNN's) give their losses other outputs than their predictions, by their `training`; norms and
    dropout stay as they are.
    """
    modules = [module for module in detector.modules() if not isinstance(module, (nn.modules.batchnorm._NormBase, nn.Dropout))]
    detector.extract_feat = lambda _: levels
    try:
        for module in modules:
            module.training = True
        losses: dict[str, Any] = detector.loss(inputs, data_samples)
    finally:
        del detector.extract_feat
        detector.eval()
    return losses


def _boxes(instances: Any) -> Tensor:
    boxes = instances.bboxes
    return getattr(boxes, "tensor", boxes)  # mmdet's HorizontalBoxes or a plain tensor
