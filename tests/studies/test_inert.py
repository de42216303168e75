"""Text from people on one line, without what steers a terminal."""

import pytest

from studies.inert import one_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("LD, T = 10", "LD, T = 10"),
        ("two\r\nlines\tand  more ", "two lines and more"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;a new title\x07after", "after"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b2Jcleared", "cleared"),
        ("\x1bcreset", "reset"),
        ("bell\x07 null\x00 delete\x7f", "bell null delete"),
        ("abc\u202egpj.exe", "abcgpj.exe"),
        ("Müller, λ, 字", "Müller, λ, 字"),
        ("\ud800", ""),
        ("", ""),
        (" ", ""),
    ],
)
def test_a_text_is_shown_and_never_acts(text: str, shown: str) -> None:
    assert one_line(text) == shown
