"""What a table becomes: one file at three scales, rows as printed, and refusals that name the rows and networks of the file."""

from typing import Any

import pytest

from studies.problems import SpecError
from studies.submission import Submission, read_submission

TABLE: dict[str, Any] = {
    "title": "Comparison with other methods",
    "dataset": "coco",
    "resources": {"cpus": 8, "gpus": 8},
    "networks": {
        "faster": {"detector": "faster_rcnn", "backbone": "resnet50", "recipe": "2x"},
        "retina": {"detector": "retinanet", "backbone": "resnet50", "recipe": "2x"},
    },
    "teachers": {
        "two_stage": {"detector": "faster_rcnn", "backbone": "resnet101", "weights": "zoo/faster-rcnn_r101_fpn_2x_coco", "recipe": "2x"},
        "one_stage": {"detector": "retinanet", "backbone": "resnet101", "recipe": "1x"},
    },
    "columns": ["AP", {"metric": "APs", "title": "AP_S"}, "Params"],
    "tolerance": {"APs": 0.5},
    "groups": [
        {
            "title": "Faster RCNN",
            "student": "faster",
            "teacher": "two_stage",
            "rows": {
                "base": {"title": "Faster RCNN", "published": [38.4, 21.5, 43.57], "line": 160},
                "frs": {
                    "title": "ours",
                    "distiller": "frs",
                    "published": [39.7, {"value": 22.0, "tolerance": None, "remark": "read from a plot"}, None],
                    "confidence": "inferred-teacher",
                },
                "gain": {"of": "frs", "minus": "base", "published": {"AP": 1.3}},
            },
        },
        {
            "title": "RetinaNet",
            "student": "retina",
            "teacher": "one_stage",
            "rows": {
                "teacher": {"teacher": "one_stage", "title": "RetinaNet R101"},
                "retina": {"published": [37.4, 20.0, 37.74]},
                "again": {"same_as": "retina", "title": "RetinaNet again"},
                "fbkd": {"distiller": "fbkd", "published": [39.6, 22.7, 37.74], "baseline": "again"},
            },
        },
    ],
}

VGG = {"detector": "retinanet", "backbone": "vgg16"}


def submission(**changes: Any) -> Submission:
    return read_submission(TABLE | changes)


def problems(**changes: Any) -> dict[str, str]:
    with pytest.raises(SpecError) as refused:
        submission(**changes)
    return {problem.field: problem.message for problem in refused.value.problems}


def test_what_a_paper_states_holds_at_its_own_scale_alone() -> None:
    paper, nano, smoke = (submission(scale=scale) for scale in ("paper", "nano", "smoke"))
    assert (paper.spec.dataset, paper.spec.resources.gpus, paper.spec.seeds) == ("coco", 8, [0])
    assert (nano.spec.dataset, nano.spec.resources.gpus, nano.spec.seeds) == ("digits", 0, [0, 1, 2])
    assert (smoke.spec.dataset, smoke.spec.seeds) == ("digits", [0])
    recipes = [{trial.schedule.recipe for trial in each.expansion.trials} for each in (paper, nano, smoke)]
    assert recipes == [{"2x", "1x"}, {"nano", "nano-two-stage", "nano-teacher"}, {"smoke"}]
    weights = [{trial.weights for trial in each.expansion.trials if trial.role == "teacher"} for each in (paper, nano)]
    assert weights == [{"zoo/faster-rcnn_r101_fpn_2x_coco", None}, {None}]
    assert [len(each.expansion.trials) for each in (paper, nano, smoke)] == [6, 2 + 4 * 3, 6]


def test_rows_stand_as_they_are_printed() -> None:
    shown = submission(scale="paper").presentation
    assert [(row.id, row.group, row.role, row.baseline) for row in shown.rows if not row.hidden] == [
        ("base", "Faster RCNN", "baseline", None),
        ("frs", "Faster RCNN", "distilled", "base"),
        ("gain", "Faster RCNN", "difference", None),
        ("teacher", "RetinaNet", "teacher", None),
        ("retina", "RetinaNet", "baseline", None),
        ("again", "RetinaNet", "baseline", None),
        ("fbkd", "RetinaNet", "distilled", "again"),
    ]
    rows = {row.id: row for row in shown.rows}
    assert rows["again"].trials == rows["retina"].trials == ("retina/seed-0",)
    assert rows["teacher"].trials == ("teacher/retinanet-resnet101/seed-0",)
    assert [row.trials for row in shown.rows if row.hidden] == [("teacher/faster_rcnn-resnet101/seed-0",)]
    columns = [(column.metric, column.title, column.decimals) for column in shown.columns]
    assert columns == [("AP", "AP", 1), ("APs", "AP_S", 1), ("Params", "Params", 2)]


def test_every_published_number_has_its_tolerance_and_what_is_to_be_said_of_it() -> None:
    rows = {row.id: row for row in submission(scale="paper").presentation.rows}
    assert {name: (cell.value, cell.tolerance) for name, cell in rows["base"].published.items()} == {
        "AP": (38.4, 0.2),
        "APs": (21.5, 0.5),
        "Params": (43.57, 0.02),
    }
    assert rows["frs"].published["APs"].tolerance is None
    assert rows["frs"].published["APs"].remark == "read from a plot"
    assert (rows["base"].line, rows["frs"].confidence) == ("160", "inferred-teacher")
    assert rows["gain"].published["AP"].value == 1.3


def test_numbers_of_another_scale_are_told_not_to_be_comparable() -> None:
    assert submission(scale="paper").presentation.comparable is None
    assert submission(scale="nano").presentation.comparable == (
        "the published numbers are of coco at paper scale, these of digits at scale nano"
    )


def test_a_table_of_ones_own_says_what_a_scale_changes() -> None:
    own = submission(scale="nano", scales={"nano": {"seeds": [7], "schedule": {"epochs": 2}}})
    assert own.spec.seeds == [7]
    assert {trial.schedule.epochs for trial in own.expansion.trials} == {2}


def changed(group: int, row: str, **change: Any) -> dict[str, Any]:
    groups = [dict(each) for each in TABLE["groups"]]
    groups[group]["rows"] = {**groups[group]["rows"], row: change}
    return {"groups": groups}


@pytest.mark.parametrize(
    ("changes", "field", "told"),
    [
        (changed(0, "frs", distiller="frs", options={"alpah": 1}), "groups.0.rows.frs.options.alpah", "did you mean 'alpha'"),
        (changed(0, "frs", distiller="frs", student="fastr"), "groups.0.rows.frs.student", "did you mean 'faster'"),
        (changed(0, "frs", distiller="frs", teacher="oned_stage"), "groups.0.rows.frs.teacher", "did you mean 'one_stage'"),
        (changed(0, "gain", of="fr", minus="base"), "groups.0.rows.gain.of", "did you mean 'frs'"),
        (changed(0, "gain", of="frs"), "groups.0.rows.gain", "both `of` and `minus`"),
        (changed(1, "again", same_as="retin"), "groups.1.rows.again.same_as", "did you mean 'retina'"),
        (changed(1, "again", same_as="nobody2021/table-9/row"), "groups.1.rows.again.same_as", "no shipped table"),
        (changed(0, "base", published=[1.0]), "groups.0.rows.base.published", "1 numbers for 3 columns"),
        (changed(0, "base", published={"AP75": 1.0}), "groups.0.rows.base.published.AP75", "no column"),
        (changed(1, "fbkd", distiller="fbkd", baseline="nobody"), "groups.1.rows.fbkd.baseline", "no row 'nobody'"),
        (changed(1, "fbkd", distiller="fbkd", baseline="fbkd"), "groups.1.rows.fbkd.baseline", "gains nothing over itself"),
        (changed(0, "twice", of="gain", minus="base"), "groups.0.rows.twice.of", "row 'gain' is a difference itself"),
        (changed(0, "base", published=[1.0, float("inf"), 2.0]), "groups.0.rows.base.published.1", "a finite number"),
        ({"columns": ["AP", "AP50", "AP"]}, "columns", "the same metric twice"),
        (changed(0, "more", teacher="one_stage", same_as="base"), "groups.0.rows.more", "no teacher of its own"),
        (
            {"networks": TABLE["networks"] | {"retina": VGG}},
            "networks.retina.backbone",
            "not offered",
        ),
        ({"columns": ["AP", "AP_S", "Params"]}, "columns.1", "did you mean 'APs'"),
        ({"paper": "nobody2021"}, "paper", "no paper 'nobody2021' ships"),
        ({"rows": {"a": {}}}, "", "either `groups`"),
        ({"clumns": []}, "clumns", "did you mean 'columns'"),
    ],
)
def test_a_refusal_names_the_place_in_the_table(changes: dict[str, Any], field: str, told: str) -> None:
    found = problems(**changes)
    assert list(found) == [field]
    assert told in found[field]


def test_a_teacher_that_teaches_nobody_is_refused() -> None:
    groups = [TABLE["groups"][0] | {"rows": {**TABLE["groups"][0]["rows"], "other": {"teacher": "one_stage"}}}]
    assert "teaches no row" in problems(groups=groups)["groups.0.rows.other.teacher"]


def test_in_a_table_without_groups_the_places_are_those_of_its_rows() -> None:
    first, second = (TABLE["groups"][number]["rows"] for number in (0, 1))
    flat = {key: value for key, value in TABLE.items() if key != "groups"} | {"student": "faster", "teacher": "two_stage"}
    for rows, field in (
        ({**first, "other": {"teacher": "one_stage"}}, "rows.other.teacher"),
        ({**first, "again": {"same_as": "gain"}}, "rows.again.same_as"),
        ({"retina": second["retina"], "gain": {"of": "retina", "minus": "no"}}, "rows.gain.minus"),
    ):
        with pytest.raises(SpecError) as refused:
            read_submission(flat | {"rows": rows})
        assert [problem.field for problem in refused.value.problems] == [field]


def test_students_of_ld_see_as_many_images_at_a_time_as_in_their_released_configs() -> None:
    made = {scale: read_submission({"table": "ld2022/table-2", "scale": scale}) for scale in ("paper", "nano")}
    for each in made.values():
        seen = {trial.row: use.per_device_images for trial in each.expansion.trials for use in trial.distillers}
        assert seen == {"r18_self_ld": 3, "r50_self_ld": 2, "x101dcn_self_ld": 2}
        assert sum("images a device has" in line for line in each.presentation.warnings) == 1  # of the others nothing is to be told
    told = "the loss of LD depends on how many images a device has: 3 where it was published, here"
    assert made["paper"].presentation.warnings[0] == f"ResNet-18, Self-LD: {told} 2"  # on eight devices
    assert made["nano"].presentation.warnings[0] == f"ResNet-18, Self-LD: {told} 2 or 3"
