"""DIST and GKD against their papers' formulas, written down here once more, cell by cell and in numpy's float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from studies.spec import MethodUse
from tests.workers.synthetic import ONE, TWO, Kind, make_step, network
from workers.distillation.captures import RoIs
from workers.distillation.step import Outputs, Step
from workers.distillation.student import build_distiller
from workers.distillers.dist import EPSILON

Array = NDArray[np.float64]


def double(outputs: Outputs) -> Outputs:
    """The same outputs in float64, without history but to learn from."""

    def leaves(maps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(level.detach().double().requires_grad_() for level in maps)

    captured = dict(outputs.captured)
    if RoIs in captured:
        captured[RoIs] = replace(captured[RoIs], logits=captured[RoIs].logits.detach().double().requires_grad_())
    return replace(outputs, neck=leaves(outputs.neck), logits=leaves(outputs.logits), captured=captured)


def step_of(kind: Kind) -> Step:
    """A step in float64; gradients of losses are made up."""
    step = make_step(kind, images=3)
    step = replace(step, student=double(step.student), teacher=double(step.teacher))
    torch.manual_seed(5)
    ours, theirs = (tuple(torch.randn_like(level) * 1e-3 for level in outputs.neck) for outputs in (step.student, step.teacher))
    return replace(step, gradients=lambda: ours, teacher_gradients=lambda: theirs)


def array(tensor: Tensor) -> Array:
    return tensor.detach().numpy().astype(np.float64)


def pearson(x: Array, y: Array) -> float:
    """Their covariance over the product of their deviations; the released code adds a little to the norms' product."""
    n = len(x)
    covariance = sum((x[i] - x.mean()) * (y[i] - y.mean()) for i in range(n)) / n
    return float(covariance / (x.std() * y.std() + EPSILON / n))


def relations(student: Array, teacher: Array) -> tuple[float, float]:
    """DIST's two losses of scores (B, K)."""
    boxes, classes = student.shape
    inter = 1 - sum(pearson(student[b], teacher[b]) for b in range(boxes)) / boxes
    intra = 1 - sum(pearson(student[:, c], teacher[:, c]) for c in range(classes)) / classes
    return inter, intra


def dense_scores(outputs: Outputs, classes: int, anchors: int, temperature: float) -> Array:
    """Sigmoids of all boxes, taken out of the level maps one by one."""
    found = []
    for level in map(array, outputs.logits):
        images, _, height, width = level.shape
        for n, y, x, a in np.ndindex(images, height, width, anchors):
            found.append([1 / (1 + np.exp(-level[n, a * classes + c, y, x] / temperature)) for c in range(classes)])
    return np.array(found)


def test_dist_of_a_dense_head() -> None:
    step, options = step_of(ONE), {"beta": 2.0, "gamma": 0.5, "temperature": 4.0}
    built = build_distiller(MethodUse(id="dist", options=options), network(ONE, teacher=False), network(ONE, teacher=True))
    losses = built(step)
    student, teacher = (dense_scores(outputs, ONE.classes, ONE.anchors, 4.0) for outputs in (step.student, step.teacher))
    inter, intra = relations(student, teacher)
    assert losses["loss_dist_inter"].item() == pytest.approx(2 * inter, rel=1e-9)
    assert losses["loss_dist_intra"].item() == pytest.approx(intra / 2, rel=1e-9)
    assert built.reads_head


def test_dist_of_a_roi_head() -> None:
    step = step_of(TWO)
    built = build_distiller(MethodUse(id="dist"), network(TWO, teacher=False), network(TWO, teacher=True))
    losses = built(step)

    def scores(outputs: Outputs) -> Array:
        powers = np.exp(array(outputs.of(RoIs).logits))
        return np.array([row / row.sum() for row in powers])

    inter, intra = relations(scores(step.student), scores(step.teacher))
    assert losses["loss_dist_inter"].item() == pytest.approx(inter, rel=1e-9)
    assert losses["loss_dist_intra"].item() == pytest.approx(intra, rel=1e-9)
    assert not built.reads_head


def test_dist_asks_for_correlation_alone() -> None:
    """Scores that are the teacher's stretched and moved are as good as the teacher's own, box by box and class by class."""
    step = step_of(ONE)
    moved = tuple((0.3 * level.sigmoid() + 0.2).logit() for level in step.teacher.logits)
    built = build_distiller(MethodUse(id="dist"), network(ONE, teacher=False), network(ONE, teacher=True))
    losses = built(replace(step, student=replace(step.student, logits=moved)))
    assert [value.item() for value in losses.values()] == pytest.approx([0, 0], abs=1e-5)  # but for what is added to the norms


def importance(features: Array, gradients: Array) -> Array:
    """GKD's map of one image (C, H, W)."""
    channels, height, width = features.shape
    weights = [gradients[c].sum() / (height * width) for c in range(channels)]
    raw = np.zeros((height, width))
    for y, x in np.ndindex(height, width):
        raw[y, x] = max(0.0, sum(weights[c] * features[c, y, x] for c in range(channels)))
    return (raw - raw.min()) / (raw.max() - raw.min()) if raw.max() > raw.min() else np.zeros_like(raw)


@pytest.mark.parametrize(("kind", "weight"), [(ONE, 0.5), (TWO, 0.01)])
def test_gkd(kind: Kind, weight: float) -> None:
    step = step_of(kind)
    built = build_distiller(MethodUse(id="gkd"), network(kind, teacher=False), network(kind, teacher=True))
    found = built(step)["loss_gkd"]
    expected = 0.0
    for ours, theirs, g, h in zip(step.student.neck, step.teacher.neck, step.gradients(), step.teacher_gradients(), strict=True):
        maps = [[importance(*pair) for pair in zip(array(f), array(d), strict=True)] for f, d in ((ours, g), (theirs, h))]
        expected += float(np.mean([np.abs(t - s).mean() for s, t in zip(*maps, strict=True)]))
    assert found.item() == pytest.approx(weight * expected, rel=1e-9)


def test_gkds_gradient_is_that_of_its_formula() -> None:
    """By central differences: the channels' weights are constants."""
    step = step_of(ONE)
    built = build_distiller(MethodUse(id="gkd"), network(ONE, teacher=False), network(ONE, teacher=True))
    level = step.student.neck[1]
    built(step)["loss_gkd"].backward()
    assert level.grad is not None
    for place in [(0, 2, 1, 1), (1, 0, 3, 2), (2, 5, 0, 0), (2, 3, 2, 3)]:
        with torch.no_grad():
            values = []
            for change in (1e-6, -2e-6):
                level[place] += change
                values.append(built(step)["loss_gkd"].item())
            level[place] += 1e-6
        assert level.grad[place].item() == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-4, abs=1e-9)


def test_a_map_does_not_depend_on_the_scale_of_losses() -> None:
    step = step_of(ONE)
    built = build_distiller(MethodUse(id="gkd"), network(ONE, teacher=False), network(ONE, teacher=True))
    larger = replace(step, gradients=lambda: tuple(1000 * level for level in step.gradients()))
    assert built(larger)["loss_gkd"].item() == pytest.approx(built(step)["loss_gkd"].item(), rel=1e-9)
