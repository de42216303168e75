"""The weights with which a distiller samples the cells that its student imitates (PDF-Distil, BMVC 2021, Figs. 1 and 3).

The loss of such a method is sum_cells w sum_c (F^t - phi(F^s))^2 with w free of F^t: half of how its gradient changes when the
teacher's features rise by one is w. So the method's own loss tells its weights, whatever its form and options.
"""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from studies.measures import LEARNT, SAMPLED
from studies.spec import MethodUse
from studies.trial import TrialFailure
from workers.detectors import describe
from workers.distillation.base import Distiller
from workers.distillation.captures import Recorder
from workers.distillation.step import Step
from workers.distillation.student import build_distiller
from workers.files import write_atomically
from workers.geometry.cells import cells_inside
from workers.measuring.pictures import save_image
from workers.measuring.setting import Measured, Setting, View, levels_of
from workers.training.progress import RESUME

MAPS = "sampling.npz"
NECK_ALONE: dict[str, dict[str, Any]] = {"defeat": {"head": False, "backbone_foreground": 0.0, "backbone_background": 0.0}}
LATE = 10**9  # an iteration by which every method has begun


def measure(setting: Setting) -> Measured:
    """Maps `METHOD/POSITION/LEVEL`, float32 (H_l, W_l) that sum to 1 over an image's levels, in `sampling.npz`.

    Metrics: `foreground_METHOD`, the share of the weights on cells whose centre lies in an object, mean over images with both.
    """
    distillers = {use.id: _distiller(setting, index, use) for index, use in enumerate(setting.spec.distillers) if use.id in SAMPLED}
    if not distillers:
        used = ", ".join(use.id for use in setting.spec.distillers)
        raise TrialFailure(
            "user", f"the kind sampling reads the weights of {', '.join(sorted(SAMPLED))}; this student was taught by {used}"
        )
    recorders = Recorder(setting.detector), Recorder(setting.teacher)
    strides = describe(setting.spec.detector.network, setting.detector).strides
    maps: dict[str, Any] = {}
    images, shares = [], dict[str, list[float]]()
    for view in setting.views():
        images.append(save_image(setting, view))
        step = _step(setting, view, recorders)
        for name, distiller in distillers.items():
            weights = shared(cell_weights(distiller, step))
            maps |= {f"{name}/{view.position}/{level}": drawn.float().cpu().numpy() for level, drawn in enumerate(weights)}
            if len(step.gt_boxes[0]) and any(level.any() for level in weights):
                inside = [
                    cells_inside(step.gt_boxes[0], (drawn.shape[0], drawn.shape[1]), stride)
                    for drawn, stride in zip(weights, strides, strict=True)
                ]
                share = float(sum((drawn * cells).sum() for drawn, cells in zip(weights, inside, strict=True)))
                shares.setdefault(f"foreground_{name}", []).append(share)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **maps)
    write_atomically(buffer.getvalue(), setting.folder / MAPS)
    document = {"images": images, "methods": list(distillers), "strides": list(strides)}
    return Measured({name: float(np.mean(values)) for name, values in shares.items()}, document, (MAPS, *(i["file"] for i in images)))


def cell_weights(distiller: Distiller, step: Step) -> list[Tensor]:
    """w of every cell of the first image by a distiller's own loss, summed over channels: per level (H_l, W_l)."""

    def slopes(value: float) -> tuple[Tensor, ...]:
        raised = tuple(torch.full_like(level, value).requires_grad_() for level in step.teacher.neck)
        losses = distiller(replace(step, teacher=replace(step.teacher, neck=raised)))
        return torch.autograd.grad(torch.stack(list(losses.values())).sum(), raised)

    return [(high - low).sum(1)[0].double() / 2 for high, low in zip(slopes(1.0), slopes(0.0), strict=True)]


def shared(weights: list[Tensor]) -> list[Tensor]:
    """The same weights, summing to 1 over all levels (all zero where they are)."""
    total = torch.stack([level.sum() for level in weights]).sum()
    return [level / total.clamp(min=torch.finfo(total.dtype).tiny) for level in weights]


def _distiller(setting: Setting, index: int, use: MethodUse) -> Distiller:
    """A distiller of the student's training; with its trained parts where they make the weights."""
    infos = [
        describe(reference.network, model)
        for reference, model in ((setting.spec.detector, setting.detector), (setting.spec.teacher, setting.teacher))
        if reference
    ]
    alone = use.model_copy(update={"options": use.options | NECK_ALONE.get(use.id, {}), "weight": 1.0})
    distiller = build_distiller(alone, infos[0], infos[1])
    if use.id in LEARNT:
        distiller.load_state_dict(_trained(setting, f"distillers.{index}."))
    return distiller.to(next(setting.detector.parameters()).device).eval()


def _trained(setting: Setting, prefix: str) -> dict[str, Tensor]:
    """A distiller's state at the end of the student's training, from what the trial left beside its checkpoint."""
    path = Path(setting.spec.detector.checkpoint).parent / RESUME
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        state = stored["model"]
    except (OSError, KeyError, RuntimeError) as error:
        raise TrialFailure(
            "user", f"the trained parts of its distiller are gone ({path.name}); train the arm again with force: true"
        ) from error
    own = setting.detector.state_dict()
    exported = {name: state.get(f"student.{name}", torch.empty(0)) for name in own}
    if stored["average"]:  # what is exported is an average of the weights, where there is one
        floating = [name for name, tensor in own.items() if tensor.is_floating_point()]
        exported |= dict(zip(floating, stored["average"]["averages"], strict=True))
    if any(not torch.equal(tensor.cpu(), exported[name]) for name, tensor in own.items()):
        raise TrialFailure("user", f"{path} belongs to another training than the checkpoint beside it")
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _step(setting: Setting, view: View, recorders: tuple[Recorder, Recorder]) -> Step:
    """What a distiller would see of the image in training."""
    outputs = []
    images = (view.inputs, view.taught)
    for model, recorder, inputs in zip((setting.detector, setting.teacher), recorders, images, strict=True):
        levels = levels_of(model, inputs)
        with torch.no_grad():
            recorder.head(levels)
        outputs.append(recorder.take())
    sizes = [tuple(level.shape[2:]) for level in outputs[0].neck]
    objects = view.sample.gt_instances
    return Step(
        student=outputs[0],
        teacher=outputs[1],
        gt_boxes=[getattr(objects.bboxes, "tensor", objects.bboxes)],
        gt_labels=[objects.labels],
        image_shape=(int(view.inputs.shape[2]), int(view.inputs.shape[3])),
        iteration=LATE,
        anchors=lambda: recorders[0].head.prior_generator.grid_priors(sizes, device=view.inputs.device),
    )
