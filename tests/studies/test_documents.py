"""Text into plain data: what is read, what is refused, and where the error says it is."""

import pytest

from studies.documents import read_document
from studies.problems import SpecError
from studies.shipped import shipped_studies
from studies.submission import read_submission


def refusal(text: str, form: str = "yaml") -> str:
    with pytest.raises(SpecError) as error:
        read_document(text, form)  # type: ignore[arg-type]
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("a: 1\nb: [x, 2.5, true, null]", {"a": 1, "b": ["x", 2.5, True, None]}),
        ("day: 2026-11-21", {"day": "2026-11-21"}),
        ("", None),
    ],
)
def test_yaml_becomes_plain_data(text: str, data: object) -> None:
    assert read_document(text, "yaml") == data


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &x [1]\nb: *x", "anchors and aliases (& and *) are not read; write the value out at line 1, column 4"),
        ("a: !!python/name:os.system x", "the tag 'tag:yaml.org,2002:python/name:os.system' is not read"),
        ("a: !!bool xx", "the tag 'tag:yaml.org,2002:bool' is not read"),
        ("a: 1\na: 2", "the key 'a' is there twice at line 2, column 1"),
        ("1: x", "a key that is not text; quote it at line 1, column 1"),
        ("{? [1]: 2}", "a key that is not text"),
        ("a: [1", "at line 2, column 1"),
        ("[" * 30, "nested more than 20 levels deep"),
        ("[" + "1," * 60_000 + "]", "more than 50000 values"),
        ("a: \x00", "not readable YAML"),
        ("a: 0x_", "a number that cannot be read"),
        ("a: " + "9" * 5000, "a number that cannot be read"),
        ("a: .nan", "a: a finite number"),
        ("- x: 99999999999999999999", "0.x: an integer of at most 64 bits"),
        ("a: 1\n---\nb: 2", "another document"),
    ],
)
def test_yaml_that_no_study_needs_is_refused(text: str, said: str) -> None:
    assert said in refusal(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1,}', "not JSON: "),
        ('{"a": 1, "a": 2}', "a: the same key twice in one mapping"),
        ('{"a": [NaN]}', "a.0: a finite number"),
        ('{"a": 1e999}', "a: a finite number"),
        ('{"a": "\\u0000"}', "a: text with a NUL byte"),
        ('{"\\ud800": 1}', "?: a key with half a surrogate pair"),
        ('{"a": 9223372036854775808}', "a: an integer of at most 64 bits"),
        ("[" * 100_000, "nested more than 20 levels deep"),
        ('{"a":' * 25 + "1" + "}" * 25, "nested more than 20 levels deep"),
    ],
)
def test_json_that_could_not_be_stored_is_refused(text: str, said: str) -> None:
    assert said in refusal(text, "json")


def test_every_shipped_study_is_valid_and_says_what_it_shows() -> None:
    studies = shipped_studies()
    assert "digits" in studies
    for study in studies.values():
        assert read_submission(study.data).spec.name
        assert len(study.name + study.about) > 20
