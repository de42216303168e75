"""A study as it is being written: every problem has the line of its field, and what may be typed follows from the spec."""

import pytest

from api.pages.completion import complete, place_of
from api.pages.editing import check, placed
from studies.problems import Problem

STUDY = """\
name: a try
dataset: digits
teacher: {detector: gfl, backbone: resnet34}
student: {detector: gfl, backbone: resnet18}
arms:
  - {id: student}
  - id: ld
    distiller: ld
    options:
      temperature: 10
"""


def lines(text: str) -> list[tuple[int, str]]:
    return [(problem.line, problem.field) for problem in check(text)[1]]


def test_a_valid_study_has_no_problem() -> None:
    submission, problems = check(STUDY)
    assert submission is not None
    assert problems == []


def test_nothing_written_is_no_mistake() -> None:
    assert check("  \n") == (None, [])


def test_a_problem_is_on_the_line_of_its_field() -> None:
    assert lines(STUDY.replace("temperature: 10", "temperature: -1")) == [(10, "arms.1.options.temperature")]
    assert lines(STUDY.replace("dataset: digits", "dataset: digit")) == [(2, "dataset")]
    assert lines(STUDY.replace("backbone: resnet18", "backbone: resnet17")) == [(4, "student.backbone")]


def test_several_problems_come_in_the_order_of_their_lines() -> None:
    assert [line for line, _ in lines(STUDY.replace("digits", "digit").replace("distiller: ld", "distiller: lb"))] == [2, 8]


def test_text_that_is_no_yaml_has_the_line_where_it_breaks() -> None:
    [(line, field)] = lines(STUDY.replace("  - {id: student}", "  - {id: student"))
    assert (line, field) == (7, "")


def test_a_field_that_is_not_in_the_text_has_the_line_of_what_is_around_it() -> None:
    assert lines(STUDY.replace("    distiller: ld\n", "")) == [(8, "arms.1.options")]
    assert lines("name: a try\ndataset: digits\nscale: nano\n")[0][0] == 1


def test_keys_with_dots_are_found() -> None:
    [found] = placed(
        "search:\n  space:\n    options.temperature: {choice: [1]}\n", [Problem("search.space.options.temperature.choice", "x")]
    )
    assert found.line == 3


def offered(text: str) -> list[str]:
    """What is offered at the mark in a text."""
    before = text[: text.index("|")]
    return [option.text for option in complete(text.replace("|", ""), before.count("\n"), len(before) - before.rfind("\n") - 1)[1]]


@pytest.mark.parametrize(
    ("text", "some"),
    [
        ("|", {"name", "dataset", "arms", "seeds", "table"}),
        ("dat|", {"dataset"}),
        ("dataset: |", {"digits", "coco"}),
        ("student:\n  |", {"detector", "backbone", "form"}),
        ("student:\n  backbone: resnet1|", {"resnet18", "resnet101"}),
        ("student: {detector: gfl, |", {"backbone"}),
        ("student: {detector: gf|", {"gfl"}),
        ("arms:\n  - {id: ld, dist|", {"distiller"}),
        ("arms:\n  - id: ld\n    distiller: |", {"ld", "fitnet"}),
        ("arms:\n- id: ld\n  |", {"distiller", "options"}),
        ("arms:\n  - id: a\n    distiller: ld\n    options:\n      temp|", {"temperature"}),
        ("arms:\n  - {id: a, distiller: ld, options: {temp|", {"temperature"}),
        ("arms:\n  - {id: a, distiller: ld, options: {variant: |", {"code", "paper"}),
        ("metrics: [AP, |", {"AP50", "APs"}),
        ("metrics:\n  - |", {"AP50", "APs"}),
        ("force: |", {"true", "false"}),
        ("table: zhang2021/ta|", {"zhang2021/table-3"}),
        ("table: zhang2021/table-3\nsc|", {"scale"}),
        ("columns: [AP]\nrows:\n  a: {|", {"distiller", "published", "same_as"}),
        ("columns: [AP]\nteachers:\n  big:\n    |", {"detector", "weights"}),
        ("schedule:\n  ep|", {"epochs"}),
    ],
)
def test_what_may_stand_at_a_place_is_offered(text: str, some: set[str]) -> None:
    assert some <= set(offered(text))


def test_nothing_is_offered_where_anything_may_stand() -> None:
    assert offered("name: |") == []
    assert offered("arms:\n  - {id: |") == []
    assert complete("name: x", 7, 3) == (3, [])


def test_what_is_typed_is_replaced_from_where_it_begins() -> None:
    assert place_of(["student:", "  backbone: res"], 1, 15).start == 12
