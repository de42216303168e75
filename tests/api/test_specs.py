"""A study named on the command line: file or id, with values set on top."""

from pathlib import Path

import pytest

from api.command.specs import study_data
from studies.problems import SpecError
from studies.submission import read_submission


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "study.yaml"
    path.write_text("name: x\narms:\n  - {id: a}\n  - {id: ld, options: {temperature: 5}}\n")
    return str(path)


def test_a_file_and_a_shipped_id_are_read(file: str) -> None:
    assert study_data(file)["name"] == "x"
    assert study_data("digits")["dataset"] == "digits"


@pytest.mark.parametrize(
    ("setting", "path", "value"),
    [
        ("name=y", ["name"], "y"),
        ("seeds=[0, 1]", ["seeds"], [0, 1]),
        ("schedule.epochs=2", ["schedule", "epochs"], 2),
        ("arms.ld.options.temperature=1.5", ["arms", 1, "options", "temperature"], 1.5),
        ("arms.0.title=plain", ["arms", 0, "title"], "plain"),
        ("force=true", ["force"], True),
        ("name=a=b", ["name"], "a=b"),
    ],
)
def test_a_value_is_set_where_its_path_leads(file: str, setting: str, path: list[str | int], value: object) -> None:
    data = study_data(file, settings=[setting])
    for part in path:
        data = data[part]
    assert data == value


def test_the_scale_is_set_last(file: str) -> None:
    assert study_data(file, "smoke", ["scale=paper"])["scale"] == "smoke"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("epochs", "is not of the form path=value"),
        ("arms.fitnet.weight=2", "no entry 'fitnet'; there are a, ld"),
        ("arms.7.weight=2", "no entry '7'"),
        ("name.first=2", "there is no 'first' inside 'x'"),
        ("seeds=[0", "not readable YAML"),
    ],
)
def test_a_setting_that_leads_nowhere_is_refused(file: str, setting: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        study_data(file, settings=[setting])


def test_an_unknown_study_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="neither a file nor a shipped study; did you mean 'digits'"):
        study_data("digit")
    (tmp_path / "x.yaml").write_bytes(b"\xff")
    with pytest.raises(SpecError, match=r"cannot read .*: not UTF-8 text"):
        study_data(str(tmp_path / "x.yaml"))


@pytest.mark.parametrize(
    "settings", [["resources.group=auto"], ["resources.group=auto", "scale=smoke"], ["resources={cpus: 1, group: auto}"]]
)
def test_resources_that_are_set_for_a_table_are_those_of_the_scale_it_is_asked_at(settings: list[str]) -> None:
    assert read_submission(study_data("zhang2021/table-4", settings=settings)).spec.resources.group == "auto"


def test_resources_beside_a_tables_name_are_those_of_the_scale_asked_for() -> None:
    for scale in ({}, {"scale": "smoke"}):
        spec = read_submission({"table": "zhang2021/table-4", "resources": {"group": "auto"}} | scale).spec
        assert (spec.resources.group, spec.resources.gpus) == ("auto", 0)
    spec = read_submission({"table": "zhang2021/table-4", "resources": {"gpus": 2}, "scale": "paper"}).spec
    assert spec.resources.gpus == 2
    paper = read_submission(study_data("zhang2021/table-4", "paper", ["resources={gpus: 2}"]))
    assert paper.spec.resources.gpus == 2
