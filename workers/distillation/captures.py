"""Captures: what a method reads of a network beyond its pyramid and its dense head, taken by hooks from the one forward pass.

mmdet's models and losses stay as they are. A capture that one method alone reads stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from workers.detectors import assignment, head_outputs
from workers.distillation.step import Outputs, RoIOutputs, Targets, rois_of, split_levels

T = TypeVar("T")


class Capture(Generic[T]):
    """One thing that one network leaves behind; an object for each network.

    of_teacher: whether the teacher's is taken too, or the student's alone, as of what only its losses know.
    """

    of_teacher: ClassVar[bool] = True

    def attach(self, detector: Any) -> None:
        """Puts the hooks into an mmdet detector."""
        raise NotImplementedError

    def take(self) -> T:
        """What the latest forward pass left, in float32; forgets it."""
        raise NotImplementedError

    def forget(self) -> None:
        """Lets go of what a forward pass left that nobody takes."""
        raise NotImplementedError

    @staticmethod
    def split(taken: Any, sizes: Sequence[int]) -> list[Any]:
        """What was taken as the first `sizes[0]` images, the next `sizes[1]`, ... have it; of maps per level as it is here."""
        return split_levels(taken, sizes)


class Backbone(Capture[tuple[Tensor, ...]]):
    """The outputs of the backbone's stages, C2..C5, each (N, C_i, H_i, W_i)."""

    def __init__(self) -> None:
        self.maps: tuple[Tensor, ...] = ()

    def attach(self, detector: Any) -> None:
        detector.backbone.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: Any, output: tuple[Tensor, ...]) -> None:
        self.maps = output

    def take(self) -> tuple[Tensor, ...]:
        maps, self.maps = self.maps, ()
        return in_float(maps)

    def forget(self) -> None:
        self.maps = ()


class Assignment(Capture[Targets]):
    """What the head's own label assignment gives to its loss: nothing is assigned again."""

    of_teacher = False

    def __init__(self) -> None:
        self.images = 0
        self.targets: Targets | None = None

    def attach(self, detector: Any) -> None:
        """Wraps `get_targets` on this instance of the dense head."""
        head = dense_head(detector)
        assign = head.get_targets

        def kept(*args: Any, **kwargs: Any) -> Any:
            result = assign(*args, **kwargs)
            self.targets = assignment(result, self.images)  # at once: FSAF's loss takes the result apart
            return result

        head.get_targets = kept
        detector.neck.register_forward_hook(self._count)

    def _count(self, module: nn.Module, inputs: Any, output: tuple[Tensor, ...]) -> None:
        self.images = len(output[0])

    def take(self) -> Targets:
        assert self.targets is not None, "the detector's loss has not run"
        targets, self.targets = self.targets, None
        return targets

    def forget(self) -> None:
        self.targets = None

    @staticmethod
    def split(taken: Targets, sizes: Sequence[int]) -> list[Targets]:
        return taken.split(sizes)


class RoIs(Capture[RoIOutputs]):
    """What a two-stage student's RoI head (of a cascade: its first stage) does in its loss.

    It listens to the RoI extractor and wraps `loss` of the box head on this instance, which mmdet calls once per stage with predictions,
    proposals and targets.
    """

    of_teacher = False

    def __init__(self) -> None:
        self.pooled: Tensor | None = None
        self.outputs: RoIOutputs | None = None

    def attach(self, detector: Any) -> None:
        extractor, head = first_stage(detector)
        extractor.register_forward_hook(self._keep_pooled)
        loss = head.loss

        def kept(cls_score: Tensor, bbox_pred: Tensor | None, rois: Tensor, *targets: Any, **settings: Any) -> Any:
            assert self.pooled is not None
            labels, _, bbox_targets, bbox_weights = targets[:4]
            deltas = None if bbox_pred is None else bbox_pred.float()
            self.outputs = RoIOutputs(rois, labels, bbox_targets, bbox_weights, cls_score.float(), deltas, self.pooled.float())
            return loss(cls_score, bbox_pred, rois, *targets, **settings)

        head.loss = kept

    def _keep_pooled(self, module: Any, inputs: Any, output: Tensor) -> None:
        self.pooled = output

    def take(self) -> RoIOutputs:
        assert self.outputs is not None, "the detector's loss has not run"
        outputs = self.outputs
        self.forget()
        return outputs

    def forget(self) -> None:
        self.pooled = self.outputs = None

    @staticmethod
    def split(taken: RoIOutputs, sizes: Sequence[int]) -> list[RoIOutputs]:
        return taken.split(sizes, rois_of(taken.rois, sizes))


class Recorder:
    """Keeps the outputs of the latest forward pass of one detector. Call `take` once per step."""

    def __init__(self, detector: Any, kinds: frozenset[type[Capture[Any]]] = frozenset()) -> None:
        self.head = dense_head(detector)
        self.neck: tuple[Tensor, ...] = ()  # as they left the neck: what the losses depend on
        self.outputs: Any = None
        self.detector = detector
        self.captures: dict[type[Capture[Any]], Capture[Any]] = {}
        detector.neck.register_forward_hook(self._keep_neck)
        self.head.register_forward_hook(self._keep_head)
        self.watch(kinds)

    def watch(self, kinds: Iterable[type[Capture[Any]]]) -> None:
        """Takes these captures too."""
        for kind in kinds:
            if kind not in self.captures:
                self.captures[kind] = kind()
                self.captures[kind].attach(self.detector)

    def _keep_neck(self, module: nn.Module, inputs: Any, output: tuple[Tensor, ...]) -> None:
        self.neck = output

    def _keep_head(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self.outputs = output

    def take(self) -> Outputs:
        """The outputs since the last call, in float32; forgets them."""
        captured = {kind: capture.take() for kind, capture in self.captures.items()}
        taken = Outputs(neck=in_float(self.neck), captured=captured)
        if self.outputs is not None and hasattr(self.head, "prior_generator"):
            for name, maps in head_outputs(self.head, self.outputs).items():
                setattr(taken, name, maps if maps is None else in_float(maps))
        self.neck, self.outputs = (), None
        return taken

    def forget(self) -> None:
        """Lets go of everything, after a pass that was no step."""
        self.neck, self.outputs = (), None
        for capture in self.captures.values():
            capture.forget()


def in_float(maps: Iterable[Tensor]) -> tuple[Tensor, ...]:
    """Maps in float32."""
    return tuple(m.float() for m in maps)


def dense_head(detector: Any) -> Any:
    """The dense head of an mmdet detector; of two stages the RPN's."""
    return detector.rpn_head if hasattr(detector, "rpn_head") else detector.bbox_head


def first_stage(detector: Any) -> tuple[Any, Any]:
    """RoI extractor and box head of an mmdet two-stage detector; of a cascade those of its first stage."""
    head = detector.roi_head
    cascade = hasattr(head, "num_stages")
    return (head.bbox_roi_extractor[0], head.bbox_head[0]) if cascade else (head.bbox_roi_extractor, head.bbox_head)


@torch.no_grad()
def on_same_rois(teacher: Any, levels: tuple[Tensor, ...], student: RoIOutputs) -> RoIOutputs:
    """The teacher's RoI head on the student's proposals, pooled from the teacher's pyramid `levels`, in float32."""
    extractor, head = first_stage(teacher)
    features = extractor(levels[: extractor.num_inputs], student.rois)
    logits, deltas = head(features)
    return RoIOutputs(
        rois=student.rois,
        labels=student.labels,
        bbox_targets=student.bbox_targets,
        bbox_weights=student.bbox_weights,
        logits=logits.float(),
        deltas=None if deltas is None else deltas.float(),
        features=features.float(),
    )
