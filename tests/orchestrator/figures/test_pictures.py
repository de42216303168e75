"""Pictures show the numbers that they are given: drawn, whatever the titles hold and however many arms there are, as SVG and PNG."""

import io
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from orchestrator.figures import (
    attention,
    boxes,
    components,
    detections,
    error_types,
    forest,
    learning_curves,
    sampling,
    sensitivity,
    teachers,
)
from orchestrator.figures.style import look, rendered, wrapped

ODD = "costs $\\frac{ or 5$ & <b> über_alles^2, a title that goes on and on " * 3
RNG = np.random.default_rng(0)


def saved(figure: Figure, tmp_path: Path, name: str) -> tuple[int, int]:
    """Both files, whole; the size of the PNG."""
    svg, png = rendered(figure, "svg"), rendered(figure, "png")
    (tmp_path / f"{name}.svg").write_bytes(svg)
    (tmp_path / f"{name}.png").write_bytes(png)
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    picture = Image.open(io.BytesIO(png))
    assert len(np.unique(np.asarray(picture.convert("L")))) > 10  # there is something on it
    return picture.size


def curve(title: str, level: float, seeds: int = 3) -> learning_curves.Curve:
    return learning_curves.Curve(title, {seed: {epoch: level + epoch + seed for epoch in range(1, 13)} for seed in range(seeds)})


def test_learning_curves_are_means_in_bands_over_the_seeds(tmp_path: Path) -> None:
    figure = learning_curves.draw([curve("student", 10.0), curve(ODD, 12.0)], "AP")
    first, second = figure.axes[0].lines
    assert list(first.get_ydata()) == [10.0 + epoch + 1 for epoch in range(1, 13)]  # the middle of three seeds
    assert list(second.get_ydata())[-1] == 25.0
    assert learning_curves.bands(curve("student", 10.0))[0] == (1, 11.0, 12.0, 13.0)
    saved(figure, tmp_path, "learning-curves")


def test_an_epoch_that_a_seed_lacks_is_left_out() -> None:
    assert [epoch for epoch, *_ in learning_curves.bands(learning_curves.Curve("a", {0: {1: 1.0, 2: 2.0}, 1: {1: 3.0}, 2: {}}))] == [1]


def test_forty_arms_have_lines_that_differ_and_a_legend_beside_them(tmp_path: Path) -> None:
    figure = learning_curves.draw([curve(f"arm {number}", number / 2, seeds=1) for number in range(40)], "AP")
    assert len({str(look(number)) for number in range(28)}) == 28
    assert len(figure.axes[0].lines) == 40
    saved(figure, tmp_path, "many-arms")


def test_a_forest_has_measured_gains_with_intervals_and_published_ones_hollow(tmp_path: Path) -> None:
    gains = [
        forest.Gain("FitNet", 0.4, 0.6, 0.3, "3 seeds"),
        forest.Gain(ODD, 2.1, 0.4, 2.9, "3 seeds"),
        forest.Gain("one seed", -0.5, None, None, "1 seed"),
        forest.Gain("not run yet", None, None, 1.8),
        forest.Gain("nothing at all", None),
    ]
    figure = forest.draw(gains, "AP")
    axis = figure.axes[0]
    hollow = [line for line in axis.lines if line.get_marker() == "D" and len(line.get_xdata())]
    assert [float(line.get_xdata()[0]) for line in hollow] == [0.3, 2.9, 1.8]
    assert {line.get_markerfacecolor() for line in hollow} == {"none"}
    assert len(axis.get_yticklabels()) == 4
    assert axis.containers[0].lines[0].get_xdata()[0] == 0.4
    saved(figure, tmp_path, "gains")


def test_sensitivity_has_a_panel_a_factor_on_one_scale_with_the_baseline(tmp_path: Path) -> None:
    point = sensitivity.Point
    factors = [
        sensitivity.Factor("at_weight", [point(weight, 41.0 + n / 10, 0.2) for n, weight in enumerate((7e-5, 1.75e-5, 2.8e-4))]),
        sensitivity.Factor("temperature", [point(t, 41.5 - t) for t in (0.05, 0.1, 0.2, 0.5, 1.0)]),
        sensitivity.Factor("variant", [point("code", 41.2), point("paper", 40.9), point(True, 41.0)]),
    ]
    figure = sensitivity.draw(factors, "AP", baseline=38.4)
    scales = [axis.get_xscale() for axis in figure.axes]
    assert scales == ["log", "log", "linear"]
    assert len({axis.get_ylim() for axis in figure.axes}) == 1
    assert figure.axes[0].get_ylim()[0] < 38.4
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["1.75e-05", "7e-05", "0.00028"]
    saved(figure, tmp_path, "sensitivity")


def test_students_by_their_teachers_have_a_least_squares_line(tmp_path: Path) -> None:
    pairs = [teachers.Pair("Faster R-CNN, FBKD", f"teacher {n}", 36.0 + n, 38.0 + 0.5 * n + (-1) ** n * 0.1) for n in range(6)]
    pairs += [teachers.Pair(ODD, "another", 40.0, 39.0), teachers.Pair(ODD, "and another", 44.0, 41.0)]
    figure = teachers.draw(pairs, "AP", {"Faster R-CNN, FBKD": 38.4})
    x, y = (np.array([getattr(pair, name) for pair in pairs[:6]]) for name in ("teacher_ap", "student_ap"))
    slope, intercept, r = teachers.regression(x, y) or (0.0, 0.0, 0.0)
    np.testing.assert_allclose([slope, intercept], np.linalg.lstsq(np.c_[x, np.ones(6)], y, rcond=None)[0])
    assert r == pytest.approx(np.corrcoef(x, y)[0, 1])
    told = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert f"r = {r:+.2f}" in told[0].replace("\n", " ")
    assert "r =" not in told[1]  # two points are no line
    saved(figure, tmp_path, "teachers")


def test_components_stack_to_the_whole(tmp_path: Path) -> None:
    whole = {
        "Params_backbone": 23.5,
        "Params_neck": 8.0,
        "Params_head": 6.0,
        "FLOPs_backbone": 80.0,
        "FLOPs_neck": 45.0,
        "FLOPs_head": 100.0,
    }
    figure = components.draw([components.Cost("RetinaNet ResNet-50", whole), components.Cost(ODD, {k: v / 3 for k, v in whole.items()})])
    widths = [bar.get_width() for container in figure.axes[0].containers for bar in container][::2]
    assert widths == [23.5, 8.0, 6.0]
    assert [text.get_text() for text in figure.axes[1].texts] == ["225", "75"]
    saved(figure, tmp_path, "components")


def test_errors_have_a_row_of_areas_for_each_arm_and_stop_at_24_panels(tmp_path: Path) -> None:
    steps = dict(zip(error_types.LABELS, np.linspace(0.1, 1.0, 7), strict=True))
    curves = {name: [float(level)] * 101 for name, level in steps.items()}
    figure = error_types.draw([(ODD, dict.fromkeys(("all", "small", "medium", "large"), curves))] * 2, areas=4)
    assert len(figure.axes) == 8
    told = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert told[0] == "IoU 0.75: 10.0"
    assert told[-1] == "missed too: 100.0"
    width, height = saved(figure, tmp_path, "errors")
    assert width > 1.8 * height
    many = error_types.draw([(f"arm {n}", {"all": curves}) for n in range(200)])
    assert len(many.axes) == 24
    assert many.get_suptitle() == "the first 24 of 200"


def picture(height: int = 60, width: int = 80) -> Any:
    return RNG.random((height, width, 3))


def test_attention_shows_each_temperature_and_how_the_weights_are_spread(tmp_path: Path) -> None:
    scores = RNG.random((6, 8))

    def mask(t: float) -> Any:
        exponent = np.exp(scores / t)
        return exponent / exponent.mean()

    rows = [attention.Attended(title, picture(), {t: mask(t) for t in (0.05, 0.1, 1.0)}) for title in ("teacher", ODD)]
    figure = attention.draw(rows)
    assert [axis.get_title() for axis in figure.axes[:5]] == ["image", "T = 0.05", "T = 0.1", "T = 1", "weight of a cell, mean 1"]
    assert figure.axes[4].lines[0].get_ydata()[0] == pytest.approx(mask(0.05).max())
    saved(figure, tmp_path, "attention")


def test_sampling_weights_of_all_levels_add_up_to_one_over_the_pixels(tmp_path: Path) -> None:
    levels = [RNG.random((8, 10)), RNG.random((4, 5)), RNG.random((1, 1))]
    total = sum(level.sum() for level in levels)
    levels = [level / total for level in levels]
    assert sampling.density(levels, (64, 80)).sum() == pytest.approx(1)
    panel = sampling.Sampled("PDF-Distil", picture(), [[5, 5, 40, 30]], levels, (64, 80))
    figure = sampling.draw([[panel, sampling.Sampled(ODD, picture(), [], levels, (64, 80))]] * 2)
    assert len(figure.axes) == 6
    saved(figure, tmp_path, "sampling")


def test_boxes_are_right_where_they_lie_on_an_object_of_their_class(tmp_path: Path) -> None:
    objects = [{"box": [10, 10, 40, 40], "label": 0}, {"box": [45, 20, 75, 50], "label": 1}]
    near, far = {"box": [12, 11, 41, 42], "label": 0, "score": 0.9}, {"box": [46, 20, 75, 50], "label": 0, "score": 0.5}
    assert boxes.is_right(near, objects)
    assert not boxes.is_right(far, objects)
    assert boxes.overlap([0, 0, 10, 10], [5, 0, 15, 10]) == pytest.approx(1 / 3)
    assert boxes.overlap([0, 0, 1, 1], [2, 2, 3, 3]) == 0
    figure = detections.draw([detections.Seen(picture(), objects, [("teacher", [near]), (ODD, [near, far])])], ["cat $5$", "dog"])
    assert figure.axes[2].get_title().endswith("1 right, 1 false")
    assert len(figure.axes[2].patches) == 2
    saved(figure, tmp_path, "detections")


def test_nothing_to_show_says_so(tmp_path: Path) -> None:
    for figure in (
        learning_curves.draw([], "AP"),
        forest.draw([], "AP"),
        sensitivity.draw([], "AP"),
        teachers.draw([], "AP"),
        components.draw([]),
        error_types.draw([]),
        attention.draw([]),
        sampling.draw([]),
        detections.draw([], []),
    ):
        assert len(figure.texts) == 1
        saved(figure, tmp_path, "nothing")


def test_equal_pictures_are_equal_files() -> None:
    draw = learning_curves.draw
    for format in ("svg", "png"):
        assert rendered(draw([curve("a", 1.0)], "AP"), format) == rendered(draw([curve("a", 1.0)], "AP"), format)  # type: ignore[arg-type]


def test_a_title_is_broken_into_three_lines_at_most() -> None:
    lines = wrapped(ODD, 30).split("\n")
    assert len(lines) == 3
    assert max(map(len, lines)) <= 30
    assert lines[-1].endswith("…")
    assert wrapped("short") == "short"
